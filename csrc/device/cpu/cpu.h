/* The native CPU device: kernel tables and the signatures of its kernels. */
#ifndef ML_CPU_H
#define ML_CPU_H

#include "core/pool.h"
#include "device/device.h"

/* Every kernel of the device, from the .inc lists. */
extern const ml_kernel_desc ml_cpu_kernels[];
extern const int ml_cpu_n_kernels;

/* One matrix of a batch as kernels see it: typed pointer and element strides. */
typedef struct ml_mat {
    void *data; /* element (0, 0) */
    int64_t rs, cs;
    ml_dtype dtype;
} ml_mat;

/* One GEMM problem of a batch after orientation: c = act(alpha * a b + beta * c_in + bias).
 * a m x k, b k x n, out m x n; c_in.data NULL: beta is 0; bias.data NULL: none (row bias has rs 0, column bias cs 0);
 * k == 0 or alpha == 0: a and b are not read. */
typedef struct ml_gemm_problem {
    int64_t m, n, k;
    ml_mat a, b, c_in, bias, out;
    float alpha, beta;
    ml_activation activation;
} ml_gemm_problem;

/* Problem number `batch` of a planned matmul, with plan->transposed applied. */
void ml_gemm_problem_at(const ml_op *op, const ml_plan *plan, int64_t batch, ml_gemm_problem *out);

/* Backends: run all problems of a planned matmul. */
ml_status ml_cpu_matmul_mlx(const ml_encode_args *args);
ml_status ml_cpu_matmul_gemv(const ml_encode_args *args);
ml_status ml_cpu_matmul_mps(const ml_encode_args *args);

/* Panels of a prepacked weight, on all threads. */
void ml_cpu_pack(ml_device *dev, const ml_pack_args *args);

ml_status ml_cpu_softmax(const ml_encode_args *args);
/* Layer norm and rms norm. */
ml_status ml_cpu_norm(const ml_encode_args *args);
/* GELU, SiLU and SwiGLU. */
ml_status ml_cpu_activate(const ml_encode_args *args);
ml_status ml_cpu_rope(const ml_encode_args *args);

/* Fused attention, both variants; the softmax in the middle of a composed one (ml_softmax_params.scores). */
ml_status ml_cpu_sdpa(const ml_encode_args *args);
ml_status ml_cpu_sdpa_scores(const ml_encode_args *args);

/* A matmul with skip_hidden, by way of run, which does it without. */
typedef ml_status (*ml_cpu_encode_fn)(ml_encode_args *args);
ml_status ml_cpu_matmul_skip(ml_encode_args *args, ml_cpu_encode_fn run);

/* Element-wise kinds. */
ml_status ml_cpu_binary(const ml_encode_args *args);
ml_status ml_cpu_copy(const ml_encode_args *args);
ml_status ml_cpu_fill(const ml_encode_args *args);

/* Scalar activation, the reference of the vector ones. */
float ml_activate(ml_activation act, float x);

/* ---- the tiled GEMM ----------------------------------------------------------------------------------------
 * One signature per kernel kind; a tier is one file gemm_<isa>.c and rows in gemm_kernels.inc. docs/gemm.md. */

/* Before a loop of a small constant trip count whose variables are to live in registers. */
#if defined(__clang__)
#define ML_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ML_UNROLL _Pragma("GCC unroll 32")
#endif

/* What becomes of one micro-tile. acc[i][j] = sum over p < k of a[p*mr + i] * b[p*b_stride + j] in f32; then, with
 * acc_load, acc += acc_io; then acc_io = acc (acc_store), or out = act(alpha * acc + beta * c_in + bias). */
typedef struct ml_ukr_tile {
    int64_t m, n;     /* valid part of the tile, 1 <= m <= mr, 1 <= n <= nr; nothing else of out is written */
    int64_t a_rows;   /* 0: a packed panel; else bytes from one row of A to the next, which lie as in memory, steps side
                         by side: f32, or with k_pack 2 bf16 and an even k; not with k_unit */
    int64_t b_stride; /* nr for a packed panel; another row stride reads an f32 matrix in place (n == nr, k_pack 1) */
    float alpha, beta; /* beta is not looked at when c_in.data is NULL */
    ml_mat c_in, bias, out;
    ml_activation activation;
    const void *ahead;  /* a hint, any address: memory that will be read soon is fetched, at step p what lies */
    int64_t ahead_step; /* p * ahead_step bytes on; NULL: nothing is */
    float *acc_io;      /* f32 partial sums [mr][nr] between k blocks, 64-byte aligned; NULL: neither load nor store */
    bool acc_load, acc_store; /* with acc_load alone, acc_io holds undefined values afterwards */
} ml_ukr_tile;
/* k >= 0 elements. a: panel of pack_a; b: panel of pack_b, 64-byte aligned, or see b_stride. c_in may be exactly out.
 */
typedef void (*ml_gemm_ukr_fn)(int64_t k, const float *a, const float *b, const ml_ukr_tile *tile);

/* Packs `count` rows of src (count <= width, the mr or nr of the kernel) of k elements of any float dtype and strides
 * into a panel of f32: dst[p*width + i] = src(i, p), zero for count <= i < width. dst is 64-byte aligned and holds
 * k * width floats; nothing beyond is written, nothing but the k * count elements is read. Packing k at once gives what
 * packing blocks of it one behind the other does, as long as all but the last are multiples of 16 and of k_unit. */
typedef void (*ml_gemm_pack_fn)(float *dst, const ml_mat *src, int64_t count, int64_t k);

