/* Doc-strings of the operations, for inspect.signature() and help(). */
#include "mlpy.h"

const char mlpy_doc_matmul[] =
    "matmul($module, a, b, /, *, transpose_a=False, transpose_b=False, alpha=1.0, beta=0.0, c=None, bias=None,"
    " activation=None, out=None, backend=None, variant=None, ctx=None)\n--\n\n"
    "activation(alpha * op(a) @ op(b) + beta * c + bias), with one rounding at the end.\n"
    "\n"
    "Shapes as numpy.matmul: a [..., M, K], b [..., K, N] after the transposes, batch dimensions broadcast. c\n"
    "broadcasts to the result and is out when omitted; with beta == 0 it is never read, with alpha == 0 a and b\n"
    "are not. bias is [N], or [M, 1] for one value per row. activation: 'gelu', 'gelu_tanh', 'silu', 'relu'. Sums\n"
    "are kept in float32; float16 with bfloat16 gives float32. out (a tensor or a writable array, any strides)\n"
    "receives the result and is returned; out may be exactly c, any other element it shares with an operand\n"
    "raises ShapeError. backend: 'auto', 'mlx', 'mps', 'gemv' or 'custom'; variant: 'auto', 'smalln', 'gemm'. A\n"
    "choice that cannot do the case falls back (explain() says so).\n"
    "\n"
    "Errors: ShapeError, DTypeError (integers; out of another dtype), ValueError (read-only out),\n"
    "UnsupportedError (strict contexts only), DeviceError.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> a, b = ml.array([[1., 2.], [3., 4.]]), ml.array([[5., 6.], [7., 8.]])\n"
    ">>> ml.matmul(a, b, transpose_b=True)\n"
    "Tensor([[17., 23.],\n"
    "        [39., 53.]], dtype=float32)\n"
    ">>> ml.matmul(a, b, alpha=0.5, bias=ml.array([1., -30.]), activation='relu').tolist()\n"
    "[[10.5, 0.0], [22.5, 0.0]]\n";

const char mlpy_method_doc_matmul[] =
    "matmul($self, a, b, /, *, transpose_a=False, transpose_b=False, alpha=1.0, beta=0.0, c=None, bias=None, "
    "activation=None, out=None, backend=None, variant=None)\n--\n\n"
    "metallic.matmul() in this context.\n";

const char mlpy_doc_addmm[] = "addmm($module, c, a, b, /, *, alpha=1.0, beta=1.0, out=None, ctx=None)\n--\n\n"
                              "alpha * a @ b + beta * c in one pass; c broadcasts to the result and may be out.\n"
                              "\n"
                              "Arguments, aliasing and errors as in matmul().\n"
                              "\n"
                              ">>> import metallic as ml\n"
                              ">>> ml.addmm(ml.ones((1, 2)), ml.ones((1, 3)), ml.ones((3, 2)), beta=2.0).tolist()\n"
                              "[[5.0, 5.0]]\n";

const char mlpy_method_doc_addmm[] = "addmm($self, c, a, b, /, *, alpha=1.0, beta=1.0, out=None)\n--\n\n"
                                     "metallic.addmm() in this context.\n";

const char mlpy_doc_linear[] =
    "linear($module, /, x, weight, bias=None, *, activation=None, out=None, ctx=None)\n--\n\n"
    "activation(x @ weight.T + bias): x [..., K], weight [N, K], bias [N] -> [..., N].\n"
    "\n"
    "Arguments, aliasing and errors as in matmul().\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.linear(ml.ones((1, 3)), ml.ones((2, 3)), ml.array([0., 1.])).tolist()\n"
    "[[3.0, 4.0]]\n";

const char mlpy_method_doc_linear[] = "linear($self, /, x, weight, bias=None, *, activation=None, out=None)\n--\n\n"
                                      "metallic.linear() in this context.\n";

