/* Merging, in O(n log n) for any text: a heap of the pairs that may merge, over a linked list of symbols.
 *
 * Most texts need little of it. Where no merge at all has one symbol before and the other after its seam, no token ever
 * reaches across, so a pre-token (in Llama-2's style the whole text) falls apart there into segments of about a word,
 * each merged by itself with the same result. Short segments come again and again and are remembered. */
#include "runtime/tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>

#define CACHE_SLOTS   (1 << 15)
#define CACHE_SYMBOLS 24 /* longer segments are rare */

struct lucid_bpe_cached {
    int32_t n_symbols, n_ids; /* n_symbols 0: free */
    int32_t symbols[CACHE_SYMBOLS], ids[CACHE_SYMBOLS];
};

static lucid_status reserve(lucid_bpe_work *work, int64_t n) {
    if (work->remember && !work->cache) work->cache = calloc(CACHE_SLOTS, sizeof *work->cache); /* or go without */
    if (n <= work->capacity) return LUCID_OK;
    const int64_t capacity = n + n / 2 + 64;
    lucid_bpe_work grown = {.remember = work->remember, .capacity = capacity};
    grown.symbols = malloc((size_t)capacity * sizeof *grown.symbols);
    grown.next = malloc((size_t)capacity * sizeof *grown.next);
    grown.previous = malloc((size_t)capacity * sizeof *grown.previous);
    grown.heap = malloc((size_t)capacity * 2 * sizeof *grown.heap);
    if (!grown.symbols || !grown.next || !grown.previous || !grown.heap) {
        lucid_bpe_work_free(&grown);
        return lucid_fail(LUCID_ERR_MEMORY, "no memory to merge %lld symbols", (long long)n);
    }
    grown.cache = work->cache;
    work->cache = NULL;
    lucid_bpe_work_free(work);
    *work = grown;
    return LUCID_OK;
}

void lucid_bpe_work_free(lucid_bpe_work *work) {
    free(work->symbols);
    free(work->next);
    free(work->previous);
    free(work->heap);
    free(work->cache);
}

/* The symbols of one character that the vocabulary does not have; false: there are none and it is unknown. */
static bool fall_back(const lucid_bpe *bpe, lucid_bpe_work *work, const char *character, int n) {
    if (!bpe->byte_fallback) return false;
    for (int i = 0; i < n; i++) {
        if (bpe->byte_ids[(unsigned char)character[i]] < 0) return false;
    }
    for (int i = 0; i < n; i++) work->symbols[work->n_symbols++] = bpe->byte_ids[(unsigned char)character[i]];
    return true;
}

/* An unknown symbol is held until a known one follows; bytes fallen back to go before it, as in the original. */
static void find_symbols(const lucid_bpe *bpe, lucid_bpe_work *work, const char *pretoken, size_t n) {
    bool unknown = false;
    int length;
    work->n_symbols = 0;
    for (size_t at = 0; at < n; at += (size_t)length) {
        int32_t codepoint = 0;
        length = lucid_utf8_next(pretoken + at, n - at, &codepoint);
        const int32_t id = codepoint < 0x800 ? bpe->short_ids[codepoint]
                                             : lucid_vocab_find(&bpe->vocab, pretoken + at, (size_t)length);
        if (id < 0 && fall_back(bpe, work, pretoken + at, length)) continue;
        if (unknown && (id >= 0 || !bpe->fuse_unk)) {
            work->symbols[work->n_symbols++] = bpe->unk;
            unknown = false;
        }
        if (id >= 0)
            work->symbols[work->n_symbols++] = id;
        else if (bpe->unk >= 0)
            unknown = true;
    }
    if (unknown) work->symbols[work->n_symbols++] = bpe->unk;
}

static void sift_down(uint64_t *heap, int64_t n, int64_t i) {
    const uint64_t entry = heap[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (entry <= heap[child]) break;
        heap[i] = heap[child];
    }
    heap[i] = entry;
}

static uint64_t heap_pop(uint64_t *heap, int64_t *n) {
    const uint64_t top = heap[0];
    heap[0] = heap[--*n];
    if (*n) sift_down(heap, *n, 0);
    return top;
}

static void heap_push(uint64_t *heap, int64_t *n, uint64_t entry) {
    int64_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] > entry; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = entry;
}

/* A heap entry: the rank above, the left symbol's place below, so that the earliest merge comes first and among equals
 * the leftmost. */
static bool entry_of(uint64_t *entry, const lucid_bpe *bpe, const int32_t *symbols, int32_t left, int32_t right) {
    const lucid_pair *pair = lucid_pairs_find(&bpe->merges, symbols[left], symbols[right]);
    if (pair) *entry = (uint64_t)pair->value << 32 | (uint32_t)left;
    return pair;
}

