/* What the classes of the software Metal share: objects, method tables, strings and errors. */
#ifndef SM_OBJC_CLASSES_H
#define SM_OBJC_CLASSES_H

#include "softmetal/executor.h"
#include "softmetal/objc.h"

#include <stdatomic.h>
#include <stddef.h>

typedef void *sm_id;
typedef void *sm_sel;
typedef unsigned long sm_uint;
typedef struct sm_size {
    sm_uint width, height, depth;
} sm_size;

/* A row of a method table: the selector's text and the C function. */
typedef struct sm_method {
    const char *selector;
    void (*function)(void);
} sm_method;
#define SM_METHOD(selector, function) {selector, (void (*)(void))(function)}
#define SM_METHODS_END {NULL, NULL}

typedef struct sm_class sm_class;

/* Every object begins with it; a class is an object too, with isa NULL. */
typedef struct sm_object {
    const sm_class *isa;
    atomic_int refs;
} sm_object;

struct sm_class {
    sm_object object;
    const char *name;
    size_t size; /* of an instance */
    const sm_method *methods, *class_methods;
    void (*destroy)(sm_id self); /* NULL: nothing but the memory */
};

sm_id sm_object_new(const sm_class *isa); /* zeroed, one reference; NULL: out of memory */
sm_id sm_retain(sm_id object);            /* nil is fine */
void sm_release(sm_id object);            /* nil is fine */
sm_id sm_autorelease(sm_id object);
sm_id sm_string(const char *text);           /* autoreleased */
const char *sm_text(sm_id string);           /* nil: "" */
sm_id sm_error(long code, const char *text); /* autoreleased */

/* The tables of classes, each ended by NULL. */
extern const sm_class *const sm_foundation_classes[], *const sm_metal_classes[], *const sm_command_classes[],
                                                                                     *const sm_mps_classes[];

/* ---- classes that others look into ---- */

typedef struct sm_device_object {
    sm_object object;
    bool checked; /* METALLIC_CHECK */
    sm_order order;
} sm_device_object;
extern const sm_class sm_device_class;

typedef struct sm_buffer_object {
    sm_object object;
    unsigned char *bytes;
    size_t length;
    bool owned, is_private;
} sm_buffer_object;

typedef struct sm_pipeline_object {
    sm_object object;
    sm_kernel *kernel;
    unsigned char *constants;
    uint32_t max_threads;
} sm_pipeline_object;

typedef struct sm_queue_object {
    sm_object object;
    sm_device_object *device;
} sm_queue_object;
extern const sm_class sm_queue_class;

/* A matrix multiplication of MPS as the command buffer runs it. */
typedef struct sm_gemm_matrix {
    sm_buffer_object *buffer;
    size_t offset, row_bytes, matrix_bytes;
    bool half;
} sm_gemm_matrix;
typedef struct sm_gemm {
    size_t m, n, k, batch;
    bool transpose_a, transpose_b;
    double alpha, beta;
    sm_gemm_matrix a, b, out;
} sm_gemm;
void sm_command_buffer_add_gemm(sm_id command_buffer, const sm_gemm *gemm); /* retains the buffers */
void sm_gemm_run(const sm_gemm *gemm);

#endif
