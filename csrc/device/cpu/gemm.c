/* The tiled GEMM, backend "mlx": drivers around the micro-kernels of a tier.
 *
 * The blocked scheme is the five-loop algorithm of Goto and van de Geijn ("Anatomy of High-Performance Matrix
 * Multiplication", 2008) as arranged by BLIS (Van Zee and van de Geijn, 2015), with the operands
 * that need it packed by all threads together before they compute together; the panel scheme keeps all of A at hand,
 * packed or where it lies, and streams B past it. docs/gemm.md.
 *
 * Every element of the result is a sum over k blocks, in order, of a sum over k, in order. Where blocks are cut depends
 * on k and the plan only, so any split of rows and columns over threads gives the same bits. */
#include "device/cpu/cpu.h"
#include "dispatch/gemm_layout.h"

#include <stdlib.h>

/* Nominal speed of one thread, to size tasks: products of words (of kernels that do not say) and copied elements per
 * nanosecond, and one problem's fixed cost. */
#define WORDS_PER_NS 40
#define COPIES_PER_NS 4.0
#define PROBLEM_NS 100.0
/* Less work than this stays on the caller: waking a thread and waiting for it would eat the gain. */
#define SERIAL_NS 25000.0
/* Tasks of one parallel section: small enough to balance the threads, large enough to hide the hand-out. */
#define TASK_NS 20000.0
#define TASKS_PER_THREAD 32
/* Where few rows share a panel of B, reading B takes longest, and longer tasks fetch more of it ahead. */
#define STREAM_TASKS_PER_THREAD 8
/* Strips that a task multiplies at least with a panel of B that it may have to pack, which takes a quarter of a strip's
 * time. */
#define PART_STRIPS 6
/* Steps along k that neighbouring strips are packed for at a time. */
#define PACK_STEPS 16
/* B is multiplied where it lies, if it lies well, when at most so many strips of A will read each panel, or when it is
 * so small that rereading it costs nothing. */
#define IN_PLACE_MAX_STRIPS 2
#define IN_PLACE_MAX_BYTES 262144

/* Of so many problems nobody needs a part: each may lie as its result is stored best. */
#define MANY_PROBLEMS 8

#define LINE 64 /* bytes of a cache line */

typedef struct gemm_run {
    const ml_encode_args *args;
    const ml_gemm_impl *impl;
    ml_gemm_layout layout;
    ml_gemm_problem problem; /* the one at work; PANEL with private A: the first, whose strides are those of all */
    int64_t m, n, k;         /* of every problem, as oriented */
    int64_t k_unit;
    bool flipped;
    const float *prepacked;  /* panels of all matrices of an operand, which is then B; NULL: B is packed here */
    int64_t panel_floats;    /* of such a panel, which holds all of k */
    bool a_in_place;         /* A is not packed */
    float *shared, *private; /* private: of worker 0 */
    int64_t strips, panels;  /* PANEL: of the problem */
    int64_t strip_rows;      /* PANEL: rows of a strip, at most mr, evened out so that no strip is nearly empty */
    bool in_place;           /* PANEL: whole panels of an f32 row-major B are not packed */
    int64_t chunks, parts;   /* PANEL: a problem's tasks: its panels in chunks, a chunk's strips in parts */
    int64_t first, group;    /* PANEL: the first problem of the job, and problems per task */

    /* BLOCKED: the macro block at work */
    int64_t i0, j0, p0, mb, nb, kb; /* its origin and extent in C and along k */
    int64_t task_strips, task_panels, tasks_m, tasks_n;
    int64_t pack_strips, pack_panels, pack_tasks_a;
} gemm_run;

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
/* The divisions of a tiny problem would cost more than its product. */
static int64_t ceil_div(int64_t a, int64_t b) {
    return a <= b ? a > 0 : (a + b - 1) / b;
}
static int64_t line_floats(int64_t floats) {
    return (floats + 15) & ~INT64_C(15);
}
/* Words that k steps take in a panel, for each row. */
static int64_t words(const gemm_run *run, int64_t k) {
    return ml_gemm_words(k, run->impl->k_pack, run->k_unit);
}

