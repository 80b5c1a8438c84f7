/* Hazards between the commands of one concurrent encoder: what each dispatch or blit since the last barrier touched.
 *
 * Ranges are host addresses, so two buffers over the same memory are seen as such. A dispatch of a checked kernel
 * reports the bytes that it really read and wrote; others every bound buffer, as read or written by the declared access
 * of the argument. Two reads, or two atomic accesses, need no barrier.
 */
#ifndef SM_HAZARDS_H
#define SM_HAZARDS_H

#include "softmetal/findings.h"
#include "softmetal/module.h"

typedef struct sm_hazards sm_hazards;

sm_hazards *sm_hazards_create(void); /* NULL: out of memory */
void sm_hazards_free(sm_hazards *hazards);

/* A memory barrier: earlier commands no longer conflict with later ones. With n > 0 only for the given memory
 * (memoryBarrierWithResources), else for all of it. Also at the end of an encoder, to use the tracker anew. */
typedef struct sm_range {
    const void *address;
    uint64_t length;
} sm_range;
void sm_hazards_barrier(sm_hazards *hazards, const sm_range *ranges, int n);

/* One command: begin, the accesses, end (which looks for conflicts with earlier ones and adds them to findings).
 * sm_dispatch_run does this itself for sm_dispatch.hazards; blits and library kernels are told here. kernel may be
 * NULL, else its line table is read for pc, the access's place in the code. label names the buffer and may be NULL. */
typedef enum sm_touch { SM_TOUCH_READ = 0, SM_TOUCH_WRITE, SM_TOUCH_ATOMIC } sm_touch;
typedef struct sm_access_range {
    const void *address;
    uint64_t length;
    sm_touch touch;
    int buffer;        /* binding index; -1: none */
    const char *label; /* copied; NULL: none */
    const void *pc;    /* NULL: unknown */
} sm_access_range;
ml_status sm_hazards_begin(sm_hazards *hazards, const char *name, sm_kernel *kernel);
ml_status sm_hazards_touch(sm_hazards *hazards, const sm_access_range *range);
ml_status sm_hazards_end(sm_hazards *hazards, sm_findings *findings);

#endif
