#include "runtime/attention/gain.h"

#include <stdlib.h>
#include <string.h>

lucid_status lucid_attention_set_key_gain(lucid_attention *a, const float *gain) {
    if (a->problem.attention != LUCID_ATTENTION_LUCID || a->problem.n_cached || a->device)
        return lucid_fail(LUCID_ERR_UNSUPPORTED,
                          "a gain in the keys' norm goes with the solve, on a CPU, of a whole text");
    for (int t = 0; gain && t < a->threads; t++) {
        lucid_worker *w = &a->workers[t];
        if (!w->gained) w->gained = lucid_alloc(a->record_floats * sizeof *w->gained);
        if (!w->gained) return lucid_fail(LUCID_ERR_MEMORY, "no memory for scaled keys");
    }
    a->key_gain = gain;
    return LUCID_OK;
}

static void scale_keys(const lucid_attention *a, float *kt, bool twice) {
    for (int c = 0; c < a->shape.head_dim; c++) {
        const float gain = twice ? a->key_gain[c] * a->key_gain[c] : a->key_gain[c];
        for (int i = 0; i < LUCID_GRANULE; i++) kt[c * LUCID_GRANULE + i] *= gain;
    }
}

void lucid_gain_rows(const lucid_attention *a, float *record) {
    if (a->key_gain) scale_keys(a, record, true);
}

/* The worker's copy of keys and norms, scaled, with these values. */
static float *copy(const lucid_attention *a, lucid_worker *w, const float *record, const float *values, bool twice) {
    const size_t n_keys = lucid_record_values(a->shape), n_values = a->record_floats - n_keys;
    memcpy(w->gained, record, n_keys * sizeof *record);
    memcpy(w->gained + n_keys, values, n_values * sizeof *values);
    scale_keys(a, w->gained, twice);
    return w->gained;
}

static void return_values(const lucid_attention *a, float *record, const float *from) {
    const size_t n_keys = lucid_record_values(a->shape);
    memcpy(record + n_keys, from + n_keys, (a->record_floats - n_keys) * sizeof *record);
}

void lucid_gain_update(const lucid_attention *a, lucid_worker *w, float *record, int64_t n_keys) {
    float *row = a->key_gain ? copy(a, w, record, record + lucid_record_values(a->shape), true) : record;
    a->kernels->update(row, w->keys, n_keys, a->shape, w->scratch);
    if (a->key_gain) return_values(a, record, row);
}

void lucid_gain_solve(const lucid_attention *a, lucid_worker *w, float *record) {
    float *row = a->key_gain ? copy(a, w, record, record + lucid_record_values(a->shape), false) : record;
    a->kernels->solve(row, a->shape, w->scratch);
    if (a->key_gain) return_values(a, record, row);
}

void lucid_gain_solve_backward(const lucid_attention *a, lucid_worker *w, float *key_row, const float *record) {
    float *row = a->key_gain ? copy(a, w, record, key_row + lucid_record_values(a->shape), false) : key_row;
    a->kernels->solve_backward(row, a->shape, w->scratch);
    if (a->key_gain) return_values(a, key_row, row);
}

void lucid_gain_rows_finish(const lucid_attention *a, float *dgain, const float *record, const float *dkt, int n_rows) {
    const int d = a->shape.head_dim;
    for (int i = 0; i < n_rows; i++)
        for (int c = 0; c < d; c++) {
            const int at = c * LUCID_GRANULE + i;
            dgain[i * d + c] = 2 * a->key_gain[c] * record[at] * dkt[at];
        }
}
