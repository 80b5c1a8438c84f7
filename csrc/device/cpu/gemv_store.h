/* The epilogue of the vector and small-N kernels, compiled into each tier. The including file defines load_run and
 * store_run. */
#ifndef ML_GEMV_STORE_H
#define ML_GEMV_STORE_H

enum { STORE_CHUNK = 128 };

/* A matrix read or written in the order of a block: `inner` elements with stride cs, then one step of rs. */
static void load_2d(float *dst, const ml_mat *m, int64_t inner, int64_t start, int64_t count) {
    const char *data = m->data;
    const int64_t size = (int64_t)ml_dtype_size_of(m->dtype);
    if (m->rs == inner * m->cs) {
        load_run(dst, data + start * m->cs * size, m->dtype, m->cs, count);
        return;
    }
    for (int64_t o = start / inner, i = start % inner; count > 0; o++, i = 0) {
        int64_t run = inner - i < count ? inner - i : count;
        load_run(dst, data + (o * m->rs + i * m->cs) * size, m->dtype, m->cs, run);
        dst += run;
        count -= run;
    }
}

static void store_2d(const ml_mat *m, const float *src, int64_t inner, int64_t start, int64_t count) {
    char *data = m->data;
    const int64_t size = (int64_t)ml_dtype_size_of(m->dtype);
    if (m->rs == inner * m->cs) {
        store_run(data + start * m->cs * size, src, m->dtype, m->cs, count);
        return;
    }
    for (int64_t o = start / inner, i = start % inner; count > 0; o++, i = 0) {
        int64_t run = inner - i < count ? inner - i : count;
        store_run(data + (o * m->rs + i * m->cs) * size, src, m->dtype, m->cs, run);
        src += run;
        count -= run;
    }
}

static void store_block(const ml_gemv_store *s) {
    ml_mat y = {(float *)(uintptr_t)s->y, s->ldy, 1, ML_F32}, c = s->c_in, bias = s->bias, out = s->out;
    int64_t outer = s->outer, inner = s->inner;
    /* Long runs first: the direction that is contiguous in the result, unless it is a single element. */
    if (inner == 1 || (outer > 1 && out.cs != 1 && out.rs == 1)) {
        int64_t t = outer;
        outer = inner;
        inner = t;
#define SWAP(m)                                                                                                        \
    do {                                                                                                               \
        t = (m).rs;                                                                                                    \
        (m).rs = (m).cs;                                                                                               \
        (m).cs = t;                                                                                                    \
    } while (0)
        SWAP(y);
        SWAP(c);
        SWAP(bias);
        SWAP(out);
#undef SWAP
    }
    if (outer == 1) {
        /* Any stride will do; this one makes the block flat. */
        y.rs = inner * y.cs;
        c.rs = inner * c.cs;
        bias.rs = inner * bias.cs;
        out.rs = inner * out.cs;
    }
    float t[STORE_CHUNK], u[STORE_CHUNK];
    for (int64_t start = 0, total = outer * inner; start < total; start += STORE_CHUNK) {
        const int64_t count = total - start < STORE_CHUNK ? total - start : STORE_CHUNK;
        load_2d(t, &y, inner, start, count);
        if (s->alpha != 1.0f) {
            for (int64_t i = 0; i < count; i++)
                t[i] *= s->alpha;
        }
        if (c.data) {
            load_2d(u, &c, inner, start, count);
            for (int64_t i = 0; i < count; i++)
                t[i] += s->beta * u[i];
        }
        if (bias.data) {
            load_2d(u, &bias, inner, start, count);
            for (int64_t i = 0; i < count; i++)
                t[i] += u[i];
        }
        if (s->activation != ML_ACT_NONE) {
            for (int64_t i = 0; i < count; i++)
                t[i] = ml_activate(s->activation, t[i]);
        }
        store_2d(&out, t, inner, start, count);
    }
}

#endif
