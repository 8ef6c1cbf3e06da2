/* Decoding, one token at a time: its spelling goes through the decoders into a buffer, of which all that is whole UTF-8
 * goes out. */
#include "runtime/tokenizer/parts.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct lucid_decoding {
    const lucid_tokenizer *tokenizer;
    bool skip_special;
    bool started;                       /* a token was decoded */
    int32_t stripped[LUCID_MAX_STAGES]; /* by STRIP_TEXT: so far, or INT32_MAX when the text has begun */
    lucid_matcher *matcher;
    lucid_text token, scratch; /* the token between stages */
    lucid_text held;           /* bytes that are no whole character yet */
    lucid_text out;            /* what the last call gave */
};

lucid_status lucid_decoding_open(lucid_decoding **decoding, const lucid_tokenizer *tokenizer, bool skip_special) {
    lucid_decoding *made = calloc(1, sizeof *made);
    if (!made) return lucid_fail(LUCID_ERR_MEMORY, "no memory to decode");
    made->tokenizer = tokenizer;
    made->skip_special = skip_special;
    const lucid_status status = lucid_matcher_create(&made->matcher);
    if (status) {
        lucid_decoding_close(made);
        return status;
    }
    *decoding = made;
    return LUCID_OK;
}

void lucid_decoding_close(lucid_decoding *decoding) {
    if (!decoding) return;
    lucid_matcher_free(decoding->matcher);
    lucid_text_free(&decoding->token);
    lucid_text_free(&decoding->scratch);
    lucid_text_free(&decoding->held);
    lucid_text_free(&decoding->out);
    free(decoding);
}

/* A token with any other character than GPT-2's 256, an added one, stands for itself. */
static lucid_status decode_bytes(lucid_text *out, const lucid_text *in) {
    int32_t codepoint = 0;
    LUCID_TRY(lucid_text_reserve(out, in->n));
    for (size_t at = 0; at < in->n;) {
        at += (size_t)lucid_utf8_next(in->bytes + at, in->n - at, &codepoint);
        const int byte = lucid_codepoint_to_byte(codepoint);
        if (byte < 0) {
            out->n = 0;
            return lucid_text_append(out, in->bytes, in->n);
        }
        out->bytes[out->n++] = (char)byte;
    }
    return LUCID_OK;
}

static bool has_at(const lucid_text *text, size_t at, const lucid_text *what) {
    return text->n - at >= what->n && memcmp(text->bytes + at, what->bytes, what->n) == 0;
}

static lucid_status decode_metaspace(lucid_text *out, const lucid_text *in, const lucid_decoder *stage, bool first) {
    for (size_t at = 0; at < in->n;) {
        if (has_at(in, at, &stage->content)) {
            if (!first || stage->keep_first) LUCID_TRY(lucid_text_append(out, " ", 1));
            at += stage->content.n;
        } else {
            LUCID_TRY(lucid_text_append(out, in->bytes + at++, 1));
        }
    }
    return LUCID_OK;
}

static lucid_status decode_byte_fallback(lucid_text *out, const lucid_text *in) {
    const char *s = in->bytes;
    if (in->n != strlen("<0x00>") || memcmp(s, "<0x", 3) != 0 || s[5] != '>' || !isxdigit((unsigned char)s[3]) ||
        !isxdigit((unsigned char)s[4]))
        return lucid_text_append(out, in->bytes, in->n);
    const char byte = (char)strtol((const char[]){s[3], s[4], '\0'}, NULL, 16);
    return lucid_text_append(out, &byte, 1);
}

static lucid_status decode_strip(lucid_text *out, const lucid_text *in, const lucid_decoder *stage) {
    const size_t n = stage->content.n;
    size_t begin = 0, end = in->n;
    for (int32_t i = 0; i < stage->start && has_at(in, begin, &stage->content); i++) begin += n;
    for (int32_t i = 0; i < stage->stop && end >= begin + n && has_at(in, end - n, &stage->content); i++) end -= n;
    return lucid_text_append(out, in->bytes + begin, end - begin);
}

static lucid_status decode_strip_text(lucid_text *out, const lucid_text *in, const lucid_decoder *stage,
                                      int32_t *stripped) {
    size_t begin = 0;
    for (; *stripped < stage->start && begin < in->n && in->bytes[begin] == stage->content.bytes[0]; begin++)
        ++*stripped;
    if (begin < in->n) *stripped = INT32_MAX;
    return lucid_text_append(out, in->bytes + begin, in->n - begin);
}

