/* Barriers between dispatches that depend on each other, and between no others.
 *
 * Two sets of byte ranges stand for what the dispatches since the last barrier read and write. Each is sorted by buffer
 * and address, and its ranges neither meet nor touch, so that a batch of thousands of dispatches costs a binary search
 * for each operand. */
#include "device/gpu/gpu.h"

#include <stdlib.h>
#include <string.h>

void ml_gpu_ranges_init(ml_gpu_ranges *set) {
    set->items = set->few;
    set->n = 0;
    set->capacity = ML_GPU_FEW_RANGES;
}

void ml_gpu_ranges_release(ml_gpu_ranges *set) {
    if (set->items != set->few)
        free(set->items);
}

static bool reserve(ml_gpu_ranges *set, int n) {
    if (n <= set->capacity)
        return true;
    const int capacity = n > 2 * set->capacity ? n : 2 * set->capacity;
    ml_gpu_range *grown = malloc((size_t)capacity * sizeof *grown);
    if (!grown)
        return false;
    memcpy(grown, set->items, (size_t)set->n * sizeof *grown);
    ml_gpu_ranges_release(set);
    set->items = grown;
    set->capacity = capacity;
    return true;
}

/* The first range of the set that ends at or behind r's beginning. */
static int find(const ml_gpu_ranges *set, const ml_gpu_range *r) {
    int low = 0, high = set->n;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const ml_gpu_range *m = &set->items[middle];
        if ((uintptr_t)m->handle < (uintptr_t)r->handle || (m->handle == r->handle && m->high < r->low))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool overlaps(const ml_gpu_ranges *set, const ml_gpu_range *r) {
    int i = find(set, r);
    if (i < set->n && set->items[i].handle == r->handle && set->items[i].high == r->low)
        i++; /* touches it only */
    return i < set->n && set->items[i].handle == r->handle && set->items[i].low < r->high;
}

/* There is room for one more. */
static void add(ml_gpu_ranges *set, const ml_gpu_range *r) {
    const int first = find(set, r);
    int end = first;
    ml_gpu_range all = *r;
    for (; end < set->n && set->items[end].handle == r->handle && set->items[end].low <= r->high; end++) {
        if (set->items[end].low < all.low)
            all.low = set->items[end].low;
        if (set->items[end].high > all.high)
            all.high = set->items[end].high;
    }
    memmove(&set->items[first + 1], &set->items[end], (size_t)(set->n - end) * sizeof all);
    set->items[first] = all;
    set->n += 1 - (end - first);
}

void ml_gpu_order(ml_gpu_commands *c, const ml_gpu_range *ranges, int n) {
    /* Without memory to remember them the dispatches so far are over. */
    bool wait = !reserve(&c->reads, c->reads.n + n) || !reserve(&c->writes, c->writes.n + n);
    for (int i = 0; i < n && !wait; i++)
        wait = ranges[i].low < ranges[i].high &&
               (overlaps(&c->writes, &ranges[i]) || (ranges[i].write && overlaps(&c->reads, &ranges[i])));
    if (wait) {
        c->device->driver->barrier(c->native);
        c->barriers++;
        ml_gpu_forget(c);
    }
    for (int i = 0; i < n; i++)
        if (ranges[i].low < ranges[i].high)
            add(ranges[i].write ? &c->writes : &c->reads, &ranges[i]);
}

void ml_gpu_forget(ml_gpu_commands *c) {
    c->reads.n = c->writes.n = 0;
}
