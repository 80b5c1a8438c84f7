/* How the rows of a softmax or a norm are dealt out as tasks; results do not depend on it. */
#ifndef ML_CPU_ROW_TASKS_H
#define ML_CPU_ROW_TASKS_H

#include <stdint.h>

typedef struct ml_row_tasks {
    int64_t rows, cost; /* of a row, in elements */
    int64_t least;      /* cost of what is too little for two threads */
    int64_t group;      /* rows that belong together */
    int64_t workers;
} ml_row_tasks;

/* One task for all that is too little. Else at most eight per thread, so that what follows in memory stays with one
 * thread, and where there are fewer rows smaller ones, so that the threads end together. */
static inline int64_t ml_rows_per_task(const ml_row_tasks *t) {
    enum { THREAD_TASKS = 8, FINER = 4 };
    if (t->rows <= 1 + t->least / t->cost)
        return t->rows;
    const int64_t finest = 1 + t->least / FINER / t->cost, even = t->rows / (t->workers * THREAD_TASKS);
    const int64_t rows = even > finest ? even : finest;
    return (rows + t->group - 1) / t->group * t->group;
}

#endif
