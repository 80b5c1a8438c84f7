/* Matmul policy: DESIGN.md section 4, in its order: orientation, variant, backend, measured table, support. */
#include "dispatch/dispatch.h"
#include "dispatch/gemm_layout.h"
#include "dispatch/gemv_layout.h"
#include "dispatch/gpu_layout.h"

#include <string.h>

#define SMALL_N_LIMIT 16 /* the largest bucket */
#define WIN_GAIN 1.05f   /* a measured winner replaces the default from 5 % on */
#define MATMUL_SUP_ALL (ML_SUP_BIAS | ML_SUP_ACTIVATION | ML_SUP_ALPHA_BETA | ML_SUP_ANY_STRIDES | ML_SUP_MIXED_DTYPES)

/* One matmul on its way through the steps. */
typedef struct ml_matmul_case {
    const ml_op *op;
    const ml_caps *caps;
    const ml_prefs *prefs;
    int64_t m, n, k;           /* after orientation */
    bool transposed;           /* by orientation */
    uint32_t dtypes, supports; /* what a kernel must offer */
    ml_variant_force variant;  /* argument, else preferences */
    bool variant_by_arg;
    ml_matmul_backend forced; /* argument, else preferences */
    bool forced_by_arg;
    ml_matmul_variant_kind shape_class;
    ml_gemm_tile tile;
    uint32_t operand_cases; /* ML_CASE_BF16_DOT, ML_CASE_F16_DOT */
    uint32_t cases;         /* those, and on GPU devices those of the layout, after orientation */
} ml_matmul_case;

ml_smalln_bucket ml_bucket_of(int64_t n) {
    if (n <= 1)
        return ML_BUCKET_1;
    if (n <= 2)
        return ML_BUCKET_2;
    if (n <= 4)
        return ML_BUCKET_4;
    if (n <= 8)
        return ML_BUCKET_8;
    return n <= 16 ? ML_BUCKET_16 : ML_BUCKET_OTHER;
}

/* Whether the last two dims have one unit stride and the other stride keeps rows (or columns) apart. */
static bool has_plain_strides(const ml_view *v) {
    const int64_t *shape = v->shape + v->ndim - 2, *strides = v->strides + v->ndim - 2;
    for (int unit = 0; unit < 2; unit++) {
        int other = 1 - unit;
        if ((shape[unit] <= 1 || strides[unit] == 1) && (shape[other] <= 1 || strides[other] >= shape[unit]))
            return true;
    }
    return false;
}

static void find_needs(ml_matmul_case *c) {
    const ml_matmul_params *p = &c->op->matmul;
    const ml_view *views[5] = {&c->op->out[0], &c->op->in[ML_IN_A], &c->op->in[ML_IN_B],
                               p->has_c ? &c->op->in[ML_IN_C] : NULL, p->has_bias ? &c->op->in[ML_IN_BIAS] : NULL};
    for (int i = 0; i < 5; i++) {
        if (!views[i])
            continue;
        c->dtypes |= ML_DTYPE_BIT(views[i]->dtype);
        if (i < 4 && !has_plain_strides(views[i])) /* a bias is a vector, whatever its broadcast view looks like */
            c->supports |= ML_SUP_ANY_STRIDES;
    }
    if ((c->dtypes & (c->dtypes - 1)) != 0)
        c->supports |= ML_SUP_MIXED_DTYPES;
    if (c->op->in[ML_IN_A].dtype == ML_BF16 && c->op->in[ML_IN_B].dtype == ML_BF16 &&
        c->prefs->precision != ML_PRECISION_HIGH)
        c->operand_cases |= ML_CASE_BF16_DOT;
    if (c->op->in[ML_IN_A].dtype == ML_F16 && c->op->in[ML_IN_B].dtype == ML_F16)
        c->operand_cases |= ML_CASE_F16_DOT;
    if (p->has_bias)
        c->supports |= ML_SUP_BIAS;
    if (p->activation != ML_ACT_NONE)
        c->supports |= ML_SUP_ACTIVATION;
    if (p->alpha != 1.0f || p->has_c)
        c->supports |= ML_SUP_ALPHA_BETA;
}

