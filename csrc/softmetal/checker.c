/* What the checker does while a kernel runs; checker.h explains the words. */
#include "softmetal/checker.h"

#include <string.h>

#define WORD_INTERVAL 36
#define WORD_EPOCH 28
#define WORD_THREAD 18
#define WORD_KIND 16
#define KIND_MASK (UINT64_C(3) << WORD_KIND)
#define THREAD_BITS 10
#define NEAR_BYTES (UINT64_C(1) << 29) /* an address further from all buffers belongs to none */
#define SITE_MASK 0xffffu

/* Kinds of a write, strongest first: within an interval a stronger one is not replaced by a weaker one. */
enum { WRITE_PLAIN = 0, WRITE_STORE = 1, WRITE_MODIFY = 2 };
/* Kinds of a read, as bits. */
enum { READ_ATOMIC = 1, READ_MANY = 2 /* other lanes of this simdgroup have read it in this epoch, too */ };

typedef struct touch {
    sm_engine *engine;
    sm_checker *checker;
    sm_cells *cells;
    uintptr_t address;
    uint64_t size;
    const void *pc;
    uint64_t me; /* the word, with kind 0 */
    uint32_t thread;
    bool write, read, atomic;
} touch;

static inline uint32_t word_interval(uint64_t w) {
    return (uint32_t)(w >> WORD_INTERVAL);
}

static inline uint32_t word_epoch(uint64_t w) {
    return w >> WORD_EPOCH & 0xff;
}

static inline uint32_t word_thread(uint64_t w) {
    return w >> WORD_THREAD & ((1u << THREAD_BITS) - 1);
}

static inline uint32_t word_simdgroup(uint64_t w) {
    return word_thread(w) / SM_SIMD_WIDTH;
}

static inline uint32_t word_kind(uint64_t w) {
    return w >> WORD_KIND & 3;
}

static uint32_t site_of(sm_checker *c, const void *pc) {
    uint32_t at = (uint32_t)((uint64_t)(uintptr_t)pc * UINT64_C(0x9e3779b97f4a7c15) >> 50);
    while (c->sites[at].pc != pc) {
        if (!c->sites[at].pc) {
            if (c->n_sites >= SM_SITES * 3 / 4)
                return SM_SITES;
            c->n_sites++;
            c->sites[at].pc = pc;
            return at;
        }
        at = (at + 1) % SM_SITES;
    }
    return at;
}

/* ---- what a finding says ---- */

