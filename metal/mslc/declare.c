/* The declarations of namespaces and classes: where each begins and ends, its name, parameters and body. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static void parse_scope(mslc_unit *unit, int32_t i, int32_t end, const mslc_scope *scope);

static void add_entity(mslc_unit *unit, uint32_t symbol, mslc_range range, bool is_function) {
    mslc_entity *e = MSLC_PUSH(unit, unit->entities);
    e->symbol = symbol;
    e->range = range;
    e->is_function = is_function;
    e->next = unit->symbols.data[symbol].entity;
    unit->symbols.data[symbol].entity = unit->entities.count - 1;
}

static mslc_item *new_item(mslc_unit *unit, const mslc_scope *scope) {
    mslc_item *item = MSLC_PUSH(unit, unit->items);
    item->kind = MSLC_OTHER;
    item->scope = scope;
    item->name = item->region = -1;
    return item;
}

/* After an attribute, alignas(...), __attribute__((...)) or decltype(...) at i; i itself where there is none. */
static int32_t skip_decoration(const mslc_unit *unit, int32_t i) {
    for (;;) {
        if (mslc_is_attribute(unit, i))
            i = mslc_at(unit, i)->match + 1;
        else if ((mslc_is(unit, i, "alignas") || mslc_is(unit, i, "__attribute__") ||
                  mslc_is(unit, i, "__attribute")) &&
                 mslc_is(unit, i + 1, "("))
            i = mslc_at(unit, i + 1)->match + 1;
        else
            return i;
    }
}

/* After the next ; outside brackets. */
static int32_t skip_to_semicolon(mslc_unit *unit, int32_t i, int32_t end) {
    for (int32_t k = i; k < end; k++) {
        if (mslc_is(unit, k, ";"))
            return k + 1;
        if (mslc_at(unit, k)->match > k)
            k = mslc_at(unit, k)->match;
    }
    mslc_fail(unit, i < end ? i : end - 1, "expected ';' after this declaration");
}

static const mslc_scope *new_scope(mslc_unit *unit, const mslc_scope *parent, const char *name, bool is_class) {
    mslc_scope *s = mslc_alloc(unit, sizeof *s);
    s->parent = parent;
    s->is_class = is_class;
    s->prefix = name ? mslc_format(unit, "%s%s::", parent->prefix, name) : parent->prefix;
    return s;
}

static const char *word_of(const mslc_unit *unit, int32_t i) {
    return unit->symbols.data[mslc_at(unit, i)->symbol].text;
}

/* ---- namespaces and classes
 * ----------------------------------------------------------------------------------------------- */

static int32_t parse_namespace(mslc_unit *unit, int32_t i, int32_t end, const mslc_scope *scope) {
    const mslc_scope *inner = scope;
    int32_t k = skip_decoration(unit, i + 1);
    for (; k < end && !mslc_is(unit, k, "{"); k++) {
        if (mslc_is(unit, k, "=") || mslc_is(unit, k, ";"))
            return skip_to_semicolon(unit, k, end);
        if (mslc_at(unit, k)->kind == MSLC_IDENT && !mslc_is(unit, k, "inline"))
            inner = new_scope(unit, inner, word_of(unit, k), false);
    }
    if (k >= end)
        mslc_fail(unit, i, "expected '{' after namespace");
    parse_scope(unit, k + 1, mslc_at(unit, k)->match, inner);
    return mslc_at(unit, k)->match + 1;
}

static void note_argument_buffer(mslc_unit *unit, mslc_range body, uint32_t name) {
    for (int32_t i = body.begin; i < body.end; i++)
        if (mslc_is_attribute(unit, i) && mslc_is(unit, i + 2, "id") && mslc_is(unit, i + 3, "(")) {
            *MSLC_PUSH(unit, unit->argument_buffers) = name;
            return;
        }
}

/* At struct, class, union or enum. Returns the token after the closing ';', or -1 where this is the type of another
 * declaration (struct Foo f();). */
