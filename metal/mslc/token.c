/* Tokens, symbols, and the small questions the passes ask about them. */
#include "internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- symbols
 * ------------------------------------------------------------------------------------------------------------ */

static uint32_t hash_of(const char *text, size_t n) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619u;
    return h;
}

static void grow_table(mslc_unit *unit) {
    const uint32_t size = unit->symbol_table ? 2 * (unit->symbol_mask + 1) : 4096;
    uint32_t *table = calloc(size, sizeof *table);
    if (!table)
        longjmp(unit->fail, ML_ERR_MEMORY);
    free(unit->symbol_table);
    unit->symbol_table = table;
    unit->symbol_mask = size - 1;
    for (int32_t s = 0; s < unit->symbols.count; s++) {
        const char *text = unit->symbols.data[s].text;
        uint32_t at = hash_of(text, strlen(text)) & unit->symbol_mask;
        while (table[at])
            at = (at + 1) & unit->symbol_mask;
        table[at] = (uint32_t)s + 1;
    }
}

uint32_t mslc_intern(mslc_unit *unit, const char *text, size_t n) {
    if (!unit->symbol_table || (uint32_t)unit->symbols.count * 2 > unit->symbol_mask)
        grow_table(unit);
    uint32_t at = hash_of(text, n) & unit->symbol_mask;
    for (; unit->symbol_table[at]; at = (at + 1) & unit->symbol_mask) {
        const char *known = unit->symbols.data[unit->symbol_table[at] - 1].text;
        if (strncmp(known, text, n) == 0 && known[n] == 0)
            return unit->symbol_table[at] - 1;
    }
    mslc_symbol *s = MSLC_PUSH(unit, unit->symbols);
    s->text = mslc_copy(unit, text, n);
    s->entity = s->constant = s->shadow = -1;
    unit->symbol_table[at] = (uint32_t)unit->symbols.count;
    return (uint32_t)unit->symbols.count - 1;
}

static void add_words(mslc_unit *unit, mslc_word word, const char *names) {
    while (*names) {
        const size_t n = strcspn(names, " ");
        const uint32_t symbol = mslc_intern(unit, names, n); /* may move the table */
        unit->symbols.data[symbol].word = (uint8_t)word;
        names += n + (names[n] == ' ');
    }
}

void mslc_add_words(mslc_unit *unit) {
    add_words(unit, MSLC_W_DEVICE, "device");
    add_words(unit, MSLC_W_THREAD, "thread");
    add_words(unit, MSLC_W_THREADGROUP, "threadgroup");
    add_words(unit, MSLC_W_OTHER_SPACE, "threadgroup_imageblock ray_data object_data");
    add_words(unit, MSLC_W_CONSTANT, "constant");
    add_words(unit, MSLC_W_KERNEL, "kernel");
    add_words(unit, MSLC_W_STAGE, "vertex fragment");
    add_words(
        unit, MSLC_W_TYPE,
        "void bool char uchar short ushort int uint long ulong half float bfloat unsigned signed size_t auto double");
    add_words(unit, MSLC_W_KEYWORD,
              "return else case do goto throw new delete sizeof alignof co_return co_yield co_await and or not xor "
              "typename using operator if while for switch");
    add_words(unit, MSLC_W_QUALIFIER,
              "static inline volatile extern register mutable thread_local virtual explicit friend restrict __restrict "
              "struct class union enum");
    add_words(unit, MSLC_W_CONST, "const");
    add_words(unit, MSLC_W_CONSTEXPR, "constexpr");
    static const char *const scopes[] = {"simd_", "quad_", "__metal_simd_", "__metal_quad_"};
    static const char *const operations[] = {"sum",
                                             "product",
                                             "min",
                                             "max",
                                             "and",
                                             "or",
                                             "xor",
                                             "prefix_inclusive_sum",
                                             "prefix_exclusive_sum",
                                             "prefix_inclusive_product",
                                             "prefix_exclusive_product",
                                             "shuffle",
                                             "shuffle_xor",
                                             "shuffle_up",
                                             "shuffle_down",
                                             "shuffle_rotate_up",
                                             "shuffle_rotate_down",
                                             "shuffle_and_fill_up",
                                             "shuffle_and_fill_down",
                                             "broadcast",
                                             "broadcast_first",
                                             "ballot",
                                             "active_threads_mask",
                                             "all",
                                             "any",
                                             "is_first"};
    for (int s = 0; s < 4; s++)
        for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
            add_words(unit, MSLC_W_MEETING, mslc_format(unit, "%s%s", scopes[s], operations[i]));
    add_words(unit, MSLC_W_MEETING,
              "threadgroup_barrier simdgroup_barrier simdgroup_multiply simdgroup_multiply_accumulate");
}