/* x shifted to start at element (i, j); absent stays absent. */
static ml_mat mat_at(const ml_mat *x, int64_t i, int64_t j) {
    ml_mat y = *x;
    if (x->data)
        y.data = (char *)x->data + (i * x->rs + j * x->cs) * (int64_t)ml_dtype_size_of(x->dtype);
    return y;
}
static ml_mat mat_t(const ml_mat *x) {
    ml_mat y = *x;
    y.rs = x->cs;
    y.cs = x->rs;
    return y;
}

/* Problem `batch` as the drivers see it: C^T = B^T A^T where run->flipped, and k = 0 where a and b must not be read. */
static void load_problem(const gemm_run *run, int64_t batch, ml_gemm_problem *p) {
    ml_gemm_problem_at(run->args->op, run->args->plan, batch, p);
    if (p->k == 0 || p->alpha == 0.0f) {
        p->k = 0;
        p->alpha = 0.0f;
    }
    if (run->flipped) {
        ml_mat a = p->a;
        int64_t m = p->m;
        p->m = p->n;
        p->n = m;
        p->a = mat_t(&p->b);
        p->b = mat_t(&a);
        p->c_in = mat_t(&p->c_in);
        p->bias = mat_t(&p->bias);
        p->out = mat_t(&p->out);
    }
}

/* The short side of a skinny problem becomes the rows, because A is what is kept packed; otherwise rows are what gives
 * the tiles unit-stride rows in out, and in a batch of problems any side of which may be kept packed. */
static bool want_flip(const ml_gemm_problem *p, const ml_plan *plan, int64_t batch) {
    if (plan->panels != ML_PANELS_OF_NONE) /* problems come as the plan is oriented */
        return (plan->panels == ML_PANELS_OF_B) == plan->transposed;
    const int64_t small = min64(p->m, p->n), large = max64(p->m, p->n);
    const bool either =
        batch >= MANY_PROBLEMS && small >= 2 * plan->kernel->nr && large + plan->kernel->mr <= plan->block.mc;
    if (!either && ml_gemm_is_skinny(p->m, p->n, p->k, plan->block.mc))
        return p->n < p->m;
    return p->out.rs == 1 && p->out.cs != 1;
}

/* The prepacked panels of the matrix that is the problem's B, or NULL. */
static const float *prepacked_at(const gemm_run *run, const ml_gemm_problem *p) {
    if (!run->prepacked)
        return NULL;
    const ml_plan *plan = run->args->plan;
    const ml_buffer *buf = run->args->op->in[plan->panels == ML_PANELS_OF_A ? ML_IN_A : ML_IN_B].buf;
    const int64_t matrix = p->k * p->n * (int64_t)ml_dtype_size_of(p->b.dtype);
    const int64_t index = ((const char *)p->b.data - (const char *)buf->host) / matrix;
    return run->prepacked + index * ceil_div(p->n, run->impl->nr) * run->panel_floats;
}

static double copy_ns(int64_t rows, int64_t columns) {
    return (double)rows * (double)columns / COPIES_PER_NS;
}
static double product_ns(const gemm_run *run, int64_t m, int64_t n, int64_t k) {
    const int speed = run->impl->words_per_ns ? run->impl->words_per_ns : WORDS_PER_NS;
    return (double)m * (double)n * (double)words(run, k) / speed;
}

static void enter(const gemm_run *run) {
    if (run->impl->enter)
        run->impl->enter();
}
static void leave(const gemm_run *run) {
    if (run->impl->leave)
        run->impl->leave();
}

/* What the micro-kernel takes for rows of A from `row` on, at step p0: the matrix, or the packed strip. */
static const float *rows_of_a(const gemm_run *run, const ml_gemm_problem *p, int64_t row, int64_t p0,
                              const float *packed) {
    return run->a_in_place ? mat_at(&p->a, row, p0).data : packed;
}
static int64_t a_rows(const gemm_run *run) {
    return run->a_in_place ? run->problem.a.rs * (int64_t)ml_dtype_size_of(run->problem.a.dtype) : 0;
}

/* Epilogue and operands of one tile at element (i, j) of the problem's C. */
static void tile_at(ml_ukr_tile *tile, const ml_gemm_problem *p, int64_t i, int64_t j) {
    tile->out = mat_at(&p->out, i, j);
    tile->c_in = mat_at(&p->c_in, i, j);
    tile->bias = mat_at(&p->bias, i, j);
}

