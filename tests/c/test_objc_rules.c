/* Every rule of Metal's debug layer that is modelled, broken once: found, with words that help. */
#include "test_objc.h"

#include <stdlib.h>

static sm_id add_pipeline, small_pipeline;

static void set_pipeline(sm_id encoder, sm_id pipeline) {
    SEND(void, encoder, "setComputePipelineState:", (sm_id, sm_sel, sm_id), pipeline);
}

static void set_memory(sm_id encoder, size_t bytes, size_t index) {
    SEND(void, encoder, "setThreadgroupMemoryLength:atIndex:", (sm_id, sm_sel, sm_uint, sm_uint), bytes, index);
}

static sm_id buffer_with(size_t length, sm_uint options) {
    return SEND(sm_id, fx.device, "newBufferWithLength:options:", (sm_id, sm_sel, sm_uint, sm_uint), length, options);
}

static sm_id wrap(void *bytes, size_t length, sm_uint options, sm_id deallocator) {
    return SEND(sm_id, fx.device, "newBufferWithBytesNoCopy:length:options:deallocator:",
                (sm_id, sm_sel, void *, sm_uint, sm_uint, sm_id), bytes, length, options, deallocator);
}

/* ---- buffers -------------------------------------------------------------------------------------------------- */

static void test_buffers(void) {
    EXPECT(buffer_with(0, 0) == NULL, 1);
    EXPECT_FOUND("newBufferWithLength:options:]: the length is zero");
    EXPECT(buffer_with(64, 3 << 4) == NULL, 1);
    EXPECT_FOUND("memoryless storage is for textures, not for buffers");
    EXPECT(buffer_with(64, 1 << 12) == NULL, 1);
    EXPECT_FOUND("0x1000 is no MTLResourceOptions");
    sm_id private = buffer_with(64, 2 << 4);
    SEND(void, private, "setLabel:", (sm_id, sm_sel, sm_id), string_of("weights"));
    EXPECT(get(private, "contents") == NULL, 1);
    EXPECT_FOUND("-[MTLBuffer contents] 'weights': the buffer has private storage, which the CPU cannot reach");
    int value = 3;
    sm_id filled =
        SEND(sm_id, fx.device, "newBufferWithBytes:length:options:", (sm_id, sm_sel, const void *, sm_uint, sm_uint),
             &value, 4ul, 2ul << 4);
    EXPECT(filled == NULL, 1);
    EXPECT_FOUND("the CPU cannot fill a buffer with private storage");
    filled =
        SEND(sm_id, fx.device, "newBufferWithBytes:length:options:", (sm_id, sm_sel, const void *, sm_uint, sm_uint),
             &value, 4ul, 0ul);
    EXPECT(*(int *)SEND(void *, filled, "contents", NO_ARGUMENTS), 3);
    SEND(void, filled, "didModifyRange:", (sm_id, sm_sel, sm_ns_range), ((sm_ns_range){0, 4}));
    EXPECT_FOUND("only a buffer with managed storage");
    sm_id managed = buffer_with(64, 1 << 4);
    SEND(void, managed, "didModifyRange:", (sm_id, sm_sel, sm_ns_range), ((sm_ns_range){60, 8}));
    EXPECT_FOUND("8 bytes at 60 lie beyond the buffer's 64 bytes");

    char *memory = aligned_alloc(SM_PAGE, 2 * SM_PAGE);
    EXPECT(wrap(memory + 4096, SM_PAGE, 0, NULL) == NULL, 1);
    EXPECT_FOUND("is not a multiple of the page of 16384 bytes");
    EXPECT(wrap(memory, SM_PAGE + 4096, 0, NULL) == NULL, 1);
    EXPECT_FOUND("the length of 20480 bytes is not a multiple of the page of 16384 bytes");
    EXPECT(wrap(memory, SM_PAGE, 2 << 4, NULL) == NULL, 1);
    EXPECT_FOUND("memory of the CPU cannot have private storage");
    EXPECT(wrap(memory, SM_PAGE, 0, fx.queue) == NULL, 1);
    EXPECT_FOUND("a deallocator is a block");
    sm_id wrapped = wrap(memory, SM_PAGE, 0, NULL);
    EXPECT(SEND(void *, wrapped, "contents", NO_ARGUMENTS) == memory, 1);
    tell(wrapped, "release");
    EXPECT_CLEAN();
    free(memory);
    tell(private, "release");
    tell(filled, "release");
    tell(managed, "release");
}

