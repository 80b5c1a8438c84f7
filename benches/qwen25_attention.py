"""Attention and softmax of Qwen2.5-0.5B: a token against caches, a prompt.

python benches/qwen25_attention.py [options of `metallic sweep`]
"""

import sys

from metallic.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", "--suite", "qwen25_attention", "--peers", "numpy", *sys.argv[1:]]))