static bool family_present(const ml_caps *caps, int family) {
    return family == ML_BACKEND_MLX ? caps->has_mlx : family == ML_BACKEND_MPS ? caps->has_mps : caps->has_gemv;
}

static ml_need need_of(const ml_matmul_case *c, int family) {
    /* gemv takes wide problems in blocks of 16 columns */
    int64_t n = family == ML_BACKEND_GEMV && c->n > SMALL_N_LIMIT ? SMALL_N_LIMIT : c->n;
    static const uint32_t tiles[] = {[ML_TILE_64X32] = ML_CASE_TILE_64X32,
                                     [ML_TILE_64X64] = ML_CASE_TILE_64X64,
                                     [ML_TILE_GENERIC] = ML_CASE_TILE_GENERIC};
    return (ml_need){.op = ML_OP_MATMUL,
                     .family = family,
                     .dtypes = c->dtypes,
                     .supports = c->supports,
                     .cases = c->cases | tiles[c->tile],
                     .n = n};
}

static const ml_kernel_desc *find(const ml_matmul_case *c, int family, ml_why *why_not) {
    if (!family_present(c->caps, family)) {
        *why_not = ML_WHY_BACKEND_ABSENT;
        return NULL;
    }
    ml_need need = need_of(c, family);
    return ml_find_kernel(c->caps, c->prefs, &need, why_not);
}

/* The row of this name when it is present and can do the case. */
static const ml_kernel_desc *find_named(const ml_matmul_case *c, int family, const char *name) {
    if (!family_present(c->caps, family))
        return NULL;
    ml_caps one = *c->caps;
    for (int i = 0; i < c->caps->n_kernels; i++) {
        if (strcmp(c->caps->kernels[i].name, name) != 0)
            continue;
        one.kernels = &c->caps->kernels[i];
        one.n_kernels = 1;
        ml_why why_not;
        ml_need need = need_of(c, family);
        const ml_kernel_desc *row = ml_find_kernel(&one, c->prefs, &need, &why_not);
        if (row)
            return row;
    }
    return NULL;
}

/* The kernel of last resort: the highest rank among rows without any gap that can do the case. */
static const ml_kernel_desc *find_generic(const ml_matmul_case *c) {
    static const int families[] = {ML_BACKEND_MLX, ML_BACKEND_MPS, ML_BACKEND_GEMV};
    const ml_kernel_desc *best = NULL;
    for (int i = 0; i < 3; i++) {
        if (families[i] != ML_BACKEND_MLX && !family_present(c->caps, families[i]))
            continue;
        ml_need need = need_of(c, families[i]);
        need.supports = MATMUL_SUP_ALL;
        const ml_kernel_desc *row = ml_find_kernel(c->caps, c->prefs, &need, NULL);
        if (row && (!best || row->rank > best->rank))
            best = row;
    }
    return best;
}

static void take_forces(ml_matmul_case *c) {
    const ml_matmul_params *p = &c->op->matmul;
    c->forced_by_arg = p->backend != ML_BACKEND_AUTO;
    c->forced = c->forced_by_arg ? p->backend : c->prefs->matmul_backend;
    c->variant_by_arg = p->variant != ML_FORCE_AUTO;
    if (c->variant_by_arg)
        c->variant = p->variant;
    else if (c->prefs->matmul_variant_force != ML_FORCE_AUTO)
        c->variant = c->prefs->matmul_variant_force;
    else
        c->variant = c->prefs->matmul_force_smalln ? ML_FORCE_SMALLN : ML_FORCE_AUTO;
}

static void turn(ml_matmul_case *c, bool transposed) {
    const ml_matmul_params *p = &c->op->matmul;
    c->transposed = transposed;
    c->m = transposed ? p->n : p->m;
    c->n = transposed ? p->m : p->n;
    c->k = p->k;
    c->cases = c->operand_cases;
    if (c->caps->device != ML_DEVICE_CPU)
        c->cases |= ml_gpu_matmul_cases(c->op, transposed);
}

