// Loads a tile of an operand into threadgroup memory, four elements a thread and turn.
#ifndef ML_METAL_GEMM_LOADER_H
#define ML_METAL_GEMM_LOADER_H

#include "common/types.h"

// How a tile lies in device memory: element (r, c) at offset + r * row + c * step, of which the first rows x columns
// exist. Threadgroup memory holds it row-major as well, so `row` is the operand's large stride and `step` its small
// one.
struct TileSource {
    long offset, row, step;
    int rows, columns;
    bool whole;   // rows and columns cover the tile
    bool strided; // step is not 1
    bool vectors; // groups of four are aligned; needs step 1
};

// ROWS x COLUMNS elements of T as S, rows LD apart; zeros where nothing exists. All THREADS threads take part.
template <typename T, typename S, int THREADS> struct TileLoader {
    threadgroup S *tile;
    uint thread_index;

    // clean: elements that are not finite become zero, and the result says whether there was one.
    bool load(Operand<T> from, TileSource s, int rows, int columns, int ld, bool clean) const {
        bool found = false;
        const int groups_per_row = columns / 4, groups = rows * groups_per_row;
        for (int g = int(thread_index); g < groups; g += THREADS) {
            const int r = g / groups_per_row, c = g % groups_per_row * 4;
            vec<S, 4> v = vec<S, 4>(S(0.0f));
            const long at = s.offset + r * s.row + c * s.step;
            if (s.vectors && (s.whole || (r < s.rows && c + 4 <= s.columns))) {
                v = vec<S, 4>(from.four(at));
            } else if (s.whole || r < s.rows) {
                const long step = s.strided ? s.step : 1;
                for (int e = 0; e < 4; e++)
                    if (s.whole || c + e < s.columns)
                        v[e] = S(from.at(at + e * step));
            }
            for (int e = 0; e < 4; e++) {
                if (clean && !isfinite(float(v[e]))) {
                    v[e] = S(0.0f);
                    found = true;
                }
                tile[r * ld + c + e] = v[e];
            }
        }
        return found;
    }
};

#endif
