/* Strict mode, the rules that tokens and declarations tell: words and constructs that Metal does not have. Address
 * spaces are left to a compiler that knows them (csrc/softmetal/strict.c). */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static void object(const mslc_unit *unit, mslc_text *out, int32_t token, const char *what) {
    const mslc_token *t = mslc_at(unit, token);
    mslc_text_printf(out, "%s:%u:%u: error: %s\n", unit->files.data[t->file], t->line, t->column, what);
}

/* template <void (*f)(int)>: which function it is is known when it is compiled. */
static bool in_template_header(const mslc_unit *unit, int32_t token) {
    for (int32_t i = 0; i < unit->items.count; i++)
        if (unit->items.data[i].header.begin <= token && token < unit->items.data[i].header.end)
            return true;
    return false;
}

static void check_words(const mslc_unit *unit, mslc_text *out) {
    static const struct {
        const char *word, *what;
    } rules[] = {
        {"double", "'double' is not supported in Metal"},
        {"virtual", "virtual functions are not supported in Metal"},
        {"throw", "exceptions are not supported in Metal"},
        {"try", "exceptions are not supported in Metal"},
        {"catch", "exceptions are not supported in Metal"},
        {"new", "'new' is not supported in Metal"},
        {"delete", "'delete' is not supported in Metal"},
        {"dynamic_cast", "run-time type information is not supported in Metal"},
        {"typeid", "run-time type information is not supported in Metal"},
        {"goto", "'goto' is not supported in Metal"},
        {"thread_local", "'thread_local' is not supported in Metal"},
        {"std", "the C++ standard library is not available in Metal"},
    };
    for (int32_t i = 0; i < unit->tokens.count; i++) {
        const mslc_token *t = mslc_at(unit, i);
        if (t->kind == MSLC_NUMBER) {
            const bool hex = t->length > 1 && (t->text[1] == 'x' || t->text[1] == 'X');
            const char last = t->text[t->length - 1];
            if (!hex && (last == 'L' || last == 'l') && memchr(t->text, '.', t->length))
                object(unit, out, i, "'long double' is not supported in Metal");
        }
        if (t->kind != MSLC_IDENT || mslc_is(unit, i - 1, ".") || mslc_is(unit, i - 1, "->"))
            continue;
        for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
            if (!mslc_is(unit, i, rules[r].word))
                continue;
            if (mslc_is(unit, i, "delete") && mslc_is(unit, i - 1, "="))
                continue; /* f() = delete; */
            if (mslc_is(unit, i, "std") && !mslc_is(unit, i + 1, "::"))
                continue;
            object(unit, out, i, rules[r].what);
        }
        /* type (*name)(...) */
        if (mslc_is(unit, i + 1, "(") && mslc_is(unit, i + 2, "*") && mslc_at(unit, i + 3)->kind == MSLC_IDENT &&
            mslc_is(unit, i + 4, ")") && mslc_is(unit, i + 5, "(") && mslc_word_at(unit, i) != MSLC_W_KEYWORD &&
            !in_template_header(unit, i))
            object(unit, out, i + 3, "function pointers are not supported in Metal");
    }
}

static void check_variable(const mslc_unit *unit, const mslc_item *item, mslc_text *out) {
    if (item->scope->is_class || item->name < 0)
        return;
    for (int32_t i = item->all.begin; i < item->name; i++)
        if (mslc_word_at(unit, i) == MSLC_W_CONSTANT || mslc_is(unit, i, "using") || mslc_is(unit, i, "typedef"))
            return;
    if (mslc_is(unit, item->head, "struct") || mslc_is(unit, item->head, "enum") ||
        mslc_is(unit, item->head, "union") || mslc_is(unit, item->head, "class") || mslc_is(unit, item->head, "friend"))
        return;
    object(unit, out, item->name, "a program-scope variable must reside in the constant address space");
}

static void check_parameters(mslc_unit *unit, const mslc_item *item, mslc_text *out) {
    mslc_range parts[64];
    const int n = mslc_split(unit, item->parameters, parts, 64);
    for (int p = 0; p < n && p < 64; p++) {
        bool space = false;
        for (int32_t i = parts[p].begin; i < parts[p].end; i++) {
            if (mslc_is_attribute(unit, i) || mslc_is(unit, i, "=")) {
                break;
            } else if (mslc_is(unit, i, "<")) {
                const int32_t after = mslc_skip_angles(unit, i, parts[p].end);
                i = after > 0 ? after - 1 : i;
            } else if (mslc_is(unit, i, "*") || mslc_is(unit, i, "&")) {
                if (!space)
                    object(
                        unit, out, i,
                        mslc_is(unit, i, "*")
                            ? "a pointer parameter needs an address space: device, constant, threadgroup or thread"
                            : "a reference parameter needs an address space: device, constant, threadgroup or thread");
                break;
            }
            space = space || mslc_is_space_word(mslc_word_at(unit, i));
        }
    }
}

