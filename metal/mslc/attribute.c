/* Attributes, parameters, and the value of simple constant expressions. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- attributes
 * ----------------------------------------------------------------------------------------------------------- */

static void read_one(mslc_unit *unit, int32_t name, mslc_range inside, mslc_attributes *out) {
    static const char *const stages[] = {"vertex",       "fragment", "mesh",      "object",
                                         "intersection", "visible",  "stitchable"};
    static const char *const bindings[] = {"buffer", "threadgroup", "texture", "sampler"};
    if (mslc_is(unit, name, "kernel")) {
        out->kernel = true;
        return;
    }
    if (mslc_is(unit, name, "host_name")) {
        out->host_name = inside;
        return;
    }
    if (mslc_is(unit, name, "max_total_threads_per_threadgroup")) {
        out->max_total_threads = inside;
        return;
    }
    if (mslc_is(unit, name, "function_constant")) {
        out->has_function_constant = true;
        out->function_constant = inside;
        return;
    }
    if (mslc_is(unit, name, "id")) {
        out->has_id = true;
        return;
    }
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        if (mslc_is(unit, name, stages[i])) {
            out->stage = out->stage || i < 5;
            return;
        }
    for (size_t i = 0; i < sizeof bindings / sizeof bindings[0]; i++)
        if (mslc_is(unit, name, bindings[i])) {
            out->binding = bindings[i];
            out->index = inside;
            out->binding_token = name;
            return;
        }
    const mslc_token *t = mslc_at(unit, name);
    if (!out->binding && t->kind == MSLC_IDENT) {
        out->binding = unit->symbols.data[t->symbol].text;
        out->binding_token = name;
    }
}

void mslc_read_attributes(mslc_unit *unit, mslc_range range, mslc_attributes *out) {
    memset(out, 0, sizeof *out);
    for (int32_t i = range.begin; i < range.end; i++) {
        if (!mslc_is_attribute(unit, i)) {
            if (mslc_at(unit, i)->match > i && !mslc_is(unit, i, "["))
                i = mslc_at(unit, i)->match;
            continue;
        }
        const int32_t end = mslc_at(unit, i + 1)->match;
        for (int32_t k = i + 2; k < end; k++) {
            if (mslc_is(unit, k, ","))
                continue;
            while (mslc_is(unit, k + 1, "::"))
                k += 2;
            mslc_range inside = {0, 0};
            const int32_t name = k;
            if (mslc_is(unit, k + 1, "(")) {
                inside = (mslc_range){k + 2, mslc_at(unit, k + 1)->match};
                k = inside.end;
            }
            read_one(unit, name, inside, out);
        }
        i = end + 1;
    }
}

/* ---- parameters
 * ------------------------------------------------------------------------------------------------------------- */

/* The name is the last identifier of the declarator that has something to be the type before it. */
int32_t mslc_read_parameter(mslc_unit *unit, mslc_range range, mslc_parameter *out) {
    bool has_type = false;
    *out = (mslc_parameter){range, -1, {range.end, range.end}};
    for (int32_t i = range.begin; i < range.end; i++) {
        const mslc_token *t = mslc_at(unit, i);
        if (mslc_is_attribute(unit, i)) {
            i = t->match;
            continue;
        }
        if (mslc_is(unit, i, "=")) {
            out->value = (mslc_range){i, range.end};
            break;
        }
        if (mslc_is(unit, i, "(")) {
            /* (&name)[n] or (*name)(...): the name is in here; decltype(...): it is not. */
            if (has_type && (mslc_is(unit, i + 1, "&") || mslc_is(unit, i + 1, "*"))) {
                for (int32_t k = i + 1; k < t->match; k++)
                    if (mslc_at(unit, k)->kind == MSLC_IDENT && !mslc_is_space_word(mslc_word_at(unit, k)))
                        out->name = k;
            } else {
                has_type = true;
            }
            i = t->match;
            continue;
        }
        if (mslc_is(unit, i, "[")) {
            i = t->match;
            continue;
        }
        if (mslc_is(unit, i, "<")) {
            const int32_t after = mslc_skip_angles(unit, i, range.end);
            if (after > 0)
                i = after - 1;
            has_type = true;
            out->name = -1;
            continue;
        }
        if (t->kind != MSLC_IDENT)
            continue;
        const uint8_t word = mslc_word_at(unit, i);
        if (mslc_is_space_word(word) || word == MSLC_W_CONST || word == MSLC_W_CONSTEXPR || word == MSLC_W_QUALIFIER ||
            mslc_is(unit, i, "typename"))
            continue;
        if (word == MSLC_W_TYPE || !has_type || mslc_is(unit, i + 1, "::") || mslc_is(unit, i - 1, "::")) {
            has_type = true;
            out->name = -1;
        } else {
            out->name = i;
        }
    }
    return out->name;
}

/* ---- constant expressions
 * ---------------------------------------------------------------------------------------------------- */

