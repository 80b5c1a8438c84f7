/* Function constants, functions, pipelines. */
#include "softmetal/objc_library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FUNCTION_KERNEL = 3, PIPELINE_COMPILE_FAILURE = 3 }; /* MTLFunctionType, the compiler's own domain */
#define PIPELINE_DOMAIN "CompilerError"

/* ---- data types ---------------------------------------------------------------------------------------------- */

/* MTLDataType of the scalar; vectors of 2, 3, 4 follow it. */
static const struct {
    const char *name, *other;
    uint32_t code;
    uint32_t size;
} scalars[] = {{"float", NULL, 3, 4},       {"half", NULL, 16, 2},        {"int", "int32_t", 29, 4},
               {"uint", "uint32_t", 33, 4}, {"short", "int16_t", 37, 2},  {"ushort", "uint16_t", 41, 2},
               {"char", "int8_t", 45, 1},   {"uchar", "uint8_t", 49, 1},  {"bool", NULL, 53, 1},
               {"long", "int64_t", 81, 8},  {"ulong", "uint64_t", 85, 8}, {"bfloat", "bfloat16_t", 121, 2}};
enum { SCALARS = sizeof scalars / sizeof *scalars };

typedef struct data_type {
    uint32_t element, count;
} data_type;

static bool find_type(sm_uint code, data_type *out) {
    for (int i = 0; i < SCALARS; i++)
        if (code >= scalars[i].code && code < scalars[i].code + 4) {
            *out = (data_type){scalars[i].size, (uint32_t)(code - scalars[i].code + 1)};
            return true;
        }
    return false;
}

/* A vector of three has the size of one of four. */
static size_t type_size(data_type t) {
    return (size_t)t.element * (t.count == 3 ? 4 : t.count);
}

static void type_name(sm_uint code, char out[16]) {
    for (int i = 0; i < SCALARS; i++)
        if (code >= scalars[i].code && code < scalars[i].code + 4) {
            const unsigned count = (unsigned)(code - scalars[i].code + 1);
            snprintf(out, 16, count > 1 ? "%.8s%u" : "%.8s", scalars[i].name, count);
            return;
        }
    snprintf(out, 16, "%lu", code);
}

/* MTLDataType of a type as the source has it; 0: another one. */
static uint32_t code_of(const char *type) {
    if (strncmp(type, "metal::", 7) == 0)
        type += 7;
    for (int i = 0; i < SCALARS; i++) {
        if (scalars[i].other && strcmp(type, scalars[i].other) == 0)
            return scalars[i].code;
        const size_t n = strlen(scalars[i].name);
        if (strncmp(type, scalars[i].name, n) != 0)
            continue;
        if (type[n] == '\0')
            return scalars[i].code;
        if (type[n] >= '2' && type[n] <= '4' && type[n + 1] == '\0')
            return scalars[i].code + (uint32_t)(type[n] - '1');
    }
    return 0;
}

/* ---- constants ----------------------------------------------------------------------------------------------- */

typedef struct constant_value {
    char *name; /* NULL: by index */
    uint32_t index, type;
    uint32_t size;
    unsigned char data[32];
} constant_value;

typedef struct constant_values {
    sm_object object;
    constant_value *items;
    int n;
} constant_values;

static void clear_values(constant_values *c) {
    for (int i = 0; i < c->n; i++)
        free(c->items[i].name);
    free(c->items);
    c->items = NULL;
    c->n = 0;
}

static void values_destroy(sm_id self) {
    clear_values(self);
}

const sm_class sm_constant_values_class = {.name = "MTLFunctionConstantValues",
                                           .super = &sm_nsobject_class,
                                           .size = sizeof(constant_values),
                                           .flags = SM_CLASS_NEW,
                                           .destroy = values_destroy};

static bool same_constant(const constant_value *a, const char *name, uint32_t index) {
    return a->name && name ? strcmp(a->name, name) == 0 : !a->name && !name && a->index == index;
}