/* ---- encoders ------------------------------------------------------------------------------------------------- */

static void test_encoders(void) {
    sm_id c = command_buffer(), e = encoder_of(c), b = new_buffer(64);
    tell(e, "endEncoding");
    set_buffer(e, b, 0, 0);
    EXPECT_FAILURE(NULL, c,
                   "[MTLComputeCommandEncoder setBuffer:offset:atIndex:]: the encoder is used after endEncoding");

    c = command_buffer(), e = encoder_of(c);
    EXPECT(get(c, "blitCommandEncoder") == NULL, 1);
    EXPECT_FAILURE(e, c, "another encoder of the command buffer is open");

    c = command_buffer(), e = encoder_of(c);
    EXPECT_FAILURE(NULL, c, "-[MTLCommandBuffer commit]: the command buffer is committed while an encoder is open");
    tell(e, "endEncoding");
    EXPECT_FOUND("the encoder is used after its command buffer was committed");

    void *pool = sm_objc_api()->pool_push();
    c = get(command_buffer(), "retain");
    encoder_of(c);
    sm_objc_api()->pool_pop(pool);
    EXPECT_FAILURE(NULL, c, "a command encoder is released without endEncoding");
    tell(c, "release");

    c = command_buffer(), e = encoder_of(c);
    tell(e, "popDebugGroup");
    SEND(void, e, "pushDebugGroup:", (sm_id, sm_sel, sm_id), string_of("group"));
    EXPECT_FAILURE(e, c, "no debug group of the encoder is open");

    c = command_buffer(), e = encoder_of(c);
    SEND(void, e, "pushDebugGroup:", (sm_id, sm_sel, sm_id), string_of("group"));
    EXPECT_FAILURE(e, c, "1 debug groups of the encoder are not popped");

    c = command_buffer();
    SEND(void, c, "pushDebugGroup:", (sm_id, sm_sel, sm_id), string_of("group"));
    EXPECT_FAILURE(NULL, c, "committed with 1 debug groups not popped");

    c = command_buffer();
    SEND(void, c, "pushDebugGroup:", (sm_id, sm_sel, sm_id), NULL);
    tell(c, "popDebugGroup");
    EXPECT_FAILURE(NULL, c, "the label is nil");
    tell(b, "release");
}

static void test_arguments(void) {
    static const char bytes[5000];
    const struct {
        size_t offset, index;
        const char *found;
    } places[] = {{64, 0, "offset 64 lies beyond the 64 bytes of the buffer for index 0"},
                  {0, 31, "index 31; an encoder has buffers 0 to 30"}};
    sm_id b = new_buffer(64), c, e;
    for (int i = 0; i < 2; i++) {
        c = command_buffer(), e = encoder_of(c);
        set_buffer(e, b, places[i].offset, places[i].index);
        EXPECT_FAILURE(e, c, places[i].found);
    }
    const struct {
        const void *bytes;
        size_t length;
        const char *found;
    } blocks[] = {{bytes, 4097, "4097 bytes; it takes 1 to 4096, more go into a buffer"},
                  {bytes, 0, "0 bytes; it takes 1 to 4096"},
                  {NULL, 4, "the pointer to the bytes is NULL"}};
    for (int i = 0; i < 3; i++) {
        c = command_buffer(), e = encoder_of(c);
        set_bytes(e, blocks[i].bytes, blocks[i].length, 0);
        EXPECT_FAILURE(e, c, blocks[i].found);
    }
    c = command_buffer(), e = encoder_of(c);
    SEND(void, e, "setBufferOffset:atIndex:", (sm_id, sm_sel, sm_uint, sm_uint), 4ul, 2ul);
    EXPECT_FAILURE(e, c, "setBufferOffset:atIndex:]: no buffer is set at index 2");
    c = command_buffer(), e = encoder_of(c);
    set_buffer(e, fx.queue, 0, 0);
    EXPECT_FAILURE(e, c, "the buffer is a MTLCommandQueue, not a MTLBuffer");
    c = command_buffer(), e = encoder_of(c);
    set_pipeline(e, NULL);
    EXPECT_FAILURE(e, c, "the pipeline is nil");
    c = command_buffer(), e = encoder_of(c);
    SEND(void, e, "memoryBarrierWithScope:", (sm_id, sm_sel, sm_uint), 0ul);
    EXPECT_FAILURE(e, c, "0x0 is no MTLBarrierScope");
    c = command_buffer(), e = encoder_of(c);
    const sm_id resources[] = {b, NULL};
    SEND(void, e, "memoryBarrierWithResources:count:", (sm_id, sm_sel, const sm_id *, sm_uint), resources, 2ul);
    EXPECT_FAILURE(e, c, "a resource is nil");
    c = command_buffer();
    EXPECT(SEND(sm_id, c, "computeCommandEncoderWithDispatchType:", (sm_id, sm_sel, sm_uint), 2ul) == NULL, 1);
    EXPECT_FAILURE(NULL, c, "2 is no MTLDispatchType");
    tell(b, "release");
}

