/* The driver's messages and the software Metal's methods have the same types. */
#include "test_objc.h"

typedef struct row {
    const char *isa, *selector, *types;
} row;

/* The types in Objective-C's own words, whatever each side calls them. */
#define TEXT(x) TEXT_OF(x)
#define TEXT_OF(x) #x
#define ml_id id
#define ml_sel SEL
#define ml_uint NSUInteger
#define ml_int NSInteger
#define ml_bool BOOL
#define ml_mtl_size MTLSize

static const row sent[] = {
#define M(name, selector, returns, class_name, arguments) {class_name, selector, TEXT(returns) " " TEXT(arguments)},
#include "device/gpu/metal/messages.inc"
#undef M
};

/* The identifiers below are types, once more, as text. */
#define sm_id id
#define sm_sel SEL
#define sm_uint NSUInteger
#define sm_int NSInteger
#define sm_bool BOOL
#define sm_size MTLSize
#define sm_ns_range NSRange

static const row understood[] = {
#define SM_INSTANCE_METHOD(class_name, selector, function, returns, arguments)                                         \
    {#class_name, selector, TEXT(returns) " " TEXT(arguments)},
#define SM_CLASS_METHOD(class_name, selector, function, returns, arguments)                                            \
    {#class_name, selector, TEXT(returns) " " TEXT(arguments)},
#include "softmetal/objc_methods.inc"
#undef SM_INSTANCE_METHOD
#undef SM_CLASS_METHOD
};

#undef sm_id
#undef sm_sel
#undef sm_uint
#undef sm_int
#undef sm_bool
#undef sm_size
#undef sm_ns_range

/* The driver names classes as Metal does, the table as C does; both name what a class inherits from by itself. */
static const struct {
    const char *metal, *table[3];
} classes[] = {
    {"NSObject", {"nsobject"}},
    {"NSString", {"string"}},
    {"NSError", {"error"}},
    {"MTLDevice", {"device"}},
    {"MTLArchitecture", {"architecture"}},
    {"MTLBuffer", {"buffer", "labelled"}},
    {"MTLCompileOptions", {"compile_options"}},
    {"MTLFunctionConstantValues", {"constant_values"}},
    {"MTLLibrary", {"library", "labelled"}},
    {"MTLComputePipelineState", {"pipeline", "labelled"}},
    {"MTLCommandQueue", {"queue", "labelled"}},
    {"MTLCommandBuffer", {"command_buffer", "labelled"}},
    {"MTLCommandEncoder", {"encoder", "labelled"}},
    {"MTLComputeCommandEncoder", {"compute_encoder", "encoder", "labelled"}},
    {"MTLBlitCommandEncoder", {"blit_encoder", "encoder", "labelled"}},
    {"NSURL", {"url"}},
    {"MPSMatrixDescriptor", {"matrix_descriptor"}},
    {"MPSVectorDescriptor", {"vector_descriptor"}},
    {"MPSMatrix", {"matrix"}},
    {"MPSVector", {"vector"}},
    {"MPSMatrixMultiplication", {"matrix_multiplication"}},
    {"MPSMatrixVectorMultiplication", {"matrix_vector"}},
};

static const row *find(const char *isa, const char *selector) {
    for (size_t i = 0; i < sizeof understood / sizeof *understood; i++)
        if (isa && strcmp(understood[i].isa, isa) == 0 && strcmp(understood[i].selector, selector) == 0)
            return &understood[i];
    return NULL;
}

void test_table(void) {
    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) {
        const row *method = NULL;
        for (size_t k = 0; k < sizeof classes / sizeof *classes; k++)
            for (int t = 0; t < 3 && !method; t++)
                if (strcmp(classes[k].metal, sent[i].isa) == 0)
                    method = find(classes[k].table[t], sent[i].selector);
        if (strncmp(sent[i].isa, "MTLCapture", 10) == 0) { /* no such class: the driver sends it to nil */
            EXPECT(class_named(sent[i].isa) == NULL, 1);
        } else if (!method) {
            fprintf(stderr, "FAILED: -[%s %s] is sent by the driver and has no row\n", sent[i].isa, sent[i].selector);
            failures++;
        } else if (strcmp(method->types, sent[i].types) != 0) {
            fprintf(stderr, "FAILED: -[%s %s]: the driver sends %s, the method takes %s\n", sent[i].isa,
                    sent[i].selector, sent[i].types, method->types);
            failures++;
        }
    }
    EXPECT(sizeof sent / sizeof *sent > 40, 1);
}
