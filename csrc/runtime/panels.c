#include "runtime/panels.h"

#include "core/prepacked.h"
#include "dispatch/gemm_layout.h"

static ml_status make(ml_context *ctx, const ml_prepacked *w, ml_pack_args *pack, ml_buffer **out) {
    const int64_t k = pack->transposed ? w->cols : w->rows, n = pack->transposed ? w->rows : w->cols;
    int64_t bytes;
    if (__builtin_mul_overflow(w->count, ml_gemm_panels_bytes(pack->kernel, k, n), &bytes))
        return ml_fail(ML_ERR_MEMORY, "matmul: panels of %lld weights of %lld x %lld fit no memory",
                       (long long)w->count, (long long)w->rows, (long long)w->cols);
    ML_TRY(ml_mempool_alloc(ctx->pool, (size_t)bytes, true, out));
    pack->panels = (*out)->host;
    ctx->device->vtbl->pack(ctx->device, pack);
    return ML_OK;
}

ml_status ml_panels_get(ml_context *ctx, ml_encode_args *args) {
    const bool of_a = args->plan->panels == ML_PANELS_OF_A;
    const ml_view *v = &args->op->in[of_a ? ML_IN_A : ML_IN_B];
    ml_prepacked *w = v->buf->prepacked;
    /* A left factor becomes a right one in C^T = B^T A^T. */
    const bool transposed = (ml_view_prepacked_form(v) == ML_PREPACKED_TRANSPOSED) != of_a;
    const ml_kernel_desc *kernel = args->plan->kernel;
    const ml_panels *panels = ml_panels_find(w, kernel->impl, transposed);
    if (__builtin_expect(!panels, 0)) {
        ml_pack_args pack = {.kernel = kernel,
                             .matrices = v->buf->host,
                             .dtype = w->dtype,
                             .count = w->count,
                             .rows = w->rows,
                             .cols = w->cols,
                             .transposed = transposed};
        ml_panels made = {.format = kernel->impl, .transposed = transposed};
        ML_TRY(make(ctx, w, &pack, &made.memory));
        args->copied_bytes += (int64_t)made.memory->size;
        args->cache_hit = false;
        panels = ml_panels_add(w, &made);
        ml_buffer_release(made.memory); /* the entry holds it now, or another thread's are kept */
        if (!panels)
            return ml_fail(ML_ERR_MEMORY, "matmul: out of memory for the panels of a prepacked weight");
    }
    args->panels = panels->memory->host;
    return ML_OK;
}
