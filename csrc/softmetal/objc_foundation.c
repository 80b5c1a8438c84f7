/* The few classes of Foundation. */
#include "softmetal/objc_classes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sm_set_text(char **place, const char *s) {
    char *copy = s ? strdup(s) : NULL;
    free(*place);
    *place = copy;
}

/* ---- strings ------------------------------------------------------------------------------------------------ */

typedef struct string {
    sm_object object;
    char *text;
} string;

static void string_destroy(sm_id self) {
    free(((string *)self)->text);
}

const sm_class sm_string_class = {.name = "NSString",
                                  .super = &sm_nsobject_class,
                                  .size = sizeof(string),
                                  .flags = SM_CLASS_NEW,
                                  .destroy = string_destroy};

sm_id sm_string(const char *text) {
    string *s = text ? sm_object_new(&sm_string_class) : NULL;
    if (!s)
        return NULL;
    s->text = strdup(text);
    return sm_autorelease(s);
}

const char *sm_text(sm_id object) {
    const char *text = object ? ((string *)object)->text : NULL;
    return text ? text : "";
}

sm_id sm_string_empty(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return sm_string("");
}

sm_id sm_string_with_utf8(sm_id self, sm_sel selector, const char *text) {
    if (!text)
        sm_violation(SM_CALL, "the text is NULL");
    return sm_string(text);
}

sm_id sm_string_init_utf8(sm_id self, sm_sel selector, const char *text) {
    string *s = self;
    if (!text) {
        sm_violation(SM_CALL, "the text is NULL");
        sm_release(self);
        return NULL;
    }
    sm_set_text(&s->text, text);
    s->object.uninitialised = false;
    return self;
}

const char *sm_string_utf8(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_text(self);
}

/* UTF-16 units, as NSString counts: one for each code point, two for those beyond the first plane. */
sm_uint sm_string_length(sm_id self, sm_sel selector) {
    (void)selector;
    sm_uint n = 0;
    for (const unsigned char *p = (const unsigned char *)sm_text(self); *p; p++)
        n += (*p & 0xc0) != 0x80 ? *p >= 0xf0 ? 2u : 1u : 0u;
    return n;
}

sm_bool sm_string_is_equal(sm_id self, sm_sel selector, sm_id other) {
    const sm_id s = sm_expect_or_nil(SM_CALL, other, &sm_string_class, "the other string");
    return s && strcmp(sm_text(self), sm_text(s)) == 0;
}

sm_bool sm_string_is_equal_object(sm_id self, sm_sel selector, sm_id other) {
    (void)selector;
    return sm_object_at(other) && sm_is_kind(other, &sm_string_class) && strcmp(sm_text(self), sm_text(other)) == 0;
}

sm_id sm_string_description(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_hand_out(self);
}

/* ---- numbers ------------------------------------------------------------------------------------------------ */

typedef struct number {
    sm_object object;
    bool is_integer, is_unsigned;
    long integer;
    double real;
} number;

const sm_class sm_number_class = {.name = "NSNumber", .super = &sm_nsobject_class, .size = sizeof(number)};

static sm_id make_number(const number *value) {
    number *n = sm_object_new(&sm_number_class);
    if (!n)
        return NULL;
    n->is_integer = value->is_integer;
    n->is_unsigned = value->is_unsigned;
    n->integer = value->integer;
    n->real = value->real;
    return sm_autorelease(n);
}

static sm_id make_integer(long value, bool is_unsigned) {
    return make_number(&(number){.is_integer = true,
                                 .is_unsigned = is_unsigned,
                                 .integer = value,
                                 .real = is_unsigned ? (double)(unsigned long)value : (double)value});
}

static sm_id make_real(double value) {
    const bool fits = value > -9.2e18 && value < 9.2e18;
    return make_number(&(number){.integer = fits ? (long)value : 0, .real = value});
}

sm_id sm_number_with_bool(sm_id self, sm_sel selector, sm_bool value) {
    (void)self;
    (void)selector;
    return make_integer(value != 0, false);
}

sm_id sm_number_with_int(sm_id self, sm_sel selector, int value) {
    (void)self;
    (void)selector;
    return make_integer(value, false);
}

sm_id sm_number_with_integer(sm_id self, sm_sel selector, sm_int value) {
    (void)self;
    (void)selector;
    return make_integer(value, false);
}

