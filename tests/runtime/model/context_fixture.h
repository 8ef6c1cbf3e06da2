/* What the tests of contexts share: golden models, the fp64 oracle's logits, and a sink that keeps logits. */
#ifndef LUCID_TESTS_CONTEXT_FIXTURE_H
#define LUCID_TESTS_CONTEXT_FIXTURE_H

#include "tests/check.h"
#include "tests/comm/drive.h"
#include "tests/runtime/model/oracle_folder.h"

#include "runtime/model/context.h"

#include <stdlib.h>
#include <string.h>

/* fp32 against fp64 through 2 layers, relative to the largest logit: 5e-6 is the largest seen, and 2e-5 with yarn,
 * whose frequencies have most to lose from being fp32, as PyTorch has them. */
#define TOLERANCE 5e-5

/* Logits by position: what a run gave on this rank, and which. */
typedef struct {
    int vocab;
    int64_t n;
    float *logits; /* (n, vocab) */
    char *seen;    /* (n) */
} kept_logits;

static inline kept_logits kept_make(int64_t n, int vocab) {
    return (kept_logits){vocab, n, calloc((size_t)n * (size_t)vocab, sizeof(float)), calloc((size_t)n, 1)};
}

static inline void kept_free(kept_logits *kept) {
    free(kept->logits);
    free(kept->seen);
}

static inline lucid_status kept_take(void *context, int64_t position, int n_rows, const float *logits) {
    kept_logits *kept = context;
    const size_t vocab = (size_t)kept->vocab;
    for (int r = 0; r < n_rows; r++) {
        CHECK(position + r < kept->n && !kept->seen[position + r], "position %lld came twice", (long long)position + r);
        kept->seen[position + r] = 1;
        memcpy(kept->logits + (size_t)(position + r) * vocab, logits + (size_t)r * vocab, vocab * sizeof *logits);
    }
    return LUCID_OK;
}

static inline lucid_logits_sink kept_sink(kept_logits *kept) {
    return (lucid_logits_sink){.first = 0, .last = kept->n, .take = kept_take, .context = kept};
}

/* The text was cut back to n tokens: what follows has to come again. */
static inline void kept_cut(kept_logits *kept, int64_t n) {
    memset(kept->seen + n, 0, (size_t)(kept->n - n));
}

/* Each position's logits came to one of the ranks, and to no more. Collective. */
static inline void kept_check_coverage(const kept_logits *kept, lucid_comm *comm, const char *what) {
    double *seen = calloc((size_t)kept->n, sizeof *seen);
    int64_t first = 0;
    for (int64_t i = 0; i < kept->n; i++) seen[i] = kept->seen[i];
    REQUIRE(lucid_comm_allreduce(comm, seen, (int)kept->n, LUCID_SUM));
    while (first < kept->n && seen[first] == 1) first++;
    CHECK(first == kept->n, "%s: %g of %d ranks got the logits of position %lld", what, seen[first], comm->world_size,
          (long long)first);
    free(seen);
}

/* What this rank has, which is kept_check_coverage's share, has the bits of `want`, which has all. */
static inline void kept_check_same(const kept_logits *got, const kept_logits *want, const char *what) {
    for (int64_t i = 0; i < got->n; i++) {
        if (!got->seen[i]) continue;
        const float *a = got->logits + i * got->vocab, *b = want->logits + i * got->vocab;
        const bool same = memcmp(a, b, (size_t)got->vocab * sizeof *a) == 0;
        CHECK(same, "%s: position %lld: %.9g, want %.9g", what, (long long)i, a[0], b[0]);
        if (!same) return;
    }
}

/* A golden folder's tokens, and more that follow from them; the oracle's logits of all. Or another model's. */
typedef struct {
    char path[4096]; /* or the model's name */
    int n, vocab;
    int32_t *ids;
    double *logits, largest;
} golden_case;

static inline golden_case case_make(const char *path, int n, int vocab) {
    golden_case c = {.n = n, .vocab = vocab};
    snprintf(c.path, sizeof c.path, "%s", path);
    c.ids = calloc((size_t)n, sizeof *c.ids);
    c.logits = calloc((size_t)n * (size_t)vocab, sizeof *c.logits);
    return c;
}

static inline void case_answer(golden_case *c, const oracle_model *model, const int64_t *ids) {
    oracle_logits(c->logits, model, ids, c->n);
    for (int i = 0; i < c->n * c->vocab; i++) c->largest = fmax(c->largest, fabs(c->logits[i]));
}

static inline golden_case case_read(const char *golden, const char *name, int n) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", golden, name);
    oracle_golden known = oracle_golden_read(path);
    oracle_folder folder = oracle_folder_read(path, n);
    int64_t *ids = calloc((size_t)n, sizeof *ids);
    golden_case c = case_make(path, n, known.vocab_size);
    for (int i = 0; i < n; i++) {
        ids[i] = i < known.n_tokens ? known.tokens[i] : (ids[i - 7] * 5 + ids[i - 61] + i / 9) % c.vocab;
        c.ids[i] = (int32_t)ids[i];
    }
    case_answer(&c, &folder.model, ids);
    free(ids);
    oracle_folder_free(&folder);
    oracle_golden_free(&known);
    return c;
}

static inline void case_free(golden_case *c) {
    free(c->ids);
    free(c->logits);
}

/* What this rank has of the logits, against the oracle's; returns the largest difference, relative. */
static inline double case_compare(const golden_case *c, const kept_logits *got, double tolerance, const char *what) {
    double apart = 0;
    for (int64_t i = 0; i < (int64_t)c->n * c->vocab; i++) {
        if (!got->seen[i / c->vocab]) continue;
        const double d = fabs(got->logits[i] - c->logits[i]) / c->largest;
        apart = d > apart || isnan(d) ? d : apart;
    }
    CHECK_NEAR(apart, 0, tolerance, "%s: %s: largest difference of %d tokens' logits", c->path, what, c->n);
    return apart;
}

#endif
