/* Added tokens: found in a text before anything else is done to it or, those that say so, after it is normalized. */
#ifndef LUCID_RUNTIME_TOKENIZER_ADDED_H
#define LUCID_RUNTIME_TOKENIZER_ADDED_H

#include "runtime/tokenizer/stages.h"
#include "runtime/tokenizer/vocab.h"

typedef struct {
    int32_t id;
    int order; /* special ones first, then as in the file: what wins among equal patterns */
    bool single_word, lstrip, rstrip, normalized, special;
    lucid_text pattern; /* what is looked for */
} lucid_added_token;

/* Tokens sorted by pattern, for one of the two passes. */
typedef struct {
    const lucid_added_token **sorted; /* (n) */
    int n;
    bool begins[256]; /* some pattern's first byte */
} lucid_added_set;

typedef struct {
    lucid_vocab vocab;         /* of these alone */
    lucid_added_token *tokens; /* (n), by ascending id */
    int n;
    lucid_added_set raw, normalized;
} lucid_added;

lucid_status lucid_added_read(lucid_added *added, const json_t *tokens, const lucid_vocab *model,
                              const lucid_normalizers *normalizers, const char *where);
void lucid_added_free(lucid_added *added);
const lucid_added_token *lucid_added_find(const lucid_added *added, int32_t id); /* or NULL */

/* The parts of a text from left to right: added tokens (id >= 0) and what lies between (id -1). */
typedef struct {
    const lucid_added_set *set;
    const char *text;
    size_t n, from, done;           /* the search goes on at from; all before done was handed out */
    const lucid_added_token *found; /* a token whose preceding text was handed out, at begin..end-1 */
    size_t begin, end;
} lucid_added_scan;

typedef struct {
    size_t begin, end;
    int32_t id;
} lucid_added_part;
bool lucid_added_scan_next(lucid_added_scan *scan, lucid_added_part *part);

#endif
