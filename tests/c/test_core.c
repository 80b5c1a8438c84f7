/* Tests of csrc/core: conversions, tensors, errors; test_core_views.c has view arithmetic and overlap,
 * test_core_cache.c the resource cache. Usage: test_core [seed] */
#include "test_core.h"

#include "core/log.h"
#include "core/tensor.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int passed, failed;
static uint64_t rng_state;

void check_at(bool ok, const char *what, const char *file, int line) {
    if (ok) {
        passed++;
        return;
    }
    if (failed++ < 50)
        printf("%s:%d: FAILED: %s\n", file, line, what);
}

uint64_t rng(void) { /* splitmix64 */
    uint64_t z = rng_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

int64_t rng_in(int64_t low, int64_t high) {
    return low + (int64_t)(rng() % (uint64_t)(high - low + 1));
}

/* ---- conversions ------------------------------------------------------------------------------------------- */

typedef struct format {
    int mantissa, emin, emax;
} format;
static const format half_format = {10, -14, 15}, bfloat_format = {7, -126, 127};

/* The value of a bit pattern, by its definition. */
static double decode(format f, uint16_t h) {
    const int field = (h & 0x7fff) >> f.mantissa, m = h & ((1 << f.mantissa) - 1);
    const double sign = h & 0x8000 ? -1.0 : 1.0;
    if (field == f.emax + f.emax + 1)
        return m ? NAN : sign * INFINITY;
    return sign * (field ? ldexp((1 << f.mantissa) + m, field - f.emax - f.mantissa) : ldexp(m, f.emin - f.mantissa));
}

/* Rounds to nearest even by exact double arithmetic. */
static uint16_t encode(format f, double v) {
    const uint16_t sign = signbit(v) ? 0x8000 : 0;
    const uint16_t inf = (uint16_t)((2 * f.emax + 1) << f.mantissa);
    v = fabs(v);
    if (isinf(v))
        return sign | inf;
    if (v == 0)
        return sign;
    int e = ilogb(v) < f.emin ? f.emin : ilogb(v);
    const double units = nearbyint(ldexp(v, f.mantissa - e)); /* exact but for the rounding */
    /* Counting units from the exponent's first pattern carries into the next exponent by itself. */
    const double bits = units + ((double)(e - f.emin) * (1 << f.mantissa));
    return sign | (bits >= inf ? inf : (uint16_t)bits);
}

static bool same_float(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

static void test_all_patterns(void) {
    int bad = 0;
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t h = (uint16_t)i;
        const float fh = ml_half_to_float(h), fb = ml_bfloat_to_float(h);
        const double rh = decode(half_format, h), rb = decode(bfloat_format, h);
        if (isnan(rh)) {
            const uint32_t want = (uint32_t)(h & 0x8000) << 16 | 0x7fc00000u | (uint32_t)(h & 0x3ff) << 13;
            bad += ml_float_bits(fh) != want || ml_float_to_half(fh) != (h | 0x200);
            bad += ml_double_to_half((double)fh) != (h | 0x200);
        } else {
            bad += !same_float(fh, (float)rh) || ml_float_to_half(fh) != h || ml_double_to_half(rh) != h;
        }
        if (isnan(rb)) {
            bad += ml_float_bits(fb) != ((uint32_t)h << 16 | 0x400000u) || ml_float_to_bfloat(fb) != (h | 0x40);
            bad += ml_double_to_bfloat((double)fb) != (h | 0x40);
        } else {
            bad += !same_float(fb, (float)rb) || ml_float_to_bfloat(fb) != h || ml_double_to_bfloat(rb) != h;
        }
        check(ml_load_element(ML_F16, &h) == rh || isnan(rh));
    }
    check(bad == 0);
}

static int bad_float(float f) {
    if (isnan(f)) {
        const uint16_t h = ml_float_to_half(f), b = ml_float_to_bfloat(f);
        const uint32_t u = ml_float_bits(f);
        return h != ((u >> 16 & 0x8000) | 0x7e00 | (u >> 13 & 0x3ff)) || b != (u >> 16 | 0x40);
    }
    int bad = ml_float_to_half(f) != encode(half_format, f) || ml_float_to_bfloat(f) != encode(bfloat_format, f);
#ifdef __FLT16_MAX__
    const _Float16 native = (_Float16)f;
    uint16_t bits;
    memcpy(&bits, &native, sizeof bits);
    bad += bits != ml_float_to_half(f);
#endif
    return bad;
}

static int bad_double(double d) {
    return ml_double_to_half(d) != encode(half_format, d) || ml_double_to_bfloat(d) != encode(bfloat_format, d);
}

static void test_float_samples(void) {
    int bad = 0;
    /* Every top half of a float with low halves around the rounding points of both formats. */
    static const uint16_t lows[] = {0,      1,      0x0fff, 0x1000, 0x1001, 0x1fff, 0x2fff, 0x3000, 0x3001,
                                    0x7fff, 0x8000, 0x8001, 0x9000, 0xcfff, 0xd000, 0xefff, 0xf000, 0xffff};
    for (uint32_t top = 0; top < 65536; top++)
        for (size_t i = 0; i < sizeof lows / sizeof lows[0]; i++)
            bad += bad_float(ml_float_from_bits(top << 16 | lows[i]));
    check(bad == 0);
    bad = 0;
    for (int i = 0; i < 1000000; i++)
        bad += bad_float(ml_float_from_bits((uint32_t)rng()));
    for (int i = 0; i < 300000; i++) /* near the range of halves, subnormal ones included */
        bad += bad_float((float)ldexp(1.0 + (double)(rng() >> 40) * 0x1p-24, (int)rng_in(-28, 17)));
    check(bad == 0);
}

static void test_double_samples(void) {
    int bad = 0;
    /* Between each two neighbours: the middle and a hair to either side, which a detour over float would lose. */
    for (int k = 0; k < 2; k++) {
        const format f = k ? bfloat_format : half_format;
        const uint16_t inf = (uint16_t)((2 * f.emax + 1) << f.mantissa);
        for (uint16_t h = 0; h < inf; h++) {
            const double next = h + 1 < inf ? decode(f, (uint16_t)(h + 1)) : ldexp(1, f.emax + 1);
            const double middle = (decode(f, h) + next) / 2;
            bad += bad_double(middle) + bad_double(-middle);
            bad += bad_double(nextafter(middle, 0)) + bad_double(nextafter(middle, INFINITY));
            bad += bad_double(nextafter(next, 0)) + bad_double(-nextafter(next, INFINITY));
        }
    }
    check(bad == 0);
    bad = 0;
    for (int i = 0; i < 500000; i++) {
        const uint64_t u = rng();
        double d;
        memcpy(&d, &u, sizeof d);
        bad += !isnan(d) && bad_double(d);
        bad += bad_double(ldexp((double)(int64_t)u, (int)rng_in(-200, 70)));
    }
    check(bad == 0);
    check(ml_double_to_half(5e-324) == 0 && ml_double_to_half(-5e-324) == 0x8000);
    check(ml_double_to_bfloat(5e-324) == 0 && ml_double_to_bfloat(1e300) == 0x7f80);
    check(ml_double_to_half(1e300) == 0x7c00 && ml_double_to_half(-INFINITY) == 0xfc00);
    check(ml_double_to_half(65519.999) == 0x7bff && ml_double_to_half(65520) == 0x7c00);
}

static void test_elements(void) {
    unsigned char raw[9];
    for (int dt = 0; dt < ML_DTYPE_COUNT; dt++) { /* through an odd address */
        ml_store_element((ml_dtype)dt, raw + 1, 1.0);
        check(ml_load_element((ml_dtype)dt, raw + 1) == 1.0);
    }
    static const struct {
        ml_dtype dt;
        double in, out;
    } cases[] = {{ML_I32, -2.9, -2},
                 {ML_I32, 1e300, INT32_MAX},
                 {ML_I32, -1e300, INT32_MIN},
                 {ML_I32, NAN, 0},
                 {ML_I32, INT32_MIN, INT32_MIN},
                 {ML_U8, 255.9, 255},
                 {ML_U8, -0.5, 0},
                 {ML_U8, -7, 0},
                 {ML_U8, 300, 255},
                 {ML_U8, NAN, 0},
                 {ML_BOOL, 0.1, 1},
                 {ML_BOOL, -0.0, 0},
                 {ML_BOOL, NAN, 1},
                 {ML_F32, 0.1, 0.1f},
                 {ML_F16, 1e9, INFINITY},
                 {ML_BF16, 1.00390625, 1.0},
                 {ML_BF16, 1.01171875, 1.015625},
                 {ML_F16, 2049, 2048}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ml_store_element(cases[i].dt, raw + 1, cases[i].in);
        check(ml_load_element(cases[i].dt, raw + 1) == cases[i].out);
    }
    static const ml_dtype promoted[6][6] = {
        /*            f32     f16     bf16     i32      u8       bool */
        /* f32  */ {ML_F32, ML_F32, ML_F32, ML_F32, ML_F32, ML_F32},
        /* f16  */ {ML_F32, ML_F16, ML_F32, ML_F16, ML_F16, ML_F16},
        /* bf16 */ {ML_F32, ML_F32, ML_BF16, ML_BF16, ML_BF16, ML_BF16},
        /* i32  */ {ML_F32, ML_F16, ML_BF16, ML_I32, ML_I32, ML_I32},
        /* u8   */ {ML_F32, ML_F16, ML_BF16, ML_I32, ML_U8, ML_U8},
        /* bool */ {ML_F32, ML_F16, ML_BF16, ML_I32, ML_U8, ML_BOOL},
    };
    for (int a = 0; a < 6; a++)
        for (int b = 0; b < 6; b++)
            check(ml_dtype_promote((ml_dtype)a, (ml_dtype)b) == promoted[a][b]);
    check(strcmp(ml_dtype_name(ML_BF16), "bfloat16") == 0 && ml_dtype_size(ML_BF16) == 2);
    check(strcmp(ml_dtype_name((ml_dtype)99), "unknown dtype") == 0 && ml_dtype_size((ml_dtype)-1) == 0);
}

/* ---- tensors, errors --------------------------------------------------------------------------------------- */

static atomic_int releases;

static void count_release(void *user) {
    atomic_fetch_add(&releases, *(int *)user);
}

static void *retain_and_release(void *arg) {
    for (int i = 0; i < 20000; i++) {
        ml_tensor *t;
        if (ml_tensor_transpose(arg, NULL, &t) != ML_OK)
            return arg;
        ml_tensor_release(t);
        ml_tensor_retain(arg);
        ml_tensor_release(arg);
    }
    return NULL;
}

static void test_tensors(void) {
    static float data[24];
    int one = 1;
    ml_host_memory memory = {data, sizeof data, true, count_release, &one};
    ml_buffer *buffer = NULL;
    ml_tensor *t = NULL, *u = NULL;
    void *p = NULL;
    atomic_store(&releases, 0);
    check(ml_buffer_wrap(NULL, &memory, &buffer) == ML_OK);
    check(atomic_load(&buffer->flags) == (ML_BUF_BORROWED | ML_BUF_READ_ONLY));
    ml_layout layout = {.dtype = ML_F32, .shape = {2, {4, 6}}};
    check(ml_tensor_from_existing_buffer(buffer, &layout, &t) == ML_OK);
    ml_buffer_release(buffer);
    check(ml_tensor_buffer(t) == buffer && ml_tensor_ndim(t) == 2 && ml_tensor_size(t) == 24);
    check(ml_tensor_dtype(t) == ML_F32 && ml_tensor_shape(t)[1] == 6 && ml_tensor_strides(t)[0] == 6);
    layout.byte_offset = 4;
    check(ml_tensor_from_existing_buffer(buffer, &layout, &u) == ML_ERR_SHAPE && u == NULL);
    check(strstr(ml_last_error(), "reaches bytes 4 to 100 of memory of 96 bytes") != NULL);
    layout = (ml_layout){.dtype = ML_F32, .shape = {1, {2}}, .byte_offset = 2};
    check(ml_tensor_from_existing_buffer(buffer, &layout, &u) == ML_ERR_VALUE);
    layout = (ml_layout){.dtype = ML_F32, .shape = {1, {4}}, .strides = (int64_t[]){-6}, .byte_offset = 72};
    check(ml_tensor_from_existing_buffer(buffer, &layout, &u) == ML_OK);
    check(ml_tensor_data(u, &p) == ML_OK && p == data + 18);
    ml_tensor_release(u);
    layout.byte_offset = 68;
    check(ml_tensor_from_existing_buffer(buffer, &layout, &u) == ML_ERR_SHAPE);
    layout =
        (ml_layout){.dtype = ML_F32, .shape = {2, {0, 9}}, .strides = (int64_t[]){INT64_MAX, 1}, .byte_offset = -3};
    check(ml_tensor_from_existing_buffer(buffer, &layout, &u) == ML_OK && ml_tensor_is_contiguous(u));
    ml_tensor_release(u);

    check(ml_tensor_slice(t, 0, 3, -2, 2, &u) == ML_OK && ml_tensor_data(u, &p) == ML_OK && p == data + 18);
    ml_tensor *v = NULL;
    check(ml_tensor_reshape(u, &(ml_shape){1, {12}}, &v) == ML_ERR_SHAPE && v == NULL);
    check(ml_tensor_expand_dims(u, 0, &v) == ML_OK && ml_tensor_ndim(v) == 3);
    ml_tensor_release(u);
    check(ml_tensor_squeeze(v, 0, &u) == ML_OK && ml_tensor_ndim(u) == 2);
    ml_tensor_release(v);
    check(ml_tensor_broadcast_to(u, &(ml_shape){2, {2, 7}}, &v) == ML_ERR_SHAPE);
    check(strcmp(ml_last_error(), "broadcast_to: [2, 6] float32 strides (-12, 1) does not fit [2, 7]") == 0);
    check(ml_tensor_broadcast_to(u, &(ml_shape){3, {5, 2, 6}}, &v) == ML_OK && ml_tensor_size(v) == 60);
    ml_tensor_release(u);
    ml_tensor_release(t);
    check(atomic_load(&releases) == 0);
    ml_tensor_release(v);
    check(atomic_load(&releases) == 1);
    ml_tensor_release(NULL);
    ml_buffer_release(NULL);

    check(ml_buffer_wrap(NULL, &(ml_host_memory){.size = 4}, &buffer) == ML_ERR_VALUE);
    check(ml_buffer_wrap(NULL, &(ml_host_memory){.size = 0}, &buffer) == ML_OK);
    layout = (ml_layout){.dtype = ML_F32, .shape = {1, {0}}};
    check(ml_tensor_from_existing_buffer(buffer, &layout, &t) == ML_OK && ml_tensor_data(t, &p) == ML_OK && p == NULL);
    ml_tensor_release(t);
    ml_buffer_release(buffer);

    check(ml_buffer_wrap(NULL, &memory, &buffer) == ML_OK);
    layout = (ml_layout){.dtype = ML_F16, .shape = {2, {4, 6}}};
    check(ml_tensor_from_existing_buffer(buffer, &layout, &t) == ML_OK);
    ml_buffer_release(buffer);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, retain_and_release, t);
    for (int i = 0; i < 3; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        check(bad == NULL);
    }
    check(atomic_load(&releases) == 1);
    ml_tensor_release(t);
    check(atomic_load(&releases) == 2);
}

