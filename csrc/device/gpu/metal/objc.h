/* Objective-C from C: messages through one macro, classes and selectors by name.
 *
 * Ownership follows Cocoa: what new, alloc and copy return is owned, everything else is autoreleased. An autorelease
 * pool opens and closes within one C function (ml_objc_pool_push, ml_objc_pool_pop); what outlives it is retained.
 * Messages to nil do nothing and give zero.
 */
#ifndef ML_METAL_OBJC_H
#define ML_METAL_OBJC_H

#include "core/status.h"

#include <stdint.h>

typedef void *ml_id;
typedef void *ml_sel;
typedef unsigned long ml_uint;
typedef long ml_int;
#if defined(__aarch64__)
typedef bool ml_bool;
#else
typedef signed char ml_bool;
#endif
typedef struct ml_mtl_size {
    ml_uint width, height, depth;
} ml_mtl_size;

typedef enum ml_message {
#define M(name, selector, returns, class_name, arguments) ML_MSG_##name,
#include "device/gpu/metal/messages.inc"
#undef M
    ML_MESSAGES
} ml_message;

/* The type of each message's implementation. */
#define M(name, selector, returns, class_name, arguments) typedef returns(*ml_fn_##name) arguments;
#include "device/gpu/metal/messages.inc"
#undef M

/* Objective-C's own functions, and those of the frameworks that are plain C. */
typedef struct ml_objc {
    void *(*get_class)(const char *name);
    void *(*sel_register)(const char *name);
    void *(*pool_push)(void);
    void (*pool_pop)(void *pool);
    ml_id (*create_default_device)(void);
    /* One of them is NULL: the look-up of an implementation, or the function that sends. */
    void *(*lookup)(void *receiver, void *selector);
    void (*send)(void);
    void (*send_stret)(void); /* returns a struct over 16 bytes on x86-64; else as send */
    bool emulated;
    ml_sel selectors[ML_MESSAGES];
} ml_objc;

extern ml_objc ml_objc_api; /* filled by ml_objc_load */

/* Loads the Objective-C runtime and the Metal frameworks; elsewhere the software Metal. Once per process; later calls
 * give the first one's answer. Errors: ML_ERR_DEVICE with what is missing. */
ml_status ml_objc_load(void);

typedef void (*ml_objc_fn)(void);

static inline ml_objc_fn ml_objc_target(ml_id receiver, ml_sel selector, bool large_struct) {
    if (ml_objc_api.lookup)
        return (ml_objc_fn)ml_objc_api.lookup(receiver, selector);
    return large_struct ? ml_objc_api.send_stret : ml_objc_api.send;
}

/* SEND(returns, receiver, message, arguments...): the arguments are converted to the types that messages.inc gives. The
 * receiver is evaluated once; its variable has a name of its own because a receiver is often a message itself. */
#define SEND(returns, receiver, message, ...) ML_SEND(__COUNTER__, returns, receiver, message, ##__VA_ARGS__)
#define ML_SEND(n, returns, receiver, message, ...) ML_SEND_N(n, returns, receiver, message, ##__VA_ARGS__)
#define ML_SEND_N(n, returns, receiver, message, ...)                                                                  \
    __extension__({                                                                                                    \
        const ml_id to_##n = (receiver);                                                                               \
        const ml_sel selector_##n = ml_objc_api.selectors[ML_MSG_##message];                                           \
        ((ml_fn_##message)ml_objc_target(to_##n, selector_##n, ML_IS_LARGE_##returns))(to_##n,                         \
                                                                                       selector_##n, ##__VA_ARGS__);   \
    })
#define ML_IS_LARGE_void false
#define ML_IS_LARGE_ml_id false
#define ML_IS_LARGE_ml_uint false
#define ML_IS_LARGE_ml_int false
#define ML_IS_LARGE_ml_bool false
#define ML_IS_LARGE_uint64_t false
#define ML_IS_LARGE_double false
#define ML_IS_LARGE_pointer false
#define ML_IS_LARGE_ml_mtl_size true

static inline ml_id ml_objc_class(const char *name) {
    return ml_objc_api.get_class(name);
}
static inline ml_id ml_objc_string(const char *text) {
    return SEND(ml_id, ml_objc_class("NSString"), string, text);
}
static inline void ml_objc_release(ml_id object) {
    if (object)
        SEND(void, object, release);
}
static inline bool ml_objc_responds(ml_id object, ml_message message) {
    return SEND(ml_bool, object, responds, ml_objc_api.selectors[message]);
}

/* An NSError as a failure: "what: its description". error may be nil. */
ml_status ml_objc_fail(ml_status status, const char *what, ml_id error);

#endif