sm_id sm_number_with_unsigned(sm_id self, sm_sel selector, sm_uint value) {
    (void)self;
    (void)selector;
    return make_integer((long)value, true);
}

sm_id sm_number_with_float(sm_id self, sm_sel selector, float value) {
    (void)self;
    (void)selector;
    return make_real((double)value);
}

sm_id sm_number_with_double(sm_id self, sm_sel selector, double value) {
    (void)self;
    (void)selector;
    return make_real(value);
}

sm_bool sm_number_bool(sm_id self, sm_sel selector) {
    (void)selector;
    return ((number *)self)->real != 0.0;
}

int sm_number_int(sm_id self, sm_sel selector) {
    (void)selector;
    return (int)((number *)self)->integer;
}

sm_int sm_number_integer(sm_id self, sm_sel selector) {
    (void)selector;
    return ((number *)self)->integer;
}

sm_uint sm_number_unsigned(sm_id self, sm_sel selector) {
    (void)selector;
    return (sm_uint)((number *)self)->integer;
}

float sm_number_float(sm_id self, sm_sel selector) {
    (void)selector;
    return (float)((number *)self)->real;
}

double sm_number_double(sm_id self, sm_sel selector) {
    (void)selector;
    return ((number *)self)->real;
}

sm_id sm_number_string(sm_id self, sm_sel selector) {
    (void)selector;
    const number *n = self;
    char text[40];
    if (!n->is_integer)
        snprintf(text, sizeof text, "%.17g", n->real);
    else if (n->is_unsigned)
        snprintf(text, sizeof text, "%lu", (unsigned long)n->integer);
    else
        snprintf(text, sizeof text, "%ld", n->integer);
    return sm_string(text);
}

sm_id sm_number_description(sm_id self, sm_sel selector) {
    return sm_number_string(self, selector);
}

/* ---- arrays and dictionaries -------------------------------------------------------------------------------- */

/* A dictionary has keys before values: items[2 i], items[2 i + 1]. */
typedef struct collection {
    sm_object object;
    sm_id *items; /* kept */
    size_t n;
} collection;

static void collection_destroy(sm_id self) {
    collection *c = self;
    for (size_t i = 0; i < c->n; i++)
        sm_drop(c->items[i]);
    free(c->items);
}

const sm_class sm_array_class = {.name = "NSArray",
                                 .super = &sm_nsobject_class,
                                 .size = sizeof(collection),
                                 .flags = SM_CLASS_NEW,
                                 .destroy = collection_destroy};
const sm_class sm_dictionary_class = {.name = "NSDictionary",
                                      .super = &sm_nsobject_class,
                                      .size = sizeof(collection),
                                      .flags = SM_CLASS_NEW,
                                      .destroy = collection_destroy};
const sm_class sm_mutable_dictionary_class = {
    .name = "NSMutableDictionary", .super = &sm_dictionary_class, .size = sizeof(collection), .flags = SM_CLASS_NEW};

static bool append(collection *c, sm_id object) {
    sm_id *grown = realloc(c->items, (c->n + 1) * sizeof *grown);
    if (!grown)
        return false;
    c->items = grown;
    c->items[c->n++] = sm_keep(object);
    return true;
}

sm_id sm_array(const sm_id *objects, size_t n) {
    collection *c = sm_object_new(&sm_array_class);
    for (size_t i = 0; c && i < n; i++)
        if (!append(c, objects[i])) {
            sm_release(c);
            return NULL;
        }
    return sm_autorelease(c);
}

static bool check_objects(const sm_call *call, const sm_id *objects, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!sm_expect(call, objects[i], &sm_nsobject_class, "an object"))
            return false;
    return true;
}

sm_id sm_array_empty(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return sm_array(NULL, 0);
}

sm_id sm_array_with_object(sm_id self, sm_sel selector, sm_id object) {
    return check_objects(SM_CALL, &object, 1) ? sm_array(&object, 1) : NULL;
}

sm_id sm_array_with_objects(sm_id self, sm_sel selector, const sm_id *objects, sm_uint n) {
    return check_objects(SM_CALL, objects, n) ? sm_array(objects, n) : NULL;
}

sm_uint sm_array_count(sm_id self, sm_sel selector) {
    (void)selector;
    return ((collection *)self)->n;
}

