"""The matrix products of one decoding step of Qwen2.5-0.5B (metallic.sweep.suites defines them).

python benches/qwen25.py [options of `metallic sweep`]
"""

import sys

from metallic.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", "--suite", "qwen25", "--peers", "numpy", *sys.argv[1:]]))
