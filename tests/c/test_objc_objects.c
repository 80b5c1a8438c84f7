/* Objects, references, pools, look-up, Foundation. */
#include "test_objc.h"

#include <pthread.h>
#include <stdlib.h>

static void test_foundation(void) {
    sm_id s = string_of("gr\xc3\xbc\xc3\x9f \xf0\x9f\x8d\x8e");
    EXPECT(get_uint(s, "length"), 7); /* the apple takes two units */
    EXPECT(SEND(sm_bool, s, "isEqualToString:", (sm_id, sm_sel, sm_id), string_of(text_of(s))), 1);
    sm_id made =
        SEND(sm_id, get(class_named("NSString"), "alloc"), "initWithUTF8String:", (sm_id, sm_sel, const char *), "own");
    EXPECT_TEXT(text_of(made), "own");
    tell(made, "release");
    sm_id number = SEND(sm_id, class_named("NSNumber"), "numberWithDouble:", (sm_id, sm_sel, double), 2.5);
    EXPECT(SEND(double, number, "doubleValue", NO_ARGUMENTS) == 2.5, 1);
    EXPECT(SEND(float, number, "floatValue", NO_ARGUMENTS) == 2.5f, 1);
    EXPECT(SEND(int, number, "intValue", NO_ARGUMENTS), 2);
    EXPECT_TEXT(text_of(get(number, "stringValue")), "2.5");
    number = SEND(sm_id, class_named("NSNumber"), "numberWithUnsignedInteger:", (sm_id, sm_sel, sm_uint), ~0ul);
    EXPECT_TEXT(text_of(get(number, "stringValue")), "18446744073709551615");
    sm_id items[] = {s, number, s}, keys[] = {string_of("a"), string_of("b"), string_of("a")};
    sm_id array = SEND(sm_id, class_named("NSArray"),
                       "arrayWithObjects:count:", (sm_id, sm_sel, const sm_id *, sm_uint), items, 3ul);
    EXPECT(get_uint(array, "count"), 3);
    EXPECT(SEND(sm_id, array, "objectAtIndex:", (sm_id, sm_sel, sm_uint), 1ul) == number, 1);
    sm_id dictionary = SEND(sm_id, class_named("NSMutableDictionary"), "dictionary", NO_ARGUMENTS);
    for (int i = 0; i < 3; i++)
        SEND(void, dictionary, "setObject:forKey:", (sm_id, sm_sel, sm_id, sm_id), items[i], keys[i]);
    EXPECT(get_uint(dictionary, "count"), 2);
    EXPECT(SEND(sm_id, dictionary, "objectForKey:", (sm_id, sm_sel, sm_id), string_of("b")) == number, 1);
    EXPECT(get_uint(get(dictionary, "allKeys"), "count"), 2);
    sm_id url = SEND(sm_id, class_named("NSURL"), "URLWithString:", (sm_id, sm_sel, sm_id), string_of("file:///a/b"));
    EXPECT_TEXT(text_of(get(url, "path")), "/a/b");
    EXPECT_TEXT(text_of(get(url, "absoluteString")), "file:///a/b");
    sm_id error =
        SEND(sm_id, class_named("NSError"), "errorWithDomain:code:userInfo:", (sm_id, sm_sel, sm_id, sm_int, sm_id),
             string_of("Here"), -3l, NULL);
    EXPECT(SEND(sm_int, error, "code", NO_ARGUMENTS), -3);
    EXPECT_TEXT(text_of(get(error, "domain")), "Here");
    EXPECT_CLEAN();
    EXPECT(SEND(sm_id, array, "objectAtIndex:", (sm_id, sm_sel, sm_uint), 3ul) == NULL, 1);
    EXPECT_FOUND("-[NSArray objectAtIndex:]: index 3 is beyond the array's 3 objects");
}

static void test_look_up(void) {
    sm_id device = fx.device;
    EXPECT(class_named("MTLDevice") == NULL, 1); /* a protocol */
    EXPECT(class_named("NSNonsense") == NULL, 1);
    EXPECT(SEND(sm_bool, device, "respondsToSelector:", (sm_id, sm_sel, sm_sel),
                sm_objc_api()->sel_register("newCommandQueue")),
           1);
    EXPECT(SEND(sm_bool, device, "respondsToSelector:", (sm_id, sm_sel, sm_sel),
                sm_objc_api()->sel_register("newHeapWithDescriptor:")),
           0);
    EXPECT(sm_objc_api()->sel_register("commit") == sm_objc_api()->sel_register("commit"), 1);
    /* nil answers zero of every kind. */
    EXPECT(get(NULL, "commandBuffer") == NULL, 1);
    EXPECT(SEND(double, NULL, "GPUStartTime", NO_ARGUMENTS) == 0.0, 1);
    const sm_size none = SEND(sm_size, NULL, "maxThreadsPerThreadgroup", NO_ARGUMENTS);
    EXPECT(none.width | none.height | none.depth, 0);
    EXPECT_CLEAN();
    EXPECT(get(device, "newHeap") == NULL, 1);
    EXPECT_FOUND("-[MTLDevice newHeap]: unrecognized selector");
    EXPECT(get(class_named("NSError"), "new") == NULL, 1);
    EXPECT_FOUND("+[NSError new]: objects of this class are not made with new or alloc");
    int not_an_object = 5;
    EXPECT(SEND(sm_size, &not_an_object, "maxThreadsPerThreadgroup", NO_ARGUMENTS).width, 0);
    EXPECT_FOUND("is no object");
    EXPECT(SEND(double, (void *)8, "GPUStartTime", NO_ARGUMENTS) == 0.0, 1);
    EXPECT_FOUND("is no object");
    EXPECT(SEND(double, fx.queue, "GPUStartTime", NO_ARGUMENTS) == 0.0, 1);
    EXPECT_FOUND("-[MTLCommandQueue GPUStartTime]: unrecognized selector");
    EXPECT(SEND(sm_size, fx.queue, "maxThreadsPerThreadgroup", NO_ARGUMENTS).depth, 0);
    EXPECT_FOUND("unrecognized selector");
}

