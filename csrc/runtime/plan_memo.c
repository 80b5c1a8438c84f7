#include "runtime/plan_memo.h"

#include "core/prepacked.h"
#include "dispatch/dispatch.h"
#include "dispatch/gpu_layout.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS 64
#define SIGNATURE_WORDS 64

typedef struct slot {
    uint32_t words; /* of the signature; 0: empty */
    uint64_t signature[SIGNATURE_WORDS];
    ml_planned planned;
} slot;

struct ml_plan_memo {
    slot slots[SLOTS];
    ml_planned unkept; /* of requests whose signature is too long */
};

typedef struct signature {
    uint32_t words;
    uint64_t at[SIGNATURE_WORDS + 2 * ML_MAX_DIMS + 2]; /* room for one view beyond the limit */
} signature;

/* Low bits of the addresses that may decide which vector accesses are allowed: dispatch/key.c looks at 16 bytes. */
static uint64_t alignment_class(const ml_view *v) {
    const uint64_t host = (uint64_t)(uintptr_t)v->buf->host, offset = (uint64_t)v->offset;
    return (uint64_t)__builtin_ctzll(host | 16) | (uint64_t)__builtin_ctzll(offset | 16) << 8;
}

/* Absent operands and numbers have no buffer. */
static void add_view(signature *s, const ml_view *v) {
    if (!v->buf) {
        s->at[s->words++] = 0;
        return;
    }
    s->at[s->words++] =
        (uint64_t)v->dtype | (uint64_t)(unsigned)v->ndim << 8 | UINT64_C(1) << 16 | alignment_class(v) << 24;
    if (__builtin_expect(v->buf->prepacked != NULL, 0))
        s->at[s->words - 1] |= (uint64_t)ml_view_prepacked_form(v) << 17;
    for (int i = 0; i < v->ndim; i++) {
        s->at[s->words++] = (uint64_t)v->shape[i];
        s->at[s->words++] = (uint64_t)v->strides[i];
    }
}

static uint64_t float_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* A new parameter or preference that planning looks at belongs into the signature; preferences are signed as a whole.
 */
_Static_assert(sizeof(ml_matmul_params) == 64, "ml_matmul_params changed: sign the new field");
_Static_assert(sizeof(ml_binary_params) == 24, "ml_binary_params changed: sign the new field");
_Static_assert(sizeof(ml_norm_params) == 24, "ml_norm_params changed: sign the new field");
_Static_assert(sizeof(ml_activate_params) == 4, "ml_activate_params changed: sign the new field");
_Static_assert(sizeof(ml_rope_params) == 64, "ml_rope_params changed: sign the new field");

/* The kinds that are worth it: their plans are small beside a tiny operation. */
static bool add_params(signature *s, const ml_op *op, const ml_caps *caps) {
    const ml_matmul_params *p = &op->matmul;
    switch (op->kind) {
    case ML_OP_MATMUL:
        s->at[s->words++] = float_bits(p->alpha) << 32 | float_bits(p->beta);
        s->at[s->words++] = (uint64_t)p->activation | (uint64_t)p->has_c << 8 | (uint64_t)p->has_bias << 9 |
                            (uint64_t)p->transpose_a << 10 | (uint64_t)p->transpose_b << 11 |
                            (uint64_t)p->skip_hidden << 12 | (uint64_t)p->backend << 16 | (uint64_t)p->variant << 24;
        s->at[s->words++] = (uint64_t)p->m;
        s->at[s->words++] = (uint64_t)p->n;
        s->at[s->words++] = (uint64_t)p->k;
        s->at[s->words++] = (uint64_t)p->batch;
        return true;
    case ML_OP_BINARY:
        s->at[s->words++] =
            (uint64_t)op->binary.kind | (uint64_t)op->binary.a_is_value << 8 | (uint64_t)op->binary.b_is_value << 9;
        if (caps->device != ML_DEVICE_CPU) /* there a number may decide the kernel */
            s->at[s->words++] = ml_gpu_simple_cases(op);
        return true;
    case ML_OP_COPY:
    case ML_OP_FILL:
        return true;
    case ML_OP_LAYER_NORM: /* which operands there are is signed with the views */
    case ML_OP_RMS_NORM:
        s->at[s->words++] = (uint64_t)op->norm.rows;
        s->at[s->words++] = (uint64_t)op->norm.length;
        return true;
    case ML_OP_GELU:
    case ML_OP_SILU:
    case ML_OP_SWIGLU:
        s->at[s->words++] = (uint64_t)op->activate.activation;
        return true;
    case ML_OP_ROPE:
        s->at[s->words++] = (uint64_t)op->rope.dims;
        s->at[s->words++] = (uint64_t)op->rope.interleaved | (uint64_t)(op->rope.offsets != NULL) << 1;
        return true;
    default:
        return false;
    }
}

