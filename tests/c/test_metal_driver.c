/* The Metal driver and the GPU layer over it, without the runtime:
 *
 *     test_metal_driver             which dispatches a barrier goes between; sources that do not compile, kernels that
 *                                   fail, groups
 *     test_metal_driver --checked   ten dependent operations in one command buffer, and each barrier taken out once
 *
 * Exit code 77 where there is no compiler to run kernels of the test's own with. */
#include "device/gpu/metal/metal.h"
#include "dispatch/dispatch.h"
#include "softmetal/module.h"

#include "metallic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "FAILED: %s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, ml_last_error());              \
            failures++;                                                                                                \
        }                                                                                                              \
    } while (0)

static const ml_gpu_driver *const driver = &ml_metal_driver;
static void *handle;
static ml_gpu_info info;

static const ml_gpu_source good = {"good.metal", "#include <metal_stdlib>\n"
                                                 "using namespace metal;\n"
                                                 "constant int amount [[function_constant(3)]];\n"
                                                 "kernel void add_step(device int *x [[buffer(0)]],\n"
                                                 "                     constant int &n [[buffer(1)]],\n"
                                                 "                     uint i [[thread_position_in_grid]]) {\n"
                                                 "    if (int(i) < n) x[i] += amount;\n"
                                                 "}\n"
                                                 "kernel void wild(device int *x [[buffer(0)]]) {\n"
                                                 "    x[1l << 40] = 1;\n"
                                                 "}\n"};
static const ml_gpu_source bad = {"bad.metal",
                                  "kernel void broken(device int *x [[buffer(0)]]) { x[0] = nonsense; }\n"};

static ml_gpu_pipeline pipeline_of(const char *function, int step) {
    const ml_gpu_constant constant = {.index = 3, .value = (int8_t)step};
    const ml_gpu_pipeline_spec spec = {.source = &good, .function = function, .constants = &constant, .n_constants = 1};
    ml_gpu_pipeline pipeline = {0};
    EXPECT(driver->pipeline(handle, &spec, &pipeline) == ML_OK);
    return pipeline;
}

static ml_gpu_launch launch_of(const ml_gpu_pipeline *pipeline, void *buffer, const int *n) {
    return (ml_gpu_launch){.pipeline = pipeline,
                           .buffers = {{.handle = buffer}},
                           .params_index = 1,
                           .params = n,
                           .params_bytes = sizeof *n,
                           .grid = {(uint32_t)*n, 1, 1},
                           .threadgroup = {32, 1, 1},
                           .grid_in_threads = true};
}

static void test_rejected_sources(void) {
    ml_gpu_pipeline pipeline = {0};
    ml_gpu_pipeline_spec spec = {.source = &bad, .function = "broken"};
    EXPECT(driver->pipeline(handle, &spec, &pipeline) == ML_ERR_COMPILE);
    EXPECT(strstr(ml_last_error(), "nonsense") != NULL);
    spec = (ml_gpu_pipeline_spec){.source = &good, .function = "absent"};
    EXPECT(driver->pipeline(handle, &spec, &pipeline) == ML_ERR_COMPILE);
    EXPECT(strstr(ml_last_error(), "absent") != NULL);
}

/* Adds 5 five times, in groups; returns how waiting for it ended. */
static ml_status add_often(int *x, void *buffer, int n) {
    ml_gpu_pipeline pipeline = pipeline_of("add_step", 5);
    const ml_gpu_launch launch = launch_of(&pipeline, buffer, &n);
    void *commands;
    double gpu_us = -1;
    memset(x, 0, (size_t)n * sizeof *x);
    EXPECT(driver->begin(handle, &commands) == ML_OK);
    for (int i = 0; i < 5; i++) {
        if (i > 0)
            driver->barrier(commands);
        if (i == 1 || i == 3)
            driver->push_group(commands, "model/layer");
        EXPECT(driver->dispatch(commands, &launch) == ML_OK);
        if (i == 2 || i == 3)
            driver->pop_group(commands);
    }
    EXPECT(!driver->done(commands));
    EXPECT(driver->commit(commands) == ML_OK);
    const ml_status status = driver->wait(commands, &gpu_us);
    EXPECT(driver->done(commands));
    EXPECT(gpu_us >= 0);
    driver->release(commands);
    driver->pipeline_release(&pipeline);
    return status;
}

/* A kernel that faults is an error of its command buffer; the device works afterwards. */
static void test_failing_commands(int *x, void *buffer, int n) {
    ml_gpu_pipeline pipeline = pipeline_of("wild", 1);
    const ml_gpu_launch launch = launch_of(&pipeline, buffer, &n);
    void *commands;
    double gpu_us = -1;
    EXPECT(driver->begin(handle, &commands) == ML_OK);
    EXPECT(driver->dispatch(commands, &launch) == ML_OK);
    EXPECT(driver->commit(commands) == ML_OK);
    EXPECT(driver->wait(commands, &gpu_us) == ML_ERR_DEVICE);
    EXPECT(strstr(ml_last_error(), "a command buffer failed") != NULL);
    EXPECT(gpu_us == 0);
    driver->release(commands);
    driver->pipeline_release(&pipeline);
    EXPECT(add_often(x, buffer, n) == ML_OK && x[0] == 25 && x[n - 1] == 25);
}