static void set_value(constant_values *c, const constant_value *v) {
    for (int i = 0; i < c->n; i++)
        if (same_constant(&c->items[i], v->name, v->index)) {
            char *name = c->items[i].name;
            c->items[i] = *v;
            c->items[i].name = name;
            return;
        }
    constant_value *grown = realloc(c->items, ((size_t)c->n + 1) * sizeof *grown);
    if (!grown)
        return;
    c->items = grown;
    c->items[c->n] = *v;
    c->items[c->n].name = v->name ? strdup(v->name) : NULL;
    c->n++;
}

/* Reads a value as the program has it: three elements of a vector of three. */
static bool read_value(const sm_call *call, const void *value, sm_uint type, constant_value *out) {
    data_type t;
    if (!find_type(type, &t)) {
        sm_violation(call, "%lu is no MTLDataType that a function constant can have", type);
        return false;
    }
    if (!value) {
        sm_violation(call, "the pointer to the value is NULL");
        return false;
    }
    out->type = (uint32_t)type;
    out->size = (uint32_t)type_size(t);
    memcpy(out->data, value, (size_t)t.element * t.count);
    return true;
}

void sm_constants_set_at_index(sm_id self, sm_sel selector, const void *value, sm_uint type, sm_uint index) {
    sm_constants_set_range(self, selector, value, type, (sm_ns_range){index, 1});
}

void sm_constants_set_with_name(sm_id self, sm_sel selector, const void *value, sm_uint type, sm_id name) {
    constant_value v = {0};
    if (!sm_expect(SM_CALL, name, &sm_string_class, "the name") || !read_value(SM_CALL, value, type, &v))
        return;
    v.name = (char *)sm_text(name);
    set_value(self, &v);
}

void sm_constants_set_range(sm_id self, sm_sel selector, const void *values, sm_uint type, sm_ns_range range) {
    data_type t;
    if (range.location > UINT16_MAX || range.length > UINT16_MAX - range.location) {
        sm_violation(SM_CALL, "indices of function constants are below 65536");
        return;
    }
    for (sm_uint i = 0; i < range.length; i++) {
        constant_value v = {.index = (uint32_t)(range.location + i)};
        const size_t step = find_type(type, &t) ? type_size(t) : 0;
        if (!read_value(SM_CALL, values ? (const char *)values + i * step : NULL, type, &v))
            return;
        set_value(self, &v);
    }
}

void sm_constants_reset(sm_id self, sm_sel selector) {
    (void)selector;
    clear_values(self);
}

/* ---- functions ----------------------------------------------------------------------------------------------- */

typedef struct variant {
    sm_kernel *kernel; /* NULL: not yet */
    unsigned char *constants;
} variant;

typedef struct function {
    sm_labelled base;
    sm_mtl_library *library; /* kept */
    char *name;
    const sm_function_info *info;
    constant_values *values; /* kept: the function's own copy; NULL: not specialised */
    pthread_mutex_t lock;
    variant variants[2]; /* unchecked, checked */
} function;

static void function_destroy(sm_id self) {
    function *f = self;
    for (int i = 0; i < 2; i++) {
        if (f->variants[i].constants)
            sm_constants_release(f->variants[i].constants);
        if (f->variants[i].kernel)
            sm_kernel_release(f->variants[i].kernel);
    }
    free(f->name);
    sm_drop(f->values);
    sm_drop(f->library);
    pthread_mutex_destroy(&f->lock);
    sm_labelled_destroy(self);
}

const sm_class sm_function_class = {.name = "MTLFunction",
                                    .super = &sm_labelled_class,
                                    .size = sizeof(function),
                                    .is_protocol = true,
                                    .destroy = function_destroy};

