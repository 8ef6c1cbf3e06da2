/* Numbers for the tests of what judges results: the same in every run. */
#ifndef LUCID_TESTS_RUNTIME_VERIFY_UNIFORM_H
#define LUCID_TESTS_RUNTIME_VERIFY_UNIFORM_H

#include <stdint.h>

/* Uniform in (-1, 1), by xorshift. */
static inline double uniform(void) {
    static uint64_t state = 0x9e3779b97f4a7c15ull;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (double)(state >> 11) * 0x1p-52 - 1;
}

#endif
