/* Writing: the translated source with #line directives, and the tables of the module. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- tokens
 * --------------------------------------------------------------------------------------------------------------------
 */

static void print_token(const mslc_token *t, mslc_text *out) {
    if (t->before)
        mslc_text_puts(out, t->before);
    if (!t->removed) {
        if (t->instead)
            mslc_text_puts(out, t->instead);
        else
            mslc_text_append(out, t->text, t->length);
    }
    if (t->after)
        mslc_text_puts(out, t->after);
}

void mslc_print(const mslc_unit *unit, mslc_text *out, mslc_range range) {
    for (int32_t i = range.begin; i < range.end; i++) {
        if (i > range.begin && mslc_at(unit, i)->space)
            mslc_text_puts(out, " ");
        print_token(mslc_at(unit, i), out);
    }
}

typedef struct printer {
    mslc_text *out;
    uint32_t file, line;
    size_t line_start; /* in out */
} printer;

/* Brings the output to the token's file, line and, as far as edits allow, column. */
static void move_to(const mslc_unit *unit, printer *p, const mslc_token *t) {
    if (t->file != p->file || t->line < p->line || t->line > p->line + 8) {
        mslc_text_printf(p->out, "\n#line %u ", t->line);
        mslc_text_quote(p->out, unit->files.data[t->file]);
        mslc_text_puts(p->out, "\n");
        p->file = t->file;
        p->line = t->line;
        p->line_start = p->out->length;
    }
    for (; p->line < t->line; p->line++) {
        mslc_text_puts(p->out, "\n");
        p->line_start = p->out->length;
    }
    const size_t column = p->out->length - p->line_start + 1;
    if (t->column > column && t->column < 400)
        mslc_text_printf(p->out, "%*s", (int)(t->column - column), "");
    else if (t->space)
        mslc_text_puts(p->out, " ");
}

static void print_source(const mslc_unit *unit, mslc_text *out, const bool *skip, const char *const *inserts) {
    printer p = {out, UINT32_MAX, 0, 0};
    for (int32_t i = 0; i < unit->tokens.count - 1; i++) {
        const mslc_token *t = mslc_at(unit, i);
        const bool visible = !skip[i] && !(t->removed && !t->before && !t->after);
        if (visible) {
            move_to(unit, &p, t);
            print_token(t, out);
        }
        if (inserts[i]) {
            move_to(unit, &p, t);
            mslc_text_puts(out, inserts[i]);
        }
    }
    mslc_text_puts(out, "\n");
}

/* ---- tables
 * ----------------------------------------------------------------------------------------------------------------------
 */

static void print_entry(const mslc_kernel *kernel, mslc_text *out) {
    const char *prefix = kernel->scope->prefix;
    mslc_text_printf(out,
                     "typedef ::metal::sm::signature<::metal::remove_cv_t<decltype(%ssm_kernel)>> sm_signature;\n"
                     "__attribute__((no_sanitize(\"thread\", \"undefined\"))) static void sm_entry(sm_thread *sm_t) {\n"
                     "const sm_group *sm_g = sm_t->group; (void)sm_g;\n%ssm_kernel(",
                     prefix, prefix);
    for (int i = 0; i < kernel->info.n_arguments; i++) {
        const sm_argument_info *a = &kernel->info.arguments[i];
        mslc_text_puts(out, i ? ",\n" : "\n");
        if (a->kind != SM_ARGUMENT_BUILTIN) {
            mslc_text_printf(out, "::metal::sm::bind<sm_signature::parameter<%d>>(sm_g->arguments[%d])", i, i);
            continue;
        }
        const char *name = a->builtin;
        mslc_text_printf(out, "::metal::sm::builtin<sm_signature::parameter<%d>>(", i);
        if (strcmp(name, "threads_per_simdgroup") == 0 || strcmp(name, "thread_execution_width") == 0)
            mslc_text_puts(out, "SM_SIMD_WIDTH)");
        else if (strncmp(name, "thread_", 7) == 0)
            mslc_text_printf(out, "sm_t->%s)", name + 7);
        else if (strcmp(name, "simdgroup_index_in_threadgroup") == 0 ||
                 strcmp(name, "quadgroup_index_in_threadgroup") == 0)
            mslc_text_printf(out, "sm_t->%s)", name);
        else
            mslc_text_printf(out, "sm_g->%s)", name);
    }
    mslc_text_puts(out, ");\n}\n");
}