static int32_t parse_class(mslc_unit *unit, int32_t item_index, int32_t i, int32_t end) {
    const mslc_scope *scope = unit->items.data[item_index].scope;
    const bool is_enum = mslc_is(unit, i, "enum");
    int32_t name = -1;
    mslc_range arguments = {0, 0};
    int32_t k = skip_decoration(unit, i + 1);
    if (is_enum && (mslc_is(unit, k, "class") || mslc_is(unit, k, "struct")))
        k = skip_decoration(unit, k + 1);
    while (mslc_at(unit, k)->kind == MSLC_IDENT && !mslc_is(unit, k, "final")) {
        name = k++;
        if (mslc_is(unit, k, "<")) {
            const int32_t after = mslc_skip_angles(unit, k, end);
            if (after < 0)
                mslc_fail(unit, k, "this template argument list does not end");
            arguments = (mslc_range){k, after};
            k = after;
        }
        if (!mslc_is(unit, k, "::"))
            break;
        k++;
    }
    if (mslc_is(unit, k, "final"))
        k++;
    k = skip_decoration(unit, k);
    if (mslc_is(unit, k, ":") && !mslc_is(unit, k, "::"))
        while (k < end && !mslc_is(unit, k, "{") && !mslc_is(unit, k, ";"))
            k = mslc_at(unit, k)->match > k ? mslc_at(unit, k)->match + 1 : k + 1;
    if (mslc_is(unit, k, ";")) {
        unit->items.data[item_index].name = name;
        return k + 1;
    }
    if (!mslc_is(unit, k, "{"))
        return -1;

    mslc_item *item = &unit->items.data[item_index];
    item->kind = is_enum ? MSLC_OTHER : MSLC_CLASS;
    item->name = name;
    item->arguments = arguments;
    item->body = (mslc_range){k, mslc_at(unit, k)->match + 1};
    const mslc_range body = item->body;
    if (name >= 0) {
        add_entity(unit, mslc_at(unit, name)->symbol, (mslc_range){i, body.end}, false);
        note_argument_buffer(unit, body, mslc_at(unit, name)->symbol);
    }
    if (!is_enum) {
        mslc_scope *inner = (mslc_scope *)new_scope(unit, scope, name >= 0 ? word_of(unit, name) : NULL, true);
        inner->anonymous = name < 0;
        if (name >= 0)
            inner->class_symbol = mslc_at(unit, name)->symbol;
        parse_scope(unit, body.begin + 1, body.end - 1, inner);
    }
    return skip_to_semicolon(unit, body.end, end);
}

/* ---- functions and variables
 * ---------------------------------------------------------------------------------------------- */

/* After the member initialisers at the ':' k: the token of the body's '{'. */
static int32_t skip_initialisers(mslc_unit *unit, int32_t k, int32_t end) {
    for (k++; k < end; k++) {
        if (mslc_is(unit, k, "<")) {
            const int32_t after = mslc_skip_angles(unit, k, end);
            if (after > 0)
                k = after - 1;
            continue;
        }
        if (!mslc_is(unit, k, "(") && !mslc_is(unit, k, "{"))
            continue;
        k = mslc_at(unit, k)->match;
        if (!mslc_is(unit, k + 1, ","))
            return k + 1;
    }
    return end;
}

/* parameters is the '(' of a function's parameters. Returns the token after the declaration. */
static int32_t parse_function(mslc_unit *unit, int32_t item_index, int32_t parameters, int32_t end) {
    mslc_item *item = &unit->items.data[item_index];
    int32_t k = mslc_at(unit, parameters)->match + 1;
    item->kind = MSLC_FUNCTION;
    item->parameters = (mslc_range){parameters + 1, k - 1};
    item->trailing.begin = k;
    bool body = false;
    for (; k < end; k++) {
        k = skip_decoration(unit, k);
        if (mslc_is(unit, k, ";") || mslc_is(unit, k, "="))
            break;
        if (mslc_is(unit, k, "{")) {
            body = true;
            break;
        }
        if (mslc_is(unit, k, ":")) {
            item->trailing.end = k;
            k = skip_initialisers(unit, k, end);
            body = mslc_is(unit, k, "{");
            break;
        }
        if (mslc_is(unit, k, "<")) {
            const int32_t after = mslc_skip_angles(unit, k, end);
            k = after > 0 ? after - 1 : k;
        } else if (mslc_at(unit, k)->match > k) {
            k = mslc_at(unit, k)->match;
        }
    }
    if (item->trailing.end == 0)
        item->trailing.end = k;
    if (body) {
        item->body = (mslc_range){k, mslc_at(unit, k)->match + 1};
        const mslc_range all = {item->head, item->body.end};
        if (item->name >= 0)
            add_entity(unit, mslc_at(unit, item->name)->symbol, all, true);
        return item->body.end;
    }
    if (k >= end)
        mslc_fail(unit, item->head, "expected a body or ';' after this function");
    return skip_to_semicolon(unit, k, end);
}

