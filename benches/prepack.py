"""What prepacking a weight gains: x @ w.T with the plain weight and with `ml.prepack(w)`, in turns, in one process.

python benches/prepack.py [--cold] [--m 1,4,16] [--dtype f32,f16,bf16] [--shape 4864x896] [--backend gemv,mlx]

Medians in microseconds, with the tenth percentile beside them. --cold: as many weights as exceed the last-level cache
take turns.
"""

import argparse
import time

import numpy as np

import metallic as ml

DTYPES = {"f32": ml.float32, "f16": ml.float16, "bf16": ml.bfloat16}
COLD_BYTES = 128 << 20


def sample(calls: list[list], seconds: float) -> list[np.ndarray]:
    """Times in us of the calls of each list, the lists in turns."""
    times: list[list[float]] = [[] for _ in calls]
    for call in (call for group in calls for call in group):
        call()
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for group, taken in zip(calls, times, strict=True):
            for call in group:
                start = time.perf_counter()
                call()
                taken.append(1e6 * (time.perf_counter() - start))
    return [np.array(taken) for taken in times]


def listed(kind):
    """For argparse: a comma-separated list of what `kind` reads, which raises ValueError."""

    def read(text):
        return [kind(part) for part in text.split(",")]

    read.__name__ = "list"
    return read


def dtype(text: str) -> str:
    if text not in DTYPES:
        raise ValueError(text)
    return text


def extents(text: str) -> tuple[int, int]:
    n, k = map(int, text.split("x"))
    return n, k


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--m", default="1,4,16,64,512", type=listed(int))
    parser.add_argument("--dtype", default="f32,f16,bf16", type=listed(dtype))
    parser.add_argument("--shape", default="4864x896,896x4864", type=listed(extents), help="weights [N, K]")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row")
    parser.add_argument("--backend", default="auto,auto", help="with the plain weight, with the prepacked one")
    args = parser.parse_args()
    backends = args.backend.split(",")
    if len(backends) != 2:
        parser.error(f"--backend {args.backend!r} is not two backends")

    rng = np.random.default_rng(0)
    print(f"{'weight':<10} {'dtype':<5} {'m':>4} {'plain':>16} {'prepacked':>16} {'ratio':>6}   runs")
    for n, k in args.shape:
        source = rng.standard_normal((n, k), np.float32)
        for name in args.dtype:
            first = ml.array(source).astype(DTYPES[name])
            copies = 1 + COLD_BYTES // first.nbytes if args.cold else 1
            plain = [first.copy() for _ in range(copies)]
            packed = [ml.prepack(w) for w in plain]
            for m in args.m:
                x = ml.array(rng.standard_normal((m, k), np.float32)).astype(first.dtype)
                out = ml.empty((m, n), first.dtype)

                def product(w, backend, x=x, out=out):
                    kw = {"transpose_b": True, "backend": backend, "variant": "smalln" if backend == "gemv" else "auto"}
                    return lambda: ml.matmul(x, w, out=out, **kw)

                groups = zip((plain, packed), backends, strict=True)
                a, b = sample([[product(w, backend) for w in weights] for weights, backend in groups], args.seconds)
                plan = ml.explain(ml.matmul, x, packed[0], transpose_b=True, backend=backends[1])
                text = [f"{np.median(t):8.1f} {np.quantile(t, 0.1):7.1f}" for t in (a, b)]
                ratio = np.median(a) / np.median(b)
                print(
                    f"{f'{n}x{k}':<10} {name:<5} {m:>4} {text[0]:>16} {text[1]:>16} {ratio:>6.2f}   {plan.impl}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