static void test_memory(void) {
    void *object, *host;
    EXPECT(driver->buffer(handle, (size_t)1 << 60, ML_GPU_SHARED, &object, &host) == ML_ERR_MEMORY);
    EXPECT(driver->buffer(handle, 4096, ML_GPU_PRIVATE, &object, &host) == ML_OK && host == NULL);
    driver->buffer_release(object);
    char *page = aligned_alloc(info.page, 2 * info.page);
    EXPECT(driver->wrap(handle, page, info.page, &object) == ML_OK);
    driver->buffer_release(object);
    EXPECT(driver->wrap(handle, page + 64, info.page, &object) == ML_ERR_MEMORY);
    free(page);
}

/* ---- barriers where dispatches conflict, and nowhere else ---- */

static int barriers_put;

static void put_barrier(void *commands) {
    (void)commands;
    barriers_put++;
}

static unsigned noise(unsigned below) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % below;
}

/* Against every dispatch since the last barrier, kept as they came. */
static void test_order(void) {
    enum { DISPATCHES = 4000, BINDINGS = 4 };
    static ml_gpu_range kept[DISPATCHES * BINDINGS];
    static char buffers[3];
    static const ml_gpu_driver counting = {.barrier = put_barrier};
    static ml_gpu_device device = {.driver = &counting};
    static ml_gpu_commands commands = {.device = &device};
    for (unsigned span = 16; span <= 1u << 22;
         span *= 64) { /* the wider, the fewer conflicts and the longer the sets */
        int n = 0, longest = 0, wrong = 0;
        ml_gpu_ranges_init(&commands.reads);
        ml_gpu_ranges_init(&commands.writes);
        for (int d = 0; d < DISPATCHES; d++) {
            ml_gpu_range now[BINDINGS];
            bool conflict = false;
            for (int i = 0; i < BINDINGS; i++) {
                const size_t low = noise(span);
                now[i] = (ml_gpu_range){&buffers[noise(3)], low, low + noise(8), i == 0};
                for (int k = 0; k < n; k++)
                    conflict |= kept[k].handle == now[i].handle && (kept[k].write || now[i].write) &&
                                kept[k].low < now[i].high && now[i].low < kept[k].high && now[i].low < now[i].high &&
                                kept[k].low < kept[k].high;
            }
            barriers_put = 0;
            ml_gpu_order(&commands, now, BINDINGS);
            wrong += barriers_put != conflict;
            n = conflict ? 0 : n;
            memcpy(&kept[n], now, sizeof now);
            n += BINDINGS;
            longest = commands.reads.n > longest ? commands.reads.n : longest;
        }
        EXPECT(wrong == 0);
        EXPECT(span < 1u << 22 || longest > 4 * ML_GPU_FEW_RANGES);
        ml_gpu_ranges_release(&commands.reads);
        ml_gpu_ranges_release(&commands.writes);
    }
}

/* ---- operations: ten in a row ---- */

enum { OPERATIONS = 10, LENGTH = 32 };
static int barriers_seen, barrier_left_out;

static void count_barrier(void *commands) {
    if (++barriers_seen != barrier_left_out)
        driver->barrier(commands);
}

/* x[i + 1] = x[i] + x[i], then a sum that depends on nothing of it, as one command buffer. */
static ml_status run_chain(ml_gpu_device *device, ml_resource_cache *cache, int *barriers) {
    ml_device *dev = &device->base;
    ml_caps caps;
    const ml_prefs prefs = ML_PREFS_DEFAULTS;
    ml_buffer *x[OPERATIONS + 1], *y;
    void *commands;
    double gpu_us;
    dev->vtbl->caps(dev, 0, &caps);
    for (int i = 0; i <= OPERATIONS; i++) {
        EXPECT(dev->vtbl->alloc(dev, sizeof(float) * LENGTH, false, &x[i]) == ML_OK);
        for (int k = 0; k < LENGTH; k++)
            ((float *)x[i]->host)[k] = i == 0 ? 1.0f : 0.0f;
    }
    EXPECT(dev->vtbl->alloc(dev, sizeof(float) * LENGTH, false, &y) == ML_OK);
    EXPECT(dev->vtbl->begin(dev, &commands) == ML_OK);
    *barriers = 0;
    for (int i = 0; i <= OPERATIONS; i++) {
        ml_op op = {.kind = ML_OP_BINARY, .n_in = 2, .n_out = 1, .binary = {.kind = ML_ADD}};
        const bool last = i == OPERATIONS;
        op.in[0] = op.in[1] = (ml_view){.buf = x[last ? 0 : i], .shape = {LENGTH}, .strides = {1}, .ndim = 1};
        op.in[0].dtype = op.in[1].dtype = ML_F32;
        op.out[0] = op.in[0];
        op.out[0].buf = last ? y : x[i + 1];
        ml_plan plan;
        EXPECT(ml_plan_op(&op, &caps, &prefs, &plan) == ML_OK);
        ml_encode_args args = {.op = &op, .plan = &plan, .cache = cache, .label = i < 5 ? "first" : "second"};
        EXPECT(dev->vtbl->encode(dev, commands, &args) == ML_OK);
        EXPECT(args.dispatches == 1 && args.barriers == (i > 0 && !last));
        *barriers += args.barriers;
    }
    EXPECT(dev->vtbl->commit(dev, commands) == ML_OK);
    const ml_status status = dev->vtbl->wait(dev, commands, &gpu_us);
    dev->vtbl->release(dev, commands);
    if (status == ML_OK)
        EXPECT(((float *)x[OPERATIONS]->host)[LENGTH - 1] == 1024.0f && ((float *)y->host)[0] == 2.0f);
    for (int i = 0; i <= OPERATIONS; i++)
        ml_buffer_release(x[i]);
    ml_buffer_release(y);
    return status;
}

