/* Devices, buffers, libraries, functions and pipelines. */
#include "softmetal/objc_classes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 16 << 10, STORAGE_PRIVATE = 2, TYPE_INT = 29, TYPE_BOOL = 53, MAX_CONSTANTS = 64 };
enum { FAMILY_APPLE1 = 1001, FAMILY_APPLE7 = 1007, FAMILY_METAL3 = 5001 };

/* ---- buffers ---- */

static void buffer_destroy(sm_id self) {
    sm_buffer_object *b = self;
    if (b->owned)
        free(b->bytes);
}

/* Memory of private buffers is there, but not for the host. */
static void *buffer_contents(sm_id self, sm_sel selector) {
    (void)selector;
    const sm_buffer_object *b = self;
    return b->is_private ? NULL : b->bytes;
}

static sm_uint buffer_length(sm_id self, sm_sel selector) {
    (void)selector;
    return ((sm_buffer_object *)self)->length;
}

static const sm_method buffer_methods[] = {SM_METHOD("contents", buffer_contents), SM_METHOD("length", buffer_length),
                                           SM_METHODS_END};
static const sm_class buffer_class = {
    .name = "MTLBuffer", .size = sizeof(sm_buffer_object), .methods = buffer_methods, .destroy = buffer_destroy};

static sm_id device_new_buffer(sm_id self, sm_sel selector, sm_uint length, sm_uint options) {
    (void)self;
    (void)selector;
    const size_t align = length >= 2u << 20 ? 2u << 20 : PAGE; /* huge pages for large ones */
    if (length == 0 || length > SIZE_MAX - align)
        return NULL;
    sm_buffer_object *b = sm_object_new(&buffer_class);
    void *bytes = NULL;
    if (!b || posix_memalign(&bytes, align, (length + PAGE - 1) / PAGE * PAGE) != 0) {
        sm_release(b);
        return NULL;
    }
    b->bytes = bytes;
    b->length = length;
    b->owned = true;
    b->is_private = (options >> 4 & 15) == STORAGE_PRIVATE;
    return b;
}

static sm_id device_wrap(sm_id self, sm_sel selector, void *bytes, sm_uint length, sm_uint options, sm_id deallocator) {
    (void)self;
    (void)selector;
    (void)options;
    if (!bytes || length == 0 || (uintptr_t)bytes % PAGE != 0 || length % PAGE != 0 || deallocator)
        return NULL;
    sm_buffer_object *b = sm_object_new(&buffer_class);
    if (!b)
        return NULL;
    b->bytes = bytes;
    b->length = length;
    return b;
}

/* ---- libraries ---- */

typedef struct options_object {
    sm_object object;
    uint32_t language_version;
} options_object;

static void options_set_version(sm_id self, sm_sel selector, sm_uint version) {
    (void)selector;
    ((options_object *)self)->language_version = (uint32_t)version;
}

/* Mathematics is always safe. */
static void options_ignore(sm_id self, sm_sel selector, long value) {
    (void)self;
    (void)selector;
    (void)value;
}

static const sm_method options_methods[] = {SM_METHOD("setLanguageVersion:", options_set_version),
                                            SM_METHOD("setMathMode:", options_ignore),
                                            SM_METHOD("setFastMathEnabled:", options_ignore), SM_METHODS_END};
static const sm_class options_class = {
    .name = "MTLCompileOptions", .size = sizeof(options_object), .methods = options_methods};

typedef struct library_object {
    sm_object object;
    sm_library *library;
} library_object;

static void library_destroy(sm_id self) {
    sm_library_release(((library_object *)self)->library);
}

typedef struct constants_object {
    sm_object object;
    int n;
    struct {
        int32_t index;
        uint32_t size;
        int32_t value; /* bool: in the first byte */
    } values[MAX_CONSTANTS];
} constants_object;

static void constants_set(sm_id self, sm_sel selector, const void *value, sm_uint type, sm_uint index) {
    (void)selector;
    constants_object *c = self;
    if (c->n == MAX_CONSTANTS || (type != TYPE_BOOL && type != TYPE_INT))
        return;
    c->values[c->n].index = (int32_t)index;
    c->values[c->n].size = type == TYPE_BOOL ? 1 : 4;
    memcpy(&c->values[c->n].value, value, c->values[c->n].size);
    c->n++;
}

static const sm_method constants_methods[] = {SM_METHOD("setConstantValue:type:atIndex:", constants_set),
                                              SM_METHODS_END};
static const sm_class constants_class = {
    .name = "MTLFunctionConstantValues", .size = sizeof(constants_object), .methods = constants_methods};

static void set_error(sm_id *error, long code) {
    if (error)
        *error = sm_error(code, ml_last_error());
}

/* A function with its constants: what a pipeline needs. */
static void function_destroy(sm_id self) {
    sm_pipeline_object *p = self;
    sm_constants_release(p->constants);
    sm_kernel_release(p->kernel);
}

static const sm_class function_class = {
    .name = "MTLFunction", .size = sizeof(sm_pipeline_object), .destroy = function_destroy};