/* ---- tokenising
 * ------------------------------------------------------------------------------------------------------------ */

typedef struct reader {
    const char *p, *end, *line_start;
    uint32_t line, file;
} reader;

static mslc_token *push(mslc_unit *unit, const reader *r, mslc_kind kind, size_t n, bool space) {
    mslc_token *t = MSLC_PUSH(unit, unit->tokens);
    t->text = r->p;
    t->length = (uint32_t)n;
    t->line = r->line;
    t->column = (uint32_t)(r->p - r->line_start) + 1;
    t->file = r->file;
    t->match = -1;
    t->kind = (uint8_t)kind;
    t->space = space;
    return t;
}

/* At a '#' that starts a line: a line marker, or a directive to be dropped (pragmas). */
static void directive(mslc_unit *unit, reader *r) {
    const char *p = r->p + 1, *end = memchr(p, '\n', (size_t)(r->end - p));
    end = end ? end : r->end;
    while (p < end && *p == ' ')
        p++;
    if ((size_t)(end - p) > 5 && memcmp(p, "line ", 5) == 0)
        p += 5;
    if (p < end && isdigit((unsigned char)*p)) {
        char *after;
        const unsigned long line = strtoul(p, &after, 10);
        p = after;
        while (p < end && *p == ' ')
            p++;
        if (p < end && *p == '"') {
            mslc_text name = {0};
            for (p++; p < end && *p != '"'; p++) {
                if (*p == '\\' && p + 1 < end)
                    p++;
                mslc_text_append(&name, p, 1);
            }
            int32_t f = 0;
            while (f < unit->files.count && strcmp(unit->files.data[f], name.data ? name.data : "") != 0)
                f++;
            if (f == unit->files.count) {
                const char *kept = mslc_copy(unit, name.data ? name.data : "", name.length);
                *MSLC_PUSH(unit, unit->files) = kept;
            }
            free(name.data);
            r->file = (uint32_t)f;
        }
        r->line = (uint32_t)line - 1; /* of the line that follows; the newline adds one */
    }
    r->p = end;
}

static size_t number_length(const reader *r) {
    const char *p = r->p;
    while (p < r->end) {
        if ((*p == '+' || *p == '-') && p > r->p) {
            const char e = (char)tolower((unsigned char)p[-1]);
            const bool hex = r->p[0] == '0' && (r->p[1] == 'x' || r->p[1] == 'X');
            if (!(e == 'p' || (e == 'e' && !hex)))
                break;
        } else if (*p == '\'') {
            if (p + 1 == r->end || !isalnum((unsigned char)p[1]))
                break;
        } else if (!isalnum((unsigned char)*p) && *p != '.' && *p != '_') {
            break;
        }
        p++;
    }
    return (size_t)(p - r->p);
}