const char mlpy_doc_matmul_dispatch[] =
    "matmul_dispatch($module, /, a, b, out, transpose_a, transpose_b, alpha, beta, *, ctx=None)\n--\n\n"
    "alpha * op(a) @ op(b) + beta * out, by the backend and variant that the dispatcher selects.\n"
    "\n"
    "out: a tensor, or None for a new one (beta must be 0 then). Aliasing and errors as in matmul().\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.matmul_dispatch(ml.ones((2, 3)), ml.ones((3, 1)), None, False, False, 2.0, 0.0).tolist()\n"
    "[[6.0], [6.0]]\n";

const char mlpy_method_doc_matmul_dispatch[] =
    "matmul_dispatch($self, /, a, b, out, transpose_a, transpose_b, alpha, beta)\n--\n\n"
    "metallic.matmul_dispatch() in this context.\n";

const char mlpy_doc_matmul_alpha_beta[] =
    "matmul_alpha_beta($module, /, a, b, out, transpose_a, transpose_b, alpha, beta, *, cache=None, ctx=None)\n--\n\n"
    "As matmul_dispatch(), with the resource cache to use: ResourceNotCached when it is cached_only and misses.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> cache = ml.ResourceCache()\n"
    ">>> out = ml.ones((1, 1))\n"
    ">>> ml.matmul_alpha_beta(ml.ones((1, 4)), ml.ones((4, 1)), out, False, False, 1.0, 1.0, cache=cache).item()\n"
    "5.0\n"
    ">>> cache.stats['entries']\n"
    "1\n";

const char mlpy_method_doc_matmul_alpha_beta[] =
    "matmul_alpha_beta($self, /, a, b, out, transpose_a, transpose_b, alpha, beta, *, cache=None)\n--\n\n"
    "metallic.matmul_alpha_beta() in this context.\n";

const char mlpy_doc_matmul_bias_add[] =
    "matmul_bias_add($module, /, a, b, bias, transpose_a=False, transpose_b=False, *, ctx=None)\n--\n\n"
    "op(a) @ op(b) + bias in one pass; bias [N] or [M, 1]. Errors as in matmul().\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.matmul_bias_add(ml.ones((1, 2)), ml.ones((2, 2)), ml.array([0.5, -2.0])).tolist()\n"
    "[[2.5, 0.0]]\n";

const char mlpy_method_doc_matmul_bias_add[] =
    "matmul_bias_add($self, /, a, b, bias, transpose_a=False, transpose_b=False)\n--\n\n"
    "metallic.matmul_bias_add() in this context.\n";

const char mlpy_doc_matmul_mlx[] = "matmul_mlx($module, a, b, /, **kw)\n--\n\n"
                                   "matmul() on the library's own tiled GEMM; keywords as matmul() but backend.\n"
                                   "\n"
                                   ">>> import metallic as ml\n"
                                   ">>> ml.matmul_mlx(ml.ones((2, 2)), ml.ones((2, 2)), alpha=0.5).tolist()\n"
                                   "[[1.0, 1.0], [1.0, 1.0]]\n";

const char mlpy_method_doc_matmul_mlx[] = "matmul_mlx($self, a, b, /, **kw)\n--\n\n"
                                          "metallic.matmul_mlx() in this context.\n";

const char mlpy_doc_matmul_mps[] =
    "matmul_mps($module, a, b, /, **kw)\n--\n\n"
    "matmul() on the platform's vendor library; keywords as matmul() but backend. Falls back where there is none.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.matmul_mps(ml.ones((2, 2)), ml.ones((2, 2))).tolist()\n"
    "[[2.0, 2.0], [2.0, 2.0]]\n";

const char mlpy_method_doc_matmul_mps[] = "matmul_mps($self, a, b, /, **kw)\n--\n\n"
                                          "metallic.matmul_mps() in this context.\n";

const char mlpy_doc_matmul_gemv[] = "matmul_gemv($module, a, b, /, **kw)\n--\n\n"
                                    "matmul() on the vector and small-N kernels; keywords as matmul() but backend.\n"
                                    "\n"
                                    ">>> import metallic as ml\n"
                                    ">>> ml.matmul_gemv(ml.ones((1, 3)), ml.ones((3, 2))).tolist()\n"
                                    "[[3.0, 3.0]]\n";

