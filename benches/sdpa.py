"""Attention with grouped heads, decode and prefill, against every peer.

python benches/sdpa.py [options of `metallic sweep`]
"""

import sys

from metallic.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", "--suite", "sdpa", "--peers", "numpy,torch,onnxruntime,mlx", *sys.argv[1:]]))
