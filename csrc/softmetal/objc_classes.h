/* What the classes of the software Metal share: objects, method tables, findings. */
#ifndef SM_OBJC_CLASSES_H
#define SM_OBJC_CLASSES_H

#include "softmetal/objc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

typedef void *sm_id;
typedef void *sm_sel;
typedef unsigned long sm_uint;
typedef long sm_int;
#if defined(__aarch64__)
typedef bool sm_bool;
#else
typedef signed char sm_bool;
#endif
typedef struct sm_size { /* MTLSize, MTLOrigin */
    sm_uint width, height, depth;
} sm_size;
typedef struct sm_ns_range {
    sm_uint location, length;
} sm_ns_range;

#define SM_PAGE ((size_t)16 << 10) /* of Apple silicon */

/* ---- objects ----------------------------------------------------------------------------------------------- */

typedef struct sm_class sm_class;
typedef struct sm_command_buffer sm_command_buffer;

/* Every object begins with it. References of the program under test (what it owns, and what its autorelease pools hold)
 * are counted apart from those among the objects themselves: a message to an object that lives for the latter alone is
 * a use after release, and releasing more often than retaining never takes away what another object needs. The memory
 * of an object stays readable for ever. */
typedef struct sm_object {
    _Atomic(const sm_class *) isa;
    _Atomic(uint64_t) refs; /* low half: the program's, high half: other objects' */
    uint32_t serial;        /* tells apart the objects that lived in one place */
    bool uninitialised;     /* after alloc, before init */
} sm_object;

enum {
    SM_CLASS_NEW = 1 << 0, /* may be made by new and alloc */
    SM_CLASS_INIT = 1 << 1 /* alloc must be followed by an init... of the class */
};

struct sm_class {
    const char *name;
    const sm_class *super;
    size_t size; /* of an instance */
    unsigned flags;
    bool is_protocol; /* get_class does not know it */
    void (*destroy)(sm_id self);
    sm_command_buffer *(*command_buffer)(sm_id self); /* that findings of self belong to; NULL: none */
};

sm_id sm_object_new(const sm_class *isa); /* zeroed, one reference of the program's; NULL: out of memory */
sm_id sm_retain(sm_id object);            /* the program's; nil is fine */
void sm_release(sm_id object);
bool sm_try_release(sm_id object); /* false: the program has no reference that it could give up */
sm_id sm_autorelease(sm_id object);
sm_id sm_hand_out(sm_id object); /* retain and autorelease */
sm_id sm_keep(sm_id object);     /* another object's; nil is fine */
void sm_drop(sm_id object);
bool sm_is_released(sm_id object); /* the program has no reference left */
bool sm_is_kind(sm_id object, const sm_class *isa);

/* The object at an address that the program gave; NULL: there is none. Never touches memory that is not ours. */
sm_object *sm_object_at(const void *address);
const sm_class *sm_class_at(const void *address); /* a class object */
sm_id sm_class_object(const sm_class *isa);

/* ---- methods ----------------------------------------------------------------------------------------------- */

#define SM_INSTANCE_METHOD(class_name, selector, function, returns, arguments) returns function arguments;
#define SM_CLASS_METHOD(class_name, selector, function, returns, arguments) returns function arguments;
#include "softmetal/objc_methods.inc"
#undef SM_INSTANCE_METHOD
#undef SM_CLASS_METHOD

/* The class object's or instance's method; NULL: none. */
void *sm_method_of(const void *receiver, const char *selector);
void *sm_pool_push(void);
void sm_pool_pop(void *pool);

/* ---- findings ---------------------------------------------------------------------------------------------- */

/* Who is told, and about what call. */
typedef struct sm_call {
    sm_id self;
    sm_sel selector;
    sm_command_buffer *buffer; /* whose error it becomes; NULL: that of self, else of the next one committed */
    const char *kernel;
} sm_call;
#define SM_CALL (&(const sm_call){.self = self, .selector = selector})

