/* The list of kernels: names, parameters and how they are bound, constants they can reach. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static const char *const builtins[] = {"thread_position_in_grid",
                                       "thread_position_in_threadgroup",
                                       "thread_index_in_threadgroup",
                                       "thread_index_in_simdgroup",
                                       "thread_index_in_quadgroup",
                                       "simdgroup_index_in_threadgroup",
                                       "quadgroup_index_in_threadgroup",
                                       "threadgroup_position_in_grid",
                                       "threads_per_threadgroup",
                                       "dispatch_threads_per_threadgroup",
                                       "threads_per_grid",
                                       "threadgroups_per_grid",
                                       "grid_origin",
                                       "grid_size",
                                       "simdgroups_per_threadgroup",
                                       "dispatch_simdgroups_per_threadgroup",
                                       "quadgroups_per_threadgroup",
                                       "dispatch_quadgroups_per_threadgroup",
                                       "threads_per_simdgroup",
                                       "thread_execution_width"};

/* ---- names and types
 * -------------------------------------------------------------------------------------------------------- */

static const char *string_value(mslc_unit *unit, mslc_range range) {
    for (int32_t i = range.begin; i < range.end; i++)
        if (mslc_at(unit, i)->kind != MSLC_STRING)
            mslc_fail(unit, i, "host_name needs a string");
    mslc_text text = {0};
    for (int32_t i = range.begin; i < range.end; i++) {
        const mslc_token *t = mslc_at(unit, i);
        for (uint32_t k = 1; k + 1 < t->length; k++) {
            k += t->text[k] == '\\' && k + 2 < t->length;
            mslc_text_append(&text, t->text + k, 1);
        }
    }
    const char *kept = mslc_copy(unit, text.data ? text.data : "", text.length);
    free(text.data);
    return kept;
}

/* The element type as written, without address spaces, const and the declarator, template arguments put in. */
static const char *type_text(mslc_unit *unit, const mslc_parameter *p, const mslc_substitution *with) {
    mslc_text text = {0};
    for (int32_t i = p->range.begin; i < p->value.begin; i++) {
        const mslc_token *t = mslc_at(unit, i);
        if (mslc_is_attribute(unit, i) || mslc_is(unit, i, "[")) {
            i = t->match;
            continue;
        }
        if (i == p->name || mslc_is(unit, i, "*") || mslc_is(unit, i, "&") || (mslc_is(unit, i, "(") && text.length))
            break;
        const uint8_t word = mslc_word_at(unit, i);
        if (mslc_is_space_word(word) || word == MSLC_W_CONST || word == MSLC_W_QUALIFIER ||
            mslc_is(unit, i, "typename"))
            continue;
        mslc_range value;
        if (text.length && t->space && mslc_at(unit, i - 1)->kind == MSLC_IDENT && t->kind == MSLC_IDENT)
            mslc_text_puts(&text, " ");
        if (t->kind == MSLC_IDENT && mslc_substitute(unit, with, t->symbol, &value)) {
            for (int32_t k = value.begin; k < value.end; k++)
                mslc_text_append(&text, mslc_at(unit, k)->text, mslc_at(unit, k)->length);
        } else {
            mslc_text_append(&text, t->text, t->length);
        }
    }
    const char *kept = mslc_copy(unit, text.data ? text.data : "", text.length);
    free(text.data);
    return kept;
}

/* ---- parameters
 * ---------------------------------------------------------------------------------------------------------------- */

typedef struct binder {
    uint64_t used[5];   /* per kind, indices 0 to 63 */
    uint64_t always[5]; /* by parameters that no function constant takes away */
    const mslc_substitution *with;
} binder;

static void problem(mslc_kernel *kernel, int32_t token, const char *text) {
    if (!kernel->problem) {
        kernel->problem = text;
        kernel->problem_token = token;
    }
}