/* Strips [first, last) of `rows` rows each out of `extent`, in panels `width` wide that hold k steps. */
typedef struct pack_range {
    int64_t first, last, rows, width, extent, k;
} pack_range;

/* Packs them one behind the other. Where rows lie next to each other, the strips advance along k together: what they
 * take of a step is one run of memory then. */
static void pack_strips(const gemm_run *run, ml_gemm_pack_fn pack, float *panels, const ml_mat *src,
                        const pack_range *range) {
    const int64_t chunk = llabs(src->rs) < llabs(src->cs) ? max64(PACK_STEPS, run->k_unit) : max64(range->k, 1);
    for (int64_t p = 0; p < range->k; p += chunk) {
        for (int64_t strip = range->first; strip < range->last; strip++) {
            int64_t row = strip * range->rows;
            ml_mat from = mat_at(src, row, p);
            float *to =
                panels + strip * line_floats(range->width * words(run, range->k)) + words(run, p) * range->width;
            pack(to, &from, min64(range->rows, range->extent - row), min64(chunk, range->k - p));
        }
    }
}

/* ---- panel scheme ---- */

static int64_t strip_floats(const gemm_run *run) {
    return line_floats(run->impl->mr * words(run, run->k));
}

static void pack_a_strips(const gemm_run *run, const ml_gemm_problem *p, float *a_packed, const int64_t strips[2]) {
    const pack_range range = {strips[0], strips[1], run->strip_rows, run->impl->mr, p->m, p->k};
    if (!run->a_in_place)
        pack_strips(run, run->impl->pack_a, a_packed, &p->a, &range);
}

/* Where a tile is: its k block, and its strip among those of the task. */
typedef struct look_from {
    int64_t p0, kb, strip;
    int k_pack;
} look_from;

/* Lets a tile of `strip` at k block p0 fetch a part of the panel of B after this one: packing alone waits for memory,
 * and multiplying alone leaves it idle. A panel along k is one run of memory if columns follow each other; `fetched`
 * lines of it are under way. In a row-major panel every step has a line or two, and each strip takes one of them. */
static void look_ahead(ml_ukr_tile *tile, const ml_mat *next, const look_from *from, int64_t *fetched) {
    const int64_t size = (int64_t)ml_dtype_size_of(next->dtype), line = from->strip / from->k_pack;
    tile->ahead = NULL;
    if (!next->data)
        return;
    if (next->rs == 1 && next->cs > 0) {
        tile->ahead = (char *)next->data + *fetched * LINE;
        tile->ahead_step = LINE;
        *fetched += from->kb / from->k_pack;
    } else if (next->cs == 1 && line * LINE < tile->n * size) {
        int64_t row = from->p0 + from->strip % from->k_pack; /* a step of pairs has two rows */
        tile->ahead = (char *)next->data + row * next->rs * size + line * LINE;
        tile->ahead_step = from->k_pack * next->rs * size;
    }
}

/* The same where B comes in panels, each of whose blocks follows the one before: what lies after this one is next. */
static void look_ahead_prepacked(ml_ukr_tile *tile, const float *after, const look_from *from, int64_t nr) {
    const int64_t steps = (from->kb + from->k_pack - 1) / from->k_pack, fetched = from->strip * steps * LINE;
    tile->ahead = fetched < steps * nr * (int64_t)sizeof(float) ? (const char *)after + fetched : NULL;
    tile->ahead_step = LINE;
}

/* What the buffers of a worker hold from one of its tasks to the next; -1: nothing. */
typedef struct panel_held {
    int64_t a; /* the problem whose strips of A are packed */
    int64_t b; /* the panel, counted through all problems, that is packed with all of k */
} panel_held;

/* A worker's own part of scratch. */
typedef struct panel_buffers {
    panel_held *held;
    float *b, *acc, *a;
} panel_buffers;

static panel_buffers buffers_of(const gemm_run *run, int worker) {
    const ml_gemm_layout *l = &run->layout;
    char *at = (char *)run->private + worker * l->private_bytes;
    return (panel_buffers){.held = (panel_held *)(void *)at,
                           .b = (float *)(void *)(at + l->held_bytes),
                           .acc = (float *)(void *)(at + l->held_bytes + l->b_bytes),
                           .a = (float *)(void *)(at + l->held_bytes + l->b_bytes + l->acc_bytes)};
}

