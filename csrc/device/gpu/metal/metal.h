/* The Metal device: the GPU layer over a driver that speaks Objective-C, to Apple's frameworks or to the software
 * Metal. */
#ifndef ML_METAL_H
#define ML_METAL_H

#include "device/gpu/gpu.h"
#include "device/gpu/metal/objc.h"

/* The process-wide device; NULL where there is none, with the reason. */
ml_device *ml_metal_device(const char **reason);

extern const ml_gpu_driver ml_metal_driver;

/* ---- the driver's own -------------------------------------------------------------------------------------- */

typedef struct ml_metal_library {
    const ml_gpu_source *source;
    bool bfloat;
    ml_id library;
    struct ml_metal_library *next;
} ml_metal_library;

typedef struct ml_metal {
    ml_id device, queue;
    pthread_mutex_t lock; /* of libraries; held while one is compiled, so that two threads do not compile the same */
    ml_metal_library *libraries;
} ml_metal;

typedef struct ml_metal_commands {
    ml_metal *metal;
    ml_id buffer, encoder; /* encoder: nil between encoders; both are retained */
    ml_id pipeline;        /* set in the encoder */
    ml_id group;           /* label of the open debug group, retained; nil: none */
    bool labelled;
} ml_metal_commands;

/* Ends the compute encoder, if one is open: what follows encodes itself. */
void ml_metal_end_encoder(ml_metal_commands *commands);

/* Starts the capture that METALLIC_CAPTURE asks for; a warning where there can be none (capture.c). */
void ml_metal_capture(const ml_metal *metal);

/* The function of a source with these constants (library.c). A new reference. */
ml_status ml_metal_pipeline(void *device, const ml_gpu_pipeline_spec *spec, ml_gpu_pipeline *out);

/* MetalPerformanceShaders (mps.c). */
ml_status ml_mps_prepare(void *device, const ml_gpu_gemm *gemm, void **prepared);
void ml_mps_release(void *prepared);
ml_status ml_mps_encode(void *commands, void *prepared, const ml_gpu_gemm *gemm);

#endif