/* From host memory to memory of the device alone, and back. */
static void test_private_memory(void) {
    static ml_gpu_device device;
    ml_device *dev = &device.base;
    ml_resource_cache *cache;
    ml_caps caps;
    const ml_prefs prefs = ML_PREFS_DEFAULTS;
    ml_buffer *x[3];
    void *commands;
    double gpu_us;
    EXPECT(ml_gpu_device_open(&device, driver) == ML_OK);
    EXPECT(ml_resource_cache_create(false, &cache) == ML_OK);
    for (int i = 0; i < 3; i++)
        EXPECT(dev->vtbl->alloc(dev, sizeof(float) * LENGTH, i == 1, &x[i]) == ML_OK);
    EXPECT(x[0]->host && !x[1]->host && x[1]->handle && x[2]->host);
    for (int k = 0; k < LENGTH; k++)
        ((float *)x[0]->host)[k] = (float)k;
    dev->vtbl->caps(dev, 0, &caps);
    EXPECT(dev->vtbl->begin(dev, &commands) == ML_OK);
    for (int i = 0; i < 2; i++) {
        ml_op op = {.kind = ML_OP_COPY, .n_in = 1, .n_out = 1};
        op.in[0] = (ml_view){.buf = x[i], .dtype = ML_F32, .shape = {LENGTH}, .strides = {1}, .ndim = 1};
        op.out[0] = op.in[0];
        op.out[0].buf = x[i + 1];
        ml_plan plan;
        EXPECT(ml_plan_op(&op, &caps, &prefs, &plan) == ML_OK);
        ml_encode_args args = {.op = &op, .plan = &plan, .cache = cache, .label = ""};
        EXPECT(dev->vtbl->encode(dev, commands, &args) == ML_OK);
        EXPECT(args.barriers == i);
    }
    EXPECT(dev->vtbl->commit(dev, commands) == ML_OK && dev->vtbl->wait(dev, commands, &gpu_us) == ML_OK);
    dev->vtbl->release(dev, commands);
    EXPECT(((float *)x[2]->host)[LENGTH - 1] == LENGTH - 1);
    for (int i = 0; i < 3; i++)
        ml_buffer_release(x[i]);
    ml_resource_cache_release(cache);
}

static void test_barriers(void) {
    static ml_gpu_device device;
    static ml_gpu_driver counting;
    ml_resource_cache *cache;
    int barriers;
    counting = ml_metal_driver;
    counting.barrier = count_barrier;
    EXPECT(ml_gpu_device_open(&device, &counting) == ML_OK);
    EXPECT(ml_resource_cache_create(false, &cache) == ML_OK);
    EXPECT(run_chain(&device, cache, &barriers) == ML_OK);
    EXPECT(barriers == OPERATIONS - 1 && barriers_seen == OPERATIONS - 1);
    for (int left_out = 1; left_out < OPERATIONS; left_out++) {
        barriers_seen = 0;
        barrier_left_out = left_out;
        EXPECT(run_chain(&device, cache, &barriers) == ML_ERR_CHECK);
        EXPECT(strstr(ml_last_error(), "barrier") != NULL);
    }
    ml_resource_cache_release(cache);
}

int main(int argc, char **argv) {
    const bool checked = argc > 1 && strcmp(argv[1], "--checked") == 0;
    char compiler[4096];
    if (!checked)
        test_order();
    if (checked)
        setenv("METALLIC_CHECK", "1", 1);
    if (sm_compiler_path(compiler, sizeof compiler) != ML_OK || driver->open(&handle, &info) != ML_OK) {
        fprintf(stderr, "skipped: %s\n", ml_last_error());
        return failures ? 1 : 77;
    }
    if (checked) {
        test_barriers();
        return failures != 0;
    }
    enum { N = 1000 };
    void *buffer, *host;
    EXPECT(driver->buffer(handle, N * sizeof(int), ML_GPU_SHARED, &buffer, &host) == ML_OK);
    test_rejected_sources();
    EXPECT(add_often(host, buffer, N) == ML_OK && ((int *)host)[0] == 25 && ((int *)host)[N - 1] == 25);
    test_failing_commands(host, buffer, N);
    test_private_memory();
    test_memory();
    driver->buffer_release(buffer);
    return failures != 0;
}
