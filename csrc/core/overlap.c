/* Exact overlap of strided views.
 *
 * Two views share a byte when  a0 + sum_i s_i x_i + p = b0 + sum_j t_j y_j + q  has a solution with every index in its
 * range and p, q inside an element. Turning each dim so that its stride points the right way makes that one bounded
 * linear Diophantine equation with positive coefficients, sum_i c_i x_i = d,  0 <= x_i <= u_i, which is how NumPy's
 * shares_memory poses it (P. Virtanen, numpy/core/src/common/mem_overlap.c, 2015; the problem is bounded subset sum and
 * NP-hard). What keeps it cheap here: terms are merged first, so that the dims two views have in common, contiguous
 * dims and element sizes melt into one term each; the terms are then searched from the largest down, each restricted by
 * the reach of the smaller ones to an interval and by their gcd to a residue class; the last two terms are solved in
 * closed form. The rest of the search is capped, and what exceeds the cap counts as overlap: that answer can only
 * refuse a safe call, never allow an unsafe one. No views that slices, transposes and steps of one tensor produce come
 * near the cap.
 */
#include "core/view.h"

#define MAX_TERMS (2 * ML_MAX_DIMS + 2) /* dims of both views and both element sizes */
#define MAX_WORK 100000                 /* nodes of the search; a few milliseconds */
#define MAX_REACH (INT64_MAX / 4)       /* no memory is larger; keeps the arithmetic in 64 bits */

/* sum_i c[i] x[i] = d with 0 <= x[i] <= u[i], c[i] > 0, u[i] > 0. */
typedef struct equation {
    int n;
    int64_t c[MAX_TERMS], u[MAX_TERMS];
    int64_t total; /* sum of c[i] u[i], negative where it exceeds MAX_REACH */
    /* Set by prepare(), of the terms 0..i: the largest sum and the gcd. For i > 0 the smaller terms fix x[i] modulo
     * period[i] = gcd[i-1] / gcd[i]; inverse[i] is that of c[i] / gcd[i]. */
    int64_t reach[MAX_TERMS], gcd[MAX_TERMS], period[MAX_TERMS], inverse[MAX_TERMS];
    int64_t work;
} equation;

/* The sign of c does not matter to the callers: they turn the dim round. */
static void add_term(equation *e, int64_t c, int64_t u) {
    int64_t extent;
    if (c == 0 || u == 0)
        return;
    if (c == INT64_MIN || __builtin_mul_overflow(c < 0 ? -c : c, u, &extent) || e->total < 0 ||
        extent > MAX_REACH - e->total) {
        e->total = -1;
        return;
    }
    e->c[e->n] = c < 0 ? -c : c;
    e->u[e->n] = u;
    e->total += extent;
    e->n++;
}

