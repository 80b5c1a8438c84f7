/* The "gemv" backend: products with a skinny operand (at most 16 columns at a time), bound by one read of the weights.
 *
 * dispatch/gemv_layout.h cuts the work. A task takes rows of one item (or a few small items whole) in panels: the sums
 * of a panel are formed in f32, then the epilogue stores them. When M is too short to feed threads, K is cut too and
 * the partial sums are added in order afterwards. The columns are used in place where a kernel can read them
 * there, else packed on the task's stack or, once for all tasks, in scratch.
 *
 * Tasks are dealt out in contiguous runs, one run for each worker, so that a worker streams through memory and finds
 * its part of the weights in its own cache when the same call comes again; who has finished takes tasks from the
 * others. Which worker runs a task never changes a result. */
#include "device/cpu/cpu.h"
#include "dispatch/gemv_layout.h"

#include <stdatomic.h>

enum {
    /* The columns that one pass over the rows takes, at most 8, stay in the nearest cache for one k block. */
    DOT_X_FLOATS = 4096,
    DOT_X_COLS = 8,
    DOT_K_ONE = 16384,  /* one column */
    OUTER_K = 256,      /* rows of X, whose vectors stay in half of the nearest cache */
    AXPY_K_ONE = 16,    /* steps of k per pass over the sums: one column */
    AXPY_K_MANY = 128,  /* more columns: the sums cost more than the weights */
    PACK_DOT_ROWS = 24, /* of a collected block: a multiple of most tiles' rows */
    PACK_AXPY_ROWS = 192,
    PACK_TASK_FLOATS = 2048,
    PACK_PARALLEL_FLOATS = 8192,
    STREAM_HALF_BYTES = 512 << 10,
    STREAM_F32_BYTES = 24 << 20,
    STREAM_DOT_ROW = 4096,
    STREAM_AXPY_ROW = 8192,
    MAX_RUNS = 64
};

typedef struct run {
    const ml_encode_args *args;
    const ml_gemv_impl *impl, *base; /* base: for what impl leaves out */
    bool pairs;                      /* the columns are packed as 16-bit pairs */
    bool pairs_direct;               /* the one column is such pairs, used where it lies */
    bool outer, outer_direct;        /* kernels that take rows of X; these lie as they want them */
    ml_gemv_layout l;
    int64_t first, count; /* items of this pass */
    float *x, *partial;
    int64_t pack_k, pack_chunks; /* rows of B that a packing task takes, and such tasks of an item */
} run;

/* Neighbouring columns of an item that lie at one stride in every operand. */
typedef struct segment {
    int first, cols;
    ml_mat out, c_in, bias; /* from column `first` */
} segment;

typedef struct item {
    ml_gemm_problem p;      /* of the item's first column */
    ml_mat b[ML_GEMV_COLS]; /* each column's source */
    int cols, n_segments;
    segment segments[ML_GEMV_COLS];
} item;

/* ---- items ---- */

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static ml_mat mat_at(const ml_mat *m, int64_t i, int64_t j) {
    ml_mat r = *m;
    if (r.data)
        r.data = (char *)r.data + (i * m->rs + j * m->cs) * (int64_t)ml_dtype_size_of(m->dtype);
    return r;
}

/* next is one element further along the columns of m's segment of `cols` columns; a segment of one column learns its
 * stride. */
static bool follows(ml_mat *m, int cols, const ml_mat *next) {
    if (!m->data)
        return !next->data;
    int64_t bytes = (char *)next->data - (char *)m->data, size = (int64_t)ml_dtype_size_of(m->dtype);
    if (bytes % (size * cols) != 0)
        return false;
    if (cols == 1)
        m->cs = bytes / size;
    return m->cs * cols * size == bytes;
}