/* ---- dispatches ----------------------------------------------------------------------------------------------- */

static void test_dispatches(void) {
    sm_id a = new_buffer(4096), b = new_buffer(4096), c, e;
    const float s = 1;
    c = command_buffer(), e = encoder_of(c);
    dispatch(e, 1, 1);
    EXPECT_FAILURE(e, c, "no pipeline is set");

    for (int bound = 0; bound < 3; bound++) { /* one of three is missing */
        static const char *const names[] = {"'a'", "'b'", "'s'"};
        c = command_buffer(), e = encoder_of(c);
        set_pipeline(e, add_pipeline);
        if (bound != 0)
            set_buffer(e, a, 0, 0);
        if (bound != 1)
            set_buffer(e, b, 0, 1);
        if (bound != 2)
            set_bytes(e, &s, sizeof s, 2);
        dispatch(e, 2, 32);
        tell(e, "endEncoding");
        EXPECT_FAILURE(NULL, c, "unbound-buffer");
        EXPECT_TEXT(describe(get(c, "error")), names[bound]);
    }

    const struct {
        size_t groups, threads;
        const char *found;
    } sizes[] = {{0, 1, "a grid of 0 x 1 x 1: no dimension may be zero"},
                 {1, 0, "a threadgroup of 0 x 1 x 1: no dimension may be zero"},
                 {1, 65, "65 x 1 x 1 threads in a threadgroup; maxTotalThreadsPerThreadgroup of the pipeline is 64"},
                 {1ul << 33, 1, "is too large"}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        c = command_buffer(), e = encoder_of(c);
        set_pipeline(e, small_pipeline);
        set_buffer(e, a, 0, 0);
        dispatch(e, sizes[i].groups, sizes[i].threads);
        EXPECT_FAILURE(e, c, sizes[i].found);
    }
    c = command_buffer(), e = encoder_of(c);
    set_pipeline(e, add_pipeline);
    SEND(void, e, "dispatchThreads:threadsPerThreadgroup:", (sm_id, sm_sel, sm_size, sm_size), ((sm_size){2048, 1, 1}),
         ((sm_size){32, 32, 2}));
    EXPECT_FAILURE(e, c, "32 x 32 x 2 threads in a threadgroup; maxTotalThreadsPerThreadgroup of the pipeline is 1024");

    c = command_buffer(), e = encoder_of(c);
    set_pipeline(e, add_pipeline);
    set_buffer(e, a, 2, 2);
    dispatch(e, 1, 1);
    EXPECT_FAILURE(e, c, "offset 2 of 's' (index 2), which is constant memory, is not a multiple of 4");

    for (int i = 0; i < 2; i++) {
        c = command_buffer(), e = encoder_of(c);
        set_pipeline(e, small_pipeline);
        set_buffer(e, a, 0, 0);
        SEND(void, e, "dispatchThreadgroupsWithIndirectBuffer:indirectBufferOffset:threadsPerThreadgroup:",
             (sm_id, sm_sel, sm_id, sm_uint, sm_size), b, i ? 6ul : 4088ul, ((sm_size){1, 1, 1}));
        EXPECT_FAILURE(e, c,
                       i ? "offset 6 of the indirect buffer is not a multiple of 4"
                         : "12 bytes at offset 4088 lie beyond the 4096 bytes of the indirect buffer");
    }
    tell(a, "release");
    tell(b, "release");
}

