/* exp2 over an array, written so that gcc vectorises it, compiled once per instruction set. */
#include "runtime/verify/openblas_exp.h"

#include <math.h>
#include <string.h>

__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) void
lucid_openblas_exp2(float *x, int64_t n, float shift) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float s = x[i] + shift, whole = rintf(s), f = s - whole;
        /* 2^f on [-1/2, 1/2]: the polynomial of Cephes' exp2f */
        float p = 1.535336188e-4f;
        p = p * f + 1.339887440e-3f;
        p = p * f + 9.618437358e-3f;
        p = p * f + 5.550332471e-2f;
        p = p * f + 2.402264791e-1f;
        p = p * f + 6.931472029e-1f;
        p = p * f + 1.0f;
        const int32_t bits = ((int32_t)whole + 127) << 23;
        float power;
        memcpy(&power, &bits, sizeof power);
        x[i] = p * power;
    }
}
