/* A small JSON writer: one line of UTF-8 text, built in memory. Errors are remembered and reported by ml_json_finish.
 */
#ifndef ML_RUNTIME_JSON_H
#define ML_RUNTIME_JSON_H

#include "core/status.h"

typedef struct ml_json {
    char *data;
    size_t size, capacity;
    bool comma;  /* the next value needs one before it */
    bool failed; /* out of memory */
} ml_json;
#define ML_JSON_INIT {0}

/* key NULL: an element of an array, or the outermost value. */
void ml_json_object_begin(ml_json *j, const char *key);
void ml_json_object_end(ml_json *j);
void ml_json_array_begin(ml_json *j, const char *key);
void ml_json_array_end(ml_json *j);
/* value NULL writes null; bytes that are no UTF-8 become U+FFFD. */
void ml_json_string(ml_json *j, const char *key, const char *value);
void ml_json_int(ml_json *j, const char *key, int64_t value);
/* The shortest of 9 to 17 digits that reads back equal; NaN and infinities write null (JSON has no such numbers). */
void ml_json_number(ml_json *j, const char *key, double value);
void ml_json_bool(ml_json *j, const char *key, bool value);
void ml_json_ints(ml_json *j, const char *key, const int64_t *values, int n);
/* text is a complete JSON value. */
void ml_json_raw(ml_json *j, const char *key, const char *text);

/* Hands the text over (ml_free). ML_ERR_MEMORY when any of the calls ran out of memory; the writer is empty afterwards.
 */
ml_status ml_json_finish(ml_json *j, char **out);
void ml_json_discard(ml_json *j);

#endif
