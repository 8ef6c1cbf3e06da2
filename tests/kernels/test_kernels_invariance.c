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
            t->set->attend(head_state(&cut, g), head_query(&cut, g), cut.keys + j, g - j < 2 ? 1 : 2, false, LUCID_FAST,
                           cut.q_scale, s, cut.scratch);
        t->set->attend(head_state(&cut, g), head_query(&cut, g), cut.keys + g, 1, true, LUCID_FAST, cut.q_scale, s,
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
        t->set->attend(head_state(&b, g), head_query(&b, g), b.keys, g, false, LUCID_FAST, b.q_scale, b.shape,
                       b.scratch);
        t->set->attend(head_state(&b, g), head_query(&b, g), b.keys + g, 1, true, LUCID_FAST, b.q_scale, b.shape,
                       b.scratch);
    }
    CHECK((_mm_getcsr() & ~_MM_EXCEPT_MASK) == (odd & ~_MM_EXCEPT_MASK), "%s: mode %x became %x", t->set->isa, odd,
          _mm_getcsr());
    _mm_setcsr(mode);
    check_same(t, &a, &b, N, "the caller's rounding mode");
    head_free(&a);
    head_free(&b);
}

static void check_set(const lucid_kernels *set, int d, int dv) {
    subject t = {set, problem_make(N, d, dv, 11), LUCID_FAST};
    check_calls(&t);
    check_mode(&t);
    for (int precision = LUCID_FAST; precision <= LUCID_EXACT; precision++) {
        t.precision = (lucid_precision)precision;
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
