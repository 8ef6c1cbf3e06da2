/* Regular expressions as tokenizer.json files write them, and what a text holds of them.
 *
 * The files are written for Oniguruma. PCRE2 runs them, after a translation of what the two spell alike and mean
 * differently (\s, \w, \h, \v, \b, scripts); what cannot be translated is refused. */
#ifndef LUCID_RUNTIME_TOKENIZER_REGEX_H
#define LUCID_RUNTIME_TOKENIZER_REGEX_H

#include "runtime/tokenizer/json.h"
#include "runtime/tokenizer/text.h"

typedef struct lucid_regex lucid_regex;     /* immutable, shared by threads */
typedef struct lucid_matcher lucid_matcher; /* what one thread needs to match any of them */

lucid_status lucid_regex_compile(lucid_regex **regex, const char *pattern, size_t n, const char *where);
/* Matches the string itself. */
lucid_status lucid_regex_literal(lucid_regex **regex, const char *string, size_t n, const char *where);
/* From {"String": ...} or {"Regex": ...}, the object's member "pattern". */
lucid_status lucid_regex_read(lucid_regex **regex, const json_t *object, const char *where);
/* A component that replaces what its "pattern" matches by its "content". */
lucid_status lucid_replace_read(lucid_regex **regex, lucid_text *content, const json_t *object, const char *where);
void lucid_regex_free(lucid_regex *regex); /* NULL is fine */

lucid_status lucid_matcher_create(lucid_matcher **matcher);
void lucid_matcher_free(lucid_matcher *matcher); /* NULL is fine */

/* The matches in a valid text from left to right, none overlapping, no empty one right after another. */
typedef struct {
    const lucid_regex *regex;
    lucid_matcher *matcher;
    const char *text;
    size_t n;
    size_t from;     /* where the search goes on */
    size_t last_end; /* of the last match, SIZE_MAX before the first */
} lucid_regex_scan;

static inline lucid_regex_scan lucid_regex_scan_begin(const lucid_regex *regex, lucid_matcher *matcher,
                                                      const char *text, size_t n) {
    return (lucid_regex_scan){regex, matcher, text, n, 0, SIZE_MAX};
}

/* found: bytes begin..end-1 match. Errors: INPUT when the pattern needs too many steps on this text. */
lucid_status lucid_regex_scan_next(lucid_regex_scan *scan, bool *found, size_t *begin, size_t *end);

/* Appends text with every match replaced. */
lucid_status lucid_regex_replace(lucid_text *out, const lucid_regex *regex, lucid_matcher *matcher, const char *text,
                                 size_t n, const lucid_text *content);

/* Oniguruma's syntax in PCRE2's. Errors: INPUT, naming what is not known and where. */
lucid_status lucid_regex_translate(lucid_text *out, const char *pattern, size_t n, const char *where);

#endif
