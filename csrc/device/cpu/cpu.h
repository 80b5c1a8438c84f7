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

/* Element-wise kinds. */
ml_status ml_cpu_binary(const ml_encode_args *args);
ml_status ml_cpu_copy(const ml_encode_args *args);
ml_status ml_cpu_fill(const ml_encode_args *args);

/* Scalar activation, the reference of the vector ones. */
float ml_activate(ml_activation act, float x);

/* ---- the tiled GEMM ------------------------------------------------------------------------------------------------
 * One signature per kernel kind; a tier is one file gemm_<isa>.c and rows in gemm_kernels.inc. */

/* acc[mr][nr] (f32, row-major, ld = nr) = sum over k of a[p*mr + i] * b[p*nr + j]; packed panels are 64-byte aligned, and
 * zero-padded to mr and nr. */
typedef struct ml_ukr_tile {
    int64_t m, n;        /* valid part of the tile, m <= mr, n <= nr */
    float alpha, beta;   /* out = act(alpha * acc + beta * c_in + bias) */
    ml_mat c_in, bias, out;
    ml_activation activation;
    float *acc_io;       /* non-NULL: f32 partial sums [mr][nr] carried between k blocks */
    bool acc_load, acc_store; /* load: start from acc_io; store: write sums to acc_io and skip the epilogue */
} ml_ukr_tile;
typedef void (*ml_gemm_ukr_fn)(int64_t k, const float *a, const float *b, const ml_ukr_tile *tile);

/* Packs an mr x k (or k x nr) strip into a panel of f32: dst[p*width + i] = src(i, p), i < count <= width, zero above. */
typedef void (*ml_gemm_pack_fn)(float *dst, const ml_mat *src, int64_t count, int64_t k);

typedef struct ml_gemm_impl {
    ml_gemm_ukr_fn ukr;
    ml_gemm_pack_fn pack_a, pack_b; /* src rows of A; columns of B given as rows (strides swapped) */
    int mr, nr;
} ml_gemm_impl;

/* ---- vector and small-N -------------------------------------------------------------------------------------------- */

/* y[i*ys + j] (f32) += / = sum over p < k of w(i, p) * x[j*k + p] for `rows` rows and n <= 16 columns; x is f32, packed
 * column by column; w is f32, f16 or bf16 with unit stride along k ("dot") ... or along rows ("axpy"); gemv.c explains
 * which is used when. */
typedef struct ml_gemv_impl {
    const char *isa;
    const void *table; /* private to gemv.c */
} ml_gemv_impl;

#endif
