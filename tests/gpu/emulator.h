/* Runs CUDA kernels on a CPU, thread by thread, so that the source that a GPU compiles can be tested where there is
 * none. It stands for kernels/cuda/primitives.cuh.
 *
 * Every thread of a block is a fiber. Some blocks are resident at a time; which of their threads goes on is drawn at
 * random whenever one waits at a barrier, for its warp or for a counter in global memory, so that a missing barrier or
 * a wrong dependency shows as a wrong result on some seed, and a deadlock as one. Shared memory starts as NaN; an
 * asynchronous copy arrives no sooner than its wait. Matrix instructions follow the layouts of the PTX manual, written
 * down here a second time: element by element, not by the helpers that the kernels use. Warps run in step only where
 * an instruction makes them. It knows nothing of memory orders: these stay for a GPU to show. */
#ifndef LUCID_TESTS_GPU_EMULATOR_H
#define LUCID_TESTS_GPU_EMULATOR_H

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#define __device__
#define __global__      __attribute__((unused)) /* not every test launches every kernel */
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define LUCID_DEVICE        static inline
#define LUCID_DEVICE_MEMBER inline
#define LUCID_SHARED(name)  unsigned char *name = emulator::now->block->shared_base()

namespace emulator {

enum { WARP = 32, STACK_BYTES = 64 << 10 };

struct index3 {
    unsigned x;
};

struct block_state;

struct copy16 {
    void *to;
    const void *from;
};

/* A bulk copy under way: it arrives when it likes, with what the source held when it was started or when it arrives. */
struct bulk_copy {
    void *to;
    const void *from;
    std::vector<unsigned char> early;
    size_t bytes;
    uint64_t *barrier;
};

/* Operands of a warp's instruction, one slot a lane; two sets, since a lane may be one instruction ahead. */
struct warp_state {
    unsigned char slots[2][WARP][64];
    const void *kind[2];
    int arrived[2];
};

/* Registers that products use, while they do. */
struct register_range {
    const void *first, *last; /* behind the last */
};

/* Accumulators of products, here as long as these are under way or their end has not been told. */
struct accumulators {
    float (*c)[4];
    std::vector<float> values;
};

/* A thread's part of a warpgroup's product, carried out when it is waited for. */
struct product {
    float (*c)[4];
    int columns, group;
    bool sum, across;
    float a[2][16]; /* rows lane / 4 and + 8 */
    const unsigned char *b;
    float (*widen)(uint16_t);
};

struct thread_state {
    ucontext_t context; /* where it starts; from then on, */
    jmp_buf place;      /* where it goes on */
    bool started;
    std::unique_ptr<unsigned char[]> stack;
    block_state *block;
    index3 thread_index;
    bool done;
    int warp_round;       /* instructions of the warp so far */
    const int *waits_for; /* arrivals, NULL: runnable */
    int waits_until;
    std::vector<std::vector<copy16>> groups; /* committed copies, oldest first */
    std::vector<copy16> copies;              /* not committed */
    std::vector<product> products;           /* under way, oldest first */
    std::vector<accumulators> sums;          /* theirs */
    int product_groups;                      /* committed so far */
    bool products_begun;
    std::vector<register_range> settled; /* before they began */
    bool acquired;                       /* what others wrote, and no fence since for copies by another path */
};

enum { SHARED_ALIGNMENT = 1024 };

struct block_state {
    index3 block_index;
    std::vector<unsigned char> shared; /* with room to align it */
    std::vector<std::unique_ptr<thread_state>> threads;
    std::vector<warp_state> warps;
    int at_barrier, barrier_round;
    int at_part, part_round; /* the barrier of some of the threads */
    std::vector<bulk_copy> bulks;
    int left;

