/* Tasks for tests of samples: tokens are bytes, and running text is numbered sentences. */
#ifndef LUCID_TESTS_NIAH_FIXTURE_H
#define LUCID_TESTS_NIAH_FIXTURE_H

#include "runtime/eval/niah.h"

#include <stdio.h>
#include <string.h>

static inline lucid_status count_bytes(void *context, int64_t *n_tokens, const char *prompt, size_t n_bytes) {
    (void)context;
    (void)prompt;
    *n_tokens = (int64_t)n_bytes;
    return LUCID_OK;
}

/* 400 sentences of 7 words, "Here is the sentence with number 17." */
static inline const lucid_corpus *fixture_corpus(void) {
    static lucid_corpus corpus;
    for (int i = 0; corpus.n_words < 2800; i++) {
        char text[80];
        const int n = snprintf(text, sizeof text, "Here is\n  the sentence with number %d. ", i);
        if (lucid_corpus_add(&corpus, text, (size_t)n)) break;
    }
    return &corpus;
}

static inline lucid_niah_task fixture_task(const char *wording, lucid_niah_haystack haystack, int64_t length) {
    return (lucid_niah_task){.wording = lucid_niah_template_find(wording),
                             .haystack = haystack,
                             .corpus = haystack == LUCID_NIAH_TEXT ? fixture_corpus() : NULL,
                             .value_kind = LUCID_NIAH_NUMBERS,
                             .n_keys = 1,
                             .n_values = 1,
                             .length = length,
                             .n_new = 16,
                             .step = 1,
                             .count = count_bytes};
}

#endif
