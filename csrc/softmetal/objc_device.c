/* Devices and buffers. */
#include "softmetal/objc_classes.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FAMILY_COMMON1 = 3001, FAMILY_COMMON3 = 3003 }; /* MTLGPUFamily */
enum { FAMILY_APPLE1 = 1001, FAMILY_APPLE7 = 1007, FAMILY_MAC2 = 2002, FAMILY_METAL3 = 5001 };
enum { OPTIONS_KNOWN = 0x33f, MODE_MEMORYLESS = 3, MAX_UNCOMMITTED = 64 };

/* ---- what has a label ---------------------------------------------------------------------------------------- */

const sm_class sm_labelled_class = {.name = "labelled",
                                    .super = &sm_nsobject_class,
                                    .size = sizeof(sm_labelled),
                                    .is_protocol = true,
                                    .destroy = sm_labelled_destroy};

void sm_labelled_destroy(sm_id self) {
    sm_labelled *l = self;
    free(l->label);
    sm_drop(l->device);
}

sm_id sm_labelled_label(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_string(((sm_labelled *)self)->label);
}

void sm_labelled_set_label(sm_id self, sm_sel selector, sm_id label) {
    sm_id text = sm_expect_or_nil(SM_CALL, label, &sm_string_class, "the label");
    sm_set_text(&((sm_labelled *)self)->label, text ? sm_text(text) : NULL);
}

sm_id sm_labelled_device(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_hand_out(((sm_labelled *)self)->device);
}

/* ---- buffers ------------------------------------------------------------------------------------------------- */

static void buffer_destroy(sm_id self) {
    sm_buffer *b = self;
    if (b->map) {
        munmap(b->map, b->map_bytes);
        atomic_fetch_sub(&((sm_device *)b->base.device)->allocated, b->length);
    }
    sm_labelled_destroy(self);
}

const sm_class sm_buffer_class = {.name = "MTLBuffer",
                                  .super = &sm_labelled_class,
                                  .size = sizeof(sm_buffer),
                                  .is_protocol = true,
                                  .destroy = buffer_destroy};

void *sm_buffer_contents(sm_id self, sm_sel selector) {
    const sm_buffer *b = self;
    if (b->storage == SM_STORAGE_PRIVATE) {
        sm_violation(SM_CALL, "the buffer has private storage, which the CPU cannot reach: copy it to a shared one");
        return NULL;
    }
    return b->bytes;
}

sm_uint sm_buffer_length(sm_id self, sm_sel selector) {
    (void)selector;
    return ((sm_buffer *)self)->length;
}

sm_uint sm_buffer_allocated_size(sm_id self, sm_sel selector) {
    (void)selector;
    return (((sm_buffer *)self)->length + SM_PAGE - 1) / SM_PAGE * SM_PAGE;
}

uint64_t sm_buffer_gpu_address(sm_id self, sm_sel selector) {
    (void)selector;
    return (uint64_t)(uintptr_t)((sm_buffer *)self)->bytes;
}

sm_uint sm_buffer_storage_mode(sm_id self, sm_sel selector) {
    (void)selector;
    return ((sm_buffer *)self)->storage;
}

sm_uint sm_buffer_resource_options(sm_id self, sm_sel selector) {
    (void)selector;
    return ((sm_buffer *)self)->options;
}

void sm_buffer_did_modify(sm_id self, sm_sel selector, sm_ns_range range) {
    const sm_buffer *b = self;
    if (b->storage != SM_STORAGE_MANAGED)
        sm_violation(SM_CALL, "only a buffer with managed storage is told what the CPU has changed");
    else if (range.location > b->length || range.length > b->length - range.location)
        sm_violation(SM_CALL, "%lu bytes at %lu lie beyond the buffer's %zu bytes", range.length, range.location,
                     b->length);
}

/* MTLResourceOptions: CPU cache mode in bits 0-3, storage mode in bits 4-7, hazard tracking in bits 8-9. */
static bool check_options(const sm_call *call, sm_uint options) {
    const sm_uint storage = options >> 4 & 15;
    if (options & ~(sm_uint)OPTIONS_KNOWN || (options & 15) > 1 || (options >> 8 & 3) > 2) {
        sm_violation(call, "0x%lx is no MTLResourceOptions", options);
        return false;
    }
    if (storage == MODE_MEMORYLESS) {
        sm_violation(call, "memoryless storage is for textures, not for buffers");
        return false;
    }
    return true;
}

static sm_buffer *make_buffer(sm_id device, size_t length, sm_uint options) {
    sm_buffer *b = sm_object_new(&sm_buffer_class);
    if (!b)
        return NULL;
    b->base.device = sm_keep(device);
    b->length = length;
    b->options = options;
    b->storage = (sm_storage)(options >> 4 & 15);
    return b;
}

static void huge_pages(void *start, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    (void)madvise(start, bytes, MADV_HUGEPAGE);
#else
    (void)start;
    (void)bytes;
#endif
}