    unsigned char *shared_base() {
        return shared.data() + (SHARED_ALIGNMENT - (uintptr_t)shared.data() % SHARED_ALIGNMENT) % SHARED_ALIGNMENT;
    }
};

static thread_state *now;
static jmp_buf scheduler;
static const std::function<void()> *kernel;
static std::mt19937 generator;
static long idle_rounds; /* spins since anything else happened */

/* Contexts start fibers; jumps go between them, without the system calls of a change of context. */
static inline void yield() {
    if (!_setjmp(now->place)) _longjmp(scheduler, 1);
}
static inline void resume(thread_state *t) {
    now = t;
    if (_setjmp(scheduler)) return;
    if (t->started) _longjmp(t->place, 1);
    t->started = true;
    setcontext(&t->context);
}

[[noreturn]] static inline void fail(const char *what) {
    fprintf(stderr, "emulator: block %u, thread %u: %s\n", now->block->block_index.x, now->thread_index.x, what);
    exit(1);
}

/* All lanes of the warp bring an operand; returns all 32. */
template <typename T> static inline const T *exchange(const void *kind, const T &mine) {
    static_assert(sizeof(T) <= 64, "operand too large");
    warp_state &w = now->block->warps[now->thread_index.x / WARP];
    int round = now->warp_round++, set = round & 1;
    if (w.arrived[set] % WARP == 0) w.kind[set] = kind;
    if (w.kind[set] != kind) fail("lanes of a warp are at different instructions");
    memcpy(w.slots[set][now->thread_index.x % WARP], &mine, sizeof mine);
    w.arrived[set]++;
    idle_rounds = 0;
    now->waits_for = &w.arrived[set];
    now->waits_until = (round / 2 + 1) * WARP;
    while (*now->waits_for < now->waits_until) yield();
    now->waits_for = NULL;
    static thread_local T all[WARP];
    for (int lane = 0; lane < WARP; lane++) memcpy(&all[lane], w.slots[set][lane], sizeof(T));
    return all;
}

static void thread_main() {
    (*kernel)();
    if (!now->copies.empty()) fail("ends with copies that were never committed");
    if (!now->products.empty()) fail("ends with products that were never waited for");
    if (!now->sums.empty()) fail("ends with accumulators whose products were never ended");
    now->done = true;
    now->block->left--;
    _longjmp(scheduler, 1);
}

/* Stacks outlive their blocks: the system would clear new ones. */
static std::vector<std::unique_ptr<unsigned char[]>> stacks;

static inline std::unique_ptr<unsigned char[]> take_stack() {
    if (stacks.empty()) return std::unique_ptr<unsigned char[]>(new unsigned char[STACK_BYTES]);
    auto stack = std::move(stacks.back());
    stacks.pop_back();
    return stack;
}

static inline std::unique_ptr<block_state> start_block(unsigned index, unsigned threads, size_t shared_bytes) {
    auto b = std::make_unique<block_state>();
    b->block_index = {index};
    b->shared.assign(shared_bytes + SHARED_ALIGNMENT, 0xff);
    b->warps.resize(threads / WARP);
    memset(b->warps.data(), 0, b->warps.size() * sizeof(warp_state));
    b->at_barrier = b->barrier_round = b->at_part = b->part_round = 0;
    b->left = (int)threads;
    for (unsigned t = 0; t < threads; t++) {
        auto s = std::make_unique<thread_state>();
        s->stack = take_stack();
        s->block = b.get();
        s->thread_index = {t};
        s->done = s->started = false;
        s->warp_round = s->product_groups = 0;
        s->products_begun = s->acquired = false;
        s->waits_for = NULL;
        getcontext(&s->context);
        s->context.uc_stack.ss_sp = s->stack.get();
        s->context.uc_stack.ss_size = STACK_BYTES;
        s->context.uc_link = NULL;
        makecontext(&s->context, thread_main, 0);
        b->threads.push_back(std::move(s));
    }
    return b;
}

/* Runs a warp's threads, each until it waits, or the same of them all in a random order. */
static inline void run_warp(block_state *b, unsigned warp) {
    for (unsigned lane = 0; lane < WARP; lane++) {
        thread_state *t = b->threads[warp * WARP + lane].get();
        if (t->done || (t->waits_for && *t->waits_for < t->waits_until)) continue;
        resume(t);
    }
}

/* Unfair: blocks that started late run ahead of those that they should wait for. */
static inline size_t draw_block(size_t n, bool unfair) {
    size_t r = generator() % n;
    for (int i = 0; unfair && i < 3; i++) r = std::max<size_t>(r, generator() % n);
    return r;
}

/* As <<<blocks, threads, shared_bytes>>>, with at most `resident` blocks at once, started in order. */
static inline void launch(const std::function<void()> &body, unsigned blocks, unsigned threads, size_t shared_bytes,
                          unsigned resident, unsigned seed) {
    std::vector<std::unique_ptr<block_state>> running;
    unsigned next = 0;
    kernel = &body;
    generator.seed(seed);
    idle_rounds = 0;
    while (next < blocks || !running.empty()) {
        while (next < blocks && running.size() < resident)
            running.push_back(start_block(next++, threads, shared_bytes));
        size_t r = draw_block(running.size(), seed % 2);
        block_state *b = running[r].get();
        run_warp(b, (unsigned)(generator() % b->warps.size()));
        if (b->left == 0) {
            if (!b->bulks.empty()) fail("the block ends with copies under way");
            for (auto &t : b->threads) stacks.push_back(std::move(t->stack));
            running.erase(running.begin() + (long)r);
        }
        if (++idle_rounds > 200000) fail("deadlock: every thread waits");
    }
}

} // namespace emulator

