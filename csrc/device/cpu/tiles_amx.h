/* The tile instructions of AMX (Intel SDM volume 1, chapter 18) under short names; tiles are given as literal numbers.
 * tests/checkasm/model_tiles.h has the same names for machines without them. */
#ifndef ML_CPU_TILES_H
#define ML_CPU_TILES_H

#include <immintrin.h>

#define tile_load_config(config) _tile_loadconfig(config)
#define tile_release() _tile_release()
#define tile_zero(tile) _tile_zero(tile)
#define tile_load(tile, at, row_bytes) _tile_loadd(tile, at, row_bytes)
#define tile_store(tile, at, row_bytes) _tile_stored(tile, at, row_bytes)
#define tile_dot_bf16(sums, a, b) _tile_dpbf16ps(sums, a, b)

#endif
