/* Tokenizers: `tokenizer.json` files with a BPE model, and plain bytes for models that name none.
 *
 * Both families are read: Llama-2 style (Prepend and Replace, or Metaspace; byte_fallback) and GPT-2 / Llama-3 style
 * (ByteLevel, regex splits). The ids are those of Hugging Face's `tokenizers`. What a file says and this reader does
 * not know is refused by name, at open. `truncation` and `padding` alone are passed over: they belong to a batch that
 * somebody once encoded, and transformers drops them as well.
 *
 * Text may hold any bytes. Where it is not UTF-8, each maximal ill-formed part counts as one U+FFFD, as decoders on the
 * web do; the byte tokenizer takes such bytes as they are.
 *
 * A tokenizer does not change after open and may be shared by threads; a decoding belongs to one. All functions are
 * Local.
 */
#ifndef LUCID_RUNTIME_TOKENIZER_TOKENIZER_H
#define LUCID_RUNTIME_TOKENIZER_TOKENIZER_H

#include "comm/comm.h"

typedef struct lucid_tokenizer lucid_tokenizer;

/* Reads a tokenizer.json and, for bos and eos, a tokenizer_config.json beside it. Errors: IO, INPUT, MEMORY. */
lucid_status lucid_tokenizer_open(lucid_tokenizer **tokenizer, const char *path);
/* The same from memory; `name` stands for the file in failures. */
lucid_status lucid_tokenizer_parse(lucid_tokenizer **tokenizer, const char *json, size_t n_bytes, const char *name);
/* 256 ids, one for each byte; no special tokens. */
lucid_status lucid_tokenizer_bytes(lucid_tokenizer **tokenizer);
void lucid_tokenizer_close(lucid_tokenizer *tokenizer); /* NULL is fine */

/* One more than the highest id. */
int32_t lucid_tokenizer_size(const lucid_tokenizer *tokenizer);
/* The id of a token spelled as in the file, added ones included, or -1. */
int32_t lucid_tokenizer_id(const lucid_tokenizer *tokenizer, const char *token, size_t n_bytes);
/* A token's spelling, or NULL where no token has the id. */
const char *lucid_tokenizer_token(const lucid_tokenizer *tokenizer, int32_t id, size_t *n_bytes);
bool lucid_tokenizer_is_special(const lucid_tokenizer *tokenizer, int32_t id);
/* -1 where neither file names one. config.json's ids, where a model has them, come first. */
int32_t lucid_tokenizer_bos(const lucid_tokenizer *tokenizer);
int32_t lucid_tokenizer_eos(const lucid_tokenizer *tokenizer);

/* Ids that grow. Starts as {0}. */
typedef struct {
    int32_t *ids;
    int64_t n, capacity;
} lucid_tokens;

/* Makes room for `extra` more. */
lucid_status lucid_tokens_reserve(lucid_tokens *tokens, int64_t extra);
void lucid_tokens_free(lucid_tokens *tokens);

/* What add_special puts before (or, with `suffix`, after) every text: the file's template. */
const lucid_tokens *lucid_tokenizer_template(const lucid_tokenizer *tokenizer, bool suffix);

/* Appends the ids of text (n_bytes, at most 1 GiB). Special tokens spelled in the text are recognised, as the file
 * defines them; add_special adds the template's. On an error the ids are as they were. Errors: INPUT, MEMORY. */
lucid_status lucid_tokenizer_encode(const lucid_tokenizer *tokenizer, lucid_tokens *tokens, const char *text,
                                    size_t n_bytes, bool add_special);

/* Ids to text, one at a time: what comes out is always whole UTF-8 characters; bytes that can never become one come out
 * as U+FFFD. The first token may lose a leading space, as the file's decoder says: to continue a prompt, pass its ids
 * first. */
typedef struct lucid_decoding lucid_decoding;

/* The tokenizer must outlive it. skip_special: special tokens come out as nothing. */
lucid_status lucid_decoding_open(lucid_decoding **decoding, const lucid_tokenizer *tokenizer, bool skip_special);
void lucid_decoding_close(lucid_decoding *decoding); /* NULL is fine */
/* text (n_bytes) is valid until the next call, and may be empty. Ids that no token has come out as nothing. */
lucid_status lucid_decoding_next(lucid_decoding *decoding, int32_t id, const char **text, size_t *n_bytes);
/* What was held back; after it the decoding is as new. */
lucid_status lucid_decoding_finish(lucid_decoding *decoding, const char **text, size_t *n_bytes);

#endif
