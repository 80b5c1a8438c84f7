/* template <> inside a class, which MSL's compiler takes and others do not.
 *
 * A class:     template <typename U> struct B {...};       template <> struct B<float> {...};
 *   becomes    template <typename U, typename sm_only = void> struct B   and the partial specialisation
 *              template <typename sm_only> struct B<float, sm_only>.
 * A function:  template <typename U> R f(A a) {body}       template <> R f<int>(A a) {other}
 *   becomes    R f(A a) { if constexpr (U is int) return sm_special_1(a); else {body} }   with   R sm_special_1(A a)
 * {other}.
 * A function whose arguments are deduced (template <> R operator()(A a) {other}): an overload, which wins over the
 * template.
 */
#include "internal.h"

#include <stdlib.h>

static bool is_variadic(const mslc_unit *unit, mslc_range header) {
    for (int32_t i = header.begin; i < header.end; i++)
        if (mslc_is(unit, i, "..."))
            return true;
    return false;
}

static void specialise_class(mslc_unit *unit, const mslc_item *primary, const mslc_item *special) {
    if (is_variadic(unit, primary->header))
        mslc_fail(unit, special->head, "a specialisation in a class of a variadic template is not modelled");
    if (mslc_empty(special->arguments))
        mslc_fail(unit, special->head, "a specialisation in a class needs its template arguments written out");
    if (!mslc_at(unit, primary->header.end - 1)->before)
        mslc_insert_before(unit, primary->header.end - 1, ", typename sm_only = void");
    mslc_insert_before(unit, special->header.end - 1, "typename sm_only");
    mslc_insert_before(unit, special->arguments.end - 1, ", sm_only");
}

/* "is_same_v<U, int> && (N) == (4)" for the template parameters of primary and the arguments of special. */
static const char *condition_of(mslc_unit *unit, const mslc_item *primary, const mslc_item *special) {
    mslc_range parameters[32], arguments[32];
    const int n = mslc_split(unit, (mslc_range){primary->header.begin + 2, primary->header.end - 1}, parameters, 32);
    const int given =
        mslc_split(unit, (mslc_range){special->arguments.begin + 1, special->arguments.end - 1}, arguments, 32);
    if (given == 0 || given > n || n > 32)
        mslc_fail(unit, special->head, "a specialisation in a class needs its template arguments written out");
    mslc_text text = {0};
    for (int i = 0; i < given; i++) {
        const bool is_type =
            mslc_is(unit, parameters[i].begin, "typename") || mslc_is(unit, parameters[i].begin, "class");
        mslc_range name = parameters[i];
        for (int32_t k = name.begin; k < name.end; k++)
            if (mslc_is(unit, k, "="))
                name.end = k;
        const mslc_token *t = mslc_at(unit, name.end - 1);
        mslc_text_printf(&text, "%s%s%.*s%s", i ? " && " : "", is_type ? "::metal::is_same_v<" : "(", (int)t->length,
                         t->text, is_type ? ", " : ") == (");
        mslc_print(unit, &text, arguments[i]);
        mslc_text_puts(&text, is_type ? ">" : ")");
    }
    const char *kept = mslc_copy(unit, text.data ? text.data : "", text.length);
    free(text.data);
    return kept;
}

static void specialise_function(mslc_unit *unit, const mslc_item *primary, const mslc_item *special) {
    if (mslc_empty(primary->body) || mslc_empty(special->body))
        mslc_fail(unit, special->head,
                  "a specialisation in a class of a function without a body there is not modelled");
    const char *condition = condition_of(unit, primary, special);
    const char *name = mslc_format(unit, "sm_special_%d", unit->sites++);
    mslc_text call = {0};
    mslc_text_printf(&call, " if constexpr (%s) return %s(", condition, name);
    mslc_range parameters[32];
    const int n = mslc_split(unit, primary->parameters, parameters, 32);
    for (int i = 0; i < n && i < 32; i++) {
        mslc_parameter p;
        if (n == 1 && mslc_is(unit, parameters[i].begin, "void") && parameters[i].end == parameters[i].begin + 1)
            break;
        if (mslc_read_parameter(unit, parameters[i], &p) >= 0) {
            const mslc_token *t = mslc_at(unit, p.name);
            mslc_text_printf(&call, "%s%.*s", i ? ", " : "", (int)t->length, t->text);
        } else {
            const int32_t last = (mslc_empty(p.value) ? parameters[i].end : p.value.begin) - 1;
            mslc_insert_after(unit, last, mslc_format(unit, " sm_p%d", i));
            mslc_text_printf(&call, "%ssm_p%d", i ? ", " : "", i);
        }
    }
    mslc_text_puts(&call, "); else {");
    mslc_insert_after(unit, primary->body.begin, mslc_copy(unit, call.data, call.length));
    free(call.data);
    mslc_insert_before(unit, primary->body.end - 1, "} ");
    mslc_remove(unit, special->header);
    mslc_remove(unit, special->arguments);
    mslc_replace(unit, special->name, name);
}

static bool is_primary(const mslc_unit *unit, const mslc_item *item, const mslc_item *special) {
    return item->scope == special->scope && !item->specialised && !mslc_empty(item->header) && item->name >= 0 &&
           special->name >= 0 && mslc_at(unit, item->name)->symbol == mslc_at(unit, special->name)->symbol &&
           mslc_empty(item->arguments);
}

/* A specialisation is static where its template is, and does not say so. */
static void keep_static(mslc_unit *unit, const mslc_item *primary, const mslc_item *special) {
    bool is_static = false;
    for (int32_t i = primary->header.end; i < primary->name; i++)
        is_static = is_static || mslc_is(unit, i, "static");
    for (int32_t i = special->header.end; i < special->name; i++)
        is_static = is_static && !mslc_is(unit, i, "static");
    if (is_static)
        mslc_insert_before(unit, special->header.end, "static ");
}

void mslc_specialise_in_class(mslc_unit *unit) {
    for (int32_t i = 0; i < unit->items.count; i++) {
        const mslc_item *special = &unit->items.data[i];
        if (!special->scope->is_class || !special->specialised)
            continue;
        const mslc_item *primary = NULL;
        for (int32_t k = 0; k < unit->items.count && !primary; k++)
            if (is_primary(unit, &unit->items.data[k], special))
                primary = &unit->items.data[k];
        if (special->kind == MSLC_FUNCTION && primary)
            keep_static(unit, primary, special);
        if (special->kind == MSLC_FUNCTION && mslc_empty(special->arguments)) {
            mslc_remove(unit, special->header);
            continue;
        }
        if (special->name < 0)
            continue;
        if (!primary)
            mslc_fail(unit, special->head, "no template in this class that this specialises");
        if (special->kind == MSLC_FUNCTION)
            specialise_function(unit, primary, special);
        else
            specialise_class(unit, primary, special);
    }
}