static int64_t gcd_of(int64_t a, int64_t b) {
    while (b) {
        const int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* Inverse of a modulo m, for coprime a and m (extended Euclid); 0 when m is 1. */
static int64_t inverse_of(int64_t a, int64_t m) {
    int64_t r0 = m, r1 = a % m, t0 = 0, t1 = 1;
    while (r1 > 0) {
        const int64_t q = r0 / r1, r2 = r0 - q * r1, t2 = t0 - q * t1;
        r0 = r1, r1 = r2;
        t0 = t1, t1 = t2;
    }
    return m == 1 ? 0 : (t0 < 0 ? t0 + m : t0);
}

/* Ascending coefficients. */
static void sort_terms(equation *e) {
    for (int i = 1; i < e->n; i++)
        for (int j = i; j > 0 && e->c[j] < e->c[j - 1]; j--) {
            const int64_t c = e->c[j], u = e->u[j];
            e->c[j] = e->c[j - 1], e->u[j] = e->u[j - 1];
            e->c[j - 1] = c, e->u[j - 1] = u;
        }
}

/* Makes c x + k c y one term where it covers every multiple of c in its range: k <= u_x + 1. That is what contiguous
 * dims look like, and equal strides (k = 1). */
static void merge_terms(equation *e) {
    for (int i = 0; i < e->n; i++) {
        int kept = i + 1;
        for (int j = i + 1; j < e->n; j++) {
            const int64_t k = e->c[j] / e->c[i];
            if (e->c[j] % e->c[i] == 0 && k <= e->u[i] + 1) {
                e->u[i] += k * e->u[j];
            } else {
                e->c[kept] = e->c[j];
                e->u[kept] = e->u[j];
                kept++;
            }
        }
        e->n = kept;
    }
}

static void prepare(equation *e) {
    sort_terms(e);
    merge_terms(e);
    e->work = 0;
    for (int i = 0; i < e->n; i++) {
        e->reach[i] = e->c[i] * e->u[i] + (i ? e->reach[i - 1] : 0);
        e->gcd[i] = i ? gcd_of(e->c[i], e->gcd[i - 1]) : e->c[0];
        e->period[i] = i ? e->gcd[i - 1] / e->gcd[i] : 1;
        e->inverse[i] = i ? inverse_of(e->c[i] / e->gcd[i], e->period[i]) : 0;
    }
}

/* Whether the terms 0..i can sum to d. */
static bool reachable(equation *e, int i, int64_t d) {
    if (d < 0 || d > e->reach[i] || d % e->gcd[i] != 0)
        return false;
    if (i == 0 || d == 0 || d == e->reach[i])
        return true;
    if (++e->work > MAX_WORK)
        return true;
    const int64_t c = e->c[i], m = e->period[i];
    const int64_t least = d - e->reach[i - 1]; /* the smaller terms cannot add more */
    const int64_t last = d / c < e->u[i] ? d / c : e->u[i];
    int64_t x = least > 0 ? (least - 1) / c + 1 : 0;
    /* c x = d (mod gcd[i-1]): on to the first x of that residue class. */
    const int64_t residue = (int64_t)((__int128)(d / e->gcd[i] % m) * e->inverse[i] % m);
    const int64_t ahead = (residue - x % m + m) % m;
    x += ahead;
    if (i == 1)
        return x <= last; /* what is left is a multiple of c[0] within its reach */
    for (; x <= last; x += m)
        if (reachable(e, i - 1, d - c * x))
            return true;
    return false;
}

static bool solvable(equation *e, int64_t d) {
    if (e->total < 0)
        return true;
    prepare(e);
    return e->n ? reachable(e, e->n - 1, d) : d == 0;
}

/* ---- views ------------------------------------------------------------------------------------------------- */

bool ml_views_overlap(const ml_view *a, const ml_view *b) {
    if (!a->buf || !b->buf)
        return false;
    int64_t apart = 0; /* of the buffers */
    if (a->buf != b->buf) {
        if (!a->buf->host || !b->buf->host)
            return false;
        apart = (int64_t)((uintptr_t)b->buf->host - (uintptr_t)a->buf->host);
    }
    int64_t low_a, high_a, low_b, high_b;
    if (ml_view_byte_range(a, &low_a, &high_a) != ML_OK || ml_view_byte_range(b, &low_b, &high_b) != ML_OK)
        return true; /* not views of real memory */
    low_b += apart;
    high_b += apart;
    if (low_a == high_a || low_b == high_b || high_a <= low_b || high_b <= low_a)
        return false;

    /* Bytes of a counted from its lowest upwards, of b from its highest downwards:
     *     low_a + sum s x + p = high_b - 1 - (sum t y + q).
     * With all elements on one grid, sharing a byte is sharing a unit of the grid. */
    const int64_t item_a = (int64_t)ml_dtype_size_of(a->dtype), item_b = (int64_t)ml_dtype_size_of(b->dtype);
    const int64_t span = high_b - low_a;
    int64_t unit = item_a < item_b ? item_a : item_b; /* a power of two */
    if (span % unit != 0)
        unit = 1;
    equation e = {.n = 0};
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] > 1)
            add_term(&e, a->strides[i] * (item_a / unit), a->shape[i] - 1);
    for (int i = 0; i < b->ndim; i++)
        if (b->shape[i] > 1)
            add_term(&e, b->strides[i] * (item_b / unit), b->shape[i] - 1);
    add_term(&e, 1, item_a / unit + item_b / unit - 2);
    return solvable(&e, span / unit - 1);
}

bool ml_view_self_overlaps(const ml_view *v) {
    equation dims = {.n = 0};
    bool repeats = false;
    int64_t elements = 1;
    for (int i = 0; i < v->ndim; i++) {
        if (v->shape[i] == 0)
            return false;
        repeats |= v->shape[i] > 1 && v->strides[i] == 0;
        elements *= v->shape[i];
        add_term(&dims, v->strides[i], v->shape[i] - 1);
    }
    /* More elements than places cannot all have their own. */
    if (repeats || dims.total < 0 || elements - 1 > dims.total)
        return true;
    sort_terms(&dims);
    /* Two indices of one place differ by y with sum c y = 0. Let i be the last dim where y is not 0; -y is a solution
     * with y, so y_i > 0. With t = u_i - y_i in [0, u_i - 1] and z_j = u_j - y_j in [0, 2 u_j] for j < i, c_i t + sum_j
     * c_j z_j = c_i u_i + sum_j c_j u_j. There is none where stride i exceeds the reach of the smaller ones, as in
     * every ordinary tensor. */
    int64_t reach = 0;
    for (int i = 0; i < dims.n; i++) {
        const int64_t extent = dims.c[i] * dims.u[i];
        if (dims.c[i] <= reach) {
            equation e = {.n = 0};
            for (int j = 0; j < i; j++)
                add_term(&e, dims.c[j], 2 * dims.u[j]);
            add_term(&e, dims.c[i], dims.u[i] - 1);
            if (solvable(&e, extent + reach))
                return true;
        }
        reach += extent;
    }
    return false;
}
