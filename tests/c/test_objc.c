/* The software Metal's Objective-C classes: correct use. */
#include "test_objc.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

int failures;
fixture fx;

static const char source[] =
    "#include <metal_stdlib>\n"
    "using namespace metal;\n"
    "constant int factor [[function_constant(0)]];\n"
    "constant bool flag [[function_constant(1)]];\n"
    "constant float3 shift [[function_constant(5)]];\n"
    "constant uchar small [[function_constant(6)]];\n"
    "kernel void add(device const float *a [[buffer(0)]], device float *b [[buffer(1)]],\n"
    "                constant float &s [[buffer(2)]], uint i [[thread_position_in_grid]]) {\n"
    "    b[i] = a[i] + s;\n"
    "}\n"
    "kernel void specialised(device int *out [[buffer(0)]], uint i [[thread_position_in_grid]]) {\n"
    "    out[i] = flag ? factor * int(i) : -1;\n"
    "}\n"
    "kernel void vectors(device float *out [[buffer(0)]]) {\n"
    "    out[0] = shift.x + 10 * shift.y + 100 * shift.z + 1000 * small;\n"
    "}\n"
    "kernel void scratch(device int *out [[buffer(0)]], threadgroup int *t [[threadgroup(0)]],\n"
    "                    uint i [[thread_position_in_threadgroup]], uint n [[threads_per_threadgroup]]) {\n"
    "    t[i] = i;\n"
    "    threadgroup_barrier(mem_flags::mem_threadgroup);\n"
    "    out[i] = t[n - 1 - i];\n"
    "}\n"
    "kernel void wide(device float *out [[buffer(0)]], threadgroup float *t [[threadgroup(0)]],\n"
    "                 uint i [[thread_position_in_threadgroup]]) {\n"
    "    threadgroup float own[4096];\n"
    "    own[i] = i;\n"
    "    t[i] = i;\n"
    "    out[i] = own[i] + t[i];\n"
    "}\n"
    "[[kernel, max_total_threads_per_threadgroup(64)]] void few(device int *out [[buffer(0)]],\n"
    "                uint i [[thread_position_in_grid]]) {\n"
    "    out[i] = VALUE;\n"
    "}\n"
    "kernel void twice(device int *out [[buffer(0)]], uint i [[thread_position_in_grid]]) {\n"
    "    out[i] = 2 * out[i] + 1;\n"
    "}\n"
    "kernel void next(device int *out [[buffer(0)]], uint i [[thread_position_in_grid]]) {\n"
    "    out[i] += 3;\n"
    "}\n";

/* ---- what tests use ------------------------------------------------------------------------------------------- */

sm_id new_buffer(size_t length) {
    return SEND(sm_id, fx.device, "newBufferWithLength:options:", (sm_id, sm_sel, sm_uint, sm_uint), length, 0ul);
}

sm_id new_function(const char *kernel, sm_id constants, sm_id *error) {
    return SEND(sm_id, fx.library, "newFunctionWithName:constantValues:error:", (sm_id, sm_sel, sm_id, sm_id, sm_id *),
                string_of(kernel), constants, error);
}

sm_id new_pipeline(const char *kernel) {
    sm_id error = NULL;
    sm_id function = SEND(sm_id, fx.library, "newFunctionWithName:", (sm_id, sm_sel, sm_id), string_of(kernel));
    sm_id pipeline =
        SEND(sm_id, fx.device, "newComputePipelineStateWithFunction:error:", (sm_id, sm_sel, sm_id, sm_id *), function,
             &error);
    if (!pipeline)
        fprintf(stderr, "%s: %s\n", kernel, describe(error));
    tell(function, "release");
    return pipeline;
}

sm_id command_buffer(void) {
    return get(fx.queue, "commandBuffer");
}

sm_id encoder_of(sm_id commands) {
    return get(commands, "computeCommandEncoder");
}

sm_id concurrent_encoder_of(sm_id commands) {
    return SEND(sm_id, commands, "computeCommandEncoderWithDispatchType:", (sm_id, sm_sel, sm_uint), 1ul);
}

void set_buffer(sm_id encoder, sm_id buffer, size_t offset, size_t index) {
    SEND(void, encoder, "setBuffer:offset:atIndex:", (sm_id, sm_sel, sm_id, sm_uint, sm_uint), buffer, offset, index);
}

void set_bytes(sm_id encoder, const void *bytes, size_t length, size_t index) {
    SEND(void, encoder, "setBytes:length:atIndex:", (sm_id, sm_sel, const void *, sm_uint, sm_uint), bytes, length,
         index);
}

