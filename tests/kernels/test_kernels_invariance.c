/* Bits that must not move: with the cut of a key list into calls, with other rows of the granule, with future keys,
 * with the caller's floating-point mode. */
#include "tests/kernels/fixture.h"

#include <xmmintrin.h>

enum { N = 5 * GRANULE, LAST = 4 };

typedef struct {
    const lucid_kernels *set;
    problem p;
    lucid_precision precision;
} subject;

static head solved(const subject *t) {
    head h = head_make(t->set, &t->p);
    head_solve(t->set, &h);
    head_attend(t->set, &h, t->precision);
    return h;
}

/* Values and softmax state of rows 0..n_rows-1 are the same bits. */
static void check_same(const subject *t, const head *a, const head *b, int n_rows, const char *what) {
    lucid_shape s = t->p.shape;
    for (int i = 0; i < n_rows; i++) {
        int g = i / GRANULE, r = i % GRANULE;
        const float *x = head_state(a, g), *y = head_state(b, g);
        size_t row = sizeof(float) * s.value_ld, at = 2 * GRANULE + (size_t)r * s.value_ld;
        bool same = !memcmp(head_values(a, i), head_values(b, i), row) && !memcmp(x + at, y + at, row) &&
                    !memcmp(x + r, y + r, sizeof *x) && !memcmp(x + GRANULE + r, y + GRANULE + r, sizeof *x);
        CHECK(same, "%s, d %d, d_v %d: row %d changed with %s", t->set->isa, s.head_dim, s.value_dim, i, what);
    }
}

/* One call with a granule's four predecessors, or four calls with one, or two and two. */
static void check_calls(const subject *t) {
    head whole = solved(t), cut = head_make(t->set, &t->p);
    lucid_shape s = t->p.shape;
    for (int g = 0; g < cut.n_granules; g++) {
        for (int j = 0; j < g; j++) t->set->update(head_record(&cut, g), cut.keys + j, 1, s, cut.scratch);
        t->set->solve(head_record(&cut, g), s, cut.scratch);
    }
    for (int g = 0; g < cut.n_granules; g++) {
        t->set->attend_begin(head_state(&cut, g), head_query(&cut, g), head_record(&cut, g), cut.q_scale, s);
        for (int j = 0; j < g; j += 2)
            t->set->attend(head_state(&cut, g), head_query(&cut, g), cut.keys + j, g - j < 2 ? 1 : 2, false,
                           t->precision, cut.q_scale, s, cut.scratch);
        t->set->attend(head_state(&cut, g), head_query(&cut, g), cut.keys + g, 1, true, t->precision, cut.q_scale, s,
                       cut.scratch);
    }
    check_same(t, &whole, &cut, N, "the cut into calls");
    head_free(&whole);
    head_free(&cut);
}

/* Replaces tokens first.. by large other ones. */
static void disturb(problem *p, int first) {
    uint64_t seed = 99;
    for (size_t i = (size_t)first * p->shape.head_dim; i < (size_t)p->n * p->shape.head_dim; i++) {
        p->q[i] = (float)(30 * normal(&seed));
        p->k[i] = (float)(30 * normal(&seed));
    }
    for (size_t i = (size_t)first * p->shape.value_dim; i < (size_t)p->n * p->shape.value_dim; i++)
        p->v[i] = (float)(1e6 * normal(&seed));
}

/* Tokens from `first` on are others: no row before may notice, though it shares granule and register block with them.
 */
static void check_future(const subject *t, int first) {
    head a = solved(t);
    subject other = {t->set, problem_make(N, t->p.shape.head_dim, t->p.shape.value_dim, 11), t->precision};
    disturb(&other.p, first);
    head b = solved(&other);
    check_same(t, &a, &b, first, "future tokens");
    head_free(&a);
    head_free(&b);
    problem_free(&other.p);
}

/* A sequence cut short, its last granule padded, against the same rows of the whole. */
static void check_padding(const subject *t, int n) {
    head whole = solved(t);
    subject cut = *t;
    cut.p.n = n;
    head part = solved(&cut);
    check_same(t, &whole, &part, n, "the sequence's length");
    head_free(&whole);
    head_free(&part);
}

/* The caller flushes denormals and rounds towards zero, or does not: the SIMD kernels set their own mode and restore
 * his. */
static void check_mode(const subject *t) {
    if (strcmp(t->set->isa, "scalar") == 0) return; /* plain C: runs in the mode it finds */
    head a = solved(t), b = head_make(t->set, &t->p);
    unsigned mode = _mm_getcsr(), odd = mode | _MM_ROUND_TOWARD_ZERO;
    _mm_setcsr(odd);
    head_solve(t->set, &b);
    for (int g = 0; g < b.n_granules; g++) {
        _mm_setcsr(mode); /* attend_begin is a plain chain in the caller's mode */
        t->set->attend_begin(head_state(&b, g), head_query(&b, g), head_record(&b, g), b.q_scale, b.shape);
        _mm_setcsr(odd);
        t->set->attend(head_state(&b, g), head_query(&b, g), b.keys, g, false, t->precision, b.q_scale, b.shape,
                       b.scratch);
        t->set->attend(head_state(&b, g), head_query(&b, g), b.keys + g, 1, true, t->precision, b.q_scale, b.shape,
                       b.scratch);
    }
    _mm_setcsr(mode);
    check_same(t, &a, &b, N, "the caller's rounding mode");
    head_free(&a);
    head_free(&b);
}

