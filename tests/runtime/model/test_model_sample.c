/* Draws against the shares they stand for, nuclei, and texts that end at a string however they are cut. */
#include "tests/check.h"

#include "runtime/model/sample.h"

#include <stdlib.h>
#include <string.h>

enum { VOCAB = 50, DRAWS = 40000 };

static float logits[VOCAB];

static void make_logits(void) {
    for (int i = 0; i < VOCAB; i++) logits[i] = (float)(3 * sin(i * 1.7) + (i == 17 ? 0.4 : 0));
}

/* Shares at a temperature, and only of the nucleus, written as their definition says. */
static void reference(double share[VOCAB], const lucid_sampling *s) {
    double sum = 0, taken = 0, kept[VOCAB] = {0};
    int best[VOCAB], n = s->top_k && s->top_k < VOCAB ? (int)s->top_k : VOCAB;
    for (int i = 0; i < VOCAB; i++) share[i] = exp(logits[i] / s->temperature);
    for (int r = 0; r < n; r++) { /* best[r] is the r-th likeliest */
        best[r] = -1;
        for (int i = 0; i < VOCAB; i++)
            if (kept[i] == 0 && (best[r] < 0 || share[i] > share[best[r]])) best[r] = i;
        sum += kept[best[r]] = share[best[r]];
    }
    memset(share, 0, VOCAB * sizeof *share);
    for (int r = 0; r < n && taken < (s->top_p - 1e-12) * sum; r++) taken += share[best[r]] = kept[best[r]];
    for (int i = 0; i < VOCAB; i++) share[i] /= taken;
}

static void test_shares(double temperature, int64_t top_k, double top_p) {
    const lucid_sampling sampling = {.temperature = temperature, .top_k = top_k, .top_p = top_p, .seed = 5};
    double share[VOCAB];
    int count[VOCAB] = {0};
    reference(share, &sampling);
    for (uint64_t n = 0; n < DRAWS; n++) {
        int32_t id = -1;
        CHECK(!lucid_sample(&id, logits, VOCAB, &sampling, n), "draw %d", (int)n);
        count[id]++;
    }
    for (int i = 0; i < VOCAB; i++) { /* five standard deviations; what has no share never comes */
        const double want = share[i] * DRAWS;
        CHECK_NEAR(count[i], want, 5 * sqrt(want * (1 - share[i])) + (want > 0), "token %d at %g, %d, %g", i,
                   temperature, (int)top_k, top_p);
        CHECK(share[i] > 0 || count[i] == 0, "token %d is not among %d or outside of %g", i, (int)top_k, top_p);
    }
}

static void test_greedy(void) {
    int32_t id = -1;
    int best = 0;
    for (int i = 0; i < VOCAB; i++) best = logits[i] > logits[best] ? i : best;
    CHECK(!lucid_sample(&id, logits, VOCAB, &(lucid_sampling){.top_p = 1}, 0) && id == best, "greedy: %d", id);
    CHECK(!lucid_sample(&id, logits, VOCAB, &(lucid_sampling){1, 0, 1e-9, 0}, 3) && id == best, "smallest nucleus: %d",
          id);
    float equal[4] = {0, 2, 2, 1};
    CHECK(!lucid_sample(&id, equal, 4, &(lucid_sampling){.top_p = 1}, 0) && id == 1, "the lowest of equals: %d", id);
    equal[3] = NAN;
    CHECK(lucid_sample(&id, equal, 4, &(lucid_sampling){.top_p = 1}, 0) == LUCID_ERR_INPUT, "NaN");
}