/* True where the parameter says or takes its index; false: to be numbered. */
static bool bind_one(mslc_unit *unit, mslc_kernel *kernel, const mslc_parameter *p, binder *b, sm_argument_info *out) {
    static const char *const kinds[] = {"buffer", "threadgroup", "", "texture", "sampler"};
    mslc_attributes attributes;
    mslc_read_attributes(unit, p->range, &attributes);
    bool has_threadgroup = false, is_const = false, declarator = false;
    for (int32_t i = p->range.begin; i < p->value.begin; i++) {
        const uint8_t word = mslc_word_at(unit, i);
        if (mslc_is_attribute(unit, i) || mslc_is(unit, i, "[")) {
            /* An array parameter is a pointer. */
            out->is_pointer = out->is_pointer || (!mslc_is_attribute(unit, i) && !out->is_reference);
            i = mslc_at(unit, i)->match;
            continue;
        }
        if (mslc_is(unit, i, "<")) {
            const int32_t after = mslc_skip_angles(unit, i, p->value.begin);
            i = after > 0 ? after - 1 : i;
            continue;
        }
        out->is_pointer = out->is_pointer || mslc_is(unit, i, "*");
        out->is_reference = out->is_reference || mslc_is(unit, i, "&");
        declarator = out->is_pointer || out->is_reference;
        out->is_constant = out->is_constant || (word == MSLC_W_CONSTANT && !declarator);
        has_threadgroup = has_threadgroup || word == MSLC_W_THREADGROUP;
        is_const = is_const || (!declarator && (word == MSLC_W_CONST || word == MSLC_W_CONSTANT));
    }
    out->name = p->name >= 0 ? unit->symbols.data[mslc_at(unit, p->name)->symbol].text : "";
    out->type = type_text(unit, p, b->with);
    out->access = is_const ? SM_MODE_READ : SM_MODE_READ_WRITE;
    out->index = -1;
    if (attributes.has_function_constant) {
        const int32_t last = attributes.function_constant.end - 1;
        const mslc_token *t = mslc_at(unit, last);
        if (t->kind != MSLC_IDENT || unit->symbols.data[t->symbol].constant < 0)
            mslc_fail(unit, last, "this is no function constant");
        out->condition = unit->symbols.data[t->symbol].text;
    }
    const int32_t at = p->name >= 0 ? p->name : p->range.begin;
    for (int k = 0; attributes.binding && k < 5; k++) {
        if (strcmp(attributes.binding, kinds[k]) != 0)
            continue;
        bool ok = false;
        const int64_t index = mslc_evaluate(unit, attributes.index, b->with, &ok);
        out->kind = (sm_argument_kind)k;
        if (!ok || index < 0 || index > 127) {
            problem(kernel, at, "the index of this parameter is no plain number");
            return true;
        }
        out->index = (int32_t)index;
        if (k < 2 && index > 30)
            problem(kernel, at, "indices of buffers and threadgroup memory go from 0 to 30");
        if (index < 64) {
            const uint64_t bit = (uint64_t)1 << index;
            if (b->always[k] & bit && !out->condition)
                problem(kernel, at, "another parameter has this index, too");
            b->used[k] |= bit;
            b->always[k] |= out->condition ? 0 : bit;
        }
        return true;
    }
    if (attributes.binding) {
        for (size_t k = 0; k < sizeof builtins / sizeof builtins[0]; k++)
            if (strcmp(attributes.binding, builtins[k]) == 0) {
                out->kind = SM_ARGUMENT_BUILTIN;
                out->builtin = builtins[k];
                return true;
            }
        problem(kernel, at, mslc_format(unit, "[[%s]] is not modelled by the software Metal", attributes.binding));
        out->kind = SM_ARGUMENT_BUILTIN;
        out->builtin = attributes.binding;
        return true;
    }
    if (strncmp(out->type, "texture", 7) == 0 || strncmp(out->type, "metal::texture", 14) == 0 ||
        strncmp(out->type, "depth", 5) == 0) {
        out->kind = SM_ARGUMENT_TEXTURE;
    } else if (strcmp(out->type, "sampler") == 0 || strcmp(out->type, "metal::sampler") == 0) {
        out->kind = SM_ARGUMENT_SAMPLER;
    } else if (out->is_pointer || out->is_reference) {
        out->kind = has_threadgroup ? SM_ARGUMENT_THREADGROUP : SM_ARGUMENT_BUFFER;
    } else {
        problem(kernel, at,
                "a kernel parameter that is passed by value needs an attribute such as [[thread_position_in_grid]]");
        out->kind = SM_ARGUMENT_BUILTIN;
        out->builtin = "";
        return true;
    }
    return false;
}

static void list_parameters(mslc_unit *unit, mslc_kernel *kernel, const mslc_substitution *with) {
    const mslc_range all = unit->items.data[kernel->item].parameters;
    int n = mslc_split(unit, all, NULL, 0);
    if (n == 1 && mslc_is(unit, all.begin, "void") && all.end == all.begin + 1)
        n = 0;
    mslc_range *parts = mslc_alloc(unit, (size_t)(n + 1) * sizeof *parts);
    sm_argument_info *arguments = mslc_alloc(unit, (size_t)(n + 1) * sizeof *arguments);
    bool *numbered = mslc_alloc(unit, (size_t)(n + 1) * sizeof *numbered);
    mslc_split(unit, all, parts, n);
    binder b = {.with = with};
    for (int i = 0; i < n; i++) {
        mslc_parameter p;
        mslc_read_parameter(unit, parts[i], &p);
        numbered[i] = bind_one(unit, kernel, &p, &b, &arguments[i]);
        const int32_t at = p.name >= 0 ? p.name : p.range.begin;
        if (arguments[i].kind == SM_ARGUMENT_TEXTURE || arguments[i].kind == SM_ARGUMENT_SAMPLER)
            problem(kernel, at, "textures and samplers are not modelled by the software Metal");
        for (int32_t k = 0; k < unit->argument_buffers.count; k++)
            if (strcmp(unit->symbols.data[unit->argument_buffers.data[k]].text, arguments[i].type) == 0)
                problem(kernel, at, "argument buffers ([[id(n)]]) are not modelled by the software Metal");
    }
    for (int i = 0; i < n; i++)
        if (!numbered[i]) {
            uint64_t *used = &b.used[arguments[i].kind];
            int32_t index = 0;
            while (index < 63 && (*used >> index & 1))
                index++;
            *used |= (uint64_t)1 << index;
            arguments[i].index = index;
        }
    kernel->info.arguments = arguments;
    kernel->info.n_arguments = n;
}

