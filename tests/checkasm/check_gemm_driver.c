/* The tiled GEMM's drivers (gemm.c) around a kernel: whole products in both schemes, cut into blocks by caches that are
 * small enough for small problems to need several, by one and by more threads. */
#include "matrix.h"
#include "dispatch/dispatch.h"
#include "dispatch/gemm_layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    int64_t m, n, k, batch;
} shape;

typedef struct product {
    shape size;
    ml_caps caps;
    check_values values;
    ml_dtype dtype_out;
    bool prepacked;            /* B also comes in panels */
    matrix a, b, c, bias, out; /* the problems of the batch below each other */
    check_buffer panels;
    ml_buffer buffers[ML_OP_MAX_IN + ML_OP_MAX_OUT];
    ml_op op;
    ml_plan plan;
} product;

/* The view [batch, rows, columns] of x. */
static ml_view view_of(const matrix *x, ml_buffer *buffer, int64_t batch) {
    const int64_t rows = x->m / batch;
    buffer->host = x->mat.data;
    buffer->size = x->buffer.bytes;
    return (ml_view){.buf = buffer,
                     .shape = {batch, rows, x->n},
                     .strides = {rows * x->mat.rs, x->mat.rs, x->mat.cs},
                     .dtype = x->mat.dtype,
                     .ndim = 3};
}

static layout any_layout(void) {
    return (layout)check_range(0, LAYOUT_COUNT - 1);
}

static void product_alloc(product *p, const ml_kernel_desc *row) {
    const shape *s = &p->size;
    const bool pairs = ml_gemm_k_pack(row) == 2;
    const ml_dtype dtype_a = pairs ? ML_BF16 : check_dtypes[check_range(0, 2)];
    const ml_dtype dtype_b = pairs ? ML_BF16 : check_dtypes[check_range(0, 2)];
    matrix_alloc(&p->a, dtype_a, s->batch * s->m, s->k, any_layout());
    matrix_alloc(&p->b, dtype_b, s->batch * s->k, s->n, p->prepacked ? ROWS : any_layout());
    matrix_alloc(&p->c, check_dtypes[check_range(0, 2)], s->batch * s->m, s->n, any_layout());
    matrix_alloc(&p->bias, check_dtypes[check_range(0, 2)], s->batch * s->m, s->n, any_layout());
    matrix_alloc(&p->out, p->dtype_out, s->batch * s->m, s->n, any_layout());
    matrix_fill(&p->a, p->values);
    matrix_fill(&p->b, p->values);
    matrix_fill(&p->c, p->values);
    matrix_fill(&p->bias, p->values);

    p->op.kind = ML_OP_MATMUL;
    p->op.matmul = (ml_matmul_params){.m = s->m, .n = s->n, .k = s->k, .batch = s->batch, .alpha = 1.0f, .beta = 1.0f};
    if (check_rand() % 2 && !p->prepacked) /* it may be 0 then, and no plan takes panels for a product by 0 */
        p->op.matmul.alpha = 0.5f * (float)check_range(-3, 3);
    p->op.matmul.has_c = check_rand() % 2;
    p->op.matmul.has_bias = check_rand() % 2;
    if (p->op.matmul.has_c && check_rand() % 2)
        p->op.matmul.beta = (float)check_range(1, 3);
    p->op.in[ML_IN_A] = view_of(&p->a, &p->buffers[0], s->batch);
    p->op.in[ML_IN_B] = view_of(&p->b, &p->buffers[1], s->batch);
    p->op.in[ML_IN_C] = view_of(&p->c, &p->buffers[2], s->batch);
    p->op.in[ML_IN_BIAS] = view_of(&p->bias, &p->buffers[3], s->batch);
    p->op.out[0] = view_of(&p->out, &p->buffers[4], s->batch);
    p->op.n_in = 4;
    p->op.n_out = 1;

    p->plan.kernel = row;
    p->plan.block = ml_gemm_blocking(&p->caps, row, s->k);
    if (p->prepacked) {
        check_alloc(&p->panels, (size_t)(s->batch * ml_gemm_panels_bytes(row, s->k, s->n)), 64);
        const ml_pack_args pack = {.kernel = row,
                                   .matrices = p->b.mat.data,
                                   .rows = s->k,
                                   .cols = s->n,
                                   .count = s->batch,
                                   .dtype = dtype_b,
                                   .panels = p->panels.data};
        ml_cpu_pack(NULL, &pack);
        check_guards(&p->panels, "panels");
        p->plan.panels = ML_PANELS_OF_B;
    }
}

