/* The instructions that only Hopper has, one function each: bulk copies with barriers in shared memory that count their
 * bytes, and matrix products of warpgroups, whose right operand lies in shared memory. Compiled for sm_90a alone. As
 * for primitives.cuh, tests replace this file by one for a CPU. */
#ifndef LUCID_KERNELS_CUDA_PRIMITIVES_SM90_CUH
#define LUCID_KERNELS_CUDA_PRIMITIVES_SM90_CUH

#include "kernels/cuda/layout.h"
#include "kernels/cuda/primitives.cuh"

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "these kernels need the architecture sm_90a"
#endif

/* --- barriers in shared memory: a phase ends when all arrivals and all expected bytes are there --- */

LUCID_DEVICE void phase_init(uint64_t *barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/* After the last phase_init, before the block's barrier: copies see the barriers. */
LUCID_DEVICE void phase_init_end() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
LUCID_DEVICE void phase_arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
/* Arrives, and lets the phase last until so many bytes more have been copied. */
LUCID_DEVICE void phase_expect(uint64_t *barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}
/* Until the phase of this parity has ended; that before the first has parity 1. */
LUCID_DEVICE void phase_wait(uint64_t *barrier, unsigned parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}

/* bytes: a multiple of 16, as are the addresses. */
LUCID_DEVICE void copy_bulk(void *shared, const void *global, unsigned bytes, uint64_t *barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

/* Between this thread's plain accesses and copies or matrix products, which reach memory by another path: what it wrote
 * before, or acquired from others, is seen by those that it, or whoever synchronises with it, starts afterwards. */
LUCID_DEVICE void fence_paths() {
    asm volatile("fence.proxy.async;" ::: "memory");
}

/* Of `threads` threads, whole warps, that all call it. */
LUCID_DEVICE void part_barrier(int threads) {
    asm volatile("bar.sync 1, %0;" ::"r"(threads) : "memory");
}
LUCID_DEVICE void warp_barrier() {
    __syncwarp();
}

/* Registers of a thread from here on. A warpgroup calls it; a block's sum may not exceed what it started with. */
template <int N> LUCID_DEVICE void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> LUCID_DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

/* --- products of a warpgroup's 64 rows --- */

/* A matrix in panels of 64 columns with the 128-byte swizzle, from address `at` on, as kernels/cuda/layout.h has it.
 * Rows are the product's columns (keys in scores), or, `across`, what is summed over (keys in values). Descriptor of
 * the PTX manual: start, bytes from one panel to the next (across only), from eight rows to the next eight, swizzle. */
LUCID_DEVICE uint64_t right_operand(const void *at) {
    uint64_t address = shared_address(at);
    return (address >> 4) | (uint64_t)(LUCID_CUDA_PANEL_BYTES >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

/* To the compiler they change here: arithmetic on them stays before or behind, which a clobber of memory alone does not
 * make it. */
LUCID_DEVICE void settle(float &x) {
    asm volatile("" : "+f"(x)::"memory");
}
LUCID_DEVICE void settle(uint32_t &x) {
    asm volatile("" : "+r"(x)::"memory");
}
template <typename T, int N> LUCID_DEVICE void settle(T (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) settle(x[i]);
}

/* Before products: left operands and the accumulators that are added to, which are then left alone, */
template <typename... Registers> LUCID_DEVICE void products_begin(Registers &...registers) {
    (settle(registers), ...);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
LUCID_DEVICE void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* until all but the latest N groups are done and theirs have been passed on. */
template <int N> LUCID_DEVICE void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
template <typename... Registers> LUCID_DEVICE void products_end(Registers &...registers) {
    (settle(registers), ...);
}

#define LUCID_ACC1(c, n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define LUCID_ACC4(c, n) LUCID_ACC1(c, n), LUCID_ACC1(c, n + 1), LUCID_ACC1(c, n + 2), LUCID_ACC1(c, n + 3)
#define LUCID_REGISTERS_32                                                                                            \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31"
#define LUCID_REGISTERS_64                                                                                            \
    LUCID_REGISTERS_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
                       "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

/* c (64, 64) = [c +] a (64, 16) b^T, b (64, 16) rows of keys; `sum`: c is added to. */
#define LUCID_SCORES(tag, type)                                                                          \
    LUCID_DEVICE void multiply_rows(tag, float(&c)[8][4], const uint32_t(&a)[4], uint64_t b, bool sum) { \
        asm volatile("{\n"                                                                               \
                     ".reg .pred sum;\n"                                                                 \
                     "setp.ne.b32 sum, %37, 0;\n"                                                        \
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " " LUCID_REGISTERS_32  \
                     "}, {%32, %33, %34, %35}, %36, sum, 1, 1, 0;\n"                                     \
                     "}"                                                                                 \
                     : LUCID_ACC4(c, 0), LUCID_ACC4(c, 4)                                                \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)sum)                 \
                     : "memory");                                                                        \
    }
LUCID_SCORES(bf16_tag, "bf16")
LUCID_SCORES(f16_tag, "f16")
#undef LUCID_SCORES

/* c (64, 64 or 128) += a (64, 16) b, b (16, 64 or 128) rows of values, fp16 */
LUCID_DEVICE void multiply_across(float (&c)[8][4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " LUCID_REGISTERS_32
                 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                 : LUCID_ACC4(c, 0), LUCID_ACC4(c, 4)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
                 : "memory");
}
LUCID_DEVICE void multiply_across(float (&c)[16][4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " LUCID_REGISTERS_64
                 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
                 : LUCID_ACC4(c, 0), LUCID_ACC4(c, 4), LUCID_ACC4(c, 8), LUCID_ACC4(c, 12)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
                 : "memory");
}
#undef LUCID_REGISTERS_64
#undef LUCID_REGISTERS_32
#undef LUCID_ACC4
#undef LUCID_ACC1

#endif
