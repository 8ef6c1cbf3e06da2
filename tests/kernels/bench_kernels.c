/* How close the kernels come to this machine's FMA peak: one head's causal solve and softmax pass on one core, blocked
 * as a runtime would block them (row tiles of 512 tokens, key ranges that fill half of a 1 MB L2).
 *
 * Inside the timers: packing (from fp32, bf16 or fp16 rows), update and solve, attend and its begin and finish;
 * backward in one pass of five products and in two of four and three, with key tiles of 512 tokens.
 * Outside: making the input, allocation, the first touch of memory. Shares are flops / (time * peak), flops = 4 d per
 * causal pair and phase whatever d_v's padding costs; peak is fma_burst's, run between the pieces. A piece is one row
 * granule against one key range; its time is its fastest over the repetitions, and so is the peak's: what else the
 * machine does at the time is left out on both sides. out is verified to be finite, no more: the tests do the rest.
 *
 *   bench_kernels [--isa NAME] [--dim D] [--value-dim D] [--seqlen N] [--dtype f32|bf16|f16] [--seconds S] */
#include <getopt.h>
#include <time.h>

#include "tests/kernels/fixture.h"

enum { TILE = 8, L2_HALF = 512 * 1024 };

typedef enum {
    PACK,
    SOLVE,
    ATTEND,
    BACKWARD,
    KEYS_BACKWARD,
    ROWS_BACKWARD,
    N_TIMERS
} timer; /* BACKWARD: both sides' sums in one pass, or each's */

typedef struct {
    const lucid_kernels *set;
    head head;
    const char *q, *k, *v; /* rows of dtype */
    lucid_dtype dtype;
    float *out, *lse;
    float *query_rows, *key_rows, *dkeys, *dkeys_solve, *dqt, *dkt; /* by granule */
    lucid_key_sums *sums;
    int key_range;             /* granules */
    int n_pieces[N_TIMERS];    /* so far in this repetition */
    double *fastest[N_TIMERS]; /* seconds, by piece */
    double peak;               /* flop/s */
} bench;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int min(int a, int b) {
    return a < b ? a : b;
}

/* Ends the piece that began at `start`. */
static void end_piece(bench *b, timer t, double start) {
    double *fastest = &b->fastest[t][b->n_pieces[t]++];
    *fastest = fmin(*fastest, now() - start);
}

static void burst(bench *b) {
    double start = now(), flops = b->set->fma_burst(500);
    b->peak = fmax(b->peak, flops / (now() - start));
}

static void pack_piece(bench *b, int g) {
    head *h = &b->head;
    lucid_shape s = h->shape;
    int rows = min(GRANULE, h->n - g * GRANULE);
    size_t first = (size_t)g * GRANULE * lucid_dtype_bytes(b->dtype);
    double start = now();
    b->set->pack_rows(head_record(h, g), b->k + first * s.head_dim, b->dtype, rows, s.head_dim);
    b->set->normalise(head_record(h, g), s, (float)EPS);
    b->set->pack_values(head_record(h, g), b->v + first * s.value_dim, b->dtype, rows, s);
    b->set->pack_rows(head_query(h, g), b->q + first * s.head_dim, b->dtype, rows, s.head_dim);
    end_piece(b, PACK, start);
}

/* Row granule i against granules first..last-1; the own one comes last. */
static void solve_piece(bench *b, int i, int first, int last, bool own) {
    head *h = &b->head;
    double start = now();
    b->set->update(head_record(h, i), h->keys + first, last - first, h->shape, h->scratch);
    if (own) b->set->solve(head_record(h, i), h->shape, h->scratch);
    end_piece(b, SOLVE, start);
}

static void attend_piece(bench *b, int i, int first, int last, bool own) {
    head *h = &b->head;
    lucid_shape s = h->shape;
    float *state = head_state(h, i), *query = head_query(h, i);
    double start = now();
    if (first == 0) b->set->attend_begin(state, query, head_record(h, i), h->q_scale, s);
    b->set->attend(state, query, h->keys + first, last - first, false, lucid_row_precision(i), h->q_scale, s,
                   h->scratch);
    if (own) {
        b->set->attend(state, query, h->keys + i, 1, true, lucid_row_precision(i), h->q_scale, s, h->scratch);
        b->set->attend_finish(b->out + (size_t)i * GRANULE * s.value_dim, b->lse + i * GRANULE, state,
                              min(GRANULE, h->n - i * GRANULE), s);
    }
    end_piece(b, ATTEND, start);
}

