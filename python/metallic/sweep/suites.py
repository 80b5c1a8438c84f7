"""What a sweep measures: cases (shapes and flags of one operation) and the suites that list them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
ITEMSIZE = {"float32": 4, "float16": 2, "bfloat16": 2}


def dtype_name(text: str) -> str:
    """The full name of a dtype given by its full or short one. Raises ValueError."""
    for name, short in DTYPES.items():
        if text in (name, short):
            return name
    raise ValueError(f"unknown dtype {text!r}: one of {', '.join(DTYPES.values())}")


@dataclasses.dataclass(frozen=True)
class Matmul:
    """out [batch, m, n] = alpha * a [batch, m, k] @ b [batch, k, n] + beta * c + bias [n].

    transpose_a, transpose_b: the operand lies transposed in memory, as an LLM's weight [n, k] does (transpose_b).
    step: a and b are every step-th column of what lies in memory. batch 0 means matrices without a batch dimension.
    With beta != 0, c is an array of out's shape beside it.
    """

    m: int
    n: int
    k: int
    batch: int = 0
    transpose_a: bool = False
    transpose_b: bool = False
    bias: bool = False
    alpha: float = 1.0
    beta: float = 0.0
    step: int = 1

    op = "matmul"

    @property
    def label(self) -> str:
        text = f"{self.batch}x" if self.batch else ""
        text += f"{self.m}x{self.n}x{self.k} " + ("t" if self.transpose_a else "n") + ("t" if self.transpose_b else "n")
        if self.bias:
            text += " bias"
        if (self.alpha, self.beta) != (1.0, 0.0):
            text += f" a{self.alpha:g} b{self.beta:g}"
        if self.step != 1:
            text += f" step {self.step}"
        return text

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Operands as they lie in memory."""
        lead = (self.batch,) if self.batch else ()
        a = (self.k, self.m) if self.transpose_a else (self.m, self.k)
        b = (self.n, self.k) if self.transpose_b else (self.k, self.n)
        shapes = {name: (*lead, rows, columns * self.step) for name, (rows, columns) in {"a": a, "b": b}.items()}
        if self.beta != 0:
            shapes["c"] = (*lead, self.m, self.n)
        if self.bias:
            shapes["bias"] = (self.n,)
        return shapes

    def views(self, x: dict) -> tuple:
        """a and b as they are multiplied, of the arrays in memory; arrays of NumPy, PyTorch or MLX."""
        a, b = (x[name][..., :: self.step] if self.step != 1 else x[name] for name in "ab")
        return a.swapaxes(-1, -2) if self.transpose_a else a, b.swapaxes(-1, -2) if self.transpose_b else b

    def out_shape(self) -> tuple[int, ...]:
        return (self.batch, self.m, self.n) if self.batch else (self.m, self.n)

    def bytes(self, dtype: str) -> int:
        """Bytes that must cross memory at least: every operand read once, the result written once. Of a column that a
        step leaves out, the cache line is read nevertheless."""
        elements = self.m * self.n * max(self.batch, 1)
        for shape in self.shapes().values():
            size = 1
            for dim in shape:
                size *= dim
            elements += size
        return elements * ITEMSIZE[dtype]

    def flops(self) -> int:
        return 2 * self.m * self.n * self.k * max(self.batch, 1)