static size_t quoted_length(mslc_unit *unit, const reader *r) {
    const char quote = *r->p;
    const char *p = r->p + 1;
    while (p < r->end && *p != quote && *p != '\n')
        p += *p == '\\' && p + 1 < r->end ? 2 : 1;
    if (p >= r->end || *p != quote) {
        push(unit, r, MSLC_PUNCT, 1, false);
        mslc_fail(unit, unit->tokens.count - 1, "missing terminating %c character", quote);
    }
    return (size_t)(p + 1 - r->p);
}

/* '>' stands alone, so that each closes one template list. */
static size_t punctuator_length(const reader *r) {
    static const char *const known[] = {"...", "<<=", "->*", "::", "->", "++", "--", "<<", "<=", ">=", "==", "!=",
                                        "&&",  "||",  "+=",  "-=", "*=", "/=", "%=", "&=", "|=", "^=", ".*"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const size_t n = strlen(known[i]);
        if ((size_t)(r->end - r->p) >= n && memcmp(r->p, known[i], n) == 0)
            return n;
    }
    return 1;
}

static void match_brackets(mslc_unit *unit) {
    int depth = 0;
    int32_t open = -1; /* innermost; its match links to the one around it until it is closed */
    for (int32_t i = 0; i < unit->tokens.count; i++) {
        mslc_token *t = &unit->tokens.data[i];
        if (t->kind != MSLC_PUNCT || t->length != 1)
            continue;
        const char c = t->text[0];
        if (c == '(' || c == '[' || c == '{') {
            t->match = open;
            open = i;
            if (++depth > MSLC_MAX_DEPTH)
                mslc_fail(unit, i, "brackets are nested more than %d deep", MSLC_MAX_DEPTH);
        } else if (c == ')' || c == ']' || c == '}') {
            const char want = c == ')' ? '(' : c == ']' ? '[' : '{';
            if (open >= 0 && c == '}' && unit->tokens.data[open].text[0] != want)
                mslc_fail(unit, open, "'%c' is never closed", unit->tokens.data[open].text[0]);
            if (open < 0 || unit->tokens.data[open].text[0] != want)
                mslc_fail(unit, i, "extraneous or mismatched '%c'", c);
            const int32_t outer = unit->tokens.data[open].match;
            unit->tokens.data[open].match = i;
            t->match = open;
            open = outer;
            depth--;
        }
    }
    if (open >= 0)
        mslc_fail(unit, open, "'%c' is never closed", unit->tokens.data[open].text[0]);
}

