/* What encoders have in common, and blit encoders. */
#include "softmetal/objc_classes.h"

#include <stdlib.h>

/* ---- common --------------------------------------------------------------------------------------------------- */

sm_command_buffer *sm_encoder_command_buffer(sm_id self) {
    return ((sm_encoder *)self)->buffer;
}

void sm_encoder_destroy(sm_id self) {
    sm_encoder *e = self;
    if (!e->ended) {
        pthread_mutex_lock(&e->buffer->lock);
        e->buffer->encoder = NULL;
        pthread_mutex_unlock(&e->buffer->lock);
        if (atomic_load(&e->buffer->status) < SM_STATUS_COMMITTED) /* else commit has told */
            sm_violation(&(const sm_call){.buffer = e->buffer}, "a command encoder is released without endEncoding");
    }
    sm_drop(e->buffer);
    sm_labelled_destroy(self);
}

const sm_class sm_encoder_class = {.name = "MTLCommandEncoder",
                                   .super = &sm_labelled_class,
                                   .size = sizeof(sm_encoder),
                                   .is_protocol = true,
                                   .destroy = sm_encoder_destroy,
                                   .command_buffer = sm_encoder_command_buffer};

sm_command_buffer *sm_encode(const sm_call *call) {
    const sm_encoder *e = call->self;
    pthread_mutex_lock(&e->buffer->lock);
    if (!e->ended && atomic_load(&e->buffer->status) < SM_STATUS_COMMITTED)
        return e->buffer;
    if (e->ended)
        sm_violation(call, "the encoder is used after endEncoding");
    else
        sm_violation(call, "the encoder is used after its command buffer was committed");
    pthread_mutex_unlock(&e->buffer->lock);
    return NULL;
}

void sm_encode_end(sm_command_buffer *buffer) {
    pthread_mutex_unlock(&buffer->lock);
}

sm_id sm_open_encoder(const sm_call *call, const sm_class *isa, bool concurrent) {
    sm_command_buffer *b = call->self;
    sm_encoder *e = NULL;
    pthread_mutex_lock(&b->lock);
    if (atomic_load(&b->status) >= SM_STATUS_COMMITTED) {
        sm_violation(call, "the command buffer is committed already");
        goto done;
    }
    if (b->encoder) {
        sm_violation(call, "another encoder of the command buffer is open: send it endEncoding first");
        goto done;
    }
    e = sm_object_new(isa);
    sm_command *c = e ? sm_command_new(b, SM_COMMAND_ENCODER, 0) : NULL;
    if (!e)
        goto done;
    e->base.device = sm_keep(b->base.device);
    e->buffer = sm_keep(b);
    if (c)
        c->concurrent = concurrent;
    b->encoder = e;
done:
    pthread_mutex_unlock(&b->lock);
    return sm_autorelease(e);
}

void sm_encoder_end(sm_id self, sm_sel selector) {
    sm_encoder *e = self;
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    if (e->groups > 0)
        sm_violation(SM_CALL, "%d debug groups of the encoder are not popped", e->groups);
    e->ended = true;
    b->encoder = NULL;
    sm_encode_end(b);
}

void sm_encoder_push_group(sm_id self, sm_sel selector, sm_id label) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    if (sm_expect(SM_CALL, label, &sm_string_class, "the label"))
        ((sm_encoder *)self)->groups++;
    sm_encode_end(b);
}

void sm_encoder_pop_group(sm_id self, sm_sel selector) {
    sm_encoder *e = self;
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    if (e->groups > 0)
        e->groups--;
    else
        sm_violation(SM_CALL, "no debug group of the encoder is open");
    sm_encode_end(b);
}

void sm_encoder_signpost(sm_id self, sm_sel selector, sm_id label) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    (void)sm_expect(SM_CALL, label, &sm_string_class, "the label");
    sm_encode_end(b);
}

/* ---- blit encoders -------------------------------------------------------------------------------------------- */

const sm_class sm_blit_encoder_class = {
    .name = "MTLBlitCommandEncoder", .super = &sm_encoder_class, .size = sizeof(sm_encoder), .is_protocol = true};

sm_id sm_command_buffer_blit(sm_id self, sm_sel selector) {
    return sm_open_encoder(SM_CALL, &sm_blit_encoder_class, false);
}

static bool check_range(const sm_call *call, const sm_buffer *b, size_t offset, size_t size, const char *what) {
    if (size == 0)
        sm_violation(call, "no bytes: the size is zero");
    else if (offset > b->length || size > b->length - offset)
        sm_violation(call, "%zu bytes at offset %zu lie beyond the %zu bytes of the %s", size, offset, b->length, what);
    else if (offset % 4 != 0 || size % 4 != 0)
        sm_violation(call, "offset %zu and size %zu of the %s: both must be multiples of 4", offset, size, what);
    else
        return true;
    return false;
}

void sm_blit_copy(sm_id self, sm_sel selector, sm_id from, sm_uint from_offset, sm_id to, sm_uint to_offset,
                  sm_uint size) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    sm_buffer *source = sm_expect(SM_CALL, from, &sm_buffer_class, "the source");
    sm_buffer *target = sm_expect(SM_CALL, to, &sm_buffer_class, "the destination");
    if (!source || !target || !check_range(SM_CALL, source, from_offset, size, "source") ||
        !check_range(SM_CALL, target, to_offset, size, "destination"))
        goto done;
    const unsigned char *p = source->bytes + from_offset, *q = target->bytes + to_offset;
    if (p < q + size && q < p + size) {
        sm_violation(SM_CALL, "source and destination overlap");
        goto done;
    }
    sm_command *c = sm_command_new(b, SM_COMMAND_COPY, 2);
    if (!c)
        goto done;
    c->blit.from = source;
    c->blit.to = target;
    c->blit.from_offset = from_offset;
    c->blit.to_offset = to_offset;
    c->blit.size = size;
    sm_command_use(c, source);
    sm_command_use(c, target);
done:
    sm_encode_end(b);
}

void sm_blit_fill(sm_id self, sm_sel selector, sm_id buffer, sm_ns_range range, uint8_t value) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    sm_buffer *target = sm_expect(SM_CALL, buffer, &sm_buffer_class, "the buffer");
    sm_command *c = NULL;
    if (target && check_range(SM_CALL, target, range.location, range.length, "buffer"))
        c = sm_command_new(b, SM_COMMAND_FILL, 1);
    if (c) {
        c->blit.to = target;
        c->blit.to_offset = range.location;
        c->blit.size = range.length;
        c->blit.value = value;
        sm_command_use(c, target);
    }
    sm_encode_end(b);
}

/* The CPU's copy of managed memory is the memory itself. */
void sm_blit_synchronize(sm_id self, sm_sel selector, sm_id resource) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    const sm_buffer *buffer = sm_expect(SM_CALL, resource, &sm_buffer_class, "the resource");
    if (buffer && buffer->storage != SM_STORAGE_MANAGED)
        sm_violation(SM_CALL, "only a resource with managed storage is synchronised");
    sm_encode_end(b);
}
