/* Fibers: the context switch and the floating-point mode of the threads that run them. */
#ifndef SM_FIBER_H
#define SM_FIBER_H

#include <stdint.h>

#if (defined(__x86_64__) || defined(__aarch64__)) && defined(__linux__)
#define SM_HAVE_FIBERS 1
#else
#define SM_HAVE_FIBERS 0
#endif

/* Saves the callee-saved registers on the running stack, stores its stack pointer in *save and goes on where the stack
 * `to` was left. The floating-point mode is not switched: kernels cannot change it, and all fibers of an OS thread run
 * in the one that sm_fp_enter set. */
__attribute__((visibility("hidden"))) void sm_switch(void **save, void *to);

/* What to pass as `to` for the first switch to a new fiber: it calls entry(), which must not return. top: one past the
 * stack's highest byte, a multiple of 16. */
void *sm_fiber_prepare(void *top, void (*entry)(void));

/* Sets round-to-nearest, denormals kept, exceptions masked; returns the mode before, for sm_fp_leave. */
uint64_t sm_fp_enter(void);
void sm_fp_leave(uint64_t mode);

#endif
