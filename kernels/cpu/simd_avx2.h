/* AVX2 with FMA and F16C: vectors of 8 floats and the register blocks that fit 16 registers. */
#ifndef LUCID_SIMD_AVX2_H
#define LUCID_SIMD_AVX2_H

#include <immintrin.h>
#include <stdbool.h>

#define SIMD_ISA     "avx2"
#define SIMD_KERNELS lucid_kernels_avx2
#define INLINE       static inline __attribute__((always_inline))
#define UNROLL       _Pragma("GCC unroll 16")

typedef __m256 vec;

enum {
    VEC = 8,
    PANEL_ROWS = 6,  /* 6 x 2 accumulators, 2 key vectors and a broadcast row: 15 registers, and 8 loads per 12 FMAs */
    PANEL_LAST = 4,  /* 64 = 10 * 6 + 4 */
    SOLVE_ROWS = 4,  /* divides 16, the solve's block */
    DECODE_ROWS = 2, /* 2 x 4 accumulators, 4 key vectors and a broadcast row */
    DECODE_COLS = 4,
};

/* F16C has no name in every compiler's __builtin_cpu_supports; every processor with AVX2 and FMA has it. */
static bool simd_supported(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}

INLINE vec vec_zero(void) {
    return _mm256_setzero_ps();
}
INLINE vec vec_set1(float x) {
    return _mm256_set1_ps(x);
}
INLINE void vec_prefetch(const float *x) {
    _mm_prefetch((const char *)x, _MM_HINT_T0);
}
INLINE vec vec_load(const float *x) {
    return _mm256_load_ps(x);
}
INLINE vec vec_loadu(const float *x) {
    return _mm256_loadu_ps(x);
}
INLINE void vec_store(float *x, vec a) {
    _mm256_store_ps(x, a);
}
INLINE void vec_storeu(float *x, vec a) {
    _mm256_storeu_ps(x, a);
}
INLINE float vec_lane0(vec a) {
    return _mm256_cvtss_f32(a);
}
INLINE vec vec_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}
INLINE vec vec_sub(vec a, vec b) {
    return _mm256_sub_ps(a, b);
}
INLINE vec vec_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}
INLINE vec vec_div(vec a, vec b) {
    return _mm256_div_ps(a, b);
}
INLINE vec vec_sqrt(vec a) {
    return _mm256_sqrt_ps(a);
}
/* a * b + c */
INLINE vec vec_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}
/* c - a * b */
INLINE vec vec_fnma(vec a, vec b, vec c) {
    return _mm256_fnmadd_ps(a, b, c);
}

/* Lanes 0..n-1 of a, zero in the others; any n. */
INLINE vec vec_first(vec a, int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane)));
}

/* Lanes n.. of a, zero in the others; any n. */
INLINE vec vec_from(vec a, int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane)), a);
}

/* One bit per lane: not a <= b, so NaN counts. */
INLINE unsigned vec_not_below(vec a, vec b) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLE_UQ));
}

/* exp2's constants, as vectors: highest and lowest exponent, the magic number, the polynomial from its highest term. */
#define EIGHT(x) \
    { x, x, x, x, x, x, x, x }
static const float exp2_terms[9][8] __attribute__((aligned(32))) = {
    EIGHT(128),
    EIGHT(-127),
    EIGHT(0x1.8p23f + 127),
    EIGHT(0x1.5c08e2p-10f),
    EIGHT(0x1.3d0c4cp-7f),
    EIGHT(0x1.c6b6eap-5f),
    EIGHT(0x1.ebf924p-3f),
    EIGHT(0x1.62e424p-1f),
    EIGHT(1),
};

/* 2^a within 2.6 ulp, n the nearest integer: 2^(a - n) by a minimax polynomial of degree 5, times 2^n, whose exponent
 * field is shifted out of a + 1.5 * 2^23 + 127. Clamped so that n = -127 gives 0 and n = 128 infinity; NaN stays. The
 * constants stay in memory, or the compiler keeps them in registers that the accumulators need. */