static void product_free(product *p) {
    check_free(&p->a.buffer);
    check_free(&p->b.buffer);
    check_free(&p->c.buffer);
    check_free(&p->bias.buffer);
    check_free(&p->out.buffer);
    if (p->prepacked)
        check_free(&p->panels);
}

static void product_run(product *p, int threads) {
    check_buffer scratch;
    const int before = ml_get_num_threads();
    ml_set_num_threads(threads);
    p->plan.scratch_bytes = ml_gemm_scratch_bytes(&p->op, &p->plan, threads);
    check_alloc(&scratch, (size_t)p->plan.scratch_bytes, 64);
    const ml_encode_args args = {.op = &p->op,
                                 .plan = &p->plan,
                                 .scratch = scratch.data,
                                 .panels = p->prepacked ? p->panels.data : NULL,
                                 .label = ""};
    if (ml_cpu_matmul_mlx(&args) != ML_OK)
        check_fail("%d threads: an error", threads);
    check_guards(&scratch, "scratch");
    check_free(&scratch);
    ml_set_num_threads(before);
}

/* Row i counts through the problems of the batch. */
static bool product_check(const product *p, int64_t i, int64_t j) {
    const shape *s = &p->size;
    const ml_matmul_params *params = &p->op.matmul;
    double value = 0.0, magnitude = 0.0;
    for (int64_t step = 0; step < s->k; step++) {
        double term = matrix_value(&p->a.mat, i, step) * matrix_value(&p->b.mat, i / s->m * s->k + step, j);
        value += term;
        magnitude += fabs(term);
    }
    value *= (double)params->alpha;
    magnitude *= fabs((double)params->alpha);
    if (params->has_c) {
        double c = (double)params->beta * matrix_value(&p->c.mat, i, j);
        value += c;
        magnitude += fabs(c);
    }
    if (params->has_bias) {
        double bias = matrix_value(&p->bias.mat, i, j);
        value += bias;
        magnitude += fabs(bias);
    }
    double bound = p->values == CHECK_INTEGERS ? 0.0 : ((double)s->k + 6.0) * 0x1p-24 * magnitude;
    bound += check_rounding(p->out.mat.dtype, fabs(value) + bound);
    double got = matrix_value(&p->out.mat, i, j);
    if (check_close(got, value, bound))
        return true;
    check_fail("(%lld, %lld): %.9g, not %.9g within %.2g; alpha %g beta %g c %d bias %d", (long long)i, (long long)j,
               got, value, bound, (double)params->alpha, (double)params->beta, params->has_c, params->has_bias);
    return false;
}

/* Ways through the driver. Where they depend on how it turns the problem, a product counts for none. */
enum { ONE_BLOCK, SEVERAL_BLOCKS, ONE_BLOCK_PANEL, SEVERAL_BLOCKS_PANEL, SUMS_IN_SLAB, SUMS_IN_OUT, WAYS };
static const char *const way_names[WAYS] = {"blocked, one k block",
                                            "blocked, several k blocks",
                                            "panel, one k block",
                                            "panel, several k blocks",
                                            "blocked, sums between k blocks apart",
                                            "blocked, sums between k blocks in out"};

