/* The native CPU device. encode() does the work at once, so there are no command buffers. */
#include "device/cpu/cpu.h"
#include "device/cpu/vendor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

/* ---- caps ---- */

static bool has_family(uint32_t isa, int family, bool vector_only) {
    for (int i = 0; i < ml_cpu_n_kernels; i++) {
        const ml_kernel_desc *k = &ml_cpu_kernels[i];
        if (k->op == ML_OP_MATMUL && k->family == family && (k->isa & isa) == k->isa && (k->isa != 0 || !vector_only))
            return true;
    }
    return false;
}

/* Nominal GFLOP/s of one thread: f32 lanes * 2 (multiply, add) * 2 units * 2.5 GHz, a typical sustained clock. AVX-512
 * counts 1.5 times AVX2: half of its implementations have one unit or a lower clock. */
static float nominal_gflops(uint32_t isa) {
    if (isa & ML_ISA_AVX512)
        return 120.0f;
    if (isa & ML_ISA_AVX2)
        return 80.0f;
    return isa & ML_ISA_NEON ? 40.0f : 5.0f;
}

static void cpu_caps(ml_device *dev, uint32_t isa_mask, ml_caps *out) {
    (void)dev;
    const ml_cpu_info *info = ml_cpu_info_get();
    ml_vendor_info vendor;
    ml_cpu_vendor_info(&vendor);
    uint32_t isa = info->isa & isa_mask;
    int threads = ml_get_num_threads();
    *out = (ml_caps){
        .device = ML_DEVICE_CPU,
        .isa = isa,
        .simdgroup_mm = has_family(isa, ML_BACKEND_MLX, true),
        .simdgroup_reduce = isa != 0,
        .bfloat = true,
        .has_mlx = has_family(isa, ML_BACKEND_MLX, false),
        .has_gemv = has_family(isa, ML_BACKEND_GEMV, false),
        .has_mps = vendor.available,
        .mps_dtypes = vendor.available ? ML_DTYPE_BIT(ML_F32) : 0,
        .max_threads_per_threadgroup = 1,
        .threads = threads,
        .l1_bytes = info->l1d_bytes,
        .l2_bytes = info->l2_bytes,
        .l3_bytes = info->l3_bytes,
        .read_gbs = threads > 8 ? 100.0f : 12.0f * (float)threads,
        .flops_f32 = nominal_gflops(isa) * (float)threads,
        .dispatch_us = 0.5f,
        .kernels = ml_cpu_kernels,
        .n_kernels = ml_cpu_n_kernels,
    };
    char names[128];
    ml_isa_format(isa, names, sizeof names);
    names[strcspn(names, " ")] = '\0'; /* the best tier */
    snprintf(out->family, sizeof out->family, "%.31s", names);
}

/* ---- memory ---- */

#define HUGE_PAGE ((size_t)2 << 20)
#define PAGE                                                                                                           \
    ((size_t)16 << 10) /* of Apple silicon, the largest there is: GPUs take memory aligned so without a copy           \
                        */

static void destroy_buffer(ml_buffer *self) {
    free(self->host);
    free(self);
}

