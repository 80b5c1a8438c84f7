"""metallic: picks and runs the fastest correct kernel for LLM-inference shapes on whatever is there.

>>> import metallic as ml
>>> x = ml.array([[1.0, 2.0]])
>>> x @ x.T
Tensor([[5.]], dtype=float32)
"""

from __future__ import annotations

from . import metal
from ._core import (
    Context,
    DType,
    ResourceCache,
    Tensor,
    add,
    addmm,
    array,
    asarray,
    bfloat16,
    bool_,
    default_context,
    divide,
    float16,
    float32,
    from_dlpack,
    gelu,
    int32,
    layer_norm,
    linear,
    log_softmax,
    matmul,
    matmul_alpha_beta,
    matmul_bias_add,
    matmul_dispatch,
    matmul_gemv,
    matmul_mlx,
    matmul_mps,
    matmul_ragged,
    multiply,
    prefs,
    rms_norm,
    rope,
    scaled_dot_product_attention,
    set_num_threads,
    silu,
    softmax,
    subtract,
    swiglu,
    uint8,
)
from ._core import __version__ as __version__
from ._creation import empty, empty_like, full, full_like, ones, ones_like, zeros, zeros_like
from ._errors import (
    CheckError,
    CompileError,
    DeviceError,
    DTypeError,
    MetallicError,
    ResourceNotCached,
    ShapeError,
    UnsupportedError,
)
from ._metrics import Profile, profile, scope
from ._plan import Plan, devices, explain, kernels
from ._vendor import offer_openblas
from .metal import metal_kernel

offer_openblas()
del offer_openblas

__all__ = [
    "CheckError",
    "CompileError",
    "Context",
    "DType",
    "DTypeError",
    "DeviceError",
    "MetallicError",
    "Plan",
    "Profile",
    "ResourceCache",
    "ResourceNotCached",
    "ShapeError",
    "Tensor",
    "UnsupportedError",
    "add",
    "addmm",
    "array",
    "asarray",
    "bfloat16",
    "bool_",
    "default_context",
    "devices",
    "divide",
    "empty",
    "empty_like",
    "explain",
    "float16",
    "float32",
    "from_dlpack",
    "full",
    "full_like",
    "gelu",
    "int32",
    "kernels",
    "layer_norm",
    "linear",
    "log_softmax",
    "matmul",
    "matmul_alpha_beta",
    "matmul_bias_add",
    "matmul_dispatch",
    "matmul_gemv",
    "matmul_mlx",
    "matmul_mps",
    "matmul_ragged",
    "metal",
    "metal_kernel",
    "multiply",
    "ones",
    "ones_like",
    "prefs",
    "profile",
    "rms_norm",
    "rope",
    "scaled_dot_product_attention",
    "scope",
    "set_num_threads",
    "silu",
    "softmax",
    "subtract",
    "swiglu",
    "uint8",
    "zeros",
    "zeros_like",
]
