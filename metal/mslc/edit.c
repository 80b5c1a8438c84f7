/* Edits by token: literals, swizzles, address spaces, attributes, function constants, storage classes. */
#include "internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- literals
 * ----------------------------------------------------------------------------------------------------------------- */

static void edit_number(mslc_unit *unit, int32_t i) {
    const mslc_token *t = mslc_at(unit, i);
    const bool hex = t->length > 1 && t->text[0] == '0' && (t->text[1] == 'x' || t->text[1] == 'X');
    bool floating = false;
    for (uint32_t k = 0; k < t->length; k++) {
        const char c = (char)tolower((unsigned char)t->text[k]);
        if (c == '_')
            return; /* a user's suffix */
        floating = floating || c == '.' || c == 'p' || (c == 'e' && !hex);
    }
    const char last = (char)tolower((unsigned char)t->text[t->length - 1]);
    if (!hex && last == 'h') { /* 1h is a half too */
        mslc_replace(unit, i, mslc_format(unit, "::metal::sm::half_literal(%.*s)", (int)t->length - 1, t->text));
    } else if (!hex && last == 'f' && t->length > 2 && tolower((unsigned char)t->text[t->length - 2]) == 'b') {
        mslc_replace(unit, i, mslc_format(unit, "bfloat(%.*s)", (int)t->length - 2, t->text));
    } else if (floating && last != 'f' && last != 'l') {
        mslc_replace(unit, i, mslc_format(unit, "%.*sf", (int)t->length, t->text));
    }
}

/* ---- swizzles
 * ------------------------------------------------------------------------------------------------------------------ */

/* The component numbers of "zyx" as "2, 1, 0"; false where the name is no swizzle. */
static bool swizzle_of(const mslc_token *t, char out[16]) {
    if (t->kind != MSLC_IDENT || t->length < 2 || t->length > 4)
        return false;
    static const char *const sets[] = {"xyzw", "rgba"};
    for (int s = 0; s < 2; s++) {
        uint32_t k = 0;
        for (; k < t->length; k++) {
            const char *at = memchr(sets[s], t->text[k], 4);
            if (!at)
                break;
            out[3 * k] = (char)('0' + (at - sets[s]));
            memcpy(out + 3 * k + 1, ", ", 2);
        }
        if (k == t->length) {
            out[3 * k - 2] = 0;
            return true;
        }
    }
    return false;
}

static bool is_assignment(const mslc_unit *unit, int32_t i) {
    static const char *const operators[] = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", "++", "--"};
    for (size_t k = 0; k < sizeof operators / sizeof operators[0]; k++)
        if (mslc_is(unit, i, operators[k]))
            return true;
    return mslc_is(unit, i, ">") && mslc_is(unit, i + 1, ">=") && !mslc_at(unit, i + 1)->space;
}

static void edit_swizzle(mslc_unit *unit, int32_t dot) {
    char components[16];
    if (!swizzle_of(mslc_at(unit, dot + 1), components) || mslc_is(unit, dot + 2, "(") || mslc_is(unit, dot - 1, "{") ||
        mslc_is(unit, dot - 1, ","))
        return;
    int32_t next = dot + 2;
    while (mslc_is(unit, next, "["))
        next = mslc_at(unit, next)->match + 1;
    mslc_replace(unit, dot + 1,
                 mslc_format(unit, "template sm_swizzle%s<%s>()", is_assignment(unit, next) ? "_ref" : "", components));
}

/* A member that has the name of a swizzle answers to what its uses have become. */
static void edit_member(mslc_unit *unit, const mslc_item *item) {
    if (!item->scope->is_class || item->scope->anonymous || item->kind != MSLC_VARIABLE)
        return;
    for (int32_t i = item->head; i < item->all.end; i++) {
        char components[16];
        if (mslc_is(unit, i + 1, ";") || mslc_is(unit, i + 1, ",") || mslc_is(unit, i + 1, "[") ||
            mslc_is(unit, i + 1, "="))
            if (swizzle_of(mslc_at(unit, i), components))
                mslc_insert_after(unit, item->all.end - 1,
                                  mslc_format(unit, " SM_SWIZZLE_MEMBER(%.*s, %s)", (int)mslc_at(unit, i)->length,
                                              mslc_at(unit, i)->text, components));
        if (mslc_at(unit, i)->match > i)
            i = mslc_at(unit, i)->match;
    }
}

/* ---- address spaces
 * ------------------------------------------------------------------------------------------------------------- */

