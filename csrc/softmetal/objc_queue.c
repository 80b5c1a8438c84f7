/* Queues and command buffers: what is committed waits in its queue, and runs as late as it may. */
#include "softmetal/objc_classes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WAIT_SECONDS = 2 };                            /* for another thread to commit what comes first */
enum { ERROR_INTERNAL = 1, ERROR_OUT_OF_MEMORY = 8 }; /* MTLCommandBufferError */
#define ERROR_DOMAIN "MTLCommandBufferErrorDomain"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- command buffers ------------------------------------------------------------------------------------------ */

static sm_command_buffer *itself(sm_id self) {
    return self;
}

static void drop_commands(sm_command_buffer *b) {
    for (sm_command *c = b->first, *next; c; c = next) {
        next = c->next;
        for (int i = 0; i < c->n_used; i++)
            sm_drop(c->used[i]);
        free(c->ranges);
        free(c);
    }
    for (sm_bytes *block = b->bytes, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    b->first = NULL;
    b->last = &b->first;
    b->bytes = NULL;
}

static void command_buffer_destroy(sm_id self) {
    sm_command_buffer *b = self;
    drop_commands(b);
    sm_findings_clear(&b->findings);
    sm_drop(b->error);
    if (atomic_load(&b->status) < SM_STATUS_COMMITTED) {
        pthread_mutex_lock(&b->queue->lock);
        b->queue->open--;
        pthread_mutex_unlock(&b->queue->lock);
    }
    sm_drop(b->queue);
    pthread_mutex_destroy(&b->lock);
    sm_labelled_destroy(self);
}

const sm_class sm_command_buffer_class = {.name = "MTLCommandBuffer",
                                          .super = &sm_labelled_class,
                                          .size = sizeof(sm_command_buffer),
                                          .is_protocol = true,
                                          .destroy = command_buffer_destroy,
                                          .command_buffer = itself};

/* Kernels that fault are failures as on a GPU where nobody asked for a check; misuse of the API is always a finding. */
static bool is_checked(const sm_command_buffer *b) {
    bool api = false;
    for (size_t i = 0; i < b->findings.n; i++)
        api = api || b->findings.items[i].kind == SM_FINDING_API ||
              b->findings.items[i].kind == SM_FINDING_UNBOUND_BUFFER;
    return api || b->mode.check;
}

/* Under the lock, of a buffer that has run: its status, and an error that says all that was found. */
static void conclude(sm_command_buffer *b) {
    if (b->failure == ML_OK && sm_findings_count(&b->findings, SM_ERROR) == 0) {
        atomic_store(&b->status, SM_STATUS_COMPLETED);
        return;
    }
    const bool found = sm_findings_count(&b->findings, SM_ERROR) > 0;
    char *text = found ? sm_findings_text(&b->findings) : NULL;
    const long code = found && is_checked(b)        ? (long)SM_OBJC_ERROR_CHECK
                      : b->failure == ML_ERR_MEMORY ? (long)ERROR_OUT_OF_MEMORY
                                                    : (long)ERROR_INTERNAL;
    sm_id error = sm_error(ERROR_DOMAIN, code, text ? text : found ? "the checker found defects" : b->failure_text);
    free(text);
    sm_drop(b->error);
    b->error = sm_keep(error);
    atomic_store(&b->status, SM_STATUS_ERROR);
}

void sm_command_buffer_found(sm_command_buffer *b, const sm_finding *finding) {
    pthread_mutex_lock(&b->lock);
    (void)sm_findings_add(&b->findings, finding);
    if (atomic_load(&b->status) >= SM_STATUS_COMPLETED) {
        void *pool = sm_pool_push();
        conclude(b);
        sm_pool_pop(pool);
    }
    pthread_mutex_unlock(&b->lock);
}

void sm_command_buffer_fail(sm_command_buffer *b, ml_status status, const char *text) {
    if (b->failure != ML_OK)
        return;
    b->failure = status;
    snprintf(b->failure_text, sizeof b->failure_text, "%s", text);
}

sm_command *sm_command_new(sm_command_buffer *b, sm_command_kind kind, int n_used) {
    sm_command *c = calloc(1, sizeof *c + (size_t)n_used * sizeof *c->used);
    if (!c) {
        sm_command_buffer_fail(b, ML_ERR_MEMORY, "out of memory for a command");
        return NULL;
    }
    c->kind = kind;
    *b->last = c;
    b->last = &c->next;
    return c;
}

void sm_command_use(sm_command *c, sm_id object) {
    c->used[c->n_used++] = sm_keep(object);
}

/* ---- the queue's list ----------------------------------------------------------------------------------------- */

static void append(sm_queue *q, sm_command_buffer *b) {
    if (b->listed)
        return;
    b->listed = true;
    b->next = NULL;
    *q->last = sm_keep(b);
    q->last = &b->next;
}

/* Runs one that is committed and first in its queue. The caller has q->run. */
static void run_first(sm_queue *q, sm_command_buffer *b) {
    void *pool = sm_pool_push();
    pthread_mutex_lock(&b->lock);
    atomic_store(&b->status, SM_STATUS_SCHEDULED);
    b->start = now();
    if (b->failure == ML_OK && sm_findings_count(&b->findings, SM_ERROR) == 0)
        sm_command_buffer_run(b);
    b->end = now();
    drop_commands(b);
    conclude(b);
    pthread_mutex_unlock(&b->lock);
    pthread_mutex_lock(&q->lock);
    q->first = b->next;
    if (!q->first)
        q->last = &q->first;
    q->committed--;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    sm_drop(b);
    sm_pool_pop(pool);
}

/* The first one when it is committed; waits for that when patient. */
static sm_command_buffer *committed_first(sm_queue *q, bool patient, bool *stuck) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&q->lock);
    int waited = 0;
    while (patient && q->first && atomic_load(&q->first->status) < SM_STATUS_COMMITTED && waited == 0)
        waited = pthread_cond_timedwait(&q->changed, &q->lock, &until);
    sm_command_buffer *b = q->first;
    *stuck = b && atomic_load(&b->status) < SM_STATUS_COMMITTED;
    pthread_mutex_unlock(&q->lock);
    return *stuck ? NULL : b;
}

