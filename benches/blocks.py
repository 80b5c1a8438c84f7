"""Norms, activations and rotary positions, against every peer.

python benches/blocks.py [options of `metallic sweep`]
"""

import sys

from metallic.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", "--suite", "blocks", "--peers", "numpy,torch,onnxruntime,mlx", *sys.argv[1:]]))