/* constant makes what it qualifies const, unless const or constexpr stands in the same list of specifiers. */
static bool is_const_already(const mslc_unit *unit, int32_t i) {
    for (int32_t k = i - 1; k >= 0 && (mslc_at(unit, k)->kind == MSLC_IDENT || mslc_is(unit, k, "::")); k--) {
        const uint8_t word = mslc_word_at(unit, k);
        if (word == MSLC_W_CONST || word == MSLC_W_CONSTEXPR || word == MSLC_W_CONSTANT)
            return true;
        if (word == MSLC_W_KEYWORD && !mslc_is(unit, k, "typename"))
            break;
    }
    for (int32_t k = i + 1; k < unit->tokens.count; k++) {
        const uint8_t word = mslc_word_at(unit, k);
        if (word == MSLC_W_CONST || word == MSLC_W_CONSTEXPR)
            return true;
        if (mslc_is(unit, k, "<")) {
            const int32_t after = mslc_skip_angles(unit, k, unit->tokens.count);
            if (after < 0)
                return false;
            k = after - 1;
        } else if (mslc_is_attribute(unit, k)) {
            k = mslc_at(unit, k)->match;
        } else if (mslc_at(unit, k)->kind != MSLC_IDENT && !mslc_is(unit, k, "::")) {
            return false;
        }
    }
    return false;
}

/* In Foo() constant {} the word qualifies the object under construction: it goes. */
static void edit_trailing(mslc_unit *unit, const mslc_item *item) {
    const bool constructor = item->scope->is_class && item->name >= 0 && !item->scope->anonymous &&
                             mslc_at(unit, item->name)->symbol == item->scope->class_symbol;
    bool is_const = false;
    for (int32_t i = item->trailing.begin; i < item->trailing.end; i++) {
        if (mslc_word_at(unit, i) == MSLC_W_CONST)
            is_const = true;
        if (mslc_word_at(unit, i) == MSLC_W_CONSTANT && (constructor || is_const))
            mslc_remove(unit, (mslc_range){i, i + 1});
    }
}

/* ---- storage classes
 * -------------------------------------------------------------------------------------------------------------- */

/* A function of a namespace gets internal linkage, so that what is not used costs nothing; specialisations may only be
 * inline. */
static void edit_linkage(mslc_unit *unit, const mslc_item *item) {
    if (item->scope->is_class || item->kind != MSLC_FUNCTION)
        return;
    bool qualified = false, is_static = false, is_inline = false;
    for (int32_t i = item->head; i < item->parameters.begin; i++) {
        if (mslc_at(unit, i)->match > i)
            i = mslc_at(unit, i)->match;
        if (mslc_is(unit, i, "friend") || mslc_is(unit, i, "extern"))
            return;
        is_static = is_static || mslc_is(unit, i, "static");
        is_inline = is_inline || mslc_is(unit, i, "inline") || mslc_is(unit, i, "constexpr");
    }
    if (item->name >= 0 && mslc_is(unit, item->name - 1, "::"))
        qualified = true;
    if (item->name < 0) /* operator: qualified where a :: stands right before the word */
        for (int32_t i = item->head; i < item->parameters.begin; i++)
            qualified = qualified || (mslc_is(unit, i, "::") && mslc_is(unit, i + 1, "operator"));
    if (qualified || item->specialised) {
        if (!is_inline)
            mslc_insert_before(unit, item->head, "inline ");
    } else if (!is_static && mslc_empty(item->header)) {
        mslc_insert_before(unit, item->head, "static ");
    }
}

/* ---- function constants
 * ------------------------------------------------------------------------------------------------------------ */

static bool declares(const mslc_unit *unit, int32_t i) {
    const mslc_token *before = mslc_at(unit, i - 1);
    if (i == 0 || before->kind != MSLC_IDENT || mslc_word_at(unit, i - 1) == MSLC_W_KEYWORD)
        return false;
    static const char *const after[] = {"=", ";", ",", ")", "[", "{", ":"};
    for (size_t k = 0; k < sizeof after / sizeof after[0]; k++)
        if (mslc_is(unit, i + 1, after[k]))
            return true;
    return false;
}

static int32_t constant_at(const mslc_unit *unit, int32_t i) {
    const mslc_token *t = mslc_at(unit, i);
    if (t->kind != MSLC_IDENT || t->removed || mslc_is(unit, i - 1, ".") || mslc_is(unit, i - 1, "->"))
        return -1;
    const int32_t c = unit->symbols.data[t->symbol].constant;
    return c >= 0 && i >= unit->constants.data[c].token ? c : -1; /* before its declaration the name is another's */
}

/* Uses outside the declarations of constants: name() reads the running pipeline's block. A name that the function or
 * class declares itself hides the constant there. */
