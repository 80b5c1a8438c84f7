/* Faults of kernel code: a wild access abandons the threadgroup instead of killing the process.
 *
 * The handlers run on a stack of their own and leave it by switching to the engine's scheduler. Signals are delivered
 * with SA_NODEFER and an empty mask, so nothing has to be restored that sigreturn would; the alternate stack counts as
 * free as soon as the stack pointer has left it. Faults elsewhere go to whoever had the signal before.
 *
 * A fault may come in a thread that never ran a kernel, in the middle of malloc. So the handler touches no thread-local
 * variable: in a library that was loaded late the first use of one allocates. pthread_getspecific never does.
 */
#include "softmetal/engine.h"

#include "softmetal/fiber.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#if SM_HAVE_FIBERS
#include <ucontext.h>
#endif

enum { SIGNALS = 4 };
static const int signals[SIGNALS] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

/* The handlers before ours. Written by sm_fault_install only, one by one, and whole before ours is in place. */
static struct sigaction previous[SIGNALS];
static pthread_mutex_t installing = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static pthread_key_t active_key; /* the thread's sm_engine; made before the handlers are in place */

/* The threads that are inside a handler before ours; 0: a free slot. */
enum { CHAINING = 32 };
static _Atomic(uintptr_t) chaining[CHAINING];

static uintptr_t context_pc(const void *context) {
#if defined(__x86_64__) && SM_HAVE_FIBERS
    const ucontext_t *uc = context;
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__) && SM_HAVE_FIBERS
    const ucontext_t *uc = context;
    return (uintptr_t)uc->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

static uintptr_t context_sp(const void *context) {
#if defined(__x86_64__) && SM_HAVE_FIBERS
    const ucontext_t *uc = context;
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__) && SM_HAVE_FIBERS
    const ucontext_t *uc = context;
    return (uintptr_t)uc->uc_mcontext.sp;
#else
    (void)context;
    return 0;
#endif
}

/* Notes that this thread is about to chain. False: it is chaining already. *slot NULL: all are taken. */
static bool begin_chain(_Atomic(uintptr_t) **slot) {
    const uintptr_t self = (uintptr_t)pthread_self();
    *slot = NULL;
    for (int i = 0; i < CHAINING; i++)
        if (atomic_load(&chaining[i]) == self)
            return false;
    for (int i = 0; i < CHAINING && !*slot; i++) {
        uintptr_t none = 0;
        if (atomic_compare_exchange_strong(&chaining[i], &none, self))
            *slot = &chaining[i];
    }
    return true;
}

/* Hands the signal on. A handler that raises it again from inside comes back here: then the default action is due. */
static void chain(int sig, siginfo_t *info, void *context) {
    const struct sigaction *old = NULL;
    for (int i = 0; i < SIGNALS; i++)
        if (signals[i] == sig)
            old = &previous[i];
    bool has_handler =
        old && ((old->sa_flags & SA_SIGINFO) || (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN));
    _Atomic(uintptr_t) *slot;
    if (!has_handler || !begin_chain(&slot)) {
        signal(sig, SIG_DFL); /* the faulting instruction runs again, and the default action ends the process */
        if (info->si_code <= 0)
            raise(sig);
        return;
    }
    if (old->sa_flags & SA_SIGINFO)
        old->sa_sigaction(sig, info, context);
    else
        old->sa_handler(sig);
    if (slot)
        atomic_store(slot, 0);
}

static void on_fault(int sig, siginfo_t *info, void *context) {
    sm_engine *e = pthread_getspecific(active_key);
    uintptr_t sp = context_sp(context);
    if (!e || !e->in_kernel || info->si_code <= 0 || sp - (uintptr_t)e >= SM_ENGINE_BYTES) {
        chain(sig, info, context);
        return;
    }
    sm_fault *f = &e->fault;
    f->signal = sig;
    f->code = info->si_code;
    f->address = (uintptr_t)info->si_addr;
    f->pc = context_pc(context);
    f->thread = sm_engine_thread_index(e, e->running);
    memcpy(f->group, e->group.threadgroup_position_in_grid, sizeof f->group);

    /* Below code of the C library (memcpy) the kernel's own place is the nearest return address into its image. */
    const sm_kernel *k = e->job->dispatch->kernel;
    uintptr_t low = (uintptr_t)k->image_begin, high = (uintptr_t)k->image_end;
    uintptr_t slot = (sp - (uintptr_t)e) / SM_STACK_BYTES, top = (uintptr_t)e + (slot + 1) * SM_STACK_BYTES;
    if ((f->pc < low || f->pc >= high) && low < high && sp % sizeof(uintptr_t) == 0 && f->address - sp >= 4096)
        for (const uintptr_t *p = (const uintptr_t *)sp; (uintptr_t)p < top - SM_THREAD_BYTES; p++)
            if (*p >= low && *p < high) {
                f->pc = *p;
                break;
            }
    sm_engine_abort(e);
}

/* A fork copies the calling thread only: nobody else may be in the middle of it then. */
static void before_fork(void) {
    pthread_mutex_lock(&installing);
}

static void after_fork(void) {
    pthread_mutex_unlock(&installing);
}

static bool ready;

static void prepare(void) {
    ready = pthread_key_create(&active_key, NULL) == 0;
    pthread_atfork(before_fork, after_fork, after_fork);
}

void sm_fault_install(void) {
    pthread_once(&once, prepare);
    if (!ready)
        return; /* a fault of a kernel ends the process then */
    pthread_mutex_lock(&installing);
    for (int i = 0; i < SIGNALS; i++) {
        struct sigaction now, ours;
        if (sigaction(signals[i], NULL, &now) != 0 || ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault))
            continue;
        memset(&ours, 0, sizeof ours);
        ours.sa_sigaction = on_fault;
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigemptyset(&ours.sa_mask);
        previous[i] = now;
        sigaction(signals[i], &ours, NULL);
    }
    pthread_mutex_unlock(&installing);
}

void sm_fault_enter(sm_engine *e, sm_fault_state *state) {
    stack_t ours = {.ss_sp = e->signal_stack, .ss_size = SM_SIGNAL_STACK_BYTES};
    memset(&state->old_stack, 0, sizeof state->old_stack);
    state->stack_set = sigaltstack(&ours, &state->old_stack) == 0;
    sigset_t faults; /* blocked in the pool's threads, and a blocked fault ends the process */
    sigemptyset(&faults);
    for (int i = 0; i < SIGNALS; i++)
        sigaddset(&faults, signals[i]);
    pthread_sigmask(SIG_UNBLOCK, &faults, &state->old_mask);
    state->fp_mode = sm_fp_enter();
    if (ready) {
        state->outer = pthread_getspecific(active_key);
        (void)pthread_setspecific(active_key, e); /* without memory for it a fault ends the process */
    }
}

void sm_fault_leave(const sm_fault_state *state) {
    if (ready)
        (void)pthread_setspecific(active_key, state->outer);
    sm_fp_leave(state->fp_mode);
    pthread_sigmask(SIG_SETMASK, &state->old_mask, NULL);
    if (state->stack_set) {
        stack_t old = state->old_stack;
        if (old.ss_flags & SS_DISABLE)
            old.ss_size = SM_SIGNAL_STACK_BYTES; /* some systems look at the size all the same */
        sigaltstack(&old, NULL);
    }
}
