/* checkasm: every kernel of the CPU device against its scalar reference, in the manner of dav1d's tool of that name.
 *
 * main() walks ml_cpu_kernels; each row that this machine can run is given to the checker of its (op, family), together
 * with the reference row: the one that needs no ISA feature. A checker covers a kernel kind, so a new row needs no edit
 * here. A signal raised by a kernel (illegal instruction, access beyond a guarded buffer) fails the row by name and the
 * walk goes on. */
#ifndef CHECKASM_H
#define CHECKASM_H

#include "device/cpu/cpu.h"

/* row: the kernel to check; reference: the scalar row of the same op and family (row itself for the scalar one, which
 * is then checked against float64 alone). */
typedef void (*check_fn)(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void check_gemm(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void bench_gemm(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void check_gemm_driver(const ml_kernel_desc *row); /* a part of check_gemm */
void check_gemv(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void bench_gemv(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void check_sdpa(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void bench_sdpa(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void check_softmax(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void bench_softmax(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void check_norm(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void bench_norm(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void check_activate(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void bench_activate(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void check_rope(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void bench_rope(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void check_elementwise(const ml_kernel_desc *row, const ml_kernel_desc *reference);
void bench_elementwise(const ml_kernel_desc *row, const ml_kernel_desc *reference);

/* One counted case. begin names it (printf-style); any check_fail before the next begin makes it a failure. */
void check_begin(const char *format, ...) __attribute__((format(printf, 1, 2)));
void check_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Random numbers from the printed seed. */
uint64_t check_rand(void);
int64_t check_range(int64_t low, int64_t high); /* inclusive */
double check_uniform(void);                     /* [-1, 1) */

/* Memory that ends right before an inaccessible page and is preceded by guard bytes, so that reading or writing past
 * the end raises a signal and writing before the start is seen by check_guards. Contents are a fixed pattern (NaNs in
 * every float dtype). bytes is rounded up so that data is aligned to `align` (a power of two, at most 64): the slack at
 * the end is guarded by pattern. Never fails: exits when memory runs out. */
typedef struct check_buffer {
    unsigned char *data;
    size_t bytes;
    void *map;
    size_t map_bytes;
} check_buffer;
void check_alloc(check_buffer *buffer, size_t bytes, size_t align);
/* Fails the case when a byte around the buffer has changed. */
void check_guards(const check_buffer *buffer, const char *what);
void check_free(check_buffer *buffer);
#define CHECK_PATTERN 0xff

typedef enum check_values {
    CHECK_RANDOM,   /* uniform in [-1, 1) */
    CHECK_INTEGERS, /* -4 ... 4: sums are exact, so every order of summation gives the same bits */
    CHECK_EXTREME,  /* now and then inf, NaN, zeros of both signs, denormals, the dtype's largest finite values */
    CHECK_VALUES_COUNT
} check_values;
const char *check_values_name(check_values values);
/* n elements, `stride` elements apart. */
void check_fill(ml_dtype dtype, void *data, int64_t n, int64_t stride, check_values values);
/* a and b are the same number, or both NaN. */
bool check_same(double a, double b);
/* got is within bound of want; NaN wants NaN, an infinity wants itself. */
bool check_close(double got, double want, double bound);
/* Half a unit in the last place of dtype at |value|: the error of one rounding. */
double check_rounding(ml_dtype dtype, double value);

/* Whether row's table is that of the tier's row of `op`, which checks it: one counted case instead of all again. */
bool check_shares_table(const ml_kernel_desc *row, ml_op_kind op);

/* --bench: the fastest of many runs of fn(arg), as nanoseconds and as work per nanosecond in `unit`. */
void check_bench(const char *what, void (*fn)(void *), void *arg, double work, const char *unit);

#endif
