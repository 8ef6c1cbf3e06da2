/* AVX-512 (F, BW, DQ, VL): vectors of 16 floats and the register blocks that fit 32 registers. */
#ifndef LUCID_SIMD_AVX512_H
#define LUCID_SIMD_AVX512_H

#include <immintrin.h>
#include <stdbool.h>

#define SIMD_ISA     "avx512"
#define SIMD_KERNELS lucid_kernels_avx512
#define INLINE       static inline __attribute__((always_inline))
#define UNROLL       _Pragma("GCC unroll 16")

typedef __m512 vec;

enum {
    VEC = 16,
    PANEL_ROWS =
        13, /* 13 x 2 accumulators, 2 key vectors and a broadcast row: 29 registers, and 15 loads per 26 FMAs */
    PANEL_LAST = 12, /* 64 = 4 * 13 + 12 */
    SOLVE_ROWS = 8,  /* divides 16, the solve's block */
    DECODE_ROWS = 6, /* 6 x 4 accumulators and 4 key vectors, a granule's row of keys */
    DECODE_COLS = 4,
};

static bool simd_supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("bmi2");
}

INLINE vec vec_zero(void) {
    return _mm512_setzero_ps();
}
INLINE vec vec_set1(float x) {
    return _mm512_set1_ps(x);
}
INLINE void vec_prefetch(const float *x) {
    _mm_prefetch((const char *)x, _MM_HINT_T0);
}
INLINE vec vec_load(const float *x) {
    return _mm512_load_ps(x);
}
INLINE vec vec_loadu(const float *x) {
    return _mm512_loadu_ps(x);
}
INLINE void vec_store(float *x, vec a) {
    _mm512_store_ps(x, a);
}
INLINE void vec_storeu(float *x, vec a) {
    _mm512_storeu_ps(x, a);
}
INLINE float vec_lane0(vec a) {
    return _mm512_cvtss_f32(a);
}
INLINE vec vec_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}
INLINE vec vec_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}
INLINE vec vec_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}
INLINE vec vec_div(vec a, vec b) {
    return _mm512_div_ps(a, b);
}
INLINE vec vec_sqrt(vec a) {
    return _mm512_sqrt_ps(a);
}
/* a * b + c */
INLINE vec vec_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* c - a * b */
INLINE vec vec_fnma(vec a, vec b, vec c) {
    return _mm512_fnmadd_ps(a, b, c);
}

/* Lanes 0..n-1 of a, zero in the others; any n. */
INLINE vec vec_first(vec a, int n) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_maskz_mov_ps(_mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(n)), a);
}

/* Lanes n.. of a, zero in the others; any n. */
INLINE vec vec_from(vec a, int n) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_maskz_mov_ps(_mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(n)), a);
}

/* One bit per lane: not a <= b, so NaN counts. */
INLINE unsigned vec_not_below(vec a, vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ);
}

/* 2^a within 2.1 ulp: 2^(a - floor(a)) by a minimax polynomial of degree 5 on [0, 1), scaled by 2^floor(a). */
INLINE vec vec_exp2(vec a) {
    vec r = _mm512_reduce_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    vec p = vec_fma(vec_set1(0x1.ec3208p-10f), r, vec_set1(0x1.269014p-7f));
    p = vec_fma(p, r, vec_set1(0x1.c9544p-5f));
    p = vec_fma(p, r, vec_set1(0x1.ebd5aep-3f));
    p = vec_fma(p, r, vec_set1(0x1.62e4f4p-1f));
    p = vec_fma(p, r, vec_set1(0x1.fffffep-1f));
    return _mm512_scalef_ps(p, a);
}

INLINE vec vec_from_bf16(const void *x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(x)), 16));
}
INLINE vec vec_from_f16(const void *x) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(x));
}

#define UNPACK_PD(lo_hi, a, b) _mm512_castpd_ps(_mm512_unpack##lo_hi##_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))

