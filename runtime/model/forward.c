#include "runtime/model/forward.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define GROUP 1024 /* rows of the MLP at once: enough panels for many threads, and scratch that fits */

static int q_size(const lucid_model_config *c) {
    return c->n_heads * c->head_dim;
}

static int kv_size(const lucid_model_config *c) {
    return c->n_kv_heads * c->head_dim;
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- memory --- */

static float *take(int64_t rows, int64_t n) {
    void *memory;
    if (posix_memalign(&memory, 64, (size_t)rows * (size_t)n * sizeof(float) + 64)) return NULL;
    return memory;
}

lucid_status lucid_forward_create(lucid_forward *f, const lucid_model *model, const lucid_blas *blas,
                                  int64_t max_context, int threads) {
    const lucid_model_config *c = &model->config;
    *f = (lucid_forward){.model = model, .blas = blas, .threads = threads};
    f->inv_freq = calloc((size_t)c->head_dim, sizeof *f->inv_freq);
    f->normed = take(GROUP, c->hidden_size);
    f->gate = take(GROUP, c->intermediate_size);
    f->up = take(GROUP, c->intermediate_size);
    if (!f->inv_freq || !f->normed || !f->gate || !f->up)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d rows of an MLP of %d", GROUP, c->intermediate_size);
    if (c->use_rope) lucid_rope_frequencies(f->inv_freq, &f->attention_factor, c, max_context);
    return LUCID_OK;
}

static void free_rows(lucid_forward *f) {
    float **const rows[] = {&f->x, &f->q, &f->k, &f->v, &f->beta, &f->rotations, &f->scales};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        free(*rows[i]);
        *rows[i] = NULL;
    }
    f->n_rows = f->capacity = 0;
}

void lucid_forward_destroy(lucid_forward *f) {
    free_rows(f);
    free(f->normed);
    free(f->gate);
    free(f->up);
    free(f->inv_freq);
    *f = (lucid_forward){0};
}

/* Which of a layer's products get the same bits with panels joined. */
static lucid_status try_joining(lucid_forward *f) {
    const lucid_model_config *c = &f->model->config;
    const int hidden = c->hidden_size, inner = c->intermediate_size, q = q_size(c), kv = kv_size(c);
    const struct lucid_joined sizes[LUCID_FORWARD_SIZES] = {
        {hidden, q}, {hidden, kv}, {q, hidden}, {hidden, inner}, {inner, hidden}};
    f->n_joined = 0;
    for (int i = 0; i < LUCID_FORWARD_SIZES; i++) {
        bool joins;
        LUCID_TRY(lucid_matmul_joins(&joins, sizes[i].n_in, sizes[i].n_out, f->blas));
        if (joins) f->joined[f->n_joined++] = sizes[i];
    }
    f->tried = true;
    return LUCID_OK;
}

lucid_status lucid_forward_resize(lucid_forward *f, int64_t n_rows) {
    const lucid_model_config *c = &f->model->config;
    if (n_rows >= LUCID_JOINED * LUCID_PANEL && !f->tried) LUCID_TRY(try_joining(f));
    if (n_rows > f->capacity) {
        free_rows(f);
        f->x = take(n_rows, c->hidden_size);
        f->q = take(n_rows, q_size(c));
        f->k = take(n_rows, kv_size(c));
        f->v = take(n_rows, kv_size(c));
        f->beta = take(n_rows, c->attention == LUCID_MODEL_DELTANET ? c->n_heads : 0);
        f->rotations = take(n_rows, lucid_model_rotary_dim(c));
        f->scales = take(n_rows, 1);
        if (!f->x || !f->q || !f->k || !f->v || !f->beta || !f->rotations || !f->scales)
            return lucid_fail(LUCID_ERR_MEMORY, "no memory for the activations of %lld tokens", (long long)n_rows);
        f->capacity = n_rows;
    }
    f->n_rows = n_rows;
    return LUCID_OK;
}