/* Granules last-1 .. first as backward's keys; without sums in the rows' pass. */
static const lucid_key_sums *list_sums(bench *b, int first, int last, float *dkeys, timer pass) {
    lucid_shape s = b->head.shape;
    for (int n = 0, j = last - 1; j >= first; j--, n++)
        b->sums[n] = (lucid_key_sums){head_record(&b->head, j),
                                      pass == ROWS_BACKWARD ? NULL : dkeys + j * lucid_key_sums_floats(s),
                                      b->key_rows + j * lucid_record_floats(s) + lucid_record_values(s)};
    return b->sums;
}

static void backward_piece(bench *b, int i, int first, int last, bool own, timer pass) {
    lucid_shape s = b->head.shape;
    const lucid_kernels *k = b->set;
    float *scratch = b->head.scratch, *query = b->query_rows + i * lucid_query_row_floats(s);
    float *row = b->key_rows + i * lucid_record_floats(s);
    float *dqt = pass == KEYS_BACKWARD ? NULL : b->dqt + i * lucid_key_sums_floats(s);
    float *dkt = pass == KEYS_BACKWARD ? NULL : b->dkt + i * lucid_key_sums_floats(s);
    double start = now();
    if (own) k->attend_backward_diag(dqt, query, list_sums(b, i, i + 1, b->dkeys, pass), s, scratch);
    k->attend_backward(dqt, query, list_sums(b, first, last, b->dkeys, pass), last - first, s, scratch);
    if (own && pass != ROWS_BACKWARD) k->solve_backward(row, s, scratch);
    if (own) k->update_backward_diag(dkt, row, list_sums(b, i, i + 1, b->dkeys_solve, pass), s, scratch);
    k->update_backward(dkt, row, list_sums(b, first, last, b->dkeys_solve, pass), last - first, s, scratch);
    end_piece(b, pass, start);
}

/* dout = q's numbers, as good as any. */
static void begin_backward(bench *b) {
    const head *h = &b->head;
    lucid_shape s = h->shape;
    memset(b->dkeys, 0, sizeof(float) * h->n_granules * lucid_key_sums_floats(s));
    memset(b->dkeys_solve, 0, sizeof(float) * h->n_granules * lucid_key_sums_floats(s));
    memset(b->dqt, 0, sizeof(float) * h->n_granules * lucid_key_sums_floats(s));
    memset(b->dkt, 0, sizeof(float) * h->n_granules * lucid_key_sums_floats(s));
    for (int g = 0; g < h->n_granules; g++) {
        float *row = b->query_rows + g * lucid_query_row_floats(s), *key = b->key_rows + g * lucid_record_floats(s);
        int rows = min(GRANULE, h->n - g * GRANULE);
        b->set->pack_values(row, b->v + (size_t)g * GRANULE * s.value_dim * lucid_dtype_bytes(b->dtype), b->dtype, rows,
                            s);
        lucid_query_row_begin(row, head_query(h, g), head_state(h, g), M_LOG2E / sqrt(s.head_dim), s);
        memcpy(key, head_record(h, g), lucid_record_floats(s) * sizeof *key);
    }
}

/* A key tile against the row granules after it, and against itself. */
static void run_tile_backward(bench *b, int tile, timer pass) {
    int first = tile * TILE, last = min(first + TILE, b->head.n_granules);
    for (int i = b->head.n_granules - 1; i >= last; i--) {
        backward_piece(b, i, first, last, false, pass);
        if (i % TILE == 0) burst(b);
    }
    for (int i = last - 1; i >= first; i--) backward_piece(b, i, first, i, true, pass);
}

/* A row tile: all its granules against one key range after the other, then against the tile itself. */
static void run_tile(bench *b, int tile, void (*piece)(bench *, int, int, int, bool)) {
    int first = tile * TILE, last = min(first + TILE, b->head.n_granules);
    for (int j = 0; j < first; j += b->key_range)
        for (int i = first; i < last; i++) {
            piece(b, i, j, min(j + b->key_range, first), false);
            burst(b);
        }
    for (int i = first; i < last; i++) piece(b, i, first, i, true);
}