const char mlpy_method_doc_matmul_gemv[] = "matmul_gemv($self, a, b, /, **kw)\n--\n\n"
                                           "metallic.matmul_gemv() in this context.\n";

const char mlpy_doc_matmul_ragged[] =
    "matmul_ragged($module, /, a, b, row_counts, *, out=None, ctx=None)\n--\n\n"
    "Groups of rows, each times its own matrix: a [sum(rows), K], b [G, K, N], row_counts of length G ->\n"
    "[sum(rows), N].\n"
    "\n"
    "Errors as in matmul(); ShapeError when row_counts do not add up to the rows of a.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> b = ml.array([[[1.]], [[10.]]])\n"
    ">>> ml.matmul_ragged(ml.ones((3, 1)), b, [1, 2]).tolist()\n"
    "[[1.0], [10.0], [10.0]]\n";

const char mlpy_method_doc_matmul_ragged[] = "matmul_ragged($self, /, a, b, row_counts, *, out=None)\n--\n\n"
                                             "metallic.matmul_ragged() in this context.\n";

const char mlpy_doc_softmax[] =
    "softmax($module, /, x, axis=-1, *, causal=False, query_offset=None, mask=None, scale=1.0, out=None, variant=None,"
    " ctx=None)\n--\n\n"
    "Softmax of scale * x + mask over one axis, in float32 with one rounding at the end.\n"
    "\n"
    "causal (axis -1 only): row i of x [..., Q, S] sees columns up to i + query_offset; None means S - Q, so that the\n"
    "last row sees all. mask broadcasts to x: boolean (True = visible) or floating-point (added; -inf hides). A\n"
    "hidden element has no effect whatever it holds, and becomes 0; a row with nothing visible, or nothing but\n"
    "-inf, is all zeros; a visible NaN or +inf makes the visible part of its row NaN. out (any strides) may be\n"
    "exactly x. variant: 'auto', 'vec' (the row stays in cache) or 'block' (running maximum over blocks).\n"
    "\n"
    "Errors: ShapeError (axis, mask, out; causal with another axis), DTypeError (integers), UnsupportedError (strict\n"
    "contexts only).\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.softmax(ml.zeros((2, 2)), causal=True).tolist()\n"
    "[[1.0, 0.0], [0.5, 0.5]]\n";

const char mlpy_method_doc_softmax[] =
    "softmax($self, /, x, axis=-1, *, causal=False, query_offset=None, mask=None, scale=1.0, out=None,"
    " variant=None)\n--\n\n"
    "metallic.softmax() in this context.\n";

const char mlpy_doc_log_softmax[] =
    "log_softmax($module, /, x, axis=-1, *, out=None, ctx=None)\n--\n\n"
    "The logarithm of softmax(x, axis), without passing through it: -inf where that is 0.\n"
    "\n"
    "out (any strides) may be exactly x. Errors as in softmax().\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.log_softmax(ml.array([0., -1000.])).tolist()\n"
    "[0.0, -1000.0]\n";

const char mlpy_method_doc_log_softmax[] = "log_softmax($self, /, x, axis=-1, *, out=None)\n--\n\n"
                                           "metallic.log_softmax() in this context.\n";

