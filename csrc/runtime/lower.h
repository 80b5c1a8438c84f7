/* Composed operations as the operations they are made of. Pure: views and parameters only; execute.c runs the parts. */
#ifndef ML_RUNTIME_LOWER_H
#define ML_RUNTIME_LOWER_H

#include "core/op.h"

/* Attention: scores = scale * q k^T (k as a logical transpose, grouped heads by stride 0), weights = softmax(scores) in
 * place, out = weights v. No operand is copied. scores: f32 [B, Hq, L, S], contiguous. */
enum { ML_LOWERED_SDPA = 3 };
void ml_lower_sdpa(const ml_op *op, const ml_view *scores, ml_op parts[ML_LOWERED_SDPA]);
/* Shape and dtype of scores; without a buffer. */
void ml_lower_sdpa_scores(const ml_op *op, ml_view *scores);

#endif
