/* The loop nest of element-wise operations: merge dims, cut into tiles, hand them to the pool. */
#include "device/cpu/elementwise.h"

#include <string.h>

enum {
    TILE_ELEMENTS = 16 * 1024, /* a few microseconds of work, and within L2 with three operands */
    CROSS_ROWS = 64,           /* a tile with a transposed operand: 32 KiB of f32 */
    CROSS_COLS = 128,
    TASK_ELEMENTS = 32 * 1024, /* least work of a task, a few microseconds */
    PARALLEL_ELEMENTS = 128 * 1024
};

typedef struct nest {
    const ml_elementwise_impl *impl;
    ml_ew_tile_fn fn;
    void *arg;
    int n, ndim;
    int col, row; /* dims of a tile's columns and rows; row -1: one row */
    int64_t shape[ML_MAX_DIMS];
    int64_t strides[ML_EW_MAX_VIEWS][ML_MAX_DIMS]; /* elements */
    char *data[ML_EW_MAX_VIEWS];
    int64_t size[ML_EW_MAX_VIEWS]; /* bytes of an element */
    int64_t tile_rows, tile_cols;
    bool cross[ML_EW_MAX_VIEWS]; /* runs across: comes transposed */
    int64_t tiles, tiles_per_task;
} nest;

static int64_t magnitude(int64_t x) {
    return x < 0 ? -x : x;
}

/* Walks every dim of views[0] upwards. */
static void flip_negative(nest *t) {
    for (int d = 0; d < t->ndim; d++) {
        if (t->strides[0][d] >= 0)
            continue;
        for (int v = 0; v < t->n; v++) {
            t->data[v] += (t->shape[d] - 1) * t->strides[v][d] * t->size[v];
            t->strides[v][d] = -t->strides[v][d];
        }
    }
}

/* The dim along which operand v moves least, if that is less than along the columns; else -1. */
static int nearest_dim(const nest *t, int v) {
    int best = -1;
    int64_t least = magnitude(t->strides[v][t->col]);
    for (int d = 0; d < t->col; d++) {
        int64_t stride = magnitude(t->strides[v][d]);
        if (stride != 0 && stride < least) {
            least = stride;
            best = d;
        }
    }
    return best;
}

static void plan_tiles(nest *t, int64_t cost) {
    const int64_t most = TILE_ELEMENTS / cost; /* so that a tile does not outgrow a task */
    t->col = t->ndim - 1;
    t->row = t->ndim - 2;
    bool any_cross = false;
    for (int v = 1; v < t->n && !any_cross; v++) {
        int near = nearest_dim(t, v);
        if (near >= 0 && magnitude(t->strides[v][near]) == 1) {
            t->row = near;
            any_cross = true;
        }
    }
    for (int v = 1; v < t->n && any_cross; v++)
        t->cross[v] = t->strides[v][t->row] == 1 && magnitude(t->strides[v][t->col]) > 1;
    int64_t cols = t->shape[t->col], rows = t->row >= 0 ? t->shape[t->row] : 1;
    if (any_cross) {
        t->tile_cols = cols < CROSS_COLS ? cols : CROSS_COLS;
        t->tile_rows = rows < CROSS_ROWS ? rows : CROSS_ROWS;
    } else {
        t->tile_cols = cols < most ? cols : most;
        int64_t fit = most / t->tile_cols;
        t->tile_rows = rows < fit ? rows : fit;
    }
}

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static void run_tile(const nest *t, int64_t index) {
    ml_ew_tile tile;
    int64_t col_tiles = ceil_div(t->shape[t->col], t->tile_cols);
    int64_t j = index % col_tiles * t->tile_cols;
    index /= col_tiles;
    int64_t i = 0, rows = 1;
    if (t->row >= 0) {
        int64_t row_tiles = ceil_div(t->shape[t->row], t->tile_rows);
        i = index % row_tiles * t->tile_rows;
        rows = t->shape[t->row] - i;
        index /= row_tiles;
    }
    int64_t offset[ML_EW_MAX_VIEWS];
    for (int v = 0; v < t->n; v++) {
        offset[v] = j * t->strides[v][t->col] + (t->row >= 0 ? i * t->strides[v][t->row] : 0);
        tile.cs[v] = t->strides[v][t->col];
        tile.rs[v] = t->row >= 0 ? t->strides[v][t->row] : 0;
    }
    for (int d = t->ndim - 1; d >= 0; d--) {
        if (d == t->col || d == t->row)
            continue;
        int64_t k = index % t->shape[d];
        index /= t->shape[d];
        for (int v = 0; v < t->n; v++)
            offset[v] += k * t->strides[v][d];
    }
    tile.cols = t->shape[t->col] - j < t->tile_cols ? t->shape[t->col] - j : t->tile_cols;
    tile.rows = rows < t->tile_rows ? rows : t->tile_rows;
    _Alignas(64) uint32_t turned[ML_EW_MAX_VIEWS - 1][CROSS_ROWS * CROSS_COLS];
    for (int v = 0; v < t->n; v++) {
        tile.data[v] = t->data[v] + offset[v] * t->size[v];
        if (!t->cross[v])
            continue;
        ml_ew_transpose job = {turned[v - 1], tile.data[v], CROSS_COLS, tile.cs[v], tile.rows, tile.cols};
        t->impl->transpose[t->size[v] / 2](&job);
        tile.data[v] = (char *)turned[v - 1];
        tile.rs[v] = CROSS_COLS;
        tile.cs[v] = 1;
    }
    t->fn(t->arg, &tile);
}

