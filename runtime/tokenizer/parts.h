/* What a tokenizer is made of; for its own files alone. */
#ifndef LUCID_RUNTIME_TOKENIZER_PARTS_H
#define LUCID_RUNTIME_TOKENIZER_PARTS_H

#include "runtime/tokenizer/added.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/decoders.h"
#include "runtime/tokenizer/stages.h"
#include "runtime/tokenizer/tokenizer.h"

struct lucid_tokenizer {
    bool bytes; /* ids are bytes: of the rest only bos, eos and the next line are used */
    char byte_spellings[256][2];
    lucid_bpe bpe;
    lucid_added added;
    lucid_normalizers normalizers;
    lucid_splitters splitters;
    lucid_decoders decoders;
    lucid_tokens prefix, suffix;
    int32_t bos, eos;
};

/* Fills tokenizer->prefix and suffix; the tokens are read before. */
lucid_status lucid_template_read(lucid_tokenizer *tokenizer, const json_t *object, const char *where);

#endif