#define threadIdx (emulator::now->thread_index)
#define blockIdx  (emulator::now->block->block_index)

namespace emulator {
/* The last of `threads` threads lets the others go on. */
static inline void meet(int *arrived, int *rounds, int threads) {
    int until = *rounds + 1;
    idle_rounds = 0;
    if (++*arrived == threads) {
        *arrived = 0;
        ++*rounds;
        return;
    }
    if (now->block->left != (int)now->block->threads.size()) fail("a barrier that a thread of the block never reaches");
    now->waits_for = rounds;
    now->waits_until = until;
    while (*rounds < until) yield();
    now->waits_for = NULL;
}
} // namespace emulator

LUCID_DEVICE void block_barrier() {
    emulator::block_state *b = emulator::now->block;
    emulator::meet(&b->at_barrier, &b->barrier_round, (int)b->threads.size());
}

LUCID_DEVICE void copy_async(void *shared, const void *global) {
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16) emulator::fail("a copy of 16 bytes is not aligned");
    emulator::now->copies.push_back({shared, global});
    memset(shared, 0xff, 16); /* nothing may be read from there until it has arrived */
}
LUCID_DEVICE void copy_async_commit() {
    emulator::now->groups.push_back(emulator::now->copies);
    emulator::now->copies.clear();
}
template <int N> LUCID_DEVICE void copy_async_wait() {
    auto &groups = emulator::now->groups;
    while (groups.size() > N) {
        for (const emulator::copy16 &c : groups.front()) memcpy(c.to, c.from, 16);
        groups.erase(groups.begin());
    }
}

/* Matrix i has the row addresses of lanes 8 i..8 i + 7; a lane gets elements 2 t, 2 t + 1 of row lane / 4. */
LUCID_DEVICE void load_matrices(uint32_t (&r)[4], const void *row) {
    static const char kind = 0;
    const void *const *rows = emulator::exchange(&kind, row);
    int lane = (int)(threadIdx.x % 32);
    for (int i = 0; i < 4; i++) memcpy(&r[i], (const char *)rows[8 * i + lane / 4] + 4 * (lane % 4), 4);
}
LUCID_DEVICE void load_matrices_transposed(uint32_t (&r)[4], const void *row) {
    static const char kind = 0;
    const void *const *rows = emulator::exchange(&kind, row);
    int lane = (int)(threadIdx.x % 32);
    for (int i = 0; i < 4; i++)
        for (int e = 0; e < 2; e++)
            memcpy((char *)&r[i] + 2 * e, (const char *)rows[8 * i + 2 * (lane % 4) + e] + 2 * (lane / 4), 2);
}

struct bf16_tag {};
struct f16_tag {};
struct tf32_tag {};

LUCID_DEVICE uint16_t narrow(bf16_tag, float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
LUCID_DEVICE float widen(bf16_tag, uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}
LUCID_DEVICE float widen(f16_tag, uint16_t x) {
    int exponent = x >> 10 & 31, fraction = x & 1023;
    float y = exponent == 31  ? (fraction ? NAN : INFINITY)
              : exponent == 0 ? ldexpf((float)fraction, -24)
                              : ldexpf((float)(1024 + fraction), exponent - 25);
    return x & 0x8000 ? -y : y;
}
/* To nearest, ties to even: nearbyint of the value in units of its last place. */
LUCID_DEVICE uint16_t narrow(f16_tag, float x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x)) return 0x7fff;
    float a = fabsf(x);
    if (a >= 65520.0f) return (uint16_t)(sign | 0x7c00);
    int exponent = a < 0x1p-14f ? -14 : ilogbf(a);
    int units = (int)nearbyintf(ldexpf(a, 10 - exponent)); /* 0..2048 */
    return (uint16_t)(sign | (a < 0x1p-14f ? units : ((exponent + 15) << 10) + units - 1024));
}
LUCID_DEVICE uint32_t pack_halves(float low, float high) {
    return narrow(f16_tag(), low) | (uint32_t)narrow(f16_tag(), high) << 16;
}