size_t lucid_forward_bytes(const lucid_forward *f) {
    const lucid_model_config *c = &f->model->config;
    const int64_t row = c->hidden_size + q_size(c) + 2 * (int64_t)kv_size(c) +
                        (c->attention == LUCID_MODEL_DELTANET ? c->n_heads : 0) + (c->use_rope ? c->head_dim : 0);
    const int64_t group = c->hidden_size + 2 * (int64_t)c->intermediate_size;
    return sizeof(float) * (size_t)(row * f->capacity + group * min64(GROUP, f->capacity));
}

/* --- parts --- */

void lucid_forward_embed(lucid_forward *f, int64_t row, int32_t id, int64_t position) {
    const lucid_model_config *c = &f->model->config;
    const size_t hidden = (size_t)c->hidden_size;
    const int turned = lucid_model_rotary_dim(c), half = turned / 2;
    float *x = f->x + (size_t)row * hidden, *cosines = f->rotations + (size_t)row * turned;
    if (id < 0)
        memset(x, 0, hidden * sizeof *x);
    else
        memcpy(x, f->model->embed_tokens + (size_t)id * hidden, hidden * sizeof *x);
    f->scales[row] = lucid_model_query_scale(c, position);
    for (int i = 0; i < half; i++) {
        const double angle = (double)position * f->inv_freq[i];
        cosines[i] = (float)(cos(angle) * f->attention_factor);
        cosines[half + i] = (float)(sin(angle) * f->attention_factor);
    }
}

static void norm_row(float *out, const float *x, const float *gain, int n, double eps) {
    double square = 0;
#pragma omp simd reduction(+ : square)
    for (int i = 0; i < n; i++) square += (double)x[i] * x[i];
    const float scale = (float)(1 / sqrt(square / n + eps));
    for (int i = 0; i < n; i++) out[i] = x[i] * scale * gain[i];
}

void lucid_rms_norm(float *out, const float *x, const float *gain, int64_t n_rows, int n, double eps, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < n_rows; r++) norm_row(out + (size_t)r * n, x + (size_t)r * n, gain, n, eps);
}

/* Dimensions i and i + half of a head turn together. */
static void turn_head(float *x, const float *cosines, int half) {
    for (int i = 0; i < half; i++) {
        const float c = cosines[i], s = cosines[half + i], a = x[i], b = x[half + i];
        x[i] = a * c - b * s;
        x[half + i] = b * c + a * s;
    }
}

/* The norm of use_qknorm follows the turn, or comes before it. scales: of each row, or NULL. */
static void place_heads(float *x, const float *gain, const float *scales, int n_heads, const lucid_forward *f) {
    const lucid_model_config *c = &f->model->config;
    const int d = c->head_dim, turned = lucid_model_rotary_dim(c);
    const bool norm_first = c->qk_norm == LUCID_QKNORM_BEFORE_ROPE;
    if (!turned && !gain && !scales) return;
#pragma omp parallel for schedule(static) num_threads(f->threads)
    for (int64_t r = 0; r < f->n_rows; r++) {
        for (int h = 0; h < n_heads; h++) {
            float *head = x + ((size_t)r * n_heads + h) * d;
            if (gain && norm_first) norm_row(head, head, gain, d, c->rms_norm_eps);
            if (turned) turn_head(head, f->rotations + (size_t)r * turned, turned / 2);
            if (gain && !norm_first) norm_row(head, head, gain, d, c->rms_norm_eps);
            for (int i = 0; scales && i < d; i++) head[i] *= scales[r];
        }
    }
}

static float activate(float x, int activation) {
    switch (activation) {
    case LUCID_ACTIVATION_GELU:
        return x * 0.5f * (1 + erff(x * (float)M_SQRT1_2));
    case LUCID_ACTIVATION_GELU_TANH:
        return x * 0.5f * (1 + tanhf((float)(M_2_SQRTPI * M_SQRT1_2) * (x + 0.044715f * x * x * x)));
    default:
        return x / (1 + expf(-x));
    }
}

