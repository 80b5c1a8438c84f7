#include "softmetal/fiber.h"

#include <stddef.h>
#include <string.h>

#if defined(__x86_64__) && SM_HAVE_FIBERS

/* System V ABI: rbx, rbp, r12-r15 and the stack are the callee's to keep. Switches come from few places, in pairs of
 * call and ret, so the return predictor stays right while lanes run in lock-step. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl sm_switch\n"
        ".hidden sm_switch\n"
        ".type sm_switch, @function\n"
        "sm_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size sm_switch, .-sm_switch\n");

void *sm_fiber_prepare(void *top, void (*entry)(void)) {
    void **sp = top;
    *--sp = NULL; /* where a return address would be: ends back traces, and aligns as after a call */
    *--sp = (void *)entry;
    sp -= 6;
    memset(sp, 0, 6 * sizeof *sp);
    return sp;
}

uint64_t sm_fp_enter(void) {
    uint32_t before, mode = 0x1f80;
    __asm__ volatile("stmxcsr %0" : "=m"(before));
    __asm__ volatile("ldmxcsr %0" ::"m"(mode));
    return before;
}

void sm_fp_leave(uint64_t mode) {
    uint32_t before = (uint32_t)mode;
    __asm__ volatile("ldmxcsr %0" ::"m"(before));
}

#elif defined(__aarch64__) && SM_HAVE_FIBERS

/* AAPCS64: x19-x30, the low halves of v8-v15 and sp. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl sm_switch\n"
        ".hidden sm_switch\n"
        ".type sm_switch, %function\n"
        "sm_switch:\n"
        "    hint #34\n" /* bti c */
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size sm_switch, .-sm_switch\n");

void *sm_fiber_prepare(void *top, void (*entry)(void)) {
    uint64_t *sp = (uint64_t *)top - 20;
    memset(sp, 0, 20 * sizeof *sp);
    sp[11] = (uint64_t)(uintptr_t)entry; /* x30 */
    return sp;
}

uint64_t sm_fp_enter(void) {
    uint64_t before, mode = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" ::"r"(mode));
    return before;
}

void sm_fp_leave(uint64_t mode) {
    __asm__ volatile("msr fpcr, %0" ::"r"(mode));
}

#else

void sm_switch(void **save, void *to) {
    (void)save;
    (void)to;
}

void *sm_fiber_prepare(void *top, void (*entry)(void)) {
    (void)entry;
    return top;
}

uint64_t sm_fp_enter(void) {
    return 0;
}

void sm_fp_leave(uint64_t mode) {
    (void)mode;
}

#endif