/* A part of one problem: panels and strips [first, last). */
typedef struct panel_part {
    int64_t index; /* of the problem */
    int64_t panels[2], strips[2];
    int64_t next; /* the panel that this thread is likely to want after them; -1: none */
} panel_part;

/* Computes it, with A packed or in place, and leaves the last panel it packed in own. */
static void panel_columns(const gemm_run *run, const ml_gemm_problem *p, const float *a_packed,
                          const panel_buffers *own, const panel_part *part) {
    const ml_gemm_impl *impl = run->impl;
    const ml_gemm_layout *l = &run->layout;
    const float *prepacked = prepacked_at(run, p);
    ml_ukr_tile tile = {.a_rows = a_rows(run), .alpha = p->alpha, .beta = p->beta, .activation = p->activation};
    for (int64_t panel = part->panels[0]; panel < part->panels[1]; panel++) {
        const int64_t col = panel * impl->nr, number = part->index * run->panels + panel;
        const bool is_held = l->b_whole && own->held->b == number;
        tile.n = min64(impl->nr, p->n - col);
        const int64_t next_panel = panel + 1 < part->panels[1] ? panel + 1 : part->next;
        ml_mat next = mat_at(&p->b, 0, max64(next_panel, 0) * impl->nr);
        int64_t fetched = 0, lines = impl->nr * next.cs * (int64_t)ml_dtype_size_of(next.dtype) / LINE;
        if (next_panel < 0)
            next.data = NULL;
        for (int64_t block = 0; block < l->k_blocks; block++) {
            int64_t p0 = block * l->kc, kb = min64(l->kc, p->k - p0);
            ml_mat src = mat_at(&p->b, p0, col);
            const float *b;
            tile.b_stride = impl->nr;
            if (prepacked) {
                b = prepacked + panel * run->panel_floats + words(run, p0) * impl->nr;
            } else if (run->in_place && src.dtype == ML_F32 && src.cs == 1 && tile.n == impl->nr) {
                b = src.data;
                tile.b_stride = src.rs;
            } else {
                float *packed = own->b + (l->b_whole ? words(run, p0) * impl->nr : 0);
                src = mat_t(&src);
                if (!is_held)
                    impl->pack_b(packed, &src, tile.n, kb);
                own->held->b = number;
                b = packed;
            }
            tile.acc_load = block > 0;
            tile.acc_store = block + 1 < l->k_blocks;
            for (int64_t strip = part->strips[0]; strip < part->strips[1]; strip++) {
                int64_t row = strip * run->strip_rows;
                tile.m = min64(run->strip_rows, p->m - row);
                tile.acc_io = l->partial_sums ? own->acc + strip * impl->mr * impl->nr : NULL;
                tile_at(&tile, p, row, col);
                const look_from from = {p0, kb, strip - part->strips[0], impl->k_pack};
                if (prepacked)
                    look_ahead_prepacked(&tile, b + words(run, kb) * impl->nr, &from, impl->nr);
                else
                    look_ahead(&tile, &next, &from, &fetched);
                if (next.rs == 1 && fetched > lines)
                    next.data = NULL;
                const float *strip_a = a_packed + strip * strip_floats(run) + words(run, p0) * impl->mr;
                impl->ukr(kb, rows_of_a(run, p, row, p0, strip_a), b, &tile);
            }
        }
    }
}

static void pack_task_shared_a(void *arg, int64_t task, int worker) {
    const gemm_run *run = arg;
    const int64_t strips[2] = {task * run->pack_strips, min64((task + 1) * run->pack_strips, run->strips)};
    pack_a_strips(run, &run->problem, run->shared, strips);
}

