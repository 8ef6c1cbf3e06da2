#include "launch/vocabulary.h"

#include "runtime/files/read.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX ((size_t)1 << 30) /* the tokenizer's */
#define N_BYTES  256               /* tokens of a model of bytes, at least */

static lucid_status find_file(char path[PATH_MAX], bool *there, const char *folder, const char *name) {
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
        return lucid_fail(LUCID_ERR_IO, "%s: name too long", folder);
    *there = access(path, F_OK) == 0;
    if (*there || errno == ENOENT) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
}

/* Tokens are bytes only where the folder says nothing else. */
static lucid_status open_tokenizer(launch_vocabulary *v) {
    static const char *const others[] = {"tokenizer.model", "vocab.json", "vocab.txt"};
    char path[PATH_MAX];
    bool there;
    LUCID_TRY(find_file(path, &there, v->folder, "tokenizer.json"));
    if (there) return lucid_tokenizer_open(&v->tokenizer, path);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        LUCID_TRY(find_file(path, &there, v->folder, others[i]));
        if (there)
            return lucid_fail(LUCID_ERR_INPUT,
                              "%s: has %s but no tokenizer.json, which alone is read: save the tokenizer in that form",
                              v->folder, others[i]);
    }
    return v->vocab_size < N_BYTES ? LUCID_OK : lucid_tokenizer_bytes(&v->tokenizer);
}

static int32_t bos_of(const launch_vocabulary *v) {
    if (v->config->bos_token_id >= 0) return v->config->bos_token_id;
    return v->tokenizer ? lucid_tokenizer_bos(v->tokenizer) : -1;
}

static lucid_status copy_tokens(lucid_tokens *to, const int32_t *ids, int64_t n) {
    LUCID_TRY(lucid_tokens_reserve(to, n));
    if (n) memcpy(to->ids + to->n, ids, (size_t)n * sizeof *ids);
    to->n += n;
    return LUCID_OK;
}

static lucid_status find_beginning(launch_vocabulary *v, int rule) {
    const int32_t bos = bos_of(v);
    if (rule == BOS_NO) return LUCID_OK;
    if (rule == BOS_YES && bos < 0)
        return lucid_fail(LUCID_ERR_USAGE, "--bos: %s names no token to begin with", v->folder);
    if (rule == BOS_YES) return copy_tokens(&v->beginning, &bos, 1);
    if (!v->tokenizer) return LUCID_OK;
    const lucid_tokens *prefix = lucid_tokenizer_template(v->tokenizer, false);
    return prefix ? copy_tokens(&v->beginning, prefix->ids, prefix->n) : LUCID_OK;
}

lucid_status launch_vocabulary_open(launch_vocabulary *v, const launch_options *options,
                                    const lucid_model_config *config) {
    *v = (launch_vocabulary){.folder = options->model, .vocab_size = config->vocab_size, .config = config};
    LUCID_TRY(open_tokenizer(v));
    v->prefix = bos_of(v);
    if (v->prefix < 0 && config->n_eos) v->prefix = config->eos_token_ids[0];
    if (v->prefix < 0 && v->tokenizer) v->prefix = lucid_tokenizer_eos(v->tokenizer);
    return find_beginning(v, options->bos);
}

void launch_vocabulary_close(launch_vocabulary *v) {
    lucid_tokenizer_close(v->tokenizer);
    lucid_tokens_free(&v->beginning);
    *v = (launch_vocabulary){0};
}

lucid_status launch_vocabulary_check(const launch_vocabulary *v, const int32_t *ids, int64_t n, const char *name) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= v->vocab_size)
            return lucid_fail(LUCID_ERR_INPUT, "%s: token %lld has id %d, and %s has %d tokens", name, (long long)i,
                              ids[i], v->folder, v->vocab_size);
    return LUCID_OK;
}

lucid_status launch_vocabulary_encode(lucid_tokens *tokens, const launch_vocabulary *v, const char *text,
                                      size_t n_bytes, bool begin, const char *name) {
    const int64_t first = tokens->n;
    if (!v->tokenizer)
        return lucid_fail(LUCID_ERR_INPUT, "%s: no tokenizer.json, and %d tokens are too few for bytes", v->folder,
                          v->vocab_size);
    if (begin) LUCID_TRY(copy_tokens(tokens, v->beginning.ids, v->beginning.n));
    LUCID_TRY(lucid_tokenizer_encode(v->tokenizer, tokens, text, n_bytes, false));
    return launch_vocabulary_check(v, tokens->ids + first, tokens->n - first, name);
}

bool launch_vocabulary_ends(const launch_vocabulary *v, int32_t id) {
    for (int i = 0; i < v->config->n_eos; i++)
        if (v->config->eos_token_ids[i] == id) return true;
    return v->config->n_eos == 0 && v->tokenizer && lucid_tokenizer_eos(v->tokenizer) == id;
}

/* --- files --- */

lucid_status launch_text_read(char **text, size_t *n_bytes, const char *path) {
    LUCID_TRY(lucid_read_file(text, n_bytes, path, TEXT_MAX));
    if (*n_bytes) return LUCID_OK;
    free(*text);
    *text = NULL;
    return lucid_fail(LUCID_ERR_INPUT, "%s: empty", path);
}

static const char space[] = " \t\r\n\v\f";

/* For messages. */
static int word_length(const char *text) {
    const size_t n = strcspn(text, space);
    return n < 20 ? (int)n : 20;
}

static lucid_status parse_ids(lucid_tokens *tokens, const char *text, size_t n_bytes, const char *path) {
    const char *end = text + n_bytes;
    for (text += strspn(text, space); text < end; text += strspn(text, space)) {
        char *after;
        errno = 0;
        const long id = *text >= '0' && *text <= '9' ? strtol(text, &after, 10) : -1;
        if (id < 0 || errno || id > INT32_MAX || (after < end && !strchr(space, *after)) || (!*after && after < end))
            return lucid_fail(LUCID_ERR_INPUT, "%s: '%.*s' (number %lld) is no token's id", path, word_length(text),
                              text, (long long)tokens->n);
        LUCID_TRY(copy_tokens(tokens, &(int32_t){(int32_t)id}, 1));
        text = after;
    }
    return tokens->n ? LUCID_OK : lucid_fail(LUCID_ERR_INPUT, "%s: no ids", path);
}

lucid_status launch_ids_read(lucid_tokens *tokens, const char *path) {
    char *text;
    size_t n_bytes;
    LUCID_TRY(launch_text_read(&text, &n_bytes, path));
    const lucid_status status = parse_ids(tokens, text, n_bytes, path);
    free(text);
    return status;
}
