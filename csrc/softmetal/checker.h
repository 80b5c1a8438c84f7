/* The checker: shadow memory behind the access callbacks of a checked module.
 *
 * Memory is divided into cells of 1, 2 or 4 bytes. Of each cell the checker knows the last write and up to two reads
 * as 64-bit words
 *
 *     interval (28 bits) | simd epoch (8) | index in threadgroup (10) | kind (2) | site (16)
 *
 * An interval is what lies between two barriers of one threadgroup; numbers grow over the dispatch, so an interval
 * below the threadgroup's first belongs to another threadgroup. The simd epoch counts a simdgroup's barriers. Device
 * and threadgroup memory have counters of their own, since a barrier orders only the memory its flags name. Two
 * accesses are ordered when one thread made them, when they lie in different intervals of one threadgroup, or in
 * different epochs of one simdgroup. The site is an index into the table of code addresses.
 *
 * A checked dispatch runs on one OS thread: what it reports does not depend on timing.
 */
#ifndef SM_CHECKER_H
#define SM_CHECKER_H

#include "softmetal/engine.h"

enum { SM_SPACE_DEVICE = 0, SM_SPACE_THREADGROUP = 1 };
enum { SM_SITES = 1 << 14, SM_RAW_LIMIT = 1024, SM_PENDING = 32 };

/* Memory with one shadow: bound buffers that overlap share one, each threadgroup array has one. */
typedef struct sm_cells {
    uintptr_t low;   /* as the kernel sees it */
    uint64_t length; /* bytes */
    uint8_t space;
    uint8_t shift;   /* log2 of the cell */
    bool used;       /* some cell is not zero */
    bool read_only;  /* every binding is */
    bool constant;   /* the kernel reaches it through const only: no shadow, unless hazards are tracked */
    uintptr_t bound; /* lowest address that is bound: below it lies the part before the offset */
    uint64_t n;      /* cells */
    uint64_t *write, *read, *other_read;
    const sm_threadgroup_array *array; /* NULL: device memory or a threadgroup argument */
    const char *name;                  /* threadgroup memory */
    char *original;                    /* where the bytes came from; low when they were not copied */
} sm_cells;

/* A bound buffer, for names. */
typedef struct sm_bound {
    uintptr_t low; /* start of the buffer as the kernel sees it */
    uint64_t length, offset;
    int index;
    const char *name;
    sm_cells *cells;
    bool read_only, writes; /* bound as read-only; the kernel may write it */
} sm_bound;

typedef struct sm_site {
    const void *pc;  /* NULL: free */
    sm_cells *cells; /* the last it touched in device memory */
    sm_cells *array; /* the last threadgroup array */
} sm_site;

/* A finding before its lines are known. */
typedef struct sm_raw {
    sm_severity severity;
    sm_finding_kind kind;
    const void *pc, *other_pc; /* return addresses; NULL: see the places */
    const char *file, *other_file;
    uint32_t line, other_line;
    const char *operation; /* barrier findings, and what is not supported */
    bool write, other_write, atomic, other_atomic;
    int buffer;
    const char *variable;
    int64_t offset;
    uint64_t size, length;
    uint32_t group[3], other_group[3];
    uint32_t thread, other; /* index in threadgroup; SM_NOBODY: unknown */
    uint64_t count;
    int64_t index;       /* of an array of known size; type is not NULL then */
    const char *type;    /* "float [16]" */
    const void *near_pc; /* of an index: the access that variable and offset were taken from */
    bool other_ended;    /* barriers: the other thread has ended */
    const char *note;    /* what else to say; static or of the module */
} sm_raw;

typedef struct sm_raws {
    sm_raw *items;
    uint32_t n, capacity;
    uint16_t recent[1024]; /* by hash: index + 1 of the finding with these code addresses */
} sm_raws;

typedef struct sm_pending_write {
    unsigned char before[4];
    uintptr_t address;
    uint32_t bytes;
    sm_raw raw;
} sm_pending_write;