static void panel_task(void *arg, int64_t task, int worker) {
    const gemm_run *run = arg;
    const int64_t problem = task / run->parts / run->chunks, chunk = task / run->parts % run->chunks;
    const int64_t at = task % run->parts, first = run->first + problem * run->group;
    const int64_t end = min64(first + run->group, run->args->op->matmul.batch);
    const panel_buffers own = buffers_of(run, worker);
    panel_part part = {.panels = {chunk * run->panels / run->chunks, (chunk + 1) * run->panels / run->chunks},
                       .strips = {at * run->strips / run->parts, (at + 1) * run->strips / run->parts}};
    const float *a_packed = run->layout.shared_a ? run->shared : own.a;
    /* The caller takes tasks forwards, workers backwards (core/pool.h). */
    if (worker == 0)
        part.next = at + 1 == run->parts && part.panels[1] < run->panels ? part.panels[1] : -1;
    else
        part.next = at == 0 && chunk > 0 ? (chunk - 1) * run->panels / run->chunks : -1;
    enter(run);
    for (part.index = first; part.index < end; part.index++) {
        ml_gemm_problem p;
        load_problem(run, part.index, &p);
        if (!run->layout.shared_a && own.held->a != part.index)
            pack_a_strips(run, &p, own.a, (const int64_t[2]){0, run->strips});
        own.held->a = part.index;
        panel_columns(run, &p, a_packed, &own, &part);
    }
    leave(run);
}

/* Cuts `problems` problems into tasks: as many as balance asks for as long as each is worth a task. Panels stay whole
 * where there are enough of them, since who takes a part of one packs all of it; or groups of problems are a task. */
static void panel_split(gemm_run *run, int threads, int64_t problems, double columns_ns) {
    const double most = columns_ns / TASK_NS;
    const int64_t per_thread = run->strips < PART_STRIPS ? STREAM_TASKS_PER_THREAD : TASKS_PER_THREAD;
    const int64_t balanced = ceil_div(per_thread * threads, problems);
    const int64_t wanted = most > (double)balanced ? balanced : max64((int64_t)most, 1);
    run->chunks = min64(wanted, run->panels);
    run->parts = max64(1, min64(wanted / run->chunks, run->strips / PART_STRIPS));
    if (problems == 1 && run->parts == 1 && run->chunks > threads) /* few tasks: the same number for each thread */
        run->chunks = run->chunks / threads * threads;
    const double problem_ns = columns_ns + copy_ns(run->m, run->k) + PROBLEM_NS;
    if (wanted == 1 && problem_ns < TASK_NS)
        run->group = min64((int64_t)(TASK_NS / problem_ns) + 1, ceil_div(problems, threads));
}

static void run_panel(gemm_run *run, int threads) {
    const int64_t batch = run->args->op->matmul.batch;
    const bool shared = run->layout.shared_a;
    int64_t m = run->m, n = run->n, k = run->k;
    run->strips = ceil_div(m, run->impl->mr);
    run->strip_rows = run->strips == 1 ? m : ceil_div(m, run->strips);
    run->panels = ceil_div(n, run->impl->nr);
    run->in_place = run->strips <= IN_PLACE_MAX_STRIPS || n * k * (int64_t)sizeof(float) <= IN_PLACE_MAX_BYTES;
    run->chunks = run->parts = 1;

    double columns_ns = product_ns(run, m, n, k) + (run->prepacked ? 0 : copy_ns(n, k)) + copy_ns(m, n);
    double problem_ns = columns_ns + copy_ns(m, k) + PROBLEM_NS;
    bool serial = threads == 1 || problem_ns * (double)batch < SERIAL_NS;
    const int64_t problems = shared ? 1 : batch; /* of a job */
    run->group = serial ? problems : 1;
    if (serial)
        threads = 1;
    else
        panel_split(run, threads, problems, columns_ns);

    double strip_ns = copy_ns(run->strip_rows, max64(k, 1));
    run->pack_strips = serial ? run->strips : max64(1, (int64_t)(TASK_NS / 2 / strip_ns));
    for (run->first = 0; run->first < batch; run->first += problems) {
        for (int worker = 0; worker < threads; worker++)
            *buffers_of(run, worker).held = (panel_held){-1, -1};
        if (shared) {
            load_problem(run, run->first, &run->problem);
            ml_parallel_limit(ceil_div(run->strips, run->pack_strips), threads, pack_task_shared_a, run);
        }
        ml_parallel_limit(ceil_div(problems, run->group) * run->chunks * run->parts, threads, panel_task, run);
    }
}

/* ---- blocked scheme ---- */

static float *slab_b(const gemm_run *run) {
    return run->shared + run->layout.a_bytes / (int64_t)sizeof(float);
}
static float *slab_acc(const gemm_run *run) {
    return slab_b(run) + run->layout.b_bytes / (int64_t)sizeof(float);
}