static void nest_task(void *arg, int64_t task, int worker) {
    const nest *t = arg;
    (void)worker;
    int64_t first = task * t->tiles_per_task;
    int64_t last = first + t->tiles_per_task < t->tiles ? first + t->tiles_per_task : t->tiles;
    for (int64_t i = first; i < last; i++)
        run_tile(t, i);
}

void ml_ew_run(const ml_elementwise_impl *impl, const ml_view *views, int n, const ml_ew_work *work) {
    int64_t elements = ml_view_size(&views[0]);
    if (elements == 0)
        return;
    ml_view merged[ML_EW_MAX_VIEWS];
    memcpy(merged, views, (size_t)n * sizeof *views);
    ml_views_coalesce(merged, n, true);
    nest t = {.impl = impl, .fn = work->fn, .arg = work->arg, .n = n, .ndim = merged[0].ndim};
    for (int v = 0; v < n; v++) {
        t.data[v] = ml_view_data(&merged[v]);
        t.size[v] = (int64_t)ml_dtype_size_of(merged[v].dtype);
        memcpy(t.strides[v], merged[v].strides, sizeof t.strides[v]);
    }
    memcpy(t.shape, merged[0].shape, sizeof t.shape);
    if (t.ndim == 0) {
        t.ndim = 1;
        t.shape[0] = 1;
        for (int v = 0; v < n; v++)
            t.strides[v][0] = 1;
    }
    flip_negative(&t);
    plan_tiles(&t, work->cost);
    t.tiles = elements / t.shape[t.col] * ceil_div(t.shape[t.col], t.tile_cols);
    if (t.row >= 0)
        t.tiles = t.tiles / t.shape[t.row] * ceil_div(t.shape[t.row], t.tile_rows);
    t.tiles_per_task = t.tiles;
    if (elements >= PARALLEL_ELEMENTS / work->cost) {
        int64_t tasks = elements / (TASK_ELEMENTS / work->cost);
        int64_t most = 8 * (int64_t)ml_get_num_threads(); /* enough to even out, without an exchange per tile */
        t.tiles_per_task = ceil_div(t.tiles, tasks < most ? tasks : most);
    }
    ml_parallel(ceil_div(t.tiles, t.tiles_per_task), nest_task, &t);
}