void mslc_tokenise(mslc_unit *unit, size_t length) {
    *MSLC_PUSH(unit, unit->files) = "program_source";
    reader r = {unit->source, unit->source + length, unit->source, 1, 0};
    bool space = false, first = true;
    while (r.p < r.end) {
        const char c = *r.p;
        if (c == '\n') {
            r.p++;
            r.line++;
            r.line_start = r.p;
            space = first = true;
            continue;
        }
        if (isspace((unsigned char)c)) {
            r.p++;
            space = true;
            continue;
        }
        if (c == '#' && first) {
            directive(unit, &r);
            continue;
        }
        size_t n;
        if (isalpha((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80) {
            for (n = 1; r.p + n < r.end && (isalnum((unsigned char)r.p[n]) || r.p[n] == '_' || r.p[n] == '$' ||
                                            (unsigned char)r.p[n] >= 0x80);)
                n++;
            mslc_token *t = push(unit, &r, MSLC_IDENT, n, space);
            const uint32_t symbol = mslc_intern(unit, r.p, n);
            t = &unit->tokens.data[unit->tokens.count - 1];
            t->symbol = symbol;
        } else if (isdigit((unsigned char)c) || (c == '.' && r.p + 1 < r.end && isdigit((unsigned char)r.p[1]))) {
            n = number_length(&r);
            push(unit, &r, MSLC_NUMBER, n, space);
        } else if (c == '"' || c == '\'') {
            n = quoted_length(unit, &r);
            push(unit, &r, c == '"' ? MSLC_STRING : MSLC_CHAR, n, space);
        } else {
            n = punctuator_length(&r);
            push(unit, &r, MSLC_PUNCT, n, space);
        }
        r.p += n;
        space = first = false;
    }
    match_brackets(unit);
    push(unit, &r, MSLC_END, 0, true);
}

/* ---- questions
 * -------------------------------------------------------------------------------------------------------------- */

bool mslc_is(const mslc_unit *unit, int32_t i, const char *text) {
    if (i < 0 || i >= unit->tokens.count)
        return false;
    const mslc_token *t = mslc_at(unit, i);
    return t->kind != MSLC_STRING && strlen(text) == t->length && memcmp(t->text, text, t->length) == 0;
}

bool mslc_is_space_word(uint8_t word) {
    return word >= MSLC_W_DEVICE && word <= MSLC_W_CONSTANT;
}

bool mslc_is_attribute(const mslc_unit *unit, int32_t i) {
    return mslc_is(unit, i, "[") && mslc_is(unit, i + 1, "[") &&
           mslc_at(unit, i)->match == mslc_at(unit, i + 1)->match + 1;
}

int32_t mslc_skip_angles(const mslc_unit *unit, int32_t i, int32_t end) {
    int depth = 0;
    while (i < end) {
        const mslc_token *t = mslc_at(unit, i);
        if (t->kind == MSLC_PUNCT && t->length == 1) {
            switch (t->text[0]) {
            case '<':
                if (depth == 0 || mslc_at(unit, i - 1)->kind == MSLC_IDENT)
                    depth++;
                break;
            case '>':
                if (--depth == 0)
                    return i + 1;
                break;
            case '(':
            case '[':
            case '{':
                i = t->match;
                break;
            case ')':
            case ']':
            case '}':
            case ';':
                return -1;
            default:
                break;
            }
        } else if (t->kind == MSLC_PUNCT && (mslc_is(unit, i, "&&") || mslc_is(unit, i, "||")) && depth == 1 &&
                   mslc_at(unit, i - 1)->kind == MSLC_NUMBER) {
            return -1; /* a < 8 && ... > */
        }
        i++;
    }
    return -1;
}

int mslc_split(const mslc_unit *unit, mslc_range range, mslc_range *parts, int capacity) {
    int n = 0;
    int32_t begin = range.begin;
    if (mslc_empty(range))
        return 0;
    for (int32_t i = range.begin; i <= range.end; i++) {
        if (i == range.end || mslc_is(unit, i, ",")) {
            if (n < capacity)
                parts[n] = (mslc_range){begin, i};
            n++;
            begin = i + 1;
        } else if (mslc_at(unit, i)->match > i) {
            i = mslc_at(unit, i)->match;
        } else if (mslc_is(unit, i, "<") && i > range.begin && mslc_at(unit, i - 1)->kind == MSLC_IDENT) {
            const int32_t after = mslc_skip_angles(unit, i, range.end);
            if (after > 0)
                i = after - 1;
        }
    }
    return n;
}

/* ---- edits
 * -------------------------------------------------------------------------------------------------------------------
 */

void mslc_insert_before(mslc_unit *unit, int32_t token, const char *text) {
    mslc_token *t = &unit->tokens.data[token];
    t->before = t->before ? mslc_format(unit, "%s%s", t->before, text) : text;
}

void mslc_insert_after(mslc_unit *unit, int32_t token, const char *text) {
    mslc_token *t = &unit->tokens.data[token];
    t->after = t->after ? mslc_format(unit, "%s%s", text, t->after) : text;
}

void mslc_replace(mslc_unit *unit, int32_t token, const char *text) {
    unit->tokens.data[token].instead = text;
    unit->tokens.data[token].fixed = true;
}

void mslc_remove(mslc_unit *unit, mslc_range range) {
    for (int32_t i = range.begin; i < range.end; i++) {
        unit->tokens.data[i].removed = true;
        unit->tokens.data[i].fixed = true;
    }
}