/* "-[MTLBuffer contents]: " and the message. */
void sm_violation(const sm_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What works, but should not be done: no error. */
void sm_advice(const sm_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What the checker found in a command buffer, and an API finding that an NSError tells. */
void sm_found(const sm_finding *finding);
void sm_command_buffer_found(sm_command_buffer *buffer, const sm_finding *finding); /* notes it as the buffer's error */
/* Moves findings that belong to no command buffer to one's own list. */
void sm_claim_findings(sm_findings *list);
sm_objc_mode sm_current_mode(void);

/* The object if it is a living one of that class, else NULL; nil, and whatever else it is, are findings. */
sm_id sm_expect(const sm_call *call, sm_id object, const sm_class *isa, const char *argument);
sm_id sm_expect_or_nil(const sm_call *call, sm_id object, const sm_class *isa, const char *argument);

/* ---- Foundation -------------------------------------------------------------------------------------------- */

extern const sm_class sm_nsobject_class, sm_string_class, sm_number_class, sm_array_class, sm_dictionary_class,
    sm_mutable_dictionary_class, sm_url_class, sm_error_class, sm_pool_class;

sm_id sm_string(const char *text);                               /* autoreleased */
const char *sm_text(sm_id object);                               /* nil: "" */
const char *sm_path_of(sm_id object);                            /* NULL: not a file */
sm_id sm_error(const char *domain, long code, const char *text); /* autoreleased */
sm_id sm_array(const sm_id *objects, size_t n);                  /* autoreleased */
void sm_dictionary_put(sm_id dictionary, sm_id key, sm_id value);
size_t sm_dictionary_count(sm_id dictionary);
void sm_dictionary_at(sm_id dictionary, size_t i, sm_id *key, sm_id *value);
sm_id sm_dictionary(const sm_id *objects, const sm_id *keys, size_t n); /* autoreleased */

/* A malloc'ed copy of s in *place, whose old text is freed. */
void sm_set_text(char **place, const char *s);

/* ---- Metal ------------------------------------------------------------------------------------------------- */

/* What has a label: resources, pipelines, queues, command buffers, encoders. */
typedef struct sm_labelled {
    sm_object object;
    char *label;
    sm_id device; /* kept; the command buffer's and encoder's is the queue's */
} sm_labelled;
extern const sm_class sm_labelled_class;
void sm_labelled_destroy(sm_id self);

typedef struct sm_device {
    sm_object object;
    atomic_size_t allocated;
} sm_device;
extern const sm_class sm_device_class, sm_architecture_class;

typedef enum sm_storage { SM_STORAGE_SHARED = 0, SM_STORAGE_MANAGED, SM_STORAGE_PRIVATE } sm_storage;

typedef struct sm_buffer {
    sm_labelled base;
    unsigned char *bytes;
    size_t length;
    void *map; /* NULL: the program's memory */
    size_t map_bytes;
    sm_uint options;
    sm_storage storage;
} sm_buffer;
extern const sm_class sm_buffer_class;

extern const sm_class sm_compile_options_class, sm_library_class, sm_function_class, sm_function_constant_class,
    sm_constant_values_class, sm_pipeline_class, sm_pipeline_descriptor_class;

typedef struct sm_pipeline {
    sm_labelled base;
    sm_id function;
    uint32_t max_threads;
    uint64_t static_memory; /* threadgroup memory of the kernel's own */
} sm_pipeline;

/* A kernel in the form that a mode asks for, with its block of constants; both live as long as the pipeline. */
ml_status sm_pipeline_kernel(sm_pipeline *pipeline, bool checked, sm_kernel **kernel, unsigned char **constants);
const sm_function_info *sm_pipeline_info(const sm_pipeline *pipeline);

/* ---- command buffers --------------------------------------------------------------------------------------- */

typedef struct sm_queue {
    sm_labelled base;
    pthread_mutex_t lock; /* of the list */
    pthread_mutex_t run;  /* held while a command buffer of the queue runs */
    pthread_cond_t changed;
    sm_command_buffer *first, **last; /* enqueued or committed, not complete; kept */
    int open, committed, limit;       /* not committed; in the list; of both */
} sm_queue;
extern const sm_class sm_queue_class;

typedef enum sm_command_kind {
    SM_COMMAND_ENCODER = 0, /* an encoder begins */
    SM_COMMAND_BARRIER,
    SM_COMMAND_DISPATCH,
    SM_COMMAND_COPY,
    SM_COMMAND_FILL,
    SM_COMMAND_GEMM
} sm_command_kind;

/* A matrix of MPS: items of rows x columns, row_bytes and matrix_bytes apart. */
typedef struct sm_matrix {
    sm_buffer *buffer;
    size_t offset, row_bytes, matrix_bytes;
    bool half;
} sm_matrix;

/* out = alpha * op(a) op(b) + beta * out for every item; f32 accumulation. */
typedef struct sm_gemm {
    size_t m, n, k, batch;
    bool transpose_a, transpose_b;
    double alpha, beta;
    sm_matrix a, b, out;
} sm_gemm;

typedef struct sm_command {
    struct sm_command *next;
    sm_command_kind kind;
    bool concurrent;  /* of an encoder */
    sm_range *ranges; /* of a barrier; NULL: everything */
    int n_ranges;
    sm_pipeline *pipeline; /* of a dispatch */
    sm_dispatch dispatch;
    const sm_buffer *indirect; /* the grid lies there, at indirect_offset; NULL: it is known */
    size_t indirect_offset;
    struct {
        sm_buffer *from, *to;
        size_t from_offset, to_offset, size;
        unsigned char value;
    } blit;
    sm_gemm gemm;
    int n_used;
    sm_id used[]; /* kept */
} sm_command;

typedef enum sm_buffer_status {
    SM_STATUS_NOT_ENQUEUED = 0,
    SM_STATUS_ENQUEUED,
    SM_STATUS_COMMITTED,
    SM_STATUS_SCHEDULED,
    SM_STATUS_COMPLETED,
    SM_STATUS_ERROR
} sm_buffer_status;

/* Bytes given with setBytes; they live as long as the command buffer. */
typedef struct sm_bytes {
    struct sm_bytes *next;
    _Alignas(16) unsigned char data[];
} sm_bytes;

struct sm_command_buffer {
    sm_labelled base;
    sm_queue *queue;
    struct sm_command_buffer *next; /* in the queue's list */
    pthread_mutex_t lock;           /* of all that follows */
    sm_command *first, **last;
    sm_bytes *bytes;
    atomic_uint status;
    bool unretained, listed;
    sm_id encoder; /* the open one; not kept */
    int groups;    /* debug groups that are open */
    sm_objc_mode mode;
    sm_findings findings; /* errors of the API and of the checker */
    ml_status failure;    /* other than by findings */
    char failure_text[256];
    sm_id error;
    double start, end;
};
extern const sm_class sm_command_buffer_class, sm_compute_encoder_class, sm_blit_encoder_class;

/* What both kinds of encoders begin with. */
typedef struct sm_encoder {
    sm_labelled base;
    sm_command_buffer *buffer; /* kept */
    bool ended;
    int groups;
} sm_encoder;
extern const sm_class sm_encoder_class;

/* The encoder's command buffer, locked, if it may still encode; NULL (a finding) if not. */
sm_command_buffer *sm_encode(const sm_call *call);
void sm_encode_end(sm_command_buffer *buffer);
/* A new encoder of the class, which becomes the open one; NULL: may not be. */
sm_id sm_open_encoder(const sm_call *call, const sm_class *isa, bool concurrent);
void sm_encoder_destroy(sm_id self);
sm_command_buffer *sm_encoder_command_buffer(sm_id self);

/* Appends a command that keeps n_used objects (at most; they are added with sm_command_use); under the buffer's lock.
 * NULL: out of memory, which is noted. */
sm_command *sm_command_new(sm_command_buffer *buffer, sm_command_kind kind, int n_used);
void sm_command_use(sm_command *command, sm_id object);
void sm_command_buffer_fail(sm_command_buffer *buffer, ml_status status, const char *text); /* under its lock */
void sm_command_buffer_run(sm_command_buffer *buffer);                                      /* all its commands */
/* Runs what was committed to the queue, oldest first, until target has run (NULL: all that is committed). */
void sm_queue_run(sm_queue *queue, sm_command_buffer *target, const sm_call *call);

ml_status sm_gemm_run(const sm_gemm *gemm);

extern const sm_class sm_matrix_descriptor_class, sm_vector_descriptor_class, sm_matrix_class, sm_vector_class,
    sm_matrix_multiplication_class, sm_matrix_vector_class;

#endif