static void *other_thread_error(void *arg) {
    check(strcmp(ml_last_error(), "") == 0);
    ml_fail(ML_ERR_VALUE, "theirs");
    return arg;
}

static void test_errors(void) {
    pthread_t thread;
    check(ml_fail(ML_ERR_DTYPE, "mine %d", 7) == ML_ERR_DTYPE && strcmp(ml_last_error(), "mine 7") == 0);
    pthread_create(&thread, NULL, other_thread_error, NULL);
    pthread_join(thread, NULL);
    check(strcmp(ml_last_error(), "mine 7") == 0);
    ml_fail(ML_ERR_DTYPE, "outer: %s", ml_last_error()); /* its own argument */
    check(strcmp(ml_last_error(), "outer: mine 7") == 0);
    static char big[5000];
    memset(big, 'x', sizeof big - 1);
    ml_fail(ML_ERR_VALUE, "%s", big);
    check(strlen(ml_last_error()) == 1023);
    check(strcmp(ml_status_name(ML_ERR_SHAPE), "ML_ERR_SHAPE") == 0);
    for (int i = 0; i < ML_STATUS_COUNT; i++)
        check(ml_status_name((ml_status)i) != NULL);
    check(strlen(ml_version()) > 0);
    ml_log_set_level(ML_LOG_OFF);
    ml_log(ML_LOG_ERROR, "not shown");
    ml_warn_once("not shown");
    ml_log_set_level(ML_LOG_WARN);
    check(ml_log_get_level() == ML_LOG_WARN);
}

int main(int argc, char **argv) {
    const uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);
    rng_state = seed;
    printf("seed %llu\n", (unsigned long long)seed);
    test_errors();
    test_all_patterns();
    test_float_samples();
    test_double_samples();
    test_elements();
    test_tensors();
    test_views();
    test_cache();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
