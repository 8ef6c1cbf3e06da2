/* The instructions that the kernels are made of, one function each. Tests replace this file by one that carries them
 * out on a CPU, so the kernels contain nothing else that a C++ compiler does not know. */
#ifndef LUCID_KERNELS_CUDA_PRIMITIVES_CUH
#define LUCID_KERNELS_CUDA_PRIMITIVES_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#define LUCID_DEVICE        static __device__ __forceinline__
#define LUCID_DEVICE_MEMBER __device__ __forceinline__
#define LUCID_SHARED(name)  extern __shared__ __align__(1024) unsigned char name[]

LUCID_DEVICE uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* 16 bytes from global to shared memory, past the first-level cache: other multiprocessors write what is read here. */
LUCID_DEVICE void copy_async(void *shared, const void *global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
LUCID_DEVICE void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until at most N of this thread's latest groups are under way. */
template <int N> LUCID_DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

LUCID_DEVICE void load_matrices(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
LUCID_DEVICE void load_matrices_transposed(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* Tags of the formats of operands. */
struct bf16_tag {};
struct f16_tag {};
struct tf32_tag {};

/* c += a b, fp32 accumulators. */
LUCID_DEVICE void multiply(f16_tag, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
LUCID_DEVICE void multiply(bf16_tag, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* m16n8k8; operands as round_tf32 gives them. */
LUCID_DEVICE void multiply(tf32_tag, float (&c)[4], const float (&a)[4], float b0, float b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}
/* fp32 with 11 bits, to nearest. */
LUCID_DEVICE float round_tf32(float x) {
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}

/* Two fp16 in a register, `low` in its lower half. */
LUCID_DEVICE uint32_t pack_halves(float low, float high) {
    __half2 h = __floats2half2_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&h);
}
LUCID_DEVICE uint16_t narrow(f16_tag, float x) {
    return __half_as_ushort(__float2half_rn(x));
}
LUCID_DEVICE uint16_t narrow(bf16_tag, float x) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

LUCID_DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Over the four lanes that share an accumulator's row. */
LUCID_DEVICE float quad_exchange(float x, int distance) {
    return __shfl_xor_sync(0xffffffffu, x, distance);
}
LUCID_DEVICE bool any_lane(bool x) {
    return __any_sync(0xffffffffu, x);
}
LUCID_DEVICE void block_barrier() {
    __syncthreads();
}

LUCID_DEVICE unsigned take_ticket(unsigned *counter) {
    return atomicAdd(counter, 1u);
}
/* What the whole block has written before its last barrier is seen by whoever acquires the value: a release is also one
 * of what the barrier has shown to this thread, so it needs no fence. */
LUCID_DEVICE void publish(unsigned *counter, unsigned value) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(counter), "r"(value) : "memory");
}
LUCID_DEVICE unsigned acquire(const unsigned *counter) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
    return value;
}
LUCID_DEVICE void pause_briefly() {
    __nanosleep(64);
}
/* From shared memory, aligned to 16 bytes. */
LUCID_DEVICE void load_sixteen(float (&x)[16], const float *p) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float4 four = reinterpret_cast<const float4 *>(p)[i];
        x[4 * i] = four.x;
        x[4 * i + 1] = four.y;
        x[4 * i + 2] = four.z;
        x[4 * i + 3] = four.w;
    }
}
/* Past the first-level cache. */
LUCID_DEVICE float load_shared_global(const float *p) {
    return __ldcg(p);
}

#endif