static void test_references(void) {
    sm_id b = new_buffer(16);
    EXPECT(get_uint(b, "retainCount"), 1);
    tell(get(b, "retain"), "release");
    tell(b, "release");
    EXPECT_CLEAN();
    EXPECT(get_uint(b, "length"), 0);
    EXPECT_FOUND("-[MTLBuffer length]: the object is used after its last reference was released");
    tell(b, "release");
    EXPECT_FOUND("-[MTLBuffer release]: the object is released more often than it was retained");

    /* What other objects hold is not the program's to use or to release. */
    sm_id commands = command_buffer(), encoder = encoder_of(commands), held = new_buffer(64);
    set_buffer(encoder, held, 0, 0);
    tell(held, "release");
    tell(held, "release");
    EXPECT_FOUND("-[MTLBuffer release]: the object is released more often than it was retained");
    set_buffer(encoder, held, 0, 1);
    EXPECT_FOUND("setBuffer:offset:atIndex:]: the buffer is used after its last reference was released");
    EXPECT(finish(encoder, commands), SM_STATUS_ERROR);

    void *pool = sm_objc_api()->pool_push();
    sm_id s = string_of("pooled");
    tell(s, "release"); /* the pool's */
    sm_objc_api()->pool_pop(pool);
    EXPECT_FOUND("an autorelease pool holds an object");
    sm_objc_api()->pool_pop(pool);
    EXPECT_FOUND("an autorelease pool is popped that is not open in this thread");

    sm_id vector = get(class_named("MPSVector"), "alloc");
    EXPECT(get(vector, "data") == NULL, 1);
    EXPECT_FOUND("-[MPSVector data]: the object is used after alloc without init");
    EXPECT(get(vector, "init") == NULL, 1);
    EXPECT_FOUND("-[MPSVector init]: objects of this class need an init... method of their own");
    EXPECT(get(class_named("MPSMatrix"), "new") == NULL, 1);
    EXPECT_FOUND("+[MPSMatrix new]: objects of this class need alloc");

    pool = get(class_named("NSAutoreleasePool"), "new");
    s = get(string_of("held"), "retain");
    EXPECT(get_uint(s, "retainCount"), 2);
    tell(pool, "drain");
    EXPECT(get_uint(s, "retainCount"), 1);
    tell(s, "release");
    EXPECT_CLEAN();
}

/* Places of objects are used again, and still tell what is gone. */
static void test_many_objects(void) {
    enum { MANY = 5000 };
    sm_id kept[MANY];
    for (int i = 0; i < MANY; i++)
        kept[i] = get(class_named("MTLFunctionConstantValues"), "new");
    for (int i = 0; i < MANY; i++)
        for (int k = i < 2 ? 0 : i - 1; k < i; k++)
            EXPECT(kept[i] != kept[k], 1);
    for (int i = 0; i < MANY; i++)
        tell(kept[i], "release");
    EXPECT_CLEAN();
    for (int i = 0; i < MANY; i += 1000)
        tell(kept[i], "reset");
    sm_findings found;
    sm_objc_take_findings(&found);
    EXPECT(found.n, 1);
    EXPECT(found.items[0].count, 5);
    sm_findings_clear(&found);
}

static void *without_a_pool(void *arg) {
    (void)arg;
    EXPECT_TEXT(text_of(string_of("alone")), "alone");
    return NULL;
}

static void test_threads_without_a_pool(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, without_a_pool, NULL);
    pthread_join(thread, NULL);
    sm_findings found;
    sm_objc_take_findings(&found);
    EXPECT(found.n, 1);
    EXPECT(found.n && found.items[0].severity == SM_WARNING, 1);
    EXPECT_TEXT(found.n ? found.items[0].message : "", "no autorelease pool is open in this thread");
    sm_findings_clear(&found);
}

void test_objects(void) {
    void (*const tests[])(void) = {test_foundation, test_look_up, test_references, test_many_objects,
                                   test_threads_without_a_pool};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        void *pool = sm_objc_api()->pool_push();
        tests[i]();
        /* What belonged to no command buffer fails the next one, so that a driver hears of it. */
        sm_id commands = command_buffer();
        const sm_uint status = finish(NULL, commands);
        EXPECT(status, i < 4 ? SM_STATUS_ERROR : SM_STATUS_COMPLETED);
        commands = command_buffer();
        EXPECT(finish(NULL, commands), SM_STATUS_COMPLETED);
        sm_objc_api()->pool_pop(pool);
        EXPECT_CLEAN();
    }
}
