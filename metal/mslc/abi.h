/* The contract between a compiled kernel module (a shared object made from translated MSL, C++17) and the executor.
 *
 * A module exports one function, SM_MODULE_SYMBOL. The host calls it once after loading, with the table of services it
 * offers, and gets the table of kernels in return. Modules are loaded RTLD_LOCAL and link to nothing of the host.
 *
 * The running MSL thread is found from the stack pointer: every fiber stack is a slot of SM_STACK_BYTES, aligned to
 * SM_STACK_BYTES, with a guard page at its low end and the sm_thread at its high end (the last SM_THREAD_BYTES bytes).
 * So no thread-local storage is needed, and a lookup costs one `or` and one subtraction. Code of a module may only run
 * on such a stack, except SM_MODULE_SYMBOL itself, sm_argument.enabled and sm_combine callbacks, which run on any.
 *
 * It belongs to the translator, which writes the tables; the executor stands on it. This header is plain C and C++ and
 * is also compiled into every module.
 */
#ifndef SM_ABI_H
#define SM_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SM_ABI_VERSION 1u
#define SM_SIMD_WIDTH 32u
#define SM_QUAD_WIDTH 4u
#define SM_STACK_BYTES (256u * 1024u)
#define SM_THREAD_BYTES 1024u /* room for an sm_thread followed by the executor's own fields */
#define SM_LOOP_LEVELS 16u
#define SM_SHIM_FILE "<metal>" /* file name, in line tables and sites, of everything that is not the user's source */

/* ---- the running thread ---- */

/* One threadgroup in flight: what its threads share. Filled by the executor, read-only for the module. */
typedef struct sm_group {
    void *const *arguments;       /* by position in sm_function.arguments; see sm_argument_kind */
    unsigned char *static_memory; /* threadgroup arrays live at static_memory + sm_threadgroup_array.offset */
    uint32_t threadgroup_position_in_grid[3];
    uint32_t threads_per_threadgroup[3]; /* of this threadgroup: smaller at the edge of a non-uniform grid */
    uint32_t dispatch_threads_per_threadgroup[3];
    uint32_t threads_per_grid[3];
    uint32_t threadgroups_per_grid[3];
    uint32_t grid_origin[3];
    uint32_t grid_size[3];
    uint32_t simdgroups_per_threadgroup, dispatch_simdgroups_per_threadgroup;
    uint32_t quadgroups_per_threadgroup, dispatch_quadgroups_per_threadgroup;
} sm_group;

/* One turn of a loop that contains a simd operation or a barrier (in its text or in functions it calls). */
typedef struct sm_loop_level {
    uint32_t line; /* where the loop starts */
    uint32_t turn; /* 1 in the first iteration */
} sm_loop_level;

/* One MSL thread. The executor fills the upper part before the entry runs; the module maintains the lower part, which
 * the executor zeroes at start and only reads. */
typedef struct sm_thread {
    const sm_group *group;
    const unsigned char *constants; /* the pipeline's block of function constants, see sm_constant */
    uint32_t position_in_grid[3];
    uint32_t position_in_threadgroup[3];
    uint32_t index_in_threadgroup;
    uint32_t index_in_simdgroup;
    uint32_t simdgroup_index_in_threadgroup;
    uint32_t index_in_quadgroup;
    uint32_t quadgroup_index_in_threadgroup;

    uint32_t mark;       /* tells apart several operations of one source line; 0 where the line has one */
    uint64_t path;       /* hash over loops[0 .. loop_depth): equal for threads in the same iterations */
    uint32_t loop_depth; /* levels beyond SM_LOOP_LEVELS enter path only */
    sm_loop_level loops[SM_LOOP_LEVELS]; /* outermost first; for ordering threads whose paths differ */
} sm_thread;

/* The thread that owns the stack address p. */
static inline sm_thread *sm_thread_of(const void *p) {
    return (sm_thread *)(((uintptr_t)p | (uintptr_t)(SM_STACK_BYTES - 1)) + 1 - SM_THREAD_BYTES);
}

/* ---- host services ---- */

/* Where an operation stands in the user's source. Two lanes stand at the same place when file and line (compare the
 * text, pointers may differ), and sm_thread.mark and .path as they were at the call are equal. */