static void declare_constant(mslc_unit *unit, int32_t item_index, int32_t initialiser) {
    const mslc_item *item = &unit->items.data[item_index];
    if (item->scope->is_class || item->name < 0)
        return;
    mslc_attributes attributes;
    mslc_read_attributes(unit, item->all, &attributes);
    bool derived = false;
    for (int32_t i = initialiser; i >= 0 && i < item->all.end; i++) {
        const mslc_token *t = mslc_at(unit, i);
        derived = derived || (t->kind == MSLC_IDENT && unit->symbols.data[t->symbol].constant >= 0);
    }
    if (!attributes.has_function_constant && !derived)
        return;
    bool constant = false, array = false;
    mslc_text type = {0};
    for (int32_t i = item->head; i < item->all.end && !mslc_is(unit, i, "=") && !mslc_is(unit, i, ";"); i++) {
        if (mslc_is_attribute(unit, i)) {
            i = mslc_at(unit, i)->match;
            continue;
        }
        array = array || mslc_is(unit, i, "[") || mslc_is(unit, i, ",");
        const uint8_t word = mslc_word_at(unit, i);
        constant = constant || word == MSLC_W_CONSTANT || word == MSLC_W_CONST;
        if (i < item->name && !mslc_is_space_word(word) && word != MSLC_W_CONST && word != MSLC_W_CONSTEXPR &&
            word != MSLC_W_QUALIFIER) {
            if (type.length && mslc_at(unit, i)->space)
                mslc_text_append(&type, " ", 1);
            mslc_text_append(&type, mslc_at(unit, i)->text, mslc_at(unit, i)->length);
        }
        if (mslc_is(unit, i, "<")) {
            array = false;
            const int32_t after = mslc_skip_angles(unit, i, item->all.end);
            for (int32_t k = i + 1; k < after && i < item->name; k++)
                mslc_text_append(&type, mslc_at(unit, k)->text, mslc_at(unit, k)->length);
            i = after > 0 ? after - 1 : i;
        }
    }
    const char *type_text = type.data ? mslc_copy(unit, type.data, type.length) : "int";
    free(type.data);
    if (!constant)
        return;
    if (array)
        mslc_fail(unit, item->name, "arrays and lists of function constants are not modelled");
    bool ok = true;
    const int64_t index =
        attributes.has_function_constant ? mslc_evaluate(unit, attributes.function_constant, NULL, &ok) : -1;
    if (!ok || index > 65535 || (index < 0 && attributes.has_function_constant))
        mslc_fail(unit, item->name, "the index of a function constant must be a number from 0 to 65535");
    mslc_constant *c = MSLC_PUSH(unit, unit->constants);
    c->name = word_of(unit, item->name);
    c->qualified = mslc_format(unit, "%s%s", item->scope->prefix, c->name);
    c->type = type_text;
    c->token = item->name;
    c->index = (int32_t)index;
    c->declaration = item->all;
    if (initialiser >= 0)
        c->initialiser = (mslc_range){initialiser, item->all.end - 1};
    c->slot = -1;
    unit->symbols.data[mslc_at(unit, item->name)->symbol].constant = unit->constants.count - 1;
}