static void add_columns(item *it, const ml_gemm_problem *p, int64_t first, int cols) {
    segment s = {it->cols, cols, mat_at(&p->out, 0, first), mat_at(&p->c_in, 0, first), mat_at(&p->bias, 0, first)};
    for (int j = 0; j < cols; j++)
        it->b[it->cols + j] = mat_at(&p->b, 0, first + j);
    it->cols += cols;
    if (cols == 1 && it->n_segments > 0) {
        segment *last = &it->segments[it->n_segments - 1], grown = *last;
        if (follows(&grown.out, last->cols, &s.out) && follows(&grown.c_in, last->cols, &s.c_in) &&
            follows(&grown.bias, last->cols, &s.bias)) {
            grown.cols++;
            *last = grown;
            return;
        }
    }
    it->segments[it->n_segments++] = s;
}

/* The matrix read or written from its last row (by_rows) or column of `count` to its first. */
static void turn_back(ml_mat *m, bool by_rows, int64_t count) {
    int64_t *stride = by_rows ? &m->rs : &m->cs;
    if (m->data)
        m->data = (char *)m->data + (count - 1) * *stride * (int64_t)ml_dtype_size_of(m->dtype);
    *stride = -*stride;
}

static void problem_at(const run *r, int64_t batch, ml_gemm_problem *p) {
    ml_gemm_problem_at(r->args->op, r->args->plan, batch, p);
    if (r->l.flip_k && r->l.k > 0) {
        turn_back(&p->a, false, r->l.k);
        turn_back(&p->b, true, r->l.k);
    }
    if (r->l.flip_m) {
        ml_mat *along_m[] = {&p->a, &p->out, &p->c_in, &p->bias};
        for (int i = 0; i < 4; i++)
            turn_back(along_m[i], true, r->l.m);
    }
}

static void item_at(const run *r, int64_t index, item *it) {
    const ml_gemv_layout *l = &r->l;
    int64_t batch = index / l->blocks * l->share;
    int64_t col = index % l->blocks * ML_GEMV_COLS, end = min64(col + ML_GEMV_COLS, l->cols);
    batch += col / l->n;
    problem_at(r, batch, &it->p);
    it->cols = it->n_segments = 0;
    ml_gemm_problem p = it->p;
    for (int64_t j = col % l->n; col < end; j = 0) {
        int cols = (int)min64(l->n - j, end - col);
        add_columns(it, &p, j, cols);
        col += cols;
        if (col < end)
            problem_at(r, ++batch, &p);
    }
    /* A dimension of one element has no stride. */
    if (l->m == 1)
        it->p.a.rs = 1;
    if (l->k == 1)
        it->p.a.cs = 1;
}

/* ---- products ---- */

/* Columns as a kernel takes them. */
typedef struct columns {
    float *x;
    int64_t rs, cs; /* "axpy" and "outer" */
    float *room;    /* "outer": for the rows of a block that must be copied */
} columns;

/* How item's packed columns lie from x on. For "axpy" in the order of the source, so that packing copies runs. */
static columns packed_at(const run *r, const item *it, float *x) {
    const ml_mat *b = &it->p.b;
    if (r->l.share == 1 && it->cols > 1 && b->cs == 1 && b->rs != 1)
        return (columns){x, it->cols, 1, NULL};
    return (columns){x, 1, r->l.ldx, NULL};
}

/* Packs rows [k, k_end) of the item's columns as pairs; k is a multiple of ML_GEMV_X_BLOCK. */
static void pack_pairs(const run *r, const item *it, const columns *to, int64_t k, int64_t k_end) {
    enum { BLOCK = ML_GEMV_X_BLOCK / 2 };
    const bool axpy = r->l.order == ML_GEMV_AXPY;
    const int at_once = r->l.share == 1 ? it->cols : 1;
    for (int j = 0; j < it->cols; j += at_once) {
        const ml_mat b = mat_at(&it->b[j], k, 0);
        if (axpy)
            r->impl->pack_pairs(to->x + k / 2 * to->rs + j * to->cs, &b, k_end - k,
                                &(ml_gemv_pairs){at_once, BLOCK * to->rs, to->rs, to->cs, false});
        else
            r->impl->pack_pairs(to->x + k / 2 * it->cols + j * BLOCK, &b, k_end - k,
                                &(ml_gemv_pairs){at_once, (int64_t)BLOCK * it->cols, 1, BLOCK, true});
    }
}

