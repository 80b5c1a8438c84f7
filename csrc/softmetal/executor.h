/* The executor of the software Metal: runs one dispatch of one compiled kernel on all cores.
 *
 * Each MSL thread is a fiber; threadgroups are spread over the cores of core/pool.h. Barriers, simd and quad operations
 * synchronise exactly as written; the lanes' order within a threadgroup, and that of the threadgroups, is a choice, so
 * that a kernel which needs an order it does not ask for can be caught. A kernel compiled with checks
 * (sm_library_options.checked) also reports what sm_finding_kind lists.
 *
 * A dispatch returns when it has run. Dispatches may run at the same time in several threads.
 */
#ifndef SM_EXECUTOR_H
#define SM_EXECUTOR_H

#include "softmetal/findings.h"
#include "softmetal/hazards.h"
#include "softmetal/module.h"

#define SM_MAX_BUFFERS 31
#define SM_MAX_THREADGROUP_BUFFERS 31
#define SM_MAX_THREADS 1024u                    /* per threadgroup */
#define SM_MAX_THREADGROUP_MEMORY (32u * 1024u) /* bytes, static and dynamic together */

/* Services for modules: what sm_library_load takes as host. */
const sm_host *sm_executor_host(void);

/* A buffer as bound to an index. The kernel sees address + offset. */
typedef struct sm_binding {
    void *address;   /* start of the whole buffer; NULL: not bound */
    uint64_t length; /* of the whole buffer in bytes */
    uint64_t offset;
    bool read_only;
    const char *label; /* for reports; NULL: the argument's name */
} sm_binding;

typedef enum sm_order { SM_ORDER_FORWARD = 0, SM_ORDER_REVERSE, SM_ORDER_SHUFFLE } sm_order;

typedef struct sm_dispatch {
    sm_kernel *kernel;
    const unsigned char *constants; /* from sm_constants_create; NULL: a block of zeros, nothing defined */
    sm_binding buffers[SM_MAX_BUFFERS];
    uint32_t threadgroup_memory[SM_MAX_THREADGROUP_BUFFERS]; /* bytes of dynamic memory by index; 0: none */
    uint32_t grid[3];                                        /* zeros count as one */
    bool grid_in_threads; /* dispatchThreads (edge threadgroups are smaller); false: grid counts threadgroups */
    uint32_t threads_per_threadgroup[3];
    sm_order order;
    uint64_t seed;       /* of SM_ORDER_SHUFFLE */
    sm_hazards *hazards; /* tracker of a concurrent encoder; NULL: none */
    bool fault_unbound;  /* using a buffer that is not bound is an error, checked or not; false: unchecked, zeros */
} sm_dispatch;

/* Runs it; returns when all threadgroups have. Findings are appended to *findings (NULL: not wanted; severity errors
 * then only show in the status).
 * ML_OK: everything ran. Checked kernels: look at the findings.
 * ML_ERR_VALUE: nothing ran: too many threads, too much threadgroup memory, offset beyond a buffer, textures.
 * ML_ERR_DEVICE: a threadgroup was abandoned: wild access, stack overflow, division by zero, something not modelled.
 *   Unchecked, the threadgroups that had not begun did not run; checked, they did. ml_last_error() says where.
 * ML_ERR_MEMORY: no room for stacks or shadow memory. */
ml_status sm_dispatch_run(const sm_dispatch *dispatch, sm_findings *findings);

/* Bytes of the kernel's own threadgroup arrays, without guard gaps (staticThreadgroupMemoryLength). */
uint64_t sm_kernel_threadgroup_memory(const sm_kernel *kernel);

/* Gives back the stacks that are kept for the next dispatch. */
void sm_executor_trim(void);

#endif
