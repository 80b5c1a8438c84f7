/* Rows of any dtype and stride to and from f32 and i32. Unit-stride half types go through the tier's vector kernels. */
#include "device/cpu/elementwise.h"

#include <string.h>

/* dst[i] = expr of `x`, the i-th source element of type T. */
#define LOAD_LOOP(T, expr)                                                                                             \
    do {                                                                                                               \
        const T *s_ = src->data;                                                                                       \
        if (src->stride == 1) {                                                                                        \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const T x = s_[i];                                                                                     \
                dst[i] = (expr);                                                                                       \
            }                                                                                                          \
        } else {                                                                                                       \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const T x = s_[i * src->stride];                                                                       \
                dst[i] = (expr);                                                                                       \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

/* The i-th destination element of type T = expr of `x`, the i-th source element. */
#define STORE_LOOP(T, expr)                                                                                            \
    do {                                                                                                               \
        T *d_ = dst->data;                                                                                             \
        if (dst->stride == 1) {                                                                                        \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const __typeof__(*src) x = src[i];                                                                     \
                d_[i] = (expr);                                                                                        \
            }                                                                                                          \
        } else {                                                                                                       \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const __typeof__(*src) x = src[i];                                                                     \
                d_[i * dst->stride] = (expr);                                                                          \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

/* As STORE_LOOP where x lies in the range, which NaN does not; *ok is cleared where it does not. */
#define STORE_CHECKED(T, in_range)                                                                                     \
    do {                                                                                                               \
        T *d_ = dst->data;                                                                                             \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const __typeof__(*src) x = src[i];                                                                         \
            if (in_range)                                                                                              \
                d_[i * dst->stride] = (T)x;                                                                            \
            else                                                                                                       \
                ok = false;                                                                                            \
        }                                                                                                              \
    } while (0)

enum { CHUNK = 256 };

/* Half types with a stride: gathered into a unit-stride chunk first, so that the vector kernel converts. */
static void load_half(ml_ew_widen_fn widen, float *dst, const ml_ew_vec *src, int64_t n) {
    const uint16_t *s = src->data;
    if (src->stride == 1) {
        widen(dst, s, n);
        return;
    }
    uint16_t chunk[CHUNK];
    for (int64_t first = 0; first < n; first += CHUNK) {
        int64_t count = n - first < CHUNK ? n - first : CHUNK;
        for (int64_t i = 0; i < count; i++)
            chunk[i] = s[(first + i) * src->stride];
        widen(dst + first, chunk, count);
    }
}

static void store_half(ml_ew_narrow_fn narrow, const ml_ew_vec *dst, const float *src, int64_t n) {
    uint16_t *d = dst->data;
    if (dst->stride == 1) {
        narrow(d, src, n);
        return;
    }
    uint16_t chunk[CHUNK];
    for (int64_t first = 0; first < n; first += CHUNK) {
        int64_t count = n - first < CHUNK ? n - first : CHUNK;
        narrow(chunk, src + first, count);
        for (int64_t i = 0; i < count; i++)
            d[(first + i) * dst->stride] = chunk[i];
    }
}

void ml_ew_load_f32(const ml_elementwise_impl *impl, float *dst, const ml_ew_vec *src, int64_t n) {
    switch (src->dtype) {
    case ML_F32:
        LOAD_LOOP(float, x);
        break;
    case ML_F16:
    case ML_BF16:
        load_half(impl->widen[src->dtype], dst, src, n);
        break;
    case ML_I32:
        LOAD_LOOP(int32_t, (float)x);
        break;
    case ML_U8:
        LOAD_LOOP(uint8_t, (float)x);
        break;
    default:
        LOAD_LOOP(uint8_t, x != 0 ? 1.0f : 0.0f);
        break;
    }
}

void ml_ew_load_i32(int32_t *dst, const ml_ew_vec *src, int64_t n) {
    switch (src->dtype) {
    case ML_I32:
        LOAD_LOOP(int32_t, x);
        break;
    case ML_U8:
        LOAD_LOOP(uint8_t, x);
        break;
    default:
        LOAD_LOOP(uint8_t, x != 0);
        break;
    }
}

bool ml_ew_store_f32(const ml_elementwise_impl *impl, const ml_ew_vec *dst, const float *src, int64_t n) {
    bool ok = true;
    switch (dst->dtype) {
    case ML_F32:
        STORE_LOOP(float, x);
        break;
    case ML_F16:
    case ML_BF16:
        store_half(impl->narrow[dst->dtype], dst, src, n);
        break;
    case ML_I32:
        STORE_CHECKED(int32_t, x >= -2147483648.0f && x < 2147483648.0f);
        break;
    case ML_U8:
        STORE_CHECKED(uint8_t, x > -1.0f && x < 256.0f);
        break;
    default:
        STORE_LOOP(uint8_t, x != 0.0f);
        break;
    }
    return ok;
}

bool ml_ew_store_i32(const ml_elementwise_impl *impl, const ml_ew_vec *dst, const int32_t *src, int64_t n) {
    bool ok = true;
    switch (dst->dtype) {
    case ML_F32:
        STORE_LOOP(float, (float)x);
        break;
    case ML_F16: { /* what f32 would round is beyond f16's range, so this rounds once */
        float chunk[CHUNK];
        for (int64_t first = 0; first < n; first += CHUNK) {
            int64_t count = n - first < CHUNK ? n - first : CHUNK;
            for (int64_t i = 0; i < count; i++)
                chunk[i] = (float)src[first + i];
            ml_ew_vec part = {(uint16_t *)dst->data + first * dst->stride, dst->stride, ML_F16};
            store_half(impl->narrow[ML_F16], &part, chunk, count);
        }
        break;
    }
    case ML_BF16:
        STORE_LOOP(uint16_t, ml_double_to_bfloat((double)x));
        break;
    case ML_I32:
        STORE_LOOP(int32_t, x);
        break;
    case ML_U8:
        STORE_CHECKED(uint8_t, x >= 0 && x <= 255);
        break;
    default:
        STORE_LOOP(uint8_t, x != 0);
        break;
    }
    return ok;
}