/* dst = rows [k, k_end) of the item's columns, which lie side by side, without gaps. */
static void pack_rows(const run *r, const item *it, float *dst, int64_t k, int64_t k_end) {
    const ml_mat b = mat_at(&it->b[0], k, 0), flat = {b.data, 0, 1, b.dtype};
    if (b.rs == it->cols)
        r->base->pack_w(dst, 0, &flat, 1, (k_end - k) * it->cols);
    else
        r->base->pack_w(dst, it->cols, &b, k_end - k, it->cols);
}

/* Packs rows [k, k_end) of the item's columns; k is a multiple of ML_GEMV_X_BLOCK. */
static void pack_columns(const run *r, const item *it, const columns *to, int64_t k, int64_t k_end) {
    if (r->pairs) {
        pack_pairs(r, it, to, k, k_end);
        return;
    }
    if (r->l.order == ML_GEMV_AXPY) {
        if (to->cs == 1) {
            pack_rows(r, it, to->x + k * to->rs, k, k_end);
            return;
        }
        for (int j = 0; j < it->cols; j++) {
            const ml_mat b = mat_at(&it->b[j], k, 0), column = {b.data, 0, b.rs, b.dtype};
            r->base->pack_w(to->x + k + j * to->cs, 0, &column, 1, k_end - k);
        }
        return;
    }
    const bool pairs = it->p.a.dtype == ML_BF16;
    if (it->cols == 1 && !pairs) { /* blocks of one column are a run */
        const ml_mat b = mat_at(&it->b[0], k, 0), column = {b.data, 0, b.rs, b.dtype};
        r->base->pack_w(to->x + k, 0, &column, 1, k_end - k);
        for (; k_end % ML_GEMV_X_BLOCK != 0; k_end++)
            to->x[k_end] = 0.0f;
        return;
    }
    const int at_once = r->l.share == 1 ? it->cols : 1;
    for (int j = 0; j < it->cols; j += at_once) {
        const ml_mat b = mat_at(&it->b[j], k, 0);
        r->base->pack_x(to->x + k * it->cols + j * ML_GEMV_X_BLOCK, &b, k_end - k,
                        (ml_gemv_x_layout){at_once, it->cols, pairs});
    }
}

/* The item's columns; stack holds ML_GEMV_STACK_X floats. Of what is packed here only rows [k, k_end). */
static columns columns_of(const run *r, int64_t index, const item *it, float *stack, int64_t k, int64_t k_end) {
    const ml_gemv_layout *l = &r->l;
    if (l->skip_product)
        return (columns){.x = stack};
    if (l->x_direct || r->pairs_direct || r->outer)
        return (columns){it->b[0].data, it->p.b.rs, it->p.b.cs, stack};
    if (!l->x_stack)
        return packed_at(r, it, r->x + (index - r->first) * l->ldx * min64(l->cols, ML_GEMV_COLS));
    const columns x = packed_at(r, it, stack);
    pack_columns(r, it, &x, k, k_end);
    return x;
}

typedef struct span {
    int64_t row, rows, k, k_end;
} span;

/* Whether W is worth fetching ahead: not when it may well be in a cache that delivers it fast enough without. "dot"
 * goes through memory row by row, and long rows are good streams by themselves; "axpy" reads a short piece of each of
 * many rows, and where these are short too they follow closely. */