static void blocked_pack_task(void *arg, int64_t task, int worker) {
    const gemm_run *run = arg;
    const ml_gemm_impl *impl = run->impl;
    if (task < run->pack_tasks_a) {
        const pack_range range = {task * run->pack_strips,
                                  min64((task + 1) * run->pack_strips, ceil_div(run->mb, impl->mr)),
                                  impl->mr,
                                  impl->mr,
                                  run->mb,
                                  run->kb};
        ml_mat src = mat_at(&run->problem.a, run->i0, run->p0);
        pack_strips(run, impl->pack_a, run->shared, &src, &range);
        return;
    }
    task -= run->pack_tasks_a;
    const pack_range range = {task * run->pack_panels,
                              min64((task + 1) * run->pack_panels, ceil_div(run->nb, impl->nr)),
                              impl->nr,
                              impl->nr,
                              run->nb,
                              run->kb};
    ml_mat src = mat_at(&run->problem.b, run->p0, run->j0);
    src = mat_t(&src);
    pack_strips(run, impl->pack_b, slab_b(run), &src, &range);
}

static void blocked_tile_task(void *arg, int64_t task, int worker) {
    const gemm_run *run = arg;
    const ml_gemm_impl *impl = run->impl;
    const ml_gemm_problem *p = &run->problem;
    int64_t strips = ceil_div(run->mb, impl->mr), panels = ceil_div(run->nb, impl->nr);
    int64_t strip0 = task / run->tasks_n * run->task_strips, panel0 = task % run->tasks_n * run->task_panels;
    int64_t strip1 = min64(strip0 + run->task_strips, strips), panel1 = min64(panel0 + run->task_panels, panels);
    bool first = run->p0 == 0, last = run->p0 + run->kb == p->k;
    const float *b_block = prepacked_at(run, p);
    const int64_t panel_floats = b_block ? run->panel_floats : line_floats(impl->nr * words(run, run->kb));
    if (b_block)
        b_block += run->j0 / impl->nr * panel_floats + words(run, run->p0) * impl->nr;
    else
        b_block = slab_b(run);

    ml_gemm_problem q = *p; /* with this k block's share of the epilogue */
    ml_ukr_tile tile = {.a_rows = a_rows(run), .b_stride = impl->nr};
    if (run->layout.partial_sums) {
        tile.acc_load = !first;
        tile.acc_store = !last;
    } else {
        /* out is f32 and carries the partial sums itself: c and beta count once, bias and activation come last. */
        if (!first) {
            q.c_in = p->out;
            q.beta = 1.0f;
        }
        if (!last) {
            q.bias.data = NULL;
            q.activation = ML_ACT_NONE;
        }
    }
    tile.alpha = q.alpha;
    tile.beta = q.beta;
    tile.activation = q.activation;

    enter(run);
    for (int64_t panel = panel0; panel < panel1; panel++) {
        const float *b = b_block + panel * panel_floats;
        int64_t col = panel * impl->nr;
        tile.n = min64(impl->nr, run->nb - col);
        for (int64_t strip = strip0; strip < strip1; strip++) {
            int64_t row = strip * impl->mr;
            tile.m = min64(impl->mr, run->mb - row);
            if (run->layout.partial_sums)
                tile.acc_io = slab_acc(run) + (panel * strips + strip) * impl->mr * impl->nr;
            tile_at(&tile, &q, run->i0 + row, run->j0 + col);
            const float *packed = run->shared + strip * line_floats(impl->mr * words(run, run->kb));
            impl->ukr(run->kb, rows_of_a(run, p, run->i0 + row, run->p0, packed), b, &tile);
        }
    }
    leave(run);
}