/* ---- constants
 * ------------------------------------------------------------------------------------------------------------------ */

static void list_constants(mslc_unit *unit, mslc_kernel *kernel) {
    if (!unit->constants.count)
        return;
    for (int32_t k = 0; k < unit->kernels.count; k++) /* another instantiation of the same template knows */
        if (unit->kernels.data[k].item == kernel->item && unit->kernels.data[k].info.constants) {
            kernel->info.constants = unit->kernels.data[k].info.constants;
            kernel->info.n_constants = unit->kernels.data[k].info.n_constants;
            return;
        }
    bool *reached = mslc_alloc(unit, (size_t)unit->entities.count + 1);
    mslc_reach(unit, unit->items.data[kernel->item].all, reached);
    sm_constant_info *list = mslc_alloc(unit, (size_t)unit->constants.count * sizeof *list);
    for (int32_t c = 0; c < unit->constants.count; c++) {
        const mslc_constant *constant = &unit->constants.data[c];
        bool used = false;
        for (int32_t e = unit->symbols.data[mslc_at(unit, constant->token)->symbol].entity; e >= 0;
             e = unit->entities.data[e].next)
            used = used || reached[e];
        if (used && constant->index >= 0)
            list[kernel->info.n_constants++] =
                (sm_constant_info){constant->name, constant->index, constant->type, constant->optional};
    }
    kernel->info.constants = list;
}

/* ---- kernels
 * ----------------------------------------------------------------------------------------------------------------------
 */

static bool is_kernel(mslc_unit *unit, const mslc_item *item, mslc_attributes *attributes) {
    if (item->kind != MSLC_FUNCTION || item->scope->is_class || item->name < 0 || mslc_empty(item->body))
        return false;
    mslc_attributes behind;
    mslc_read_attributes(unit, (mslc_range){item->all.begin, item->parameters.begin - 1}, attributes);
    mslc_read_attributes(unit, item->trailing, &behind);
    if (mslc_empty(attributes->max_total_threads))
        attributes->max_total_threads = behind.max_total_threads;
    bool kernel = attributes->kernel || behind.kernel;
    for (int32_t i = item->head; i < item->name && !kernel; i++)
        kernel = mslc_word_at(unit, i) == MSLC_W_KERNEL;
    return kernel;
}

static void complete(mslc_unit *unit, mslc_kernel *kernel, const char *name, mslc_range threads) {
    const mslc_item *item = &unit->items.data[kernel->item];
    mslc_substitution with = {{0, 0}, {0, 0}};
    if (!mslc_empty(item->header))
        with.header = item->header;
    for (int32_t i = kernel->expression.begin; i < kernel->expression.end; i++)
        if (mslc_is(unit, i, "<")) {
            with.arguments = (mslc_range){i + 1, kernel->expression.end - 1};
            break;
        }
    const mslc_token *t = mslc_at(unit, item->name);
    kernel->info.name = name;
    kernel->info.file = unit->files.data[t->file];
    kernel->info.line = t->line;
    bool ok = false;
    const int64_t limit = mslc_empty(threads) ? 0 : mslc_evaluate(unit, threads, &with, &ok);
    kernel->too_many_threads = ok && limit > 1024;
    kernel->info.max_total_threads = ok && limit > 0 && limit <= 1024 ? (uint32_t)limit : 0;
    list_parameters(unit, kernel, &with);
    list_constants(unit, kernel);
}

