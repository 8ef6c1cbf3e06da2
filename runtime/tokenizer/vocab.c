#include "runtime/tokenizer/vocab.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(const char *string, size_t n) {
    uint64_t hash = n, word;
    for (; n >= sizeof word; n -= sizeof word, string += sizeof word) {
        memcpy(&word, string, sizeof word);
        hash = lucid_mix(hash ^ word);
    }
    word = 0;
    memcpy(&word, string, n);
    return lucid_mix(hash ^ word);
}

/* The slot that holds the string, or the empty one where it belongs. */
static size_t slot_of(const lucid_vocab *vocab, const char *string, size_t n) {
    size_t i = hash_of(string, n) & (vocab->n_slots - 1);
    for (; vocab->slots[i] >= 0; i = (i + 1) & (vocab->n_slots - 1)) {
        const lucid_vocab_token *token = &vocab->tokens[vocab->slots[i]];
        if ((size_t)token->length == n && memcmp(vocab->strings.bytes + token->offset, string, n) == 0) break;
    }
    return i;
}

static lucid_status grow_slots(lucid_vocab *vocab) {
    if ((size_t)vocab->n_tokens * 2 < vocab->n_slots) return LUCID_OK;
    const size_t n_slots = vocab->n_slots ? vocab->n_slots * 2 : 64;
    int32_t *slots = malloc(n_slots * sizeof *slots);
    if (!slots) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a vocabulary of %zu slots", n_slots);
    for (size_t i = 0; i < n_slots; i++) slots[i] = -1;
    free(vocab->slots);
    vocab->slots = slots;
    vocab->n_slots = n_slots;
    for (int32_t id = 0; id < vocab->n_ids; id++) {
        size_t n;
        const char *string = lucid_vocab_string(vocab, id, &n);
        if (string) slots[slot_of(vocab, string, n)] = id;
    }
    return LUCID_OK;
}

static lucid_status grow_ids(lucid_vocab *vocab, int32_t id) {
    if (id >= vocab->capacity) {
        const int32_t capacity = id + id / 2 + 64;
        lucid_vocab_token *tokens = realloc(vocab->tokens, (size_t)capacity * sizeof *tokens);
        if (!tokens) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a vocabulary of %d ids", (int)capacity);
        vocab->tokens = tokens;
        vocab->capacity = capacity;
    }
    for (; vocab->n_ids <= id; vocab->n_ids++) vocab->tokens[vocab->n_ids] = (lucid_vocab_token){.length = -1};
    return LUCID_OK;
}

lucid_status lucid_vocab_add(lucid_vocab *vocab, const char *string, size_t n, int32_t id, const char *where) {
    if (lucid_vocab_find(vocab, string, n) >= 0)
        return lucid_fail(LUCID_ERR_INPUT, "%s: token '%s' is there twice", where, lucid_excerpt_of(string, n).text);
    if (lucid_vocab_string(vocab, id, &(size_t){0}))
        return lucid_fail(LUCID_ERR_INPUT, "%s: token '%s': id %d is another token's", where,
                          lucid_excerpt_of(string, n).text, (int)id);
    if (n > INT32_MAX - 1) return lucid_fail(LUCID_ERR_INPUT, "%s: a token has %zu bytes", where, n);
    LUCID_TRY(grow_slots(vocab));
    LUCID_TRY(grow_ids(vocab, id));
    const size_t offset = vocab->strings.n;
    LUCID_TRY(lucid_text_reserve(&vocab->strings, n + 1));
    LUCID_TRY(lucid_text_append(&vocab->strings, string, n));
    LUCID_TRY(lucid_text_append(&vocab->strings, "", 1));
    vocab->tokens[id] = (lucid_vocab_token){.offset = offset, .length = (int32_t)n};
    vocab->n_tokens++;
    vocab->slots[slot_of(vocab, string, n)] = id;
    return LUCID_OK;
}

int32_t lucid_vocab_find(const lucid_vocab *vocab, const char *string, size_t n) {
    return vocab->n_slots == 0 ? -1 : vocab->slots[slot_of(vocab, string, n)];
}

const char *lucid_vocab_string(const lucid_vocab *vocab, int32_t id, size_t *n) {
    if (id < 0 || id >= vocab->n_ids || vocab->tokens[id].length < 0) return NULL;
    *n = (size_t)vocab->tokens[id].length;
    return vocab->strings.bytes + vocab->tokens[id].offset;
}

void lucid_vocab_free(lucid_vocab *vocab) {
    lucid_text_free(&vocab->strings);
    free(vocab->tokens);
    free(vocab->slots);
    *vocab = (lucid_vocab){0};
}

static void place(lucid_pairs *pairs, lucid_pair pair) {
    size_t i = lucid_mix(pair.key) & (pairs->n_slots - 1);
    while (pairs->slots[i].key != UINT64_MAX) i = (i + 1) & (pairs->n_slots - 1);
    pairs->slots[i] = pair;
}

static lucid_status grow_pairs(lucid_pairs *pairs) {
    if (pairs->n * 2 < pairs->n_slots) return LUCID_OK;
    const lucid_pairs old = *pairs;
    const size_t n_slots = old.n_slots ? old.n_slots * 2 : 64;
    lucid_pair *slots = malloc(n_slots * sizeof *slots);
    if (!slots) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu pairs of tokens", n_slots);
    for (size_t i = 0; i < n_slots; i++) slots[i].key = UINT64_MAX;
    pairs->slots = slots;
    pairs->n_slots = n_slots;
    for (size_t i = 0; i < old.n_slots; i++) {
        if (old.slots[i].key != UINT64_MAX) place(pairs, old.slots[i]);
    }
    free(old.slots);
    return LUCID_OK;
}

lucid_status lucid_pairs_set(lucid_pairs *pairs, int32_t a, int32_t b, uint32_t value) {
    const lucid_pair *found = lucid_pairs_find(pairs, a, b);
    if (found) {
        pairs->slots[found - pairs->slots].value = value;
        return LUCID_OK;
    }
    LUCID_TRY(grow_pairs(pairs));
    place(pairs, (lucid_pair){.key = (uint64_t)(uint32_t)a << 32 | (uint32_t)b, .value = value});
    pairs->n++;
    return LUCID_OK;
}

void lucid_pairs_free(lucid_pairs *pairs) {
    free(pairs->slots);
    *pairs = (lucid_pairs){0};
}

lucid_excerpt lucid_excerpt_of(const char *string, size_t n) {
    lucid_excerpt excerpt;
    size_t at = 0;
    for (; at < n && at < 80; at++) {
        const unsigned char c = (unsigned char)string[at];
        excerpt.text[at] = (char)(c < 0x20 || c == 0x7F ? '?' : c);
    }
    if (n > 80) { /* not through a character */
        at = lucid_utf8_before(excerpt.text, at);
        memcpy(excerpt.text + at, "...", 3);
        at += 3;
    }
    excerpt.text[at] = '\0';
    return excerpt;
}