/* Step 1. The transposed problem costs nothing: strides are swapped. */
static void orient(ml_matmul_case *c, ml_plan *plan) {
    const ml_matmul_params *p = &c->op->matmul;
    int64_t max_n = c->prefs->smalln_max_n > SMALL_N_LIMIT ? SMALL_N_LIMIT : c->prefs->smalln_max_n;
    turn(c, p->m < p->n && (p->m <= max_n || (c->variant == ML_FORCE_SMALLN && p->m <= SMALL_N_LIMIT)));
    plan->transposed = c->transposed;
    if (plan->transposed)
        ml_plan_because(plan, ML_WHY_TRANSPOSED);
}

/* Step 2. */
static void choose_variant(ml_matmul_case *c, ml_plan *plan) {
    int64_t max_n = c->prefs->smalln_max_n > SMALL_N_LIMIT ? SMALL_N_LIMIT : c->prefs->smalln_max_n;
    c->shape_class = ML_SMALL_N;
    c->tile = ML_TILE_GENERIC;
    if (c->variant == ML_FORCE_SMALLN) {
        if (c->n <= SMALL_N_LIMIT) {
            ml_plan_because(plan, ML_WHY_FORCED_SMALLN);
            return;
        }
        ml_plan_because(plan, ML_WHY_SMALLN_IGNORED);
    }
    if (c->variant == ML_FORCE_GEMM) {
        ml_plan_because(plan, ML_WHY_FORCED_GEMM);
    } else if (c->n <= max_n) {
        ml_plan_because(plan, ML_WHY_SMALL_N);
        return;
    }
    if (c->caps->simdgroup_mm && c->m >= c->prefs->simd_m_min && c->n >= c->prefs->simd_n_min) {
        c->shape_class = ML_GEMM_SIMD;
        c->tile = c->n < 64 ? ML_TILE_64X32 : ML_TILE_64X64;
        ml_plan_because(plan, ML_WHY_SIMD);
    } else {
        c->shape_class = ML_GEMM_GENERIC;
        ml_plan_because(plan, ML_WHY_GENERIC);
    }
}

/* Step 3. */
static int choose_backend(const ml_matmul_case *c, ml_plan *plan) {
    if (c->forced != ML_BACKEND_AUTO) {
        ml_plan_because(plan, c->forced_by_arg ? ML_WHY_FORCED_BACKEND_ARG : ML_WHY_FORCED_BACKEND_PREF);
        return c->forced;
    }
    ml_plan_because(plan, ML_WHY_BACKEND_DEFAULT);
    return c->shape_class == ML_SMALL_N ? ML_BACKEND_GEMV : ML_BACKEND_MLX;
}

/* Whether the tiled GEMM would read a weight in panels that hold no more bytes than the weight. Rows of the tables that
 * prefer small-N kernels compare them with a GEMM that packs; with such panels it was faster in the cases of
 * docs/experiments.md ("Prepacked weights"), which are few: 8 to 12 rows of two or three weights. */
static bool has_lean_panels(const ml_matmul_case *c) {
    ml_why why_not;
    ml_plan plan = {.kernel = find(c, ML_BACKEND_MLX, &why_not)};
    if (c->caps->device != ML_DEVICE_CPU || !plan.kernel || plan.kernel->mr == 0)
        return false;
    plan.block = ml_gemm_blocking(c->caps, plan.kernel, c->k);
    const ml_panels_of panels = ml_gemm_panels_of(c->op, &plan);
    if (panels == ML_PANELS_OF_NONE)
        return false;
    const ml_dtype dtype = c->op->in[panels == ML_PANELS_OF_A ? ML_IN_A : ML_IN_B].dtype;
    return (int64_t)ml_dtype_size_of(dtype) * ml_gemm_k_pack(plan.kernel) >= (int64_t)sizeof(float);
}

