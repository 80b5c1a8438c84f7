/* A unit of translation from text to edited tokens. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static void run(mslc_unit *unit, const char *text, size_t length) {
    unit->source = malloc(length + 1);
    if (!unit->source)
        longjmp(unit->fail, ML_ERR_MEMORY);
    memcpy(unit->source, text, length);
    unit->source[length] = 0;
    mslc_add_words(unit);
    mslc_tokenise(unit, length);
    mslc_parse_declarations(unit);
    mslc_find_meetings(unit);
    mslc_edit_bodies(unit);
    mslc_edit_tokens(unit);
    mslc_specialise_in_class(unit);
    mslc_merge_overloads(unit);
    mslc_list_kernels(unit);
}

ml_status mslc_parse(const char *text, size_t length, mslc_unit **out, char **message) {
    mslc_unit *unit = calloc(1, sizeof *unit);
    if (!unit)
        return ml_fail(ML_ERR_MEMORY, "out of memory");
    const int failure = setjmp(unit->fail);
    if (!failure) {
        run(unit, text, length);
        *out = unit;
        return ML_OK;
    }
    const ml_status status = unit->message.failed ? ML_ERR_MEMORY : (ml_status)failure;
    if (status == ML_ERR_COMPILE) {
        *message = unit->message.data;
        unit->message.data = NULL;
    }
    mslc_free(unit);
    return status == ML_ERR_COMPILE ? status : ml_fail(status, "out of memory while parsing");
}

void mslc_free(mslc_unit *unit) {
    if (!unit)
        return;
    for (struct mslc_block *block = unit->arena.blocks; block;)
        block = mslc_free_block(block);
    free(unit->message.data);
    free(unit->source);
    free(unit->tokens.data);
    free(unit->files.data);
    free(unit->symbols.data);
    free(unit->symbol_table);
    free(unit->items.data);
    free(unit->entities.data);
    free(unit->constants.data);
    free(unit->kernels.data);
    free(unit->variables.data);
    free(unit->instantiations.data);
    free(unit->aliases.data);
    free(unit->argument_buffers.data);
    free(unit);
}

int mslc_function_count(const mslc_unit *unit) {
    return unit->kernels.count;
}

const sm_function_info *mslc_function(const mslc_unit *unit, int i) {
    return i >= 0 && i < unit->kernels.count ? &unit->kernels.data[i].info : NULL;
}
