"""Softmax of rows x keys by both variants: where vec ends and block begins.

python benches/softmax_dispatcher.py [options of `metallic sweep`]
"""

import sys

from metallic.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", "--suite", "softmax_dispatcher", "--peers", "numpy,torch,onnxruntime,mlx", *sys.argv[1:]]))