static const mslc_constant *constant_of(const mslc_unit *unit, const char *name) {
    for (int32_t c = 0; c < unit->constants.count; c++)
        if (strcmp(unit->constants.data[c].name, name) == 0)
            return &unit->constants.data[c];
    return NULL;
}

static void print_arguments(const mslc_unit *unit, const mslc_kernel *kernel, mslc_text *out) {
    mslc_text_puts(out, "static const sm_argument sm_arguments[] = {\n");
    for (int i = 0; i < kernel->info.n_arguments; i++) {
        const sm_argument_info *a = &kernel->info.arguments[i];
        if (a->kind == SM_ARGUMENT_BUILTIN)
            mslc_text_puts(out, "::metal::sm::describe_other(SM_ARGUMENT_BUILTIN, -1, ");
        else
            mslc_text_printf(out, "::metal::sm::describe<sm_signature::parameter<%d>>((sm_argument_kind)%d, %d, ", i,
                             (int)a->kind, a->index);
        mslc_text_quote(out, a->name);
        mslc_text_puts(out, ", ");
        mslc_text_quote(out, a->builtin ? a->builtin : a->type);
        if (a->kind == SM_ARGUMENT_BUILTIN) {
            mslc_text_puts(out, "),\n");
            continue;
        }
        const mslc_constant *c = a->condition ? constant_of(unit, a->condition) : NULL;
        mslc_text_printf(out, ", %s, ", a->is_constant ? "true" : "false");
        if (c)
            mslc_text_printf(out,
                             "[](const unsigned char *sm_block) __attribute__((no_sanitize(\"thread\", \"undefined\")))"
                             " -> int { return (int)(bool)%s.at(sm_block); }),\n",
                             c->qualified);
        else
            mslc_text_puts(out, "nullptr),\n");
    }
    mslc_text_puts(out, "sm_argument{}};\n");
}

static void print_constants(const mslc_unit *unit, mslc_text *out) {
    int32_t slots = 0;
    for (int32_t c = 0; c < unit->constants.count; c++)
        slots += unit->constants.data[c].index >= 0;
    mslc_text_puts(out, "static const sm_constant sm_constants[] = {\n");
    for (int32_t c = 0; c < unit->constants.count; c++) {
        const mslc_constant *k = &unit->constants.data[c];
        if (k->index < 0)
            continue;
        mslc_text_printf(out, "{\"%s\", %d, \"%s\", sizeof(decltype(%s)::type), %d, %d, %d},\n", k->name, k->index,
                         k->type, k->qualified, 32 * k->slot, 32 * slots + k->slot, k->optional);
    }
    mslc_text_printf(out, "{}};\n#define SM_CONSTANTS_BYTES %d\n", (33 * slots + 31) / 32 * 32);
}

/* ---- the order of places
 * ------------------------------------------------------------------------------------------------------------ */

typedef struct ranker {
    const mslc_unit *unit;
    bool *visited; /* entities */
    sm_rank *ranks;
    uint32_t n, capacity;
    bool failed;
} ranker;

static void add_rank(ranker *r, const mslc_token *t) {
    const char *file = r->unit->files.data[t->file];
    for (uint32_t i = r->n; i-- > 0;)
        if (r->ranks[i].line == t->line && r->ranks[i].file == file)
            return;
    if (r->n == r->capacity) {
        const uint32_t bigger = r->capacity ? 2 * r->capacity : 64;
        sm_rank *moved = realloc(r->ranks, bigger * sizeof *moved);
        if (!moved) {
            r->failed = true;
            return;
        }
        r->ranks = moved;
        r->capacity = bigger;
    }
    r->ranks[r->n] = (sm_rank){file, t->line, r->n};
    r->n++;
}

