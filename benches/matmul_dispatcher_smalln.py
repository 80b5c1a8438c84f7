"""Where small-N ends: M x N x K with N from 1 to 32.

python benches/matmul_dispatcher_smalln.py [options of `metallic sweep`]
"""

import sys

from metallic.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", "--suite", "matmul_dispatcher_smalln", "--peers", "numpy", *sys.argv[1:]]))