/* From 2 MiB on, aligned to huge pages: a weight matrix read once per token costs a TLB miss per 4 KiB otherwise. */
static ml_status cpu_alloc(ml_device *dev, size_t size, bool device_only, ml_buffer **out) {
    (void)device_only;
    size_t align = size >= HUGE_PAGE ? HUGE_PAGE : PAGE;
    if (size == 0 || size > SIZE_MAX - align)
        return ml_fail(ML_ERR_MEMORY, "cannot allocate %zu bytes", size);
    ml_buffer *b = calloc(1, sizeof *b);
    void *host = NULL;
    if (!b || posix_memalign(&host, align, (size + PAGE - 1) / PAGE * PAGE) != 0) {
        free(b);
        return ml_fail(ML_ERR_MEMORY, "out of memory for %zu bytes", size);
    }
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (size >= HUGE_PAGE)
        madvise(host, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* a hint: failing changes nothing */
#endif
    atomic_init(&b->refs, 1);
    b->host = host;
    b->size = size;
    b->device = dev;
    b->destroy = destroy_buffer;
    *out = b;
    return ML_OK;
}

/* ---- running ---- */

static void cpu_impl_name(ml_device *dev, const ml_plan *plan, char *buf, size_t size) {
    if (plan->op == ML_OP_MATMUL && plan->family == ML_BACKEND_MPS) {
        ml_vendor_info vendor;
        ml_cpu_vendor_info(&vendor);
        if (vendor.available) {
            snprintf(buf, size, "%s", vendor.name);
            return;
        }
    }
    snprintf(buf, size, "%s/%s", dev->name, plan->kernel ? plan->kernel->name : plan->composed ? "composed" : "none");
}

static ml_status encode_matmul(ml_encode_args *args) {
    switch (args->plan->family) {
    case ML_BACKEND_MLX:
        return ml_cpu_matmul_mlx(args);
    case ML_BACKEND_GEMV:
        return ml_cpu_matmul_gemv(args);
    case ML_BACKEND_MPS:
        return ml_cpu_matmul_mps(args);
    default:
        return ml_fail(ML_ERR_UNSUPPORTED, "cpu: matmul has no backend number %d", args->plan->family);
    }
}

static ml_status cpu_encode(ml_device *dev, void *command_buffer, ml_encode_args *args) {
    (void)dev;
    (void)command_buffer;
    switch (args->op->kind) {
    case ML_OP_MATMUL:
        return args->op->matmul.skip_hidden ? ml_cpu_matmul_skip(args, encode_matmul) : encode_matmul(args);
    case ML_OP_SOFTMAX:
        return args->op->softmax.scores ? ml_cpu_sdpa_scores(args) : ml_cpu_softmax(args);
    case ML_OP_SDPA:
        return ml_cpu_sdpa(args);
    case ML_OP_BINARY:
        return ml_cpu_binary(args);
    case ML_OP_COPY:
        return ml_cpu_copy(args);
    case ML_OP_FILL:
        return ml_cpu_fill(args);
    case ML_OP_LAYER_NORM:
    case ML_OP_RMS_NORM:
        return ml_cpu_norm(args);
    case ML_OP_GELU:
    case ML_OP_SILU:
    case ML_OP_SWIGLU:
        return ml_cpu_activate(args);
    case ML_OP_ROPE:
        return ml_cpu_rope(args);
    default:
        return ml_fail(ML_ERR_UNSUPPORTED, "cpu: %s has no kernel on this device", ml_op_name(args->op->kind));
    }
}

/* ---- description ---- */

typedef struct text {
    char *data;
    size_t used, size;
    bool failed;
} text;

__attribute__((format(printf, 2, 3))) static void append(text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->data + t->used, t->size - t->used, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= t->size - t->used)
        t->failed = true;
    else
        t->used += (size_t)n;
}

/* A JSON string, or null. */
static void append_string(text *t, const char *s) {
    if (!s) {
        append(t, "null");
        return;
    }
    append(t, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == '"' || c == '\\')
            append(t, "\\u%04x", c);
        else
            append(t, "%c", c);
    }
    append(t, "\"");
}

static ml_status cpu_info_json(ml_device *dev, char **json) {
    const ml_cpu_info *info = ml_cpu_info_get();
    ml_vendor_info vendor;
    ml_cpu_vendor_info(&vendor);
    size_t variable = (vendor.path ? strlen(vendor.path) : 0) + (vendor.reason ? strlen(vendor.reason) : 0);
    text t = {.size = 2048 + 6 * variable};
    t.data = malloc(t.size);
    if (!t.data)
        return ml_fail(ML_ERR_MEMORY, "out of memory for the device description");
    char isa[128];
    append(&t, "{\"name\": \"%s\", \"kind\": \"cpu\", \"available\": true, \"reason\": null, \"brand\": ", dev->name);
    append_string(&t, info->brand);
    append(&t, ", \"isa\": \"%s\", \"threads\": %d, \"cpus\": %d", ml_isa_format(info->isa, isa, sizeof isa),
           ml_get_num_threads(), ml_cpu_count());
    append(&t, ", \"l1d_bytes\": %lld, \"l2_bytes\": %lld, \"l3_bytes\": %lld, \"page_bytes\": %lld",
           (long long)info->l1d_bytes, (long long)info->l2_bytes, (long long)info->l3_bytes,
           (long long)info->page_bytes);
    append(&t, ", \"vendor_blas\": {\"available\": %s, \"name\": ", vendor.available ? "true" : "false");
    append_string(&t, vendor.name);
    append(&t, ", \"path\": ");
    append_string(&t, vendor.path);
    append(&t, ", \"reason\": ");
    append_string(&t, vendor.reason);
    append(&t, "}}");
    if (t.failed) {
        free(t.data);
        return ml_fail(ML_ERR_MEMORY, "the device description is too long");
    }
    *json = t.data;
    return ML_OK;
}

static const ml_device_vtbl cpu_vtbl = {
    .caps = cpu_caps,
    .alloc = cpu_alloc,
    .impl_name = cpu_impl_name,
    .encode = cpu_encode,
    .pack = ml_cpu_pack,
    .info_json = cpu_info_json,
};

static ml_device cpu_device = {.vtbl = &cpu_vtbl, .kind = ML_DEVICE_CPU, .name = "cpu"};

ml_device *ml_cpu_device(void) {
    return &cpu_device;
}
