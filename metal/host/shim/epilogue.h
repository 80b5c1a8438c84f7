// Included once, at the end of a module, after its tables: the module's own variables, its entry, and in checked modules
// the callbacks that the compiler's instrumentation calls. They are hidden, so a sanitizer runtime in the process never
// meets them.

namespace metal {
namespace sm {
#ifdef SM_CHECKED
// Until the module is opened: constructors of its tables call back, too.
static void no_access(const void *, uint64_t, uint32_t, const void *) {}
static void no_index(const char *, uint32_t, uint32_t, int64_t, const char *, const void *) {}
static void no_mismatch(const char *, uint32_t, uint32_t, const void *, uint32_t, const char *, const void *) {}
static const sm_host no_host = {0, nullptr, nullptr, nullptr, nullptr, nullptr, no_access, no_index, no_mismatch};
const sm_host *host = &no_host;
#else
const sm_host *host;
#endif
sm_threadgroup_array *arrays;
} // namespace sm
} // namespace metal

#ifdef SM_CHECKED
#define SM_HOOK extern "C" __attribute__((visibility("hidden"), noinline, used, no_sanitize("thread", "undefined")))
#define SM_PC __builtin_return_address(0)
#define SM_HOOK_ACCESS(NAME, SIZE, FLAGS)                                                                                      \
    SM_HOOK void __tsan_##NAME(void *p) {                                                                                      \
        metal::sm::host->access(p, SIZE, FLAGS, SM_PC);                                                                        \
    }