static bool streams(const run *r, const ml_mat *a) {
    const int64_t size = (int64_t)ml_dtype_size_of(a->dtype), bytes = r->l.m * r->l.k * size;
    if (bytes <= (size == 2 ? STREAM_HALF_BYTES : STREAM_F32_BYTES))
        return false;
    if (r->l.order == ML_GEMV_AXPY)
        return r->l.m * size >= STREAM_AXPY_ROW;
    const int64_t gap = (a->rs - r->l.k) * size;
    return r->l.k * size <= STREAM_DOT_ROW && gap >= 0 && gap < 64;
}

/* How a panel is taken block by block. */
typedef struct block_plan {
    ml_gemv_block_fn fn;
    const columns *x;
    int64_t x_step, k_step; /* floats of X for one step of k; most steps of a block */
    float *x_rows;          /* OUTER_K rows of X that "outer" cannot take where they lie */
} block_plan;

/* Of X, what the kernel takes for steps [k, k + steps). */
static const float *x_at(const run *r, const item *it, const block_plan *plan, int64_t k, int64_t steps) {
    if (!r->outer || r->outer_direct)
        return plan->x->x + (r->pairs ? k / 2 : k) * plan->x_step;
    pack_rows(r, it, plan->x_rows, k, k + steps);
    return plan->x_rows;
}

/* The sums of one panel whose weights have gaps: block by block of what fits the task's stack, the elements put side by
 * side as they are, so that the kernels do what they do for weights without gaps. b: all but the block itself. */
static void collected(const run *r, const item *it, const block_plan *plan, span s, ml_gemv_block *b) {
    char packed[ML_GEMV_PACK_BYTES] __attribute__((aligned(64)));
    const ml_mat *a = &it->p.a;
    const bool axpy = r->l.order == ML_GEMV_AXPY;
    const int64_t most = ML_GEMV_PACK_BYTES / (int64_t)ml_dtype_size_of(a->dtype);
    int64_t rows = PACK_DOT_ROWS, steps = min64(plan->k_step, most / rows / ML_GEMV_X_PAD * ML_GEMV_X_PAD);
    if (axpy) {
        steps = min64(plan->k_step, most / PACK_AXPY_ROWS);
        rows = most / steps;
    }
    float *y = b->y;
    b->w = packed;
    b->stream = false;
    for (int64_t row = 0; row < s.rows; row += rows) {
        b->rows = min64(rows, s.rows - row);
        b->y = y + row * (axpy ? 1 : b->n);
        for (int64_t k = s.k; k < s.k_end; k += b->k) {
            b->k = min64(steps, s.k_end - k);
            b->x = x_at(r, it, plan, k, b->k);
            b->accumulate = k > s.k;
            ml_mat w = mat_at(a, s.row + row, k);
            if (axpy)
                w = (ml_mat){w.data, w.cs, w.rs, w.dtype};
            b->ldw = axpy ? rows : steps;
            r->base->collect(packed, b->ldw, &w, axpy ? b->k : b->rows, axpy ? b->rows : b->k);
            plan->fn(b);
        }
    }
}