/* A declaration that is neither namespace nor class. head: after the template headers. Returns the token after it. */
static int32_t parse_declaration(mslc_unit *unit, int32_t item_index, int32_t end) {
    const int32_t head = unit->items.data[item_index].head;
    int32_t name = -1, initialiser = -1, k = head;
    mslc_range arguments = {0, 0};
    bool is_operator = false;
    for (; k < end; k++) {
        k = skip_decoration(unit, k);
        const mslc_token *t = mslc_at(unit, k);
        if (mslc_is(unit, k, ";"))
            break;
        if (t->kind == MSLC_IDENT && mslc_is(unit, k, "operator")) {
            is_operator = true;
            name = -1;
            arguments = (mslc_range){0, 0};
            /* The symbol, or the type of a conversion, up to the parameters. */
            if (mslc_is(unit, k + 1, "(") || mslc_is(unit, k + 1, "["))
                k = mslc_at(unit, k + 1)->match;
            while (k + 1 < end && !mslc_is(unit, k + 1, "("))
                k++;
        } else if (t->kind == MSLC_IDENT) {
            if ((mslc_is(unit, k, "decltype") || mslc_is(unit, k, "noexcept") || mslc_is(unit, k, "explicit") ||
                 mslc_is(unit, k, "asm") || mslc_is(unit, k, "__asm") || mslc_is(unit, k, "__asm__")) &&
                mslc_is(unit, k + 1, "(")) {
                k = mslc_at(unit, k + 1)->match;
                continue;
            }
            name = k;
            arguments = (mslc_range){0, 0};
        } else if (mslc_is(unit, k, "<") && name == k - 1) {
            const int32_t after = mslc_skip_angles(unit, k, end);
            if (after < 0)
                mslc_fail(unit, k, "this template argument list does not end");
            arguments = (mslc_range){k, after};
            k = after - 1;
        } else if (mslc_is(unit, k, "(")) {
            const bool callable = is_operator || name == k - 1 || (!mslc_empty(arguments) && arguments.end == k);
            const bool pointer = mslc_is(unit, k + 1, "*") || mslc_is(unit, k + 1, "&");
            if (callable && !(pointer && !is_operator && mslc_is(unit, t->match + 1, "("))) {
                unit->items.data[item_index].name = is_operator ? -1 : name;
                unit->items.data[item_index].arguments = arguments;
                return parse_function(unit, item_index, k, end);
            }
            k = t->match;
        } else if (mslc_is(unit, k, "[")) {
            k = t->match;
        } else if (mslc_is(unit, k, "=") || mslc_is(unit, k, "{")) {
            initialiser = k + 1;
            k = skip_to_semicolon(unit, k, end) - 1;
            break;
        }
    }
    if (k >= end)
        mslc_fail(unit, head, "expected ';' after this declaration");
    mslc_item *item = &unit->items.data[item_index];
    const uint8_t first = mslc_word_at(unit, head);
    item->kind = first == MSLC_W_KEYWORD || mslc_is(unit, head, "typedef") ? MSLC_OTHER : MSLC_VARIABLE;
    item->name = name;
    item->all.end = k + 1;
    if (name >= 0 && item->kind == MSLC_VARIABLE)
        declare_constant(unit, item_index, initialiser);
    if (name >= 0)
        add_entity(unit, mslc_at(unit, name)->symbol, (mslc_range){head, k + 1}, false);
    return k + 1;
}

/* ---- explicit instantiations
 * -------------------------------------------------------------------------------------------------- */

/* At 'template' without a list. Those of kernels are taken out of the source; the kernel list is made from them later.
 */
static int32_t parse_instantiation(mslc_unit *unit, int32_t i, int32_t end, const mslc_scope *scope) {
    const int32_t after = skip_to_semicolon(unit, i, end);
    mslc_attributes attributes;
    mslc_read_attributes(unit, (mslc_range){i, after}, &attributes);
    bool kernel = attributes.kernel || !mslc_empty(attributes.host_name);
    for (int32_t k = i; k < after && !kernel; k++)
        kernel = mslc_word_at(unit, k) == MSLC_W_KERNEL;
    if (kernel) {
        mslc_kernel *k = MSLC_PUSH(unit, unit->kernels);
        k->instantiation = (mslc_range){i, after};
        k->scope = scope;
        k->item = -1;
    }
    *MSLC_PUSH(unit, unit->instantiations) = (mslc_range){i, after};
    return after;
}

/* ---- scopes
 * ----------------------------------------------------------------------------------------------------------------------
 */

