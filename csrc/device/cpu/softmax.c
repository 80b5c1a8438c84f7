/* Softmax row by row: VEC keeps a row's scores in scratch memory, BLOCK walks it in blocks with a running maximum and
 * sum (M. Milakov and N. Gimelshein, Online normalizer calculation for softmax, 2018). */
#include "device/cpu/row_tasks.h"
#include "device/cpu/softmax.h"

#include <math.h>
#include <string.h>

enum {
    MASK_CHUNK = 512,          /* elements of a strided mask gathered at once */
    FETCH_BYTES = 2048,        /* of a row, fetched while the one before is at work */
    HEAD = 64,                 /* elements whose leading score is a row's reference */
    LARGE_BYTES = 20 << 20,    /* read and written: beyond what caches hold, and memory likes to be read in one go */
    TASK_ELEMENTS = 16 * 1024, /* two threads are worth having from this on: about three microseconds */
    ROW_ELEMENTS = 48          /* what a row costs beside its elements, in elements */
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

static void hide_strided(const ml_softmax_job *job, float *s, const uint8_t *mask, int64_t stride, int64_t n) {
    uint8_t seen[MASK_CHUNK];
    for (int64_t first = 0; first < n; first += MASK_CHUNK) {
        const int64_t count = least(MASK_CHUNK, n - first);
        for (int64_t i = 0; i < count; i++)
            seen[i] = mask[(first + i) * stride];
        job->impl->hide(s + first, seen, count, job->hidden);
    }
}

static void add_strided(const ml_softmax_job *job, float *s, const char *mask, int64_t stride, int64_t n) {
    float values[MASK_CHUNK];
    const ml_dtype dtype = job->mask.dtype;
    for (int64_t first = 0; first < n; first += MASK_CHUNK) {
        const int64_t count = least(MASK_CHUNK, n - first);
        if (job->p->mask != ML_MASK_ADDITIVE) {
            for (int64_t i = 0; i < count; i++)
                values[i] = -0.0f; /* changes no product, not even a zero's sign */
        } else {
            const ml_ew_vec part = {(char *)(uintptr_t)mask + first * stride * job->mask_size, stride, dtype};
            ml_ew_load_f32(job->impl->convert, values, &part, count);
        }
        job->impl->add[ML_F32](s + first, values, count, job->scale);
    }
}

void ml_softmax_apply_mask(const ml_softmax_job *job, float *s, const char *mask, int64_t stride, int64_t n) {
    if (job->adds) {
        if (job->p->mask == ML_MASK_ADDITIVE && stride == 1)
            job->impl->add[job->mask.dtype](s, mask, n, job->scale);
        else
            add_strided(job, s, mask, stride, n);
    }
    if (job->p->mask == ML_MASK_BOOL) {
        if (stride == 1)
            job->impl->hide(s, (const uint8_t *)mask, n, job->hidden);
        else
            hide_strided(job, s, (const uint8_t *)mask, stride, n);
    }
}

void ml_softmax_stage(const ml_softmax_job *job, float *dst, const ml_softmax_line *line, int64_t start, int64_t n) {
    const ml_ew_vec from = {line->x + start * job->xs * job->x_size, job->xs, job->x.dtype};
    ml_ew_load_f32(job->impl->convert, dst, &from, n);
    if (job->adds || job->p->mask != ML_MASK_NONE)
        ml_softmax_apply_mask(job, dst, line->mask + start * job->ms * job->mask_size, job->ms, n);
}

/* The scores in f32: where they lie, or staged in buffer. */
static const float *scores_of(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t n,
                              float *buffer) {
    if (job->direct && job->x.dtype == ML_F32)
        return (const float *)(const void *)line->x + start;
    ml_softmax_stage(job, buffer, line, start, n);
    return buffer;
}

/* Scores whose weights go to e: as they lie, of any dtype, or staged in buffer. As they lie they outlive their weights:
 * a result in place of x has a copy of it in buffer. */
typedef struct score_run {
    const void *at;
    int64_t n;
    ml_dtype dtype;
} score_run;

static score_run scores_for(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t n,
                            float *buffer, const float *e) {
    score_run s = {line->x + start * job->x_size, n, job->x.dtype};
    if (!job->direct) {
        ml_softmax_stage(job, buffer, line, start, n);
        return (score_run){buffer, n, ML_F32};
    }
    if (s.at == (const void *)e) {
        memcpy(buffer, e, (size_t)n * sizeof(float));
        s.at = buffer;
    }
    return s;
}

int64_t ml_softmax_visible(const ml_softmax_job *job, int64_t q) {
    const int64_t length = job->layout.length, offset = job->p->query_offset;
    if (!job->p->causal || offset >= length) /* then q + offset may not even fit 64 bits */
        return length;
    const int64_t last = q + offset;
    return last < 0 ? 0 : least(last + 1, length);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static char *out_at(const ml_softmax_job *job, const ml_softmax_line *line, int64_t i) {
    return line->out + i * job->os * job->out_size;
}

void ml_softmax_store(const ml_softmax_job *job, char *out, int64_t stride, const float *src, int64_t n) {
    const ml_ew_vec to = {out, stride, job->out.dtype};
    ml_ew_store_f32(job->impl->convert, &to, src, n);
}

void ml_softmax_fill(const ml_softmax_job *job, char *out, int64_t stride, int64_t n, float value) {
    if (stride == 1 && value == 0.0f) {
        memset(out, 0, (size_t)(n * job->out_size));
        return;
    }
    float values[MASK_CHUNK];
    const int64_t chunk = least(n, MASK_CHUNK);
    for (int64_t i = 0; i < chunk; i++)
        values[i] = value;
    for (int64_t first = 0; first < n; first += chunk)
        ml_softmax_store(job, out + first * stride * job->out_size, stride, values, least(chunk, n - first));
}

void ml_softmax_poison(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t end) {
    float values[MASK_CHUNK];
    for (int64_t first = start; first < end; first += MASK_CHUNK) {
        const int64_t count = least(MASK_CHUNK, end - first);
        memset(values, 0, sizeof values);
        ml_softmax_apply_mask(job, values, line->mask + first * job->ms * job->mask_size, job->ms, count);
        for (int64_t i = 0; i < count; i++)
            values[i] = values[i] == job->hidden ? ml_softmax_nothing(job) : NAN;
        ml_softmax_store(job, out_at(job, line, first), job->os, values, count);
    }
}

/* Columns start .. end, of which the first `visible` of the row can be seen, when the sum is no use: true then. */
static bool store_degenerate(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t end,
                             float sum) {
    if (isnan(sum))
        ml_softmax_poison(job, line, start, end);
    else if (sum == 0.0f)
        ml_softmax_fill(job, out_at(job, line, start), job->os, end - start, ml_softmax_nothing(job));
    else
        return false;
    return true;
}

static bool writes_f32(const ml_softmax_job *job) {
    return job->out.dtype == ML_F32 && job->os == 1;
}

/* n weights e from column `start` on, times `by`. e is scratch, or the place of the result. */
static void store_weights(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, float *e, int64_t n,
                          float by) {
    char *out = out_at(job, line, start);
    if (job->os == 1) {
        job->impl->scale[job->out.dtype](out, e, n, by);
        return;
    }
    job->impl->scale[ML_F32](e, e, n, by);
    ml_softmax_store(job, out, job->os, e, n);
}

static void store_logs(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, const float *s, int64_t n,
                       const float base_unit_shift[3], float *buffer) {
    char *out = out_at(job, line, start);
    if (job->os == 1) {
        job->impl->log[job->out.dtype](out, s, n, base_unit_shift);
        return;
    }
    job->impl->log[ML_F32](buffer, s, n, base_unit_shift);
    ml_softmax_store(job, out, job->os, buffer, n);
}

/* ---- VEC --------------------------------------------------------------------------------------------------------- */

static float leading(const ml_softmax_job *job, const score_run *s) {
    return job->hidden < 0.0f ? job->impl->largest[s->dtype](s->at, s->n) : job->impl->smallest[s->dtype](s->at, s->n);
}

/* A score that the others can be taken relative to. What is staged has mostly been masked, and may give way to its
 * weights: there it is the leading one. And what comes from memory is best read by a pass of its own first. */
static float reference(const ml_softmax_job *job, const score_run *s) {
    if (job->direct && !job->large && s->n > HEAD) {
        const score_run head = {s->at, HEAD, s->dtype};
        const float lead = leading(job, &head);
        if (lead != job->hidden)
            return lead;
    }
    return leading(job, s);
}

/* A row whose leading score is the hidden one has no visible score but that: any finite base leaves zeros. */
static ml_softmax_weight weight_from(const ml_softmax_job *job, float lead) {
    const float exponent = lead * job->factor;
    ml_softmax_weight w = {.factor = job->factor, .hidden = job->hidden};
    if (lead == job->hidden)
        return w;
    if (job->impl->shifts && fabsf(exponent) <= ML_SOFTMAX_SHIFT_LIMIT)
        w.shift = floorf(exponent); /* the leading weight is at least 1: what becomes 0 was below 2^-126 of it */
    else
        w.base = lead;
    return w;
}

static bool usable(float sum) {
    return sum >= 0.0f && sum <= ML_SOFTMAX_SUM_LIMIT;
}

/* Phase by phase over all rows of the group: what one row waits for, another computes. */
static void vec_rows(const ml_softmax_job *job, const ml_softmax_line *lines, int64_t count, float *scratch) {
    score_run s[ML_SOFTMAX_MAX_GROUP];
    float *e[ML_SOFTMAX_MAX_GROUP], sum[ML_SOFTMAX_MAX_GROUP];
    ml_softmax_weight w[ML_SOFTMAX_MAX_GROUP];
    for (int64_t r = 0; r < count; r++) {
        float *buffer = scratch + r * job->layout.row_floats;
        e[r] = writes_f32(job) ? (float *)(void *)lines[r].out : buffer;
        s[r] = scores_for(job, &lines[r], 0, lines[r].n, buffer, e[r]);
        w[r] = weight_from(job, reference(job, &s[r]));
    }
    for (int64_t r = 0; r < count; r++) {
        sum[r] = job->impl->exp[s[r].dtype](e[r], s[r].at, s[r].n, &w[r]);
        if (job->direct && !usable(sum[r])) {
            w[r] = weight_from(job, leading(job, &s[r]));
            sum[r] = job->impl->exp[s[r].dtype](e[r], s[r].at, s[r].n, &w[r]);
        }
    }
    for (int64_t r = 0; r < count; r++) {
        if (!store_degenerate(job, &lines[r], 0, lines[r].n, sum[r]))
            store_weights(job, &lines[r], 0, e[r], lines[r].n, 1.0f / sum[r]);
    }
}

/* A score s as a logarithm is (s - base) * unit - shift: constants, from the leading score and the sum of weights. */
static void set_constants(const ml_softmax_job *job, float lead, float sum, float constants[3]) {
    const ml_softmax_weight w = weight_from(job, lead);
    const double rest = ((double)lead - (double)w.base) * (double)w.factor - (double)w.shift; /* of the exponent */
    constants[0] = lead == job->hidden ? 0.0f : lead;
    constants[1] = job->unit;
    constants[2] = lead == job->hidden ? logf(sum) : (float)(log((double)sum) - rest * 0.69314718055994530942);
}

static void vec_logs(const ml_softmax_job *job, const ml_softmax_line *lines, int64_t count, float *scratch) {
    const float *s[ML_SOFTMAX_MAX_GROUP];
    float lead[ML_SOFTMAX_MAX_GROUP], sum[ML_SOFTMAX_MAX_GROUP], constants[3];
    for (int64_t r = 0; r < count; r++) {
        s[r] = scores_of(job, &lines[r], 0, lines[r].n, scratch + r * job->layout.row_floats);
        lead[r] = leading(job, &(score_run){s[r], lines[r].n, ML_F32});
    }
    for (int64_t r = 0; r < count; r++) {
        const ml_softmax_weight w = weight_from(job, lead[r]);
        sum[r] = job->impl->sum_exp(s[r], lines[r].n, &w);
    }
    for (int64_t r = 0; r < count; r++) {
        if (store_degenerate(job, &lines[r], 0, lines[r].n, sum[r]))
            continue;
        set_constants(job, lead[r], sum[r], constants);
        store_logs(job, &lines[r], 0, s[r], lines[r].n, constants, scratch + r * job->layout.row_floats);
    }
}

/* ---- BLOCK ------------------------------------------------------------------------------------------------------- */

typedef struct running {
    float lead, sum; /* the reference so far, and the sum of weights relative to it */
} running;

/* What weights relative to one score are multiplied by to be relative to another. */
static double ratio_of(const ml_softmax_job *job, float from, float to) {
    if (from == to || from == job->hidden)
        return from == to ? 1.0 : 0.0;
    const ml_softmax_weight a = weight_from(job, from), b = weight_from(job, to);
    const double bases = ((double)a.base - (double)b.base) * (double)job->factor;
    return exp2(bases + (double)a.shift - (double)b.shift);
}

/* Moves r to a new reference. */
static void lead_by(const ml_softmax_job *job, running *r, float lead) {
    if (r->lead != lead)
        r->sum *= (float)ratio_of(job, r->lead, lead); /* 0 * 0, or NaN that stays; the sum to come is at least 1 */
    r->lead = lead;
}

static void measure(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t end, float *scratch,
                    running *r) {
    for (int64_t first = start; first < end; first += ML_SOFTMAX_BLOCK_LEN) {
        const int64_t n = least(ML_SOFTMAX_BLOCK_LEN, end - first);
        const float *s = scores_of(job, line, first, n, scratch);
        lead_by(job, r, ml_softmax_better(job, leading(job, &(score_run){s, n, ML_F32}), r->lead));
        const ml_softmax_weight w = weight_from(job, r->lead);
        r->sum += job->impl->sum_exp(s, n, &w);
    }
}

/* Columns start .. end of a row that has been measured. */
static void finish(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t end, float *scratch,
                   const running *r) {
    if (store_degenerate(job, line, start, end, r->sum))
        return;
    const ml_softmax_weight w = weight_from(job, r->lead);
    const float by = 1.0f / r->sum;
    float constants[3] = {0};
    if (job->p->log)
        set_constants(job, r->lead, r->sum, constants);
    for (int64_t first = start; first < end; first += ML_SOFTMAX_BLOCK_LEN) {
        const int64_t n = least(ML_SOFTMAX_BLOCK_LEN, end - first);
        const float *s = scores_of(job, line, first, n, scratch);
        if (job->p->log) {
            store_logs(job, line, first, s, n, constants, scratch);
            continue;
        }
        float *e = writes_f32(job) ? (float *)(void *)out_at(job, line, first) : scratch;
        job->impl->exp[ML_F32](e, s, n, &w);
        store_weights(job, line, first, e, n, by);
    }
}

/* The weights of each block stay, relative to the reference of its time (leads), until the row is known: one
 * exponential per element. They are where the result goes if that is plain f32, else in scratch, which then is as long
 * as the row. */
static void measure_keeping(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t end,
                            float *scratch, float *leads, running *r) {
    for (int64_t first = start; first < end; first += ML_SOFTMAX_BLOCK_LEN) {
        const int64_t n = least(ML_SOFTMAX_BLOCK_LEN, end - first);
        float *buffer = writes_f32(job) ? scratch : scratch + first;
        float *e = writes_f32(job) ? (float *)(void *)out_at(job, line, first) : buffer;
        const score_run s = scores_for(job, line, first, n, buffer, e);
        if (!job->direct || r->lead == job->hidden)
            lead_by(job, r, ml_softmax_better(job, reference(job, &s), r->lead));
        ml_softmax_weight w = weight_from(job, r->lead);
        float sum = job->impl->exp[s.dtype](e, s.at, n, &w);
        if (job->direct && !usable(sum)) {
            lead_by(job, r, ml_softmax_better(job, leading(job, &s), r->lead));
            w = weight_from(job, r->lead);
            sum = job->impl->exp[s.dtype](e, s.at, n, &w);
        }
        r->sum += sum;
        *leads++ = r->lead;
    }
}

/* store_weights by a factor of any smallness: weights relative to a head may be so high (ML_SOFTMAX_SUM_LIMIT) that the
 * product is a number of f32, and the factor is not. What vanishes on the way would also at its end. */
static void store_rescaled(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, float *e, int64_t n,
                           double by) {
    if (by > 0.0 && by < 0x1p-126) {
        job->impl->scale[ML_F32](e, e, n, 0x1p-100f);
        by *= 0x1p100;
    }
    store_weights(job, line, start, e, n, (float)by);
}

static void finish_kept(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t end,
                        float *scratch, const float *leads, const running *r) {
    if (store_degenerate(job, line, start, end, r->sum))
        return;
    for (int64_t first = start; first < end; first += ML_SOFTMAX_BLOCK_LEN) {
        const int64_t n = least(ML_SOFTMAX_BLOCK_LEN, end - first);
        float *e = writes_f32(job) ? (float *)(void *)out_at(job, line, first) : scratch + first;
        store_rescaled(job, line, first, e, n, ratio_of(job, *leads++, r->lead) / (double)r->sum);
    }
}

static void block_row(const ml_softmax_job *job, const ml_softmax_line *line, float *scratch) {
    float leads[ML_SOFTMAX_KEEP_LEN / ML_SOFTMAX_BLOCK_LEN];
    running r = {job->hidden, 0.0f};
    if (job->layout.keep) {
        measure_keeping(job, line, 0, line->n, scratch, leads, &r);
        finish_kept(job, line, 0, line->n, scratch, leads, &r);
    } else {
        measure(job, line, 0, line->n, scratch, &r);
        finish(job, line, 0, line->n, scratch, &r);
    }
}

static void block_rows(const ml_softmax_job *job, const ml_softmax_line *lines, int64_t count, float *scratch) {
    for (int64_t r = 0; r < count; r++)
        block_row(job, &lines[r], scratch);
}

/* ---- rows and tasks ---------------------------------------------------------------------------------------------- */

typedef struct row_job {
    ml_softmax_job job;
    void (*run)(const ml_softmax_job *job, const ml_softmax_line *lines, int64_t count, float *scratch);
    int64_t group;    /* rows of one run */
    ml_view outer[3]; /* x, mask, out without the axis; with causality the last dim counts queries */
    int64_t rows_per_task;
} row_job;

static ml_softmax_line line_at(const row_job *t, int64_t row) {
    int64_t x = 0, mask = 0, out = 0, q = 0;
    const ml_view *o = t->outer;
    for (int d = o[0].ndim - 1; d >= 0; d--) {
        int64_t i = row;
        if (d > 0) {
            i = row % o[0].shape[d];
            row /= o[0].shape[d];
        }
        x += i * o[0].strides[d];
        mask += i * o[1].strides[d];
        out += i * o[2].strides[d];
        if (d == o[0].ndim - 1)
            q = i;
    }
    const ml_softmax_job *job = &t->job;
    char *mask_data = job->p->mask == ML_MASK_NONE ? NULL : (char *)ml_view_data(&job->mask) + mask * job->mask_size;
    return (ml_softmax_line){.x = (char *)ml_view_data(&job->x) + x * job->x_size,
                             .mask = mask_data,
                             .out = (char *)ml_view_data(&job->out) + out * job->out_size,
                             .n = ml_softmax_visible(job, q)};
}

/* The start of a row that does not follow the one before in memory: no prefetcher of the machine expects it. */
static void fetch(const ml_softmax_job *job, const ml_softmax_line *before, const ml_softmax_line *line) {
    const int64_t bytes = job->xs == 1 ? least(line->n * job->x_size, FETCH_BYTES) : 0;
    if (line->x == before->x + before->n * job->x_size)
        return;
    for (int64_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(line->x + i);
}

static void fill_hidden(const ml_softmax_job *job, const ml_softmax_line *line, int64_t start, int64_t end) {
    if (start < end)
        ml_softmax_fill(job, out_at(job, line, start), job->os, end - start, ml_softmax_nothing(job));
}

static void rows_task(void *arg, int64_t task, int worker) {
    const row_job *t = arg;
    const ml_softmax_job *job = &t->job;
    float *scratch = ml_softmax_worker_scratch(job, worker);
    const int64_t start = task * t->rows_per_task, end = least(job->layout.rows, start + t->rows_per_task);
    ml_softmax_line lines[2][ML_SOFTMAX_MAX_GROUP]; /* of this run and the next */
    int turn = 0;
    for (int64_t i = start; i < least(end, start + t->group); i++)
        lines[0][i - start] = line_at(t, i);
    for (int64_t row = start; row < end; row += t->group, turn ^= 1) {
        ml_softmax_line *now = lines[turn], *next = lines[turn ^ 1];
        const int64_t count = least(t->group, end - row), then = least(t->group, end - row - count);
        for (int64_t i = 0; i < then; i++) {
            next[i] = line_at(t, row + count + i);
            fetch(job, i == 0 ? &now[count - 1] : &next[i - 1], &next[i]);
        }
        t->run(job, now, count, scratch);
        for (int64_t i = 0; i < count; i++)
            fill_hidden(job, &now[i], now[i].n, job->layout.length);
    }
}

/* A chunk of a row in SPLIT order. */
typedef struct chunk {
    ml_softmax_line line;
    running *first, *own; /* of the row's first chunk and of this one */
    float *leads;
    int64_t start, seen, end; /* columns; up to `seen` they are visible */
} chunk;

static chunk chunk_at(const row_job *t, int64_t task) {
    const ml_softmax_layout *l = &t->job.layout;
    const int64_t row = task / l->chunks, index = task % l->chunks;
    chunk c = {.line = line_at(t, row), .start = index * ML_SOFTMAX_CHUNK_LEN};
    c.end = least(l->length, c.start + ML_SOFTMAX_CHUNK_LEN);
    c.seen = least(c.end, c.line.n);
    if (c.seen < c.start)
        c.seen = c.start;
    running *all = (running *)(void *)t->job.scratch;
    c.first = all + row * l->chunks;
    c.own = c.first + index;
    c.leads = (float *)(void *)(all + l->rows * l->chunks) + row * l->blocks + c.start / ML_SOFTMAX_BLOCK_LEN;
    return c;
}

static void measure_task(void *arg, int64_t task, int worker) {
    const ml_softmax_job *job = &((const row_job *)arg)->job;
    const chunk c = chunk_at(arg, task);
    float *scratch = ml_softmax_worker_scratch(job, worker);
    *c.own = (running){job->hidden, 0.0f};
    if (job->layout.keep)
        measure_keeping(job, &c.line, c.start, c.seen, scratch, c.leads, c.own);
    else
        measure(job, &c.line, c.start, c.seen, scratch, c.own);
}

/* The chunks of each row, in order, into its first one. */
static void merge_chunks(const row_job *t) {
    for (int64_t row = 0; row < t->job.layout.rows; row++) {
        running *r = (running *)(void *)t->job.scratch + row * t->job.layout.chunks;
        for (int64_t c = 1; c < t->job.layout.chunks; c++) {
            const float lead = ml_softmax_better(&t->job, r[c].lead, r->lead);
            lead_by(&t->job, r, lead);
            lead_by(&t->job, &r[c], lead);
            r->sum += r[c].sum;
        }
    }
}

static void finish_task(void *arg, int64_t task, int worker) {
    const ml_softmax_job *job = &((const row_job *)arg)->job;
    const chunk c = chunk_at(arg, task);
    float *scratch = ml_softmax_worker_scratch(job, worker);
    if (job->layout.keep)
        finish_kept(job, &c.line, c.start, c.seen, scratch, c.leads, c.first);
    else if (c.seen > c.start)
        finish(job, &c.line, c.start, c.seen, scratch, c.first);
    fill_hidden(job, &c.line, c.seen, c.end);
}

static void set_outer(row_job *t) {
    const ml_softmax_job *job = &t->job;
    t->outer[0] = job->x;
    t->outer[1] = job->p->mask == ML_MASK_NONE ? job->x : job->mask;
    t->outer[2] = job->out;
    for (int v = 0; v < 3; v++)
        t->outer[v].ndim--; /* the axis */
    if (!job->p->causal)
        ml_views_coalesce(t->outer, 3, false);
}

/* ---- the operation ----------------------------------------------------------------------------------------------- */

static void set_weights(ml_softmax_job *job) {
    const double log2_e = 1.4426950408889634074;
    const ml_softmax_params *p = job->p;
    const float folded = (float)((double)p->scale * log2_e);
    /* A scale that leaves f32 once it is folded into the exponent, or is zero, multiplies the scores. */
    job->adds = p->mask == ML_MASK_ADDITIVE || !isfinite(folded) || fabsf(folded) < 0x1p-126f;
    job->scale = p->scale;
    job->factor = job->adds ? (float)log2_e : folded;
    job->unit = job->adds ? 1.0f : p->scale;
    job->hidden = job->factor < 0.0f ? INFINITY : -INFINITY;
}

ml_status ml_cpu_softmax(const ml_encode_args *args) {
    const ml_op *op = args->op;
    const ml_softmax_variant variant = (ml_softmax_variant)args->plan->family;
    const int axis = op->in[0].ndim - 1;
    row_job t = {.job = {.impl = args->plan->kernel->impl, .p = &op->softmax, .x = op->in[0], .out = op->out[0]}};
    ml_softmax_job *job = &t.job;
    job->mask = op->softmax.mask == ML_MASK_NONE ? job->x : op->in[1];
    ml_softmax_layout_of(op, variant, &job->layout);
    job->scratch = args->scratch;
    job->x_size = (int64_t)ml_dtype_size_of(job->x.dtype);
    job->mask_size = (int64_t)ml_dtype_size_of(job->mask.dtype);
    job->out_size = (int64_t)ml_dtype_size_of(job->out.dtype);
    const bool single = job->layout.length == 1; /* its strides mean nothing */
    job->xs = single ? 1 : job->x.strides[axis];
    job->ms = single ? 1 : job->mask.strides[axis];
    job->os = single ? 1 : job->out.strides[axis];
    set_weights(job);
    job->direct = job->xs == 1 && !job->adds && op->softmax.mask == ML_MASK_NONE;
    job->large = job->layout.rows * job->layout.length > LARGE_BYTES / (job->x_size + job->out_size);
    if (job->layout.rows == 0 || job->layout.length == 0)
        return ML_OK;

    const int workers = (int)((args->plan->scratch_bytes - job->layout.shared_bytes) / job->layout.worker_bytes);
    if (job->layout.order == ML_SOFTMAX_COLUMNS) {
        const ml_softmax_layout *l = &job->layout;
        job->tiles = l->tiles * (l->rows / job->x.shape[l->col_dim]);
        job->tiles_per_task = 1 + TASK_ELEMENTS / (l->cols * (l->length + 1));
        ml_parallel_limit((job->tiles + job->tiles_per_task - 1) / job->tiles_per_task, workers,
                          ml_softmax_columns_task, job);
        return ML_OK;
    }
    set_outer(&t);
    if (job->layout.order == ML_SOFTMAX_SPLIT) {
        const int64_t tasks = job->layout.rows * job->layout.chunks;
        ml_parallel_limit(tasks, workers, measure_task, &t);
        merge_chunks(&t);
        ml_parallel_limit(tasks, workers, finish_task, &t);
        return ML_OK;
    }
    t.run = !job->layout.vec ? block_rows : op->softmax.log ? vec_logs : vec_rows;
    t.group = job->layout.vec ? job->layout.group : 1;
    t.rows_per_task = ml_rows_per_task(&(ml_row_tasks){.rows = job->layout.rows,
                                                       .cost = job->layout.length + ROW_ELEMENTS,
                                                       .least = TASK_ELEMENTS,
                                                       .group = t.group,
                                                       .workers = workers});
    ml_parallel_limit((job->layout.rows + t.rows_per_task - 1) / t.rows_per_task, workers, rows_task, &t);
    return ML_OK;
}