/* y = the sums of one panel. */
static void products(const run *r, const item *it, const columns *x, span s, float *y) {
    const ml_mat *a = &it->p.a;
    const int n = it->cols;
    if (r->l.skip_product) {
        for (int64_t i = 0; i < s.rows * n; i++)
            y[i] = 0.0f;
        return;
    }
    const bool axpy = r->l.order == ML_GEMV_AXPY;
    const bool copied = r->outer && !r->outer_direct;
    ml_gemv_block b = {.ldw = axpy ? a->cs : a->rs,
                       .x_rs = copied ? n : x->rs,
                       .x_cs = x->cs,
                       .y = y,
                       .ldy = s.rows,
                       .rows = s.rows,
                       .n = n};
    _Static_assert(OUTER_K * ML_GEMV_COLS <= ML_GEMV_STACK_X, "room for rows of X");
    b.stream = streams(r, a);
    const int64_t x_floats = (int64_t)(r->pairs ? 2 : 1) * DOT_X_FLOATS; /* k steps of all columns */
    const int64_t step = r->outer ? OUTER_K
                         : axpy   ? (n == 1 ? AXPY_K_ONE : AXPY_K_MANY)
                         : n == 1 ? DOT_K_ONE
                                  : x_floats / min64(n, DOT_X_COLS) / ML_GEMV_X_PAD * ML_GEMV_X_PAD;
    const block_plan plan = {.fn = (r->outer ? r->impl->outer
                                    : axpy   ? r->impl->axpy
                                             : r->impl->dot)[a->dtype],
                             .x = x,
                             .x_step = axpy || r->outer ? x->rs : n, /* "dot": within whole blocks */
                             .k_step = step,
                             .x_rows = x->room};
    if (r->l.pack) {
        collected(r, it, &plan, s, &b);
        return;
    }
    for (int64_t k = s.k; k < s.k_end; k += b.k) {
        ml_mat w = mat_at(a, s.row, k);
        b.w = w.data;
        b.k = min64(step, s.k_end - k);
        b.x = x_at(r, it, &plan, k, b.k);
        b.accumulate = k > s.k;
        plan.fn(&b);
    }
}

static void finish(const run *r, const item *it, int64_t row, int64_t rows, const float *y) {
    const bool axpy = r->l.order == ML_GEMV_AXPY;
    for (int i = 0; i < it->n_segments; i++) {
        const segment *g = &it->segments[i];
        ml_gemv_store s = {.alpha = it->p.alpha,
                           .beta = it->p.beta,
                           .activation = it->p.activation,
                           .c_in = mat_at(&g->c_in, row, 0),
                           .bias = mat_at(&g->bias, row, 0),
                           .out = mat_at(&g->out, row, 0)};
        if (axpy) {
            s.y = y + g->first * rows;
            s.ldy = rows;
            s.outer = g->cols;
            s.inner = rows;
            ml_mat *m[] = {&s.c_in, &s.bias, &s.out};
            for (int j = 0; j < 3; j++)
                *m[j] = (ml_mat){m[j]->data, m[j]->cs, m[j]->rs, m[j]->dtype};
        } else {
            s.y = y + g->first;
            s.ldy = it->cols;
            s.outer = rows;
            s.inner = g->cols;
        }
        r->base->store(&s);
    }
}

/* Panels of `rows` rows of an item with n columns: as few as possible, and alike. */
static int64_t panel_rows(int64_t rows, int n) {
    const int64_t most = ML_GEMV_PANEL_FLOATS / n / 64 * 64, panels = (rows + most - 1) / most;
    return panels <= 1 ? rows : ((rows + panels - 1) / panels + 63) / 64 * 64;
}

/* ---- tasks ---- */

static void pack_task(void *arg, int64_t task, int worker) {
    (void)worker;
    const run *r = arg;
    const int64_t index = r->first + task / r->pack_chunks, k = task % r->pack_chunks * r->pack_k;
    item it;
    item_at(r, index, &it);
    const columns x = packed_at(r, &it, r->x + (index - r->first) * r->l.ldx * min64(r->l.cols, ML_GEMV_COLS));
    pack_columns(r, &it, &x, k, min64(k + r->pack_k, r->l.k));
}

/* Rows [row, end) of an item with all of K. */
static void whole_rows(const run *r, int64_t index, int64_t row, int64_t end) {
    float stack[ML_GEMV_STACK_X] __attribute__((aligned(64)));
    float y[ML_GEMV_PANEL_FLOATS] __attribute__((aligned(64)));
    item it;
    item_at(r, index, &it);
    const columns x = columns_of(r, index, &it, stack, 0, r->l.k);
    for (const int64_t step = panel_rows(end - row, it.cols); row < end; row += step) {
        int64_t rows = min64(step, end - row);
        products(r, &it, &x, (span){row, rows, 0, r->l.k}, y);
        finish(r, &it, row, rows, y);
    }
}

