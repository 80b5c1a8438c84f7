/* y = silu(x w^T + bias) on memory that the program owns.
 *
 *     cc gemm.c $(pkg-config --cflags --libs metallic) -o gemm && ./gemm
 */
#include <metallic.h>
#include <stdio.h>

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, ml_last_error());
    return 1;
}

/* A tensor over a C array of floats: no copy, the array must outlive it. */
static ml_status wrap(ml_context *ctx, float *data, ml_shape shape, ml_tensor **out) {
    size_t count = 1;
    for (int i = 0; i < shape.ndim; i++)
        count *= (size_t)shape.dims[i];
    const ml_host_memory memory = {.data = data, .size = count * sizeof *data};
    const ml_layout layout = {.dtype = ML_F32, .shape = shape};
    return ml_tensor_from_host(ctx, &memory, &layout, out);
}

int main(void) {
    float x_data[2][3] = {{1, 2, 3}, {4, 5, 6}};
    float w_data[4][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 1}}; /* [N, K], as layers store their weights */
    float bias_data[4] = {0, 0, 0, -6};

    int status = 1;
    ml_context *ctx = NULL;
    ml_tensor *x = NULL, *w = NULL, *bias = NULL, *y = NULL;
    if (ml_context_create(NULL, &ctx) != ML_OK)
        return failed("context");
    if (wrap(ctx, &x_data[0][0], (ml_shape){2, {2, 3}}, &x) != ML_OK ||
        wrap(ctx, &w_data[0][0], (ml_shape){2, {4, 3}}, &w) != ML_OK ||
        wrap(ctx, bias_data, (ml_shape){1, {4}}, &bias) != ML_OK) {
        failed("tensors");
        goto done;
    }

    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    args.a = x;
    args.b = w;
    args.transpose_b = true;
    args.bias = bias;
    args.activation = ML_ACT_SILU;
    void *data;
    if (ml_matmul(ctx, &args, &y) != ML_OK || ml_tensor_data(y, &data) != ML_OK) {
        failed("matmul");
        goto done;
    }
    printf("metallic %s on %s: silu(x w^T + bias) =\n", ml_version(), ml_context_device(ctx));
    const int64_t *shape = ml_tensor_shape(y), *strides = ml_tensor_strides(y);
    for (int64_t i = 0; i < shape[0]; i++) {
        for (int64_t j = 0; j < shape[1]; j++)
            printf(" %8.5f", (double)((float *)data)[i * strides[0] + j * strides[1]]);
        printf("\n");
    }

    /* Without transpose_b the shapes do not fit: a status and a message, and nothing else happens. */
    args.transpose_b = false;
    const ml_status wrong = ml_matmul(ctx, &args, &y);
    if (wrong == ML_OK) {
        fprintf(stderr, "a [2, 3] times [4, 3] went through\n");
        goto done;
    }
    printf("%s: %s\n", ml_status_name(wrong), ml_last_error());
    status = 0;
done:
    ml_tensor_release(y);
    ml_tensor_release(bias);
    ml_tensor_release(w);
    ml_tensor_release(x);
    ml_context_release(ctx);
    return status;
}
