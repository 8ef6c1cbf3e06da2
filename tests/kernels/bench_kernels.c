/* How close the kernels come to this machine's FMA peak: one head's causal solve and softmax pass on one core, blocked
 * as a runtime would block them (row tiles of 512 tokens, key ranges that fill half of a 1 MB L2).
 *
 * Inside the timers: packing (from fp32, bf16 or fp16 rows), update and solve, attend and its begin and finish.
 * Outside: making the input, allocation, the first touch of memory. Shares are flops / (time * peak), flops = 4 d per
 * causal pair and phase whatever d_v's padding costs, peak = fma_burst, run between the pieces of the same repetition
 * so that both see the same clock; each figure is the median over repetitions. y and out are verified to be finite, no
 * more: the tests do the rest.
 *
 *   bench_kernels [--isa NAME] [--dim D] [--value-dim D] [--seqlen N] [--dtype f32|bf16|f16] [--seconds S] */
#include <getopt.h>
#include <time.h>

#include "tests/kernels/fixture.h"

enum { TILE = 8, L2_HALF = 512 * 1024, MAX_REPEATS = 200 };

typedef enum { PACK, SOLVE, ATTEND, BURST, N_TIMERS } timer;

typedef struct {
    const lucid_kernels *set;
    head head;
    const char *q, *k, *v; /* rows of dtype */
    lucid_dtype dtype;
    float *out, *lse;
    int key_range; /* granules */
    double seconds[N_TIMERS];
    double burst_flops;
} bench;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int min(int a, int b) {
    return a < b ? a : b;
}

/* Adds the time since *start to a timer and starts anew. */
static void lap(bench *b, timer t, double *start) {
    double end = now();
    b->seconds[t] += end - *start;
    *start = end;
}

static void burst(bench *b, int64_t rounds) {
    double start = now();
    b->burst_flops += b->set->fma_burst(rounds);
    lap(b, BURST, &start);
}

static void pack(bench *b, int g) {
    head *h = &b->head;
    lucid_shape s = h->shape;
    int rows = min(GRANULE, h->n - g * GRANULE);
    size_t first = (size_t)g * GRANULE * lucid_dtype_bytes(b->dtype);
    float scale = (float)(M_LOG2E / sqrt(s.head_dim));
    b->set->pack_rows(head_record(h, g), b->k + first * s.head_dim, b->dtype, rows, s.head_dim, 1);
    b->set->normalise(head_record(h, g), s, (float)EPS);
    b->set->pack_values(head_record(h, g), b->v + first * s.value_dim, b->dtype, rows, s);
    b->set->pack_rows(head_query(h, g), b->q + first * s.head_dim, b->dtype, rows, s.head_dim, scale);
}

static void solve_tile(bench *b, int first, int last) {
    head *h = &b->head;
    for (int j = 0; j < first; j += b->key_range)
        for (int i = first; i < last; i++)
            b->set->update(head_record(h, i), h->keys + j, min(b->key_range, first - j), h->shape, h->scratch);
    for (int i = first; i < last; i++) {
        b->set->update(head_record(h, i), h->keys + first, i - first, h->shape, h->scratch);
        b->set->solve(head_record(h, i), h->shape, h->scratch);
    }
}

static void attend_tile(bench *b, int first, int last) {
    head *h = &b->head;
    lucid_shape s = h->shape;
    for (int i = first; i < last; i++) b->set->attend_begin(head_state(h, i), head_query(h, i), head_record(h, i), s);
    for (int j = 0; j < first; j += b->key_range)
        for (int i = first; i < last; i++)
            b->set->attend(head_state(h, i), head_query(h, i), h->keys + j, min(b->key_range, first - j), s,
                           h->scratch);
    for (int i = first; i < last; i++) {
        b->set->attend(head_state(h, i), head_query(h, i), h->keys + first, i - first, s, h->scratch);
        b->set->attend_diag(head_state(h, i), head_query(h, i), head_record(h, i), s, h->scratch);
        b->set->attend_finish(b->out + (size_t)i * GRANULE * s.value_dim, b->lse + i * GRANULE, head_state(h, i),
                              min(GRANULE, h->n - i * GRANULE), s);
    }
}

/* One repetition: packs, solves, attends, with a burst of about a tenth of the time between tiles. */
static void repetition(bench *b, int64_t burst_rounds) {
    int n_granules = b->head.n_granules;
    memset(b->seconds, 0, sizeof b->seconds);
    b->burst_flops = 0;
    burst(b, burst_rounds);
    double start = now();
    for (int g = 0; g < n_granules; g++) pack(b, g);
    lap(b, PACK, &start);
    for (int first = 0; first < n_granules; first += TILE) {
        int last = min(first + TILE, n_granules);
        start = now();
        solve_tile(b, first, last);
        lap(b, SOLVE, &start);
        burst(b, burst_rounds);
    }
    for (int first = 0; first < n_granules; first += TILE) {
        int last = min(first + TILE, n_granules);
        start = now();
        attend_tile(b, first, last);
        lap(b, ATTEND, &start);
        burst(b, burst_rounds);
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, n, sizeof *x, ascending);
    return x[n / 2];
}