typedef struct sm_checker {
    sm_job *job;
    uint32_t interval[2], first[2]; /* by space */
    uint8_t epoch[SM_MAX_SIMDGROUPS][2];
    uintptr_t memory, memory_end; /* threadgroup memory */
    uintptr_t guard, guard_end;   /* its mapping */
    uintptr_t image, image_end;   /* the module: tables and constant data */
    uintptr_t constants, constants_end;
    uintptr_t host, host_end; /* the table of services */
    uint16_t *array_at;       /* by (address - memory) / 16: index in arrays + 1; 0: gap */
    sm_cells *arrays;
    uint32_t n_arrays;
    sm_cells device[SM_MAX_BUFFERS];
    uint32_t n_device;
    sm_bound bound[SM_MAX_BUFFERS];
    uint32_t n_bound;
    char *arena; /* where the buffers' copies are */
    size_t arena_bytes;

    uint32_t *group_first; /* first device interval of each threadgroup that ran, ascending */
    uint32_t (*group_position)[3];
    bool *group_released; /* it has issued a release fence of device scope */
    bool observed;        /* the running group has read device memory atomically */
    bool acquired;        /* ... and issued an acquire fence of device scope after that */
    uint64_t n_groups, group_capacity;

    bool fault_expected;  /* the running thread's last access was reported already */
    uintptr_t misaligned; /* address of the misaligned access that the running thread is about to make */
    uint32_t bounds_raw;  /* finding of the last index callback, plus 1, until bounds_thread uses threadgroup memory */
    uint32_t bounds_thread;
    sm_pending_write pending[SM_PENDING];
    uint32_t n_pending;
    sm_raws raws;
    sm_site sites[SM_SITES + 1]; /* the last one stands for all that found no place */
    uint32_t n_sites;
} sm_checker;

/* ---- checker.c: called while the kernel runs ---- */

void sm_check_access(const void *address, uint64_t size, uint32_t flags, const void *pc);
void sm_check_index(const char *file, uint32_t line, uint32_t column, int64_t index, const char *type, const void *pc);
void sm_check_misaligned(const char *file, uint32_t line, uint32_t column, const void *address, uint32_t alignment,
                         const char *type, const void *pc);
/* Completes what waits for the memory to be written. */
void sm_check_flush(sm_checker *c);

/* Makes the epochs of this simdgroup's accesses in this interval 0. */
void sm_check_age(sm_checker *c, uint32_t simdgroup, int space);

/* ---- sync.c: barriers and fences ---- */

void sm_check_fence(const sm_place *place, sm_scope scope, uint32_t mem_flags, int order);
void sm_check_group(sm_engine *e);
/* All live threads stand at a barrier, which is about to open. */
void sm_check_barrier(sm_engine *e);
void sm_check_simd_barrier(sm_engine *e, sm_simdgroup *s, uint32_t slots);

/* ---- shadow.c: memory ---- */

/* The checker of a dispatch; copies the bound buffers to where overruns are seen. Changes job->arguments. */
ml_status sm_checker_create(sm_job *job, sm_checker **out);
/* Once the engine is known. */
ml_status sm_checker_attach(sm_checker *c, sm_engine *e);
/* Copies back what the kernel wrote and tells job->dispatch->hazards what it touched. */
ml_status sm_checker_finish(sm_checker *c);
void sm_checker_free(sm_checker *c);
/* Makes the cells smaller; keeps what they hold. False: out of memory. */
bool sm_cells_refine(sm_cells *cells, uint8_t shift);
/* Forgets all accesses, when interval numbers run out. */
void sm_checker_forget(sm_checker *c);

/* ---- report.c ---- */

/* Adds or counts; returns the index, or SM_NOBODY when the list is full. */
uint32_t sm_raw_add(sm_raws *raws, const sm_raw *raw);
/* Counts one more of this kind between these code addresses; false: there is none yet. */
bool sm_raw_again(sm_raws *raws, sm_finding_kind kind, const void *pc, const void *other_pc);
/* Turns what was found into findings, with lines. job gives positions. */
ml_status sm_report(const sm_job *job, sm_raws *raws, sm_findings *findings);
/* Fills in the running threadgroup and a thread of it; no other thread and no buffer yet. */
void sm_raw_who(sm_raw *raw, const sm_engine *e, uint32_t thread);
/* What abandoned e's threadgroup. */
void sm_raw_from_fault(const sm_engine *e, sm_raw *raw);

/* ---- lines.c ---- */

typedef struct sm_line {
    char *file; /* malloc'ed; NULL: unknown */
    uint32_t line;
} sm_line;
/* The source lines of n code addresses of a kernel (each the address of an instruction). Unknown ones stay zero. */
void sm_lines_find(const sm_kernel *kernel, const uintptr_t *pcs, size_t n, sm_line *out);
/* Whether a file name is the shim's, not the user's. */
bool sm_shim_file(const char *file);
/* Frees what it keeps in a layout. */
void sm_lines_forget(sm_layout *layout);

#endif
