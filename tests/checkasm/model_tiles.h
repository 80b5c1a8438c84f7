/* The AMX instructions of device/cpu/tiles_amx.h in software, for machines without them: the Intel SDM's operation
 * sections (volume 2: LDTILECFG, TILEZERO, TILELOADD, TILESTORED, TDPBF16PS, TILERELEASE) over plain arrays, state per
 * thread. What the processor answers with an invalid opcode (no configuration, shapes that do not go together) raises
 * SIGILL here; what the memory unit would, the guard pages of check_alloc do. */
#ifndef ML_CPU_TILES_H
#define ML_CPU_TILES_H

#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { MODEL_TILES = 8, MODEL_ROWS = 16, MODEL_ROW_BYTES = 64 };

typedef struct model_tile {
    int rows, row_bytes;
    unsigned char data[MODEL_ROWS][MODEL_ROW_BYTES];
} model_tile;

static __thread struct {
    bool configured;
    model_tile tile[MODEL_TILES];
} model_state;

static atomic_int model_threads; /* whose tiles are configured */

#define MODEL_FN static inline __attribute__((unused))

MODEL_FN void model_require(bool condition) {
    if (!condition)
        raise(SIGILL);
}

MODEL_FN int tile_threads(void) {
    return atomic_load(&model_threads);
}

MODEL_FN void tile_release(void) {
    if (model_state.configured)
        atomic_fetch_sub(&model_threads, 1);
    memset(&model_state, 0, sizeof model_state);
}

/* 64 bytes: palette, start row, 14 zeros, 16 row lengths in two bytes each, 16 numbers of rows. */
MODEL_FN void tile_load_config(const void *config) {
    const unsigned char *bytes = config;
    tile_release();
    if (bytes[0] == 0)
        return;
    model_require(bytes[0] == 1);
    for (int i = 2; i < 16; i++)
        model_require(bytes[i] == 0);
    for (int t = 0; t < 16; t++) {
        const int row_bytes = bytes[16 + 2 * t] | bytes[17 + 2 * t] << 8, rows = bytes[48 + t];
        model_require(row_bytes <= MODEL_ROW_BYTES && rows <= MODEL_ROWS && (rows == 0) == (row_bytes == 0));
        model_require(t < MODEL_TILES || rows == 0);
        if (t < MODEL_TILES) {
            model_state.tile[t].rows = rows;
            model_state.tile[t].row_bytes = row_bytes;
        }
    }
    model_state.configured = true;
    atomic_fetch_add(&model_threads, 1);
}

MODEL_FN model_tile *model_at(int tile) {
    model_require(model_state.configured && tile >= 0 && tile < MODEL_TILES && model_state.tile[tile].rows > 0);
    return &model_state.tile[tile];
}

MODEL_FN void tile_zero(int tile) {
    model_tile *t = model_at(tile);
    memset(t->data, 0, sizeof t->data);
}

/* Rows and bytes beyond the configured ones become zero. */
MODEL_FN void tile_load(int tile, const void *at, int64_t row_bytes) {
    model_tile *t = model_at(tile);
    memset(t->data, 0, sizeof t->data);
    for (int i = 0; i < t->rows; i++)
        memcpy(t->data[i], (const char *)at + i * row_bytes, (size_t)t->row_bytes);
}

MODEL_FN void tile_store(int tile, void *at, int64_t row_bytes) {
    const model_tile *t = model_at(tile);
    for (int i = 0; i < t->rows; i++)
        memcpy((char *)at + i * row_bytes, t->data[i], (size_t)t->row_bytes);
}

/* Denormals are zeros. */
MODEL_FN float model_flush(float x) {
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

MODEL_FN float model_element(const model_tile *t, int row, int column) {
    uint32_t bits;
    uint16_t half;
    float x;
    memcpy(&half, t->data[row] + 2 * column, sizeof half);
    bits = (uint32_t)half << 16;
    memcpy(&x, &bits, sizeof x);
    return model_flush(x);
}

/* One fused multiply-add, rounded to nearest even, which is the mode that tests run in. */
MODEL_FN float model_fma(float a, float b, float c) {
    return model_flush(fmaf(a, b, c));
}

MODEL_FN void tile_dot_bf16(int sums, int a, int b) {
    model_tile *c = model_at(sums);
    const model_tile *x = model_at(a), *y = model_at(b);
    model_require(sums != a && sums != b && a != b);
    model_require(x->rows == c->rows && y->row_bytes == c->row_bytes && x->row_bytes == 4 * y->rows);
    model_require(c->row_bytes % 4 == 0 && x->row_bytes % 4 == 0);
    enum { MOST = MODEL_ROW_BYTES / 4 };
    float even_b[MOST][MOST], odd_b[MOST][MOST];
    const int depth = x->row_bytes / 4, columns = c->row_bytes / 4;
    for (int p = 0; p < depth; p++) {
        for (int j = 0; j < columns; j++) {
            even_b[p][j] = model_element(y, p, 2 * j);
            odd_b[p][j] = model_element(y, p, 2 * j + 1);
        }
    }
    for (int i = 0; i < c->rows; i++) {
        float even[MOST] = {0}, odd[MOST] = {0}, row[MOST];
        for (int p = 0; p < depth; p++) {
            const float even_a = model_element(x, i, 2 * p), odd_a = model_element(x, i, 2 * p + 1);
            for (int j = 0; j < columns; j++) {
                even[j] = model_fma(even_a, even_b[p][j], even[j]);
                odd[j] = model_fma(odd_a, odd_b[p][j], odd[j]);
            }
        }
        memcpy(row, c->data[i], sizeof row);
        for (int j = 0; j < columns; j++)
            row[j] = model_flush(model_flush(row[j]) + model_flush(even[j] + odd[j]));
        memcpy(c->data[i], row, (size_t)c->row_bytes);
        memset(c->data[i] + c->row_bytes, 0, (size_t)(MODEL_ROW_BYTES - c->row_bytes));
    }
}

#endif