INLINE vec vec_exp2(vec a) {
    const float(*c)[8] = exp2_terms;
    __asm__("" : "+r"(c));
    vec magic = vec_load(c[2]);
    a = _mm256_min_ps(vec_load(c[0]), _mm256_max_ps(vec_load(c[1]), a));
    vec t = vec_add(a, magic);
    vec r = vec_sub(a, vec_sub(t, magic));
    vec p = vec_fma(vec_load(c[3]), r, vec_load(c[4]));
    p = vec_fma(p, r, vec_load(c[5]));
    p = vec_fma(p, r, vec_load(c[6]));
    p = vec_fma(p, r, vec_load(c[7]));
    p = vec_fma(p, r, vec_load(c[8]));
    return vec_mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}

INLINE vec vec_from_bf16(const void *x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(x)), 16));
}
INLINE vec vec_from_f16(const void *x) {
    return _mm256_cvtph_ps(_mm_loadu_si128(x));
}

#define UNPACK_PD(lo_hi, a, b) _mm256_castpd_ps(_mm256_unpack##lo_hi##_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)))

/* Lane i of the result is the sum of x[i]'s lanes, by the same tree for every i. */
INLINE vec vec_row_sums(const vec x[VEC]) {
    vec pair[4], four[2];
    UNROLL for (int i = 0; i < 4; i++) {
        vec a = x[2 * i], b = x[2 * i + 1];
        pair[i] = vec_add(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    }
    UNROLL for (int i = 0; i < 2; i++) four[i] =
        vec_add(UNPACK_PD(lo, pair[2 * i], pair[2 * i + 1]), UNPACK_PD(hi, pair[2 * i], pair[2 * i + 1]));
    return vec_add(_mm256_permute2f128_ps(four[0], four[1], 0x20), _mm256_permute2f128_ps(four[0], four[1], 0x31));
}

/* x as an 8 x 8 matrix becomes its transpose. */
INLINE void vec_transpose(vec x[VEC]) {
    vec a[VEC], b[VEC];
    UNROLL for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4) { /* b[i + k]: column k of rows i..i+3, in each 128-bit lane */
        b[i + 0] = UNPACK_PD(lo, a[i], a[i + 2]);
        b[i + 1] = UNPACK_PD(hi, a[i], a[i + 2]);
        b[i + 2] = UNPACK_PD(lo, a[i + 1], a[i + 3]);
        b[i + 3] = UNPACK_PD(hi, a[i + 1], a[i + 3]);
    }
    UNROLL for (int k = 0; k < 4; k++) {
        x[k] = _mm256_permute2f128_ps(b[k], b[k + 4], 0x20);
        x[k + 4] = _mm256_permute2f128_ps(b[k], b[k + 4], 0x31);
    }
}

/* --- doubles, for the few rows whose softmax pass is exact --- */

typedef __m256d vecd;

enum { VECD = 4, EXACT_ROWS = 4 /* times 2 vectors of accumulators */ };

INLINE vecd vecd_set1(double x) {
    return _mm256_set1_pd(x);
}
INLINE vecd vecd_load(const double *x) {
    return _mm256_load_pd(x);
}
INLINE void vecd_store(double *x, vecd a) {
    _mm256_store_pd(x, a);
}
INLINE vecd vecd_widen(const float *x) {
    return _mm256_cvtps_pd(_mm_load_ps(x));
}
INLINE void vecd_narrow(float *x, vecd a) {
    _mm_store_ps(x, _mm256_cvtpd_ps(a));
}
INLINE vecd vecd_add(vecd a, vecd b) {
    return _mm256_add_pd(a, b);
}
INLINE vecd vecd_mul(vecd a, vecd b) {
    return _mm256_mul_pd(a, b);
}
/* a * b + c */
INLINE vecd vecd_fma(vecd a, vecd b, vecd c) {
    return _mm256_fmadd_pd(a, b, c);
}
/* a - round(a) */
INLINE vecd vecd_fraction(vecd a) {
    return _mm256_sub_pd(a, _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* a 2^round(b), b clamped so that the exponent field becomes that of 0 or infinity; shifted out of b + 1.5 * 2^52 */
INLINE vecd vecd_scale(vecd a, vecd b) {
    b = _mm256_round_pd(b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); /* halves as above: 1023 is odd */
    b = _mm256_min_pd(vecd_set1(1024), _mm256_max_pd(vecd_set1(-1023), b));
    __m256i bits = _mm256_castpd_si256(_mm256_add_pd(b, vecd_set1(0x1.8p52 + 1023)));
    return _mm256_mul_pd(a, _mm256_castsi256_pd(_mm256_slli_epi64(bits, 52)));
}

#endif