sm_id sm_array_object(sm_id self, sm_sel selector, sm_uint i) {
    const collection *c = self;
    if (i >= c->n) {
        sm_violation(SM_CALL, "index %lu is beyond the array's %zu objects", i, c->n);
        return NULL;
    }
    return sm_hand_out(c->items[i]);
}

static bool same_object(sm_id a, sm_id b) {
    return a == b ||
           (sm_is_kind(a, &sm_string_class) && sm_is_kind(b, &sm_string_class) && strcmp(sm_text(a), sm_text(b)) == 0);
}

sm_bool sm_array_contains(sm_id self, sm_sel selector, sm_id object) {
    const collection *c = self;
    if (!sm_expect_or_nil(SM_CALL, object, &sm_nsobject_class, "the object"))
        return false;
    for (size_t i = 0; i < c->n; i++)
        if (same_object(c->items[i], object))
            return true;
    return false;
}

static sm_id *find_value(const collection *c, sm_id key) {
    for (size_t i = 0; i + 1 < c->n; i += 2)
        if (same_object(c->items[i], key))
            return &c->items[i + 1];
    return NULL;
}

static bool set_value(collection *c, sm_id key, sm_id value) {
    sm_id *old = find_value(c, key);
    if (!old)
        return append(c, key) && append(c, value);
    sm_keep(value);
    sm_drop(*old);
    *old = value;
    return true;
}

sm_id sm_dictionary(const sm_id *objects, const sm_id *keys, size_t n) {
    collection *c = sm_object_new(&sm_dictionary_class);
    for (size_t i = 0; c && i < n; i++)
        if (!set_value(c, keys[i], objects[i])) {
            sm_release(c);
            return NULL;
        }
    return sm_autorelease(c);
}

void sm_dictionary_put(sm_id dictionary, sm_id key, sm_id value) {
    if (key && value)
        (void)set_value(dictionary, key, value);
}

size_t sm_dictionary_count(sm_id dictionary) {
    return ((collection *)dictionary)->n / 2;
}

void sm_dictionary_at(sm_id dictionary, size_t i, sm_id *key, sm_id *value) {
    const collection *c = dictionary;
    *key = c->items[2 * i];
    *value = c->items[2 * i + 1];
}

sm_id sm_dictionary_empty(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_autorelease(sm_object_new(sm_class_at(self)));
}

sm_id sm_dictionary_with_object(sm_id self, sm_sel selector, sm_id object, sm_id key) {
    return sm_dictionary_with_objects(self, selector, &object, &key, 1);
}

sm_id sm_dictionary_with_objects(sm_id self, sm_sel selector, const sm_id *objects, const sm_id *keys, sm_uint n) {
    const bool good = check_objects(SM_CALL, keys, n) && check_objects(SM_CALL, objects, n);
    return good ? sm_dictionary(objects, keys, n) : NULL;
}

sm_uint sm_dictionary_size(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_dictionary_count(self);
}

sm_id sm_dictionary_object(sm_id self, sm_sel selector, sm_id key) {
    const sm_id *value = sm_expect_or_nil(SM_CALL, key, &sm_nsobject_class, "the key") ? find_value(self, key) : NULL;
    return value ? sm_hand_out(*value) : NULL;
}

sm_id sm_dictionary_keys(sm_id self, sm_sel selector) {
    (void)selector;
    const collection *c = self;
    collection *keys = sm_object_new(&sm_array_class);
    for (size_t i = 0; keys && i < c->n; i += 2)
        (void)append(keys, c->items[i]);
    return sm_autorelease(keys);
}

void sm_dictionary_set(sm_id self, sm_sel selector, sm_id object, sm_id key) {
    if (check_objects(SM_CALL, &object, 1) && check_objects(SM_CALL, &key, 1))
        (void)set_value(self, key, object);
}

/* ---- URLs --------------------------------------------------------------------------------------------------- */

typedef struct url {
    sm_object object;
    char *text; /* a path, or the URL */
    bool is_file;
} url;

static void url_destroy(sm_id self) {
    free(((url *)self)->text);
}

const sm_class sm_url_class = {
    .name = "NSURL", .super = &sm_nsobject_class, .size = sizeof(url), .destroy = url_destroy};

