#include "runtime/eval/corpus.h"

#include <stdlib.h>
#include <string.h>

static const char space[] = " \t\r\n\v\f";

/* Does a sentence end with this word? */
static bool ends_sentence(const char *word) {
    size_t n = strlen(word);
    while (n && strchr("\"')]", word[n - 1])) n--;
    return n && strchr(".!?", word[n - 1]);
}

static lucid_status reserve(lucid_corpus *corpus, size_t n_bytes) {
    char *text = realloc(corpus->text, corpus->n_bytes + n_bytes + 1);
    if (text) corpus->text = text;
    return text ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu bytes of text", corpus->n_bytes + n_bytes);
}

static lucid_status reserve_words(lucid_corpus *corpus) {
    if (corpus->n_words < corpus->capacity) return LUCID_OK;
    const int64_t capacity = corpus->capacity ? 2 * corpus->capacity : 4096;
    size_t *words = realloc(corpus->words, (size_t)capacity * sizeof *words);
    if (words) corpus->words = words;
    bool *begins = realloc(corpus->begins, (size_t)capacity * sizeof *begins);
    if (begins) corpus->begins = begins;
    if (!words || !begins) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %lld words of text", (long long)capacity);
    corpus->capacity = capacity;
    return LUCID_OK;
}

/* A word's n bytes; room for them is there. */
static lucid_status add_word(lucid_corpus *corpus, const char *word, size_t n) {
    LUCID_TRY(reserve_words(corpus));
    const int64_t i = corpus->n_words++;
    const bool lower = *word >= 'a' && *word <= 'z';
    corpus->begins[i] = i == 0 || (!lower && ends_sentence(lucid_corpus_word(corpus, i - 1)));
    corpus->words[i] = corpus->n_bytes;
    memcpy(corpus->text + corpus->n_bytes, word, n);
    corpus->text[corpus->n_bytes + n] = 0;
    corpus->n_bytes += n + 1;
    return LUCID_OK;
}

lucid_status lucid_corpus_add(lucid_corpus *corpus, const char *text, size_t n_bytes) {
    const char *end = text + n_bytes;
    LUCID_TRY(reserve(corpus, n_bytes + 1)); /* every word but the last gives its blank for its NUL */
    while (text < end) {
        size_t n = 0;
        while (text + n < end && !memchr(space, text[n], sizeof space)) n++; /* a NUL separates words too */
        if (n) LUCID_TRY(add_word(corpus, text, n));
        text += n + 1;
    }
    return LUCID_OK;
}

void lucid_corpus_free(lucid_corpus *corpus) {
    free(corpus->text);
    free(corpus->words);
    free(corpus->begins);
    *corpus = (lucid_corpus){0};
}

const char *lucid_corpus_word(const lucid_corpus *corpus, int64_t i) {
    return corpus->text + corpus->words[i % corpus->n_words];
}

bool lucid_corpus_begins(const lucid_corpus *corpus, int64_t i) {
    return corpus->begins[i % corpus->n_words];
}