typedef struct sm_place {
    const char *operation; /* "simd_sum", "threadgroup_barrier" */
    const char *file;
    uint32_t line;
} sm_place;

/* The lanes that met. in and out point into the lanes' own stacks (as passed to meet); entries of lanes that are not
 * active are not to be read. Lane numbers are positions in the simdgroup (or quad). */
typedef struct sm_lanes {
    uint32_t active; /* bit i: lane i takes part */
    uint32_t width;  /* SM_SIMD_WIDTH or SM_QUAD_WIDTH */
    const void *in[SM_SIMD_WIDTH];
    void *out[SM_SIMD_WIDTH];
} sm_lanes;

/* Computes the results of all active lanes. Runs once per meeting, on any stack, blocks never. in and out of a lane may
 * be the same address only if the operation allows it (meet passes on what the lane gave). */
typedef void (*sm_combine)(const sm_lanes *lanes);

typedef enum sm_scope {
    SM_SCOPE_THREAD = 0,
    SM_SCOPE_SIMDGROUP,
    SM_SCOPE_THREADGROUP,
    SM_SCOPE_DEVICE,
    SM_SCOPE_QUAD
} sm_scope;

/* MSL's mem_flags, same values as metal::mem_flags in the shim. */
enum {
    SM_MEM_NONE = 0,
    SM_MEM_DEVICE = 1,
    SM_MEM_THREADGROUP = 2,
    SM_MEM_TEXTURE = 4,
    SM_MEM_THREADGROUP_IMAGEBLOCK = 8
};

/* Memory orders, as __ATOMIC_RELAXED ... __ATOMIC_SEQ_CST of gcc and clang. */

/* Flags of an access. */
enum {
    SM_ACCESS_READ = 1,
    SM_ACCESS_WRITE = 2, /* an atomic read-modify-write has both */
    SM_ACCESS_ATOMIC = 4,
    SM_ACCESS_UNALIGNED = 8 /* the compiler could not prove natural alignment; not an error by itself */
};

typedef struct sm_host {
    uint32_t abi; /* SM_ABI_VERSION */

    /* Blocks until every live thread of the scope (SIMDGROUP or THREADGROUP) has come to a barrier. */
    void (*barrier)(const sm_place *place, sm_scope scope, uint32_t mem_flags);
    /* A fence without synchronisation: tells the checker; the module issues the CPU's fence itself. */
    void (*fence)(const sm_place *place, sm_scope scope, uint32_t mem_flags, int order);
    /* Blocks until the lanes of the scope (SIMDGROUP or QUAD) that come to this place are there; the last one runs
     * combine for all; then each continues. Lanes that have ended, wait at a barrier, or stand at another place when
     * nothing in the simdgroup can run any more do not take part. Among several waiting places the earliest is served
     * first: compare loops, then sm_module.ranks (line where a place has none), then mark. */
    void (*meet)(const sm_place *place, sm_scope scope, sm_combine combine, const void *in, void *out);
    /* Lanes of the calling simdgroup that would take part in an operation now, without meeting: bit per lane. Only for
     * simd_active_threads_mask's siblings that do not synchronise; the mask of live lanes is a correct answer. */
    uint32_t (*live_lanes)(void);
    /* Ends the dispatch with an error: something is called that is declared but not modelled. Does not return. */
    void (*unsupported)(const sm_place *place, const char *message);

    /* Checked modules only (sm_module.checked); never called otherwise. pc is the return address of the callback, that
     * is just after the access: look up pc - 1 in the module's line table and take the innermost inlined frame whose
     * file is not SM_SHIM_FILE. Accesses to the fiber's own stack, to the constants block and to the module's image
     * (constant tables) also arrive here. Addresses are those of sm_group.arguments and static_memory. */
    void (*access)(const void *address, uint64_t size, uint32_t flags, const void *pc);
    /* Index out of the range of an array of known size (thread arrays, threadgroup arrays, members). The access itself
     * follows when this returns. type: "float [16]". */
    void (*out_of_bounds)(const char *file, uint32_t line, uint32_t column, int64_t index, const char *type,
                          const void *pc);
    /* Address is not a multiple of alignment, or null (alignment 0). The access follows when this returns. */
    void (*misaligned)(const char *file, uint32_t line, uint32_t column, const void *address, uint32_t alignment,
                       const char *type, const void *pc);
} sm_host;