/* foo<float>, ns::foo<1, 2> or foo: the declarator of an explicit instantiation. */
static void read_declarator(mslc_unit *unit, mslc_kernel *kernel) {
    int32_t name = -1, start = -1, i = kernel->instantiation.begin + 1;
    for (; i < kernel->instantiation.end && !mslc_is(unit, i, ";") && !mslc_is(unit, i, "("); i++) {
        if (mslc_is_attribute(unit, i)) {
            i = mslc_at(unit, i)->match;
        } else if (mslc_is(unit, i, "decltype") && mslc_is(unit, i + 1, "(")) {
            i = mslc_at(unit, i + 1)->match;
        } else if (mslc_at(unit, i)->kind == MSLC_IDENT) {
            const bool qualified = mslc_is(unit, i - 1, "::");
            /* void ::a::f<float>: the :: is the first of the name, where what stands before it is no name. */
            if (!qualified || mslc_word_at(unit, i - 2) != MSLC_W_NONE ||
                (mslc_at(unit, i - 2)->kind != MSLC_IDENT && !mslc_is(unit, i - 2, ">")))
                start = i - qualified;
            name = i;
        } else if (mslc_is(unit, i, "<")) {
            const int32_t after = mslc_skip_angles(unit, i, kernel->instantiation.end);
            if (after < 0)
                mslc_fail(unit, i, "this template argument list does not end");
            i = after - 1;
        }
    }
    if (name < 0)
        mslc_fail(unit, kernel->instantiation.begin, "this instantiation names no function");
    kernel->expression = (mslc_range){start, i};
    if (mslc_is(unit, i, "(") && i == name + 1)
        kernel->signature = (mslc_range){i + 1, mslc_at(unit, i)->match};
    /* The definition: a kernel template of that name. */
    kernel->item = -1;
    for (int32_t k = 0; k < unit->items.count && kernel->item < 0; k++) {
        const mslc_item *item = &unit->items.data[k];
        mslc_attributes unused;
        if (item->name >= 0 && mslc_at(unit, item->name)->symbol == mslc_at(unit, name)->symbol &&
            !mslc_empty(item->header) && !item->specialised && is_kernel(unit, item, &unused))
            kernel->item = k;
    }
    if (kernel->item < 0)
        mslc_fail(unit, name, "no kernel template of this name has been defined");
}

static int by_place(const void *a, const void *b) {
    const mslc_kernel *x = a, *y = b;
    return (x->instantiation.begin > y->instantiation.begin) - (x->instantiation.begin < y->instantiation.begin);
}

static int by_name(const void *a, const void *b) {
    const mslc_kernel *const *x = a, *const *y = b;
    const int order = strcmp((*x)->info.name, (*y)->info.name);
    return order ? order : by_place(*x, *y);
}

static void refuse_duplicates(mslc_unit *unit) {
    const mslc_kernel **sorted = mslc_alloc(unit, (size_t)(unit->kernels.count + 1) * sizeof *sorted);
    for (int32_t k = 0; k < unit->kernels.count; k++)
        sorted[k] = &unit->kernels.data[k];
    qsort(sorted, (size_t)unit->kernels.count, sizeof *sorted, by_name);
    for (int32_t k = 1; k < unit->kernels.count; k++)
        if (strcmp(sorted[k]->info.name, sorted[k - 1]->info.name) == 0)
            mslc_fail(unit, sorted[k]->instantiation.begin, "a kernel called '%s' exists already",
                      sorted[k]->info.name);
}

void mslc_list_kernels(mslc_unit *unit) {
    for (int32_t i = 0; i < unit->kernels.count; i++) {
        mslc_kernel *kernel = &unit->kernels.data[i];
        mslc_attributes attributes, own;
        read_declarator(unit, kernel);
        mslc_read_attributes(unit, kernel->instantiation, &attributes);
        is_kernel(unit, &unit->items.data[kernel->item], &own);
        mslc_text text = {0};
        if (mslc_empty(attributes.host_name))
            mslc_print(unit, &text, kernel->expression);
        const char *name = mslc_empty(attributes.host_name) ? mslc_copy(unit, text.data ? text.data : "", text.length)
                                                            : string_value(unit, attributes.host_name);
        free(text.data);
        complete(unit, kernel, name,
                 mslc_empty(attributes.max_total_threads) ? own.max_total_threads : attributes.max_total_threads);
    }
    for (int32_t i = 0; i < unit->items.count; i++) {
        const mslc_item *item = &unit->items.data[i];
        mslc_attributes attributes;
        if (!mslc_empty(item->header) || item->removed || !is_kernel(unit, item, &attributes))
            continue;
        mslc_kernel *kernel = MSLC_PUSH(unit, unit->kernels);
        kernel->item = i;
        kernel->scope = item->scope;
        kernel->expression = (mslc_range){item->name, item->name + 1};
        kernel->instantiation = (mslc_range){item->all.begin, item->all.begin}; /* empty, but says where */
        const char *name = mslc_empty(attributes.host_name) ? unit->symbols.data[mslc_at(unit, item->name)->symbol].text
                                                            : string_value(unit, attributes.host_name);
        complete(unit, kernel, name, attributes.max_total_threads);
    }
    if (unit->kernels.count)
        qsort(unit->kernels.data, (size_t)unit->kernels.count, sizeof *unit->kernels.data, by_place);
    refuse_duplicates(unit);
}
