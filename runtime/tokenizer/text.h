/* Bytes that grow, and UTF-8, for the tokenizer's parts. */
#ifndef LUCID_RUNTIME_TOKENIZER_TEXT_H
#define LUCID_RUNTIME_TOKENIZER_TEXT_H

#include "comm/comm.h"

/* Starts as {0}. */
typedef struct {
    char *bytes;
    size_t n, capacity;
} lucid_text;

lucid_status lucid_text_reserve(lucid_text *text, size_t extra);
lucid_status lucid_text_append(lucid_text *text, const char *bytes, size_t n);
/* The UTF-8 of a codepoint. */
lucid_status lucid_text_append_codepoint(lucid_text *text, int32_t codepoint);
/* Appends with U+FFFD for each maximal ill-formed part. */
lucid_status lucid_text_append_lossy(lucid_text *text, const char *bytes, size_t n);
void lucid_text_free(lucid_text *text);

/* Looks at the character that begins at s: its length when it is whole, 0 when n bytes are too few to tell, -k when the
 * first k bytes are a maximal ill-formed part. */
int lucid_utf8_next(const char *s, size_t n, int32_t *codepoint);
/* Where the character that ends before s + at begins; the text is valid and at > 0. */
size_t lucid_utf8_before(const char *s, size_t at);
size_t lucid_utf8_ascii_prefix(const char *s, size_t n);
bool lucid_utf8_valid(const char *s, size_t n);

bool lucid_codepoint_is_space(int32_t codepoint); /* Unicode's White_Space */
bool lucid_codepoint_is_word(int32_t codepoint);  /* \w of Rust's regex crate */

#endif
