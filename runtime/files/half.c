#include "runtime/files/half.h"

#include <string.h>

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Drops n low bits, to nearest, ties to even. A carry out of the mantissa raises the exponent, as it should. */
static uint32_t drop_bits(uint32_t x, int n) {
    return (x + ((1u << (n - 1)) - 1) + (x >> n & 1)) >> n;
}

uint16_t lucid_bf16_from_f32(float x) {
    const uint32_t bits = bits_of(x);
    const int is_nan = (bits & 0x7fffffff) > 0x7f800000;
    return (uint16_t)(is_nan ? bits >> 16 | 0x40 : drop_bits(bits, 16));
}

uint16_t lucid_f16_from_f32(float x) {
    const uint32_t sign = bits_of(x) >> 16 & 0x8000;
    const uint32_t a = bits_of(x) & 0x7fffffff;
    uint32_t half;
    if (a > 0x7f800000) {
        half = 0x7e00 | (a >> 13 & 0x3ff); /* NaN: quiet, upper payload kept */
    } else if (a >= 0x47800000) {
        half = 0x7c00; /* 2^16 and above, Inf */
    } else if (a >= 0x38800000) {
        half = drop_bits(a - (112u << 23), 13); /* normal halves; 65520 and above carry into Inf */
    } else {
        half = bits_of(float_of(a) + 0.5f) - 0x3f000000; /* the last place of 0.5f is that of subnormal halves, 2^-24 */
    }
    return (uint16_t)(sign | half);
}

float lucid_f32_from_bf16(uint16_t x) {
    return float_of((uint32_t)x << 16);
}

float lucid_f32_from_f16(uint16_t x) {
    const uint32_t sign = (uint32_t)(x & 0x8000) << 16;
    const uint32_t a = x & 0x7fff;
    if (a < 0x400) return float_of(sign | bits_of((float)a * 0x1p-24f));
    if (a < 0x7c00) return float_of(sign | ((a << 13) + (112u << 23)));
    return float_of(sign | 0x7f800000 | (a & 0x3ff) << 13);
}

void lucid_narrow(void *dst, lucid_dtype dtype, const float *src, int64_t n) {
    uint16_t *half = dst;
    switch (dtype) {
    case LUCID_F32:
        memcpy(dst, src, (size_t)n * sizeof *src);
        break;
    case LUCID_BF16:
        for (int64_t i = 0; i < n; i++) half[i] = lucid_bf16_from_f32(src[i]);
        break;
    case LUCID_F16:
        for (int64_t i = 0; i < n; i++) half[i] = lucid_f16_from_f32(src[i]);
        break;
    }
}

void lucid_widen(float *dst, const void *src, lucid_dtype dtype, int64_t n) {
    const uint16_t *half = src;
    switch (dtype) {
    case LUCID_F32:
        memcpy(dst, src, (size_t)n * sizeof *dst);
        break;
    case LUCID_BF16:
        for (int64_t i = 0; i < n; i++) dst[i] = lucid_f32_from_bf16(half[i]);
        break;
    case LUCID_F16:
        for (int64_t i = 0; i < n; i++) dst[i] = lucid_f32_from_f16(half[i]);
        break;
    }
}
