/* Decoders: tokens' spellings to text. */
#ifndef LUCID_RUNTIME_TOKENIZER_DECODERS_H
#define LUCID_RUNTIME_TOKENIZER_DECODERS_H

#include "runtime/tokenizer/stages.h"

typedef enum {
    LUCID_DECODE_JOIN,          /* a space before every token but the first: what is done without a decoder */
    LUCID_DECODE_BYTES,         /* GPT-2's characters to bytes */
    LUCID_DECODE_METASPACE,     /* content to a space, or in the first token to nothing */
    LUCID_DECODE_REPLACE,       /* regex by content */
    LUCID_DECODE_BYTE_FALLBACK, /* <0xE4> to its byte */
    LUCID_DECODE_STRIP,         /* up to start and stop of content at the ends of each token */
    LUCID_DECODE_STRIP_TEXT,    /* up to start of content at the beginning of the text */
} lucid_decoder_kind;

typedef struct {
    lucid_decoder_kind kind;
    lucid_regex *regex;
    lucid_text content;
    bool keep_first; /* METASPACE: the first token is as the others */
    int32_t start, stop;
} lucid_decoder;

typedef struct {
    lucid_decoder stages[LUCID_MAX_STAGES];
    int n;
    bool fused;         /* while reading: tokens are no longer told apart */
    bool byte_fallback; /* there is such a stage: each byte that is no text comes out by itself */
} lucid_decoders;

lucid_status lucid_decoders_read(lucid_decoders *decoders, const json_t *object, const char *where);
void lucid_decoders_free(lucid_decoders *decoders);

#endif
