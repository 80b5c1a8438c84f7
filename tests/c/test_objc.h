/* For tests of the software Metal's classes: messages by text, and what was found. */
#ifndef TESTS_OBJC_H
#define TESTS_OBJC_H

#include "softmetal.h"
#include "softmetal/objc_classes.h"

/* SEND(returns, receiver, "selector", (types of the arguments), arguments...) */
#define SEND(returns, receiver, selector, types, ...)                                                                  \
    __extension__({                                                                                                    \
        void *const to_ = (receiver);                                                                                  \
        void *const selector_ = sm_objc_api()->sel_register(selector);                                                 \
        ((returns(*) types)sm_objc_api()->lookup(to_, selector_))(to_, selector_, ##__VA_ARGS__);                      \
    })
#define NO_ARGUMENTS (sm_id, sm_sel)

static inline sm_id get(sm_id receiver, const char *selector) {
    return SEND(sm_id, receiver, selector, NO_ARGUMENTS);
}
static inline sm_uint get_uint(sm_id receiver, const char *selector) {
    return SEND(sm_uint, receiver, selector, NO_ARGUMENTS);
}
static inline void tell(sm_id receiver, const char *selector) {
    SEND(void, receiver, selector, NO_ARGUMENTS);
}
static inline sm_id class_named(const char *name) {
    return sm_objc_api()->get_class(name);
}
static inline sm_id string_of(const char *text) {
    return SEND(sm_id, class_named("NSString"), "stringWithUTF8String:", (sm_id, sm_sel, const char *), text);
}
static inline const char *text_of(sm_id string) {
    return SEND(const char *, string, "UTF8String", NO_ARGUMENTS);
}
static inline const char *describe(sm_id error) {
    return text_of(get(error, "localizedDescription"));
}

/* Everything that was found since the last time is this one violation (part of its message); NULL: nothing. */
static inline void expect_found_at(int line, const char *part) {
    sm_findings found;
    sm_objc_take_findings(&found);
    const char *message = found.n ? found.items[0].message : NULL;
    if (part)
        expect_text_at(line, "finding", message, part);
    expect_at(line, "findings", (long long)found.n, part != NULL);
    if (found.n != (part != NULL))
        for (size_t i = 0; i < found.n; i++)
            fprintf(stderr, "    %s\n", found.items[i].message);
    sm_findings_clear(&found);
}
#define EXPECT_FOUND(part) expect_found_at(__LINE__, part)
#define EXPECT_CLEAN() expect_found_at(__LINE__, NULL)

/* What all tests use. Pipelines are named by their kernels. */
typedef struct fixture {
    sm_id device, queue, library;
} fixture;
extern fixture fx;

sm_id new_buffer(size_t length); /* shared, of zeros; owned */
sm_id new_pipeline(const char *kernel);
sm_id new_function(const char *kernel, sm_id constants, sm_id *error);
sm_id command_buffer(void);       /* autoreleased */
sm_id encoder_of(sm_id commands); /* serial, autoreleased */
sm_id concurrent_encoder_of(sm_id commands);
void set_buffer(sm_id encoder, sm_id buffer, size_t offset, size_t index);
void set_bytes(sm_id encoder, const void *bytes, size_t length, size_t index);
void dispatch(sm_id encoder, size_t groups, size_t threads);
/* Ends, commits and waits; the status. encoder may be nil. */
sm_uint finish(sm_id encoder, sm_id commands);
/* As finish, for commands that must fail with this text and code SM_OBJC_ERROR_CHECK; forgets what was found. */
void expect_failure_at(int line, sm_id encoder, sm_id commands, const char *part);
#define EXPECT_FAILURE(encoder, commands, part) expect_failure_at(__LINE__, encoder, commands, part)

void test_objects(void);  /* test_objc_objects.c */
void test_rules(void);    /* test_objc_rules.c */
void test_commands(void); /* test_objc.c */
void test_mps(void);      /* test_objc_mps.c */
void test_table(void);    /* test_objc_table.c */

#endif
