/* Doc-strings of ops_blocks.c, for inspect.signature() and help(). */
#include "mlpy.h"

const char mlpy_doc_layer_norm[] =
    "layer_norm($module, /, x, weight=None, bias=None, eps=1e-05, *, out=None, ctx=None)\n--\n\n"
    "(x - mean) / sqrt(variance + eps) * weight + bias over the last axis.\n"
    "\n"
    "The variance is the mean square of the differences. weight and bias are [n] of any floating-point dtype; the\n"
    "result has x's. Statistics are kept in float32 or better and do not cancel however large the mean; one\n"
    "rounding at the end. out (any strides) may be exactly x.\n"
    "\n"
    "Errors: ShapeError, DTypeError (integers), ValueError (eps; read-only out), UnsupportedError (a device without\n"
    "the kernel).\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.layer_norm(ml.array([[1., 3.]]), eps=0.0).tolist()\n"
    "[[-1.0, 1.0]]\n";

const char mlpy_method_doc_layer_norm[] =
    "layer_norm($self, /, x, weight=None, bias=None, eps=1e-05, *, out=None)\n--\n\n"
    "metallic.layer_norm() in this context.\n";

const char mlpy_doc_rms_norm[] =
    "rms_norm($module, /, x, weight=None, eps=1e-06, *, residual=None, out=None, ctx=None)\n--\n\n"
    "x / sqrt(mean of x**2 + eps) * weight over the last axis.\n"
    "\n"
    "weight is [n] of any floating-point dtype; the result has x's. With a residual, of x's shape and dtype, the\n"
    "sum x + residual is rounded and then normalised, and the result is the pair (normalised, sum). Squares are\n"
    "summed in float32 or better; one rounding at the end. out (any strides) receives the normalised result and\n"
    "may be exactly x or residual.\n"
    "\n"
    "Errors: as layer_norm().\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> x = ml.array([[3., -3.]])\n"
    ">>> ml.rms_norm(x, eps=0.0).tolist()\n"
    "[[1.0, -1.0]]\n"
    ">>> [t.tolist() for t in ml.rms_norm(x, eps=0.0, residual=x)]\n"
    "[[[1.0, -1.0]], [[6.0, -6.0]]]\n";

const char mlpy_method_doc_rms_norm[] =
    "rms_norm($self, /, x, weight=None, eps=1e-06, *, residual=None, out=None)\n--\n\n"
    "metallic.rms_norm() in this context.\n";

const char mlpy_doc_gelu[] =
    "gelu($module, /, x, approximate='none', *, out=None, ctx=None)\n--\n\n"
    "x * Phi(x), the normal distribution's integral; approximate='tanh': its usual approximation by tanh.\n"
    "\n"
    "Computed in float32 and rounded once. out (any strides) may be exactly x. Errors: ShapeError, DTypeError\n"
    "(integers), ValueError (approximate; read-only out), UnsupportedError (a device without the kernel).\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.gelu(ml.array([0., 20.])).tolist()\n"
    "[0.0, 20.0]\n";

const char mlpy_method_doc_gelu[] = "gelu($self, /, x, approximate='none', *, out=None)\n--\n\n"
                                    "metallic.gelu() in this context.\n";

const char mlpy_doc_silu[] = "silu($module, /, x, *, out=None, ctx=None)\n--\n\n"
                             "x / (1 + exp(-x)), computed in float32 and rounded once.\n"
                             "\n"
                             "out (any strides) may be exactly x. Errors as in gelu().\n"
                             "\n"
                             ">>> import metallic as ml\n"
                             ">>> ml.silu(ml.array([0., 40.])).tolist()\n"
                             "[0.0, 40.0]\n";

const char mlpy_method_doc_silu[] = "silu($self, /, x, *, out=None)\n--\n\n"
                                    "metallic.silu() in this context.\n";

const char mlpy_doc_swiglu[] =
    "swiglu($module, /, gate, up, *, out=None, ctx=None)\n--\n\n"
    "silu(gate) * up in one pass, computed in float32 and rounded once; the operands broadcast.\n"
    "\n"
    "float16 with bfloat16 gives float32. out (any strides) may be exactly gate or up. Errors as in gelu().\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.swiglu(ml.array([0., 40.]), ml.array([5., 0.5])).tolist()\n"
    "[0.0, 20.0]\n";

const char mlpy_method_doc_swiglu[] = "swiglu($self, /, gate, up, *, out=None)\n--\n\n"
                                      "metallic.swiglu() in this context.\n";

const char mlpy_doc_rope[] =
    "rope($module, /, x, *, offset=0, base=10000.0, dims=None, interleaved=False, scale=1.0, out=None, "
    "ctx=None)\n--\n\n"
    "Rotary positions: pairs of elements of x [..., L, D] turn by an angle that grows with the position.\n"
    "\n"
    "Row l stands at scale * (offset + l); offset is an integer, or one for each entry of the first axis. Of the\n"
    "first dims elements (None: all; even) pair i turns by position * base**(-2 * i / dims); the rest is copied.\n"
    "Pairs are (i, i + dims/2), or (2i, 2i + 1) when interleaved. Angles are computed in float64 and reduced before\n"
    "they are rounded, so that a position of a million is as exact as the first. out (any strides) may be exactly\n"
    "x.\n"
    "\n"
    "Errors: ShapeError (dims, offset), DTypeError (integers), ValueError (base, scale; read-only out),\n"
    "UnsupportedError (a device without the kernel).\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.rope(ml.array([[1., 2.]]), offset=0).tolist()\n"
    "[[1.0, 2.0]]\n"
    ">>> ml.rope(ml.ones((1, 2, 4)), dims=2)[0, :, 2:].tolist()\n"
    "[[1.0, 1.0], [1.0, 1.0]]\n";

const char mlpy_method_doc_rope[] =
    "rope($self, /, x, *, offset=0, base=10000.0, dims=None, interleaved=False, scale=1.0, out=None)\n--\n\n"
    "metallic.rope() in this context.\n";

const char mlpy_doc_prepack[] =
    "prepack($module, /, weight, *, transpose=False)\n--\n\n"
    "A weight for many products: a read-only copy of weight [..., K, N] whose packed form is kept.\n"
    "\n"
    "Use it as any tensor: x @ w, matmul(x, w), addmm(c, x, w), linear(x, w) and w @ x, whole or as views of whole\n"
    "matrices, transposed or not. On the CPU the tiled GEMM then reads panels in its own layout instead of packing "
    "the\n"
    "weight in every call; the first product makes them, each kernel its own. Results are those of the same call with\n"
    "weight, bit for bit, where the same kernel runs. Everything else reads the copy; writing to it raises "
    "ValueError.\n"
    "transpose: the result is weight.mT. On other devices it is a read-only copy and no more.\n"
    "\n"
    "Memory: the copy, and 4 bytes an element for each kind of panels in use (2 where the CPU multiplies pairs of\n"
    "bfloat16); weight itself may go. A copy, a pickle and to() give ordinary tensors.\n"
    "\n"
    "Errors: ShapeError (fewer than two dimensions), DTypeError (integers).\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> w = ml.prepack(ml.array([[1., 2.], [3., 4.]]), transpose=True)\n"
    ">>> (ml.array([[1., 10.]]) @ w).tolist()\n"
    "[[21.0, 43.0]]\n";

const char mlpy_method_doc_prepack[] = "prepack($self, /, weight, *, transpose=False)\n--\n\n"
                                       "metallic.prepack() in this context.\n";