/* The meetings and loops of the range in the order of the text, those of a function where it is first called. */
static void rank_range(ranker *r, mslc_range range) {
    for (int32_t i = range.begin; i < range.end; i++) {
        const mslc_token *t = mslc_at(r->unit, i);
        if (t->kind != MSLC_IDENT)
            continue;
        const mslc_symbol *s = &r->unit->symbols.data[t->symbol];
        if (s->word == MSLC_W_MEETING || mslc_is(r->unit, i, "for") || mslc_is(r->unit, i, "while") ||
            mslc_is(r->unit, i, "do"))
            add_rank(r, t);
        for (int32_t e = s->meets ? s->entity : -1; e >= 0; e = r->unit->entities.data[e].next)
            if (!r->visited[e]) {
                r->visited[e] = true;
                rank_range(r, r->unit->entities.data[e].range);
            }
    }
}

static int by_file_and_line(const void *a, const void *b) {
    const sm_rank *x = a, *y = b;
    const int order = strcmp(x->file, y->file);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static void print_ranks(const mslc_unit *unit, const mslc_kernel *kernel, bool *visited, mslc_text *out) {
    ranker r = {unit, visited, NULL, 0, 0, false};
    memset(visited, 0, (size_t)unit->entities.count);
    rank_range(&r, unit->items.data[kernel->item].body);
    if (r.n)
        qsort(r.ranks, r.n, sizeof *r.ranks, by_file_and_line);
    mslc_text_puts(out, "static const sm_rank sm_ranks[] = {\n");
    for (uint32_t i = 0; i < r.n; i++) {
        mslc_text_puts(out, "{");
        mslc_text_quote(out, r.ranks[i].file);
        mslc_text_printf(out, ", %uu, %uu},\n", r.ranks[i].line, r.ranks[i].rank);
    }
    mslc_text_puts(out, "{}};\n");
    out->failed = out->failed || r.failed;
    free(r.ranks);
}

/* ---- a module
 * ------------------------------------------------------------------------------------------------------------------------
 */

/* static constexpr auto sm_kernel = &foo<float>; where the name can be found from. */
static char *kernel_alias(const mslc_unit *unit, const mslc_kernel *kernel) {
    mslc_text text = {0};
    mslc_text_puts(&text, "; static constexpr auto sm_kernel = ");
    if (!mslc_empty(kernel->signature)) {
        mslc_text_puts(&text, "static_cast<void (*)(");
        mslc_print(unit, &text, kernel->signature);
        mslc_text_puts(&text, ")>");
    }
    /* A plain kernel by its full name: the short one may be a function of Metal's as well. */
    mslc_text_printf(&text, "(&%s%s", mslc_empty(kernel->instantiation) ? "::" : "",
                     mslc_empty(kernel->instantiation) ? kernel->scope->prefix : "");
    mslc_print(unit, &text, kernel->expression);
    mslc_text_puts(&text, ");");
    return text.data;
}

/* A kernel that is not wanted, and the aliases of its type (typedef decltype(foo<float>) foo_t). */
static void skip_with_aliases(const mslc_unit *unit, const mslc_item *item, bool *skip) {
    memset(skip + item->all.begin, 1, (size_t)(item->all.end - item->all.begin));
    for (int32_t a = 0; a < unit->aliases.count; a++) {
        const mslc_range alias = unit->aliases.data[a];
        for (int32_t i = alias.begin; i < alias.end && !skip[alias.begin]; i++)
            if (mslc_at(unit, i)->kind == MSLC_IDENT && mslc_at(unit, i)->symbol == mslc_at(unit, item->name)->symbol &&
                !mslc_is(unit, i - 1, "using") && !mslc_is(unit, i + 1, ";"))
                memset(skip + alias.begin, 1, (size_t)(alias.end - alias.begin));
    }
}

/* Kernels that the one asked for does not refer to, and all explicit instantiations of kernels, are left out. */
static void choose(const mslc_unit *unit, const mslc_kernel *kernel, bool *reached, bool *skip) {
    mslc_reach(unit, unit->items.data[kernel->item].all, reached);
    mslc_reach(unit, kernel->instantiation, reached);
    for (int32_t k = 0; k < unit->instantiations.count; k++)
        memset(skip + unit->instantiations.data[k].begin, 1,
               (size_t)(unit->instantiations.data[k].end - unit->instantiations.data[k].begin));
    for (int32_t k = 0; k < unit->kernels.count; k++) {
        const mslc_kernel *other = &unit->kernels.data[k];
        const mslc_item *item = &unit->items.data[other->item];
        bool wanted = other->item == kernel->item;
        for (int32_t e = unit->symbols.data[mslc_at(unit, item->name)->symbol].entity; e >= 0;
             e = unit->entities.data[e].next)
            wanted = wanted || reached[e];
        if (!wanted)
            skip_with_aliases(unit, item, skip);
    }
}

static void print_module(const mslc_unit *unit, const mslc_kernel *kernel, bool *marks, mslc_text *out) {
    mslc_text_puts(out, "\n#line 1 \"" SM_SHIM_FILE "/module\"\n");
    print_entry(kernel, out);
    print_arguments(unit, kernel, out);
    print_constants(unit, out);
    print_ranks(unit, kernel, marks, out);
    mslc_text_puts(out, "static const sm_function sm_functions[] = {{");
    mslc_text_quote(out, kernel->info.name);
    mslc_text_printf(out, ", sm_entry, sm_arguments, %d, %u, ", kernel->info.n_arguments,
                     kernel->info.max_total_threads);
    mslc_text_quote(out, kernel->info.file);
    mslc_text_printf(out, ", %u}};\n#include \"epilogue.h\"\n", kernel->info.line);
}

ml_status mslc_emit(const mslc_unit *unit, int i, char **text, char **message) {
    if (i < 0 || i >= unit->kernels.count)
        return ml_fail(ML_ERR_VALUE, "no kernel number %d", i);
    const mslc_kernel *kernel = &unit->kernels.data[i];
    mslc_text out = {0};
    if (kernel->problem) {
        const mslc_token *t = mslc_at(unit, kernel->problem_token);
        mslc_text_printf(&out, "%s:%u:%u: error: %s\n", unit->files.data[t->file], t->line, t->column, kernel->problem);
        if (out.failed) {
            free(out.data);
            return ml_fail(ML_ERR_MEMORY, "out of memory");
        }
        *message = out.data;
        return ML_ERR_COMPILE;
    }
    ml_status status = ML_ERR_MEMORY;
    bool *skip = calloc((size_t)unit->tokens.count, 1), *reached = calloc((size_t)unit->entities.count + 1, 1);
    const char **inserts = calloc((size_t)unit->tokens.count, sizeof *inserts);
    char *alias = kernel_alias(unit, kernel);
    if (skip && reached && inserts && alias) {
        choose(unit, kernel, reached, skip);
        const mslc_range at = kernel->instantiation;
        if (mslc_empty(at))
            inserts[unit->items.data[kernel->item].all.end - 1] = alias;
        else
            inserts[at.end - 1] = alias;
        print_source(unit, &out, skip, inserts);
        print_module(unit, kernel, reached, &out);
        status = out.failed ? ML_ERR_MEMORY : ML_OK;
    }
    free(alias);
    free(inserts);
    free(reached);
    free(skip);
    if (status != ML_OK) {
        free(out.data);
        return ml_fail(status, "out of memory while translating");
    }
    *text = out.data;
    return ML_OK;
}

/* ---- strict mode
 * ---------------------------------------------------------------------------------------------------------------------
 */

static bool is_in_kernel(const mslc_unit *unit, int32_t i) {
    for (int32_t k = 0; k < unit->kernels.count; k++) {
        const mslc_range body = unit->items.data[unit->kernels.data[k].item].body;
        if (i > body.begin && i < body.end)
            return true;
    }
    return false;
}

static const char *space_of(uint8_t word) {
    static const struct {
        uint8_t word;
        const char *space;
    } spaces[] = {{MSLC_W_DEVICE, "__global"},  {MSLC_W_THREADGROUP, "__local"}, {MSLC_W_CONSTANT, "__constant"},
                  {MSLC_W_THREAD, "__private"}, {MSLC_W_OTHER_SPACE, ""},        {MSLC_W_STAGE, ""},
                  {MSLC_W_KERNEL, ""}};
    for (size_t k = 0; k < sizeof spaces / sizeof spaces[0]; k++)
        if (spaces[k].word == word)
            return spaces[k].space;
    return NULL;
}

static void print_strict(const mslc_unit *unit, int32_t i, mslc_text *out) {
    const mslc_token *t = mslc_at(unit, i);
    const char *space = space_of(mslc_word_at(unit, i));
    if (space) {
        mslc_text_puts(out, space);
        return;
    }
    /* A literal as MSL reads it: without a suffix it is a float. */
    if (t->kind == MSLC_NUMBER && t->instead && t->instead[0] >= '.' && t->instead[0] <= '9')
        mslc_text_puts(out, t->instead);
    else
        mslc_text_append(out, t->text, t->length);
    const int32_t constant = t->kind == MSLC_IDENT ? unit->symbols.data[t->symbol].constant : -1;
    if (constant >= 0 && unit->constants.data[constant].token == i && unit->constants.data[constant].index >= 0)
        mslc_text_puts(out, " = {}");
}

ml_status mslc_emit_strict(const mslc_unit *unit, char **text) {
    mslc_text out = {0};
    printer p = {&out, UINT32_MAX, 0, 0};
    int32_t next = 0; /* threadgroup variables, in order of the source */
    for (int32_t i = 0; i < unit->tokens.count - 1; i++) {
        if (mslc_is_attribute(unit, i)) {
            i = mslc_at(unit, i)->match;
            continue;
        }
        move_to(unit, &p, mslc_at(unit, i));
        const mslc_variable *v = next < unit->variables.count ? &unit->variables.data[next] : NULL;
        if (!v || i < v->begin || !is_in_kernel(unit, v->begin)) {
            print_strict(unit, i, &out);
            while (next < unit->variables.count && unit->variables.data[next].semicolon == i)
                next++;
            continue;
        }
        /* Kernels are plain functions here, which may not have __local variables, but references to them. */
        int32_t last = next;
        while (last + 1 < unit->variables.count && unit->variables.data[last + 1].semicolon == v->semicolon)
            last++;
        if (i == v->begin)
            mslc_text_puts(&out, "typedef ");
        int32_t named = next;
        while (named <= last && unit->variables.data[named].name != i)
            named++;
        if (named <= last)
            mslc_text_printf(&out, "sm_T%d", unit->variables.data[named].number);
        else if (i != v->word)
            print_strict(unit, i, &out);
        if (i != v->semicolon)
            continue;
        for (; next <= last; next++) {
            const mslc_token *name = mslc_at(unit, unit->variables.data[next].name);
            const int number = unit->variables.data[next].number;
            mslc_text_printf(&out, " __local sm_T%d &%.*s = *(__local sm_T%d *)0;", number, (int)name->length,
                             name->text, number);
        }
    }
    mslc_text_puts(&out, "\n");
    if (out.failed) {
        free(out.data);
        return ml_fail(ML_ERR_MEMORY, "out of memory while translating");
    }
    *text = out.data;
    return ML_OK;
}
