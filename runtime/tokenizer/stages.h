/* What happens to a text before its merges: normalizers change all of it, splitters cut it into pre-tokens. Both are
 * lists of elementary stages, to which a file's components are broken down when it is read. */
#ifndef LUCID_RUNTIME_TOKENIZER_STAGES_H
#define LUCID_RUNTIME_TOKENIZER_STAGES_H

#include "runtime/tokenizer/regex.h"

#define LUCID_MAX_STAGES 32

typedef enum {
    LUCID_NORMALIZE_UNICODE, /* form */
    LUCID_NORMALIZE_LOWERCASE,
    LUCID_NORMALIZE_PREPEND, /* content, before a text that is not empty */
    LUCID_NORMALIZE_REPLACE, /* regex by content */
} lucid_normalizer_kind;

typedef struct {
    lucid_normalizer_kind kind;
    int form; /* utf8proc's options */
    lucid_regex *regex;
    lucid_text content;
} lucid_normalizer;

typedef struct {
    lucid_normalizer stages[LUCID_MAX_STAGES];
    int n;
} lucid_normalizers;

lucid_status lucid_normalizers_read(lucid_normalizers *normalizers, const json_t *object, const char *where);
void lucid_normalizers_free(lucid_normalizers *normalizers);
/* out = text, normalized; scratch is clobbered. */
lucid_status lucid_normalizers_apply(const lucid_normalizers *normalizers, lucid_matcher *matcher, lucid_text *out,
                                     lucid_text *scratch, const char *text, size_t n);

typedef enum {
    LUCID_SPLIT_PREFIX,  /* content before a piece that does not begin with it */
    LUCID_SPLIT_REPLACE, /* regex by content */
    LUCID_SPLIT_CUT,     /* cut at the matches of regex */
    LUCID_SPLIT_BYTES,   /* every byte becomes GPT-2's character for it */
} lucid_splitter_kind;

/* What becomes of a match where a text is cut. */
typedef enum {
    LUCID_CUT_REMOVED,
    LUCID_CUT_ISOLATED,
    LUCID_CUT_MERGED_WITH_PREVIOUS,
    LUCID_CUT_MERGED_WITH_NEXT,
    LUCID_CUT_CONTIGUOUS
} lucid_cut;

typedef struct {
    lucid_splitter_kind kind;
    lucid_regex *regex;
    lucid_text content;
    lucid_cut cut;
    bool invert;     /* what does not match counts as the match */
    bool first_only; /* PREFIX: only at the beginning of the whole text */
} lucid_splitter;

typedef struct {
    lucid_splitter stages[LUCID_MAX_STAGES];
    int n;
} lucid_splitters;

lucid_status lucid_splitters_read(lucid_splitters *splitters, const json_t *object, const char *where);
void lucid_splitters_free(lucid_splitters *splitters);

/* Cuts text; calls take with each pre-token, in order. */
typedef lucid_status (*lucid_pretoken_taker)(void *context, const char *pretoken, size_t n);
typedef struct {
    const lucid_splitters *splitters;
    lucid_matcher *matcher;
    lucid_text scratch[LUCID_MAX_STAGES]; /* one a stage */
    lucid_pretoken_taker take;
    void *context;
} lucid_splitting;
/* at_start: nothing of the whole text is before it. */
lucid_status lucid_splitting_run(lucid_splitting *splitting, const char *text, size_t n, bool at_start);
void lucid_splitting_free(lucid_splitting *splitting);

/* Metaspace's members, which its decoder has too. */
typedef enum { LUCID_PREPEND_NEVER, LUCID_PREPEND_FIRST, LUCID_PREPEND_ALWAYS } lucid_prepend_scheme;
typedef struct {
    lucid_json_text replacement;
    lucid_prepend_scheme scheme;
    bool split;
} lucid_metaspace;
lucid_status lucid_metaspace_read(lucid_metaspace *metaspace, const json_t *object, const char *where);

/* GPT-2's character for a byte, and back (-1: none). */
int32_t lucid_byte_to_codepoint(unsigned char byte);
int lucid_codepoint_to_byte(int32_t codepoint);

#endif
