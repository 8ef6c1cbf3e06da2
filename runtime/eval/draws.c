#include "runtime/eval/draws.h"

#include "runtime/files/random.h"

#include <inttypes.h>
#include <stdio.h>

lucid_draws lucid_draws_begin(uint64_t seed, uint32_t purpose, uint32_t cell, uint32_t index) {
    return (lucid_draws){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)}, .counter = {0, index, cell, purpose}};
}

static uint32_t next_word(lucid_draws *draws) {
    if (draws->n_left == 0) {
        lucid_philox(draws->words, draws->counter, draws->key);
        draws->counter[0]++;
        draws->n_left = 4;
    }
    return draws->words[--draws->n_left];
}

uint32_t lucid_draws_below(lucid_draws *draws, uint32_t n) {
    const uint32_t excess = -n % n; /* 2^32 mod n: so many products fall in the shares that are one too large */
    uint64_t product;
    do product = (uint64_t)next_word(draws) * n;
    while ((uint32_t)product < excess);
    return (uint32_t)(product >> 32);
}

void lucid_draws_number(char *text, lucid_draws *draws) {
    snprintf(text, LUCID_DRAWN_MAX, "%" PRIu32, 1000000 + lucid_draws_below(draws, 9000000));
}

void lucid_draws_uuid(char *text, lucid_draws *draws) {
    uint32_t w[4];
    for (int i = 0; i < 4; i++) w[i] = next_word(draws);
    const uint32_t version = 0x4000, variant = 0x8000;
    snprintf(text, LUCID_DRAWN_MAX, "%08" PRIx32 "-%04" PRIx32 "-%04" PRIx32 "-%04" PRIx32 "-%04" PRIx32 "%08" PRIx32,
             w[0], w[1] >> 16, (w[1] & 0xfff) | version, (w[2] >> 16 & 0x3fff) | variant, w[2] & 0xffff, w[3]);
}
