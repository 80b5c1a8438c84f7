/* Which devices and kernels there are. */
#include "device/gpu/metal/metal.h"
#include "dispatch/dispatch.h"
#include "runtime/context.h"
#include "runtime/json.h"

#include <stdlib.h>
#include <string.h>

/* Devices this build knows, best first. */
typedef struct device_entry {
    const char *name;
    ml_device *(*get)(const char **reason); /* NULL with the reason where it is not available */
    bool by_name_only;                      /* never the default device */
} device_entry;

static ml_device *get_cuda(const char **reason) {
    *reason = "this build has no CUDA driver";
    return NULL;
}

static ml_device *get_cpu(const char **reason) {
    *reason = NULL;
    return ml_cpu_device();
}

/* Off Apple's systems Metal is a software device, there to test kernels. */
#if defined(__APPLE__)
#define METAL_BY_NAME_ONLY false
#else
#define METAL_BY_NAME_ONLY true
#endif

static const device_entry entries[] = {
    {"metal", ml_metal_device, METAL_BY_NAME_ONLY},
    {"cuda", get_cuda, false},
    {"cpu", get_cpu, false},
};
#define N_ENTRIES ((int)(sizeof entries / sizeof entries[0]))

ml_status ml_device_find(const char *name, ml_device **out) {
    const bool any = !name || !*name;
    for (int i = 0; i < N_ENTRIES; i++) {
        if (any ? entries[i].by_name_only : strcmp(entries[i].name, name) != 0)
            continue;
        const char *reason;
        ml_device *dev = entries[i].get(&reason);
        if (dev) {
            *out = dev;
            return ML_OK;
        }
        if (!any)
            return ml_fail(ML_ERR_DEVICE, "device '%s' is not available: %s", name, reason);
    }
    return ml_fail(ML_ERR_DEVICE, "unknown device '%s'; known are cpu, metal, cuda", any ? "" : name);
}

ml_status ml_devices_json(char **json) {
    ml_json j = ML_JSON_INIT;
    ml_json_array_begin(&j, NULL);
    for (int i = N_ENTRIES - 1; i >= 0; i--) {
        const char *reason;
        ml_device *dev = entries[i].get(&reason);
        if (dev) {
            char *info = NULL;
            ml_status status = dev->vtbl->info_json(dev, &info);
            if (status != ML_OK) {
                ml_json_discard(&j);
                return status;
            }
            ml_json_raw(&j, NULL, info);
            free(info);
            continue;
        }
        ml_json_object_begin(&j, NULL);
        ml_json_string(&j, "name", entries[i].name);
        ml_json_string(&j, "kind", entries[i].name);
        ml_json_bool(&j, "available", false);
        ml_json_string(&j, "reason", reason);
        ml_json_object_end(&j);
    }
    ml_json_array_end(&j);
    return ml_json_finish(&j, json);
}

static void describe_bits(ml_json *j, const char *key, uint32_t bits, const char *const *names) {
    ml_json_array_begin(j, key);
    for (int i = 0; names[i]; i++)
        if (bits >> i & 1u)
            ml_json_string(j, NULL, names[i]);
    ml_json_array_end(j);
}

/* available: on this machine, whatever METALLIC_ISA says. */
static void describe_kernel(ml_json *j, const ml_device *dev, const ml_caps *caps, const ml_kernel_desc *k) {
    static const char *const supports[] = {"bias",     "activation", "alpha_beta", "any_strides", "mixed_dtypes",
                                           "causal",   "mask",       "window",     "sinks",       "softcap",
                                           "bf16_dot", "f16_dot",    NULL};
    ml_json_object_begin(j, NULL);
    ml_json_string(j, "name", k->name);
    ml_json_string(j, "device", dev->name);
    ml_json_string(j, "op", ml_op_name(k->op));
    ml_json_string(j, "backend", ml_family_name(k->op, k->family));
    if (k->op == ML_OP_SOFTMAX || k->op == ML_OP_SDPA)
        ml_json_string(j, "variant", ml_family_name(k->op, k->family));
    ml_json_array_begin(j, "dtypes");
    for (int dt = 0; dt < ML_DTYPE_COUNT; dt++)
        if (k->dtypes & ML_DTYPE_BIT(dt))
            ml_json_string(j, NULL, ml_dtype_name((ml_dtype)dt));
    ml_json_array_end(j);
    describe_bits(j, "supports", k->supports, supports);
    if (dev->kind == ML_DEVICE_CPU) {
        char isa[128];
        ml_json_string(j, "isa", ml_isa_format(k->isa, isa, sizeof isa));
    }
    ml_json_bool(j, "available", (k->isa & ~caps->isa) == 0 && k->sm_min <= caps->sm);
    ml_json_bool(j, "experimental", k->experimental);
    ml_json_int(j, "rank", k->rank);
    ml_json_int(j, "mr", k->mr);
    ml_json_int(j, "nr", k->nr);
    ml_json_int(j, "max_n", k->max_n);
    ml_json_object_end(j);
}

ml_status ml_kernels_json(const char *op, const char *device, char **json) {
    bool known = !op;
    for (int i = 0; i < ML_OP_KIND_COUNT && !known; i++)
        known = !strcmp(op, ml_op_name((ml_op_kind)i));
    if (!known)
        return ml_fail(ML_ERR_VALUE, "kernels: unknown operation '%s'", op);
    known = !device;
    for (int i = 0; i < N_ENTRIES && !known; i++)
        known = !strcmp(device, entries[i].name);
    if (!known)
        return ml_fail(ML_ERR_DEVICE, "kernels: unknown device '%s'; known are cpu, metal, cuda", device);
    ml_json j = ML_JSON_INIT;
    ml_json_array_begin(&j, NULL);
    for (int i = 0; i < N_ENTRIES; i++) {
        const char *reason;
        ml_device *dev = !device || !strcmp(device, entries[i].name) ? entries[i].get(&reason) : NULL;
        if (!dev)
            continue;
        ml_caps caps;
        memset(&caps, 0, sizeof caps);
        dev->vtbl->caps(dev, ~0u, &caps);
        for (int k = 0; k < caps.n_kernels; k++)
            if (!op || !strcmp(op, ml_op_name(caps.kernels[k].op)))
                describe_kernel(&j, dev, &caps, &caps.kernels[k]);
    }
    ml_json_array_end(&j);
    return ml_json_finish(&j, json);
}