static void edit_uses(mslc_unit *unit, int32_t region, mslc_range range) {
    for (int32_t i = range.begin; i < range.end; i++)
        if (constant_at(unit, i) >= 0 && declares(unit, i))
            unit->symbols.data[mslc_at(unit, i)->symbol].shadow = region;
    for (int32_t i = range.begin; i < range.end; i++) {
        const int32_t c = constant_at(unit, i);
        if (c < 0 || unit->symbols.data[mslc_at(unit, i)->symbol].shadow == region)
            continue;
        if (mslc_is(unit, i - 1, "(") && mslc_is(unit, i - 2, "is_function_constant_defined"))
            unit->constants.data[c].optional = true;
        else
            mslc_insert_after(unit, i, "()");
    }
}

/* The initialiser of a constant made from others, as a function of sm_block. */
static const char *derived_expression(mslc_unit *unit, mslc_constant *constant) {
    mslc_text text = {0};
    for (int32_t i = constant->initialiser.begin; i < constant->initialiser.end; i++) {
        if (mslc_is(unit, i, "is_function_constant_defined") && constant_at(unit, i + 2) >= 0) {
            mslc_constant *c = &unit->constants.data[constant_at(unit, i + 2)];
            c->optional = true;
            mslc_text_printf(&text, " %s.defined(sm_block)", c->name);
            i += 3;
            continue;
        }
        if (mslc_at(unit, i)->space)
            mslc_text_puts(&text, " ");
        mslc_print(unit, &text, (mslc_range){i, i + 1});
        if (constant_at(unit, i) >= 0)
            mslc_text_puts(&text, ".at(sm_block)");
    }
    const char *kept = mslc_copy(unit, text.data ? text.data : "", text.length);
    free(text.data);
    return kept;
}

static void edit_constants(mslc_unit *unit) {
    int32_t slots = 0;
    for (int32_t c = 0; c < unit->constants.count; c++)
        if (unit->constants.data[c].index >= 0)
            unit->constants.data[c].slot = slots++;
    for (int32_t c = 0; c < unit->constants.count; c++) {
        mslc_constant *constant = &unit->constants.data[c];
        const char *text;
        if (constant->index >= 0) {
            text = mslc_format(unit, "static const ::metal::sm::constant<%s, %d, %d> %s{};", constant->type,
                               32 * constant->slot, 32 * slots + constant->slot, constant->name);
        } else {
            text = mslc_format(unit,
                               "static const struct sm_derived_%s { typedef %s type;"
                               " __attribute__((no_sanitize(\"thread\", \"undefined\")))"
                               " type at(const unsigned char *sm_block) const { return (type)(%s); }"
                               " type operator()() const { return at(::metal::sm::self()->constants); }"
                               " operator type() const { return (*this)(); } } %s{};",
                               constant->name, constant->type, derived_expression(unit, constant), constant->name);
        }
        mslc_remove(unit, constant->declaration);
        unit->tokens.data[constant->declaration.begin].before = text;
    }
}

/* ---- the pass
 * ------------------------------------------------------------------------------------------------------------------------
 */

static void edit_plain(mslc_unit *unit) {
    for (int32_t i = 0; i < unit->tokens.count; i++) {
        const mslc_token *t = mslc_at(unit, i);
        if (mslc_is_attribute(unit, i)) {
            const int32_t end = t->match + 1;
            mslc_remove(unit, (mslc_range){i, end});
            i = end - 1;
            continue;
        }
        if (t->fixed)
            continue;
        if (t->kind == MSLC_NUMBER) {
            edit_number(unit, i);
        } else if (t->kind == MSLC_PUNCT && (mslc_is(unit, i, ".") || mslc_is(unit, i, "->"))) {
            edit_swizzle(unit, i);
        } else if (t->kind == MSLC_IDENT) {
            const uint8_t word = mslc_word_at(unit, i);
            if (word == MSLC_W_CONSTANT && !is_const_already(unit, i))
                mslc_replace(unit, i, "const");
            else if (mslc_is_space_word(word) || word == MSLC_W_KERNEL || word == MSLC_W_STAGE)
                mslc_remove(unit, (mslc_range){i, i + 1});
            else if ((mslc_is(unit, i, "__attribute__") || mslc_is(unit, i, "__attribute")) &&
                     mslc_is(unit, i + 1, "("))
                mslc_remove(unit, (mslc_range){i, mslc_at(unit, i + 1)->match + 1});
        }
    }
}

void mslc_edit_tokens(mslc_unit *unit) {
    for (int32_t i = 0; i < unit->items.count; i++)
        if (unit->items.data[i].kind == MSLC_FUNCTION)
            edit_trailing(unit, &unit->items.data[i]);
    edit_plain(unit);
    for (int32_t i = 0; i < unit->items.count; i++) {
        edit_member(unit, &unit->items.data[i]);
        edit_linkage(unit, &unit->items.data[i]);
    }
    edit_constants(unit);
    if (unit->constants.count)
        for (int32_t i = 0; i < unit->items.count; i++)
            if (unit->items.data[i].region == i)
                edit_uses(unit, i, unit->items.data[i].all);
}
