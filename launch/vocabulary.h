/* Texts and ids: a model's tokenizer, and where its texts begin and end. */
#ifndef LUCID_LAUNCH_VOCABULARY_H
#define LUCID_LAUNCH_VOCABULARY_H

#include "launch/options.h"
#include "runtime/model/config.h"
#include "runtime/tokenizer/tokenizer.h"

typedef struct {
    lucid_tokenizer *tokenizer; /* NULL: the folder names none, and its tokens are no bytes */
    const char *folder;
    int vocab_size;
    lucid_tokens beginning; /* what --bos puts before a text; may be empty */
    int32_t prefix;         /* begins a text that has no beginning of its own but needs one: BOS, else EOS; -1: none */
    const lucid_model_config *config;
} launch_vocabulary;

/* options->model's tokenizer.json; without one a model of at least 256 tokens reads bytes. config must outlive it.
 * Errors: INPUT, USAGE where --bos yes finds no such token, IO, MEMORY. Local. Close also after a failure. */
lucid_status launch_vocabulary_open(launch_vocabulary *vocabulary, const launch_options *options,
                                    const lucid_model_config *config);
void launch_vocabulary_close(launch_vocabulary *vocabulary); /* fine on zeros */

/* Appends a text's ids, after the beginning if asked for. Errors: INPUT, in the name of `name`, where there is no
 * tokenizer or an id is not of the model's vocabulary; MEMORY. */
lucid_status launch_vocabulary_encode(lucid_tokens *tokens, const launch_vocabulary *vocabulary, const char *text,
                                      size_t n_bytes, bool begin, const char *name);

/* Errors: INPUT, in the name of `name`, where an id is not of the model's vocabulary. */
lucid_status launch_vocabulary_check(const launch_vocabulary *vocabulary, const int32_t *ids, int64_t n,
                                     const char *name);

/* Ends a text: config's eos_token_id, else the tokenizer's. */
bool launch_vocabulary_ends(const launch_vocabulary *vocabulary, int32_t id);

/* Reads a whole file (n_bytes, at most 1 GiB); a NUL follows its text, which is to be freed. Errors: IO, INPUT where it
 * is empty, longer, or no file that ends. */
lucid_status launch_text_read(char **text, size_t *n_bytes, const char *path);

/* Whole numbers 0..2^31-1 separated by white space. Errors: INPUT naming file and position. */
lucid_status launch_ids_read(lucid_tokens *tokens, const char *path);

#endif