static void report(bench *b, double budget) {
    enum { SHARE_SOLVE, SHARE_ATTEND, SHARE_BOTH, PACK_OF_ALL, PEAK, N_FIGURES };
    static double figures[N_FIGURES][MAX_REPEATS];
    const head *h = &b->head;
    double flops = 4.0 * h->shape.head_dim * (0.5 * h->n * (h->n + 1.0)), end = now() + budget;
    int64_t rounds = (int64_t)fmin(20000 + flops / 1e4, 200000);
    int n = 0;
    repetition(b, rounds); /* touches memory */
    do {
        repetition(b, rounds);
        const double *t = b->seconds, peak = b->burst_flops / t[BURST];
        figures[SHARE_SOLVE][n] = flops / t[SOLVE] / peak;
        figures[SHARE_ATTEND][n] = flops / t[ATTEND] / peak;
        figures[SHARE_BOTH][n] = 2 * flops / (t[PACK] + t[SOLVE] + t[ATTEND]) / peak;
        figures[PACK_OF_ALL][n] = t[PACK] / (t[PACK] + t[SOLVE] + t[ATTEND]);
        figures[PEAK][n++] = peak;
    } while (n < MAX_REPEATS && now() < end);
    printf(
        "%-7s d %3d d_v %3d N %6d: solve %.3f attend %.3f both with packing %.3f (packing %.1f %%), peak %.1f Gflop/s, "
        "%d repetitions\n",
        b->set->isa, h->shape.head_dim, h->shape.value_dim, h->n, median(figures[SHARE_SOLVE], n),
        median(figures[SHARE_ATTEND], n), median(figures[SHARE_BOTH], n), 100 * median(figures[PACK_OF_ALL], n),
        1e-9 * median(figures[PEAK], n), n);
}

/* fp32 rows as dtype; 16-bit rows are cut bf16, which as fp16 bits are other, but finite, numbers of size about 1. */
static char *as_dtype(const float *x, size_t n, lucid_dtype dtype) {
    char *rows = allocate(n * lucid_dtype_bytes(dtype));
    if (dtype == LUCID_F32) memcpy(rows, x, n * sizeof *x);
    for (size_t i = 0; dtype != LUCID_F32 && i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        uint16_t half = (uint16_t)(bits >> 16);
        memcpy(rows + 2 * i, &half, sizeof half);
    }
    return rows;
}

static int run(const lucid_kernels *set, int n, int d, int dv, lucid_dtype dtype, double seconds) {
    problem p = problem_make(n, d, dv, 1);
    bench b = {.set = set, .head = head_make(set, &p), .dtype = dtype};
    b.q = as_dtype(p.q, (size_t)n * d, dtype);
    b.k = as_dtype(p.k, (size_t)n * d, dtype);
    b.v = as_dtype(p.v, (size_t)n * dv, dtype);
    b.out = allocate_floats((size_t)n * dv);
    b.lse = allocate_floats(n);
    b.key_range = (int)(L2_HALF / (sizeof(float) * lucid_record_floats(p.shape)));
    report(&b, seconds);
    for (size_t i = 0; i < (size_t)n * dv; i++) CHECK(isfinite(b.out[i]), "out[%zu] is %g", i, b.out[i]);
    head_free(&b.head);
    problem_free(&p);
    free((void *)b.q);
    free((void *)b.k);
    free((void *)b.v);
    free(b.out);
    free(b.lse);
    return check_result();
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"isa", 1, NULL, 'i'},   {"dim", 1, NULL, 'd'},     {"value-dim", 1, NULL, 'v'}, {"seqlen", 1, NULL, 'n'},
        {"dtype", 1, NULL, 't'}, {"seconds", 1, NULL, 's'}, {NULL, 0, NULL, 0}};
    const char *isa = "auto", *dtype = "f32";
    int n = 4096, d = 64, dv = 0;
    double seconds = 2;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'i') isa = optarg;
        if (c == 'd') d = atoi(optarg);
        if (c == 'v') dv = atoi(optarg);
        if (c == 'n') n = atoi(optarg);
        if (c == 't') dtype = optarg;
        if (c == 's') seconds = atof(optarg);
        if (c == '?') return 2;
    }
    const lucid_kernels *set = lucid_kernels_find(isa);
    if (!dv) dv = d;
    if (!set || d < 1 || d > LUCID_MAX_HEAD_DIM || dv < 1 || dv > LUCID_MAX_HEAD_DIM || n < 1 || n > 1 << 24) {
        fprintf(stderr, "bench_kernels: no such kernel set here, or a size out of range\n");
        return 2;
    }
    return run(set, n, d, dv,
               dtype[0] == 'b'             ? LUCID_BF16
               : strcmp(dtype, "f16") == 0 ? LUCID_F16
                                           : LUCID_F32,
               seconds);
}