/* ---- what a module offers ---- */

typedef enum sm_argument_kind {
    SM_ARGUMENT_BUFFER = 0,  /* arguments[i]: address of the bound bytes (offset applied) */
    SM_ARGUMENT_THREADGROUP, /* arguments[i]: dynamic threadgroup memory of [[threadgroup(index)]] */
    SM_ARGUMENT_BUILTIN,     /* thread_position_in_grid and its siblings: arguments[i] is not read */
    SM_ARGUMENT_TEXTURE,     /* declared, not modelled: a dispatch must refuse it */
    SM_ARGUMENT_SAMPLER
} sm_argument_kind;

typedef enum sm_access_mode { SM_MODE_READ = 0, SM_MODE_READ_WRITE } sm_access_mode;

/* One parameter of a kernel, in the order of its declaration. */
typedef struct sm_argument {
    sm_argument_kind kind;
    int32_t index;         /* binding index in its kind; -1 for built-ins */
    const char *name;      /* parameter name */
    const char *type;      /* element type as written: "float", "Params"; a built-in: "thread_position_in_grid" */
    uint32_t element_size; /* sizeof of what the pointer or reference points to; 0 for void */
    uint32_t element_align;
    sm_access_mode access; /* READ where the pointee is const or in constant address space */
    uint8_t is_constant;   /* constant address space */
    uint8_t is_reference;  /* needs at least element_size bytes */
    uint8_t is_pointer;
    uint8_t is_conditional; /* has [[function_constant(c)]] */
    /* NULL: always there. Else evaluates c for a constants block; an argument that is not enabled may be unbound and is
     * passed as a null pointer. */
    int (*enabled)(const unsigned char *constants);
} sm_argument;

/* A constant declared with [[function_constant(index)]]. The block of a pipeline is immutable once built:
 * sm_module.constants_bytes bytes, aligned to 32, zero-filled, value at offset, and the byte at defined_offset 1 where
 * the pipeline gives a value (0: is_function_constant_defined is false, reads give zero). */
typedef struct sm_constant {
    const char *name;
    int32_t index;
    const char *type; /* "bool", "int", "float4" as written */
    uint32_t size;
    uint32_t offset, defined_offset;
    uint8_t optional; /* the source asks is_function_constant_defined(name) */
} sm_constant;

/* A threadgroup variable declared in a kernel: one per declaration and instantiation. The executor chooses offset once,
 * after loading and before the first dispatch: a multiple of align, guard gaps between arrays as it likes. */
typedef struct sm_threadgroup_array {
    struct sm_threadgroup_array *next;
    const char *name;
    const char *file;
    uint32_t line;
    uint32_t align;
    uint64_t size;
    uint64_t offset; /* written by the executor */
} sm_threadgroup_array;

typedef struct sm_function {
    const char *name;               /* as the host asks for it (host_name where given) */
    void (*entry)(sm_thread *self); /* runs one thread, on its own fiber stack */
    const sm_argument *arguments;
    uint32_t n_arguments;
    uint32_t max_total_threads; /* [[max_total_threads_per_threadgroup(n)]]; 0: not given */
    const char *file;           /* where the kernel is defined */
    uint32_t line;
} sm_function;

/* Order of execution of the places of a module, from its call graph: a place with a lower rank comes first. */
typedef struct sm_rank {
    const char *file;
    uint32_t line;
    uint32_t rank;
} sm_rank;

typedef struct sm_module {
    uint32_t abi; /* SM_ABI_VERSION */
    uint32_t checked;
    const sm_function *functions;
    uint32_t n_functions;
    const sm_constant *constants;
    uint32_t n_constants;
    uint32_t constants_bytes;
    sm_threadgroup_array *arrays; /* linked list, in no particular order */
    const sm_rank *ranks;         /* sorted by (file, line) */
    uint32_t n_ranks;
} sm_module;

/* NULL when host->abi is not SM_ABI_VERSION. host must outlive the module. */
typedef const sm_module *(*sm_module_open_fn)(const sm_host *host);
#define SM_MODULE_SYMBOL "sm_module_open"

#ifdef __cplusplus
}
#endif

#endif