static int32_t parse_one(mslc_unit *unit, int32_t i, int32_t end, const mslc_scope *scope) {
    const int32_t begin = i;
    if (mslc_is(unit, i, ";"))
        return i + 1;
    if (mslc_is(unit, i, "namespace") || (mslc_is(unit, i, "inline") && mslc_is(unit, i + 1, "namespace")))
        return parse_namespace(unit, i + mslc_is(unit, i, "inline"), end, scope);
    if (scope->is_class && mslc_is(unit, i + 1, ":") &&
        (mslc_is(unit, i, "public") || mslc_is(unit, i, "private") || mslc_is(unit, i, "protected")))
        return i + 2;
    if (mslc_is(unit, i, "extern") && mslc_at(unit, i + 1)->kind == MSLC_STRING && mslc_is(unit, i + 2, "{")) {
        parse_scope(unit, i + 3, mslc_at(unit, i + 2)->match, scope);
        return mslc_at(unit, i + 2)->match + 1;
    }
    if (mslc_is(unit, i, "using") || mslc_is(unit, i, "typedef") || mslc_is(unit, i, "static_assert")) {
        const int32_t after = skip_to_semicolon(unit, i, end);
        const int32_t name = mslc_is(unit, i, "typedef") ? after - 2 : i + 1;
        /* An alias of a class is a way to reach it. */
        if (mslc_at(unit, name)->kind == MSLC_IDENT && !mslc_is(unit, i, "static_assert") &&
            !mslc_is(unit, name, "namespace"))
            add_entity(unit, mslc_at(unit, name)->symbol, (mslc_range){i, after}, false);
        if (!mslc_is(unit, i, "typedef") || !(mslc_is(unit, i + 1, "struct") || mslc_is(unit, i + 1, "union"))) {
            *MSLC_PUSH(unit, unit->aliases) = (mslc_range){i, after};
            return after;
        }
        i++; /* typedef struct {...} Name; */
    }
    mslc_range header = {0, 0};
    bool specialised = false;
    while (mslc_is(unit, i, "template")) {
        if (!mslc_is(unit, i + 1, "<"))
            return parse_instantiation(unit, i, end, scope);
        const int32_t after = mslc_skip_angles(unit, i + 1, end);
        if (after < 0)
            mslc_fail(unit, i, "this template parameter list does not end");
        header = (mslc_range){i, after};
        specialised = after == i + 3;
        i = after;
    }
    mslc_item *item = new_item(unit, scope);
    const int32_t index = unit->items.count - 1;
    item->header = header;
    item->specialised = specialised;
    item->all = (mslc_range){begin, begin};
    item->head = i;
    int32_t after = -1, k = i;
    if (mslc_is(unit, i, "using")) { /* an alias template */
        after = skip_to_semicolon(unit, i, end);
        if (mslc_at(unit, i + 1)->kind == MSLC_IDENT)
            add_entity(unit, mslc_at(unit, i + 1)->symbol, (mslc_range){i, after}, false);
    }
    while (after < 0 && (mslc_word_at(unit, k) == MSLC_W_QUALIFIER || mslc_word_at(unit, k) == MSLC_W_CONST ||
                         mslc_word_at(unit, k) == MSLC_W_CONSTEXPR || mslc_is_attribute(unit, k))) {
        if (mslc_is(unit, k, "struct") || mslc_is(unit, k, "class") || mslc_is(unit, k, "union") ||
            mslc_is(unit, k, "enum")) {
            after = parse_class(unit, index, k, end);
            break;
        }
        k = mslc_is_attribute(unit, k) ? mslc_at(unit, k)->match + 1 : k + 1;
    }
    if (after < 0)
        after = parse_declaration(unit, index, end);
    unit->items.data[index].all.end = after;
    return after;
}

static void parse_scope(mslc_unit *unit, int32_t i, int32_t end, const mslc_scope *scope) {
    while (i < end) {
        const int32_t first = unit->items.count;
        i = parse_one(unit, i, end, scope);
        if (!scope->is_class)
            for (int32_t k = first; k < unit->items.count; k++)
                if (unit->items.data[k].region < 0)
                    unit->items.data[k].region = first;
    }
}

void mslc_parse_declarations(mslc_unit *unit) {
    mslc_scope *global = mslc_alloc(unit, sizeof *global);
    global->prefix = "";
    parse_scope(unit, 0, unit->tokens.count - 1, global);
}
