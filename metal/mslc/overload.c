/* Overloads and specialisations that differ in address spaces only are one in C++: the later of two with equal bodies
 * is dropped, different bodies are refused. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* The range as edited (or as written) with single spaces, without storage words. */
static void normal(const mslc_unit *unit, mslc_text *out, mslc_range range, bool edited) {
    for (int32_t i = range.begin; i < range.end; i++) {
        const uint8_t word = mslc_word_at(unit, i);
        if (word == MSLC_W_QUALIFIER || (edited && mslc_at(unit, i)->removed))
            continue;
        mslc_text_puts(out, " ");
        if (edited && mslc_at(unit, i)->instead)
            mslc_text_puts(out, mslc_at(unit, i)->instead);
        else
            mslc_text_append(out, mslc_at(unit, i)->text, mslc_at(unit, i)->length);
    }
}

/* What makes an item distinct: scope, template parameters, name, result and parameter types. */
static char *signature(mslc_unit *unit, const mslc_item *item, bool edited) {
    mslc_text text = {0};
    mslc_text_printf(&text, "%p", (const void *)item->scope);
    normal(unit, &text, item->header, edited);
    mslc_text_puts(&text, " #");
    if (item->kind == MSLC_CLASS) {
        normal(unit, &text, (mslc_range){item->name, item->name + 1}, edited);
        normal(unit, &text, item->arguments, edited);
        return text.data;
    }
    normal(unit, &text, (mslc_range){item->head, item->parameters.begin}, edited);
    mslc_range parts[64];
    const int n = mslc_split(unit, item->parameters, parts, 64);
    for (int i = 0; i < n && i < 64; i++) {
        mslc_parameter p;
        mslc_read_parameter(unit, parts[i], &p);
        for (int32_t k = parts[i].begin; k < p.value.begin; k++)
            if (k != p.name)
                normal(unit, &text, (mslc_range){k, k + 1}, edited);
        mslc_text_puts(&text, " ,");
    }
    normal(unit, &text, item->trailing, edited);
    return text.data;
}

typedef struct entry {
    char *signature;
    int32_t item;
} entry;

static int by_signature(const void *a, const void *b) {
    const entry *x = a, *y = b;
    const int order = strcmp(x->signature, y->signature);
    return order ? order : (x->item > y->item) - (x->item < y->item);
}

static bool same_body(const mslc_unit *unit, const mslc_item *a, const mslc_item *b) {
    mslc_text x = {0}, y = {0};
    /* With a constructor's initialisers, which stand before the body. */
    normal(unit, &x, (mslc_range){a->kind == MSLC_CLASS ? a->body.begin : a->trailing.end, a->body.end}, true);
    normal(unit, &y, (mslc_range){b->kind == MSLC_CLASS ? b->body.begin : b->trailing.end, b->body.end}, true);
    const bool same = x.data && y.data && strcmp(x.data, y.data) == 0;
    free(x.data);
    free(y.data);
    return same;
}

