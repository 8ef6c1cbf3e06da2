/* What kernels/cuda/primitives_sm90.cuh has, for the emulator: barriers that count bytes, bulk copies that arrive in
 * any order, products of a warpgroup. A product's accumulators are NaN until its end, and its right operand is read
 * only when it is waited for, so that a stage given back too early, or a result used too early, shows. Operands in
 * shared memory are found by the canonical layouts of the PTX manual. Of fences one is looked for, that of a thread
 * that acquires and then copies; for the rest, memory orders stay for a GPU to show. */
#ifndef LUCID_TESTS_GPU_EMULATOR_SM90_H
#define LUCID_TESTS_GPU_EMULATOR_SM90_H

#include "kernels/cuda/layout.h"
#include "tests/gpu/emulator.h"

namespace emulator {

union phase_word {
    uint64_t word;
    struct {
        uint64_t arrivals : 8, missing : 8, parity : 1;
        int64_t bytes : 47;
    };
};

static inline void settle(uint64_t *barrier, phase_word b) {
    if (b.missing == 0 && b.bytes == 0) {
        b.parity ^= 1;
        b.missing = b.arrivals;
        idle_rounds = 0;
    }
    *barrier = b.word;
}

static inline void arrive(uint64_t *barrier, int64_t bytes) {
    phase_word b = {*barrier};
    if (b.missing == 0) fail("more arrivals than the barrier's phase has");
    b.missing--;
    b.bytes += bytes;
    settle(barrier, b);
}

/* One of the copies under way arrives, or none. */
static inline void deliver(block_state *block) {
    if (block->bulks.empty() || generator() % 4 == 0) return;
    size_t i = generator() % block->bulks.size();
    bulk_copy copy = std::move(block->bulks[i]);
    block->bulks.erase(block->bulks.begin() + (long)i);
    memcpy(copy.to, copy.early.empty() ? copy.from : copy.early.data(), copy.bytes);
    phase_word b = {*copy.barrier};
    b.bytes -= (int64_t)copy.bytes;
    settle(copy.barrier, b);
}

/* The 128-byte swizzle: the chunk of 16 bytes is permuted by the row of 128. */
static inline const unsigned char *swizzled(const unsigned char *at) {
    uintptr_t x = (uintptr_t)at;
    return (const unsigned char *)(x ^ (x >> 7 & 7) << 4);
}

/* Element (k, n) of the right operand: MN-major in groups of 64 columns `across`, else K-major. */
static inline float right_element(const product &p, int k, int n) {
    size_t offset = p.across ? (size_t)(n / 64) * 8192 + (size_t)(k / 8) * 1024 + (size_t)(k % 8) * 128 + n % 64 * 2u
                             : (size_t)(n / 8) * 1024 + (size_t)(n % 8) * 128 + (size_t)k * 2;
    uint16_t x;
    memcpy(&x, swizzled(p.b + offset), 2);
    return p.widen(x);
}

/* The products' copy of these accumulators; NULL: none of their products is under way. */
static inline float *sums_of(float (*c)[4]) {
    for (accumulators &a : now->sums)
        if (a.c == c) return a.values.data();
    return NULL;
}

static inline void take_accumulators(float (*c)[4], int columns) {
    now->sums.push_back({c, std::vector<float>(&c[0][0], &c[0][0] + 4 * columns)});
    for (int i = 0; i < 4 * columns; i++) (&c[0][0])[i] = NAN;
}

static inline void carry_out(const product &p) {
    float *sums = sums_of(p.c);
    int lane = (int)(now->thread_index.x % WARP);
    for (int column = 0; column < p.columns; column++)
        for (int i = 0; i < 4; i++) {
            double sum = p.sum ? sums[4 * column + i] : 0;
            for (int k = 0; k < 16; k++)
                sum += (double)p.a[i / 2][k] * right_element(p, k, 8 * column + lane % 4 * 2 + i % 2);
            sums[4 * column + i] = (float)sum;
        }
}

static inline bool is_settled(const void *registers) {
    for (const register_range &r : now->settled)
        if (registers >= r.first && registers < r.last) return true;
    return false;
}

struct operand {
    uint32_t a[4];
};

/* A: register i of lane l holds row l / 4 + 8 (i % 2), columns 2 (l % 4) + 8 (i / 2) and the next. */
static inline void start_product(float (*c)[4], int columns, const uint32_t (&a)[4], const unsigned char *b, bool sum,
                                 bool across, float (*widen)(uint16_t)) {
    static const char kind = 0;
    if (!now->products_begun || !is_settled(a) || (sum && !sums_of(c) && !is_settled(c)))
        fail("a product whose registers are not settled");
    const operand *all = exchange(&kind, operand{{a[0], a[1], a[2], a[3]}});
    product p = {c, columns, now->product_groups, sum, across, {}, b, widen};
    int row = (int)(now->thread_index.x % WARP) / 4;
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 16; k++) {
            uint32_t pair = all[row * 4 + k % 8 / 2].a[half + (k >= 8 ? 2 : 0)];
            p.a[half][k] = widen((uint16_t)(k % 2 ? pair >> 16 : pair));
        }
    if (!sums_of(c)) take_accumulators(c, columns);
    now->products.push_back(std::move(p));
}