/* A draw depends on its seed and number alone. */
static void test_seeds(void) {
    int32_t a, b;
    int same = 0;
    for (uint64_t n = 0; n < 200; n++) {
        lucid_sample(&a, logits, VOCAB, &(lucid_sampling){2, 0, 1, 1}, n);
        lucid_sample(&b, logits, VOCAB, &(lucid_sampling){2, 0, 1, 1}, n);
        CHECK(a == b, "draw %d is not repeated", (int)n);
        lucid_sample(&b, logits, VOCAB, &(lucid_sampling){2, 0, 1, 2}, n);
        same += a == b;
    }
    CHECK(same < 100, "two seeds give the same %d of 200 draws", same);
}

static void test_loss(void) {
    double sum = 0;
    bool greedy;
    for (int i = 0; i < VOCAB; i++) sum += exp(-lucid_token_loss(logits, VOCAB, i, &greedy));
    CHECK_NEAR(sum, 1, 1e-12, "shares of all tokens");
    CHECK_NEAR(lucid_token_loss((float[]){0, 0}, 2, 1, &greedy), log(2), 1e-15, "one of two");
    CHECK(!greedy, "the first of equals is the likeliest");
    CHECK_NEAR(lucid_token_loss((float[]){-200, 1000}, 2, 0, &greedy), 1200, 1e-9, "far from the likeliest");
}

/* text in pieces of `piece` bytes: what is shown must be its part before the first stop. */
static void test_stop(const char *text, size_t piece, const char *const *stops, int n_stops, const char *want) {
    lucid_stopping s = {.stops = stops, .n_stops = n_stops};
    char shown[256] = "";
    const char *out;
    size_t n_out;
    bool stopped = false;
    for (size_t at = 0, n; !stopped && at < strlen(text); at += n) {
        n = strlen(text) - at < piece ? strlen(text) - at : piece;
        CHECK(!lucid_stopping_next(&s, text + at, n, &out, &n_out, &stopped), "next");
        strncat(shown, out, n_out);
    }
    if (!stopped) {
        lucid_stopping_finish(&s, &out, &n_out);
        strncat(shown, out, n_out);
    }
    CHECK(!strcmp(shown, want), "'%s' in pieces of %zu: '%s', want '%s'", text, piece, shown, want);
    CHECK(stopped == (strlen(want) < strlen(text)), "'%s' in pieces of %zu: stopped %d", text, piece, stopped);
    lucid_stopping_free(&s);
}

static void test_stops(void) {
    static const char *const stops[] = {"###", "\n\nQ:", "aab"};
    for (size_t piece = 1; piece < 12; piece++) {
        test_stop("an answer\n\nQ: next", piece, stops, 3, "an answer");
        test_stop("a # b ## c \n\n", piece, stops, 3, "a # b ## c \n\n");
        test_stop("x####", piece, stops, 3, "x");
        test_stop("aaaab", piece, stops, 3, "aa");
        test_stop("###", piece, stops, 3, "");
        test_stop("plain", piece, stops, 0, "plain");
        test_stop("", piece, stops, 3, "");
    }
}

/* What cannot begin a stop is not held back. */
static void test_prompt(void) {
    static const char *const stops[] = {"stop"};
    lucid_stopping s = {.stops = stops, .n_stops = 1};
    const char *out;
    size_t n_out;
    bool stopped;
    lucid_stopping_next(&s, "hello", 5, &out, &n_out, &stopped);
    CHECK(n_out == 5, "%zu of 5 bytes are shown", n_out);
    lucid_stopping_next(&s, " st", 3, &out, &n_out, &stopped);
    CHECK(n_out == 1, "%zu bytes are shown before what may begin a stop", n_out);
    lucid_stopping_free(&s);
}

int main(void) {
    make_logits();
    test_greedy();
    test_shares(1, 0, 1);
    test_shares(0.7, 0, 1);
    test_shares(1, 0, 0.9);
    test_shares(2, 0, 0.5);
    for (int64_t k = 1; k <= VOCAB + 1; k += 7) test_shares(2, k, 1);
    test_shares(1.5, 12, 0.8);
    test_seeds();
    test_loss();
    test_stops();
    test_prompt();
    return check_result();
}