void dispatch(sm_id encoder, size_t groups, size_t threads) {
    SEND(void, encoder, "dispatchThreadgroups:threadsPerThreadgroup:", (sm_id, sm_sel, sm_size, sm_size),
         ((sm_size){groups, 1, 1}), ((sm_size){threads, 1, 1}));
}

sm_uint finish(sm_id encoder, sm_id commands) {
    tell(encoder, "endEncoding");
    tell(commands, "commit");
    tell(commands, "waitUntilCompleted");
    return get_uint(commands, "status");
}

void expect_failure_at(int line, sm_id encoder, sm_id commands, const char *part) {
    expect_at(line, "status", (long long)finish(encoder, commands), SM_STATUS_ERROR);
    sm_id error = get(commands, "error");
    expect_text_at(line, "error", describe(error), part);
    expect_at(line, "code", SEND(sm_int, error, "code", NO_ARGUMENTS), SM_OBJC_ERROR_CHECK);
    sm_findings found;
    sm_objc_take_findings(&found);
    sm_findings_clear(&found);
}

/* ---- correct use ---------------------------------------------------------------------------------------------- */

static void set_pipeline(sm_id encoder, sm_id pipeline) {
    SEND(void, encoder, "setComputePipelineState:", (sm_id, sm_sel, sm_id), pipeline);
}

static void test_device(void) {
    EXPECT_TEXT(text_of(get(fx.device, "name")), "software Metal");
    EXPECT(SEND(sm_size, fx.device, "maxThreadsPerThreadgroup", NO_ARGUMENTS).width, 1024);
    EXPECT(get_uint(fx.device, "maxThreadgroupMemoryLength"), 32768);
    EXPECT(SEND(sm_bool, fx.device, "supportsFamily:", (sm_id, sm_sel, sm_int), 1007l), 1);
    EXPECT(SEND(sm_bool, fx.device, "supportsFamily:", (sm_id, sm_sel, sm_int), 1008l), 0);
    const sm_uint before = get_uint(fx.device, "currentAllocatedSize");
    sm_id b = new_buffer(100);
    EXPECT(get_uint(fx.device, "currentAllocatedSize") - before, 100);
    EXPECT(get_uint(b, "length"), 100);
    const unsigned char *p = SEND(void *, b, "contents", NO_ARGUMENTS);
    EXPECT((uintptr_t)p % SM_PAGE, 0);
    for (int i = 0; i < 100; i++)
        EXPECT(p[i], 0);
    tell(b, "release");
    EXPECT(get_uint(fx.device, "currentAllocatedSize"), before);
    sm_id huge = new_buffer(SIZE_MAX / 2); /* more than there is: nil, and no violation */
    EXPECT(huge == NULL, 1);
    sm_id names = get(fx.library, "functionNames");
    EXPECT(get_uint(names, "count"), 8);
    EXPECT(SEND(sm_bool, names, "containsObject:", (sm_id, sm_sel, sm_id), string_of("scratch")), 1);
    EXPECT_CLEAN();
}

static void test_kernels(void) {
    sm_id pipeline = new_pipeline("add"), a = new_buffer(400), b = new_buffer(404);
    float *x = SEND(void *, a, "contents", NO_ARGUMENTS), *y = SEND(void *, b, "contents", NO_ARGUMENTS);
    const float s = 0.5f;
    for (int i = 0; i < 100; i++)
        x[i] = (float)i;
    sm_id commands = command_buffer(), encoder = encoder_of(commands);
    SEND(void, commands, "setLabel:", (sm_id, sm_sel, sm_id), string_of("test"));
    set_pipeline(encoder, pipeline);
    set_buffer(encoder, a, 0, 0);
    set_buffer(encoder, b, 0, 1);
    SEND(void, encoder, "setBufferOffset:atIndex:", (sm_id, sm_sel, sm_uint, sm_uint), 4ul, 1ul);
    set_bytes(encoder, &s, sizeof s, 2);
    SEND(void, encoder, "dispatchThreads:threadsPerThreadgroup:", (sm_id, sm_sel, sm_size, sm_size),
         ((sm_size){100, 1, 1}), ((sm_size){32, 1, 1}));
    tell(a, "release"); /* the command buffer has it */
    tell(pipeline, "release");
    tell(encoder, "endEncoding");
    tell(commands, "commit");
    EXPECT(y[1], 0); /* not yet */
    EXPECT(SEND(double, commands, "GPUEndTime", NO_ARGUMENTS) == 0.0, 1);
    EXPECT(get_uint(commands, "status"), SM_STATUS_COMMITTED);
    EXPECT(get_uint(commands, "status"), SM_STATUS_COMPLETED);
    for (int i = 0; i < 100; i++)
        EXPECT(y[i + 1] == (float)i + s, 1);
    EXPECT(SEND(double, commands, "GPUEndTime", NO_ARGUMENTS) >= SEND(double, commands, "GPUStartTime", NO_ARGUMENTS),
           1);
    EXPECT(get(commands, "error") == NULL, 1);
    tell(b, "release");
    EXPECT_CLEAN();
}

