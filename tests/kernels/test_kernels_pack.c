/* pack_rows, pack_values and normalise: exact where the contract says so, for all dtypes, tails and odd dimensions. */
#include "tests/kernels/fixture.h"

static const char *const dtype_names[] = {"f32", "bf16", "f16"};

/* What a 16-bit pattern means, by the formats' definitions in double precision. */
static double decode(uint16_t bits, lucid_dtype dtype) {
    int mantissa_bits = dtype == LUCID_BF16 ? 7 : 10, bias = dtype == LUCID_BF16 ? 127 : 15;
    int exponent_mask = dtype == LUCID_BF16 ? 0xff : 0x1f;
    int exponent = bits >> mantissa_bits & exponent_mask, mantissa = bits & ((1 << mantissa_bits) - 1);
    double sign = bits >> 15 ? -1 : 1;
    if (exponent == exponent_mask) return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

/* n elements of dtype at an odd address, as files have them, and their values. */
static char *make_elements(double *values, size_t n, lucid_dtype dtype, uint64_t seed) {
    char *memory = allocate(n * lucid_dtype_bytes(dtype) + 2), *at = memory + 2;
    for (size_t i = 0; i < n; i++) {
        uint16_t half = (uint16_t)(uniform(&seed) * 65536);
        float x = (float)normal(&seed);
        if (dtype != LUCID_F32 && !isfinite(decode(half, dtype))) half &= 0x83ff;
        values[i] = dtype == LUCID_F32 ? x : decode(half, dtype);
        memcpy(at + i * lucid_dtype_bytes(dtype), dtype == LUCID_F32 ? (void *)&x : (void *)&half,
               lucid_dtype_bytes(dtype));
    }
    return memory;
}

/* Denormals are kept. */
static void check_rows(const lucid_kernels *set, lucid_dtype dtype, int n_rows, int d) {
    double *values = allocate(sizeof(double) * GRANULE * d);
    char *memory = make_elements(values, (size_t)n_rows * d, dtype, 17 + d);
    float *dst = allocate_floats((size_t)GRANULE * d);
    set->pack_rows(dst, memory + 2, dtype, n_rows, d);
    for (int c = 0; c < d; c++)
        for (int i = 0; i < GRANULE; i++) {
            float want = i < n_rows ? (float)values[(size_t)i * d + c] : 0, got = dst[c * GRANULE + i];
            CHECK(got == want, "%s, %s, n_rows %d, d %d: (%d, %d) is %.9g, want %.9g", set->isa, dtype_names[dtype],
                  n_rows, d, c, i, got, want);
        }
    free(values);
    free(memory);
    free(dst);
}

static void check_values(const lucid_kernels *set, lucid_dtype dtype, int n_rows, int dv) {
    lucid_shape s = lucid_shape_make(3, dv);
    double *values = allocate(sizeof(double) * GRANULE * dv);
    char *memory = make_elements(values, (size_t)n_rows * dv, dtype, 23 + dv);
    float *record = allocate_floats(lucid_record_floats(s)), *y = record + lucid_record_values(s);
    set->pack_values(record, memory + 2, dtype, n_rows, s);
    for (int i = 0; i < GRANULE; i++)
        for (int c = 0; c < s.value_ld; c++) {
            double want = i < n_rows && c < dv ? values[(size_t)i * dv + c] : 0, got = y[i * s.value_ld + c];
            CHECK(got == want, "%s, %s, n_rows %d, d_v %d: (%d, %d) is %.9g, want %.9g", set->isa, dtype_names[dtype],
                  n_rows, dv, i, c, got, want);
        }
    free(values);
    free(memory);
    free(record);
}

/* d roundings of a sum of squares, halved by the root, and three more. A zero key has the norm of its padding. */
static void check_norms(const lucid_kernels *set, int d) {
    problem p = problem_make(GRANULE - 1, d, 1, 31 + d);
    memset(p.k + (size_t)5 * d, 0, sizeof(float) * d);
    head h = head_make(set, &p);
    const float *norm = h.records + lucid_record_rnorm(p.shape);
    for (int i = 0; i < GRANULE; i++) {
        const float *k = p.k + (size_t)i * d;
        double want = 1 / sqrt((i < p.n ? dot(k, k, d) / d : 0) + EPS);
        CHECK_NEAR(norm[i], want, want * (d / 2.0 + 3) * 0x1p-24, "%s, d %d: norm of %d", set->isa, d, i);
    }
    head_free(&h);
    problem_free(&p);
}

int main(void) {
    static const int dims[] = {1, 2, 3, 15, 16, 17, 31, 63, 64, 65, 68, 80, 127, 128, 200, 255, 256};
    static const int rows[] = {0, 1, 7, 8, 15, 16, 17, 33, 63, 64};
    FOR_EACH_SET(set) {
        for (size_t k = 0; k < sizeof dims / sizeof *dims; k++) {
            for (lucid_dtype dtype = LUCID_F32; dtype <= LUCID_F16; dtype++)
                for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
                    check_rows(set, dtype, rows[r], dims[k]);
                    check_values(set, dtype, rows[r], dims[k]);
                }
            check_norms(set, dims[k]);
        }
    }
    return check_result();
}
