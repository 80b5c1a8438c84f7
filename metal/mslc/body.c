/* Function bodies: threadgroup variables, loops in which lanes may meet, several meetings on one line. */
#include "internal.h"

#include <stdlib.h>

static int32_t statement(mslc_unit *unit, int32_t i, int32_t end);
static int32_t edit_statement(mslc_unit *unit, int32_t i, int32_t end);

/* ---- threadgroup variables
 * ------------------------------------------------------------------------------------------------- */

/* threadgroup T a[n], b;  becomes  typedef T sm_T1[n], sm_T2; struct ...; sm_T1 &a = ...; sm_T2 &b = ...;  A
 * declaration of pointers to threadgroup memory only loses the word. word: the token 'threadgroup'; end: that of the
 * enclosing block. */
static void threadgroup_declaration(mslc_unit *unit, int32_t begin, int32_t word, int32_t end) {
    int32_t semicolon = word;
    while (semicolon < end && !mslc_is(unit, semicolon, ";")) {
        const int32_t match = mslc_at(unit, semicolon)->match;
        semicolon = match > semicolon ? match + 1 : semicolon + 1;
    }
    mslc_range parts[32];
    const int n = mslc_split(unit, (mslc_range){word + 1, semicolon}, parts, 32);
    if (n < 1 || n > 32)
        return;
    mslc_parameter declarators[32];
    for (int i = 0; i < n; i++) {
        for (int32_t k = parts[i].begin; k < parts[i].end; k++) {
            const int32_t inner = k + mslc_is(unit, k, "("); /* (*name)[n] */
            if (mslc_is(unit, inner, "*") || mslc_is(unit, inner, "&"))
                return;
            if (mslc_is(unit, k, "<")) {
                const int32_t after = mslc_skip_angles(unit, k, parts[i].end);
                k = after > 0 ? after - 1 : k;
            } else if (mslc_at(unit, k)->match > k) {
                k = mslc_at(unit, k)->match;
            }
        }
        if (i == 0)
            mslc_read_parameter(unit, parts[i], &declarators[i]);
        else
            declarators[i] = (mslc_parameter){parts[i], parts[i].begin, {parts[i].end, parts[i].end}};
        if (declarators[i].name < 0)
            return; /* an expression after all */
        const int32_t last = parts[i].end - 1;
        if (declarators[i].value.begin < parts[i].end || mslc_is(unit, last, "}") || mslc_is(unit, last, ")"))
            mslc_fail(unit, declarators[i].name, "a threadgroup variable cannot have an initialiser");
    }
    mslc_text names = {0};
    for (int i = 0; i < n; i++) {
        const mslc_token *t = mslc_at(unit, declarators[i].name);
        const int site = unit->sites++;
        const char *name = unit->symbols.data[t->symbol].text;
        mslc_text_printf(
            &names, " struct sm_G%d { static const char *name() { return \"%s\"; } static const char *file() { return ",
            site, name);
        mslc_text_quote(&names, unit->files.data[t->file]);
        mslc_text_printf(&names,
                         "; } static unsigned line() { return %uu; } };"
                         " sm_T%d &%s = ::metal::sm::threadgroup_variable<sm_T%d, sm_G%d>();",
                         t->line, site, name, site, site);
        mslc_replace(unit, declarators[i].name, mslc_format(unit, "sm_T%d", site));
        *MSLC_PUSH(unit, unit->variables) = (mslc_variable){begin, word, declarators[i].name, semicolon, site};
    }
    for (int32_t k = begin; k < word; k++)
        if (mslc_word_at(unit, k) == MSLC_W_QUALIFIER)
            mslc_remove(unit, (mslc_range){k, k + 1});
    mslc_remove(unit, (mslc_range){word, word + 1});
    mslc_insert_before(unit, begin, "typedef ");
    mslc_insert_after(unit, semicolon, mslc_copy(unit, names.data ? names.data : "", names.length));
    free(names.data);
}

/* ---- loops
 * ------------------------------------------------------------------------------------------------------------------ */

static bool may_meet(const mslc_unit *unit, mslc_range range) {
    for (int32_t i = range.begin; i < range.end; i++) {
        const mslc_token *t = mslc_at(unit, i);
        if (t->kind == MSLC_IDENT &&
            (unit->symbols.data[t->symbol].meets || unit->symbols.data[t->symbol].word == MSLC_W_MEETING))
            return true;
    }
    return false;
}

/* The statement at begin is a loop with the given body. Written so that it remains one statement. Called before the
 * body is looked at, so that what stands outside comes first. */
static void instrument_loop(mslc_unit *unit, int32_t begin, int32_t body) {
    mslc_insert_before(unit, begin,
                       mslc_format(unit, "if (::metal::sm::loop sm_l{%uu}; 0) {} else ", mslc_at(unit, begin)->line));
    mslc_insert_before(unit, body, "if (sm_l.step(), 0) {} else ");
}

