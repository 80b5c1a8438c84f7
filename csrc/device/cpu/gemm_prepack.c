/* Packing ahead of time: the panels of B of the tiled GEMM for weights that never change. */
#include "device/cpu/cpu.h"
#include "dispatch/gemm_layout.h"

/* Elements that a task packs at least: waking a thread costs about what these do. */
#define TASK_ELEMENTS 65536

typedef struct pack_run {
    const ml_pack_args *args;
    const ml_gemm_impl *impl;
    int64_t k, n;         /* of a matrix as right factor */
    int64_t panels;       /* of a matrix */
    int64_t panel_floats; /* from one panel to the next */
    int64_t per_task;     /* panels */
} pack_run;

static void pack_task(void *arg, int64_t task, int worker) {
    (void)worker;
    const pack_run *r = arg;
    const ml_pack_args *args = r->args;
    const int64_t size = (int64_t)ml_dtype_size_of(args->dtype), all = args->count * r->panels;
    int64_t last = (task + 1) * r->per_task;
    if (last > all)
        last = all;
    for (int64_t i = task * r->per_task; i < last; i++) {
        const int64_t matrix = i / r->panels, col = i % r->panels * r->impl->nr, left = r->n - col;
        /* Columns as rows: strides of B, swapped. */
        ml_mat src = {.data = (char *)(uintptr_t)args->matrices + matrix * args->rows * args->cols * size,
                      .rs = args->transposed ? args->cols : 1,
                      .cs = args->transposed ? 1 : args->cols,
                      .dtype = args->dtype};
        src.data = (char *)src.data + col * src.rs * size;
        r->impl->pack_b((float *)args->panels + i * r->panel_floats, &src, left < r->impl->nr ? left : r->impl->nr,
                        r->k);
    }
}

void ml_cpu_pack(ml_device *dev, const ml_pack_args *args) {
    (void)dev;
    pack_run r = {.args = args, .impl = args->kernel->impl};
    r.k = args->transposed ? args->cols : args->rows;
    r.n = args->transposed ? args->rows : args->cols;
    r.panels = (r.n + r.impl->nr - 1) / r.impl->nr;
    r.panel_floats = ml_gemm_panel_floats(args->kernel, r.k);
    r.per_task = TASK_ELEMENTS / (r.impl->nr * r.k) + 1;
    ml_parallel((args->count * r.panels + r.per_task - 1) / r.per_task, pack_task, &r);
}