static sm_id library_new_function(sm_id self, sm_sel selector, sm_id name, sm_id constants, sm_id *error) {
    (void)selector;
    const constants_object *c = constants;
    sm_constant_value values[MAX_CONSTANTS];
    const int n = c ? c->n : 0;
    for (int i = 0; i < n; i++)
        values[i] =
            (sm_constant_value){.index = c->values[i].index, .data = &c->values[i].value, .size = c->values[i].size};
    sm_pipeline_object *f = sm_object_new(&function_class);
    if (!f)
        return NULL;
    ml_status status =
        sm_library_load(((library_object *)self)->library, sm_text(name), sm_executor_host(), &f->kernel, NULL);
    if (status == ML_OK)
        status = sm_constants_create(f->kernel, values, n, &f->constants);
    if (status == ML_OK)
        return f;
    set_error(error, status);
    sm_release(f);
    return NULL;
}

static const sm_method library_methods[] = {
    SM_METHOD("newFunctionWithName:constantValues:error:", library_new_function), SM_METHODS_END};
static const sm_class library_class = {
    .name = "MTLLibrary", .size = sizeof(library_object), .methods = library_methods, .destroy = library_destroy};

static sm_id device_new_library(sm_id self, sm_sel selector, sm_id source, sm_id options, sm_id *error) {
    (void)selector;
    library_object *l = sm_object_new(&library_class);
    if (!l)
        return NULL;
    const sm_library_options o = {.source = sm_text(source),
                                  .checked = ((sm_device_object *)self)->checked,
                                  .language_version = options ? ((options_object *)options)->language_version : 0};
    const ml_status status = sm_library_create(&o, &l->library, NULL);
    if (status == ML_OK)
        return l;
    set_error(error, status);
    sm_release(l);
    return NULL;
}

/* ---- pipelines ---- */

static sm_uint pipeline_max_threads(sm_id self, sm_sel selector) {
    (void)selector;
    return ((sm_pipeline_object *)self)->max_threads;
}

static sm_uint pipeline_width(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return SM_SIMD_WIDTH;
}

/* The function's kernel and constants moved over, so the function must not be used again; a driver makes one of each.
 */
static const sm_method pipeline_methods[] = {SM_METHOD("maxTotalThreadsPerThreadgroup", pipeline_max_threads),
                                             SM_METHOD("threadExecutionWidth", pipeline_width), SM_METHODS_END};
static const sm_class pipeline_class = {.name = "MTLComputePipelineState",
                                        .size = sizeof(sm_pipeline_object),
                                        .methods = pipeline_methods,
                                        .destroy = function_destroy};

static sm_id device_new_pipeline(sm_id self, sm_sel selector, sm_id function, sm_id *error) {
    (void)self;
    (void)selector;
    sm_pipeline_object *f = function, *p = f && f->kernel ? sm_object_new(&pipeline_class) : NULL;
    if (!p) {
        if (error)
            *error = sm_error(ML_ERR_VALUE, "the function has been made into a pipeline already");
        return NULL;
    }
    p->kernel = f->kernel;
    p->constants = f->constants;
    f->kernel = NULL;
    f->constants = NULL;
    const uint32_t limit = p->kernel->function->max_total_threads;
    p->max_threads = limit > 0 && limit < SM_MAX_THREADS ? limit : SM_MAX_THREADS;
    return p;
}

/* ---- the device ---- */

static sm_id device_name(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return sm_string("software Metal");
}

/* What an M1 offers. */
static signed char device_supports(sm_id self, sm_sel selector, long family) {
    (void)self;
    (void)selector;
    return (family >= FAMILY_APPLE1 && family <= FAMILY_APPLE7) || family == FAMILY_METAL3;
}

static sm_size device_max_threads(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return (sm_size){SM_MAX_THREADS, SM_MAX_THREADS, SM_MAX_THREADS};
}

static sm_uint device_threadgroup_memory(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return SM_MAX_THREADGROUP_MEMORY;
}

static sm_uint device_memory(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return (sm_uint)sysconf(_SC_PHYS_PAGES) * (sm_uint)sysconf(_SC_PAGESIZE);
}

static signed char device_unified(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return 1;
}

static sm_id device_new_queue(sm_id self, sm_sel selector) {
    (void)selector;
    sm_queue_object *q = sm_object_new(&sm_queue_class);
    if (q)
        q->device = sm_retain(self);
    return q;
}

static const sm_method device_methods[] = {
    SM_METHOD("name", device_name),
    SM_METHOD("architecture", device_name), /* from macOS 14 on; nobody reads it */
    SM_METHOD("supportsFamily:", device_supports),
    SM_METHOD("maxThreadsPerThreadgroup", device_max_threads),
    SM_METHOD("maxThreadgroupMemoryLength", device_threadgroup_memory),
    SM_METHOD("recommendedMaxWorkingSetSize", device_memory),
    SM_METHOD("maxBufferLength", device_memory),
    SM_METHOD("hasUnifiedMemory", device_unified),
    SM_METHOD("newCommandQueue", device_new_queue),
    SM_METHOD("newBufferWithLength:options:", device_new_buffer),
    SM_METHOD("newBufferWithBytesNoCopy:length:options:deallocator:", device_wrap),
    SM_METHOD("newLibraryWithSource:options:error:", device_new_library),
    SM_METHOD("newComputePipelineStateWithFunction:error:", device_new_pipeline),
    SM_METHODS_END};
const sm_class sm_device_class = {.name = "MTLDevice", .size = sizeof(sm_device_object), .methods = device_methods};

const sm_class *const sm_metal_classes[] = {&sm_device_class, &buffer_class,   &options_class,  &constants_class,
                                            &library_class,   &function_class, &pipeline_class, NULL};
