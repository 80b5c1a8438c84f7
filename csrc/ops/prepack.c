/* Prepacked weights: a copy that never changes, so that what kernels derive from it can be kept. */
#include "core/prepacked.h"
#include "ops/ops.h"

/* The copy holds whole row-major matrices, of the weight or of its transposes: whichever lies in memory as the weight
 * does, so that kernels that read it where it is go the way they would have gone. Of dims that repeat it holds one. */
typedef struct layout {
    bool swapped;               /* matrices are stored as their transposes */
    ml_view unique;             /* the weight with repeated leading dims reduced to one, matrices as stored */
    int64_t extent[3];          /* count, rows, cols as stored */
    int64_t steps[ML_MAX_DIMS]; /* of the copy's leading dims, elements */
} layout;

static void find_layout(const ml_view *v, layout *l) {
    const int row = v->ndim - 2, col = v->ndim - 1;
    const int64_t rs = v->strides[row] < 0 ? -v->strides[row] : v->strides[row];
    const int64_t cs = v->strides[col] < 0 ? -v->strides[col] : v->strides[col];
    l->swapped = v->shape[row] > 1 && v->shape[col] > 1 && rs < cs && rs != 0;
    l->unique = *v;
    if (l->swapped) {
        l->unique.shape[row] = v->shape[col];
        l->unique.strides[row] = v->strides[col];
        l->unique.shape[col] = v->shape[row];
        l->unique.strides[col] = v->strides[row];
    }
    l->extent[0] = 1;
    l->extent[1] = l->unique.shape[row];
    l->extent[2] = l->unique.shape[col];
    for (int d = row - 1; d >= 0; d--) {
        if (v->strides[d] == 0 && v->shape[d] > 1)
            l->unique.shape[d] = 1;
        l->steps[d] = l->unique.shape[d] == v->shape[d] ? l->extent[0] * l->extent[1] * l->extent[2] : 0;
        l->extent[0] *= l->unique.shape[d];
    }
}

/* The copy as the caller sees it. */
static void set_view(const layout *l, const ml_view *as, bool transpose, ml_view *v) {
    const int row = as->ndim - 2, col = as->ndim - 1;
    for (int d = 0; d < row; d++) {
        v->shape[d] = as->shape[d];
        v->strides[d] = l->steps[d];
    }
    v->shape[row] = as->shape[transpose ? col : row];
    v->shape[col] = as->shape[transpose ? row : col];
    const bool turned = l->swapped != transpose; /* against what is stored */
    v->strides[row] = turned ? 1 : l->extent[2];
    v->strides[col] = turned ? l->extent[2] : 1;
}

static ml_status check_weight(const ml_view *v) {
    char text[ML_FORMAT_MAX];
    if (!ml_dtype_is_float(v->dtype))
        return ml_fail(ML_ERR_DTYPE, "prepack: weight %s is not of a floating-point dtype; cast it first",
                       ml_view_format(v, text, sizeof text));
    if (v->ndim < 2)
        return ml_fail(ML_ERR_SHAPE, "prepack: weight %s is no matrix", ml_view_format(v, text, sizeof text));
    return ML_OK;
}

/* A weight that is prepacked already is shared. */
static ml_status share(const ml_view *weight, bool transpose, ml_tensor **out) {
    ml_view v = *weight;
    const int row = v.ndim - 2, col = v.ndim - 1;
    if (transpose) {
        v.shape[row] = weight->shape[col];
        v.strides[row] = weight->strides[col];
        v.shape[col] = weight->shape[row];
        v.strides[col] = weight->strides[row];
    }
    return ml_tensor_from_view(&v, out);
}

ml_status ml_prepack(ml_context *ctx, const ml_tensor *weight, bool transpose, ml_tensor **out) {
    ML_TRY(ml_op_given("prepack", weight, out));
    if (!ctx)
        return ml_fail(ML_ERR_VALUE, "prepack: the context is NULL");
    const ml_view *v = &weight->view;
    ML_TRY(check_weight(v));
    if (v->buf->device == ml_context_device_of(ctx) && ml_view_prepacked_form(v) != ML_PREPACKED_NOT)
        return share(v, transpose, out);

    layout l;
    find_layout(v, &l);
    ml_tensor *copy = NULL;
    const ml_tensor source = {.view = l.unique};
    ML_TRY(ml_cast(ctx, &source, v->dtype, &copy));
    ml_status status = ml_prepacked_set(copy->view.buf, v->dtype, l.extent);
    if (status != ML_OK) {
        ml_tensor_release(copy);
        return status;
    }
    set_view(&l, v, transpose, &copy->view);
    copy->view.ndim = v->ndim;
    *out = copy;
    return ML_OK;
}