static sm_id constants_of(int factor, uint8_t flag) {
    sm_id constants = get(class_named("MTLFunctionConstantValues"), "new");
    SEND(void, constants, "setConstantValue:type:atIndex:", (sm_id, sm_sel, const void *, sm_uint, sm_uint), &factor,
         29ul, 0ul);
    SEND(void, constants, "setConstantValue:type:withName:", (sm_id, sm_sel, const void *, sm_uint, sm_id), &flag, 53ul,
         string_of("flag"));
    return constants;
}

static void run_on(sm_id pipeline, sm_id buffer, size_t threads) {
    sm_id commands = command_buffer(), encoder = encoder_of(commands);
    set_pipeline(encoder, pipeline);
    set_buffer(encoder, buffer, 0, 0);
    dispatch(encoder, 1, threads);
    EXPECT(finish(encoder, commands), SM_STATUS_COMPLETED);
}

static sm_id make_pipeline(sm_id function) {
    sm_id pipeline =
        SEND(sm_id, fx.device, "newComputePipelineStateWithFunction:error:", (sm_id, sm_sel, sm_id, sm_id *), function,
             NULL);
    tell(function, "release");
    return pipeline;
}

static void test_constants(void) {
    sm_id out = new_buffer(64);
    int *p = SEND(void *, out, "contents", NO_ARGUMENTS);
    sm_id error = NULL, one = constants_of(7, 1), two = constants_of(7, 0);
    sm_id f = new_function("specialised", one, &error), g = new_function("specialised", two, &error);
    EXPECT_TEXT(text_of(get(f, "name")), "specialised");
    EXPECT(get_uint(get(f, "functionConstantsDictionary"), "count"), 2);
    sm_id first = make_pipeline(f), second = make_pipeline(g);
    run_on(first, out, 16);
    EXPECT(p[5], 35);
    run_on(second, out, 16);
    EXPECT(p[5], -1);
    const float shift[4] = {1, 2, 3, NAN}; /* three are read */
    const uint8_t small[2] = {9, 4};
    SEND(void, two, "setConstantValue:type:atIndex:", (sm_id, sm_sel, const void *, sm_uint, sm_uint), shift, 5ul, 5ul);
    SEND(void, two, "setConstantValues:type:withRange:", (sm_id, sm_sel, const void *, sm_uint, sm_ns_range), small,
         49ul, ((sm_ns_range){6, 2}));
    sm_id third = make_pipeline(new_function("vectors", two, &error));
    run_on(third, out, 1);
    EXPECT(((float *)p)[0] == 1 + 20 + 300 + 9000, 1);
    const sm_id all[] = {out, one, two, first, second, third};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tell(all[i], "release");
    EXPECT_CLEAN();
}

static void test_threadgroup_memory(void) {
    sm_id pipeline = new_pipeline("scratch"), out = new_buffer(256), commands = command_buffer();
    sm_id encoder = encoder_of(commands), grid = new_buffer(16);
    ((uint32_t *)SEND(void *, grid, "contents", NO_ARGUMENTS))[1] = 1;
    ((uint32_t *)SEND(void *, grid, "contents", NO_ARGUMENTS))[2] = 1;
    ((uint32_t *)SEND(void *, grid, "contents", NO_ARGUMENTS))[3] = 1;
    set_pipeline(encoder, pipeline);
    set_buffer(encoder, out, 0, 0);
    SEND(void, encoder, "setThreadgroupMemoryLength:atIndex:", (sm_id, sm_sel, sm_uint, sm_uint), 256ul, 0ul);
    SEND(void, encoder, "dispatchThreadgroupsWithIndirectBuffer:indirectBufferOffset:threadsPerThreadgroup:",
         (sm_id, sm_sel, sm_id, sm_uint, sm_size), grid, 4ul, ((sm_size){64, 1, 1}));
    EXPECT(finish(encoder, commands), SM_STATUS_COMPLETED);
    EXPECT(((int *)SEND(void *, out, "contents", NO_ARGUMENTS))[1], 62);
    EXPECT(get_uint(pipeline, "threadExecutionWidth"), 32);
    EXPECT(get_uint(pipeline, "staticThreadgroupMemoryLength"), 0);
    tell(pipeline, "release");
    tell(out, "release");
    tell(grid, "release");
    EXPECT_CLEAN();
}