/* Runs one function of the set, rounding towards zero, and finds the mode as it was. */
#define CHECK_KEEPS_MODE(set, function, ...)                                                                     \
    do {                                                                                                         \
        const unsigned mode_ = _mm_getcsr(), odd_ = mode_ | _MM_ROUND_TOWARD_ZERO;                               \
        _mm_setcsr(odd_);                                                                                        \
        (set)->function(__VA_ARGS__);                                                                            \
        const unsigned after_ = _mm_getcsr();                                                                    \
        _mm_setcsr(mode_);                                                                                       \
        CHECK(!((after_ ^ odd_) & ~_MM_EXCEPT_MASK), "%s: " #function " made mode %x of %x", (set)->isa, after_, \
              odd_);                                                                                             \
    } while (0)

static void check_forward_mode(const subject *t, head *h) {
    const lucid_kernels *set = t->set;
    const lucid_shape s = h->shape;
    float *state = head_state(h, LAST), *query = head_query(h, LAST), *record = head_record(h, LAST);
    float *out = allocate_floats((size_t)GRANULE * s.value_dim), lse[GRANULE];
    CHECK_KEEPS_MODE(set, pack_rows, record, t->p.k, LUCID_F32, GRANULE, s.head_dim);
    CHECK_KEEPS_MODE(set, normalise, record, s, (float)EPS);
    CHECK_KEEPS_MODE(set, pack_values, record, t->p.v, LUCID_F32, GRANULE, s);
    CHECK_KEEPS_MODE(set, update, record, h->keys, LAST, s, h->scratch);
    CHECK_KEEPS_MODE(set, solve, record, s, h->scratch);
    for (int precision = LUCID_FAST; precision <= LUCID_EXACT; precision++) {
        const lucid_precision p = (lucid_precision)precision;
        CHECK_KEEPS_MODE(set, attend_begin, state, query, record, h->q_scale, s);
        CHECK_KEEPS_MODE(set, attend, state, query, h->keys, LAST, false, p, h->q_scale, s, h->scratch);
        CHECK_KEEPS_MODE(set, attend, state, query, h->keys + LAST, 1, true, p, h->q_scale, s, h->scratch);
    }
    CHECK_KEEPS_MODE(set, attend_finish, out, lse, state, GRANULE, s);
    free(out);
}

/* An fp32 record is a cached one. */
static void check_decode_mode(const subject *t, const head *h) {
    const lucid_kernels *set = t->set;
    const lucid_decode_shape s = {h->shape, LUCID_F32, 1, true};
    float *partial = allocate_floats(lucid_partial_floats(&s)), *other = allocate_floats(lucid_partial_floats(&s));
    float *rows = allocate_floats(lucid_decode_rows_floats(&s)),
          *scratch = allocate_floats(lucid_decode_scratch_floats(&s));
    lucid_decode_pack(rows, t->p.q, (float)h->q_scale, t->p.k, 1, &s);
    set->decode_begin(other, rows, t->p.k, &s);
    CHECK_KEEPS_MODE(set, decode_begin, partial, rows, t->p.k, &s);
    CHECK_KEEPS_MODE(set, decode, partial, rows, h->records, 2 * GRANULE + 5, &s, scratch);
    CHECK_KEEPS_MODE(set, decode_merge, partial, other, &s);
    free(partial), free(other), free(rows), free(scratch);
}

static void check_backward_mode(const subject *t, const head *h) {
    const lucid_kernels *set = t->set;
    const lucid_shape s = h->shape;
    float *row = allocate_floats(lucid_query_row_floats(s)), *sums = allocate_floats(lucid_sums_floats(s, 1));
    const lucid_key_sums key = {head_record(h, 0), sums, sums + lucid_sums_dy(s, 1)};
    memset(row, 0, lucid_query_row_floats(s) * sizeof *row);
    memset(sums, 0, lucid_sums_floats(s, 1) * sizeof *sums);
    CHECK_KEEPS_MODE(set, attend_backward, sums + lucid_sums_dqt(s, 0), row, &key, 1, s, h->scratch);
    CHECK_KEEPS_MODE(set, attend_backward_diag, sums + lucid_sums_dqt(s, 0), row, &key, s, h->scratch);
    CHECK_KEEPS_MODE(set, update_backward, sums + lucid_sums_dkt(s), row, &key, 1, s, h->scratch);
    CHECK_KEEPS_MODE(set, update_backward_diag, sums + lucid_sums_dkt(s), row, &key, s, h->scratch);
    CHECK_KEEPS_MODE(set, solve_backward, row, s, h->scratch);
    free(row), free(sums);
}

static void check_modes_kept(const subject *t) {
    head h = solved(t);
    check_decode_mode(t, &h);
    check_backward_mode(t, &h);
    check_forward_mode(t, &h);
    CHECK_KEEPS_MODE(t->set, read_burst, h.records, 1024);
    CHECK_KEEPS_MODE(t->set, fma_burst, 10);
    head_free(&h);
}

static void check_set(const lucid_kernels *set, int d, int dv) {
    subject t = {set, problem_make(N, d, dv, 11), LUCID_FAST};
    check_modes_kept(&t);
    for (int precision = LUCID_FAST; precision <= LUCID_EXACT; precision++) {
        t.precision = (lucid_precision)precision;
        check_calls(&t);
        check_mode(&t);
        for (int first = LAST * GRANULE + 1; first < N; first += 5) check_future(&t, first);
        check_future(&t, 7);
        check_padding(&t, N - 1);
        check_padding(&t, LAST * GRANULE + 13);
        check_padding(&t, 1);
    }
    problem_free(&t.p);
}

int main(void) {
    FOR_EACH_SET(set) {
        check_set(set, 16, 24);
        check_set(set, 33, 5);
    }
    return check_result();
}
