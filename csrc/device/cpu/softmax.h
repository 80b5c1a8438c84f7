/* Softmax on the CPU: kernels per ISA tier over scores in f32, and what the drivers share.
 *
 * A score is held "staged": x itself, with `hidden` (the infinity that the exponential maps to zero) in place of what a
 * boolean mask or causality hides, or scale * x + mask for an additive mask. Its weight is 2^((score - base) * factor -
 * shift), relative to a reference score: the row's leading one, which is the largest, or the smallest where the scale,
 * and so the factor, is negative; or that of the row's head, which is as good unless the rest rises far above it. */
#ifndef ML_CPU_SOFTMAX_H
#define ML_CPU_SOFTMAX_H

#include "device/cpu/elementwise.h"
#include "device/cpu/vmath_impl.h"
#include "dispatch/softmax_layout.h"

/* How scores become weights. shift: an integer of at most ML_SOFTMAX_SHIFT_LIMIT in magnitude, and the base 0; or 0.
 * hidden: -infinity, +infinity for a negative factor. */
typedef struct ml_softmax_weight {
    float base, shift, factor, hidden;
} ml_softmax_weight;
#define ML_SOFTMAX_SHIFT_LIMIT 0x1p16f

/* Weights up to 2^ML_SOFTMAX_HIGHEST are right. With a greater one among them their sum either is not between 0 and
 * ML_SOFTMAX_SUM_LIMIT, and another reference is to be taken, or right too. The limit leaves room for the weights of
 * 4096 scores, and in f32 for the sums of 2^51 such runs. */
#define ML_SOFTMAX_HIGHEST 64.0f
#define ML_SOFTMAX_SUM_LIMIT 0x1p76f

/* Scores of several columns side by side: column c of row r at s[r * ld + c]. Kernels work on whole groups of
 * ML_SOFTMAX_GROUP columns; `cols` is a multiple of it, and what lies in columns nobody needs does not matter. */
#define ML_SOFTMAX_GROUP 16
typedef struct ml_softmax_tile {
    const float *s;
    int64_t ld, rows, cols;
} ml_softmax_tile;

typedef struct ml_softmax_impl {
    /* s[i] = hidden where seen[i] is 0. */
    void (*hide)(float *s, const uint8_t *seen, int64_t n, float hidden);
    /* s[i] = scale * s[i] + mask[i], -infinity where mask[i] is; by dtype of the mask. */
    void (*add[3])(float *s, const void *mask, int64_t n, float scale);
    /* The largest of n scores, or the smallest; NaNs are passed over; the opposite infinity when there is none. Here
     * and of exp: by dtype of the scores. */
    float (*largest[3])(const void *s, int64_t n);
    float (*smallest[3])(const void *s, int64_t n);
    /* e[i] = weight of s[i]; returns their sum. e may be s; sum_exp only sums. Weights below 2^-126 may become 0. */
    float (*exp[3])(float *e, const void *s, int64_t n, const ml_softmax_weight *w);
    float (*sum_exp)(const float *s, int64_t n, const ml_softmax_weight *w);
    /* dst[i] = e[i] * by, by dtype of dst; dst may be e. */
    void (*scale[3])(void *dst, const float *e, int64_t n, float by);
    /* dst[i] = (s[i] - base) * unit - shift, by dtype of dst; dst may be s. */
    void (*log[3])(void *dst, const float *s, int64_t n, const float base_unit_shift[3]);

    /* Column by column: best[c] = the larger (smaller) of best[c] and the scores; sum[c] += weights with base[c],
     * written to e (row stride e_ld; NULL: nowhere), which may be t->s. */
    void (*columns_largest)(float *best, const ml_softmax_tile *t);
    void (*columns_smallest)(float *best, const ml_softmax_tile *t);
    void (*columns_exp)(float *sum, float *e, int64_t e_ld, const ml_softmax_tile *t, const float *base, float factor);
    /* dst[c] = e[c] * by[c]; dst may be e; n any. */
    void (*columns_scale[3])(void *dst, const float *e, const float *by, int64_t n);

    bool shifts; /* weights may have a shift in place of a base, which costs nothing and rounds nothing */
    const ml_elementwise_impl *convert; /* loads and stores of any dtype and stride */
    const ml_vmath_impl *math;          /* the tier's elementary functions, for the tests */
} ml_softmax_impl;

/* A planned softmax as its tasks see it. */
typedef struct ml_softmax_job {
    const ml_softmax_impl *impl;
    const ml_softmax_params *p;
    ml_softmax_layout layout;
    ml_view x, mask, out;                /* last dim: the axis */
    int64_t x_size, mask_size, out_size; /* bytes of an element */
    int64_t xs, ms, os;                  /* strides along the axis */
    float scale;                         /* `add` multiplies by it */
    float factor, unit, hidden;          /* unit: score differences in units of the logarithm */
    bool adds;                           /* scores are scale * x + mask (or + 0) */
    bool direct;                         /* scores are x where it lies, of any dtype */
    bool large;                          /* operands that no cache holds */
    int64_t tiles, tiles_per_task;       /* COLUMNS */
    char *scratch;
} ml_softmax_job;

/* One row, or the first column of several: addresses of element 0, and how many of its columns causality leaves. */
typedef struct ml_softmax_line {
    char *x, *mask, *out;
    int64_t n;
} ml_softmax_line;

static inline float *ml_softmax_worker_scratch(const ml_softmax_job *job, int worker) {
    return (float *)(void *)(job->scratch + job->layout.shared_bytes + worker * job->layout.worker_bytes);
}

/* The leading score when there is none yet, and the better of two. */
static inline float ml_softmax_better(const ml_softmax_job *job, float a, float b) {
    return job->hidden < 0.0f ? (a > b ? a : b) : (a < b ? a : b);
}

/* dst[i] = score start + i of the line, i < n, in f32. */
void ml_softmax_stage(const ml_softmax_job *job, float *dst, const ml_softmax_line *line, int64_t start, int64_t n);
/* Scores of n plain values s, whose mask begins at `mask` and has `stride`. */
void ml_softmax_apply_mask(const ml_softmax_job *job, float *s, const char *mask, int64_t stride, int64_t n);
/* What follows from the sum of a row's weights (or of a column's): the factor of the weights. */
static inline float ml_softmax_inverse(float sum) {
    return sum == 0.0f ? 0.0f : 1.0f / sum; /* nothing visible, or all of it -infinity: zeros */
}
/* Writes n elements from f32 at any stride, or one value to all. */
void ml_softmax_store(const ml_softmax_job *job, char *out, int64_t stride, const float *src, int64_t n);
void ml_softmax_fill(const ml_softmax_job *job, char *out, int64_t stride, int64_t n, float value);
/* Columns start .. end of a row with a NaN among its weights: NaN at the visible ones. */
void ml_softmax_poison(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t end);
/* How many columns of a row causality leaves to query q: those up to q + query_offset. */
int64_t ml_softmax_visible(const ml_softmax_job *job, int64_t q);
/* What a column that takes no part becomes: 0, or its logarithm. */
static inline float ml_softmax_nothing(const ml_softmax_job *job) {
    return job->p->log ? -__builtin_inff() : 0.0f;
}

/* Tasks over groups of columns that lie side by side (softmax_columns.c). */
void ml_softmax_columns_task(void *arg, int64_t task, int worker);

#endif