static void test_threadgroup_memory(void) {
    sm_id pipeline = new_pipeline("wide"), out = new_buffer(256), c, e;
    EXPECT(get_uint(pipeline, "staticThreadgroupMemoryLength"), 16384);
    const struct {
        size_t bytes, index;
        const char *found;
    } lengths[] = {{8, 0, "8 bytes of threadgroup memory: the length must be a multiple of 16"},
                   {32784, 0, "32784 bytes of threadgroup memory; the device has 32768"},
                   {16, 31, "index 31; an encoder has threadgroup memory 0 to 30"},
                   {16, 1, "the threadgroup memory of 't' (index 0) has no length"},
                   {16400, 0, "32784 bytes of threadgroup memory; the device has 32768"}};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        c = command_buffer(), e = encoder_of(c);
        set_pipeline(e, pipeline);
        set_buffer(e, out, 0, 0);
        set_memory(e, lengths[i].bytes, lengths[i].index);
        if (i >= 3)
            dispatch(e, 1, 32);
        EXPECT_FAILURE(e, c, lengths[i].found);
    }
    c = command_buffer(), e = encoder_of(c);
    set_pipeline(e, pipeline);
    set_buffer(e, out, 0, 0);
    set_memory(e, 16384, 0);
    dispatch(e, 1, 64);
    EXPECT(finish(e, c), SM_STATUS_COMPLETED);
    EXPECT(((float *)SEND(void *, out, "contents", NO_ARGUMENTS))[63] == 126.0f, 1);
    tell(pipeline, "release");
    tell(out, "release");
}

/* ---- command buffers ------------------------------------------------------------------------------------------ */

static void test_command_buffers(void) {
    sm_id c = command_buffer();
    EXPECT(finish(NULL, c), SM_STATUS_COMPLETED);
    tell(c, "commit");
    EXPECT_FOUND("-[MTLCommandBuffer commit]: the command buffer is committed twice");
    EXPECT(get_uint(c, "status"), SM_STATUS_ERROR);
    EXPECT(encoder_of(c) == NULL, 1);
    EXPECT_FOUND("the command buffer is committed already");
    tell(c, "enqueue");
    EXPECT_FOUND("the command buffer is committed already");

    c = command_buffer();
    tell(c, "waitUntilCompleted");
    EXPECT_FAILURE(NULL, c, "-[MTLCommandBuffer waitUntilCompleted]: this waits for ever: the command buffer is not");

    sm_id first = command_buffer(), second = command_buffer();
    tell(first, "enqueue");
    tell(second, "commit");
    tell(second, "waitUntilCompleted");
    EXPECT_FOUND("this waits for ever: a command buffer that was enqueued before it is not committed");
    EXPECT(finish(NULL, first), SM_STATUS_COMPLETED);
    tell(second, "waitUntilCompleted");
    EXPECT(get_uint(second, "status"), SM_STATUS_ERROR);

    sm_id queue = SEND(sm_id, fx.device, "newCommandQueueWithMaxCommandBufferCount:", (sm_id, sm_sel, sm_uint), 2ul);
    for (int i = 0; i < 3; i++)
        EXPECT(get(queue, "commandBuffer") != NULL, 1);
    EXPECT_FOUND("this waits for ever: 2 command buffers of the queue are not committed");
    tell(queue, "release");
    EXPECT(SEND(sm_id, fx.device, "newCommandQueueWithMaxCommandBufferCount:", (sm_id, sm_sel, sm_uint), 0ul) == NULL,
           1);
    EXPECT_FOUND("a queue of 0 command buffers");
    EXPECT_FAILURE(NULL, command_buffer(), "this waits for ever"); /* those of no command buffer */

    c = get(fx.queue, "commandBufferWithUnretainedReferences");
    sm_id e = encoder_of(c), out = new_buffer(256);
    set_pipeline(e, small_pipeline);
    set_buffer(e, out, 0, 0);
    dispatch(e, 1, 64);
    tell(out, "release");
    EXPECT_FAILURE(e, c, "a MTLBuffer is released before the command buffer, which has unretained references, is");
}