static bool sign(signature *s, const ml_plan_request *r) {
    const ml_op *op = r->op;
    const size_t prefs_words = (sizeof *r->prefs + 7) / 8;
    s->words = 0;
    s->at[s->words++] = (uint64_t)r->context << 24 | (uint64_t)(uint16_t)r->caps->threads << 8 | (uint64_t)op->kind;
    s->at[prefs_words] = 0;
    memcpy(&s->at[1], r->prefs, sizeof *r->prefs);
    s->words += (uint32_t)prefs_words;
    if (!add_params(s, op, r->caps))
        return false;
    for (int i = 0; i < op->n_in + op->n_out; i++) {
        add_view(s, i < op->n_in ? &op->in[i] : &op->out[i - op->n_in]);
        if (s->words > SIGNATURE_WORDS)
            return false;
    }
    return true;
}

/* Two independent multiply-xor chains, so that the multiplications overlap. */
static uint32_t slot_of(const signature *s) {
    uint64_t h0 = s->words, h1 = 0;
    uint32_t i = 0;
    for (; i + 1 < s->words; i += 2) {
        h0 = (h0 ^ s->at[i]) * 0x9e3779b97f4a7c15u;
        h1 = (h1 ^ s->at[i + 1]) * 0xc2b2ae3d27d4eb4fu;
        h0 ^= h0 >> 29;
        h1 ^= h1 >> 31;
    }
    if (i < s->words)
        h0 = (h0 ^ s->at[i]) * 0x9e3779b97f4a7c15u;
    return (uint32_t)((h0 ^ (h1 * 0x9e3779b97f4a7c15u)) >> 40) % SLOTS;
}

static ml_status plan(const ml_plan_request *r, ml_planned *out) {
    ML_TRY(ml_plan_op(r->op, r->caps, r->prefs, &out->plan));
    if (!out->plan.composed)
        ml_plan_key(r->op, &out->plan, &out->key);
    return ML_OK;
}

ml_status ml_plan_memo_get(ml_thread *t, const ml_plan_request *r, const ml_planned **out) {
    struct ml_plan_memo *memo = t->plans;
    if (__builtin_expect(!memo, 0)) {
        memo = t->plans = calloc(1, sizeof *memo);
        if (!memo)
            return ml_fail(ML_ERR_MEMORY, "out of memory for plans");
    }
    signature s;
    if (!sign(&s, r)) {
        *out = &memo->unkept;
        return plan(r, &memo->unkept);
    }
    slot *kept = &memo->slots[slot_of(&s)];
    *out = &kept->planned;
    if (kept->words == s.words && memcmp(kept->signature, s.at, s.words * sizeof s.at[0]) == 0)
        return ML_OK;
    kept->words = 0; /* what is in the slot is no plan of either signature until planning succeeds */
    ML_TRY(plan(r, &kept->planned));
    memcpy(kept->signature, s.at, s.words * sizeof s.at[0]);
    kept->words = s.words;
    return ML_OK;
}
