/* Memory, growing text, and failing. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES (64u * 1024u)

typedef struct mslc_block {
    struct mslc_block *next;
    size_t used, size;
    _Alignas(16) char data[];
} mslc_block;

void *mslc_alloc(mslc_unit *unit, size_t size) {
    mslc_block *block = unit->arena.blocks;
    size = (size + 15) & ~(size_t)15;
    if (!block || block->size - block->used < size) {
        const size_t room = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        block = malloc(sizeof *block + room);
        if (!block)
            longjmp(unit->fail, ML_ERR_MEMORY);
        block->next = unit->arena.blocks;
        block->used = 0;
        block->size = room;
        unit->arena.blocks = block;
    }
    void *p = block->data + block->used;
    block->used += size;
    memset(p, 0, size);
    return p;
}

const char *mslc_copy(mslc_unit *unit, const char *data, size_t n) {
    char *copy = mslc_alloc(unit, n + 1);
    memcpy(copy, data, n);
    return copy;
}

const char *mslc_format(mslc_unit *unit, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *out = mslc_alloc(unit, (size_t)n + 1);
    vsnprintf(out, (size_t)n + 1, format, again);
    va_end(again);
    return out;
}

void mslc_grow(mslc_unit *unit, void **data, int32_t *count, int32_t *capacity, size_t size) {
    if (*count == *capacity) {
        const int32_t bigger = *capacity ? *capacity * 2 : 64;
        void *moved = realloc(*data, (size_t)bigger * size);
        if (!moved)
            longjmp(unit->fail, ML_ERR_MEMORY);
        *data = moved;
        *capacity = bigger;
    }
    memset((char *)*data + (size_t)*count * size, 0, size);
    ++*count;
}

void mslc_text_append(mslc_text *text, const char *data, size_t n) {
    if (text->failed)
        return;
    if (text->capacity - text->length <= n) {
        size_t bigger = text->capacity ? text->capacity * 2 : 1024;
        while (bigger - text->length <= n)
            bigger *= 2;
        char *moved = realloc(text->data, bigger);
        if (!moved) {
            text->failed = true;
            return;
        }
        text->data = moved;
        text->capacity = bigger;
    }
    memcpy(text->data + text->length, data, n);
    text->length += n;
    text->data[text->length] = 0;
}

void mslc_text_puts(mslc_text *text, const char *string) {
    mslc_text_append(text, string, strlen(string));
}

void mslc_text_printf(mslc_text *text, const char *format, ...) {
    char small[512];
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    const int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (n < (int)sizeof small) {
        mslc_text_append(text, small, (size_t)n);
    } else {
        char *big = malloc((size_t)n + 1);
        if (big) {
            vsnprintf(big, (size_t)n + 1, format, again);
            mslc_text_append(text, big, (size_t)n);
            free(big);
        } else {
            text->failed = true;
        }
    }
    va_end(again);
}

void mslc_text_quote(mslc_text *text, const char *string) {
    mslc_text_append(text, "\"", 1);
    for (; *string; string++) {
        if (*string == '"' || *string == '\\')
            mslc_text_append(text, "\\", 1);
        if ((unsigned char)*string < ' ')
            mslc_text_printf(text, "\\%03o", (unsigned)(unsigned char)*string);
        else
            mslc_text_append(text, string, 1);
    }
    mslc_text_append(text, "\"", 1);
}

void mslc_fail(mslc_unit *unit, int32_t token, const char *format, ...) {
    const mslc_token *t = mslc_at(unit, token);
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    mslc_text_printf(&unit->message, "%s:%u:%u: error: %s\n", unit->files.data[t->file], t->line, t->column, text);
    longjmp(unit->fail, ML_ERR_COMPILE);
}

struct mslc_block *mslc_free_block(struct mslc_block *block) {
    struct mslc_block *next = block->next;
    free(block);
    return next;
}
