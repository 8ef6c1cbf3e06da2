/* Running text as words and sentences, begun again where it ends. Local. */
#ifndef LUCID_RUNTIME_EVAL_CORPUS_H
#define LUCID_RUNTIME_EVAL_CORPUS_H

#include "comm/comm.h"

typedef struct {
    char *text;     /* words, each ended by a NUL */
    size_t n_bytes; /* of text */
    size_t *words;  /* (n_words) where they begin */
    bool *begins;   /* (n_words) a sentence */
    int64_t n_words, capacity;
} lucid_corpus;

/* Adds text (n_bytes) to a corpus that starts as {0}. White space of any kind separates words. A sentence ends with a
 * word that ends with . ! or ?, closing quotes and brackets aside, before one that does not begin in lower case.
 * Errors: MEMORY. */
lucid_status lucid_corpus_add(lucid_corpus *corpus, const char *text, size_t n_bytes);
void lucid_corpus_free(lucid_corpus *corpus); /* fine on zeros */

/* Word i >= 0; the first follows the last. */
const char *lucid_corpus_word(const lucid_corpus *corpus, int64_t i);
bool lucid_corpus_begins(const lucid_corpus *corpus, int64_t i);

#endif