static void activate_gate(const lucid_forward *f, int64_t n_rows) {
    const int64_t n = n_rows * f->model->config.intermediate_size;
    const int activation = f->model->config.activation;
#pragma omp parallel for schedule(static) num_threads(f->threads)
    for (int64_t i = 0; i < n; i++) f->gate[i] = activate(f->gate[i], activation) * f->up[i];
}

static bool is_joined(const lucid_forward *f, int n_in, int n_out) {
    for (int i = 0; i < f->n_joined; i++)
        if (f->joined[i].n_in == n_in && f->joined[i].n_out == n_out) return true;
    return false;
}

static void multiply(float *out, const float *weight, const float *bias, int n_out, const float *x, int n_in,
                     int64_t n_rows, bool accumulate, lucid_forward *f) {
    const lucid_linear linear = {
        .weight = weight, .bias = bias, .n_in = n_in, .n_out = n_out, .joined = is_joined(f, n_in, n_out)};
    const double begin = omp_get_wtime();
    lucid_matmul(out, &linear, x, n_rows, accumulate, f->blas, f->threads);
    f->products += omp_get_wtime() - begin;
}

/* --- halves of a layer, a group of rows at a time --- */

void lucid_forward_project(lucid_forward *f, const lucid_model_layer *l) {
    const lucid_model_config *c = &f->model->config;
    const int hidden = c->hidden_size, q = q_size(c), kv = kv_size(c);
    for (int64_t first = 0; first < f->n_rows; first += GROUP) {
        const int64_t n = min64(GROUP, f->n_rows - first);
        lucid_rms_norm(f->normed, f->x + first * hidden, l->input_norm, n, hidden, c->rms_norm_eps, f->threads);
        multiply(f->q + first * q, l->q_proj, l->q_bias, q, f->normed, hidden, n, false, f);
        multiply(f->k + first * kv, l->k_proj, l->k_bias, kv, f->normed, hidden, n, false, f);
        multiply(f->v + first * kv, l->v_proj, l->v_bias, kv, f->normed, hidden, n, false, f);
        if (l->b_proj)
            multiply(f->beta + first * c->n_heads, l->b_proj, NULL, c->n_heads, f->normed, hidden, n, false, f);
    }
}

void lucid_forward_place(lucid_forward *f, const lucid_model_layer *l) {
    const lucid_model_config *c = &f->model->config;
    place_heads(f->q, l->q_norm, c->query_log_scale ? f->scales : NULL, c->n_heads, f);
    place_heads(f->k, l->k_norm, NULL, c->n_kv_heads, f);
}

void lucid_forward_finish(lucid_forward *f, const lucid_model_layer *l) {
    const lucid_model_config *c = &f->model->config;
    const int hidden = c->hidden_size, inner = c->intermediate_size, q = q_size(c);
    for (int64_t first = 0; first < f->n_rows; first += GROUP) {
        const int64_t n = min64(GROUP, f->n_rows - first);
        float *x = f->x + first * hidden;
        multiply(x, l->o_proj, l->o_bias, hidden, f->q + first * q, q, n, true, f);
        lucid_rms_norm(f->normed, x, l->post_attention_norm, n, hidden, c->rms_norm_eps, f->threads);
        multiply(f->gate, l->gate_proj, l->gate_bias, inner, f->normed, hidden, n, false, f);
        multiply(f->up, l->up_proj, l->up_bias, inner, f->normed, hidden, n, false, f);
        activate_gate(f, n);
        multiply(x, l->down_proj, l->down_bias, hidden, f->gate, inner, n, true, f);
    }
}

void lucid_forward_logits(float *logits, lucid_forward *f, const float *x, int n_rows) {
    const lucid_model_config *c = &f->model->config;
    lucid_rms_norm(f->normed, x, f->model->norm, n_rows, c->hidden_size, c->rms_norm_eps, f->threads);
    multiply(logits, f->model->lm_head, NULL, c->vocab_size, f->normed, c->hidden_size, n_rows, false, f);
}
