"""Every road through the dispatcher: buckets, tiles, orientations, epilogues.

python benches/matmul_dispatcher.py [options of `metallic sweep`]
"""

import sys

from metallic.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", "--suite", "matmul_dispatcher", "--peers", "numpy", *sys.argv[1:]]))
