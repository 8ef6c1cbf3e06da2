/* One SIMD kernel set, whatever the vector: included once per instruction set, after its simd_*.h.
 *
 * A granule's rows go through in panels whose score accumulators fill the registers. Per panel and key granule: scores
 * (d steps), exp2 in registers, P to scratch in L1 (a few KB), product with the values (64 steps), result to memory.
 * Keys stream from L2 once per panel; panels are the outer loop, so that a row panel is packed once for all keys of a
 * call. */
#ifndef LUCID_CPU_BODY_H
#define LUCID_CPU_BODY_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/attend.h"
#include "kernels/cpu/backward.h"
#include "kernels/cpu/decode.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/solve.h"
#include "kernels/sets.h"

/* 12 chains hide the latency of two FMAs a cycle, four cycles deep; 8 links of each a round, so that the loop's own
 * instructions, which share ports with FMAs, do not count. */
static double fma_burst(int64_t n) {
    enum { CHAINS = 12, LINKS = 8 };
    vec acc[CHAINS], a = vec_set1(0.5f), b = vec_set1(1);
    UNROLL for (int k = 0; k < CHAINS; k++) acc[k] = vec_set1((float)k);
    for (int64_t i = 0; i < n; i++) {
        UNROLL for (int link = 0; link < LINKS; link++) {
            UNROLL for (int k = 0; k < CHAINS; k++) acc[k] = vec_fma(acc[k], a, b);
        }
        __asm__ volatile("" : "+v"(acc[0])); /* keeps the loop from being folded */
    }
    UNROLL for (int k = 0; k < CHAINS; k++) __asm__ volatile("" : : "v"(acc[k]));
    return 2.0 * VEC * CHAINS * LINKS * (double)n;
}

const lucid_kernels SIMD_KERNELS = {
    .isa = SIMD_ISA,
    .supported = simd_supported,
    .pack_rows = pack_rows,
    .normalise = normalise,
    .pack_values = pack_values,
    .update = update,
    .solve = solve,
    .attend_begin = attend_begin,
    .attend = attend,
    .attend_finish = attend_finish,
    .decode_begin = decode_begin,
    .decode = decode,
    .decode_merge = decode_merge,
    .read_burst = read_burst,
    .attend_backward = attend_backward,
    .attend_backward_diag = attend_backward_diag,
    .update_backward = update_backward,
    .update_backward_diag = update_backward_diag,
    .solve_backward = solve_backward,
    .fma_burst = fma_burst,
};

#endif