static void whole_task(void *arg, int64_t task, int worker) {
    (void)worker;
    const run *r = arg;
    const ml_gemv_layout *l = &r->l;
    if (l->row_tasks > 1) {
        const int64_t row_task = task % l->row_tasks;
        whole_rows(r, r->first + task / l->row_tasks, ml_gemv_first_row(l, row_task),
                   ml_gemv_first_row(l, row_task + 1));
        return;
    }
    int64_t index = r->first + task * l->items_per_task, end = min64(index + l->items_per_task, r->first + r->count);
    for (; index < end; index++)
        whole_rows(r, index, 0, l->m);
}

/* Partial sums of item `index` (of this pass) over one chunk of K, panels one after another. */
static float *partial_of(const run *r, int64_t index, int64_t chunk) {
    return r->partial + (index * r->l.k_chunks + chunk) * r->l.m * min64(r->l.cols, ML_GEMV_COLS);
}

static void partial_task(void *arg, int64_t task, int worker) {
    (void)worker;
    const run *r = arg;
    const ml_gemv_layout *l = &r->l;
    /* Chunks vary fastest where rows are short: neighbouring tasks then read neighbouring memory along k. */
    int64_t chunk = task % l->k_chunks, row_task = task / l->k_chunks % l->row_tasks;
    int64_t index = task / l->k_chunks / l->row_tasks;
    float stack[ML_GEMV_STACK_X] __attribute__((aligned(64)));
    item it;
    item_at(r, r->first + index, &it);
    float *y = partial_of(r, index, chunk);
    int64_t k = chunk * l->k_per_chunk, k_end = min64(k + l->k_per_chunk, l->k);
    const columns x = columns_of(r, r->first + index, &it, stack, k, k_end);
    int64_t row = ml_gemv_first_row(l, row_task), end = ml_gemv_first_row(l, row_task + 1);
    for (const int64_t step = panel_rows(end - row, it.cols); row < end; row += step) {
        int64_t rows = min64(step, end - row);
        products(r, &it, &x, (span){row, rows, k, k_end}, y + row * it.cols);
    }
}

static void reduce_task(void *arg, int64_t task, int worker) {
    (void)worker;
    const run *r = arg;
    const ml_gemv_layout *l = &r->l;
    int64_t index = task / l->row_tasks;
    item it;
    item_at(r, r->first + index, &it);
    int64_t row = ml_gemv_first_row(l, task % l->row_tasks), end = ml_gemv_first_row(l, task % l->row_tasks + 1);
    for (const int64_t step = panel_rows(end - row, it.cols); row < end; row += step) {
        int64_t rows = min64(step, end - row);
        float *sum = partial_of(r, index, 0) + row * it.cols;
        for (int64_t chunk = 1; chunk < l->k_chunks; chunk++) {
            const float *more = partial_of(r, index, chunk) + row * it.cols;
            for (int64_t i = 0; i < rows * it.cols; i++)
                sum[i] += more[i];
        }
        finish(r, &it, row, rows, sum);
    }
}

/* ---- who runs which task ---- */

typedef struct task_run {
    _Alignas(64) _Atomic int64_t next;
    int64_t end;
} task_run;

typedef struct deal {
    ml_task_fn fn;
    void *arg;
    int n;
    task_run runs[MAX_RUNS];
} deal;

static void deal_task(void *arg, int64_t task, int worker) {
    (void)task;
    deal *d = arg;
    for (int i = 0; i < d->n; i++) {
        task_run *own = &d->runs[(worker + i) % d->n];
        while (atomic_load_explicit(&own->next, memory_order_relaxed) < own->end) {
            int64_t t = atomic_fetch_add_explicit(&own->next, 1, memory_order_relaxed);
            if (t < own->end)
                d->fn(d->arg, t, worker);
        }
    }
}

