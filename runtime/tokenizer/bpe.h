/* The BPE model: a pre-token becomes symbols, one a character, and pairs of symbols merge in the order of the file. */
#ifndef LUCID_RUNTIME_TOKENIZER_BPE_H
#define LUCID_RUNTIME_TOKENIZER_BPE_H

#include "runtime/tokenizer/json.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/vocab.h"

typedef struct {
    lucid_vocab vocab;
    lucid_pairs merges; /* of ids, to the merge's rank */
    int32_t *merged;    /* (n_merges) the id that a rank's merge gives */
    int32_t n_merges;
    lucid_pairs joints;  /* of single characters: some merge has the first at its left part's end, the second at its
                            right part's beginning */
    bool cuts_at_joints; /* pairs of symbols that are no joint never come into one token */
    bool byte_fallback, fuse_unk, ignore_merges;
    int32_t unk;              /* -1: unknown characters vanish */
    int32_t byte_ids[256];    /* of <0x00>..<0xFF>, or -1 */
    int32_t short_ids[0x800]; /* by codepoint: of the tokens of one character of one or two bytes, or -1 */
} lucid_bpe;

lucid_status lucid_bpe_read(lucid_bpe *bpe, const json_t *model, const char *where);
void lucid_bpe_free(lucid_bpe *bpe);

/* What one thread needs to encode. Starts as {0}, but for remember. */
typedef struct {
    bool remember;                      /* keep a cache of segments, which short texts do not need */
    int32_t *symbols, *next, *previous; /* (capacity) */
    uint64_t *heap;                     /* (2 * capacity) */
    int64_t n_symbols, capacity;
    struct lucid_bpe_cached *cache; /* segments that were merged before, or NULL */
} lucid_bpe_work;

/* Appends the ids of a pre-token, valid UTF-8. */
lucid_status lucid_bpe_encode(const lucid_bpe *bpe, lucid_bpe_work *work, lucid_tokens *tokens, const char *pretoken,
                              size_t n);
void lucid_bpe_work_free(lucid_bpe_work *work);

#endif
