#pragma once
#ifndef __METAL_VERSION__
#error "this is MSL"
#endif
static inline int included_value() {
    return 100;
}
namespace included {
inline int twice(int x) {
    return 2 * x;
}
} // namespace included
struct int2_pair {
    int first, second;
};
