#include "device/gpu/metal/objc.h"

#include <pthread.h>
#include <stdio.h>
#if defined(__APPLE__)
#include <dlfcn.h>
#else
#include "softmetal/objc.h"
#endif

ml_objc ml_objc_api;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static ml_status loaded;
static char reason[256];

#if defined(__APPLE__)
static bool open_library(const char *path, void **handle) {
    *handle = dlopen(path, RTLD_LAZY | RTLD_GLOBAL);
    if (!*handle)
        snprintf(reason, sizeof reason, "%s cannot be loaded: %.160s", path, dlerror());
    return *handle != NULL;
}

/* Function pointers out of dlsym's object pointers: POSIX promises that they convert. */
static bool find_function(void *handle, const char *name, void *function) {
    *(void **)function = dlsym(handle, name);
    if (!*(void **)function)
        snprintf(reason, sizeof reason, "%s is missing", name);
    return *(void **)function != NULL;
}

/* CoreGraphics comes before MTLCreateSystemDefaultDevice, which finds no device in a process without it. */
static bool load(void) {
    void *objc, *metal, *unused;
    if (!open_library("/usr/lib/libobjc.A.dylib", &objc) ||
        !open_library("/System/Library/Frameworks/Foundation.framework/Foundation", &unused) ||
        !open_library("/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics", &unused) ||
        !open_library("/System/Library/Frameworks/Metal.framework/Metal", &metal) ||
        !open_library("/System/Library/Frameworks/MetalPerformanceShaders.framework/MetalPerformanceShaders", &unused))
        return false;
    ml_objc *o = &ml_objc_api;
    if (!find_function(objc, "objc_getClass", &o->get_class) ||
        !find_function(objc, "sel_registerName", &o->sel_register) ||
        !find_function(objc, "objc_autoreleasePoolPush", &o->pool_push) ||
        !find_function(objc, "objc_autoreleasePoolPop", &o->pool_pop) ||
        !find_function(objc, "objc_msgSend", &o->send) ||
        !find_function(metal, "MTLCreateSystemDefaultDevice", &o->create_default_device))
        return false;
    o->send_stret = o->send;
#if defined(__x86_64__)
    if (!find_function(objc, "objc_msgSend_stret", &o->send_stret))
        return false;
#endif
    return true;
}
#else
static bool load(void) {
    const sm_objc *soft = sm_objc_api();
    ml_objc_api = (ml_objc){.get_class = soft->get_class,
                            .sel_register = soft->sel_register,
                            .pool_push = soft->pool_push,
                            .pool_pop = soft->pool_pop,
                            .create_default_device = soft->create_default_device,
                            .lookup = soft->lookup,
                            .emulated = true};
    return true;
}
#endif

static void load_once(void) {
    static const char *const names[ML_MESSAGES] = {
#define M(name, selector, returns, class_name, arguments) [ML_MSG_##name] = selector,
#include "device/gpu/metal/messages.inc"
#undef M
    };
    if (!load()) {
        loaded = ML_ERR_DEVICE;
        return;
    }
    for (int i = 0; i < ML_MESSAGES; i++)
        ml_objc_api.selectors[i] = ml_objc_api.sel_register(names[i]);
}

ml_status ml_objc_load(void) {
    pthread_once(&once, load_once);
    return loaded == ML_OK ? ML_OK : ml_fail(loaded, "metal: %s", reason);
}

ml_status ml_objc_fail(ml_status status, const char *what, ml_id error) {
    const char *text = SEND(pointer, SEND(ml_id, error, localized_description), utf8);
    return ml_fail(status, "metal: %s: %s", what, text ? text : "no reason given");
}
