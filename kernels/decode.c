/* The parts of decoding that need no instruction set of their own. */
#include <math.h>

#include "kernels/kernels.h"

void lucid_decode_pack(float *rows, const float *q, float q_scale, const float *key, float rnorm,
                       const lucid_decode_shape *shape) {
    const int d = shape->shape.head_dim, group = shape->group;
    const float key_scale = rnorm * (float)(M_LOG2E / sqrt(d));
    for (int c = 0; c < d; c++, rows += group + 1) {
        for (int h = 0; h < group; h++) rows[h] = q[(size_t)h * d + c] * q_scale;
        rows[group] = key[c] * key_scale;
    }
}

void lucid_decode_finish(float *out, const float *partial, const lucid_decode_shape *shape) {
    const int value_dim = shape->shape.value_dim;
    const float *l = partial + lucid_partial_l(shape), *o = partial + lucid_partial_o(shape);
    for (int h = 0; h < shape->group; h++, out += value_dim, o += shape->shape.value_ld) {
        const float factor = l[h] == 0 ? 0 : 1 / l[h];
        for (int c = 0; c < value_dim; c++) out[c] = o[c] * factor;
    }
}