/* Cuts the macro block at work into tasks: a part of A that fits L2 against as many columns as leave enough tasks. */
static void blocked_split(gemm_run *run, int threads) {
    int64_t mr = run->impl->mr, nr = run->impl->nr;
    int64_t strips = ceil_div(run->mb, mr), panels = ceil_div(run->nb, nr);
    double total = product_ns(run, run->mb, run->nb, run->kb);
    int64_t wanted = threads == 1 ? 1 : max64(1, min64(TASKS_PER_THREAD * threads, (int64_t)(total / TASK_NS)));
    run->tasks_m = ceil_div(strips, max64(run->args->plan->block.mc / mr, 1));
    run->tasks_n = min64(ceil_div(wanted, run->tasks_m), panels);
    run->tasks_m = max64(run->tasks_m, min64(ceil_div(wanted, run->tasks_n), ceil_div(strips, 2)));
    run->task_strips = ceil_div(strips, run->tasks_m);
    run->task_panels = ceil_div(panels, run->tasks_n);
    run->tasks_m = ceil_div(strips, run->task_strips);
    run->tasks_n = ceil_div(panels, run->task_panels);

    run->pack_strips = threads == 1 ? strips : max64(1, (int64_t)(TASK_NS / copy_ns(mr, run->kb)));
    run->pack_panels = threads == 1 ? panels : max64(1, (int64_t)(TASK_NS / copy_ns(nr, run->kb)));
    run->pack_tasks_a = run->a_in_place ? 0 : ceil_div(strips, run->pack_strips);
}

static void run_blocked(gemm_run *run, int threads) {
    const ml_gemm_layout *l = &run->layout;
    for (int64_t i = 0; i < run->args->op->matmul.batch; i++) {
        load_problem(run, i, &run->problem);
        for (run->j0 = 0; run->j0 < run->n; run->j0 += l->nb) {
            run->nb = min64(l->nb, run->n - run->j0);
            for (run->i0 = 0; run->i0 < run->m; run->i0 += l->mb) {
                run->mb = min64(l->mb, run->m - run->i0);
                for (run->p0 = 0; run->p0 < run->k; run->p0 += l->kc) {
                    run->kb = min64(l->kc, run->k - run->p0);
                    blocked_split(run, threads);
                    int64_t panels = run->prepacked ? 0 : ceil_div(run->nb, run->impl->nr);
                    int64_t pack_tasks_b = ceil_div(panels, run->pack_panels);
                    ml_parallel_limit(run->pack_tasks_a + pack_tasks_b, threads, blocked_pack_task, run);
                    ml_parallel_limit(run->tasks_m * run->tasks_n, threads, blocked_tile_task, run);
                }
            }
        }
    }
}

ml_status ml_cpu_matmul_mlx(const ml_encode_args *args) {
    const ml_matmul_params *params = &args->op->matmul;
    if (params->m <= 0 || params->n <= 0 || params->batch <= 0)
        return ML_OK;

    gemm_run run;
    run.args = args;
    run.impl = args->plan->kernel->impl;
    run.k_unit = ml_gemm_k_unit(args->plan->kernel);
    run.flipped = false;
    run.prepacked = args->panels;
    load_problem(&run, 0, &run.problem);
    run.flipped = want_flip(&run.problem, args->plan, params->batch);
    if (run.flipped)
        load_problem(&run, 0, &run.problem);
    run.k = run.problem.k;
    run.panel_floats = ml_gemm_panel_floats(args->plan->kernel, run.k);
    run.m = run.problem.m;
    run.n = run.problem.n;
    const ml_gemm_strides a = {run.problem.a.dtype, run.problem.a.rs, run.problem.a.cs};
    run.a_in_place = ml_gemm_a_in_place(args->plan->kernel, &a, run.m, run.k);

    int threads = ml_get_num_threads();
    const ml_gemm_shape shape = {.m = run.m,
                                 .n = run.n,
                                 .k = run.k,
                                 .batch = params->batch,
                                 .mr = run.impl->mr,
                                 .nr = run.impl->nr,
                                 .k_pack = run.impl->k_pack,
                                 .k_unit = run.k_unit,
                                 .block = args->plan->block,
                                 .out_is_f32 = args->op->out[0].dtype == ML_F32,
                                 .a_in_place = run.a_in_place,
                                 .b_prepacked = args->plan->panels != ML_PANELS_OF_NONE,
                                 .threads = threads};
    ml_gemm_layout_of(&shape, &run.layout);
    /* The number of threads may have grown since the plan was made: then there is scratch for the caller only. */
    if (run.layout.total_bytes > args->plan->scratch_bytes)
        threads = 1;
    run.shared = args->scratch;
    run.private = run.shared + run.layout.shared_bytes / (int64_t)sizeof(float);
    if (run.layout.scheme == ML_GEMM_PANEL)
        run_panel(&run, threads);
    else
        run_blocked(&run, threads);
    return ML_OK;
}