static ml_status load_variant(function *f, bool checked, variant *v, char **log) {
    sm_library *library;
    sm_constant_value *values = NULL;
    const int n = f->values ? f->values->n : 0;
    ML_TRY(sm_library_variant(f->library, checked, &library, log));
    ML_TRY(sm_library_load(library, f->name, sm_executor_host(), &v->kernel, log));
    values = calloc((size_t)n + 1, sizeof *values);
    if (!values)
        return ml_fail(ML_ERR_MEMORY, "out of memory for function constants");
    for (int i = 0; i < n; i++) {
        const constant_value *from = &f->values->items[i];
        values[i] = (sm_constant_value){
            .name = from->name, .index = (int32_t)from->index, .data = from->data, .size = from->size};
    }
    const ml_status status = sm_constants_create(v->kernel, values, n, &v->constants);
    free(values);
    return status;
}

static ml_status function_variant(function *f, bool checked, variant *out, char **log) {
    pthread_mutex_lock(&f->lock);
    variant *v = &f->variants[checked];
    ml_status status = ML_OK;
    if (!v->constants) {
        status = load_variant(f, checked, v, log);
        if (status != ML_OK && v->kernel) {
            sm_kernel_release(v->kernel);
            v->kernel = NULL;
        }
    }
    *out = *v;
    pthread_mutex_unlock(&f->lock);
    return status;
}

/* A value's type must be the one that the source declares. */
static bool check_types(const function *f, char *text, size_t size) {
    for (int i = 0; i < f->info->n_constants; i++) {
        const sm_constant_info *c = &f->info->constants[i];
        const uint32_t wanted = code_of(c->type);
        for (int k = 0; wanted && k < f->values->n; k++) {
            const constant_value *v = &f->values->items[k];
            if (!(v->name ? strcmp(v->name, c->name) == 0 : (int32_t)v->index == c->index) || v->type == wanted)
                continue;
            char got[16];
            type_name(v->type, got);
            snprintf(text, size, "function '%.100s': the constant '%.100s' (index %d) is a %.40s, its value a %s",
                     f->name, c->name, c->index, c->type, got);
            return false;
        }
    }
    return true;
}

static function *make_function(sm_mtl_library *l, const char *name, constant_values *values) {
    const sm_function_info *info = sm_library_find(sm_library_any_variant(l), name);
    function *f = info ? sm_object_new(&sm_function_class) : NULL;
    if (!f)
        return NULL;
    pthread_mutex_init(&f->lock, NULL);
    f->library = sm_keep(l);
    f->base.device = sm_keep(l->base.device);
    f->name = strdup(name);
    f->info = info;
    if (values) {
        constant_values *copy = sm_object_new(&sm_constant_values_class);
        for (int i = 0; copy && i < values->n; i++)
            set_value(copy, &values->items[i]);
        f->values = sm_keep(copy);
        sm_release(copy);
    }
    if (f->name && (!values || f->values))
        return f;
    sm_release(f);
    return NULL;
}

sm_id sm_library_new_function(sm_id self, sm_sel selector, sm_id name) {
    return sm_expect(SM_CALL, name, &sm_string_class, "the name") ? make_function(self, sm_text(name), NULL) : NULL;
}

sm_id sm_library_new_function_constants(sm_id self, sm_sel selector, sm_id name, sm_id constants, sm_id *error) {
    if (!sm_expect(SM_CALL, name, &sm_string_class, "the name") ||
        !sm_expect(SM_CALL, constants, &sm_constant_values_class, "the constants"))
        return NULL;
    char text[512];
    function *f = make_function(self, sm_text(name), constants);
    if (!f) {
        snprintf(text, sizeof text, "Function '%.200s' was not found in the library", sm_text(name));
        sm_set_error(error, SM_LIBRARY_DOMAIN, SM_LIBRARY_FUNCTION_NOT_FOUND, text);
        return NULL;
    }
    variant v;
    char *log = NULL;
    ml_status status = ML_ERR_VALUE;
    if (check_types(f, text, sizeof text)) {
        status = function_variant(f, sm_current_mode().check, &v, &log);
        snprintf(text, sizeof text, "%.500s", status == ML_OK ? "" : ml_last_error());
    }
    if (status != ML_OK) {
        sm_set_error(error, SM_LIBRARY_DOMAIN, SM_LIBRARY_COMPILE_FAILURE, log && *log ? log : text);
        sm_release(f);
        f = NULL;
    }
    free(log);
    return f;
}

