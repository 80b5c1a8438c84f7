/* Objective-C's look-up and the Metal classes that a compute driver uses, for systems without them: the software
 * Metal.
 *
 * A message is sent by calling what lookup finds as function(receiver, selector, arguments...), with the C types of the
 * method. Ownership is Cocoa's: new, alloc, copy and MTLCreateSystemDefaultDevice give a reference, everything else is
 * autoreleased into the calling thread's innermost pool.
 */
#ifndef SM_OBJC_H
#define SM_OBJC_H

typedef struct sm_objc {
    void *(*sel_register)(const char *name);
    void *(*get_class)(const char *name); /* NULL: there is no such class */
    /* The function to call; never NULL. A receiver that is nil, and a selector that the receiver's class lacks, get a
     * function that returns zero. */
    void *(*lookup)(void *receiver, void *selector);
    void *(*pool_push)(void);
    void (*pool_pop)(void *pool);
    void *(*create_default_device)(void); /* a new reference */
} sm_objc;

const sm_objc *sm_objc_api(void);

#endif