/* As ml_parallel, or ml_parallel_brief. Tasks are claimed in contiguous runs, the run of a worker's number first: the
 * pool's own order keeps two threads to their parts of the weights, but not more. */
static void parallel_runs(const run *r, int64_t tasks, ml_task_fn fn) {
    void *arg = (void *)(uintptr_t)r;
    int64_t n = min64(min64(tasks, ml_get_num_threads()), MAX_RUNS);
    if (n <= 1) {
        for (int64_t t = 0; t < tasks; t++)
            fn(arg, t, 0);
        return;
    }
    deal d;
    d.fn = fn;
    d.arg = arg;
    d.n = (int)n;
    for (int64_t i = 0; i < n; i++) {
        atomic_init(&d.runs[i].next, tasks * i / n);
        d.runs[i].end = tasks * (i + 1) / n;
    }
    (r->l.brief ? ml_parallel_brief : ml_parallel)(n, deal_task, &d);
}

/* Packs the columns of a pass, on several threads where that takes longer than waking them. */
static void pack_pass(run *r) {
    const int64_t cols = min64(r->l.cols, ML_GEMV_COLS);
    r->pack_k = (PACK_TASK_FLOATS / cols / ML_GEMV_X_BLOCK + 1) * ML_GEMV_X_BLOCK;
    r->pack_chunks = (r->l.k + r->pack_k - 1) / r->pack_k;
    const int64_t tasks = r->count * r->pack_chunks;
    if (r->l.k * cols * r->count >= PACK_PARALLEL_FLOATS) {
        parallel_runs(r, tasks, pack_task);
        return;
    }
    for (int64_t task = 0; task < tasks; task++)
        pack_task(r, task, 0);
}

/* Rows of X without gaps, each a vector, no matter how far apart; but rows a multiple of 4 KiB apart would compete for
 * the same cache sets, so those are copied, as are those that are not f32. */
static void choose_outer(run *r) {
    const ml_gemv_layout *l = &r->l;
    ml_gemm_problem p;
    problem_at(r, 0, &p);
    r->outer = r->impl->outer[p.a.dtype] && l->order == ML_GEMV_DOT && l->share == 1 && l->blocks == 1 &&
               l->cols >= r->impl->outer_cols && l->m <= r->impl->outer_rows[p.a.dtype] && p.b.cs == 1;
    r->outer_direct = r->outer && p.b.dtype == ML_F32 && (p.b.rs % 1024 != 0 || p.b.rs == 0);
}

ml_status ml_cpu_matmul_gemv(const ml_encode_args *args) {
    run r = {.args = args, .impl = args->plan->kernel->impl};
    r.base = r.impl->base ? r.impl->base : r.impl;
    ml_gemv_layout_of(args->op, args->plan->transposed, &r.l);
    r.pairs = r.impl->pack_pairs != NULL;
    const ml_gemv_layout *l = &r.l;
    r.pairs_direct = r.pairs && r.impl->pairs_direct && l->order == ML_GEMV_DOT && l->x_run;
    if (l->items == 0 || l->m == 0)
        return ML_OK;
    choose_outer(&r);
    r.x = args->scratch;
    r.partial = r.x + l->x_floats;
    const bool pack = !l->skip_product && !l->x_direct && !l->x_stack && !r.pairs_direct && !r.outer;
    for (r.first = 0; r.first < l->items; r.first += r.count) {
        r.count = min64(l->items_per_pass, l->items - r.first);
        if (pack)
            pack_pass(&r);
        if (l->k_chunks > 1) {
            parallel_runs(&r, r.count * l->row_tasks * l->k_chunks, partial_task);
            parallel_runs(&r, r.count * l->row_tasks, reduce_task);
        } else {
            parallel_runs(&r, (r.count + l->items_per_task - 1) / l->items_per_task * l->row_tasks, whole_task);
        }
    }
    return ML_OK;
}