sm_id sm_function_name(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_string(((function *)self)->name);
}

sm_uint sm_function_type(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return FUNCTION_KERNEL;
}

typedef struct function_constant {
    sm_object object;
    char *name;
    uint32_t type;
    int32_t index;
    bool required;
} function_constant;

static void constant_destroy(sm_id self) {
    free(((function_constant *)self)->name);
}

const sm_class sm_function_constant_class = {.name = "MTLFunctionConstant",
                                             .super = &sm_nsobject_class,
                                             .size = sizeof(function_constant),
                                             .destroy = constant_destroy};

sm_id sm_function_constants(sm_id self, sm_sel selector) {
    (void)selector;
    const function *f = self;
    sm_id made = sm_dictionary(NULL, NULL, 0);
    for (int i = 0; made && i < f->info->n_constants; i++) {
        const sm_constant_info *from = &f->info->constants[i];
        function_constant *c = sm_object_new(&sm_function_constant_class);
        if (!c)
            return NULL;
        c->name = strdup(from->name);
        c->type = code_of(from->type);
        c->index = from->index;
        c->required = !from->optional;
        sm_dictionary_put(made, sm_string(from->name), c);
        sm_release(c);
    }
    return made;
}

sm_id sm_constant_name(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_string(((function_constant *)self)->name);
}

sm_uint sm_constant_type(sm_id self, sm_sel selector) {
    (void)selector;
    return ((function_constant *)self)->type;
}

sm_uint sm_constant_index(sm_id self, sm_sel selector) {
    (void)selector;
    return (sm_uint)((function_constant *)self)->index;
}

sm_bool sm_constant_required(sm_id self, sm_sel selector) {
    (void)selector;
    return ((function_constant *)self)->required;
}

/* ---- pipelines ----------------------------------------------------------------------------------------------- */

static void pipeline_destroy(sm_id self) {
    sm_drop(((sm_pipeline *)self)->function);
    sm_labelled_destroy(self);
}

const sm_class sm_pipeline_class = {.name = "MTLComputePipelineState",
                                    .super = &sm_labelled_class,
                                    .size = sizeof(sm_pipeline),
                                    .is_protocol = true,
                                    .destroy = pipeline_destroy};

ml_status sm_pipeline_kernel(sm_pipeline *pipeline, bool checked, sm_kernel **kernel, unsigned char **constants) {
    variant v;
    char *log = NULL;
    const ml_status status = function_variant(pipeline->function, checked, &v, &log);
    *kernel = v.kernel;
    *constants = v.constants;
    if (status != ML_OK && log && *log)
        (void)ml_fail(status, "%s", log);
    free(log);
    return status;
}

const sm_function_info *sm_pipeline_info(const sm_pipeline *pipeline) {
    return ((const function *)pipeline->function)->info;
}

