#include "runtime/model/sample.h"

#include "runtime/files/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- drawing --- */

typedef struct {
    double share; /* not normalised: 1 for the likeliest */
    int32_t id;
} candidate;

static int32_t likeliest(const float *logits, int vocab_size) {
    int32_t best = 0;
    for (int32_t i = 1; i < vocab_size; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static lucid_status check_finite(const float *logits, int vocab_size) {
    for (int i = 0; i < vocab_size; i++)
        if (!isfinite(logits[i])) return lucid_fail(LUCID_ERR_INPUT, "the model's logit of token %d is not finite", i);
    return LUCID_OK;
}

static int by_share(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->share != y->share) return x->share < y->share ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void swap(candidate *a, candidate *b) {
    const candidate kept = *a;
    *a = *b;
    *b = kept;
}

/* Hoare's selection: moves the k first by by_share to the front, 0 < k < n. */
static void select_first(candidate *c, int n, int k) {
    int low = 0, high = n - 1;
    while (low < high) {
        const candidate pivot = c[low + (high - low) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (by_share(&c[i], &pivot) < 0) i++;
            while (by_share(&c[j], &pivot) > 0) j--;
            if (i <= j) swap(&c[i++], &c[j--]);
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            return;
    }
}

/* Cuts to the k likeliest; *sum is their shares'. */
static int cut_count(candidate *c, int n, int64_t k, double *sum) {
    if (k == 0 || k >= n) return n;
    select_first(c, n, (int)k);
    *sum = 0;
    for (int i = 0; i < k; i++) *sum += c[i].share;
    return (int)k;
}

/* Cuts to the nucleus; *sum is its shares'. Tokens below (1 - top_p) / n of everything do not sum to 1 - top_p
 * even together, so the nucleus is among the others, and only those are sorted. */
static int cut_nucleus(candidate *c, int n, double top_p, double *sum) {
    const double least = (1 - top_p) / n * *sum, wanted = top_p * *sum;
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (c[i].share >= least) c[kept++] = c[i];
    qsort(c, (size_t)kept, sizeof *c, by_share);
    *sum = 0;
    for (n = 0; n < kept && (n == 0 || *sum < wanted); n++) *sum += c[n].share;
    return n;
}

/* 53 random bits as a number in [0, 1). */
static double uniform(uint64_t seed, uint64_t n) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)n, (uint32_t)(n >> 32), 0x746f6b65, 0}; /* apart from other uses of a seed */
    uint32_t bits[4];
    lucid_philox(bits, counter, key);
    return (double)(((uint64_t)bits[0] << 32 | bits[1]) >> 11) * 0x1p-53;
}

lucid_status lucid_sample(int32_t *id, const float *logits, int vocab_size, const lucid_sampling *s, uint64_t n) {
    LUCID_TRY(check_finite(logits, vocab_size));
    const int32_t best = likeliest(logits, vocab_size);
    *id = best;
    if (!(s->temperature > 0)) return LUCID_OK;
    candidate *c = malloc((size_t)vocab_size * sizeof *c);
    if (!c) return lucid_fail(LUCID_ERR_MEMORY, "no memory to draw from %d tokens", vocab_size);
    double sum = 0;
    for (int32_t i = 0; i < vocab_size; i++) {
        c[i] = (candidate){exp(((double)logits[i] - logits[best]) / s->temperature), i};
        sum += c[i].share;
    }
    int n_left = cut_count(c, vocab_size, s->top_k, &sum);
    if (s->top_p < 1) n_left = cut_nucleus(c, n_left, s->top_p, &sum);
    double left = uniform(s->seed, n) * sum;
    for (int i = 0; i < n_left; i++) {
        if (c[i].share > 0) *id = c[i].id; /* the last one where rounding leaves a rest */
        left -= c[i].share;
        if (left < 0) break;
    }
    free(c);
    return LUCID_OK;
}

double lucid_token_loss(const float *logits, int vocab_size, int32_t target, bool *is_greedy) {
    const int32_t best = likeliest(logits, vocab_size);
    double sum = 0;
    for (int i = 0; i < vocab_size; i++) sum += exp((double)logits[i] - logits[best]);
    *is_greedy = best == target;
    return log(sum) + logits[best] - logits[target];
}

/* --- stopping --- */

/* Where the first of the strings begins in text, or n_bytes. */
static size_t find_stop(const lucid_stopping *s) {
    size_t first = s->n_held;
    for (int i = 0; s->n_held && i < s->n_stops; i++) {
        const char *at = memmem(s->held, s->n_held, s->stops[i], strlen(s->stops[i]));
        if (at && (size_t)(at - s->held) < first) first = (size_t)(at - s->held);
    }
    return first;
}

/* Bytes at the end of what is held that may be the beginning of a string. */
static size_t may_begin(const lucid_stopping *s) {
    size_t most = 0;
    for (int i = 0; i < s->n_stops; i++) {
        const size_t length = strlen(s->stops[i]) - 1;
        for (size_t n = length < s->n_held ? length : s->n_held; n > most; n--)
            if (memcmp(s->held + s->n_held - n, s->stops[i], n) == 0) most = n;
    }
    return most;
}

static void drop_shown(lucid_stopping *s) {
    s->n_held -= s->n_shown;
    if (s->n_shown) memmove(s->held, s->held + s->n_shown, s->n_held);
    s->n_shown = 0;
}

static lucid_status hold(lucid_stopping *s, const char *text, size_t n_bytes) {
    if (s->n_held + n_bytes > s->capacity) {
        const size_t capacity = 2 * (s->n_held + n_bytes);
        char *held = realloc(s->held, capacity);
        if (!held) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu bytes of text", capacity);
        s->held = held;
        s->capacity = capacity;
    }
    if (n_bytes) memcpy(s->held + s->n_held, text, n_bytes);
    s->n_held += n_bytes;
    return LUCID_OK;
}

static void show(lucid_stopping *s, size_t n, const char **out, size_t *n_out) {
    s->n_shown = n;
    *out = n ? s->held : "";
    *n_out = n;
}

lucid_status lucid_stopping_next(lucid_stopping *s, const char *text, size_t n_bytes, const char **out, size_t *n_out,
                                 bool *stopped) {
    drop_shown(s);
    LUCID_TRY(hold(s, text, n_bytes));
    const size_t stop = find_stop(s);
    *stopped = stop < s->n_held;
    show(s, *stopped ? stop : s->n_held - may_begin(s), out, n_out);
    return LUCID_OK;
}

void lucid_stopping_finish(lucid_stopping *s, const char **out, size_t *n_out) {
    drop_shown(s);
    show(s, s->n_held, out, n_out);
}

void lucid_stopping_free(lucid_stopping *s) {
    free(s->held);
    *s = (lucid_stopping){0};
}
