/* Shared by the files of test_core. */
#ifndef TEST_CORE_H
#define TEST_CORE_H

#include <stdbool.h>
#include <stdint.h>

#define check(condition) check_at((condition), #condition, __FILE__, __LINE__)
void check_at(bool ok, const char *what, const char *file, int line);

uint64_t rng(void);
int64_t rng_in(int64_t low, int64_t high); /* both inclusive */

void test_views(void);
void test_cache(void);

#endif
