/* What the checker found: a list of structs, as text and as JSON. */
#ifndef SM_FINDINGS_H
#define SM_FINDINGS_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum sm_severity {
    SM_NOTE = 0, /* legal but worth knowing: several threads write the same value to the same place */
    SM_WARNING,  /* works on some devices or by chance */
    SM_ERROR
} sm_severity;

typedef enum sm_finding_kind {
    SM_FINDING_OUT_OF_BOUNDS = 0, /* device buffer, threadgroup array or thread array */
    SM_FINDING_READ_ONLY_WRITTEN, /* a buffer bound as read-only, or reached through const */
    SM_FINDING_UNBOUND_BUFFER,    /* a buffer that is not bound is used */
    SM_FINDING_RACE,              /* data race inside one dispatch */
    SM_FINDING_RACE_SAME_VALUE,   /* several threads write one place, always the same value */
    SM_FINDING_RACE_ATOMIC,       /* an atomic store and another thread's atomic read-modify-write, unordered */
    SM_FINDING_UNINITIALISED,     /* threadgroup memory is read that nobody has written */
    SM_FINDING_DIVERGENT_BARRIER, /* some threads of the group are not at this barrier */
    SM_FINDING_MISALIGNED,
    SM_FINDING_HAZARD,             /* two dispatches or blits touch one place without a barrier in between */
    SM_FINDING_WILD_ACCESS,        /* the CPU refused an access; the threadgroup was abandoned */
    SM_FINDING_STACK_OVERFLOW,     /* a thread's stack; the threadgroup was abandoned */
    SM_FINDING_ARITHMETIC,         /* integer division by zero; the threadgroup was abandoned */
    SM_FINDING_THREADGROUP_MEMORY, /* more than the device has; nothing ran */
    SM_FINDING_UNSUPPORTED,        /* the kernel uses something that is not modelled */
    SM_FINDING_API                 /* use of the API that Metal's debug layer refuses */
} sm_finding_kind;
#define SM_FINDING_KINDS 16

typedef struct sm_finding_thread {
    bool known;
    uint32_t position_in_grid[3];
    uint32_t position_in_threadgroup[3];
    uint32_t threadgroup[3];
} sm_finding_thread;

/* Strings are owned by the list; NULL or 0 where unknown. */
typedef struct sm_finding {
    sm_severity severity;
    sm_finding_kind kind;
    char *kernel;
    char *file; /* of the MSL source */
    uint32_t line;
    char *other_kernel; /* hazards: the earlier dispatch's kernel, or "blit" */
    char *other_file;   /* the other access of a race, the other barrier, the earlier dispatch */
    uint32_t other_line;
    int buffer;               /* binding index; -1: not a device buffer */
    char *variable;           /* buffer argument, threadgroup or thread array, label */
    int64_t offset;           /* bytes from the start of the buffer or array; may be negative or past the end */
    uint64_t size;            /* of the access in bytes */
    uint64_t length;          /* of the buffer or array in bytes */
    sm_finding_thread thread; /* who did it */
    sm_finding_thread other;  /* the other thread */
    uint64_t count;           /* how often the same was seen */
    char *message;            /* one sentence with all of the above but the count */
} sm_finding;

/* Grows as findings come; zero-initialise. Not for use by two threads at once. */
typedef struct sm_findings {
    sm_finding *items;
    size_t n, capacity;
} sm_findings;

/* "out-of-bounds", "race", ... for text and JSON. */
const char *sm_finding_kind_name(sm_finding_kind kind);
const char *sm_severity_name(sm_severity severity); /* "note", "warning", "error" */

/* Appends a copy of *finding (strings are copied), or raises the count of one with the same kind, kernel, lines and
 * variable. With list NULL nothing happens. Errors: ML_ERR_MEMORY. */
ml_status sm_findings_add(sm_findings *list, const sm_finding *finding);
void sm_findings_clear(sm_findings *list);
/* How many have at least this severity. */
size_t sm_findings_count(const sm_findings *list, sm_severity at_least);

/* One line per finding, "kernel.metal:12: error: race: ...\n", or a JSON array of objects whose keys are the fields of
 * sm_finding. malloc'ed, ended by 0; NULL when out of memory. */
char *sm_findings_text(const sm_findings *list);
char *sm_findings_json(const sm_findings *list);

#endif