/* Whether row t is about this problem and may be used; *kernel is then what it runs. */
static bool covers(const ml_matmul_case *c, const ml_tuning_row *t, const ml_kernel_desc **kernel) {
    if (t->op != ML_OP_MATMUL || t->gain < WIN_GAIN || (c->dtypes & ~t->dtypes) != 0)
        return false;
    if (c->m < t->m_min || c->m > t->m_max || c->n < t->n_min || c->n > t->n_max || c->k < t->k_min || c->k > t->k_max)
        return false;
    if (c->forced != ML_BACKEND_AUTO && (t->family != (int)c->forced || !t->kernel))
        return false;
    if (t->family == ML_BACKEND_GEMV &&
        (c->variant == ML_FORCE_GEMM || (c->forced == ML_BACKEND_AUTO && has_lean_panels(c))))
        return false;
    ml_why why_not;
    *kernel = t->kernel ? find_named(c, t->family, t->kernel) : find(c, t->family, &why_not);
    return *kernel != NULL;
}

/* Step 4: the first row of the table that covers the case, wins by enough, leaves alone what is forced, and can be run.
 * Rows of small-N kernels speak of few columns: a problem with few rows is turned for them, up to their limit whatever
 * the limit of step 1 is. */
static const ml_tuning_row *find_measured(ml_matmul_case *c, const ml_kernel_desc **kernel) {
    ml_matmul_case turned = *c;
    const bool few_rows = !c->transposed && c->m < c->n && c->m <= SMALL_N_LIMIT;
    if (few_rows)
        turn(&turned, true);
    for (int i = 0; i < c->caps->n_tuning; i++) {
        const ml_tuning_row *t = &c->caps->tuning[i];
        const bool turn_it = few_rows && t->family == ML_BACKEND_GEMV;
        if (!covers(turn_it ? &turned : c, t, kernel))
            continue;
        if (turn_it)
            *c = turned;
        return t;
    }
    return NULL;
}

/* what, name and by are joined: "backend ", "mps", " (argument)". */
static ml_status cannot(const ml_matmul_case *c, const char *what, const char *name, const char *by, ml_why reason) {
    const ml_matmul_params *p = &c->op->matmul;
    return ml_fail(ML_ERR_UNSUPPORTED, "matmul: %s%s%s cannot do M=%lld N=%lld K=%lld (a %s, b %s, out %s): %s", what,
                   name, by, (long long)p->m, (long long)p->n, (long long)p->k, ml_dtype_name(c->op->in[ML_IN_A].dtype),
                   ml_dtype_name(c->op->in[ML_IN_B].dtype), ml_dtype_name(c->op->out[0].dtype), ml_why_text(reason));
}

/* Step 5: the wanted family, else mlx (mps where mlx is absent), else the generic kernel. */
static ml_status choose_kernel(ml_matmul_case *c, int wanted, ml_plan *plan) {
    ml_why why_not;
    plan->family = wanted;
    plan->kernel = find(c, wanted, &why_not);
    if (plan->kernel)
        return ML_OK;
    ml_why first = why_not;
    ml_plan_because(plan, first);
    if (c->prefs->strict && c->forced == (ml_matmul_backend)wanted)
        return cannot(c, "backend ", ml_backend_name(c->forced),
                      c->forced_by_arg ? " (argument)" : " (METALLIC_MATMUL_BACKEND)", first);
    if (wanted != ML_BACKEND_MLX) {
        plan->family = ML_BACKEND_MLX;
        plan->kernel = find(c, ML_BACKEND_MLX, &why_not);
        ml_plan_because(plan, plan->kernel ? ML_WHY_FELL_BACK_MLX : why_not);
    }
    if (!plan->kernel && !c->caps->has_mlx && wanted != ML_BACKEND_MPS) {
        plan->family = ML_BACKEND_MPS;
        plan->kernel = find(c, ML_BACKEND_MPS, &why_not);
        if (!plan->kernel)
            ml_plan_because(plan, why_not);
    }
    if (plan->kernel)
        return ML_OK;
    plan->kernel = find_generic(c);
    if (!plan->kernel)
        return cannot(c, "no kernel of this device", "", "", first);
    plan->family = plan->kernel->family;
    c->shape_class = ML_GEMM_GENERIC;
    c->tile = ML_TILE_GENERIC;
    ml_plan_because(plan, ML_WHY_FELL_BACK_GENERIC);
    return ML_OK;
}