/* ---- recursion
 * --------------------------------------------------------------------------------------------------------------- */

/* The one plain function of this name, or -1: overloads and templates may call each other by name without recursion. */
static int32_t only_function(const mslc_unit *unit, uint32_t symbol) {
    int32_t found = -1;
    for (int32_t i = 0; i < unit->items.count; i++) {
        const mslc_item *item = &unit->items.data[i];
        if (item->kind != MSLC_FUNCTION || item->name < 0 || mslc_at(unit, item->name)->symbol != symbol ||
            mslc_empty(item->body))
            continue;
        if (found >= 0 || !mslc_empty(item->header) || item->scope->is_class)
            return -1;
        found = i;
    }
    return found;
}

static void check_recursion(mslc_unit *unit, mslc_text *out) {
    int32_t *function =
        mslc_alloc(unit, (size_t)(unit->symbols.count + 1) * sizeof *function); /* symbol -> item, + 1 */
    for (int32_t e = 0; e < unit->entities.count; e++)
        if (unit->entities.data[e].is_function)
            function[unit->entities.data[e].symbol] = only_function(unit, unit->entities.data[e].symbol) + 1;
    bool *calls_itself = mslc_alloc(unit, (size_t)unit->items.count + 1),
         *seen = mslc_alloc(unit, (size_t)unit->items.count + 1);
    int32_t *stack = mslc_alloc(unit, (size_t)(unit->items.count + 1) * sizeof *stack);
    for (int32_t f = 0; f < unit->items.count; f++) {
        const mslc_item *start = &unit->items.data[f];
        if (start->kind != MSLC_FUNCTION || start->name < 0 || function[mslc_at(unit, start->name)->symbol] != f + 1)
            continue;
        memset(seen, 0, (size_t)unit->items.count);
        int32_t depth = 0;
        stack[depth++] = f;
        while (depth > 0 && !calls_itself[f]) {
            const mslc_range body = unit->items.data[stack[--depth]].body;
            for (int32_t i = body.begin; i < body.end; i++) {
                const mslc_token *t = mslc_at(unit, i);
                if (t->kind != MSLC_IDENT || !mslc_is(unit, i + 1, "(") || mslc_is(unit, i - 1, ".") ||
                    mslc_is(unit, i - 1, "->") || !function[t->symbol])
                    continue;
                const int32_t g = function[t->symbol] - 1;
                calls_itself[f] = calls_itself[f] || g == f;
                if (!seen[g]) {
                    seen[g] = true;
                    stack[depth++] = g;
                }
            }
        }
        if (calls_itself[f])
            object(unit, out, start->name, "recursion is not supported in Metal");
    }
}

/* ---- the check
 * ------------------------------------------------------------------------------------------------------------------ */

static void check(mslc_unit *unit, mslc_text *out) {
    check_words(unit, out);
    check_recursion(unit, out);
    for (int32_t i = 0; i < unit->items.count; i++) {
        const mslc_item *item = &unit->items.data[i];
        if (item->kind == MSLC_VARIABLE)
            check_variable(unit, item, out);
        if (item->kind == MSLC_FUNCTION)
            check_parameters(unit, item, out);
    }
    for (int32_t k = 0; k < unit->kernels.count; k++) {
        const mslc_kernel *kernel = &unit->kernels.data[k];
        const mslc_item *item = &unit->items.data[kernel->item];
        bool is_void = false;
        for (int32_t i = item->head; i < item->name; i++)
            is_void = is_void || mslc_is(unit, i, "void");
        if (!is_void)
            object(unit, out, item->name, "a kernel must return void");
        if (kernel->too_many_threads)
            object(unit, out, item->name, "a threadgroup has at most 1024 threads");
        if (kernel->info.n_arguments && kernel->problem)
            object(unit, out, kernel->problem_token, kernel->problem);
    }
}

/* Apart from mslc_check: what a function changes in its own variables is lost when it is jumped back into. */
static bool checked(mslc_unit *unit, mslc_text *out) {
    if (setjmp(unit->fail))
        return false;
    check(unit, out);
    return !out->failed;
}

ml_status mslc_check(mslc_unit *unit, char **message) {
    mslc_text out = {0};
    if (!checked(unit, &out)) {
        free(out.data);
        return ml_fail(ML_ERR_MEMORY, "out of memory");
    }
    *message = out.data;
    return out.data ? ML_ERR_COMPILE : ML_OK;
}
