/* Panels of prepacked weights: made when a product first wants them, then kept beside the weight. */
#ifndef ML_RUNTIME_PANELS_H
#define ML_RUNTIME_PANELS_H

#include "runtime/context.h"

/* Sets args->panels for a plan that reads an operand in panels. Where this makes them, their bytes count as copied and
 * the resource is no cache hit. Errors: ML_ERR_MEMORY. */
ml_status ml_panels_get(ml_context *ctx, ml_encode_args *args);

#endif
