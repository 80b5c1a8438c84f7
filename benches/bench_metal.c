/* Host time of a dispatch through the Metal driver: an empty kernel with a buffer and 64 bytes of parameters, encoded
 * many times into one command buffer; as it is, with a barrier in front, and with the pipeline changing. Prints
 * nanoseconds, the best and the median of the rounds; nothing is run by the device. */
#include "device/gpu/metal/metal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 51, DISPATCHES = 1000 };

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct setting {
    const char *what;
    bool barrier, change;
} setting;

static ml_status measure(void *device, const ml_gpu_pipeline pipelines[2], void *buffer, const setting *s) {
    const ml_gpu_driver *driver = &ml_metal_driver;
    static const char params[64];
    double rounds[ROUNDS];
    ml_gpu_launch launch = {.buffers = {{.handle = buffer}},
                            .params_index = 1,
                            .params = params,
                            .params_bytes = sizeof params,
                            .grid = {1, 1, 1},
                            .threadgroup = {32, 1, 1}};
    for (int r = 0; r < ROUNDS; r++) {
        void *commands;
        ML_TRY(driver->begin(device, &commands));
        const double start = now_ns();
        for (int i = 0; i < DISPATCHES; i++) {
            launch.pipeline = &pipelines[s->change ? i & 1 : 0];
            if (s->barrier)
                driver->barrier(commands);
            if (driver->dispatch(commands, &launch) != ML_OK)
                return ML_ERR_DEVICE;
        }
        rounds[r] = (now_ns() - start) / (double)DISPATCHES;
        driver->release(commands);
    }
    qsort(rounds, ROUNDS, sizeof *rounds, by_value);
    printf("%-40s best %6.0f ns, median %6.0f ns\n", s->what, rounds[0], rounds[ROUNDS / 2]);
    return ML_OK;
}

int main(void) {
    static const ml_gpu_source source = {
        "empty.metal",
        "struct parameters { int x[16]; };\n"
        "kernel void empty(device float *x [[buffer(0)]], constant parameters &p [[buffer(1)]]) {}\n"
        "kernel void also_empty(device float *x [[buffer(0)]], constant parameters &p [[buffer(1)]]) {}\n"};
    static const setting settings[] = {{"a dispatch", false, false},
                                       {"a dispatch and a barrier", true, false},
                                       {"a dispatch and another pipeline", false, true}};
    const ml_gpu_driver *driver = &ml_metal_driver;
    const ml_gpu_pipeline_spec specs[2] = {{.source = &source, .function = "empty"},
                                           {.source = &source, .function = "also_empty"}};
    ml_gpu_pipeline pipelines[2];
    ml_gpu_info info;
    void *device, *buffer, *host;
    ml_status status = driver->open(&device, &info);
    for (int i = 0; i < 2 && status == ML_OK; i++)
        status = driver->pipeline(device, &specs[i], &pipelines[i]);
    if (status == ML_OK)
        status = driver->buffer(device, 4096, ML_GPU_SHARED, &buffer, &host);
    for (size_t i = 0; i < sizeof settings / sizeof *settings && status == ML_OK; i++)
        status = measure(device, pipelines, buffer, &settings[i]);
    if (status != ML_OK)
        fprintf(stderr, "%s\n", ml_last_error());
    return status != ML_OK;
}
