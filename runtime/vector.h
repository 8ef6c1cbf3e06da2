/* Loops that the compiler turns into vectors of whatever length the processor has. Without sums in them, and with no
 * multiplication joined to an addition, their bits are the same for every length. */
#ifndef LUCID_RUNTIME_VECTOR_H
#define LUCID_RUNTIME_VECTOR_H

#include <stdint.h>
#include <string.h>

/* The sanitizers' own start-up comes after the choice of a clone. */
#if defined(__SANITIZE_ADDRESS__)
#define LUCID_CLONES
#else
#define LUCID_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif

/* e^x to 2 units in the last place; 0 below -87, e^88 above 88. */
static inline float lucid_vector_exp(float x) {
    const float rounding = 12582912.0f; /* 1.5 * 2^23 */
    x = x < -87 ? -87 : x > 88 ? 88 : x;
    const float shifted = x * 1.44269504f + rounding, n = shifted - rounding;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    union {
        float f;
        int32_t i;
    } bits = {p};
    bits.i += (int32_t)n * (1 << 23); /* n may be negative, and is then not to be shifted */
    return bits.f;
}

static inline float lucid_vector_sigmoid(float x) {
    return 1 / (1 + lucid_vector_exp(-x));
}

#endif
