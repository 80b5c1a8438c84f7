/* Objective-C's look-up and the Metal classes that a compute driver uses, for systems without them: the software
 * Metal.
 *
 * A message is sent by calling what lookup finds as function(receiver, selector, arguments...), with the C types of the
 * method (objc_methods.inc). Ownership is Cocoa's: new, alloc, copy and MTLCreateSystemDefaultDevice give a reference,
 * everything else is autoreleased into the calling thread's innermost pool.
 *
 * Committed command buffers run when somebody waits for them, asks for their status again, or has too many of them: as
 * late as a real device might, so that a host that reads too early, or changes what is still needed, is caught.
 *
 * What Metal's debug layer refuses is a finding (SM_FINDING_API): the call does nothing and gives zero, and the command
 * buffer that it belongs to, or else the next one that is committed, ends with an error that says what was wrong.
 * Nothing stops the process, whatever the arguments.
 */
#ifndef SM_OBJC_H
#define SM_OBJC_H

#include "softmetal/executor.h"

typedef struct sm_objc {
    void *(*sel_register)(const char *name);
    void *(*get_class)(const char *name); /* NULL: there is no such class */
    /* The function to call; never NULL. For nil it gives zero; for what is no object, an object that its owners have
     * released, or a selector that the receiver does not know, it makes a finding and gives zero. */
    void *(*lookup)(void *receiver, void *selector);
    void *(*pool_push)(void);
    void (*pool_pop)(void *pool);
    void *(*create_default_device)(void); /* a new reference */
} sm_objc;

const sm_objc *sm_objc_api(void);

/* Code of the NSError that findings end in; Apple's own codes are small numbers. */
enum { SM_OBJC_ERROR_CHECK = 1001 };

/* How command buffers that are made from now on run their kernels. At first, and again with NULL, as the environment
 * says when they are made: METALLIC_CHECK (1, true, yes, on) and METALLIC_ORDER (forward, reverse, shuffle, or
 * shuffle:SEED). The dispatches between two barriers of a concurrent encoder are run in this order, too. */
typedef struct sm_objc_mode {
    bool check;
    sm_order order;
    uint64_t seed;
} sm_objc_mode;
void sm_objc_set_mode(const sm_objc_mode *mode);

/* Moves to *out what was found since the last call, in all command buffers and outside of them; at most 1000. */
void sm_objc_take_findings(sm_findings *out);

#endif