/* k_pack 2: a kernel with ML_SUP_BF16_DOT. src is bf16, and a panel's words hold two steps along k each,
 * word[p / 2 * width + i] = src(i, p) | src(i, p + 1) << 16, the last of an odd k with zero above; k / k_pack words,
 * rounded up, take the place of k floats above. */
typedef struct ml_gemm_impl {
    ml_gemm_ukr_fn ukr;
    ml_gemm_pack_fn pack_a, pack_b; /* src rows of A; columns of B given as rows (strides swapped) */
    int mr, nr, k_pack;
    /* What follows is 0 or NULL for kernels of vectors. A kernel of tiles takes k_unit steps at once: panels have zeros
     * up to a multiple of that (ml_gemm_words of dispatch/gemm_layout.h), and in those of A a unit holds row after row,
     * word[p / k_unit * (k_unit / 2) * mr + i * (k_unit / 2) + p % k_unit / 2]. */
    int k_unit;
    /* Around a thread's calls of ukr: registers that it needs set up. leave gives them back to whatever the thread does
     * next, so a task pairs the two. */
    void (*enter)(void), (*leave)(void);
    int words_per_ns; /* nominal products of words of one thread, to size tasks */
} ml_gemm_impl;

/* ---- vector and small-N ------------------------------------------------------------------------------------
 * One table per ISA tier (gemv_<isa>.c, rows in gemv_kernels.inc); gemv.c cuts the work after dispatch/gemv_layout.h.
 */

/* Sums of products of a block of the weights W (f32, f16 or bf16) with n <= 16 columns X (f32):
 *   s(i, j) = sum over p < k of W(i, p) * X(p, j), i < rows, j < n.
 * "dot":  W(i, p) = w[i * ldw + p], X as pack_x lays it out, result y[i * n + j].
 * "axpy": W(i, p) = w[p * ldw + i], X(p, j) = x[p * x_rs + j * x_cs], result y[j * ldy + i].
 * "outer": W and the result as for "dot", X(p, j) = x[p * x_rs + j].
 * y = s, or y += s with accumulate. Nothing beyond the block is read from w. */
typedef struct ml_gemv_block {
    const void *w;
    int64_t ldw;
    const float *x;
    int64_t x_rs, x_cs;
    float *y;
    int64_t ldy;
    int64_t rows, k;
    int n;
    bool accumulate;
    bool stream; /* w is large and the next rows follow in memory: worth fetching ahead. A hint: nothing is read */
} ml_gemv_block;
typedef void (*ml_gemv_block_fn)(const ml_gemv_block *block);

/* out(o, i) = act(alpha * y[o * ldy + i] + beta * c_in(o, i) + bias(o, i)), o < outer, i < inner. In the matrices rs is
 * the stride along `outer` and cs along `inner`; c_in.data or bias.data NULL: none. */
typedef struct ml_gemv_store {
    const float *y;
    int64_t ldy, outer, inner;
    ml_mat c_in, bias, out;
    float alpha, beta;
    ml_activation activation;
} ml_gemv_store;

/* X for "dot": blocks of 32 elements of k, each block [column][32], so that a kernel reads it front to back:
 *   X(p, j) = x[p / 32 * 32 * total + j * 32 + p % 32], zeros where p >= k.
 * With one column this is the column itself, which may then end at k. pairs: for bf16 rows, which are read as even and
 * odd elements; within a block the order is then the tier's own, and it is complete. */
enum { ML_GEMV_X_BLOCK = 32 };
typedef struct ml_gemv_x_layout {
    int n, total; /* columns written; columns of a block */
    bool pairs;
} ml_gemv_x_layout;

/* X for the kernels of a row with ML_SUP_BF16_DOT or ML_SUP_F16_DOT: 32-bit words of two steps along k, X(2 w, j) in
 * the lower half and X(2 w + 1, j), or zero past the end, in the upper one. Word w of column j lies at dst[w / 16 *
 * block + w % 16 * word
 * + j * column]. "dot" takes blocks as above, 16 words to a column; "axpy" any words and columns apart, and its x_rs is
 * the distance of words. */
typedef struct ml_gemv_pairs {
    int n; /* columns */
    int64_t block, word, column;
    bool whole_blocks; /* words up to a multiple of 16 are written, zeros past the end */
} ml_gemv_pairs;

typedef struct ml_gemv_impl {
    ml_gemv_block_fn dot[3], axpy[3]; /* [ML_F32..ML_BF16] of W */
    /* In place of dot from outer_cols columns on, up to so many rows, where X has rows without gaps; NULL: none. */
    ml_gemv_block_fn outer[3];
    int outer_cols;
    int64_t outer_rows[3];
    /* With this, dot and axpy take X as pairs of W's dtype, bf16 or f16; src has it, too, k rows and to->n <= 16
     * columns. */
    void (*pack_pairs)(float *dst, const ml_mat *src, int64_t k, const ml_gemv_pairs *to);
    bool pairs_direct; /* with pack_pairs: "dot" takes one column also where it lies, and reads nothing past its end */
    const struct ml_gemv_impl *base; /* has what this table leaves out; NULL: nothing */
    /* Lays out k rows and to.n columns of src from dst, the place of its first column, on. */
    void (*pack_x)(float *dst, const ml_mat *src, int64_t k, ml_gemv_x_layout to);
    /* dst[i * ld + p] = src(i, p) as f32, i < rows, p < k: X for "axpy". */
    void (*pack_w)(float *dst, int64_t ld, const ml_mat *src, int64_t rows, int64_t k);
    /* The same without conversion, dst an array of src's dtype: blocks of a W that no kernel can read in place. */
    void (*collect)(void *dst, int64_t ld, const ml_mat *src, int64_t rows, int64_t k);
    void (*store)(const ml_gemv_store *store);
} ml_gemv_impl;

#endif