static void see_ways(const product *p, bool seen[WAYS]) {
    const ml_kernel_desc *row = p->plan.kernel;
    ml_gemm_layout l[2];
    for (int flipped = 0; flipped < 2; flipped++) {
        const ml_gemm_shape oriented = {.m = flipped ? p->size.n : p->size.m,
                                        .n = flipped ? p->size.m : p->size.n,
                                        .k = p->op.matmul.alpha == 0.0f ? 0 : p->size.k,
                                        .batch = p->size.batch,
                                        .mr = row->mr,
                                        .nr = row->nr,
                                        .k_pack = ml_gemm_k_pack(row),
                                        .k_unit = ml_gemm_k_unit(row),
                                        .block = p->plan.block,
                                        .out_is_f32 = p->dtype_out == ML_F32,
                                        .threads = 1};
        ml_gemm_layout_of(&oriented, &l[flipped]);
    }
    if (l[0].scheme != l[1].scheme)
        return;
    const bool several = l[0].k_blocks > 1;
    if (l[0].scheme == ML_GEMM_PANEL) {
        seen[several ? SEVERAL_BLOCKS_PANEL : ONE_BLOCK_PANEL] = true;
    } else {
        seen[several ? SEVERAL_BLOCKS : ONE_BLOCK] = true;
        if (several)
            seen[l[0].partial_sums ? SUMS_IN_SLAB : SUMS_IN_OUT] = true;
    }
}

void check_gemm_driver(const ml_kernel_desc *row) {
    /* Small caches, and smaller ones, with which few rows are many blocks for every kernel. */
    static const ml_caps caps[] = {{.l1_bytes = 8 << 10, .l2_bytes = 32 << 10, .l3_bytes = 64 << 10},
                                   {.l1_bytes = 4 << 10, .l2_bytes = 4 << 10, .l3_bytes = 32 << 10}};
    static const struct {
        shape size;
        int caps;
    } cases[] = {{{200, 150, 200, 1}, 0}, {{40, 300, 200, 1}, 0}, {{300, 17, 31, 1}, 0}, {{64, 64, 64, 2}, 0},
                 {{33, 70, 77, 9}, 0},    {{5, 9, 3, 40}, 0},     {{1, 40, 33, 1}, 0},   {{150, 140, 0, 1}, 0},
                 {{130, 110, 280, 1}, 1}, {{140, 115, 30, 1}, 1}, {{60, 70, 300, 1}, 0}};
    static const int threads[] = {2, 7};
    bool seen[WAYS] = {false};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const shape *s = &cases[i].size;
        for (int round = 0; round < 6; round++) {
            product p = {.size = *s,
                         .caps = caps[cases[i].caps],
                         .values = round % 2 ? CHECK_INTEGERS : CHECK_RANDOM,
                         .dtype_out = check_dtypes[(round + 1) % 3]};
            p.prepacked = round >= 4 && s->k > 0;
            check_begin("%lld products of %lld x %lld x %lld%s, %s", (long long)s->batch, (long long)s->m,
                        (long long)s->n, (long long)s->k, p.prepacked ? " prepacked" : "", check_values_name(p.values));
            product_alloc(&p, row);
            see_ways(&p, seen);
            product_run(&p, 1);
            for (int64_t at = 0; at < p.out.m * p.out.n && product_check(&p, at / p.out.n, at % p.out.n);)
                at++;
            void *first = malloc(p.out.buffer.bytes);
            if (!first) {
                check_fail("out of memory");
            } else {
                memcpy(first, p.out.buffer.data, p.out.buffer.bytes);
                for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
                    matrix_erase(&p.out);
                    product_run(&p, threads[t]);
                    if (memcmp(first, p.out.buffer.data, p.out.buffer.bytes) != 0)
                        check_fail("%d threads: other bits than with one", threads[t]);
                }
                free(first);
            }
            matrix_erase(&p.out);
            matrix_check_erased(&p.out, "out");
            product_free(&p);
        }
    }
    check_begin("ways of the driver");
    for (int way = 0; way < WAYS; way++)
        if (!seen[way])
            check_fail("no product above took: %s", way_names[way]);
}