/* The threadgroup that an interval of device memory belongs to. */
static uint64_t group_of(const sm_checker *c, uint32_t interval) {
    uint64_t low = 0, high = c->n_groups;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (c->group_first[middle] <= interval)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Names the memory at an address that lies in cells. */
static void raw_where(sm_raw *raw, const sm_checker *c, const sm_cells *cells, uintptr_t address, uint64_t size) {
    raw->size = size;
    if (cells->space == SM_SPACE_THREADGROUP) {
        raw->variable = cells->name;
        raw->offset = (int64_t)(address - cells->low);
        raw->length = cells->length;
        return;
    }
    const sm_bound *best = NULL;
    for (uint32_t i = 0; i < c->n_bound; i++) {
        const sm_bound *b = &c->bound[i];
        if (b->cells != cells || address < b->low || address >= b->low + b->length)
            continue;
        if (!best || (!best->writes && b->writes && raw->write))
            best = b;
    }
    if (!best)
        return;
    raw->buffer = best->index;
    raw->variable = best->name;
    raw->offset = (int64_t)(address - best->low);
    raw->length = best->length;
}

static void raw_begin(sm_raw *raw, const touch *a, sm_finding_kind kind) {
    memset(raw, 0, sizeof *raw);
    raw->severity = SM_ERROR;
    raw->kind = kind;
    raw->pc = a->pc;
    raw->write = a->write;
    raw->atomic = a->atomic;
    raw->count = 1;
    sm_raw_who(raw, a->engine, a->thread);
}

/* One more finding of a kind without a second code address. True: it was known. */
static bool known(const touch *a, sm_finding_kind kind) {
    a->checker->fault_expected = true;
    return sm_raw_again(&a->checker->raws, kind, a->pc, NULL);
}

static void report_here(const touch *a, sm_finding_kind kind) {
    if (sm_raw_again(&a->checker->raws, kind, a->pc, NULL))
        return;
    sm_raw raw;
    raw_begin(&raw, a, kind);
    raw_where(&raw, a->checker, a->cells, a->address, a->size);
    sm_raw_add(&a->checker->raws, &raw);
}

/* ---- races ---- */

static void raw_other(sm_raw *raw, const sm_checker *c, uint64_t word) {
    raw->other_pc = c->sites[word & SITE_MASK].pc;
    raw->other = word_thread(word);
    if (word_interval(word) < c->first[SM_SPACE_DEVICE] && raw->buffer >= 0)
        memcpy(raw->other_group, c->group_position[group_of(c, word_interval(word))], sizeof raw->other_group);
}

/* An access meets an unordered one, word, in the cell at address. */
static __attribute__((noinline)) void race(const touch *a, uintptr_t address, uint64_t word, bool other_write,
                                           sm_finding_kind kind) {
    sm_checker *c = a->checker;
    uint32_t interval = word_interval(word);
    if (a->cells->space == SM_SPACE_DEVICE && interval < c->first[SM_SPACE_DEVICE] && c->acquired &&
        c->group_released[group_of(c, interval)])
        return;
    const void *other_pc = c->sites[word & SITE_MASK].pc;
    if (sm_raw_again(&c->raws, kind, a->pc, other_pc))
        return;
    sm_raw raw;
    raw_begin(&raw, a, kind);
    raw_where(&raw, c, a->cells, address, a->size);
    raw_other(&raw, c, word);
    raw.other_write = other_write;
    raw.other_atomic = other_write ? word_kind(word) != WRITE_PLAIN : (word_kind(word) & READ_ATOMIC) != 0;
    if (!other_write && raw.other == a->thread)
        raw.other = SM_NOBODY; /* another lane of the same simdgroup */
    if (kind == SM_FINDING_RACE_ATOMIC)
        raw.severity = SM_WARNING;
    bool compare = kind == SM_FINDING_RACE && a->write && other_write && !raw.atomic && !raw.other_atomic;
    if (!compare) {
        sm_raw_add(&c->raws, &raw);
        return;
    }
    if (c->n_pending == SM_PENDING)
        return;
    sm_pending_write *p = &c->pending[c->n_pending++];
    p->address = address;
    p->bytes = 1u << a->cells->shift;
    if (address + p->bytes > a->cells->low + a->cells->length)
        p->bytes = (uint32_t)(a->cells->low + a->cells->length - address);
    memcpy(p->before, (const void *)address, p->bytes);
    p->raw = raw;
}

/* The kernel has not run between the access callback and now but for the access itself. */
void sm_check_flush(sm_checker *c) {
    for (uint32_t i = 0; i < c->n_pending; i++) {
        sm_pending_write *p = &c->pending[i];
        if (memcmp(p->before, (const void *)p->address, p->bytes) == 0) {
            p->raw.kind = SM_FINDING_RACE_SAME_VALUE;
            p->raw.severity = SM_NOTE;
        }
        sm_raw_add(&c->raws, &p->raw);
    }
    c->n_pending = 0;
}

/* Whether an earlier access of another thread is not ordered before this one. */
static inline bool unordered(const touch *a, uint64_t word) {
    uint32_t interval = word_interval(word);
    if (interval == word_interval(a->me)) {
        if (word_thread(word) == a->thread)
            return false;
        return word_simdgroup(word) != word_simdgroup(a->me) || word_epoch(word) == word_epoch(a->me);
    }
    return a->cells->space == SM_SPACE_DEVICE && interval < a->checker->first[SM_SPACE_DEVICE] && word;
}

static void age(uint64_t *words, uint64_t n, uint32_t interval, uint32_t simdgroup) {
    for (uint64_t i = 0; i < n; i++)
        if (word_interval(words[i]) == interval && word_simdgroup(words[i]) == simdgroup)
            words[i] &= ~(UINT64_C(0xff) << WORD_EPOCH);
}

void sm_check_age(sm_checker *c, uint32_t simdgroup, int space) {
    const bool device = space == SM_SPACE_DEVICE;
    for (uint32_t i = 0; i < (device ? c->n_device : c->n_arrays); i++) {
        sm_cells *cells = device ? &c->device[i] : &c->arrays[i];
        if (!cells->write || !cells->used)
            continue;
        age(cells->write, cells->n, c->interval[space], simdgroup);
        age(cells->read, cells->n, c->interval[space], simdgroup);
        age(cells->other_read, cells->n, c->interval[space], simdgroup);
    }
}

static inline bool unordered_read(const touch *a, uint64_t word) {
    if (unordered(a, word))
        return true;
    return (word_kind(word) & READ_MANY) && word_interval(word) == word_interval(a->me) &&
           word_thread(word) == a->thread && word_epoch(word) == word_epoch(a->me);
}

/* Remembers a read. Kept are the last one and, if there is one, another of a different simdgroup or threadgroup; one
 * of a different threadgroup is never given up, since it stays unordered. */
static __attribute__((noinline)) void remember_read(const touch *a, uint64_t i, uint64_t me) {
    sm_cells *cells = a->cells;
    uint64_t last = cells->read[i];
    uint32_t first = a->checker->first[cells->space];
    if (!last || (cells->space == SM_SPACE_THREADGROUP && word_interval(last) < first)) {
        cells->read[i] = me;
        cells->other_read[i] = 0;
        return;
    }
    if (word_interval(last) >= first && word_simdgroup(last) == word_simdgroup(me)) {
        if (word_interval(last) != word_interval(me) || word_epoch(last) != word_epoch(me))
            cells->read[i] = me;
        else if (word_thread(last) == a->thread)
            cells->read[i] =
                word_kind(last) & word_kind(me) & READ_ATOMIC ? last : last & ~((uint64_t)READ_ATOMIC << WORD_KIND);
        else if ((word_kind(last) & READ_ATOMIC) && !(word_kind(me) & READ_ATOMIC))
            cells->read[i] = me | (uint64_t)READ_MANY << WORD_KIND;
        else
            cells->read[i] = last | (uint64_t)READ_MANY << WORD_KIND;
        return;
    }
    uint64_t other = cells->other_read[i];
    if (!other || word_interval(other) >= first || word_interval(last) < first)
        cells->other_read[i] = last;
    cells->read[i] = me;
}

static inline void read_cells(const touch *a, uint64_t from, uint64_t to) {
    sm_cells *cells = a->cells;
    uint64_t me = a->me | (a->atomic ? (uint64_t)READ_ATOMIC << WORD_KIND : 0);
    uint32_t first = a->checker->first[cells->space];
    bool uninitialised = false;
    for (uint64_t i = from; i <= to; i++) {
        uint64_t w = cells->write[i];
        if (cells->space == SM_SPACE_THREADGROUP && word_interval(w) < first)
            uninitialised = true;
        else if (w && (w ^ a->me) >> WORD_THREAD && unordered(a, w) && !(a->atomic && word_kind(w) != WRITE_PLAIN))
            race(a, cells->low + (i << cells->shift), w, true, SM_FINDING_RACE);
        if ((cells->read[i] ^ me) >> WORD_KIND)
            remember_read(a, i, me);
    }
    if (uninitialised)
        report_here(a, SM_FINDING_UNINITIALISED);
}

static inline void write_cells(const touch *a, uint64_t from, uint64_t to) {
    sm_cells *cells = a->cells;
    uint32_t kind = !a->atomic ? WRITE_PLAIN : a->read ? WRITE_MODIFY : WRITE_STORE;
    uint64_t me = a->me | (uint64_t)kind << WORD_KIND;
    for (uint64_t i = from; i <= to; i++) {
        uintptr_t address = cells->low + (i << cells->shift);
        uint64_t w = cells->write[i], r = cells->read[i], o = cells->other_read[i];
        if (w && (w ^ me) >> WORD_THREAD && unordered(a, w)) {
            uint32_t before = word_kind(w);
            if (kind == WRITE_PLAIN || before == WRITE_PLAIN)
                race(a, address, w, true, SM_FINDING_RACE);
            else if (kind != before && word_interval(w) == word_interval(me))
                race(a, address, w, true, SM_FINDING_RACE_ATOMIC);
        }
        if (r && unordered_read(a, r) && !(a->atomic && (word_kind(r) & READ_ATOMIC)))
            race(a, address, r, false, SM_FINDING_RACE);
        else if (o && unordered_read(a, o) && !(a->atomic && (word_kind(o) & READ_ATOMIC)))
            race(a, address, o, false, SM_FINDING_RACE);
        if (word_interval(w) != word_interval(me) || word_kind(w) >= kind)
            cells->write[i] = me;
    }
}

/* ---- where an address lies ---- */

/* Names the array that an address between arrays is meant for: the one that this code used before, else the nearest. */
static void raw_nearest_array(sm_raw *raw, const touch *a) {
    sm_checker *c = a->checker;
    const sm_cells *usual = c->sites[site_of(c, a->pc)].array;
    uint64_t best = UINT64_MAX;
    for (uint32_t i = 0; i < c->n_arrays; i++) {
        const sm_cells *array = &c->arrays[i];
        if (usual && array != usual)
            continue;
        uint64_t distance = a->address < array->low                   ? array->low - a->address
                            : a->address < array->low + array->length ? 0
                                                                      : a->address - array->low - array->length;
        if (distance < best) {
            best = distance;
            raw->variable = array->name;
            raw->offset = (int64_t)(a->address - array->low);
            raw->length = array->length;
        }
    }
    raw->size = a->size;
}

static void outside_threadgroup(const touch *a) {
    if (known(a, SM_FINDING_OUT_OF_BOUNDS))
        return;
    sm_raw raw;
    raw_begin(&raw, a, SM_FINDING_OUT_OF_BOUNDS);
    raw.variable = "threadgroup memory";
    raw_nearest_array(&raw, a);
    sm_raw_add(&a->checker->raws, &raw);
}

/* The thread whose index was out of range uses threadgroup memory: probably through that index. sm_report looks whether
 * it is on the same line. */
static __attribute__((noinline)) void name_index(const touch *a) {
    sm_checker *c = a->checker;
    sm_raw *raw = &c->raws.items[c->bounds_raw - 1];
    if (c->bounds_thread == a->thread && !raw->near_pc) {
        raw_nearest_array(raw, a);
        raw->near_pc = a->pc;
    }
    c->bounds_raw = 0;
}

/* Not in any region: names the nearest buffer, and gives up where a write would hit memory of the process. */
static __attribute__((noinline)) void outside_device(const touch *a) {
    sm_checker *c = a->checker;
    const sm_job *job = c->job;
    int zero = sm_zero_index(a->address);
    if (known(a, zero >= 0 ? SM_FINDING_UNBOUND_BUFFER : SM_FINDING_OUT_OF_BOUNDS))
        goto give_up;
    sm_raw raw;
    raw_begin(&raw, a, zero >= 0 ? SM_FINDING_UNBOUND_BUFFER : SM_FINDING_OUT_OF_BOUNDS);
    raw.size = a->size;
    if (zero >= 0) {
        raw.buffer = zero;
        for (uint32_t i = 0; i < job->function->n_arguments; i++)
            if (job->function->arguments[i].kind == SM_ARGUMENT_BUFFER && job->function->arguments[i].index == zero)
                raw.variable = job->function->arguments[i].name;
    } else {
        const sm_cells *usual = c->sites[site_of(c, a->pc)].cells; /* where this code accessed memory before */
        uint64_t best = usual ? UINT64_MAX : NEAR_BYTES;
        for (uint32_t i = 0; i < c->n_bound; i++) {
            const sm_bound *b = &c->bound[i];
            if (usual && b->cells != usual)
                continue;
            uint64_t distance = a->address < b->low               ? b->low - a->address
                                : a->address < b->low + b->length ? 0
                                                                  : a->address - b->low - b->length;
            if (distance >= best)
                continue;
            best = distance;
            raw.buffer = b->index;
            raw.variable = b->name;
            raw.offset = (int64_t)(a->address - b->low);
            raw.length = b->length;
        }
        if (raw.buffer < 0)
            raw.note = "no bound buffer is near";
    }
    sm_raw_add(&c->raws, &raw);
give_up:
    if (a->write && zero < 0 && a->address - (uintptr_t)c->arena >= c->arena_bytes)
        sm_engine_abort(a->engine);
}

static bool inside(const sm_cells *cells, uintptr_t address, uint64_t size) {
    uint64_t offset = address - cells->low;
    return offset < cells->length && size <= cells->length - offset;
}

static sm_cells *find_device(sm_checker *c, uintptr_t address, uint64_t size) {
    for (uint32_t i = 0; i < c->n_device; i++)
        if (inside(&c->device[i], address, size))
            return &c->device[i];
    return NULL;
}

static __attribute__((noinline)) void written_read_only(const touch *a) {
    sm_checker *c = a->checker;
    if (known(a, SM_FINDING_READ_ONLY_WRITTEN))
        return;
    sm_raw raw;
    raw_begin(&raw, a, SM_FINDING_READ_ONLY_WRITTEN);
    raw_where(&raw, c, a->cells, a->address, a->size);
    raw.note = a->cells->read_only ? "the buffer is bound as read-only" : "the kernel declares it const";
    sm_raw_add(&c->raws, &raw);
}

static __attribute__((noinline)) void before_offset(const touch *a) {
    if (known(a, SM_FINDING_OUT_OF_BOUNDS))
        return;
    sm_raw raw;
    raw_begin(&raw, a, SM_FINDING_OUT_OF_BOUNDS);
    raw_where(&raw, a->checker, a->cells, a->address, a->size);
    raw.severity = SM_WARNING;
    raw.note = "this is inside the buffer, but before the offset it is bound with";
    sm_raw_add(&a->checker->raws, &raw);
}

void sm_check_access(const void *address, uint64_t size, uint32_t flags, const void *pc) {
    sm_engine *e = sm_engine_here();
    sm_checker *c = e->checker;
    uintptr_t at = (uintptr_t)address;
    if (at - (uintptr_t)e < SM_ENGINE_BYTES || at - c->image < c->image_end - c->image ||
        at - c->constants < c->constants_end - c->constants || at - c->host < c->host_end - c->host || !size)
        return; /* the thread's own memory, or what the executor and the compiler put there for it */
    if (c->n_pending)
        sm_check_flush(c);
    c->fault_expected = at == c->misaligned;
    c->misaligned = 0;
    uint32_t thread = sm_engine_thread_index(e, e->running);
    e->last_pc[thread] = pc;
    uint32_t site = site_of(c, pc);
    touch a = {.engine = e,
               .checker = c,
               .address = (uintptr_t)address,
               .size = size,
               .pc = pc,
               .thread = thread,
               .write = (flags & SM_ACCESS_WRITE) != 0,
               .read = (flags & SM_ACCESS_READ) != 0,
               .atomic = (flags & SM_ACCESS_ATOMIC) != 0};
    sm_cells *cells;
    if (a.address - c->guard < c->guard_end - c->guard) {
        uint32_t array =
            a.address - c->memory < c->memory_end - c->memory ? c->array_at[(a.address - c->memory) / 16] : 0;
        cells = array ? &c->arrays[array - 1] : NULL;
        if (!cells || !inside(cells, a.address, size)) {
            outside_threadgroup(&a);
            cells = NULL;
        }
        if (c->bounds_raw)
            name_index(&a);
        if (!cells)
            return;
        c->sites[site].array = cells;
    } else {
        cells = c->sites[site].cells;
        if (!cells || !inside(cells, a.address, size)) {
            cells = find_device(c, a.address, size);
            if (!cells) {
                outside_device(&a);
                return;
            }
            c->sites[site].cells = cells;
        }
    }
    a.cells = cells;
    if (a.atomic && a.read && cells->space == SM_SPACE_DEVICE)
        c->observed = true;
    uint64_t offset = a.address - cells->low;
    if (a.address < cells->bound)
        before_offset(&a);
    if (cells->constant || (a.write && cells->read_only)) {
        if (a.write)
            written_read_only(&a);
        if (!cells->write || (cells->constant && a.write))
            return;
    }
    uint64_t partial = (offset | size) & ((UINT64_C(1) << cells->shift) - 1);
    if (partial && !sm_cells_refine(cells, (uint8_t)__builtin_ctzll(partial))) {
        atomic_store(&e->job->out_of_memory, true);
        sm_engine_abort(e);
    }
    cells->used = true;
    uint64_t from = offset >> cells->shift, to = (offset + size - 1) >> cells->shift;
    a.me = (uint64_t)c->interval[cells->space] << WORD_INTERVAL |
           (uint64_t)c->epoch[thread / SM_SIMD_WIDTH][cells->space] << WORD_EPOCH | (uint64_t)thread << WORD_THREAD |
           site;
    if (a.write)
        write_cells(&a, from, to);
    else
        read_cells(&a, from, to);
}

void sm_check_index(const char *file, uint32_t line, uint32_t column, int64_t index, const char *type, const void *pc) {
    sm_engine *e = sm_engine_here();
    sm_checker *c = e->checker;
    (void)column;
    c->fault_expected = true;
    sm_raw raw = {.severity = SM_ERROR,
                  .kind = SM_FINDING_OUT_OF_BOUNDS,
                  .pc = pc,
                  .file = file,
                  .line = line,
                  .index = index,
                  .type = type,
                  .count = 1};
    sm_raw_who(&raw, e, sm_engine_thread_index(e, e->running));
    c->bounds_raw = sm_raw_add(&c->raws, &raw) + 1; /* SM_NOBODY + 1 is 0: none */
    c->bounds_thread = raw.thread;
}

void sm_check_misaligned(const char *file, uint32_t line, uint32_t column, const void *address, uint32_t alignment,
                         const char *type, const void *pc) {
    sm_engine *e = sm_engine_here();
    sm_checker *c = e->checker;
    (void)column;
    c->fault_expected = true;
    c->misaligned = (uintptr_t)address;
    if (sm_raw_again(&c->raws, SM_FINDING_MISALIGNED, pc, NULL))
        return;
    sm_raw raw = {.severity = SM_ERROR,
                  .kind = SM_FINDING_MISALIGNED,
                  .pc = pc,
                  .file = file,
                  .line = line,
                  .type = type,
                  .index = alignment,
                  .count = 1};
    sm_raw_who(&raw, e, sm_engine_thread_index(e, e->running));
    const sm_cells *cells = find_device(c, (uintptr_t)address, 1);
    if ((uintptr_t)address - c->memory < c->memory_end - c->memory) {
        uint32_t array = c->array_at[((uintptr_t)address - c->memory) / 16];
        cells = array ? &c->arrays[array - 1] : NULL;
    }
    if (cells)
        raw_where(&raw, c, cells, (uintptr_t)address, 0);
    sm_raw_add(&c->raws, &raw);
}