/* Lane i of the result is the sum of x[i]'s lanes, by the same tree for every i. */
INLINE vec vec_row_sums(const vec x[VEC]) {
    vec pair[8], four[4], eight[2];
    UNROLL for (int i = 0; i < 8; i++) {
        vec a = x[2 * i], b = x[2 * i + 1];
        pair[i] = vec_add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    }
    UNROLL for (int i = 0; i < 4; i++) four[i] =
        vec_add(UNPACK_PD(lo, pair[2 * i], pair[2 * i + 1]), UNPACK_PD(hi, pair[2 * i], pair[2 * i + 1]));
    UNROLL for (int i = 0; i < 2; i++) {
        vec a = four[2 * i], b = four[2 * i + 1];
        eight[i] = vec_add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    return vec_add(_mm512_shuffle_f32x4(eight[0], eight[1], 0x88), _mm512_shuffle_f32x4(eight[0], eight[1], 0xdd));
}

/* x as a 16 x 16 matrix becomes its transpose. */
INLINE void vec_transpose(vec x[VEC]) {
    vec a[VEC], b[VEC];
    UNROLL for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) { /* b[i + k]: column k of rows i..i+3, in each 128-bit lane */
        b[i + 0] = UNPACK_PD(lo, a[i], a[i + 2]);
        b[i + 1] = UNPACK_PD(hi, a[i], a[i + 2]);
        b[i + 2] = UNPACK_PD(lo, a[i + 1], a[i + 3]);
        b[i + 3] = UNPACK_PD(hi, a[i + 1], a[i + 3]);
    }
    UNROLL for (int k = 0; k < 4; k++) { /* then a 4 x 4 transpose of 128-bit lanes */
        vec lo02 = _mm512_shuffle_f32x4(b[k], b[k + 4], 0x88), lo13 = _mm512_shuffle_f32x4(b[k], b[k + 4], 0xdd);
        vec hi02 = _mm512_shuffle_f32x4(b[k + 8], b[k + 12], 0x88),
            hi13 = _mm512_shuffle_f32x4(b[k + 8], b[k + 12], 0xdd);
        x[k] = _mm512_shuffle_f32x4(lo02, hi02, 0x88);
        x[k + 4] = _mm512_shuffle_f32x4(lo13, hi13, 0x88);
        x[k + 8] = _mm512_shuffle_f32x4(lo02, hi02, 0xdd);
        x[k + 12] = _mm512_shuffle_f32x4(lo13, hi13, 0xdd);
    }
}

/* --- doubles, for the few rows whose softmax pass is exact --- */

typedef __m512d vecd;

enum { VECD = 8, EXACT_ROWS = 8 /* times 2 vectors of accumulators */ };

INLINE vecd vecd_set1(double x) {
    return _mm512_set1_pd(x);
}
INLINE vecd vecd_load(const double *x) {
    return _mm512_load_pd(x);
}
INLINE void vecd_store(double *x, vecd a) {
    _mm512_store_pd(x, a);
}
INLINE vecd vecd_widen(const float *x) {
    return _mm512_cvtps_pd(_mm256_load_ps(x));
}
INLINE void vecd_narrow(float *x, vecd a) {
    _mm256_store_ps(x, _mm512_cvtpd_ps(a));
}
INLINE vecd vecd_add(vecd a, vecd b) {
    return _mm512_add_pd(a, b);
}
INLINE vecd vecd_mul(vecd a, vecd b) {
    return _mm512_mul_pd(a, b);
}
/* a * b + c */
INLINE vecd vecd_fma(vecd a, vecd b, vecd c) {
    return _mm512_fmadd_pd(a, b, c);
}
/* a - round(a) */
INLINE vecd vecd_fraction(vecd a) {
    return _mm512_sub_pd(a, _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* a 2^round(b); 0 or infinity where that is out of range */
INLINE vecd vecd_scale(vecd a, vecd b) {
    return _mm512_scalef_pd(a, _mm512_roundscale_pd(b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#endif