static void enter(mslc_unit *unit, int32_t i) {
    if (++unit->depth > MSLC_MAX_DEPTH)
        mslc_fail(unit, i, "statements are nested more than %d deep", MSLC_MAX_DEPTH);
}

static int32_t find_end(mslc_unit *unit, int32_t i, int32_t end);

/* After the statement at i, without edits: to know what a loop contains before it is edited. */
static int32_t statement_end(mslc_unit *unit, int32_t i, int32_t end) {
    if (i >= end)
        return end;
    enter(unit, i);
    const int32_t after = find_end(unit, i, end);
    unit->depth--;
    return after;
}

static int32_t find_end(mslc_unit *unit, int32_t i, int32_t end) {
    if (mslc_is_attribute(unit, i))
        return statement_end(unit, mslc_at(unit, i)->match + 1, end);
    if (mslc_is(unit, i, "{"))
        return mslc_at(unit, i)->match + 1;
    if (mslc_is(unit, i, "do")) {
        int32_t k = statement_end(unit, i + 1, end);
        if (mslc_is(unit, k, "while") && mslc_is(unit, k + 1, "("))
            k = mslc_at(unit, k + 1)->match + 1;
        return k + 1;
    }
    const bool is_if = mslc_is(unit, i, "if");
    if (is_if || mslc_is(unit, i, "for") || mslc_is(unit, i, "while") || mslc_is(unit, i, "switch")) {
        int32_t k = i + 1 + mslc_is(unit, i + 1, "constexpr");
        if (!mslc_is(unit, k, "("))
            return end;
        k = statement_end(unit, mslc_at(unit, k)->match + 1, end);
        return is_if && mslc_is(unit, k, "else") ? statement_end(unit, k + 1, end) : k;
    }
    for (int32_t k = i; k < end; k++) {
        if (mslc_is(unit, k, ";"))
            return k + 1;
        if (mslc_at(unit, k)->match > k)
            k = mslc_at(unit, k)->match;
    }
    return end;
}

/* ---- statements
 * -------------------------------------------------------------------------------------------------------------- */

static void block(mslc_unit *unit, int32_t open) {
    const int32_t end = mslc_at(unit, open)->match;
    for (int32_t i = open + 1; i < end;)
        i = statement(unit, i, end);
}

/* ---- designated array elements
 * ------------------------------------------------------------------------------------------------ */

static bool is_designator(const mslc_unit *unit, int32_t i) {
    return mslc_is(unit, i, "[") && mslc_is(unit, mslc_at(unit, i)->match + 1, "=") &&
           (mslc_is(unit, i - 1, "{") || mslc_is(unit, i - 1, ","));
}

/* T a[n] = {x, [k] = y, [l ... m] = z};  (C has it, clang takes it in C++ too, g++ does not) becomes
 * T a[n] = {x}; metal::sm::elements(a, k) = y; metal::sm::elements(a, l, m) = z;  open: the '{'; end: after the
 * statement. */
static void designated(mslc_unit *unit, int32_t open, int32_t end) {
    const int32_t close = mslc_at(unit, open)->match;
    int32_t first = open + 1;
    while (first < close && !is_designator(unit, first))
        first = mslc_at(unit, first)->match > first ? mslc_at(unit, first)->match + 1 : first + 1;
    if (first >= close)
        return;
    int32_t name = open - 1 - mslc_is(unit, open - 1, "=");
    while (mslc_is(unit, name, "]"))
        name = mslc_at(unit, name)->match - 1;
    if (mslc_at(unit, name)->kind != MSLC_IDENT)
        return;
    if (close + 2 != end || !mslc_is(unit, close + 1, ";"))
        mslc_fail(unit, first, "an array with designated elements needs a declaration of its own");
    const char *array = unit->symbols.data[mslc_at(unit, name)->symbol].text;
    for (int32_t k = first; k < close; k++) {
        if (is_designator(unit, k)) {
            if (mslc_is(unit, k - 1, ","))
                mslc_remove(unit, (mslc_range){k - 1, k});
            mslc_insert_before(unit, k,
                               mslc_format(unit, "%s; ::metal::sm::elements(%s, ", k == first ? "}" : "", array));
            const int32_t after = mslc_at(unit, k)->match;
            for (int32_t r = k; r < after; r++)
                if (mslc_is(unit, r, "..."))
                    mslc_replace(unit, r, ",");
            mslc_remove(unit, (mslc_range){k, k + 1});
            mslc_replace(unit, after, ")");
            k = after + 1;
        } else if (mslc_is(unit, k, ",") && k + 1 < close && !is_designator(unit, k + 1)) {
            mslc_fail(unit, k + 1, "elements without a designator must come first in this list");
        } else if (mslc_at(unit, k)->match > k) {
            k = mslc_at(unit, k)->match;
        }
    }
    if (mslc_is(unit, close - 1, ","))
        mslc_remove(unit, (mslc_range){close - 1, close});
    mslc_remove(unit, (mslc_range){close, close + 1});
}

