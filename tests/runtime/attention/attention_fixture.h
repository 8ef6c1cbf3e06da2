/* Runs an attention over inputs made from hashes, and gathers nothing: each rank keeps the full tensors' place and
 * fills its own part, so that ranks compare theirs with a reference that each computes alone. */
#ifndef LUCID_TESTS_ATTENTION_FIXTURE_H
#define LUCID_TESTS_ATTENTION_FIXTURE_H

#include "runtime/lucid.h"
#include "tests/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum { KEYS_NORMAL, KEYS_CLUSTERED, KEYS_COINCIDENT } fixture_keys;

typedef struct {
    lucid_problem problem;
    fixture_keys keys;
    uint64_t seed;
    float *out, *y, *lse; /* (batch, n_heads, N, d_v), (batch, n_kv_heads, N, d_v), (batch, n_heads, N) */
    unsigned char *seen;  /* (batch, n_heads, N) tokens of out that this rank stored */
} fixture;

static inline uint64_t fixture_hash(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Standard normal, a function of its coordinates alone. */
static inline double fixture_normal(uint64_t seed, uint64_t stream, uint64_t row, uint64_t column) {
    uint64_t h = fixture_hash(fixture_hash(fixture_hash(seed * 31 + stream) + row) + column);
    double u = ((double)(h >> 32) + 0.5) / 4294967296.0, v = ((double)(h & 0xffffffffu) + 0.5) / 4294967296.0;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static inline int fixture_dim(const fixture *f, lucid_tensor tensor) {
    return tensor == LUCID_V ? f->problem.value_dim : f->problem.head_dim;
}

static inline float fixture_element(const fixture *f, lucid_tensor tensor, int batch, int head, int64_t token,
                                    int column) {
    uint64_t stream = ((uint64_t)tensor * 64 + (uint64_t)batch) * 1024 + (uint64_t)head;
    double x = fixture_normal(f->seed, stream, (uint64_t)token, (uint64_t)column);
    if (tensor != LUCID_K || f->keys == KEYS_NORMAL) return (float)x;
    uint64_t centre = f->keys == KEYS_CLUSTERED ? fixture_hash((uint64_t)token * 77 + stream) % 16 : 0;
    double c = fixture_normal(f->seed + 1, stream, centre, (uint64_t)column);
    return (float)(f->keys == KEYS_CLUSTERED ? sqrt(0.8) * c + sqrt(0.2) * x : c + 0.01 * x);
}

static inline lucid_status fixture_read(void *context, void *rows, lucid_tensor tensor, int batch, int head,
                                        int64_t first, int n_tokens) {
    const fixture *f = context;
    int dim = fixture_dim(f, tensor);
    for (int i = 0; i < n_tokens; i++)
        for (int c = 0; c < dim; c++)
            ((float *)rows)[(size_t)i * dim + c] = fixture_element(f, tensor, batch, head, first + i, c);
    return LUCID_OK;
}

static inline lucid_status fixture_write(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                                         int64_t first, int n_tokens) {
    fixture *f = context;
    int heads = tensor == LUCID_Y ? f->problem.n_kv_heads : f->problem.n_heads;
    size_t row = ((size_t)batch * heads + head) * (size_t)f->problem.seqlen + (size_t)first;
    size_t dim = tensor == LUCID_LSE ? 1 : (size_t)f->problem.value_dim;
    float *to = tensor == LUCID_OUT ? f->out : tensor == LUCID_Y ? f->y : f->lse;
    memcpy(to + row * dim, rows, (size_t)n_tokens * dim * sizeof(float));
    if (tensor == LUCID_OUT) memset(f->seen + row, 1, (size_t)n_tokens);
    return LUCID_OK;
}

static inline void fixture_create(fixture *f, const lucid_problem *problem, fixture_keys keys, uint64_t seed) {
    size_t tokens = (size_t)problem->seqlen * problem->batch;
    *f = (fixture){.problem = *problem, .keys = keys, .seed = seed};
    f->out = calloc(tokens * problem->n_heads * problem->value_dim, sizeof(float));
    f->y = calloc(tokens * problem->n_kv_heads * problem->value_dim, sizeof(float));
    f->lse = calloc(tokens * problem->n_heads, sizeof(float));
    f->seen = calloc(tokens * problem->n_heads, 1);
}

static inline void fixture_destroy(fixture *f) {
    free(f->out);
    free(f->y);
    free(f->lse);
    free(f->seen);
}

/* The busiest rank sent what was planned. Collective. */
static inline void fixture_check_sent(const lucid_attention *a, lucid_comm *comm) {
    const lucid_plan *plan = lucid_attention_plan(a);
    const lucid_result result = lucid_attention_result(a);
    double most[] = {(double)result.messages_sent, result.bytes_sent};
    CHECK(!lucid_comm_allreduce(comm, most, 2, LUCID_MAX), "%s", lucid_failure());
    CHECK_NEAR(most[0], (double)plan->messages_max, 0, "messages of the busiest of %d ranks", comm->world_size);
    CHECK_NEAR(most[1], plan->bytes_sent_max, 0, "bytes of the busiest of %d ranks", comm->world_size);
}

/* Runs the fixture's problem on comm and keeps what this rank owns. certificate may be NULL. */
static inline lucid_status fixture_run(fixture *f, lucid_comm *comm, const lucid_options *options, lucid_plan *plan,
                                       lucid_certificate_result *certificate) {
    lucid_attention *a;
    LUCID_TRY(lucid_attention_create(&a, comm, &f->problem, options));
    lucid_status status = LUCID_OK;
    for (int tensor = LUCID_Q; tensor <= LUCID_V && !status; tensor++)
        status = lucid_attention_load(a, (lucid_tensor)tensor, LUCID_F32, fixture_read, f);
    if (!status) status = lucid_attention_run(a);
    if (!status) fixture_check_sent(a, comm);
    if (!status && plan) *plan = *lucid_attention_plan(a);
    if (!status && certificate) status = lucid_certificate(a, certificate);
    for (int tensor = LUCID_OUT; tensor <= LUCID_LSE && !status; tensor++)
        status = lucid_attention_store(a, (lucid_tensor)tensor, fixture_write, f);
    lucid_attention_destroy(a);
    return status;
}

/* What this rank stored, against the same rows of want. */
static inline void fixture_compare(const fixture *got, const fixture *want, const char *what) {
    const lucid_problem *p = &want->problem;
    int group = p->n_heads / p->n_kv_heads;
    for (int64_t h = 0; h < (int64_t)p->batch * p->n_heads; h++)
        for (int64_t i = 0; i < p->seqlen; i++) {
            size_t row = (size_t)(h * p->seqlen + i), y_row = (size_t)(h / group * p->seqlen + i);
            size_t bytes = (size_t)p->value_dim * sizeof(float);
            if (!got->seen[row]) continue;
            bool same = !memcmp(got->out + row * p->value_dim, want->out + row * p->value_dim, bytes) &&
                        !memcmp(got->y + y_row * p->value_dim, want->y + y_row * p->value_dim, bytes) &&
                        !memcmp(got->lse + row, want->lse + row, sizeof(float));
            CHECK(same, "%s: head %lld token %lld differs: out[0] %.9g, alone %.9g", what, (long long)h, (long long)i,
                  got->out[row * p->value_dim], want->out[row * p->value_dim]);
            if (!same) return;
        }
}

#endif