/* Accumulators among these registers get their products' sums, once all of them have been waited for. */
static inline void end_products(const void *first, const void *last) {
    for (const product &p : now->products)
        if (p.c >= first && p.c < last) fail("products end that were not waited for");
    for (size_t i = now->sums.size(); i-- > 0;) {
        const accumulators &a = now->sums[i];
        if (a.c < first || a.c >= last) continue;
        memcpy(a.c, a.values.data(), a.values.size() * sizeof(float));
        now->sums.erase(now->sums.begin() + (long)i);
    }
}

} // namespace emulator

LUCID_DEVICE void phase_init(uint64_t *barrier, unsigned arrivals) {
    emulator::phase_word b = {0};
    b.arrivals = b.missing = arrivals;
    *barrier = b.word;
}
LUCID_DEVICE void phase_init_end() {
}
LUCID_DEVICE void phase_arrive(uint64_t *barrier) {
    emulator::arrive(barrier, 0);
}
LUCID_DEVICE void phase_expect(uint64_t *barrier, unsigned bytes) {
    emulator::arrive(barrier, bytes);
}
LUCID_DEVICE void phase_wait(uint64_t *barrier, unsigned parity) {
    for (;;) {
        emulator::deliver(emulator::now->block);
        if (emulator::phase_word{*barrier}.parity != parity) return;
        emulator::yield();
    }
}

LUCID_DEVICE void copy_bulk(void *shared, const void *global, unsigned bytes, uint64_t *barrier) {
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16 || bytes % 16) emulator::fail("a bulk copy is not aligned");
    if (emulator::now->acquired) emulator::fail("a bulk copy has no fence behind what was acquired");
    emulator::bulk_copy copy = {shared, global, {}, bytes, barrier};
    if (emulator::generator() % 2)
        copy.early.assign((const unsigned char *)global, (const unsigned char *)global + bytes);
    memset(shared, 0xff, bytes); /* nothing may be read from there until it has arrived */
    emulator::now->block->bulks.push_back(std::move(copy));
}

LUCID_DEVICE void fence_paths() {
    emulator::now->acquired = false;
}
LUCID_DEVICE void part_barrier(int threads) {
    emulator::block_state *b = emulator::now->block;
    emulator::meet(&b->at_part, &b->part_round, threads);
}
LUCID_DEVICE void warp_barrier() {
    static const char kind = 0;
    emulator::exchange(&kind, 0);
}
template <int N> LUCID_DEVICE void give_registers() {
}
template <int N> LUCID_DEVICE void take_registers() {
}

LUCID_DEVICE const unsigned char *right_operand(const void *at) {
    return (const unsigned char *)at;
}
template <typename... Registers> LUCID_DEVICE void products_begin(Registers &...registers) {
    emulator::now->products_begun = true;
    emulator::now->settled = {{&registers, &registers + 1}...};
}
LUCID_DEVICE void products_commit() {
    emulator::now->product_groups++;
}
template <int N> LUCID_DEVICE void products_wait() {
    auto &products = emulator::now->products;
    if (emulator::generator() % 4 == 0) emulator::yield(); /* others go on while products do */
    while (!products.empty() && products.front().group < emulator::now->product_groups - N) {
        emulator::carry_out(products.front());
        products.erase(products.begin());
    }
    emulator::now->products_begun &= !products.empty();
}
template <typename... Registers> LUCID_DEVICE void products_end(Registers &...registers) {
    (emulator::end_products(&registers, &registers + 1), ...);
}

template <typename Tag> static inline float widen_by(uint16_t x) {
    return widen(Tag(), x);
}
template <typename Tag>
LUCID_DEVICE void multiply_rows(Tag, float (&c)[8][4], const uint32_t (&a)[4], const unsigned char *b, bool sum) {
    emulator::start_product(c, 8, a, b, sum, false, widen_by<Tag>);
}
template <int COLUMNS>
LUCID_DEVICE void multiply_across(float (&c)[COLUMNS][4], const uint32_t (&a)[4], const unsigned char *b) {
    emulator::start_product(c, COLUMNS, a, b, true, true, widen_by<f16_tag>);
}

#endif