/* m16n8k16. A: register i of lane l holds row l / 4 + 8 (i % 2), columns 2 (l % 4) + 8 (i / 2) and the next; B:
 * register i of lane l rows 2 (l % 4) + 8 i and the next of column l / 4. */
struct mma_operands {
    uint32_t a[4], b[2];
};
template <typename Tag>
LUCID_DEVICE void multiply(Tag tag, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    static const char kind = 0;
    mma_operands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const mma_operands *all = emulator::exchange(&kind, mine);
    int lane = (int)(threadIdx.x % 32);
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
        double sum = c[i];
        for (int k = 0; k < 16; k++) {
            uint32_t x = all[row % 8 * 4 + k % 8 / 2].a[(row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)];
            uint32_t y = all[column * 4 + k % 8 / 2].b[k >= 8 ? 1 : 0];
            sum += (double)widen(tag, (uint16_t)(k % 2 ? x >> 16 : x)) * widen(tag, (uint16_t)(k % 2 ? y >> 16 : y));
        }
        c[i] = (float)sum;
    }
}

/* m16n8k8. A: register i of lane l holds row l / 4 + 8 (i % 2), column l % 4 + 4 (i / 2); B: register i of lane l row
 * l % 4 + 4 i of column l / 4. */
struct mma_floats {
    float a[4], b[2];
};
LUCID_DEVICE void multiply(tf32_tag, float (&c)[4], const float (&a)[4], float b0, float b1) {
    static const char kind = 0;
    mma_floats mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    for (const float &x : {a[0], a[1], a[2], a[3], b0, b1}) {
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (bits & 0x1fff) emulator::fail("an operand is not rounded to tf32");
    }
    const mma_floats *all = emulator::exchange(&kind, mine);
    int lane = (int)(threadIdx.x % 32);
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
        double sum = c[i];
        for (int k = 0; k < 8; k++)
            sum += (double)all[row % 8 * 4 + k % 4].a[(row >= 8 ? 1 : 0) + (k >= 4 ? 2 : 0)] *
                   all[column * 4 + k % 4].b[k >= 4 ? 1 : 0];
        c[i] = (float)sum;
    }
}
/* To nearest, ties away from zero. */
LUCID_DEVICE float round_tf32(float x) {
    if (isnan(x)) return NAN; /* the carry would make a number of some */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x1000) & ~0x1fffu;
    memcpy(&x, &bits, 4);
    return x;
}

LUCID_DEVICE float exp2_fast(float x) {
    return exp2f(x);
}
LUCID_DEVICE float quad_exchange(float x, int distance) {
    static const char kind = 0;
    return emulator::exchange(&kind, x)[(int)(threadIdx.x % 32) ^ distance];
}
LUCID_DEVICE bool any_lane(bool x) {
    static const char kind = 0;
    const bool *all = emulator::exchange(&kind, x);
    bool any = false;
    for (int lane = 0; lane < 32; lane++) any |= all[lane];
    return any;
}

LUCID_DEVICE unsigned take_ticket(unsigned *counter) {
    return (*counter)++;
}
LUCID_DEVICE void publish(unsigned *counter, unsigned value) {
    emulator::idle_rounds = 0;
    *counter = value;
}
LUCID_DEVICE unsigned acquire(const unsigned *counter) {
    emulator::now->acquired = true;
    return *counter;
}
LUCID_DEVICE void pause_briefly() {
    emulator::yield();
}
LUCID_DEVICE void load_sixteen(float (&x)[16], const float *p) {
    if ((uintptr_t)p % 16) emulator::fail("a load of 16 bytes is not aligned");
    memcpy(x, p, sizeof x);
}
LUCID_DEVICE float load_shared_global(const float *p) {
    return *p;
}

#endif