static bool same_as_written(mslc_unit *unit, const mslc_item *a, const mslc_item *b) {
    char *x = signature(unit, a, false), *y = signature(unit, b, false);
    const bool same = x && y && strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

/* A partial specialisation whose arguments have become the parameters themselves (struct S<device T>) is the primary.
 */
static bool equals_primary(const mslc_unit *unit, const mslc_item *item) {
    mslc_range names[16], arguments[16];
    if (mslc_empty(item->header) || mslc_empty(item->arguments))
        return false;
    const int n = mslc_split(unit, (mslc_range){item->header.begin + 2, item->header.end - 1}, names, 16);
    if (n < 1 || n > 16 ||
        mslc_split(unit, (mslc_range){item->arguments.begin + 1, item->arguments.end - 1}, arguments, 16) != n)
        return false;
    for (int i = 0; i < n; i++) {
        const mslc_token *name = mslc_at(unit, names[i].end - 1);
        int32_t only = -1;
        for (int32_t k = arguments[i].begin; k < arguments[i].end; k++) {
            if (mslc_at(unit, k)->removed)
                continue;
            if (only >= 0)
                return false;
            only = k;
        }
        if (only < 0 || mslc_at(unit, only)->instead || mslc_at(unit, only)->kind != MSLC_IDENT ||
            mslc_at(unit, only)->symbol != name->symbol)
            return false;
    }
    return true;
}

static void remove_item(mslc_unit *unit, mslc_item *item) {
    item->removed = true;
    mslc_remove(unit, item->all);
    for (int32_t i = item->all.begin; i < item->all.end; i++)
        unit->tokens.data[i].before = unit->tokens.data[i].after = NULL;
}

static bool has_word(const mslc_unit *unit, const mslc_item *item, mslc_word word) {
    for (int32_t i = item->trailing.begin; i < item->trailing.end; i++)
        if (mslc_word_at(unit, i) == word)
            return true;
    return false;
}

static bool is_constructor(const mslc_unit *unit, const mslc_item *item) {
    return item->scope->is_class && item->name >= 0 && mslc_at(unit, item->name)->symbol == item->scope->class_symbol;
}

/* Which of two is left. Of constructors it is the one for threads' own objects: those in device, constant and
 * threadgroup memory are not constructed. */
static mslc_item *merge(mslc_unit *unit, mslc_item *first, mslc_item *second) {
    if (same_as_written(unit, first, second))
        return first; /* the compiler's business */
    mslc_item *extra = second;
    if (mslc_empty(first->body) != mslc_empty(second->body)) { /* declared or defaulted here, written out there */
        extra = mslc_empty(first->body) ? first : second;
    } else if (!same_body(unit, first, second)) {
        if (!is_constructor(unit, first)) {
            const mslc_token *t = mslc_at(unit, first->head);
            mslc_fail(unit, second->head,
                      "this differs from the declaration at %s:%u in address spaces only, and the two bodies differ: "
                      "not modelled",
                      unit->files.data[t->file], t->line);
        }
        if (has_word(unit, second, MSLC_W_THREAD))
            extra = first;
    }
    remove_item(unit, extra);
    return extra == first ? second : first;
}

static mslc_item *primary_of(const mslc_unit *unit, const mslc_item *special) {
    for (int32_t i = 0; i < unit->items.count; i++) {
        mslc_item *item = &unit->items.data[i];
        if (item->scope == special->scope && item->kind == MSLC_CLASS && mslc_empty(item->arguments) &&
            item->name >= 0 && !mslc_empty(item->body) &&
            mslc_at(unit, item->name)->symbol == mslc_at(unit, special->name)->symbol)
            return item;
    }
    return NULL;
}

void mslc_merge_overloads(mslc_unit *unit) {
    entry *entries = calloc((size_t)unit->items.count + 1, sizeof *entries);
    if (!entries)
        longjmp(unit->fail, ML_ERR_MEMORY);
    jmp_buf outer;
    memcpy(&outer, &unit->fail, sizeof outer);
    volatile int32_t n = 0;
    const int failure = setjmp(unit->fail);
    if (!failure) {
        for (int32_t i = 0; i < unit->items.count; i++) {
            mslc_item *item = &unit->items.data[i];
            const bool is_class = item->kind == MSLC_CLASS;
            const bool is_member = item->kind == MSLC_FUNCTION && item->scope->is_class;
            if ((mslc_empty(item->body) && !is_member) || (item->kind != MSLC_FUNCTION && !is_class) ||
                (is_class && mslc_empty(item->arguments)))
                continue;
            mslc_item *primary = is_class && equals_primary(unit, item) ? primary_of(unit, item) : NULL;
            if (primary) {
                merge(unit, primary, item);
                continue;
            }
            entries[n].signature = signature(unit, item, true);
            entries[n].item = i;
            n = n + (entries[n].signature != NULL);
        }
        qsort(entries, (size_t)n, sizeof *entries, by_signature);
        for (int32_t i = 1, first = 0; i < n; i++) {
            mslc_item *left = &unit->items.data[entries[first].item], *right = &unit->items.data[entries[i].item];
            if (strcmp(entries[i].signature, entries[first].signature) != 0 || merge(unit, left, right) == right)
                first = i;
        }
    }
    memcpy(&unit->fail, &outer, sizeof outer);
    for (int32_t i = 0; i < n; i++)
        free(entries[i].signature);
    free(entries);
    if (failure)
        longjmp(unit->fail, failure);
}