/* An expression or declaration: only the bodies of lambdas and local classes in it matter. */
static int32_t simple_statement(mslc_unit *unit, int32_t i, int32_t end) {
    const int32_t after = statement_end(unit, i, end);
    for (int32_t k = i; k < after; k++)
        if (mslc_is(unit, k, "{")) {
            if (mslc_is(unit, k - 1, ")") || mslc_is(unit, k - 1, "]") || mslc_is(unit, k - 1, "const") ||
                mslc_is(unit, k - 1, "mutable"))
                block(unit, k);
            else if (mslc_is(unit, k - 1, "="))
                designated(unit, k, after);
            else if (mslc_word_at(unit, i) == MSLC_W_QUALIFIER)
                continue; /* the members of a local class */
            k = mslc_at(unit, k)->match;
        }
    return after;
}

static int32_t statement(mslc_unit *unit, int32_t i, int32_t end) {
    enter(unit, i);
    const int32_t after = edit_statement(unit, i, end);
    unit->depth--;
    return after;
}

static int32_t edit_statement(mslc_unit *unit, int32_t i, int32_t end) {
    if (mslc_is_attribute(unit, i))
        return statement(unit, mslc_at(unit, i)->match + 1, end);
    if (mslc_is(unit, i, "{")) {
        block(unit, i);
        return mslc_at(unit, i)->match + 1;
    }
    if (mslc_is(unit, i, "case") || mslc_is(unit, i, "default")) {
        while (i < end && !mslc_is(unit, i, ":"))
            i++;
        return i + 1;
    }
    if (mslc_is(unit, i, "do")) {
        const int32_t after = statement_end(unit, i, end);
        if (may_meet(unit, (mslc_range){i, after}))
            instrument_loop(unit, i, i + 1);
        statement(unit, i + 1, end);
        return after;
    }
    const bool is_if = mslc_is(unit, i, "if"), is_loop = mslc_is(unit, i, "for") || mslc_is(unit, i, "while");
    if (is_if || is_loop || mslc_is(unit, i, "switch")) {
        const int32_t open = i + 1 + mslc_is(unit, i + 1, "constexpr");
        if (!mslc_is(unit, open, "("))
            mslc_fail(unit, i, "expected '(' here");
        int32_t k = mslc_at(unit, open)->match + 1;
        while (mslc_is_attribute(unit, k))
            k = mslc_at(unit, k)->match + 1;
        if (is_loop && may_meet(unit, (mslc_range){i, statement_end(unit, i, end)}))
            instrument_loop(unit, i, k);
        k = statement(unit, k, end);
        return is_if && mslc_is(unit, k, "else") ? statement(unit, k + 1, end) : k;
    }
    int32_t word = i;
    while (mslc_word_at(unit, word) == MSLC_W_QUALIFIER || mslc_is(unit, word, "alignas"))
        word += mslc_is(unit, word, "alignas") ? mslc_at(unit, word + 1)->match - word + 1 : 1;
    if (mslc_word_at(unit, word) == MSLC_W_THREADGROUP) {
        threadgroup_declaration(unit, i, word, end);
        return statement_end(unit, i, end);
    }
    return simple_statement(unit, i, end);
}

/* ---- several meetings on one line
 * --------------------------------------------------------------------------------------------- */

/* Wraps the first argument of the call whose name is at i. */
static void mark_call(mslc_unit *unit, int32_t i, int number) {
    int32_t open = i + 1;
    if (mslc_is(unit, open, "<")) {
        const int32_t after = mslc_skip_angles(unit, open, unit->tokens.count);
        open = after > 0 ? after : open;
    }
    if (!mslc_is(unit, open, "("))
        return;
    mslc_range first;
    const mslc_range inside = {open + 1, mslc_at(unit, open)->match};
    if (mslc_split(unit, inside, &first, 1) < 1)
        return;
    mslc_insert_before(unit, first.begin, mslc_format(unit, "::metal::sm::marked<%d>(", number));
    mslc_insert_after(unit, first.end - 1, ")");
}

static void mark_lines(mslc_unit *unit, mslc_range body) {
    for (int32_t i = body.begin; i < body.end;) {
        const mslc_token *line = mslc_at(unit, i);
        int calls = 0;
        int32_t k = i;
        for (; k < body.end && mslc_at(unit, k)->line == line->line && mslc_at(unit, k)->file == line->file; k++)
            calls += mslc_word_at(unit, k) == MSLC_W_MEETING;
        int number = 0;
        for (int32_t c = i; c < k && calls > 1; c++)
            if (mslc_word_at(unit, c) == MSLC_W_MEETING)
                mark_call(unit, c, ++number);
        i = k;
    }
}

void mslc_edit_bodies(mslc_unit *unit) {
    for (int32_t i = 0; i < unit->items.count; i++) {
        const mslc_item *item = &unit->items.data[i];
        if (item->kind != MSLC_FUNCTION || mslc_empty(item->body))
            continue;
        mark_lines(unit, item->body);
        block(unit, item->body.begin);
    }
}
