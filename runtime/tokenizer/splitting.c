/* Running the splitters: depth first, so that a long text never exists as a list of its pieces. */
#include "runtime/tokenizer/stages.h"

#include <string.h>

typedef struct {
    const char *bytes;
    size_t n;
    bool at_start; /* of the whole text */
} piece;

static lucid_status run(lucid_splitting *splitting, int k, piece in);

static lucid_status run_prefix(lucid_splitting *splitting, int k, piece in) {
    const lucid_splitter *stage = &splitting->splitters->stages[k];
    const lucid_text *prefix = &stage->content;
    const bool begins = in.n >= prefix->n && memcmp(in.bytes, prefix->bytes, prefix->n) == 0;
    if (begins || (stage->first_only && !in.at_start)) return run(splitting, k + 1, in);
    lucid_text *out = &splitting->scratch[k];
    out->n = 0;
    LUCID_TRY(lucid_text_append(out, prefix->bytes, prefix->n));
    LUCID_TRY(lucid_text_append(out, in.bytes, in.n));
    return run(splitting, k + 1, (piece){out->bytes, out->n, in.at_start});
}

static lucid_status run_replace(lucid_splitting *splitting, int k, piece in) {
    const lucid_splitter *stage = &splitting->splitters->stages[k];
    lucid_text *out = &splitting->scratch[k];
    out->n = 0;
    LUCID_TRY(lucid_regex_replace(out, stage->regex, splitting->matcher, in.bytes, in.n, &stage->content));
    return run(splitting, k + 1, (piece){out->bytes, out->n, in.at_start});
}

static lucid_status run_bytes(lucid_splitting *splitting, int k, piece in) {
    lucid_text *out = &splitting->scratch[k];
    out->n = 0;
    LUCID_TRY(lucid_text_reserve(out, 2 * in.n));
    for (size_t i = 0; i < in.n; i++) {
        const int32_t codepoint = lucid_byte_to_codepoint((unsigned char)in.bytes[i]);
        if (codepoint >= 0x80) out->bytes[out->n++] = (char)(0xC0 | codepoint >> 6);
        out->bytes[out->n++] = (char)(codepoint >= 0x80 ? 0x80 | (codepoint & 0x3F) : codepoint);
    }
    return run(splitting, k + 1, (piece){out->bytes, out->n, in.at_start});
}

/* A cut hands on what it holds as soon as the next part does not join it. */
typedef struct {
    lucid_splitting *splitting;
    int k;
    piece in;
    size_t begin, end; /* held */
    bool was_match;
} cutting;

static lucid_status hand_on(cutting *c) {
    if (c->begin == c->end) return LUCID_OK;
    return run(c->splitting, c->k + 1,
               (piece){c->in.bytes + c->begin, c->end - c->begin, c->in.at_start && c->begin == 0});
}

static bool joins(lucid_cut cut, bool is_match, bool was_match) {
    switch (cut) {
    case LUCID_CUT_MERGED_WITH_PREVIOUS:
        return is_match && !was_match;
    case LUCID_CUT_MERGED_WITH_NEXT:
        return !is_match && was_match;
    case LUCID_CUT_CONTIGUOUS:
        return is_match == was_match;
    default:
        return false;
    }
}

/* The part up to `end`, which is a match or lies between two. */
static lucid_status cut_part(cutting *c, size_t end, bool matched) {
    const lucid_splitter *stage = &c->splitting->splitters->stages[c->k];
    const bool is_match = matched != stage->invert;
    if (!joins(stage->cut, is_match, c->was_match)) {
        LUCID_TRY(hand_on(c));
        c->begin = c->end;
    }
    c->end = end;
    if (is_match && stage->cut == LUCID_CUT_REMOVED) c->begin = end;
    c->was_match = is_match;
    return LUCID_OK;
}

static lucid_status run_cut(lucid_splitting *splitting, int k, piece in) {
    cutting c = {.splitting = splitting, .k = k, .in = in};
    lucid_regex_scan scan =
        lucid_regex_scan_begin(splitting->splitters->stages[k].regex, splitting->matcher, in.bytes, in.n);
    size_t begin, end;
    for (bool found;;) {
        LUCID_TRY(lucid_regex_scan_next(&scan, &found, &begin, &end));
        if (!found) break;
        if (begin != c.end) LUCID_TRY(cut_part(&c, begin, false));
        LUCID_TRY(cut_part(&c, end, true));
    }
    if (c.end != in.n) LUCID_TRY(cut_part(&c, in.n, false));
    return hand_on(&c);
}

static lucid_status run(lucid_splitting *splitting, int k, piece in) {
    if (in.n == 0) return LUCID_OK;
    if (k == splitting->splitters->n) return splitting->take(splitting->context, in.bytes, in.n);
    switch (splitting->splitters->stages[k].kind) {
    case LUCID_SPLIT_PREFIX:
        return run_prefix(splitting, k, in);
    case LUCID_SPLIT_REPLACE:
        return run_replace(splitting, k, in);
    case LUCID_SPLIT_CUT:
        return run_cut(splitting, k, in);
    case LUCID_SPLIT_BYTES:
        return run_bytes(splitting, k, in);
    }
    return LUCID_ERR_INTERNAL;
}

lucid_status lucid_splitting_run(lucid_splitting *splitting, const char *text, size_t n, bool at_start) {
    return run(splitting, 0, (piece){text, n, at_start});
}

void lucid_splitting_free(lucid_splitting *splitting) {
    for (int k = 0; k < LUCID_MAX_STAGES; k++) lucid_text_free(&splitting->scratch[k]);
}