static void test_blits(void) {
    sm_id a = new_buffer(64), b = new_buffer(64);
    const struct {
        sm_uint from, to, size;
        bool same;
        const char *found;
    } copies[] = {{60, 0, 8, false, "8 bytes at offset 60 lie beyond the 64 bytes of the source"},
                  {0, 60, 8, false, "8 bytes at offset 60 lie beyond the 64 bytes of the destination"},
                  {0, 0, 0, false, "no bytes: the size is zero"},
                  {2, 0, 4, false, "offset 2 and size 4 of the source: both must be multiples of 4"},
                  {0, 4, 8, true, "source and destination overlap"}};
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) {
        sm_id c = command_buffer(), e = get(c, "blitCommandEncoder");
        SEND(void, e, "copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:",
             (sm_id, sm_sel, sm_id, sm_uint, sm_id, sm_uint, sm_uint), a, copies[i].from, copies[i].same ? a : b,
             copies[i].to, copies[i].size);
        EXPECT_FAILURE(e, c, copies[i].found);
    }
    sm_id c = command_buffer(), e = get(c, "blitCommandEncoder");
    SEND(void, e, "fillBuffer:range:value:", (sm_id, sm_sel, sm_id, sm_ns_range, uint8_t), a, ((sm_ns_range){4, 64}),
         1);
    EXPECT_FAILURE(e, c, "64 bytes at offset 4 lie beyond the 64 bytes of the buffer");
    c = command_buffer(), e = get(c, "blitCommandEncoder");
    SEND(void, e, "synchronizeResource:", (sm_id, sm_sel, sm_id), a);
    EXPECT_FAILURE(e, c, "only a resource with managed storage is synchronised");
    tell(a, "release");
    tell(b, "release");
}

/* ---- libraries ------------------------------------------------------------------------------------------------ */

static sm_id library_of(const char *text, sm_id *error) {
    return SEND(sm_id, fx.device, "newLibraryWithSource:options:error:", (sm_id, sm_sel, sm_id, sm_id, sm_id *),
                string_of(text), NULL, error);
}

static void set_constant(sm_id constants, const void *value, sm_uint type, sm_uint index) {
    SEND(void, constants, "setConstantValue:type:atIndex:", (sm_id, sm_sel, const void *, sm_uint, sm_uint), value,
         type, index);
}

static void test_libraries(void) {
    sm_id error = NULL, options = get(class_named("MTLCompileOptions"), "new");
    EXPECT(library_of("#include <metal_stdlib>\nkernel void broken(device int *p [[buffer(0)]]", &error) == NULL, 1);
    EXPECT_TEXT(describe(error), "program_source:2");
    EXPECT(SEND(sm_int, error, "code", NO_ARGUMENTS), 3);
    error = NULL;
    EXPECT(new_function("nothing", get(class_named("MTLFunctionConstantValues"), "new"), &error) == NULL, 1);
    EXPECT_TEXT(describe(error), "Function 'nothing' was not found in the library");
    sm_id none = SEND(sm_id, fx.library, "newFunctionWithName:", (sm_id, sm_sel, sm_id), string_of("nothing"));
    EXPECT(none == NULL, 1);

    sm_id body =
        library_of("#include <metal_stdlib>\nkernel void broken(device int *p [[buffer(0)]]) {\n  p = q;\n}\n", &error);
    sm_id f = SEND(sm_id, body, "newFunctionWithName:", (sm_id, sm_sel, sm_id), string_of("broken"));
    error = NULL;
    sm_id p = SEND(sm_id, fx.device, "newComputePipelineStateWithFunction:error:", (sm_id, sm_sel, sm_id, sm_id *), f,
                   &error);
    EXPECT(p == NULL, 1);
    EXPECT_TEXT(describe(error), "program_source:3");
    tell(f, "release");
    tell(body, "release");

    sm_id url = SEND(sm_id, class_named("NSURL"), "fileURLWithPath:", (sm_id, sm_sel, sm_id), string_of("x.metallib"));
    error = NULL;
    EXPECT(SEND(sm_id, fx.device, "newLibraryWithURL:error:", (sm_id, sm_sel, sm_id, sm_id *), url, &error) == NULL, 1);
    EXPECT_TEXT(describe(error), "x.metallib: a compiled library");
    EXPECT_CLEAN();
    SEND(void, options, "setLanguageVersion:", (sm_id, sm_sel, sm_uint), 3ul);
    EXPECT_FOUND("0x3 is no MTLLanguageVersion");
    sm_id macros = SEND(sm_id, class_named("NSDictionary"),
                        "dictionaryWithObject:forKey:", (sm_id, sm_sel, sm_id, sm_id), fx.queue, string_of("NAME"));
    SEND(void, options, "setPreprocessorMacros:", (sm_id, sm_sel, sm_id), macros);
    EXPECT_FOUND("names of macros are NSString, values NSString or NSNumber");
    tell(options, "release");
}