static lucid_status decode_join(lucid_text *out, const lucid_text *in, bool first) {
    if (!first) LUCID_TRY(lucid_text_append(out, " ", 1));
    return lucid_text_append(out, in->bytes, in->n);
}

static lucid_status run_stage(lucid_decoding *d, int k, lucid_text *out, const lucid_text *in, bool first) {
    const lucid_decoder *stage = &d->tokenizer->decoders.stages[k];
    switch (stage->kind) {
    case LUCID_DECODE_JOIN:
        return decode_join(out, in, first);
    case LUCID_DECODE_BYTES:
        return decode_bytes(out, in);
    case LUCID_DECODE_METASPACE:
        return decode_metaspace(out, in, stage, first);
    case LUCID_DECODE_REPLACE:
        return lucid_regex_replace(out, stage->regex, d->matcher, in->bytes, in->n, &stage->content);
    case LUCID_DECODE_BYTE_FALLBACK:
        return decode_byte_fallback(out, in);
    case LUCID_DECODE_STRIP:
        return decode_strip(out, in, stage);
    case LUCID_DECODE_STRIP_TEXT:
        return decode_strip_text(out, in, stage, &d->stripped[k]);
    }
    return LUCID_ERR_INTERNAL;
}

static lucid_status run_stages(lucid_decoding *d) {
    const bool first = !d->started;
    d->started = true;
    for (int k = 0; k < d->tokenizer->decoders.n && d->token.n; k++) {
        d->scratch.n = 0;
        LUCID_TRY(run_stage(d, k, &d->scratch, &d->token, first));
        const lucid_text next = d->scratch;
        d->scratch = d->token;
        d->token = next;
    }
    return LUCID_OK;
}

/* U+FFFD for n bytes that are no text. */
static lucid_status put_replacement(lucid_decoding *d, size_t n) {
    for (size_t i = 0; i < (d->tokenizer->decoders.byte_fallback ? n : 1); i++)
        LUCID_TRY(lucid_text_append_codepoint(&d->out, 0xFFFD));
    return LUCID_OK;
}

/* Moves what is decided from held to out. */
static lucid_status release(lucid_decoding *d, bool at_end) {
    size_t at = 0;
    while (at < d->held.n) {
        int32_t codepoint;
        const size_t left = d->held.n - at;
        const int length = lucid_utf8_next(d->held.bytes + at, left, &codepoint);
        if (length == 0 && !at_end) break;
        const size_t taken = length > 0 ? (size_t)length : length < 0 ? (size_t)-length : left;
        if (length > 0)
            LUCID_TRY(lucid_text_append(&d->out, d->held.bytes + at, taken));
        else
            LUCID_TRY(put_replacement(d, taken));
        at += taken;
    }
    d->held.n -= at;
    if (d->held.n) memmove(d->held.bytes, d->held.bytes + at, d->held.n);
    return LUCID_OK;
}

static lucid_status give(lucid_decoding *d, const char **text, size_t *n_bytes) {
    LUCID_TRY(lucid_text_reserve(&d->out, 1));
    *text = d->out.bytes;
    *n_bytes = d->out.n;
    return LUCID_OK;
}

static lucid_status decode(lucid_decoding *d, const char *spelling, size_t n) {
    d->token.n = 0;
    LUCID_TRY(lucid_text_append(&d->token, spelling, n));
    if (!d->tokenizer->bytes) LUCID_TRY(run_stages(d));
    LUCID_TRY(lucid_text_append(&d->held, d->token.bytes, d->token.n));
    return release(d, false);
}

lucid_status lucid_decoding_next(lucid_decoding *decoding, int32_t id, const char **text, size_t *n_bytes) {
    size_t n;
    const char *spelling = lucid_tokenizer_token(decoding->tokenizer, id, &n);
    decoding->out.n = 0;
    if (spelling && !(decoding->skip_special && lucid_tokenizer_is_special(decoding->tokenizer, id)))
        LUCID_TRY(decode(decoding, spelling, n));
    return give(decoding, text, n_bytes);
}

lucid_status lucid_decoding_finish(lucid_decoding *decoding, const char **text, size_t *n_bytes) {
    decoding->out.n = 0;
    LUCID_TRY(release(decoding, true));
    decoding->started = false;
    memset(decoding->stripped, 0, sizeof decoding->stripped);
    return give(decoding, text, n_bytes);
}
