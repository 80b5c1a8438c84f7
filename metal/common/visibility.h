// Which keys a query sees, and what is added to its scores: causality, window, masks, soft cap. Softmax and attention
// alike.
#ifndef ML_METAL_VISIBILITY_H
#define ML_METAL_VISIBILITY_H

#include "common/types.h"

constant int mask_kind [[function_constant(ML_GPU_FC_MASK_KIND)]];
constant int mask_dtype [[function_constant(ML_GPU_FC_MASK_DTYPE)]];
constant bool causal [[function_constant(ML_GPU_FC_CAUSAL)]];
constant bool has_window [[function_constant(ML_GPU_FC_HAS_WINDOW)]];
constant bool has_sinks [[function_constant(ML_GPU_FC_HAS_SINKS)]];
constant int sink_dtype [[function_constant(ML_GPU_FC_SINK_DTYPE)]];
constant bool has_softcap [[function_constant(ML_GPU_FC_HAS_SOFTCAP)]];
constant bool has_mask = mask_kind != ML_GPU_MASK_NONE;

// Keys [first, end) that causality and window leave.
struct KeyRange {
    int first, end;
};

inline int key_within(long position, int keys) {
    return position < 0 ? 0 : position > keys ? keys : int(position);
}

inline KeyRange visible_range(int query, int keys, long query_offset, long window) {
    KeyRange range = {0, keys};
    const long position = query + query_offset;
    if (causal || has_window)
        range.end = key_within(position + 1, keys);
    if (has_window)
        range.first = key_within(position - window + 1, range.end);
    return range;
}

struct Score {
    float value;
    bool visible;
};

// What element i of the mask does: whether the key is visible, and what it adds.
inline Score mask_at(device const void *mask, long i) {
    Score s = {0.0f, true};
    if (mask_kind == ML_GPU_MASK_BOOL) {
        s.visible = ((device const uchar *)mask)[i] != 0;
    } else if (mask_kind == ML_GPU_MASK_ADDITIVE) {
        s.value = load_float(mask, i, mask_dtype);
        s.visible = s.value != -INFINITY;
    }
    return s;
}

inline float cap(float score, float softcap) {
    return has_softcap ? softcap * precise::tanh(score / softcap) : score;
}

// A scaled score of the key whose mask is element i: the soft cap comes before the mask.
inline Score masked_score(float value, device const void *mask, long i, float softcap) {
    Score s = mask_at(mask, i);
    s.value = mask_kind == ML_GPU_MASK_ADDITIVE ? cap(value, softcap) + s.value : cap(value, softcap);
    return s;
}

#endif