static void test_blits(void) {
    sm_id shared = new_buffer(64), commands = command_buffer(), encoder = get(commands, "blitCommandEncoder");
    sm_id private =
        SEND(sm_id, fx.device, "newBufferWithLength:options:", (sm_id, sm_sel, sm_uint, sm_uint), 64ul, 0x20ul);
    SEND(void, encoder, "fillBuffer:range:value:", (sm_id, sm_sel, sm_id, sm_ns_range, uint8_t), private,
         ((sm_ns_range){16, 32}), 7);
    SEND(void, encoder, "copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:",
         (sm_id, sm_sel, sm_id, sm_uint, sm_id, sm_uint, sm_uint), private, 12ul, shared, 4ul, 8ul);
    EXPECT(finish(encoder, commands), SM_STATUS_COMPLETED);
    const unsigned char *p = SEND(void *, shared, "contents", NO_ARGUMENTS);
    EXPECT(p[7] == 0 && p[8] == 7 && p[11] == 7 && p[12] == 0, 1);
    tell(shared, "release");
    tell(private, "release");
    EXPECT_CLEAN();
}

/* Dispatches of a concurrent encoder with a barrier where they need one: right in every order, and clean when checked;
 * without the barrier it is found, or wrong. */
static int chain(sm_objc_mode mode, int barrier) {
    sm_objc_set_mode(&mode);
    sm_id twice = new_pipeline("twice"), next = new_pipeline("next"), out = new_buffer(64);
    sm_id commands = command_buffer(), encoder = concurrent_encoder_of(commands);
    set_buffer(encoder, out, 0, 0);
    set_pipeline(encoder, next);
    dispatch(encoder, 1, 16);
    if (barrier == 1)
        SEND(void, encoder, "memoryBarrierWithScope:", (sm_id, sm_sel, sm_uint), 1ul);
    else if (barrier == 2)
        SEND(void, encoder, "memoryBarrierWithResources:count:", (sm_id, sm_sel, const sm_id *, sm_uint), &out, 1ul);
    else if (barrier == 3) /* of textures alone: none */
        SEND(void, encoder, "memoryBarrierWithScope:", (sm_id, sm_sel, sm_uint), 2ul);
    set_pipeline(encoder, twice);
    dispatch(encoder, 1, 16);
    int result = -1;
    if (finish(encoder, commands) == SM_STATUS_COMPLETED)
        result = ((int *)SEND(void *, out, "contents", NO_ARGUMENTS))[3];
    else
        EXPECT_TEXT(describe(get(commands, "error")), "no barrier between the two");
    tell(twice, "release");
    tell(next, "release");
    tell(out, "release");
    sm_findings found;
    sm_objc_take_findings(&found);
    sm_findings_clear(&found);
    sm_objc_set_mode(NULL);
    return result;
}

static void test_barriers(void) {
    for (int order = 0; order < 3; order++)
        for (int check = 0; check < 2; check++)
            for (int barrier = 1; barrier < 3; barrier++)
                EXPECT(chain((sm_objc_mode){check, (sm_order)order, 3}, barrier), 7);
    EXPECT(chain((sm_objc_mode){true, SM_ORDER_FORWARD, 0}, 0), -1);
    EXPECT(chain((sm_objc_mode){true, SM_ORDER_REVERSE, 0}, 3), -1);
    EXPECT(chain((sm_objc_mode){false, SM_ORDER_FORWARD, 0}, 0), 7);
    EXPECT(chain((sm_objc_mode){false, SM_ORDER_REVERSE, 0}, 0), 4);
}

/* ---- several queues and threads ------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 40 };

static void *work(void *arg) {
    sm_id queue = arg ? sm_retain(arg) : get(fx.device, "newCommandQueue");
    void *outer = sm_objc_api()->pool_push();
    sm_id pipeline = new_pipeline("next"), out = new_buffer(4096);
    sm_id last = NULL;
    for (int i = 0; i < ROUNDS; i++) {
        void *pool = sm_objc_api()->pool_push();
        sm_id commands = get(queue, "commandBuffer"), encoder = encoder_of(commands);
        set_pipeline(encoder, pipeline);
        set_buffer(encoder, out, 0, 0);
        dispatch(encoder, 8, 128);
        tell(encoder, "endEncoding");
        tell(commands, "commit");
        if (i % 7 == 3)
            tell(commands, "waitUntilCompleted");
        tell(last, "release");
        last = get(commands, "retain");
        sm_objc_api()->pool_pop(pool);
    }
    tell(last, "waitUntilCompleted"); /* the queue runs them in order */
    EXPECT(get_uint(last, "status"), SM_STATUS_COMPLETED);
    tell(last, "release");
    for (int i = 0; i < 1024; i++)
        EXPECT(((int *)SEND(void *, out, "contents", NO_ARGUMENTS))[i], 3 * ROUNDS);
    tell(pipeline, "release");
    tell(out, "release");
    sm_objc_api()->pool_pop(outer);
    tell(queue, "release");
    return NULL;
}

