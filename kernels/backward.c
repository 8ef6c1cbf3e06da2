/* The ends of backward: rows and sums to and from what the kernels work on. Plain C for every kernel set: O(N d). */
#include "kernels/kernels.h"

#include <math.h>

enum { GRANULE = LUCID_GRANULE };

void lucid_query_row_begin(float *row, const float *qt, const float *state, double scale, lucid_shape shape) {
    const float *m = state, *l = state + GRANULE, *o = state + 2 * GRANULE, *dout = row + lucid_record_values(shape);
    float *start = row + lucid_record_rnorm(shape), *delta = row + lucid_query_row_delta(shape);
    for (size_t k = 0; k < lucid_query_floats(shape); k++) row[k] = (float)scale * qt[k];
    for (int i = 0; i < GRANULE; i++, o += shape.value_ld, dout += shape.value_ld) {
        double sum = 0;
        for (int c = 0; c < shape.value_dim; c++) sum += (double)dout[c] * o[c];
        delta[i] = (float)(-sum / l[i]);
        start[i] = (float)-(m[i] + log2(l[i]));
    }
}

void lucid_query_row_finish(float *dq, const float *dqt, int n_rows, lucid_shape shape, float softmax_scale) {
    for (int i = 0; i < n_rows; i++)
        for (int c = 0; c < shape.head_dim; c++) dq[i * shape.head_dim + c] = softmax_scale * dqt[c * GRANULE + i];
}

/* dk_i += z - k rnorm^2 (k . z) / d */
static void add_through_norm(float *dk, const float *record, const float *dkeys, const float *dkt, const float *gain,
                             int i, lucid_shape shape) {
    const float *kt = record + i, rnorm = record[lucid_record_rnorm(shape) + i];
    float z[LUCID_MAX_HEAD_DIM];
    double along = 0;
    for (int c = 0; c < shape.head_dim; c++) {
        z[c] = dkeys[c] + (gain ? gain[c] * gain[c] : 1) * dkt[c * GRANULE];
        along += (double)kt[c * GRANULE] * z[c];
    }
    float factor = (float)(along * rnorm * rnorm / shape.head_dim);
    for (int c = 0; c < shape.head_dim; c++) dk[c] += z[c] - factor * kt[c * GRANULE];
}

void lucid_key_row_finish(float *dk, const float *record, const float *attend_dkeys, const float *update_dkeys,
                          const float *dkt, const float *gain, int n_rows, lucid_shape shape) {
    int ld = lucid_key_ld(shape);
    for (int i = 0; i < n_rows; i++, dk += shape.head_dim) {
        for (int c = 0; c < shape.head_dim; c++) dk[c] = (float)M_LN2 * attend_dkeys[i * ld + c];
        if (update_dkeys) add_through_norm(dk, record, update_dkeys + (size_t)i * ld, dkt + i, gain, i, shape);
    }
}