static sm_id make_url(const char *text, bool is_file) {
    url *u = sm_object_new(&sm_url_class);
    if (!u)
        return NULL;
    u->text = strdup(text);
    u->is_file = is_file;
    return sm_autorelease(u);
}

const char *sm_path_of(sm_id object) {
    const url *u = object;
    return u->is_file ? u->text : NULL;
}

sm_id sm_url_with_path(sm_id self, sm_sel selector, sm_id path) {
    return sm_expect(SM_CALL, path, &sm_string_class, "the path") ? make_url(sm_text(path), true) : NULL;
}

sm_id sm_url_with_string(sm_id self, sm_sel selector, sm_id text) {
    if (!sm_expect(SM_CALL, text, &sm_string_class, "the text"))
        return NULL;
    const char *s = sm_text(text);
    return strncmp(s, "file://", 7) == 0 ? make_url(s + 7, true) : make_url(s, false);
}

sm_id sm_url_path(sm_id self, sm_sel selector) {
    (void)selector;
    const char *path = sm_path_of(self);
    return path ? sm_string(path) : NULL;
}

sm_id sm_url_string(sm_id self, sm_sel selector) {
    (void)selector;
    const url *u = self;
    const size_t size = strlen(u->text ? u->text : "") + 8;
    char *text = malloc(size);
    if (!text)
        return NULL;
    snprintf(text, size, "%s%s", u->is_file ? "file://" : "", u->text ? u->text : "");
    sm_id made = sm_string(text);
    free(text);
    return made;
}

sm_bool sm_url_is_file(sm_id self, sm_sel selector) {
    (void)selector;
    return ((url *)self)->is_file;
}

/* ---- errors ------------------------------------------------------------------------------------------------- */

typedef struct error {
    sm_object object;
    char *domain, *text;
    long code;
} error;

static void error_destroy(sm_id self) {
    free(((error *)self)->domain);
    free(((error *)self)->text);
}

const sm_class sm_error_class = {
    .name = "NSError", .super = &sm_nsobject_class, .size = sizeof(error), .destroy = error_destroy};

sm_id sm_error(const char *domain, long code, const char *text) {
    error *e = sm_object_new(&sm_error_class);
    if (!e)
        return NULL;
    e->code = code;
    e->domain = strdup(domain);
    e->text = strdup(text);
    return sm_autorelease(e);
}

sm_id sm_error_with_domain(sm_id self, sm_sel selector, sm_id domain, sm_int code, sm_id user_info) {
    if (!sm_expect(SM_CALL, domain, &sm_string_class, "the domain"))
        return NULL;
    sm_expect_or_nil(SM_CALL, user_info, &sm_dictionary_class, "userInfo");
    char text[200];
    snprintf(text, sizeof text, "The operation couldn't be completed. (%.120s error %ld.)", sm_text(domain), code);
    return sm_error(sm_text(domain), code, text);
}

sm_id sm_error_domain(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_string(((error *)self)->domain);
}

sm_int sm_error_code(sm_id self, sm_sel selector) {
    (void)selector;
    return ((error *)self)->code;
}

sm_id sm_error_description(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_string(((error *)self)->text);
}

sm_id sm_error_debug_description(sm_id self, sm_sel selector) {
    (void)selector;
    const error *e = self;
    char text[1200];
    snprintf(text, sizeof text, "Error Domain=%.100s Code=%ld \"%.1000s\"", e->domain ? e->domain : "", e->code,
             e->text ? e->text : "");
    return sm_string(text);
}

/* ---- autorelease pools -------------------------------------------------------------------------------------- */

typedef struct pool {
    sm_object object;
    void *token;
} pool;

const sm_class sm_pool_class = {
    .name = "NSAutoreleasePool", .super = &sm_nsobject_class, .size = sizeof(pool), .flags = SM_CLASS_NEW};

sm_id sm_pool_init(sm_id self, sm_sel selector) {
    (void)selector;
    pool *p = self;
    p->object.uninitialised = false;
    p->token = sm_pool_push();
    return self;
}

void sm_pool_drain(sm_id self, sm_sel selector) {
    (void)selector;
    pool *p = self;
    sm_pool_pop(p->token);
    sm_release(self);
}

void sm_pool_release(sm_id self, sm_sel selector) {
    sm_pool_drain(self, selector);
}
