/* A vocabulary: strings to ids and back; and a table of pairs of ids. */
#ifndef LUCID_RUNTIME_TOKENIZER_VOCAB_H
#define LUCID_RUNTIME_TOKENIZER_VOCAB_H

#include "runtime/tokenizer/text.h"

/* Ids index tables; no vocabulary comes near this. */
#define LUCID_MAX_TOKEN_ID ((1 << 24) - 1)

typedef struct {
    size_t offset;  /* in strings; every string is followed by a 0 */
    int32_t length; /* -1: no token has this id */
} lucid_vocab_token;

typedef struct {
    lucid_text strings;
    lucid_vocab_token *tokens; /* (n_ids) */
    int32_t n_ids, n_tokens, capacity;
    int32_t *slots; /* (n_slots) ids or -1, open addressing */
    size_t n_slots; /* a power of two */
} lucid_vocab;

/* Errors: INPUT when the string or the id is there already, naming `where`. */
lucid_status lucid_vocab_add(lucid_vocab *vocab, const char *string, size_t n, int32_t id, const char *where);
int32_t lucid_vocab_find(const lucid_vocab *vocab, const char *string, size_t n); /* or -1 */
const char *lucid_vocab_string(const lucid_vocab *vocab, int32_t id, size_t *n);  /* or NULL */
void lucid_vocab_free(lucid_vocab *vocab);

typedef struct {
    uint64_t key; /* UINT64_MAX: empty */
    uint32_t value;
} lucid_pair;

typedef struct {
    lucid_pair *slots;
    size_t n_slots, n; /* a power of two; 0 while there is no pair */
} lucid_pairs;

static inline uint64_t lucid_mix(uint64_t x) {
    x *= UINT64_C(0x9E3779B97F4A7C15);
    return x ^ x >> 32;
}

static inline const lucid_pair *lucid_pairs_find(const lucid_pairs *pairs, int32_t a, int32_t b) {
    if (pairs->n_slots == 0) return NULL;
    const uint64_t key = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    size_t i = lucid_mix(key) & (pairs->n_slots - 1);
    while (pairs->slots[i].key != key) {
        if (pairs->slots[i].key == UINT64_MAX) return NULL;
        i = (i + 1) & (pairs->n_slots - 1);
    }
    return &pairs->slots[i];
}

/* A pair that is there gets the new value. */
lucid_status lucid_pairs_set(lucid_pairs *pairs, int32_t a, int32_t b, uint32_t value);
void lucid_pairs_free(lucid_pairs *pairs);

/* At most 80 bytes of a string from a file, printable, for failures. */
typedef struct {
    char text[96];
} lucid_excerpt;
lucid_excerpt lucid_excerpt_of(const char *string, size_t n);

#endif
