/* Random inputs: the generator against the published vectors, normal variates against libm, their distribution, and
 * that rows do not depend on how they are cut. Seeds are fixed, so the statistical checks either always pass or always
 * fail. */
#include "runtime/files/half.h"
#include "runtime/files/random.h"
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>

/* kat_vectors of Random123 1.09, philox4x32 with 10 rounds. */
static const struct {
    uint32_t counter[4], key[2], want[4];
} vectors[] = {
    {{0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void test_philox_vectors(void) {
    for (int i = 0; i < 3; i++) {
        uint32_t got[4];
        lucid_philox(got, vectors[i].counter, vectors[i].key);
        for (int j = 0; j < 4; j++)
            CHECK(got[j] == vectors[i].want[j], "vector %d word %d is %08x, want %08x", i, j, got[j],
                  vectors[i].want[j]);
    }
}

/* Elements recomputed from their coordinates with libm. The tolerance is a rounding to float and the series' 1e-11. */
static void test_elements(void) {
    const lucid_random random = {.seed = 0x123456789abcdef0};
    const int64_t token = ((int64_t)5 << 32) + 77;
    float row[10];
    lucid_random_rows(row, LUCID_F32, &random, LUCID_V, 3, 9, token, 1, 10);
    for (int column = 0; column < 10; column++) {
        const uint32_t counter[4] = {77, 5u << 16 | (uint32_t)(column / 4), (uint32_t)LUCID_V << 24 | 9, 3};
        const uint32_t key[2] = {0x9abcdef0, 0x12345678};
        uint32_t words[4];
        lucid_philox(words, counter, key);
        const uint32_t *pair = words + column % 4 / 2 * 2;
        const double radius = sqrt(-2 * log((pair[0] + 0.5) / 4294967296.0));
        const double angle = 2 * M_PI * pair[1] / 4294967296.0;
        const double want = radius * (column % 2 ? sin(angle) : cos(angle));
        CHECK_NEAR(row[column], want, 1e-7 * fabs(want) + 1e-10, "column %d", column);
    }
}

/* The bits themselves, as an FNV-1a hash: they must not hang on compiler, libm or processor. */
static void test_bits_are_pinned(void) {
    enum { N = 64, D = 100 };
    const lucid_random random = {.seed = 42, .kind = LUCID_RANDOM_CLUSTERED, .correlation = 0.8};
    static float rows[N * D];
    uint64_t hash = 0xcbf29ce484222325;
    lucid_random_rows(rows, LUCID_F32, &random, LUCID_K, 1, 2, 1000, N, D);
    for (size_t i = 0; i < sizeof rows; i++) hash = (hash ^ ((unsigned char *)rows)[i]) * 0x100000001b3;
    CHECK(hash == 0x8ae2a2e390608855, "hash %016llx", (unsigned long long)hash);
}

static const lucid_random kinds[] = {
    {.seed = 1, .kind = LUCID_RANDOM_NORMAL},
    {.seed = 2, .kind = LUCID_RANDOM_CLUSTERED, .n_centres = 5, .correlation = 0.8},
    {.seed = 3, .kind = LUCID_RANDOM_COINCIDENT},
};

static void test_slicing_and_dtypes(void) {
    enum { N = 150, D = 13 };
    static const int cuts[] = {0, 1, 64, 65, 149, 150};
    static float whole[N * D], pieces[N * D];
    static uint16_t half[N * D];
    for (int k = 0; k < 3; k++) {
        lucid_random_rows(whole, LUCID_F32, &kinds[k], LUCID_K, 2, 3, 1000, N, D);
        for (int c = 4; c >= 0; c--)
            lucid_random_rows(pieces + cuts[c] * D, LUCID_F32, &kinds[k], LUCID_K, 2, 3, 1000 + cuts[c],
                              cuts[c + 1] - cuts[c], D);
        CHECK(memcmp(whole, pieces, sizeof whole) == 0, "kind %d: slices differ from the whole", k);
        lucid_random_rows(half, LUCID_F16, &kinds[k], LUCID_K, 2, 3, 1000, N, D);
        int wrong = 0;
        for (int i = 0; i < N * D; i++) wrong += half[i] != lucid_f16_from_f32(whole[i]);
        CHECK(wrong == 0, "kind %d: %d halves are not the rounded floats", k, wrong);
    }
}

static int compare_floats(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Moments within five standard deviations of their estimates, and Kolmogorov's distance: below 1.95 / sqrt(n) with
 * probability 0.999. */
static void check_normal(float *x, int n, const char *what) {
    double moment[5] = {0}, distance = 0;
    for (int i = 0; i < n; i++) {
        double power = 1;
        for (int p = 1; p <= 4; p++) moment[p] += (power *= x[i]) / n;
    }
    CHECK_NEAR(moment[1], 0, 5 / sqrt(n), "%s: mean", what);
    CHECK_NEAR(moment[2], 1, 5 * sqrt(2. / n), "%s: variance", what);
    CHECK_NEAR(moment[3], 0, 5 * sqrt(15. / n), "%s: third moment", what);
    CHECK_NEAR(moment[4], 3, 5 * sqrt(96. / n), "%s: fourth moment", what);
    qsort(x, (size_t)n, sizeof *x, compare_floats);
    for (int i = 0; i < n; i++) distance = fmax(distance, fabs(0.5 * erfc(-x[i] / sqrt(2)) - (i + 0.5) / n));
    CHECK_NEAR(distance, 0, 1.95 / sqrt(n), "%s: distribution", what);
}

static void test_distribution(void) {
    enum { N = 4096, D = 64 };
    static const lucid_tensor tensors[] = {LUCID_Q, LUCID_K, LUCID_V};
    float *x = malloc(sizeof(float) * N * D);
    for (int t = 0; t < 3; t++) {
        lucid_random_rows(x, LUCID_F32, &kinds[0], tensors[t], 0, 0, 0, N, D);
        check_normal(x, N * D, "normal");
    }
    free(x);
}

static double correlation(const float *x, const float *y, int n) {
    double xx = 0, xy = 0, yy = 0;
    for (int i = 0; i < n; i++) {
        xx += (double)x[i] * x[i];
        xy += (double)x[i] * y[i];
        yy += (double)y[i] * y[i];
    }
    return xy / sqrt(xx * yy);
}

/* Changing any one coordinate gives unrelated numbers. */
static void test_independence(void) {
    enum { N = 256, D = 64 };
    static float base[N * D], other[N * D];
    const lucid_random reseeded = {.seed = 1 + ((uint64_t)1 << 32)};
    lucid_random_rows(base, LUCID_F32, &kinds[0], LUCID_Q, 0, 0, 0, N, D);
    for (int change = 0; change < 6; change++) {
        const int64_t first = change == 3 ? 1 : change == 4 ? (int64_t)1 << 32 : 0;
        lucid_random_rows(other, LUCID_F32, change == 5 ? &reseeded : &kinds[0], change == 0 ? LUCID_K : LUCID_Q,
                          change == 1, change == 2, first, N, D);
        CHECK_NEAR(correlation(base, other, N * D), 0, 5 / sqrt(N * D), "change %d", change);
        CHECK_NEAR(correlation(base, other + 1, N * D - 1), 0, 5 / sqrt(N * D), "change %d, next column", change);
    }
}

/* Keys of one centre correlate by rho, others not at all, and every centre is used. */
static void test_clusters(void) {
    enum { N = 200, D = 256, CENTRES = 5 };
    static float keys[N * D];
    int representative[N], n_clusters = 0, largest = 0, count[N] = {0};
    lucid_random_rows(keys, LUCID_F32, &kinds[1], LUCID_K, 0, 0, 0, N, D);
    for (int i = 0; i < N; i++) {
        int c = 0;
        while (c < n_clusters && correlation(keys + i * D, keys + representative[c] * D, D) < 0.4) c++;
        if (c == n_clusters) representative[n_clusters++] = i;
        count[c]++;
        const double rho = correlation(keys + i * D, keys + representative[c] * D, D);
        if (representative[c] != i) CHECK_NEAR(rho, 0.8, 0.15, "keys %d and %d", i, representative[c]);
    }
    CHECK(n_clusters == CENTRES, "%d clusters", n_clusters);
    for (int c = 0; c < n_clusters; c++) largest = count[c] > largest ? count[c] : largest;
    CHECK(largest < N / CENTRES + 5 * sqrt(N / CENTRES), "the largest cluster has %d of %d", largest, N);
    for (int c = 1; c < n_clusters; c++) {
        const double rho = correlation(keys, keys + representative[c] * D, D);
        CHECK_NEAR(rho, 0, 5 / sqrt(D), "clusters 0 and %d", c);
    }
}

static void test_coincident_keys(void) {
    enum { N = 50, D = 256 };
    static float keys[N * D], queries[N * D];
    lucid_random_rows(keys, LUCID_F32, &kinds[2], LUCID_K, 0, 0, 0, N, D);
    lucid_random_rows(queries, LUCID_F32, &kinds[2], LUCID_Q, 0, 0, 0, N, D);
    for (int i = 1; i < N; i++) {
        double difference = 0, square = 0;
        for (int c = 0; c < D; c++) {
            difference += pow(keys[i * D + c] - keys[c], 2);
            square += pow(keys[c], 2);
        }
        CHECK_NEAR(sqrt(difference / square), 0.01 * sqrt(2), 0.003, "key %d", i);
        CHECK_NEAR(correlation(queries, queries + i * D, D), 0, 5 / sqrt(D), "query %d", i);
    }
}

int main(void) {
    test_philox_vectors();
    test_elements();
    test_bits_are_pinned();
    test_slicing_and_dtypes();
    test_distribution();
    test_independence();
    test_clusters();
    test_coincident_keys();
    return check_result();
}
