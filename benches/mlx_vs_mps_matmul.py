"""Our tiled GEMM (mlx) against the vendor library (mps).

python benches/mlx_vs_mps_matmul.py [options of `metallic sweep`]
"""

import sys

from metallic.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", "--suite", "mlx_vs_mps_matmul", "--peers", "numpy", *sys.argv[1:]]))