/* What the device needs to run the kernel. */
static void complete(const ml_matmul_case *c, ml_plan *plan) {
    plan->variant = c->shape_class;
    plan->tile = c->tile;
    plan->bucket = c->shape_class == ML_SMALL_N ? ml_bucket_of(c->n) : ML_BUCKET_OTHER;
    if (plan->family == ML_BACKEND_GEMV && c->shape_class != ML_SMALL_N) {
        plan->variant = ML_SMALL_N;
        plan->tile = ML_TILE_GENERIC;
    }
    const ml_matmul_params *p = &c->op->matmul;
    bool empty = p->m == 0 || p->n == 0 || p->batch == 0;
    if (c->caps->device == ML_DEVICE_CPU && !empty) {
        if (plan->family == ML_BACKEND_MLX && plan->kernel->mr > 0) {
            plan->block = ml_gemm_blocking(c->caps, plan->kernel, c->k);
            plan->panels = ml_gemm_panels_of(c->op, plan);
            if (plan->panels != ML_PANELS_OF_NONE)
                ml_plan_because(plan, ML_WHY_PREPACKED);
            plan->scratch_bytes = ml_gemm_scratch_bytes(c->op, plan, c->caps->threads > 0 ? c->caps->threads : 1);
        } else if (plan->family == ML_BACKEND_GEMV) {
            plan->scratch_bytes = ml_gemv_scratch_bytes(c->op, plan->transposed);
        }
    }
    ml_plan_cost(c->op, c->caps, plan);
}

/* METALLIC_DISPATCH leaves matmul out: as the caller gave it, vendor library first. */
static ml_status plan_plain(ml_matmul_case *c, ml_plan *plan) {
    ml_plan_because(plan, ML_WHY_NOT_DISPATCHED);
    turn(c, false);
    c->forced = ML_BACKEND_AUTO;
    c->shape_class = ML_GEMM_GENERIC;
    c->tile = ML_TILE_GENERIC;
    ML_TRY(choose_kernel(c, c->caps->has_mps ? ML_BACKEND_MPS : ML_BACKEND_MLX, plan));
    complete(c, plan);
    return ML_OK;
}

ml_status ml_plan_matmul(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan) {
    *plan = (ml_plan){.op = ML_OP_MATMUL};
    ml_matmul_case c = {.op = op, .caps = caps, .prefs = prefs};
    const ml_matmul_params *p = &op->matmul;
    find_needs(&c);
    take_forces(&c);
    if (p->m == 0 || p->n == 0 || p->batch == 0 || p->k == 0 || p->alpha == 0.0f)
        ml_plan_because(plan, ML_WHY_TRIVIAL);
    if (!(prefs->dispatch_ops >> ML_OP_MATMUL & 1u) && !c.forced_by_arg && !c.variant_by_arg)
        return plan_plain(&c, plan);

    orient(&c, plan);
    choose_variant(&c, plan);
    if (prefs->strict && c.variant == ML_FORCE_SMALLN && c.shape_class != ML_SMALL_N)
        return cannot(&c, "variant ", "smalln",
                      c.variant_by_arg                                 ? " (argument)"
                      : prefs->matmul_variant_force == ML_FORCE_SMALLN ? " (METALLIC_MATMUL_VARIANT_FORCE)"
                                                                       : " (METALLIC_MATMUL_FORCE_SMALLN)",
                      ML_WHY_SMALLN_IGNORED);
    int wanted = choose_backend(&c, plan);
    const ml_tuning_row *measured = find_measured(&c, &plan->kernel);
    if (measured) {
        if (c.transposed && !plan->transposed)
            ml_plan_because(plan, ML_WHY_TRANSPOSED);
        plan->transposed = c.transposed;
        ml_plan_because(plan, ML_WHY_TUNED);
        plan->family = measured->family;
        if (measured->family == ML_BACKEND_GEMV && c.n <= SMALL_N_LIMIT && c.forced == ML_BACKEND_AUTO)
            c.shape_class = ML_SMALL_N;
    } else {
        ML_TRY(choose_kernel(&c, wanted, plan));
    }
    complete(&c, plan);
    return ML_OK;
}
