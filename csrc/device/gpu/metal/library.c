/* Kernels: libraries from the embedded source, compiled once each, and pipelines with function constants. */
#include "device/gpu/metal/metal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MSL_3_0 = 0x30000, MSL_3_1 = 0x30001, DATA_TYPE_INT = 29, DATA_TYPE_BOOL = 53, MATH_MODE_SAFE = 0 };

/* Safe mathematics: exp(-inf) is 0, NaN stays NaN. */
static ml_id compile_options(bool bfloat) {
    ml_id options = SEND(ml_id, ml_objc_class("MTLCompileOptions"), new_object);
    SEND(void, options, set_language_version, bfloat ? MSL_3_1 : MSL_3_0);
    if (ml_objc_responds(options, ML_MSG_set_math_mode))
        SEND(void, options, set_math_mode, MATH_MODE_SAFE);
    else
        SEND(void, options, set_fast_math, false);
    return options;
}

static ml_status compile(const ml_metal *metal, const ml_gpu_source *source, bool bfloat, ml_id *out) {
    static const char bfloat_macro[] = "#define ML_BFLOAT 1\n";
    const size_t size = strlen(source->text) + sizeof bfloat_macro;
    char *text = malloc(size);
    if (!text)
        return ml_fail(ML_ERR_MEMORY, "out of memory for kernel source");
    snprintf(text, size, "%s%s", bfloat ? bfloat_macro : "", source->text);
    void *pool = ml_objc_api.pool_push();
    ml_id options = compile_options(bfloat), error = NULL;
    *out = SEND(ml_id, metal->device, new_library, ml_objc_string(text), options, &error);
    const ml_status status = *out ? ML_OK : ml_objc_fail(ML_ERR_COMPILE, source->name, error);
    ml_objc_release(options);
    ml_objc_api.pool_pop(pool);
    free(text);
    return status;
}

static ml_status find_library(ml_metal *metal, const ml_gpu_source *source, bool bfloat, ml_id *out) {
    pthread_mutex_lock(&metal->lock);
    ml_metal_library *l = metal->libraries;
    while (l && (l->source != source || l->bfloat != bfloat))
        l = l->next;
    ml_status status = ML_OK;
    if (!l) {
        l = calloc(1, sizeof *l);
        status =
            l ? compile(metal, source, bfloat, &l->library) : ml_fail(ML_ERR_MEMORY, "out of memory for a library");
        if (status == ML_OK) {
            l->source = source;
            l->bfloat = bfloat;
            l->next = metal->libraries;
            metal->libraries = l;
        } else {
            free(l);
        }
    }
    if (status == ML_OK)
        *out = l->library;
    pthread_mutex_unlock(&metal->lock);
    return status;
}

ml_status ml_metal_pipeline(void *device, const ml_gpu_pipeline_spec *spec, ml_gpu_pipeline *out) {
    ml_metal *metal = device;
    ml_id library;
    ML_TRY(find_library(metal, spec->source, spec->bfloat, &library));
    void *pool = ml_objc_api.pool_push();
    ml_id constants = SEND(ml_id, ml_objc_class("MTLFunctionConstantValues"), new_object), error = NULL;
    for (int i = 0; i < spec->n_constants; i++) {
        const ml_gpu_constant *c = &spec->constants[i];
        const uint8_t flag = c->value != 0;
        const int32_t number = c->value;
        SEND(void, constants, set_constant, c->is_bool ? (const void *)&flag : (const void *)&number,
             c->is_bool ? DATA_TYPE_BOOL : DATA_TYPE_INT, c->index);
    }
    ml_id function = SEND(ml_id, library, new_function, ml_objc_string(spec->function), constants, &error);
    ml_id pipeline = NULL;
    if (function)
        pipeline = SEND(ml_id, metal->device, new_pipeline, function, &error);
    const ml_status status = pipeline ? ML_OK : ml_objc_fail(ML_ERR_COMPILE, spec->function, error);
    if (status == ML_OK)
        *out = (ml_gpu_pipeline){.handle = pipeline, .max_threads = (int)SEND(ml_uint, pipeline, max_total_threads)};
    ml_objc_release(function);
    ml_objc_release(constants);
    ml_objc_api.pool_pop(pool);
    return status;
}
