#include "runtime/tokenizer/parts.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)1 << 30)
#define CACHE_FROM     ((size_t)1 << 14) /* bytes of text from which a cache pays */

lucid_status lucid_tokenizer_bytes(lucid_tokenizer **tokenizer) {
    lucid_tokenizer *made = calloc(1, sizeof *made);
    if (!made) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a tokenizer");
    made->bytes = true;
    made->bos = made->eos = -1;
    for (int byte = 0; byte < 256; byte++) made->byte_spellings[byte][0] = (char)byte;
    *tokenizer = made;
    return LUCID_OK;
}

void lucid_tokenizer_close(lucid_tokenizer *tokenizer) {
    if (!tokenizer) return;
    lucid_bpe_free(&tokenizer->bpe);
    lucid_added_free(&tokenizer->added);
    lucid_normalizers_free(&tokenizer->normalizers);
    lucid_splitters_free(&tokenizer->splitters);
    lucid_decoders_free(&tokenizer->decoders);
    lucid_tokens_free(&tokenizer->prefix);
    lucid_tokens_free(&tokenizer->suffix);
    free(tokenizer);
}

int32_t lucid_tokenizer_size(const lucid_tokenizer *tokenizer) {
    if (tokenizer->bytes) return 256;
    const int32_t model = tokenizer->bpe.vocab.n_ids, added = tokenizer->added.vocab.n_ids;
    return model > added ? model : added;
}

int32_t lucid_tokenizer_id(const lucid_tokenizer *tokenizer, const char *token, size_t n_bytes) {
    if (tokenizer->bytes) return n_bytes == 1 ? (unsigned char)token[0] : -1;
    const int32_t added = lucid_vocab_find(&tokenizer->added.vocab, token, n_bytes);
    return added >= 0 ? added : lucid_vocab_find(&tokenizer->bpe.vocab, token, n_bytes);
}

const char *lucid_tokenizer_token(const lucid_tokenizer *tokenizer, int32_t id, size_t *n_bytes) {
    if (tokenizer->bytes) {
        *n_bytes = 1;
        return id >= 0 && id < 256 ? tokenizer->byte_spellings[id] : NULL;
    }
    const char *added = lucid_vocab_string(&tokenizer->added.vocab, id, n_bytes);
    return added ? added : lucid_vocab_string(&tokenizer->bpe.vocab, id, n_bytes);
}

bool lucid_tokenizer_is_special(const lucid_tokenizer *tokenizer, int32_t id) {
    const lucid_added_token *token = lucid_added_find(&tokenizer->added, id);
    return token && token->special;
}

int32_t lucid_tokenizer_bos(const lucid_tokenizer *tokenizer) {
    return tokenizer->bos;
}

int32_t lucid_tokenizer_eos(const lucid_tokenizer *tokenizer) {
    return tokenizer->eos;
}

const lucid_tokens *lucid_tokenizer_template(const lucid_tokenizer *tokenizer, bool suffix) {
    return suffix ? &tokenizer->suffix : &tokenizer->prefix;
}

lucid_status lucid_tokens_reserve(lucid_tokens *tokens, int64_t extra) {
    if (extra <= tokens->capacity - tokens->n) return LUCID_OK;
    if (extra > INT64_MAX / 32 - tokens->n)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for %lld ids", (long long)extra);
    const int64_t need = tokens->n + extra, capacity = need + need / 2 + 16;
    int32_t *ids = realloc(tokens->ids, (size_t)capacity * sizeof *ids);
    if (!ids) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %lld ids", (long long)capacity);
    tokens->ids = ids;
    tokens->capacity = capacity;
    return LUCID_OK;
}

void lucid_tokens_free(lucid_tokens *tokens) {
    free(tokens->ids);
    *tokens = (lucid_tokens){0};
}

/* One call's working memory, so that the tokenizer itself stays as it is. */
typedef struct {
    const lucid_tokenizer *tokenizer;
    lucid_tokens *tokens;
    lucid_matcher *matcher;
    lucid_text valid, normalized, scratch;
    lucid_splitting splitting;
    lucid_bpe_work bpe;
} encoding;