bool mslc_substitute(const mslc_unit *unit, const mslc_substitution *with, uint32_t symbol, mslc_range *out) {
    mslc_range names[64], values[64];
    if (!with || mslc_empty(with->header))
        return false;
    const int n = mslc_split(unit, (mslc_range){with->header.begin + 2, with->header.end - 1}, names, 64);
    const int given = mslc_split(unit, with->arguments, values, 64);
    for (int i = 0; i < n && i < 64; i++) {
        mslc_range value = {0, 0}, name = names[i];
        for (int32_t k = name.begin; k < name.end; k++)
            if (mslc_is(unit, k, "=")) {
                value = (mslc_range){k + 1, name.end};
                name.end = k;
                break;
            }
        for (int32_t k = name.end - 1; k >= name.begin; k--) {
            const mslc_token *t = mslc_at(unit, k);
            if (t->kind != MSLC_IDENT)
                continue;
            if (t->symbol != symbol)
                break;
            *out = i < given && i < 64 ? values[i] : value;
            return !mslc_empty(*out);
        }
    }
    return false;
}

typedef struct evaluator {
    const mslc_unit *unit;
    const mslc_substitution *with;
    int32_t i, end;
    int depth;
    bool ok;
} evaluator;

static int64_t expression(evaluator *e, int level);

static int64_t named(evaluator *e, uint32_t symbol) {
    mslc_range range;
    bool ok = true;
    int64_t v = 0;
    if (mslc_substitute(e->unit, e->with, symbol, &range)) {
        evaluator inner = {e->unit, NULL, range.begin, range.end, e->depth + 1, true};
        v = expression(&inner, 0);
        ok = inner.ok && inner.i == inner.end;
    } else {
        /* name = value in a declaration of this scope or another: the first that has a value */
        ok = false;
        for (int32_t k = e->unit->symbols.data[symbol].entity; k >= 0 && !ok; k = e->unit->entities.data[k].next) {
            const mslc_entity *entity = &e->unit->entities.data[k];
            for (int32_t i = entity->range.begin; i < entity->range.end && !entity->is_function; i++) {
                if (!mslc_is(e->unit, i, "="))
                    continue;
                evaluator inner = {e->unit, NULL, i + 1, entity->range.end, e->depth + 1, true};
                if (mslc_is(e->unit, inner.end - 1, ";"))
                    inner.end--;
                v = expression(&inner, 0);
                ok = inner.ok && inner.i == inner.end;
                break;
            }
        }
    }
    e->ok = e->ok && ok;
    return v;
}

static int64_t primary(evaluator *e) {
    const mslc_unit *unit = e->unit;
    if (e->i >= e->end || e->depth > 16) {
        e->ok = false;
        return 0;
    }
    const mslc_token *t = mslc_at(unit, e->i);
    if (mslc_is(unit, e->i, "(") && t->match < e->end) {
        evaluator inner = {unit, e->with, e->i + 1, t->match, e->depth + 1, true};
        const int64_t v = expression(&inner, 0);
        e->ok = e->ok && inner.ok && inner.i == inner.end;
        e->i = t->match + 1;
        return v;
    }
    if (mslc_is(unit, e->i, "-")) {
        int64_t sign = 1;
        for (; mslc_is(unit, e->i, "-") && e->i < e->end; e->i++)
            sign = -sign;
        e->depth++;
        const int64_t v = primary(e);
        e->depth--;
        e->ok = e->ok && v != INT64_MIN;
        return e->ok ? sign * v : 0;
    }
    e->i++;
    if (t->kind == MSLC_NUMBER) {
        char digits[32], *after;
        const size_t n = t->length < sizeof digits - 1 ? t->length : sizeof digits - 1;
        memcpy(digits, t->text, n);
        digits[n] = 0;
        const unsigned long long v = strtoull(digits, &after, 0);
        e->ok = e->ok && strspn(after, "uUlL") == strlen(after) && v <= INT64_MAX;
        return e->ok ? (int64_t)v : 0;
    }
    if (t->kind == MSLC_IDENT) {
        if (mslc_is(unit, e->i - 1, "true"))
            return 1;
        if (mslc_is(unit, e->i - 1, "false"))
            return 0;
        while (mslc_is(unit, e->i, "::") && e->i + 1 < e->end) {
            t = mslc_at(unit, e->i + 1);
            e->i += 2;
        }
        return named(e, t->symbol);
    }
    e->ok = false;
    return 0;
}

/* False: the result is no number of 64 bits. */
static bool apply(char sign, int64_t v, int64_t w, int64_t *out) {
    switch (sign) {
    case '+':
        return !__builtin_add_overflow(v, w, out);
    case '-':
        return !__builtin_sub_overflow(v, w, out);
    case '*':
        return !__builtin_mul_overflow(v, w, out);
    default:
        if (w == 0 || (v == INT64_MIN && w == -1))
            return false;
        *out = sign == '/' ? v / w : v % w;
        return true;
    }
}

/* level 0: + and -, 1: * and / and % */
static int64_t expression(evaluator *e, int level) {
    int64_t v = level == 0 ? expression(e, 1) : primary(e);
    while (e->ok && e->i < e->end) {
        const mslc_token *t = mslc_at(e->unit, e->i);
        const char c = t->kind == MSLC_PUNCT && t->length == 1 ? t->text[0] : 0;
        if (level == 0 ? c != '+' && c != '-' : c != '*' && c != '/' && c != '%')
            break;
        e->i++;
        const int64_t w = level == 0 ? expression(e, 1) : primary(e);
        e->ok = apply(c, v, w, &v) && e->ok;
    }
    return v;
}

int64_t mslc_evaluate(const mslc_unit *unit, mslc_range range, const mslc_substitution *with, bool *ok) {
    evaluator e = {unit, with, range.begin, range.end, 0, true};
    const int64_t v = expression(&e, 0);
    *ok = e.ok && e.i == e.end;
    return v;
}