#define SM_HOOK_SIZE(SIZE)                                                                                                     \
    SM_HOOK_ACCESS(read##SIZE, SIZE, SM_ACCESS_READ)                                                                           \
    SM_HOOK_ACCESS(write##SIZE, SIZE, SM_ACCESS_WRITE)                                                                         \
    SM_HOOK_ACCESS(volatile_read##SIZE, SIZE, SM_ACCESS_READ)                                                                  \
    SM_HOOK_ACCESS(volatile_write##SIZE, SIZE, SM_ACCESS_WRITE)                                                                \
    SM_HOOK_ACCESS(unaligned_read##SIZE, SIZE, SM_ACCESS_READ | SM_ACCESS_UNALIGNED)                                           \
    SM_HOOK_ACCESS(unaligned_write##SIZE, SIZE, SM_ACCESS_WRITE | SM_ACCESS_UNALIGNED)                                         \
    SM_HOOK_ACCESS(unaligned_volatile_read##SIZE, SIZE, SM_ACCESS_READ | SM_ACCESS_UNALIGNED)                                  \
    SM_HOOK_ACCESS(unaligned_volatile_write##SIZE, SIZE, SM_ACCESS_WRITE | SM_ACCESS_UNALIGNED)
SM_HOOK_SIZE(1)
SM_HOOK_SIZE(2)
SM_HOOK_SIZE(4)
SM_HOOK_SIZE(8)
SM_HOOK_SIZE(16)
SM_HOOK void __tsan_read_range(void *p, unsigned long n) {
    metal::sm::host->access(p, n, SM_ACCESS_READ, SM_PC);
}
SM_HOOK void __tsan_write_range(void *p, unsigned long n) {
    metal::sm::host->access(p, n, SM_ACCESS_WRITE, SM_PC);
}
SM_HOOK void *__tsan_memcpy(void *to, const void *from, unsigned long n) {
    metal::sm::host->access(from, n, SM_ACCESS_READ, SM_PC);
    metal::sm::host->access(to, n, SM_ACCESS_WRITE, SM_PC);
    return __builtin_memcpy(to, from, n);
}
SM_HOOK void *__tsan_memmove(void *to, const void *from, unsigned long n) {
    metal::sm::host->access(from, n, SM_ACCESS_READ, SM_PC);
    metal::sm::host->access(to, n, SM_ACCESS_WRITE, SM_PC);
    return __builtin_memmove(to, from, n);
}
SM_HOOK void *__tsan_memset(void *to, int value, unsigned long n) {
    metal::sm::host->access(to, n, SM_ACCESS_WRITE, SM_PC);
    return __builtin_memset(to, value, n);
}
SM_HOOK void __tsan_init() {}
SM_HOOK void __tsan_func_entry(void *) {}
SM_HOOK void __tsan_func_exit() {}
SM_HOOK void __tsan_vptr_update(void **, void *) {}
SM_HOOK void __tsan_vptr_read(void **) {}
SM_HOOK void __tsan_atomic_thread_fence(int) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
SM_HOOK void __tsan_atomic_signal_fence(int) {}

#define SM_HOOK_UPDATE(BITS, T, NAME)                                                                                          \
    SM_HOOK T __tsan_atomic##BITS##_##NAME(volatile T *p, T v, int) {                                                          \
        metal::sm::host->access((const void *)p, sizeof(T), SM_ACCESS_READ | SM_ACCESS_WRITE | SM_ACCESS_ATOMIC, SM_PC);       \
        return __atomic_##NAME(p, v, __ATOMIC_SEQ_CST);                                                                        \
    }
#define SM_HOOK_ATOMIC(BITS, T)                                                                                                \
    SM_HOOK T __tsan_atomic##BITS##_load(const volatile T *p, int) {                                                           \
        metal::sm::host->access((const void *)p, sizeof(T), SM_ACCESS_READ | SM_ACCESS_ATOMIC, SM_PC);                         \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                           \
    }                                                                                                                          \
    SM_HOOK void __tsan_atomic##BITS##_store(volatile T *p, T v, int) {                                                        \
        metal::sm::host->access((const void *)p, sizeof(T), SM_ACCESS_WRITE | SM_ACCESS_ATOMIC, SM_PC);                        \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                                              \
    }                                                                                                                          \
    SM_HOOK T __tsan_atomic##BITS##_exchange(volatile T *p, T v, int) {                                                        \
        metal::sm::host->access((const void *)p, sizeof(T), SM_ACCESS_READ | SM_ACCESS_WRITE | SM_ACCESS_ATOMIC, SM_PC);       \
        return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                                                    \
    }                                                                                                                          \
    SM_HOOK_UPDATE(BITS, T, fetch_add)                                                                                         \
    SM_HOOK_UPDATE(BITS, T, fetch_sub)                                                                                         \
    SM_HOOK_UPDATE(BITS, T, fetch_and)                                                                                         \
    SM_HOOK_UPDATE(BITS, T, fetch_or)                                                                                          \
    SM_HOOK_UPDATE(BITS, T, fetch_xor)                                                                                         \
    SM_HOOK_UPDATE(BITS, T, fetch_nand)                                                                                        \
    SM_HOOK int __tsan_atomic##BITS##_compare_exchange_strong(volatile T *p, T *expected, T v, int, int) {                     \
        metal::sm::host->access((const void *)p, sizeof(T), SM_ACCESS_READ | SM_ACCESS_WRITE | SM_ACCESS_ATOMIC, SM_PC);       \
        return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                         \
    }                                                                                                                          \
    SM_HOOK int __tsan_atomic##BITS##_compare_exchange_weak(volatile T *p, T *expected, T v, int, int) {                       \
        metal::sm::host->access((const void *)p, sizeof(T), SM_ACCESS_READ | SM_ACCESS_WRITE | SM_ACCESS_ATOMIC, SM_PC);       \
        return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                         \
    }                                                                                                                          \
    SM_HOOK T __tsan_atomic##BITS##_compare_exchange_val(volatile T *p, T expected, T v, int, int) {                           \
        metal::sm::host->access((const void *)p, sizeof(T), SM_ACCESS_READ | SM_ACCESS_WRITE | SM_ACCESS_ATOMIC, SM_PC);       \
        __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                               \
        return expected;                                                                                                       \
    }
SM_HOOK_ATOMIC(8, uint8_t)
SM_HOOK_ATOMIC(16, uint16_t)
SM_HOOK_ATOMIC(32, uint32_t)
SM_HOOK_ATOMIC(64, uint64_t)

// The data the compiler passes to its "undefined behaviour" handlers.
struct sm_ub_type {
    uint16_t kind, info; // kind 0: integer, info: is signed | log2(bits) << 1
    char name[1];
};
struct sm_ub_out_of_bounds {
    const char *file;
    uint32_t line, column;
    const sm_ub_type *array, *index;
};
struct sm_ub_mismatch {
    const char *file;
    uint32_t line, column;
    const sm_ub_type *type;
    unsigned char log_alignment, kind;
};
SM_HOOK void __ubsan_handle_out_of_bounds(sm_ub_out_of_bounds *d, uintptr_t value) {
    int64_t index = (int64_t)value;
    const uint32_t bits = 1u << (d->index->info >> 1);
    if (d->index->kind == 0 && bits < 64 && (d->index->info & 1))
        index = (int64_t)(value << (64 - bits)) >> (64 - bits);
    metal::sm::host->out_of_bounds(d->file, d->line, d->column, index, d->array->name, SM_PC);
}
SM_HOOK void __ubsan_handle_type_mismatch_v1(sm_ub_mismatch *d, uintptr_t p) {
    metal::sm::host->misaligned(d->file, d->line, d->column, (const void *)p, p ? 1u << d->log_alignment : 0, d->type->name,
                                SM_PC);
}
#endif

extern "C" __attribute__((visibility("default"), no_sanitize("thread", "undefined"))) const sm_module *sm_module_open(const sm_host *host) {
    static sm_module module;
    if (host->abi != SM_ABI_VERSION)
        return nullptr;
    metal::sm::host = host;
    module.abi = SM_ABI_VERSION;
#ifdef SM_CHECKED
    module.checked = 1;
#endif
    module.functions = sm_functions;
    module.n_functions = sizeof sm_functions / sizeof sm_functions[0];
    module.constants = sm_constants;
    module.n_constants = sizeof sm_constants / sizeof sm_constants[0] - 1;
    module.constants_bytes = SM_CONSTANTS_BYTES;
    module.arrays = metal::sm::arrays;
    module.ranks = sm_ranks;
    module.n_ranks = sizeof sm_ranks / sizeof sm_ranks[0] - 1;
    return &module;
}