static sm_id make_pipeline(sm_id device, function *f, uint64_t limit, sm_id *error) {
    variant v;
    char *log = NULL, text[512];
    if (function_variant(f, sm_current_mode().check, &v, &log) != ML_OK) {
        snprintf(text, sizeof text, "%.500s", ml_last_error());
        sm_set_error(error, PIPELINE_DOMAIN, PIPELINE_COMPILE_FAILURE, log && *log ? log : text);
        free(log);
        return NULL;
    }
    free(log);
    const uint64_t memory = sm_kernel_threadgroup_memory(v.kernel);
    if (memory > SM_MAX_THREADGROUP_MEMORY) {
        snprintf(text, sizeof text,
                 "Threadgroup memory size (%llu) of '%.200s' exceeds the maximum threadgroup memory allowed (%u)",
                 (unsigned long long)memory, f->name, SM_MAX_THREADGROUP_MEMORY);
        sm_set_error(error, PIPELINE_DOMAIN, PIPELINE_COMPILE_FAILURE, text);
        return NULL;
    }
    sm_pipeline *p = sm_object_new(&sm_pipeline_class);
    if (!p)
        return NULL;
    const uint32_t own = v.kernel->function->max_total_threads;
    p->base.device = sm_keep(device);
    p->function = sm_keep(f);
    p->static_memory = memory;
    p->max_threads = own > 0 && own < SM_MAX_THREADS ? own : SM_MAX_THREADS;
    if (limit > 0 && limit < p->max_threads)
        p->max_threads = (uint32_t)limit;
    return p;
}

sm_id sm_device_new_pipeline(sm_id self, sm_sel selector, sm_id kernel, sm_id *error) {
    return sm_expect(SM_CALL, kernel, &sm_function_class, "the function") ? make_pipeline(self, kernel, 0, error)
                                                                          : NULL;
}

sm_uint sm_pipeline_max_threads(sm_id self, sm_sel selector) {
    (void)selector;
    return ((sm_pipeline *)self)->max_threads;
}

sm_uint sm_pipeline_width(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return SM_SIMD_WIDTH;
}

sm_uint sm_pipeline_static_memory(sm_id self, sm_sel selector) {
    (void)selector;
    return ((sm_pipeline *)self)->static_memory;
}

/* ---- pipeline descriptors ------------------------------------------------------------------------------------ */

typedef struct descriptor {
    sm_labelled base;
    sm_id function; /* kept */
    sm_uint max_threads;
} descriptor;

static void descriptor_destroy(sm_id self) {
    sm_drop(((descriptor *)self)->function);
    sm_labelled_destroy(self);
}

const sm_class sm_pipeline_descriptor_class = {.name = "MTLComputePipelineDescriptor",
                                               .super = &sm_labelled_class,
                                               .size = sizeof(descriptor),
                                               .flags = SM_CLASS_NEW,
                                               .destroy = descriptor_destroy};

sm_id sm_descriptor_function(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_hand_out(((descriptor *)self)->function);
}

void sm_descriptor_set_function(sm_id self, sm_sel selector, sm_id kernel) {
    descriptor *d = self;
    sm_id kept = sm_keep(sm_expect_or_nil(SM_CALL, kernel, &sm_function_class, "the function"));
    sm_drop(d->function);
    d->function = kept;
}

void sm_descriptor_set_max_threads(sm_id self, sm_sel selector, sm_uint threads) {
    if (threads > SM_MAX_THREADS)
        sm_violation(SM_CALL, "%lu threads; a threadgroup has at most %u", threads, SM_MAX_THREADS);
    else
        ((descriptor *)self)->max_threads = threads;
}

/* A promise that makes kernels faster on a GPU. */
void sm_descriptor_set_multiple(sm_id self, sm_sel selector, sm_bool multiple) {
    (void)self;
    (void)selector;
    (void)multiple;
}

sm_id sm_device_new_pipeline_descriptor(sm_id self, sm_sel selector, sm_id descriptor_object, sm_uint options,
                                        sm_id *reflection, sm_id *error) {
    (void)options;
    if (reflection)
        *reflection = NULL;
    const descriptor *d = sm_expect(SM_CALL, descriptor_object, &sm_pipeline_descriptor_class, "the descriptor");
    if (!d)
        return NULL;
    if (!d->function) {
        sm_violation(SM_CALL, "the descriptor has no compute function");
        return NULL;
    }
    sm_pipeline *p = make_pipeline(self, d->function, d->max_threads, error);
    if (p && d->base.label)
        sm_set_text(&p->base.label, d->base.label);
    return p;
}
