/* Shared by the files of the translator. */
#ifndef MSLC_INTERNAL_H
#define MSLC_INTERNAL_H

#include "mslc.h"

#include <setjmp.h>
#include <stdarg.h>

/* ---- memory and text (text.c)
 * ------------------------------------------------------------------------------------------- */

/* Everything a unit holds is freed with it, in one go. */
typedef struct mslc_arena {
    struct mslc_block *blocks;
} mslc_arena;
struct mslc_block *mslc_free_block(struct mslc_block *block); /* returns the next */

/* Growing text. */
typedef struct mslc_text {
    char *data; /* malloc'ed, ends in 0; NULL when empty */
    size_t length, capacity;
    bool failed; /* out of memory: appending does nothing from then on */
} mslc_text;

void mslc_text_append(mslc_text *text, const char *data, size_t n);
void mslc_text_puts(mslc_text *text, const char *string);
void mslc_text_printf(mslc_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* string as a C string literal with its quotes. */
void mslc_text_quote(mslc_text *text, const char *string);

/* ---- tokens (token.c)
 * ----------------------------------------------------------------------------------------------------- */

typedef enum mslc_kind { MSLC_IDENT = 0, MSLC_NUMBER, MSLC_STRING, MSLC_CHAR, MSLC_PUNCT, MSLC_END } mslc_kind;

typedef struct mslc_token {
    const char *text; /* as in the source; not 0-terminated */
    uint32_t length;
    uint32_t line, column; /* from 1 */
    uint32_t file;         /* index into unit->files */
    uint32_t symbol;       /* identifiers: index into unit->symbols */
    int32_t match;         /* brackets: the partner */
    uint8_t kind;
    bool space; /* white space before it */
    bool removed;
    bool fixed; /* edited on purpose: general rules leave it alone */
    /* edits; NULL: none */
    const char *before, *instead, *after;
} mslc_token;

typedef struct mslc_symbol {
    const char *text;
    int32_t entity;   /* first entity of this name, -1: none; further ones through mslc_entity.next */
    int32_t constant; /* index into unit->constants, -1: none */
    int32_t shadow;   /* the item in which a local declaration hides the constant */
    uint8_t word;     /* mslc_word */
    bool meets;       /* lanes may meet in what has this name */
} mslc_symbol;

/* Identifiers with a meaning to the translator. */
typedef enum mslc_word {
    MSLC_W_NONE = 0,
    MSLC_W_DEVICE,
    MSLC_W_THREAD,
    MSLC_W_THREADGROUP,
    MSLC_W_OTHER_SPACE, /* threadgroup_imageblock, ray_data, object_data */
    MSLC_W_CONSTANT,
    MSLC_W_KERNEL,
    MSLC_W_STAGE,     /* vertex, fragment, ... */
    MSLC_W_MEETING,   /* simd_sum, threadgroup_barrier, ... */
    MSLC_W_TYPE,      /* built-in type names and type keywords */
    MSLC_W_KEYWORD,   /* words after which a name is no declaration: return, else, case, ... */
    MSLC_W_QUALIFIER, /* const, static, ... */
    MSLC_W_CONST,
    MSLC_W_CONSTEXPR
} mslc_word;

/* ---- what parsing finds
 * ---------------------------------------------------------------------------------------------------- */

typedef struct mslc_range {
    int32_t begin, end; /* tokens [begin, end) */
} mslc_range;

/* A name that bodies may refer to, with the tokens that stand for it. */
typedef struct mslc_entity {
    uint32_t symbol;
    int32_t next; /* same name */
    mslc_range range;
    bool is_function;
} mslc_entity;

typedef struct mslc_scope {
    const struct mslc_scope *parent;
    const char *prefix; /* "a::b::" or "" */
    bool is_class;
    bool anonymous; /* an anonymous class: no member functions */
    uint32_t class_symbol;
} mslc_scope;

typedef enum mslc_item_kind { MSLC_FUNCTION = 0, MSLC_CLASS, MSLC_VARIABLE, MSLC_OTHER } mslc_item_kind;

/* One declaration of a namespace or class. */
typedef struct mslc_item {
    mslc_item_kind kind;
    const mslc_scope *scope;
    mslc_range all;        /* with template headers and the closing ; or } */
    mslc_range header;     /* innermost template <...>, empty without */
    int32_t head;          /* first token after the template headers */
    int32_t name;          /* -1: none */
    mslc_range arguments;  /* <...> after the name: a specialisation */
    mslc_range parameters; /* between the parentheses */
    mslc_range trailing;   /* between ) and the body */
    mslc_range body;       /* with its braces; empty: declared only */
    bool specialised;      /* header is template <> */
    bool removed;          /* not emitted */
    int32_t region;        /* index of the outermost item it is in */
} mslc_item;

typedef struct mslc_parameter {
    mslc_range range;
    int32_t name;     /* token, -1: none */
    mslc_range value; /* default argument, empty without */
} mslc_parameter;

typedef struct mslc_attributes {
    bool kernel, stage, has_function_constant, has_id;
    mslc_range host_name, max_total_threads, function_constant, index; /* between the parentheses */
    const char *binding; /* "buffer", "threadgroup", "texture", "sampler", or a built-in's name; NULL: none */
    int32_t binding_token;
} mslc_attributes;

typedef struct mslc_constant {
    const char *name, *qualified, *type;
    int32_t token; /* the name in its declaration */
    int32_t index; /* -1: derived from others */
    mslc_range declaration, initialiser;
    bool optional;
    int32_t slot;
} mslc_constant;

/* A threadgroup variable: tokens of its declaration, which may declare several. */
typedef struct mslc_variable {
    int32_t begin, word, name, semicolon;
    int32_t number; /* sm_T<number> is its type */
} mslc_variable;

/* A kernel as the host sees it. */
typedef struct mslc_kernel {
    sm_function_info info;
    int32_t item;             /* the definition */
    mslc_range instantiation; /* the explicit instantiation, empty for a plain kernel */
    mslc_range expression;    /* foo<float> in it */
    mslc_range signature;     /* its parameter list where the arguments are to be deduced */
    const mslc_scope *scope;
    bool too_many_threads;
    const char *problem; /* why it cannot be compiled; NULL: it can */
    int32_t problem_token;
} mslc_kernel;

#define MSLC_LIST(T)                                                                                                   \
    struct {                                                                                                           \
        T *data;                                                                                                       \
        int32_t count, capacity;                                                                                       \
    }

/* Nested brackets and statements: each costs some stack. Apple's compiler takes 256. */
#define MSLC_MAX_DEPTH 1000

struct mslc_unit {
    mslc_arena arena;
    jmp_buf fail;
    mslc_text message;
    char *source;
    MSLC_LIST(mslc_token) tokens; /* ends in MSLC_END */
    MSLC_LIST(const char *) files;
    MSLC_LIST(mslc_symbol) symbols;
    uint32_t *symbol_table; /* open addressing; index + 1 */
    uint32_t symbol_mask;
    MSLC_LIST(mslc_item) items;
    MSLC_LIST(mslc_entity) entities;
    MSLC_LIST(mslc_constant) constants;
    MSLC_LIST(mslc_kernel) kernels;
    MSLC_LIST(mslc_variable) variables;
    MSLC_LIST(mslc_range) instantiations; /* removed from the output */
    MSLC_LIST(mslc_range) aliases;        /* typedef, using, static_assert: removed with a kernel that they name */
    MSLC_LIST(uint32_t) argument_buffers; /* symbols of classes with [[id(n)]] members */
    int depth;                            /* of nested statements, where the passes are */
    int32_t sites;                        /* threadgroup variables so far: for unique names */
};

/* Grows the list by one zeroed element and returns it. */
#define MSLC_PUSH(unit, list)                                                                                          \
    (mslc_grow((unit), (void **)&(list).data, &(list).count, &(list).capacity, sizeof *(list).data),                   \
     &(list).data[(list).count - 1])
void mslc_grow(mslc_unit *unit, void **data, int32_t *count, int32_t *capacity, size_t size);

/* Arena memory; leaves through unit->fail when there is none. */
void *mslc_alloc(mslc_unit *unit, size_t size);
const char *mslc_copy(mslc_unit *unit, const char *data, size_t n);
const char *mslc_format(mslc_unit *unit, const char *format, ...) __attribute__((format(printf, 2, 3), nonnull(2)));

/* Adds "file:line:column: error: ..." for the token to the message and leaves through unit->fail. */
_Noreturn void mslc_fail(mslc_unit *unit, int32_t token, const char *format, ...) __attribute__((format(printf, 3, 4)));

void mslc_tokenise(mslc_unit *unit, size_t length);
uint32_t mslc_intern(mslc_unit *unit, const char *text, size_t n);
void mslc_add_words(mslc_unit *unit);

/* ---- looking at tokens (token.c)
 * ------------------------------------------------------------------------------------------- */

static inline const mslc_token *mslc_at(const mslc_unit *unit, int32_t i) {
    return &unit->tokens.data[i];
}
bool mslc_is(const mslc_unit *unit, int32_t i, const char *text);
static inline uint8_t mslc_word_at(const mslc_unit *unit, int32_t i) {
    const mslc_token *t = mslc_at(unit, i);
    return t->kind == MSLC_IDENT ? unit->symbols.data[t->symbol].word : (uint8_t)MSLC_W_NONE;
}
static inline bool mslc_empty(mslc_range r) {
    return r.begin >= r.end;
}
bool mslc_is_space_word(uint8_t word);                    /* an address space */
bool mslc_is_attribute(const mslc_unit *unit, int32_t i); /* [[ */
/* After the > that closes the < at i, or -1 where it opens no template list before end. */
int32_t mslc_skip_angles(const mslc_unit *unit, int32_t i, int32_t end);
/* Splits [begin, end) at commas outside brackets and template lists. Returns the number of parts; those beyond capacity
 * are not stored. */
int mslc_split(const mslc_unit *unit, mslc_range range, mslc_range *parts, int capacity);

void mslc_insert_before(mslc_unit *unit, int32_t token, const char *text); /* after what is there already */
void mslc_insert_after(mslc_unit *unit, int32_t token, const char *text);
void mslc_replace(mslc_unit *unit, int32_t token, const char *text);
void mslc_remove(mslc_unit *unit, mslc_range range);

/* Template parameters and the arguments of one instantiation. */
typedef struct mslc_substitution {
    mslc_range header;    /* template <...> */
    mslc_range arguments; /* between < and > */
} mslc_substitution;

/* ---- the passes, in this order
 * ----------------------------------------------------------------------------------------------- */

void mslc_parse_declarations(mslc_unit *unit);                                       /* declare.c */
void mslc_read_attributes(mslc_unit *unit, mslc_range range, mslc_attributes *out);  /* attribute.c */
int32_t mslc_read_parameter(mslc_unit *unit, mslc_range range, mslc_parameter *out); /* attribute.c */
int64_t mslc_evaluate(const mslc_unit *unit, mslc_range range, const mslc_substitution *with,
                      bool *ok);                /* attribute.c */
void mslc_specialise_in_class(mslc_unit *unit); /* special.c: template <> in a class */
void mslc_find_meetings(mslc_unit *unit);       /* graph.c: which functions contain a simd operation or a barrier */
void mslc_edit_bodies(mslc_unit *unit);         /* body.c: threadgroup variables, loops, several meetings on a line */
void mslc_edit_tokens(mslc_unit *unit);         /* edit.c: literals, swizzles, address spaces, attributes, constants */
void mslc_merge_overloads(mslc_unit *unit);     /* overload.c: those that differed in address space only */
void mslc_list_kernels(mslc_unit *unit);        /* kernel.c */

/* The argument for the template parameter called symbol; false: there is none. */
bool mslc_substitute(const mslc_unit *unit, const mslc_substitution *with, uint32_t symbol, mslc_range *out);

/* Marks in reached[entities] what the tokens of range refer to, directly or not. */
void mslc_reach(const mslc_unit *unit, mslc_range range, bool *reached);

/* Appends the range as edited, on one line. */
void mslc_print(const mslc_unit *unit, mslc_text *out, mslc_range range);

#endif