/* Merges the pair that an entry stands for, if it still gives the same symbol, and enters the pairs this makes. A
 * symbol merged away is -1. */
static void merge_one(const lucid_bpe *bpe, lucid_bpe_work *work, int32_t *symbols, int64_t *n_heap, uint64_t entry) {
    const int32_t left = (int32_t)(uint32_t)entry, merged = bpe->merged[entry >> 32];
    if (symbols[left] < 0 || work->next[left] < 0) return;
    const int32_t right = work->next[left];
    uint64_t now;
    if (!entry_of(&now, bpe, symbols, left, right) || bpe->merged[now >> 32] != merged) return;
    const int32_t after = work->next[left] = work->next[right];
    symbols[left] = merged;
    symbols[right] = -1;
    if (after >= 0) work->previous[after] = left;
    if (work->previous[left] >= 0 && entry_of(&now, bpe, symbols, work->previous[left], left))
        heap_push(work->heap, n_heap, now);
    if (after >= 0 && entry_of(&now, bpe, symbols, left, after)) heap_push(work->heap, n_heap, now);
}

/* Merges n symbols in place; returns how many are left, at the front. */
static int32_t merge_all(const lucid_bpe *bpe, lucid_bpe_work *work, int32_t *symbols, int32_t n) {
    int64_t n_heap = 0;
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++) {
        work->next[i] = i + 1 < n ? i + 1 : -1;
        work->previous[i] = i - 1;
        if (i + 1 < n && entry_of(&work->heap[n_heap], bpe, symbols, i, i + 1)) n_heap++;
    }
    for (int64_t i = n_heap / 2; i-- > 0;) sift_down(work->heap, n_heap, i);
    while (n_heap) merge_one(bpe, work, symbols, &n_heap, heap_pop(work->heap, &n_heap));
    for (int32_t i = 0; i >= 0; i = work->next[i]) symbols[kept++] = symbols[i];
    return kept;
}

static lucid_status append(lucid_tokens *tokens, const int32_t *ids, int64_t n) {
    LUCID_TRY(lucid_tokens_reserve(tokens, n));
    memcpy(tokens->ids + tokens->n, ids, (size_t)n * sizeof *ids);
    tokens->n += n;
    return LUCID_OK;
}

static struct lucid_bpe_cached *cache_slot(const lucid_bpe_work *work, const int32_t *symbols, int32_t n) {
    uint64_t hash = (uint64_t)n;
    for (int32_t i = 0; i < n; i++) hash = lucid_mix(hash ^ (uint32_t)symbols[i]);
    return &work->cache[hash & (CACHE_SLOTS - 1)];
}

static lucid_status encode_segment(const lucid_bpe *bpe, lucid_bpe_work *work, lucid_tokens *tokens, int32_t *symbols,
                                   int32_t n) {
    if (n == 1) return append(tokens, symbols, 1);
    if (!work->cache || n > CACHE_SYMBOLS) return append(tokens, symbols, merge_all(bpe, work, symbols, n));
    struct lucid_bpe_cached *cached = cache_slot(work, symbols, n);
    if (cached->n_symbols != n || memcmp(cached->symbols, symbols, (size_t)n * sizeof *symbols) != 0) {
        cached->n_symbols = n;
        memcpy(cached->symbols, symbols, (size_t)n * sizeof *symbols);
        cached->n_ids = merge_all(bpe, work, symbols, n);
        memcpy(cached->ids, symbols, (size_t)cached->n_ids * sizeof *symbols);
    }
    return append(tokens, cached->ids, cached->n_ids);
}

lucid_status lucid_bpe_encode(const lucid_bpe *bpe, lucid_bpe_work *work, lucid_tokens *tokens, const char *pretoken,
                              size_t n) {
    const int32_t whole = bpe->ignore_merges ? lucid_vocab_find(&bpe->vocab, pretoken, n) : -1;
    if (whole >= 0) return append(tokens, &whole, 1);
    if (n >= INT32_MAX) return lucid_fail(LUCID_ERR_INPUT, "a text of %zu bytes is too long to encode at once", n);
    LUCID_TRY(reserve(work, (int64_t)n)); /* no character has more symbols than bytes */
    find_symbols(bpe, work, pretoken, n);
    int32_t begin = 0;
    for (int32_t i = 1; i <= work->n_symbols; i++) {
        int32_t *symbols = work->symbols;
        if (i < work->n_symbols && (!bpe->cuts_at_joints || lucid_pairs_find(&bpe->joints, symbols[i - 1], symbols[i])))
            continue;
        LUCID_TRY(encode_segment(bpe, work, tokens, symbols + begin, i - begin));
        begin = i;
    }
    return LUCID_OK;
}