static lucid_status push(lucid_tokens *tokens, int32_t id) {
    LUCID_TRY(lucid_tokens_reserve(tokens, 1));
    tokens->ids[tokens->n++] = id;
    return LUCID_OK;
}

static lucid_status take_pretoken(void *context, const char *pretoken, size_t n) {
    encoding *e = context;
    return lucid_bpe_encode(&e->tokenizer->bpe, &e->bpe, e->tokens, pretoken, n);
}

/* Text between the tokens that are looked for as it was: normalized, then between those looked for in that. */
static lucid_status encode_between(encoding *e, const char *text, size_t n, bool at_start) {
    lucid_added_part part;
    LUCID_TRY(lucid_normalizers_apply(&e->tokenizer->normalizers, e->matcher, &e->normalized, &e->scratch, text, n));
    lucid_added_scan scan = {.set = &e->tokenizer->added.normalized, .text = e->normalized.bytes, .n = e->normalized.n};
    while (lucid_added_scan_next(&scan, &part)) {
        if (part.id >= 0)
            LUCID_TRY(push(e->tokens, part.id));
        else
            LUCID_TRY(lucid_splitting_run(&e->splitting, e->normalized.bytes + part.begin, part.end - part.begin,
                                          at_start && part.begin == 0));
    }
    return LUCID_OK;
}

static lucid_status encode_text(encoding *e, const char *text, size_t n) {
    lucid_added_part part;
    if (!lucid_utf8_valid(text, n)) {
        LUCID_TRY(lucid_text_append_lossy(&e->valid, text, n));
        text = e->valid.bytes;
        n = e->valid.n;
    }
    LUCID_TRY(lucid_matcher_create(&e->matcher));
    e->splitting.matcher = e->matcher;
    lucid_added_scan scan = {.set = &e->tokenizer->added.raw, .text = text, .n = n};
    while (lucid_added_scan_next(&scan, &part)) {
        if (part.id >= 0)
            LUCID_TRY(push(e->tokens, part.id));
        else
            LUCID_TRY(encode_between(e, text + part.begin, part.end - part.begin, part.begin == 0));
    }
    return LUCID_OK;
}

static lucid_status encode_bytes(lucid_tokens *tokens, const char *text, size_t n) {
    LUCID_TRY(lucid_tokens_reserve(tokens, (int64_t)n));
    for (size_t i = 0; i < n; i++) tokens->ids[tokens->n++] = (unsigned char)text[i];
    return LUCID_OK;
}

static lucid_status encode_whole(encoding *e, const char *text, size_t n, bool add_special) {
    const lucid_tokenizer *t = e->tokenizer;
    for (int64_t i = 0; add_special && i < t->prefix.n; i++) LUCID_TRY(push(e->tokens, t->prefix.ids[i]));
    LUCID_TRY(t->bytes ? encode_bytes(e->tokens, text, n) : encode_text(e, text, n));
    for (int64_t i = 0; add_special && i < t->suffix.n; i++) LUCID_TRY(push(e->tokens, t->suffix.ids[i]));
    return LUCID_OK;
}

lucid_status lucid_tokenizer_encode(const lucid_tokenizer *tokenizer, lucid_tokens *tokens, const char *text,
                                    size_t n_bytes, bool add_special) {
    encoding e = {.tokenizer = tokenizer, .tokens = tokens};
    const int64_t n_before = tokens->n;
    if (n_bytes > MAX_TEXT_BYTES)
        return lucid_fail(LUCID_ERR_INPUT, "a text of %zu bytes is too long to encode at once: at most 1 GiB", n_bytes);
    e.splitting.splitters = &tokenizer->splitters;
    e.splitting.take = take_pretoken;
    e.splitting.context = &e;
    e.bpe.remember = n_bytes >= CACHE_FROM;
    const lucid_status status = encode_whole(&e, text, n_bytes, add_special);
    if (status) tokens->n = n_before;
    lucid_matcher_free(e.matcher);
    lucid_text_free(&e.valid);
    lucid_text_free(&e.normalized);
    lucid_text_free(&e.scratch);
    lucid_splitting_free(&e.splitting);
    lucid_bpe_work_free(&e.bpe);
    return status;
}