@dataclasses.dataclass(frozen=True)
class Softmax:
    """Softmax of x [rows, seq_k] over its last axis, or of x [rows, seq_k, inner] over the middle one.

    queries: x is [rows / queries, queries, seq_k] with a causal mask.
    """

    rows: int
    seq_k: int
    inner: int = 0
    queries: int = 0

    op = "softmax"
    k = batch = 0

    @property
    def m(self) -> int:
        return self.rows

    @property
    def n(self) -> int:
        return self.seq_k

    @property
    def label(self) -> str:
        text = f"{self.rows}x{self.seq_k}"
        if self.inner:
            text += f"x{self.inner} axis 1"
        return text + (f" causal {self.queries}" if self.queries else "")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"x": self.out_shape()}

    def out_shape(self) -> tuple[int, ...]:
        if self.queries:
            return (self.rows // self.queries, self.queries, self.seq_k)
        return (self.rows, self.seq_k, self.inner) if self.inner else (self.rows, self.seq_k)

    @property
    def axis(self) -> int:
        return 1 if self.inner else -1

    def bytes(self, dtype: str) -> int:
        """x read once, the result written once."""
        return 2 * self.rows * self.seq_k * max(self.inner, 1) * ITEMSIZE[dtype]

    def flops(self) -> int:
        """Scale, maximum, subtraction, exponential, sum and division count as one each, as in the cost model."""
        return 5 * self.rows * self.seq_k * max(self.inner, 1)


@dataclasses.dataclass(frozen=True)
class Sdpa:
    """Attention of q [batch, heads, q_len, dim] over k and v [batch, kv_heads, seq_k, dim]; scale 1 / sqrt(dim)."""

    batch_size: int
    heads: int
    kv_heads: int
    q_len: int
    seq_k: int
    dim: int
    causal: bool = False

    op = "sdpa"

    @property
    def m(self) -> int:
        return self.q_len

    @property
    def n(self) -> int:
        return self.seq_k

    @property
    def k(self) -> int:
        return self.dim

    @property
    def batch(self) -> int:
        return self.batch_size * self.heads

    @property
    def scale(self) -> float:
        return self.dim**-0.5

    @property
    def label(self) -> str:
        text = f"b{self.batch_size} h{self.heads}/{self.kv_heads} q{self.q_len} s{self.seq_k} d{self.dim}"
        return text + (" causal" if self.causal else "")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        cache = (self.batch_size, self.kv_heads, self.seq_k, self.dim)
        return {"q": self.out_shape(), "k": cache, "v": cache}

    def out_shape(self) -> tuple[int, ...]:
        return (self.batch_size, self.heads, self.q_len, self.dim)

    def bytes(self, dtype: str) -> int:
        """Queries, keys and values read once, the result written once."""
        rows = 2 * self.heads * self.q_len + 2 * self.kv_heads * self.seq_k
        return self.batch_size * rows * self.dim * ITEMSIZE[dtype]

    def flops(self) -> int:
        """Both products over the visible keys."""
        pairs = self.q_len * self.seq_k
        if self.causal:
            pairs -= self.q_len * (self.q_len - 1) // 2
        return 4 * self.batch * pairs * self.dim


@dataclasses.dataclass(frozen=True)
class Block:
    """What stands between the products of a transformer, over x [rows, cols].

    kind: layer_norm (with weight and bias), rms_norm (with weight), gelu, gelu_tanh, silu, swiglu (gate and up), rope
    (x [1, heads, rows, cols], halves).
    """

    kind: str
    rows: int
    cols: int
    heads: int = 1

    op = "block"
    k = 0

    @property
    def m(self) -> int:
        return self.rows

    @property
    def n(self) -> int:
        return self.cols

    @property
    def batch(self) -> int:
        return self.heads if self.kind == "rope" else 0

    @property
    def label(self) -> str:
        return f"{self.kind} " + (f"{self.heads}x" if self.kind == "rope" else "") + f"{self.rows}x{self.cols}"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {"x": self.out_shape()}
        if self.kind in ("layer_norm", "rms_norm"):
            shapes["weight"] = (self.cols,)
        if self.kind == "layer_norm":
            shapes["bias"] = (self.cols,)
        if self.kind == "swiglu":
            shapes["up"] = self.out_shape()
        return shapes

    def out_shape(self) -> tuple[int, ...]:
        return (1, self.heads, self.rows, self.cols) if self.kind == "rope" else (self.rows, self.cols)

    def bytes(self, dtype: str) -> int:
        """Every operand read once, the result written once."""
        elements = self.heads * self.rows * self.cols
        for shape in self.shapes().values():
            size = 1
            for dim in shape:
                size *= dim
            elements += size
        return elements * ITEMSIZE[dtype]

    def flops(self) -> int:
        """What the shortest kernels do, as a ceiling needs it: exponentials by table, results of 16 bits."""
        each = {"layer_norm": 7, "rms_norm": 4, "gelu": 27, "gelu_tanh": 18, "silu": 13, "swiglu": 14, "rope": 3}
        return each[self.kind] * self.heads * self.rows * self.cols


Case = Matmul | Softmax | Sdpa | Block
# What a software device computes in about a tenth of a second.
SOFTWARE_FLOPS = 32 << 20
KINDS = {kind.op: kind for kind in (Matmul, Softmax, Sdpa, Block)}


def pack(case: Case) -> dict:
    """A case as plain data, for another process; unpack reverses it."""
    return {"op": case.op, **dataclasses.asdict(case)}


def unpack(packed: dict) -> Case:
    fields = dict(packed)
    return KINDS[fields.pop("op")](**fields)


def _halved(case: Case) -> Case:
    """Half as much of what there is most of: rows and columns of a product before its inner dimension, keys of an
    attention, rows of a softmax or block before the rest. The case itself where nothing is left to halve."""
    if isinstance(case, Matmul):
        name = max(("batch", "n", "m"), key=lambda n: getattr(case, n))
        names = [name] if getattr(case, name) > 64 else ["k"]
    elif isinstance(case, Softmax):
        names = ["rows", "queries"] if case.queries else ["rows"]
        if case.rows < 16:
            names = ["inner"] if case.inner >= 16 else ["seq_k"]
    elif isinstance(case, Block):
        names = ["rows"] if case.rows >= 16 else ["cols"]
    else:
        names = ["q_len", "seq_k"] if case.q_len > 1 else ["seq_k"]
    if min(getattr(case, name) for name in names) < 16:
        return case
    return dataclasses.replace(case, **{name: getattr(case, name) // 2 for name in names})


def reduced(case: Case) -> Case:
    """The case small enough for a device that is software; the case itself where it is."""
    while case.flops() > SOFTWARE_FLOPS and (smaller := _halved(case)) != case:
        case = smaller
    return case


def _qwen25() -> Iterable[Case]:
    # Qwen2.5-0.5B, one token: gate and up projections fused, down, output of attention, fused q, k and v, the
    # vocabulary, one of gate and up.
    for n, k, bias in [
        (9728, 896, False),
        (896, 4864, False),
        (896, 896, False),
        (1152, 896, True),
        (151936, 896, False),
        (4864, 896, False),
    ]:
        yield Matmul(1, n, k, transpose_b=True, bias=bias)


def _matmul_dispatcher() -> Iterable[Case]:
    # Every road through the dispatcher: both orientations, all buckets, both tiles, the generic class, and what is
    # fused.
    yield Matmul(4, 4, 4)
    for n in (1, 2, 4, 8, 16):
        yield Matmul(512, n, 1024)
        yield Matmul(n, 512, 1024, transpose_b=True)
    yield Matmul(32, 256, 256)
    yield Matmul(128, 48, 512)
    for size in (128, 512, 1024):
        yield Matmul(size, size, size)
    for transpose_a, transpose_b in ((False, True), (True, False), (True, True)):
        yield Matmul(512, 512, 512, transpose_a=transpose_a, transpose_b=transpose_b)
    yield Matmul(512, 512, 512, alpha=0.5, beta=2.0)
    yield Matmul(128, 1152, 896, transpose_b=True, bias=True)
    yield Matmul(64, 64, 64, batch=16)


def _matmul_dispatcher_smalln() -> Iterable[Case]:
    for m in (128, 512, 2048):
        for k in (1024, 2048, 4096):
            for n in range(1, 33):
                yield Matmul(m, n, k)


def _mlx_vs_mps_matmul() -> Iterable[Case]:
    for size in (64, 128, 256, 512, 1024, 2048):
        yield Matmul(size, size, size)
    for transpose_a, transpose_b in ((False, True), (True, False), (True, True)):
        yield Matmul(512, 512, 512, transpose_a=transpose_a, transpose_b=transpose_b)
    for m in (16, 64, 256):
        yield Matmul(m, 896, 4864, transpose_b=True)
        yield Matmul(m, 9728, 896, transpose_b=True)
    yield Matmul(512, 512, 512, alpha=0.5, beta=2.0)
    yield Matmul(128, 128, 64, batch=14)


def _softmax_dispatcher() -> Iterable[Case]:
    # Both sides of METALLIC_SOFTMAX_VEC_MAX_K, few rows and many; attention scores of 14 heads, 512 queries and keys.
    for rows in (1, 14, 512, 7168):
        for seq_k in (64, 128, 256, 512, 768, 1024, 1025, 1536, 2048, 4096, 16384, 65536):
            if rows * seq_k <= 1 << 23:
                yield Softmax(rows, seq_k)
    yield Softmax(1, 151936)
    yield Softmax(7168, 512, queries=512)
    yield Softmax(14 * 1024, 1024, queries=1024)
    yield Softmax(64, 512, inner=64)
    yield Softmax(64, 2048, inner=64)


def _sdpa() -> Iterable[Case]:
    # Heads of Qwen2.5-0.5B. Prefills whose scores a peer has to hold in memory stop at 2^24 of them per head.
    for batch in (1, 4, 16):
        for dim in (64, 128):
            for seq_k in (64, 256, 1024, 4096, 8192):
                yield Sdpa(batch, 14, 2, 1, seq_k, dim)
    for batch in (1, 4, 16):
        for dim in (64, 128):
            for seq_k in (64, 128, 512, 2048, 4096):
                if batch * seq_k * seq_k <= 1 << 24:
                    yield Sdpa(batch, 14, 2, seq_k, seq_k, dim, causal=True)


def _qwen25_attention() -> Iterable[Case]:
    # Its attention: a token against caches, a prompt; and the softmax that a composed attention would run.
    for seq_k in (1024, 4096):
        yield Sdpa(1, 14, 2, 1, seq_k, 64)
    yield Sdpa(1, 14, 2, 512, 512, 64, causal=True)
    yield Softmax(7168, 512)


def _blocks() -> Iterable[Case]:
    # Qwen2.5-0.5B: a token and a prompt.
    for rows in (1, 512):
        for kind in ("layer_norm", "rms_norm"):
            yield Block(kind, rows, 896)
        for kind in ("gelu", "gelu_tanh", "silu", "swiglu"):
            yield Block(kind, rows, 4864)
        yield Block("rope", rows, 64, heads=14)


@dataclasses.dataclass(frozen=True)
class Suite:
    about: str
    cases: Callable[[], Iterable[Case]]
    backends: tuple[str, ...] = ("auto", "mlx", "gemv", "mps")  # for other operations than matmul: their variants
    op: str = "matmul"


SUITES = {
    "qwen25": Suite("the matrix products of one decoding step of Qwen2.5-0.5B", _qwen25),
    "matmul_dispatcher": Suite("one case or more for every road through the dispatcher", _matmul_dispatcher),
    "matmul_dispatcher_smalln": Suite(
        "M x N x K with N from 1 to 32: where small-N ends", _matmul_dispatcher_smalln, ("auto", "gemv", "mlx")
    ),
    "softmax_dispatcher": Suite(
        "rows x keys: where vec ends and block begins", _softmax_dispatcher, ("auto", "vec", "block"), "softmax"
    ),
    "sdpa": Suite("attention: decode and prefill", _sdpa, ("auto", "vector", "tiled", "composed"), "sdpa"),
    "qwen25_attention": Suite("attention and softmax of Qwen2.5-0.5B", _qwen25_attention, ("auto",), "sdpa"),
    "blocks": Suite("norms, activations and rotary positions of Qwen2.5-0.5B", _blocks, ("auto",), "block"),
    "mlx_vs_mps_matmul": Suite("our tiled GEMM against the vendor's", _mlx_vs_mps_matmul, ("mlx", "mps")),
}