static void test_threads(void) {
    pthread_t threads[THREADS];
    for (int shared = 0; shared < 2; shared++) {
        for (int i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, work, shared ? fx.queue : NULL);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
    EXPECT_CLEAN();
}

/* Two queues: what one has committed does not wait for the other; within one, order is that of enqueue. */
static void test_queues(void) {
    sm_id other = SEND(sm_id, fx.device, "newCommandQueueWithMaxCommandBufferCount:", (sm_id, sm_sel, sm_uint), 2ul);
    sm_id next = new_pipeline("next"), twice = new_pipeline("twice"), out = new_buffer(64), far = new_buffer(64);
    sm_id first = command_buffer(), second = command_buffer(), elsewhere = get(other, "commandBuffer");
    const sm_id commands[] = {second, first, elsewhere}, pipelines[] = {twice, next, twice},
                buffers[] = {out, out, far};
    tell(first, "enqueue");
    EXPECT(get_uint(first, "status"), SM_STATUS_ENQUEUED);
    for (int i = 0; i < 3; i++) {
        sm_id encoder = encoder_of(commands[i]);
        set_pipeline(encoder, pipelines[i]);
        set_buffer(encoder, buffers[i], 0, 0);
        dispatch(encoder, 1, 16);
        tell(encoder, "endEncoding");
        tell(commands[i], "commit");
    }
    tell(elsewhere, "waitUntilCompleted");
    EXPECT(((int *)SEND(void *, far, "contents", NO_ARGUMENTS))[0], 1);
    EXPECT(((int *)SEND(void *, out, "contents", NO_ARGUMENTS))[0], 0);
    tell(second, "waitUntilCompleted");
    EXPECT(get_uint(first, "status"), SM_STATUS_COMPLETED);
    EXPECT(((int *)SEND(void *, out, "contents", NO_ARGUMENTS))[0], 2 * 3 + 1);
    for (int i = 0; i < 5; i++) { /* more than the queue has: the oldest run */
        sm_id c = get(other, "commandBuffer");
        tell(c, "commit");
    }
    const sm_id all[] = {other, next, twice, out, far};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tell(all[i], "release");
    EXPECT_CLEAN();
}

void test_commands(void) {
    void (*const tests[])(void) = {test_device, test_kernels,  test_constants, test_threadgroup_memory,
                                   test_blits,  test_barriers, test_queues,    test_threads};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        void *pool = sm_objc_api()->pool_push();
        tests[i]();
        sm_objc_api()->pool_pop(pool);
        EXPECT_CLEAN();
    }
}

int main(void) {
    void *pool = sm_objc_api()->pool_push();
    fx.device = sm_objc_api()->create_default_device();
    fx.queue = get(fx.device, "newCommandQueue");
    sm_id options = get(class_named("MTLCompileOptions"), "new"), error = NULL;
    sm_id eleven = SEND(sm_id, class_named("NSNumber"), "numberWithInt:", (sm_id, sm_sel, int), 11);
    sm_id macros = SEND(sm_id, class_named("NSDictionary"),
                        "dictionaryWithObject:forKey:", (sm_id, sm_sel, sm_id, sm_id), eleven, string_of("VALUE"));
    SEND(void, options, "setPreprocessorMacros:", (sm_id, sm_sel, sm_id), macros);
    fx.library = SEND(sm_id, fx.device, "newLibraryWithSource:options:error:", (sm_id, sm_sel, sm_id, sm_id, sm_id *),
                      string_of(source), options, &error);
    if (!fx.library) {
        fprintf(stderr, "%s\n", describe(error));
        return 1;
    }
    tell(options, "release");
    test_table();
    test_objects();
    test_commands();
    test_rules();
    test_mps();
    tell(fx.library, "release");
    tell(fx.queue, "release");
    EXPECT(get_uint(fx.device, "currentAllocatedSize"), 0);
    tell(fx.device, "release");
    sm_objc_api()->pool_pop(pool);
    EXPECT_CLEAN();
    printf("objc: %d failures\n", failures);
    return failures != 0;
}