static void repetition(bench *b) {
    memset(b->n_pieces, 0, sizeof b->n_pieces);
    burst(b);
    for (int g = 0; g < b->head.n_granules; g++) pack_piece(b, g);
    for (int tile = 0; tile * TILE < b->head.n_granules; tile++) run_tile(b, tile, solve_piece);
    for (int tile = 0; tile * TILE < b->head.n_granules; tile++) run_tile(b, tile, attend_piece);
    for (timer pass = BACKWARD; pass <= ROWS_BACKWARD; pass++) {
        begin_backward(b);
        for (int tile = b->head.n_granules / TILE; tile >= 0; tile--) run_tile_backward(b, tile, pass);
    }
}

static double total(const bench *b, timer t) {
    double sum = 0;
    for (int piece = 0; piece < b->n_pieces[t]; piece++) sum += b->fastest[t][piece];
    return sum;
}

static void report(bench *b, double budget) {
    const head *h = &b->head;
    double flops = 4.0 * h->shape.head_dim * (0.5 * h->n * (h->n + 1.0)), end = now() + budget;
    int repetitions = 0;
    do {
        repetition(b);
        repetitions++;
    } while (repetitions < 2 || now() < end); /* the first touches memory */
    double pack = total(b, PACK), solve = total(b, SOLVE), attend = total(b, ATTEND), all = pack + solve + attend;
    printf(
        "%-7s d %3d d_v %3d N %6d: solve %.3f attend %.3f both with packing %.3f (packing %.1f %%), peak %.1f Gflop/s, "
        "%d repetitions\n",
        b->set->isa, h->shape.head_dim, h->shape.value_dim, h->n, flops / solve / b->peak, flops / attend / b->peak,
        2 * flops / all / b->peak, 100 * pack / all, 1e-9 * b->peak, repetitions);
    double one = total(b, BACKWARD), keys = total(b, KEYS_BACKWARD), rows = total(b, ROWS_BACKWARD);
    printf("backward: one pass %.3f, %.2f times the forward with packing; keys' %.3f and rows' %.3f, together %.2f\n",
           5 * flops / one / b->peak, one / all, 4 * flops / keys / b->peak, 3 * flops / rows / b->peak,
           (keys + rows) / all);
}

/* Room for every piece's fastest time. */
static void make_timers(bench *b) {
    size_t n = (size_t)b->head.n_granules * (b->head.n_granules / min(b->key_range, TILE) + 2);
    for (timer t = PACK; t < N_TIMERS; t++) {
        b->fastest[t] = allocate(sizeof(double) * n);
        for (size_t piece = 0; piece < n; piece++) b->fastest[t][piece] = INFINITY;
    }
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
    size_t granules = b.head.n_granules;
    b.query_rows = allocate_floats(granules * lucid_query_row_floats(p.shape));
    b.key_rows = allocate_floats(granules * lucid_record_floats(p.shape));
    b.dkeys = allocate_floats(granules * lucid_key_sums_floats(p.shape));
    b.dkeys_solve = allocate_floats(granules * lucid_key_sums_floats(p.shape));
    b.dqt = allocate_floats(granules * lucid_key_sums_floats(p.shape));
    b.dkt = allocate_floats(granules * lucid_key_sums_floats(p.shape));
    b.sums = allocate(granules * sizeof *b.sums);
    make_timers(&b);
    report(&b, seconds);
    for (size_t i = 0; i < (size_t)n * dv; i++) CHECK(isfinite(b.out[i]), "out[%zu] is %g", i, b.out[i]);
    head_free(&b.head);
    problem_free(&p);
    free((void *)b.q);
    free((void *)b.k);
    free((void *)b.v);
    free(b.query_rows), free(b.key_rows), free(b.dkeys), free(b.dkeys_solve), free(b.dqt), free(b.dkt), free(b.sums);
    free(b.out);
    free(b.lse);
    for (timer t = PACK; t < N_TIMERS; t++) free(b.fastest[t]);
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