/* Zeros, as Metal gives; pages that must not be touched on both sides. Large ones may have huge pages. */
static sm_buffer *allocate(const sm_call *call, size_t length, sm_uint options) {
    if (length == 0) {
        sm_violation(call, "the length is zero");
        return NULL;
    }
    if (!check_options(call, options) || length > sm_device_max_buffer_length(call->self, NULL))
        return NULL;
    const size_t align = length >= 2u << 20 ? 2u << 20 : SM_PAGE;
    const size_t bytes = (length + SM_PAGE - 1) / SM_PAGE * SM_PAGE, map_bytes = bytes + 2 * SM_PAGE + align;
    char *map = mmap(NULL, map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    char *start = (char *)(((uintptr_t)map + SM_PAGE + align - 1) / align * align);
    sm_buffer *b =
        mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0 ? make_buffer(call->self, length, options) : NULL;
    if (!b) {
        munmap(map, map_bytes);
        return NULL;
    }
    if (align > SM_PAGE)
        huge_pages(start, bytes);
    b->map = map;
    b->map_bytes = map_bytes;
    b->bytes = (unsigned char *)start;
    atomic_fetch_add(&((sm_device *)call->self)->allocated, length);
    return b;
}

sm_id sm_device_new_buffer(sm_id self, sm_sel selector, sm_uint length, sm_uint options) {
    return allocate(SM_CALL, length, options);
}

sm_id sm_device_new_buffer_bytes(sm_id self, sm_sel selector, const void *bytes, sm_uint length, sm_uint options) {
    if (!bytes) {
        sm_violation(SM_CALL, "the pointer to the bytes is NULL");
        return NULL;
    }
    if ((options >> 4 & 15) == SM_STORAGE_PRIVATE) {
        sm_violation(SM_CALL, "the CPU cannot fill a buffer with private storage: copy from a shared one");
        return NULL;
    }
    sm_buffer *b = allocate(SM_CALL, length, options);
    if (b)
        memcpy(b->bytes, bytes, length);
    return b;
}

sm_id sm_device_new_buffer_no_copy(sm_id self, sm_sel selector, void *bytes, sm_uint length, sm_uint options,
                                   sm_id deallocator) {
    if (!check_options(SM_CALL, options))
        return NULL;
    if (!bytes || (uintptr_t)bytes % SM_PAGE != 0) {
        sm_violation(SM_CALL, "the pointer %p is not a multiple of the page of %zu bytes", bytes, SM_PAGE);
        return NULL;
    }
    if (length == 0 || length % SM_PAGE != 0) {
        sm_violation(SM_CALL, "the length of %lu bytes is not a multiple of the page of %zu bytes", length, SM_PAGE);
        return NULL;
    }
    if ((options >> 4 & 15) == SM_STORAGE_PRIVATE) {
        sm_violation(SM_CALL, "memory of the CPU cannot have private storage");
        return NULL;
    }
    if (deallocator) {
        sm_violation(SM_CALL, "a deallocator is a block, which is not modelled: pass nil");
        return NULL;
    }
    sm_buffer *b = make_buffer(self, length, options);
    if (b)
        b->bytes = bytes;
    return b;
}

/* ---- the device ---------------------------------------------------------------------------------------------- */

const sm_class sm_device_class = {
    .name = "MTLDevice", .super = &sm_nsobject_class, .size = sizeof(sm_device), .is_protocol = true};

sm_id sm_device_name(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return sm_string("software Metal");
}

/* From macOS 14 on. */
const sm_class sm_architecture_class = {
    .name = "MTLArchitecture", .super = &sm_nsobject_class, .size = sizeof(sm_object)};

sm_id sm_device_architecture(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return sm_autorelease(sm_object_new(&sm_architecture_class));
}

sm_id sm_architecture_name(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return sm_string("software");
}

uint64_t sm_device_registry_id(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return 1;
}

/* What an M1 offers. */
sm_bool sm_device_supports_family(sm_id self, sm_sel selector, sm_int family) {
    (void)self;
    (void)selector;
    return (family >= FAMILY_APPLE1 && family <= FAMILY_APPLE7) ||
           (family >= FAMILY_COMMON1 && family <= FAMILY_COMMON3) || family == FAMILY_MAC2 || family == FAMILY_METAL3;
}

sm_size sm_device_max_threads(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return (sm_size){SM_MAX_THREADS, SM_MAX_THREADS, SM_MAX_THREADS};
}

sm_uint sm_device_max_threadgroup_memory(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return SM_MAX_THREADGROUP_MEMORY;
}

static uint64_t physical_memory(void) {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_C(1) << 32;
}

uint64_t sm_device_working_set(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return physical_memory();
}

sm_uint sm_device_max_buffer_length(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return (sm_uint)physical_memory();
}

sm_uint sm_device_allocated(sm_id self, sm_sel selector) {
    (void)selector;
    return atomic_load(&((sm_device *)self)->allocated);
}

sm_bool sm_device_has_unified_memory(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return true;
}

sm_bool sm_device_is_low_power(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return false;
}

sm_bool sm_device_is_headless(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return true;
}

sm_bool sm_device_is_removable(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return false;
}

sm_id sm_device_new_queue(sm_id self, sm_sel selector) {
    return sm_device_new_queue_with_max(self, selector, MAX_UNCOMMITTED);
}

sm_id sm_device_new_queue_with_max(sm_id self, sm_sel selector, sm_uint max) {
    if (max == 0 || max > 1u << 16) {
        sm_violation(SM_CALL, "a queue of %lu command buffers", max);
        return NULL;
    }
    sm_queue *q = sm_object_new(&sm_queue_class);
    if (!q)
        return NULL;
    q->base.device = sm_keep(self);
    pthread_mutex_init(&q->lock, NULL);
    pthread_mutex_init(&q->run, NULL);
    pthread_cond_init(&q->changed, NULL);
    q->last = &q->first;
    q->limit = (int)max;
    return q;
}
