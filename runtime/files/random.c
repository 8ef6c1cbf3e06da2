/* A row is made four columns at a time: one Philox call gives four 32-bit words, two Box-Muller pairs of them four
 * normals. About 35 ns an element on one core, 60 for keys with a shared part; nothing is stored between calls. */
#include "runtime/files/random.h"

#include "runtime/files/half.h"

#include <math.h>
#include <string.h>

/* What a draw is for: told apart in the counter, so no two draws share bits. Plain elements use the tensor's own
 * number. */
enum { DRAW_CENTRE = 64, DRAW_CHOICE };

enum { DEFAULT_CENTRES = 16 };
static const float coincidence = 0.01f;

static uint32_t mulhi(uint32_t a, uint32_t b) {
    return (uint32_t)((uint64_t)a * b >> 32);
}

void lucid_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    const uint32_t m0 = 0xd2511f53, m1 = 0xcd9e8d57;
    uint32_t x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint32_t hi0 = mulhi(m0, x0), lo0 = m0 * x0;
        const uint32_t hi1 = mulhi(m1, x2), lo1 = m1 * x2;
        x0 = hi1 ^ x1 ^ k0;
        x1 = lo1;
        x2 = hi0 ^ x3 ^ k1;
        x3 = lo0;
        k0 += 0x9e3779b9; /* Weyl sequences: golden ratio, sqrt(3) - 1 */
        k1 += 0xbb67ae85;
    }
    out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

/* Where a row of draws lies: everything but the column. */
typedef struct {
    uint64_t seed;
    uint32_t draw, batch, head;
    int64_t index; /* token, or centre */
} stream;

static void draw_words(uint32_t words[4], const stream *s, int column_block) {
    const uint32_t key[2] = {(uint32_t)s->seed, (uint32_t)(s->seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)s->index, (uint32_t)(s->index >> 32) << 16 | (uint32_t)column_block,
                                 s->draw << 24 | s->head, s->batch};
    lucid_philox(words, counter, key);
}

static uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ln((u + 1/2) / 2^32), good to 1e-11: mantissa in [sqrt(1/2), sqrt(2)), then the series of 2 atanh. */
static double log_unit(uint32_t u) {
    const double x = (double)(2 * (uint64_t)u + 1) * 0x1p-33; /* exact */
    /* Counted from sqrt(1/2), the exponent field is that of the mantissa's range; no branch to mispredict. */
    const int exponent = (int)((int64_t)(bits_of(x) - bits_of(0.70710678118654752)) >> 52);
    const double m = double_of(bits_of(x) - ((uint64_t)exponent << 52));
    const double s = (m - 1) / (m + 1), z = s * s;
    const double series = 1 + z * (1. / 3 + z * (1. / 5 + z * (1. / 7 + z * (1. / 9 + z * (1. / 11 + z * (1. / 13))))));
    return exponent * 0.693147180559945309 + 2 * s * series;
}

/* Sine and cosine of 2 pi u / 2^32, good to 1e-11: the nearest quarter turn, then Taylor series within an eighth of
 * one. */
static void sincos_turn(double *sine, double *cosine, uint32_t u) {
    const uint32_t quarter = (u + 0x20000000u) >> 30;
    const double x = (double)(int32_t)(u - (quarter << 30)) * (6.28318530717958648 / 4294967296.0), z = x * x;
    const double s =
        x * (1 + z * (-1. / 6 + z * (1. / 120 + z * (-1. / 5040 + z * (1. / 362880 + z * (-1. / 39916800))))));
    const double c =
        1 + z * (-1. / 2 + z * (1. / 24 + z * (-1. / 720 + z * (1. / 40320 + z * (-1. / 3628800 + z / 479001600.)))));
    const uint64_t swap = -(uint64_t)(quarter & 1), sine_sign = (uint64_t)(quarter >> 1 & 1) << 63;
    const uint64_t cosine_sign = (uint64_t)((quarter + 1) >> 1 & 1) << 63;
    const uint64_t difference = (bits_of(s) ^ bits_of(c)) & swap;
    *sine = double_of(bits_of(s) ^ difference ^ sine_sign);
    *cosine = double_of(bits_of(c) ^ difference ^ cosine_sign);
}

static void normal_pair(float pair[2], uint32_t u, uint32_t v) {
    double sine, cosine;
    const double radius = sqrt(-2 * log_unit(u));
    sincos_turn(&sine, &cosine, v);
    pair[0] = (float)(radius * cosine);
    pair[1] = (float)(radius * sine);
}

/* row (dim) += scale * normal draws of the stream. */
static void add_draws(float *row, const stream *s, float scale, int dim) {
    for (int column = 0; column < dim; column += 4) {
        uint32_t words[4];
        float x[4];
        draw_words(words, s, column / 4);
        normal_pair(x, words[0], words[1]);
        normal_pair(x + 2, words[2], words[3]);
        for (int i = 0; i < 4 && column + i < dim; i++) row[column + i] += scale * x[i];
    }
}

/* Draws of the same batch and head for another purpose. */
static stream redirect(const stream *s, uint32_t draw, int64_t index) {
    return (stream){.seed = s->seed, .draw = draw, .batch = s->batch, .head = s->head, .index = index};
}

static int choose_centre(const stream *key, int n_centres) {
    const stream choice = redirect(key, DRAW_CHOICE, key->index);
    uint32_t words[4];
    draw_words(words, &choice, 0);
    return (int)mulhi(words[0], (uint32_t)n_centres);
}

static void add_key(float *row, const stream *key, const lucid_random *random, int dim) {
    const int n_centres = random->n_centres ? random->n_centres : DEFAULT_CENTRES;
    float shared = 0, own = 1;
    int64_t centre = 0;
    if (random->kind == LUCID_RANDOM_CLUSTERED) {
        shared = (float)sqrt(random->correlation);
        own = (float)sqrt(1 - random->correlation);
        centre = choose_centre(key, n_centres);
    } else if (random->kind == LUCID_RANDOM_COINCIDENT) {
        shared = 1;
        own = coincidence;
    }
    const stream centres = redirect(key, DRAW_CENTRE, centre);
    if (shared != 0) add_draws(row, &centres, shared, dim);
    add_draws(row, key, own, dim);
}

void lucid_random_rows(void *rows, lucid_dtype dtype, const lucid_random *random, lucid_tensor tensor, int batch,
                       int head, int64_t first, int n_tokens, int dim) {
    stream s = {.seed = random->seed, .draw = (uint32_t)tensor, .batch = (uint32_t)batch, .head = (uint32_t)head};
    for (int i = 0; i < n_tokens; i++) {
        float row[LUCID_MAX_HEAD_DIM] = {0};
        s.index = first + i;
        if (tensor == LUCID_K)
            add_key(row, &s, random, dim);
        else
            add_draws(row, &s, 1, dim);
        lucid_narrow((char *)rows + (size_t)i * (size_t)dim * lucid_dtype_bytes(dtype), dtype, row, dim);
    }
}
