/* METALLIC_CAPTURE=FILE.gputrace: all that the process sends to the device, for Xcode. */
#include "core/log.h"
#include "device/gpu/metal/metal.h"

#include <stdlib.h>

enum { DESTINATION_TRACE_DOCUMENT = 2 }; /* MTLCaptureDestinationGPUTraceDocument */

/* The document is written when the capture stops. */
static void stop(void) {
    void *pool = ml_objc_api.pool_push();
    SEND(void, SEND(ml_id, ml_objc_class("MTLCaptureManager"), shared_capture), stop_capture);
    ml_objc_api.pool_pop(pool);
}

static ml_status start(const ml_metal *metal, const char *path) {
    ml_id manager = SEND(ml_id, ml_objc_class("MTLCaptureManager"), shared_capture), error = NULL;
    if (!SEND(ml_bool, manager, supports_destination, DESTINATION_TRACE_DOCUMENT))
        return ml_fail(ML_ERR_UNSUPPORTED, "metal: this device captures into no file; on a Mac that takes "
                                           "METAL_CAPTURE_ENABLED=1 in the environment");
    ml_id url = SEND(ml_id, ml_objc_class("NSURL"), file_url, ml_objc_string(path));
    ml_id descriptor = SEND(ml_id, ml_objc_class("MTLCaptureDescriptor"), new_object);
    SEND(void, descriptor, set_capture_object, metal->device);
    SEND(void, descriptor, set_destination, DESTINATION_TRACE_DOCUMENT);
    SEND(void, descriptor, set_output_url, url);
    const bool started = SEND(ml_bool, manager, start_capture, descriptor, &error);
    ml_objc_release(descriptor);
    return started ? ML_OK : ml_objc_fail(ML_ERR_DEVICE, path, error);
}

void ml_metal_capture(const ml_metal *metal) {
    const char *path = getenv("METALLIC_CAPTURE");
    if (!path || !*path)
        return;
    void *pool = ml_objc_api.pool_push();
    if (start(metal, path) != ML_OK)
        ml_log(ML_LOG_WARN, "METALLIC_CAPTURE: %s", ml_last_error());
    else
        atexit(stop);
    ml_objc_api.pool_pop(pool);
}