void sm_queue_run(sm_queue *q, sm_command_buffer *target, const sm_call *call) {
    bool stuck = false;
    pthread_mutex_lock(&q->run);
    while (!target || atomic_load(&target->status) < SM_STATUS_COMPLETED) {
        sm_command_buffer *b = committed_first(q, target != NULL, &stuck);
        if (!b)
            break;
        run_first(q, b);
    }
    pthread_mutex_unlock(&q->run);
    if (stuck && target)
        sm_violation(call, "this waits for ever: a command buffer that was enqueued before it is not committed");
}

/* ---- queues --------------------------------------------------------------------------------------------------- */

static void queue_destroy(sm_id self) {
    sm_queue *q = self; /* command buffers keep it: none is left */
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->run);
    pthread_cond_destroy(&q->changed);
    sm_labelled_destroy(self);
}

const sm_class sm_queue_class = {.name = "MTLCommandQueue",
                                 .super = &sm_labelled_class,
                                 .size = sizeof(sm_queue),
                                 .is_protocol = true,
                                 .destroy = queue_destroy};

static sm_id make_command_buffer(const sm_call *call, bool unretained) {
    sm_queue *q = call->self;
    pthread_mutex_lock(&q->lock);
    const bool full = q->open + q->committed >= q->limit, hopeless = q->open >= q->limit;
    sm_command_buffer *oldest = full && !hopeless ? sm_keep(q->first) : NULL;
    pthread_mutex_unlock(&q->lock);
    if (hopeless)
        sm_violation(call,
                     "this waits for ever: %d command buffers of the queue are not committed, as many as it may have",
                     q->limit);
    if (oldest && atomic_load(&oldest->status) >= SM_STATUS_COMMITTED)
        sm_queue_run(q, oldest, call);
    sm_drop(oldest);
    sm_command_buffer *b = sm_object_new(&sm_command_buffer_class);
    if (!b)
        return NULL;
    pthread_mutexattr_t recursive; /* findings are noted while it is held */
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&b->lock, &recursive);
    pthread_mutexattr_destroy(&recursive);
    b->base.device = sm_keep(q->base.device);
    b->queue = sm_keep(q);
    b->last = &b->first;
    b->unretained = unretained;
    b->mode = sm_current_mode();
    pthread_mutex_lock(&q->lock);
    q->open++;
    pthread_mutex_unlock(&q->lock);
    return sm_autorelease(b);
}

sm_id sm_queue_command_buffer(sm_id self, sm_sel selector) {
    return make_command_buffer(SM_CALL, false);
}

sm_id sm_queue_command_buffer_unretained(sm_id self, sm_sel selector) {
    return make_command_buffer(SM_CALL, true);
}

/* ---- methods of command buffers ------------------------------------------------------------------------------- */

sm_id sm_command_buffer_queue(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_hand_out(((sm_command_buffer *)self)->queue);
}

sm_bool sm_command_buffer_retained(sm_id self, sm_sel selector) {
    (void)selector;
    return !((sm_command_buffer *)self)->unretained;
}