static void test_function_constants(void) {
    sm_id constants = get(class_named("MTLFunctionConstantValues"), "new"), error = NULL;
    const int factor = 3;
    const uint8_t flag = 1;
    set_constant(constants, &flag, 53, 1);
    EXPECT(new_function("specialised", constants, &error) == NULL, 1);
    EXPECT_TEXT(describe(error), "'specialised' needs a value for the function constant 'factor' (index 0)");
    set_constant(constants, &factor, 33, 0); /* uint for int */
    error = NULL;
    EXPECT(new_function("specialised", constants, &error) == NULL, 1);
    EXPECT_TEXT(describe(error), "the constant 'factor' (index 0) is a int, its value a uint");
    EXPECT_CLEAN();
    set_constant(constants, &factor, 58, 0); /* a texture */
    EXPECT_FOUND("58 is no MTLDataType that a function constant can have");
    set_constant(constants, NULL, 29, 0);
    EXPECT_FOUND("the pointer to the value is NULL");
    set_constant(constants, &factor, 29, 70000);
    EXPECT_FOUND("indices of function constants are below 65536");
    error = NULL;
    sm_id f = SEND(sm_id, fx.library, "newFunctionWithName:", (sm_id, sm_sel, sm_id), string_of("specialised"));
    sm_id p = SEND(sm_id, fx.device, "newComputePipelineStateWithFunction:error:", (sm_id, sm_sel, sm_id, sm_id *), f,
                   &error);
    EXPECT(p == NULL, 1);
    EXPECT_TEXT(describe(error), "needs a value for the function constant");
    tell(f, "release");
    tell(constants, "release");
}

/* ---- kernels -------------------------------------------------------------------------------------------------- */

/* What the checker finds in a kernel, and what stops one unchecked, is the command buffer's error. */
static void test_defects(void) {
    sm_id out = new_buffer(64);
    for (int check = 0; check < 2; check++) {
        sm_objc_set_mode(&(const sm_objc_mode){.check = check});
        sm_id c = command_buffer(), e = encoder_of(c);
        set_pipeline(e, small_pipeline);
        set_buffer(e, out, 0, 0);
        dispatch(e, check ? 1 : 1024, check ? 17 : 64); /* beyond the guard page where nobody checks */
        EXPECT(finish(e, c), SM_STATUS_ERROR);
        sm_id error = get(c, "error");
        EXPECT(SEND(sm_int, error, "code", NO_ARGUMENTS), check ? SM_OBJC_ERROR_CHECK : 1);
        EXPECT_TEXT(describe(error), "out-of-bounds");
        EXPECT_TEXT(describe(error), "'few'");
        EXPECT_FOUND("'few'");
    }
    sm_objc_set_mode(NULL);
    tell(out, "release");
}

void test_rules(void) {
    void (*const tests[])(void) = {
        test_buffers,         test_encoders, test_arguments, test_dispatches,         test_threadgroup_memory,
        test_command_buffers, test_blits,    test_libraries, test_function_constants, test_defects};
    add_pipeline = new_pipeline("add");
    small_pipeline = new_pipeline("few");
    EXPECT(get_uint(small_pipeline, "maxTotalThreadsPerThreadgroup"), 64);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        void *pool = sm_objc_api()->pool_push();
        tests[i]();
        (void)finish(NULL, command_buffer()); /* takes what belonged to no command buffer */
        sm_objc_api()->pool_pop(pool);
        EXPECT_CLEAN();
    }
    tell(add_pipeline, "release");
    tell(small_pipeline, "release");
}
