/* Fuzzes the reader of tokenizer.json files and what it makes: the input is such a file up to the first byte 0xFF,
 * which JSON never has, and a text after it. Whatever is accepted must encode to ids that it has, or say why not, and
 * decode them to valid UTF-8. */
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(bool condition) {
    if (!condition) abort();
}

static void check_decoding(const lucid_tokenizer *tokenizer, const lucid_tokens *tokens, bool skip_special) {
    lucid_decoding *decoding;
    const char *text;
    size_t n;
    require(lucid_decoding_open(&decoding, tokenizer, skip_special) == LUCID_OK);
    for (int64_t i = 0; i < tokens->n; i++) {
        if (lucid_decoding_next(decoding, tokens->ids[i], &text, &n)) break; /* a decoder's pattern may give up */
        require(lucid_utf8_valid(text, n));
    }
    require(lucid_decoding_finish(decoding, &text, &n) == LUCID_OK && lucid_utf8_valid(text, n));
    lucid_decoding_close(decoding);
}

static void check_tokenizer(const lucid_tokenizer *tokenizer, const char *text, size_t n) {
    lucid_tokens tokens = {0};
    size_t length;
    if (lucid_tokenizer_encode(tokenizer, &tokens, text, n, true)) require(tokens.n == 0);
    for (int64_t i = 0; i < tokens.n; i++) {
        require(tokens.ids[i] < lucid_tokenizer_size(tokenizer));
        const char *token = lucid_tokenizer_token(tokenizer, tokens.ids[i], &length);
        require(token && lucid_tokenizer_id(tokenizer, token, length) == tokens.ids[i]);
    }
    check_decoding(tokenizer, &tokens, false);
    check_decoding(tokenizer, &tokens, true);
    lucid_tokens_free(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    const uint8_t *end = n ? memchr(bytes, 0xFF, n) : NULL;
    const size_t json_bytes = end ? (size_t)(end - bytes) : n;
    lucid_tokenizer *tokenizer;
    if (json_bytes == 0)
        require(lucid_tokenizer_bytes(&tokenizer) == LUCID_OK);
    else if (lucid_tokenizer_parse(&tokenizer, (const char *)bytes, json_bytes, "fuzz"))
        return 0;
    check_tokenizer(tokenizer, end ? (const char *)end + 1 : "", end ? n - json_bytes - 1 : 0);
    lucid_tokenizer_close(tokenizer);
    return 0;
}
