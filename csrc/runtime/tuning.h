/* Tuning tables: measured winners per device, shape class and dtype. tuning/README.md describes the file format. */
#ifndef ML_RUNTIME_TUNING_H
#define ML_RUNTIME_TUNING_H

#include "core/op.h"

/* Rows for ml_caps.tuning, in the order of the file. Immutable; release them after the last plan that used them. */
typedef struct ml_tuning {
    ml_tuning_row *rows; /* NULL when n is 0 */
    int n;
} ml_tuning;

/* The rows for a device ("cpu", "metal", "cuda") and family ("avx512", "apple7", ...; ml_caps.family). The user's table
 * <cache_dir>/tuning.csv replaces the shipped one for the devices it has rows for; cache_dir NULL or "" means no user
 * table. A user table that cannot be read or has any fault is ignored as a whole and reported once (ml_warn_once, with
 * the line). No rows is not an error: out->n is 0. Errors: ML_ERR_MEMORY. */
ml_status ml_tuning_for(const char *device, const char *family, const char *cache_dir, ml_tuning *out);
void ml_tuning_release(ml_tuning *tuning);

/* Parses a table's text; only rows whose device and family match are kept. Errors: ML_ERR_VALUE with name, line number
 * and what is wrong (rows of other devices are checked too), ML_ERR_MEMORY. */
typedef struct ml_tuning_query {
    const char *device, *family;
} ml_tuning_query;
ml_status ml_tuning_parse(const char *name, const char *text, const ml_tuning_query *query, ml_tuning *out);

#endif