const char mlpy_doc_scaled_dot_product_attention[] =
    "scaled_dot_product_attention($module, /, query, key, value, attn_mask=None, *, is_causal=False, scale=None,"
    " query_offset=None, window=None, sinks=None, softcap=None, out=None, variant=None, ctx=None)\n--\n\n"
    "softmax(scale * query @ key.T + attn_mask) @ value for each head, without the matrix of scores in memory.\n"
    "\n"
    "query [B, Hq, L, D], key [B, Hkv, S, D], value [B, Hkv, S, Dv] -> [B, Hq, L, Dv], or all without B; Hq is a\n"
    "multiple of Hkv, whose heads serve equal groups of neighbouring query heads. scale: 1/sqrt(D) when None.\n"
    "attn_mask broadcasts to [B, Hq, L, S]: boolean (True = visible), or of a floating-point dtype and added.\n"
    "Query i stands at position i + query_offset; None means S - L, so that the last query sees the last key\n"
    "(PyTorch's is_causal means 0). is_causal: it sees no later keys. window: it sees the last `window` keys up to\n"
    "its own position only. softcap: scores become softcap * tanh(scores / softcap) before the mask. sinks [Hq]:\n"
    "logits that only add to the denominator. A query that sees nothing gives zeros, and a key that is not\n"
    "seen has no effect, NaN included. Sums are kept in float32, rounded once. out (any strides) receives the\n"
    "result and may share no memory with the operands. variant: 'auto', 'composed', 'vector' or 'tiled'.\n"
    "\n"
    "Errors: ShapeError, DTypeError (integers; out of another dtype), ValueError (softcap; read-only out),\n"
    "UnsupportedError (strict contexts only), DeviceError.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> q, k = ml.zeros((1, 2, 4)), ml.zeros((1, 3, 4))\n"
    ">>> v = ml.array([[[1.], [2.], [6.]]])\n"
    ">>> ml.scaled_dot_product_attention(q, k, v, is_causal=True).tolist()\n"
    "[[[1.5], [3.0]]]\n";

const char mlpy_method_doc_scaled_dot_product_attention[] =
    "scaled_dot_product_attention($self, /, query, key, value, attn_mask=None, *, is_causal=False, scale=None,"
    " query_offset=None, window=None, sinks=None, softcap=None, out=None, variant=None)\n--\n\n"
    "metallic.scaled_dot_product_attention() in this context.\n";

const char mlpy_doc_add[] =
    "add($module, /, a, b, *, out=None, ctx=None)\n--\n\n"
    "a + b, element by element with broadcasting; either operand may be a number, which takes the other's dtype.\n"
    "\n"
    "out receives the result (it must have the result's dtype) and may be exactly a or b. Errors: ShapeError,\n"
    "DTypeError.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.add(ml.array([1., 2.]), 2).tolist()\n"
    "[3.0, 4.0]\n";

const char mlpy_method_doc_add[] = "add($self, /, a, b, *, out=None)\n--\n\n"
                                   "metallic.add() in this context.\n";

const char mlpy_doc_subtract[] =
    "subtract($module, /, a, b, *, out=None, ctx=None)\n--\n\n"
    "a - b, element by element with broadcasting; either operand may be a number, which takes the other's dtype.\n"
    "\n"
    "out receives the result (it must have the result's dtype) and may be exactly a or b. Errors: ShapeError,\n"
    "DTypeError.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.subtract(ml.array([1., 2.]), 2).tolist()\n"
    "[-1.0, 0.0]\n";

const char mlpy_method_doc_subtract[] = "subtract($self, /, a, b, *, out=None)\n--\n\n"
                                        "metallic.subtract() in this context.\n";

const char mlpy_doc_multiply[] =
    "multiply($module, /, a, b, *, out=None, ctx=None)\n--\n\n"
    "a * b, element by element with broadcasting; either operand may be a number, which takes the other's dtype.\n"
    "\n"
    "out receives the result (it must have the result's dtype) and may be exactly a or b. Errors: ShapeError,\n"
    "DTypeError.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.multiply(ml.array([1., 2.]), 2).tolist()\n"
    "[2.0, 4.0]\n";

const char mlpy_method_doc_multiply[] = "multiply($self, /, a, b, *, out=None)\n--\n\n"
                                        "metallic.multiply() in this context.\n";

const char mlpy_doc_divide[] =
    "divide($module, /, a, b, *, out=None, ctx=None)\n--\n\n"
    "a / b, element by element with broadcasting; either operand may be a number, which takes the other's dtype.\n"
    "\n"
    "Integers divide as float32. out receives the result (it must have the result's dtype) and may be exactly a\n"
    "or b. Errors: ShapeError, DTypeError.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.divide(ml.array([1., 2.]), 2).tolist()\n"
    "[0.5, 1.0]\n";

const char mlpy_method_doc_divide[] = "divide($self, /, a, b, *, out=None)\n--\n\n"
                                      "metallic.divide() in this context.\n";
