/* Shared by the files of test_runtime. */
#ifndef TEST_RUNTIME_H
#define TEST_RUNTIME_H

#include "core/view.h"

#define check(condition) check_at((condition), #condition, __FILE__, __LINE__)
bool check_at(bool ok, const char *what, const char *file, int line);

uint64_t rng(void);
int64_t rng_in(int64_t low, int64_t high); /* both inclusive */

ml_context *new_context(const ml_pref *prefs, int n, bool strict);
ml_tensor *empty(ml_context *ctx, ml_dtype dtype, ml_shape shape);
/* Contiguous, multiples of 1/64 in [-1, 1]: exact in every float dtype. */
ml_tensor *random_tensor(ml_context *ctx, ml_dtype dtype, ml_shape shape);
double element(const ml_view *v, const int64_t *index);
/* The call failed so, and its message has text in it. */
bool failed_with(ml_status status, ml_status expected, const char *text);

void test_ops(void);
void test_prepacked(void);

#endif