void sm_command_buffer_enqueue(sm_id self, sm_sel selector) {
    sm_command_buffer *b = self;
    sm_queue *q = b->queue;
    pthread_mutex_lock(&q->lock);
    const unsigned status = atomic_load(&b->status);
    if (status == SM_STATUS_NOT_ENQUEUED) {
        atomic_store(&b->status, SM_STATUS_ENQUEUED);
        append(q, b);
    }
    pthread_mutex_unlock(&q->lock);
    if (status >= SM_STATUS_COMMITTED)
        sm_violation(SM_CALL, "the command buffer is committed already");
}

void sm_command_buffer_commit(sm_id self, sm_sel selector) {
    sm_command_buffer *b = self;
    sm_queue *q = b->queue;
    pthread_mutex_lock(&b->lock);
    if (atomic_load(&b->status) >= SM_STATUS_COMMITTED) {
        sm_violation(SM_CALL, "the command buffer is committed twice");
        pthread_mutex_unlock(&b->lock);
        return;
    }
    if (b->encoder)
        sm_violation(SM_CALL, "the command buffer is committed while an encoder is open: send it endEncoding first");
    if (b->groups > 0)
        sm_violation(SM_CALL, "the command buffer is committed with %d debug groups not popped", b->groups);
    sm_claim_findings(&b->findings);
    pthread_mutex_lock(&q->lock);
    append(q, b);
    q->open--;
    q->committed++;
    atomic_store(&b->status, SM_STATUS_COMMITTED);
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    pthread_mutex_unlock(&b->lock);
}

static bool is_committed(const sm_call *call) {
    const sm_command_buffer *b = call->self;
    if (atomic_load(&b->status) >= SM_STATUS_COMMITTED)
        return true;
    sm_violation(call, "this waits for ever: the command buffer is not committed");
    return false;
}

void sm_command_buffer_wait_scheduled(sm_id self, sm_sel selector) {
    (void)is_committed(SM_CALL);
}

void sm_command_buffer_wait(sm_id self, sm_sel selector) {
    sm_command_buffer *b = self;
    if (is_committed(SM_CALL))
        sm_queue_run(b->queue, b, SM_CALL);
}

/* Who asks is told that it has been scheduled; who asks again has waited long enough for it to run. */
sm_uint sm_command_buffer_status(sm_id self, sm_sel selector) {
    (void)selector;
    sm_command_buffer *b = self;
    unsigned committed = SM_STATUS_COMMITTED;
    if (atomic_compare_exchange_strong(&b->status, &committed, SM_STATUS_SCHEDULED))
        return SM_STATUS_COMMITTED;
    if (committed == SM_STATUS_SCHEDULED) {
        pthread_mutex_lock(&b->queue->lock);
        bool ready = true;
        for (const sm_command_buffer *before = b->queue->first; before && before != b; before = before->next)
            ready = ready && atomic_load(&before->status) >= SM_STATUS_COMMITTED;
        pthread_mutex_unlock(&b->queue->lock);
        if (ready)
            sm_queue_run(b->queue, b, SM_CALL);
    }
    return atomic_load(&b->status);
}

sm_id sm_command_buffer_error(sm_id self, sm_sel selector) {
    (void)selector;
    sm_command_buffer *b = self;
    pthread_mutex_lock(&b->lock);
    sm_id error = sm_hand_out(b->error);
    pthread_mutex_unlock(&b->lock);
    return error;
}

static double time_of(const sm_call *call, double value) {
    if (atomic_load(&((sm_command_buffer *)call->self)->status) < SM_STATUS_COMPLETED)
        return 0.0; /* as Metal does: known when it has run */
    return value;
}

double sm_command_buffer_start_time(sm_id self, sm_sel selector) {
    return time_of(SM_CALL, ((sm_command_buffer *)self)->start);
}

double sm_command_buffer_end_time(sm_id self, sm_sel selector) {
    return time_of(SM_CALL, ((sm_command_buffer *)self)->end);
}

void sm_command_buffer_push_group(sm_id self, sm_sel selector, sm_id label) {
    sm_command_buffer *b = self;
    if (!sm_expect(SM_CALL, label, &sm_string_class, "the label"))
        return;
    pthread_mutex_lock(&b->lock);
    b->groups++;
    pthread_mutex_unlock(&b->lock);
}

void sm_command_buffer_pop_group(sm_id self, sm_sel selector) {
    sm_command_buffer *b = self;
    pthread_mutex_lock(&b->lock);
    if (b->groups > 0)
        b->groups--;
    else
        sm_violation(SM_CALL, "no debug group is open");
    pthread_mutex_unlock(&b->lock);
}
