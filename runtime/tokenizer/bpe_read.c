#include "runtime/tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>

static lucid_status read_vocab(lucid_bpe *bpe, const json_t *model, const char *where) {
    const json_t *vocab = json_object_get(model, "vocab");
    const char *token;
    json_t *value;
    if (!json_is_object(vocab)) return lucid_fail(LUCID_ERR_INPUT, "%s: 'vocab' is no object", where);
    json_object_foreach((json_t *)vocab, token, value) {
        int32_t id;
        LUCID_TRY(lucid_json_id(&id, value, where));
        LUCID_TRY(lucid_vocab_add(&bpe->vocab, token, strlen(token), id, where));
    }
    return bpe->vocab.n_tokens ? LUCID_OK : lucid_fail(LUCID_ERR_INPUT, "%s: 'vocab' is empty", where);
}

/* A merge is "a b" or ["a", "b"]. */
static lucid_status split_merge(lucid_json_text part[2], const json_t *merge, size_t rank, const char *where) {
    if (json_is_string(merge)) {
        const char *bytes = json_string_value(merge);
        const size_t n = json_string_length(merge);
        const char *space = memchr(bytes, ' ', n);
        if (space && !memchr(space + 1, ' ', n - (size_t)(space + 1 - bytes))) {
            part[0] = (lucid_json_text){bytes, (size_t)(space - bytes)};
            part[1] = (lucid_json_text){space + 1, n - (size_t)(space + 1 - bytes)};
            return LUCID_OK;
        }
    } else if (json_array_size(merge) == 2) {
        const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
        part[0] = (lucid_json_text){json_string_value(a), json_string_length(a)};
        part[1] = (lucid_json_text){json_string_value(b), json_string_length(b)};
        if (part[0].bytes && part[1].bytes) return LUCID_OK;
    }
    return lucid_fail(LUCID_ERR_INPUT, "%s: merge %zu is not two strings", where, rank);
}

static lucid_status find_part(int32_t *id, const lucid_bpe *bpe, const char *bytes, size_t n, size_t rank,
                              const char *where) {
    *id = lucid_vocab_find(&bpe->vocab, bytes, n);
    if (*id >= 0) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: merge %zu: '%s' is not in 'vocab'", where, rank,
                      lucid_excerpt_of(bytes, n).text);
}

/* The id of the token's first or last character, or -1. */
static int32_t edge_character(const lucid_bpe *bpe, lucid_json_text token, bool last) {
    int32_t codepoint;
    if (token.n == 0) return -1;
    if (last) {
        const size_t at = lucid_utf8_before(token.bytes, token.n);
        return lucid_vocab_find(&bpe->vocab, token.bytes + at, token.n - at);
    }
    return lucid_vocab_find(&bpe->vocab, token.bytes, (size_t)lucid_utf8_next(token.bytes, token.n, &codepoint));
}

/* A symbol that is no single character, a byte's or the unknown one, makes the joints say too little once it merges. */
static bool is_odd_symbol(const lucid_bpe *bpe, int32_t id, lucid_json_text token) {
    int32_t codepoint;
    if (token.n && (size_t)lucid_utf8_next(token.bytes, token.n, &codepoint) == token.n) return false;
    if (id == bpe->unk) return true;
    for (int i = 0; bpe->byte_fallback && token.n == strlen("<0x00>") && i < 256; i++) {
        if (bpe->byte_ids[i] == id) return true;
    }
    return false;
}

static lucid_status read_merge(lucid_bpe *bpe, lucid_text *joined, const json_t *merge, size_t rank,
                               const char *where) {
    lucid_json_text part[2] = {{0}, {0}};
    int32_t a, b;
    LUCID_TRY(split_merge(part, merge, rank, where));
    joined->n = 0;
    LUCID_TRY(lucid_text_append(joined, part[0].bytes, part[0].n));
    LUCID_TRY(lucid_text_append(joined, part[1].bytes, part[1].n));
    LUCID_TRY(find_part(&a, bpe, part[0].bytes, part[0].n, rank, where));
    LUCID_TRY(find_part(&b, bpe, part[1].bytes, part[1].n, rank, where));
    LUCID_TRY(find_part(&bpe->merged[rank], bpe, joined->n ? joined->bytes : "", joined->n, rank, where));
    LUCID_TRY(lucid_pairs_set(&bpe->merges, a, b, (uint32_t)rank));
    const int32_t left = edge_character(bpe, part[0], true), right = edge_character(bpe, part[1], false);
    if (left >= 0 && right >= 0) LUCID_TRY(lucid_pairs_set(&bpe->joints, left, right, 0));
    if (is_odd_symbol(bpe, a, part[0]) || is_odd_symbol(bpe, b, part[1])) bpe->cuts_at_joints = false;
    return LUCID_OK;
}

static lucid_status read_merges(lucid_bpe *bpe, const json_t *model, const char *where) {
    const json_t *merges;
    lucid_text joined = {0};
    lucid_status status = LUCID_OK;
    LUCID_TRY(lucid_json_array(&merges, model, "merges", where));
    const size_t n = json_array_size(merges);
    if (n > LUCID_MAX_TOKEN_ID) return lucid_fail(LUCID_ERR_INPUT, "%s: %zu merges are too many", where, n);
    bpe->merged = malloc((n + 1) * sizeof *bpe->merged);
    if (!bpe->merged) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu merges", n);
    bpe->n_merges = (int32_t)n;
    for (size_t i = 0; i < n && !status; i++) status = read_merge(bpe, &joined, json_array_get(merges, i), i, where);
    lucid_text_free(&joined);
    return status;
}

static lucid_status find_unk(lucid_bpe *bpe, const json_t *model, const char *where) {
    lucid_json_text unk;
    LUCID_TRY(lucid_json_string(&unk, model, "unk_token", true, where));
    bpe->unk = unk.bytes ? lucid_vocab_find(&bpe->vocab, unk.bytes, unk.n) : -1;
    if (!unk.bytes || bpe->unk >= 0) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: unk_token '%s' is not in 'vocab'", where,
                      lucid_excerpt_of(unk.bytes, unk.n).text);
}

static lucid_status refuse_affixes(const json_t *model, const char *where) {
    static const char *const keys[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        lucid_json_text affix;
        LUCID_TRY(lucid_json_string(&affix, model, keys[i], true, where));
        if (affix.n) return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is not known but empty", where, keys[i]);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout && !json_is_null(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return lucid_fail(LUCID_ERR_INPUT, "%s: 'dropout' is not 0: the ids would be random", where);
    return LUCID_OK;
}

static void index_symbols(lucid_bpe *bpe) {
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        bpe->byte_ids[byte] =
            lucid_vocab_find(&bpe->vocab, name, (size_t)snprintf(name, sizeof name, "<0x%02X>", byte));
    }
    for (int c = 0; c < 0x800; c++) {
        const char bytes[2] = {(char)(c < 0x80 ? c : 0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        bpe->short_ids[c] = lucid_vocab_find(&bpe->vocab, bytes, c < 0x80 ? 1 : 2);
    }
}

lucid_status lucid_bpe_read(lucid_bpe *bpe, const json_t *model, const char *where) {
    lucid_json_text type;
    LUCID_TRY(lucid_json_known(model,
                               "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
                               "byte_fallback ignore_merges vocab merges",
                               where));
    LUCID_TRY(lucid_json_string(&type, model, "type", true, where)); /* old files leave it out */
    if (type.bytes && strcmp(type.bytes, "BPE") != 0) return lucid_json_unknown(type.bytes, where);
    LUCID_TRY(refuse_affixes(model, where));
    LUCID_TRY(lucid_json_bool(&bpe->fuse_unk, model, "fuse_unk", false, where));
    LUCID_TRY(lucid_json_bool(&bpe->byte_fallback, model, "byte_fallback", false, where));
    LUCID_TRY(lucid_json_bool(&bpe->ignore_merges, model, "ignore_merges", false, where));
    LUCID_TRY(read_vocab(bpe, model, where));
    LUCID_TRY(find_unk(bpe, model, where));
    index_symbols(bpe);
    bpe->cuts_at_joints = true;
    return read_merges(bpe, model, where);
}

void lucid_bpe_free(lucid_bpe *bpe) {
    lucid_vocab_free(&bpe->vocab);
    lucid_pairs_free(&bpe->merges);
    lucid_pairs_free(&bpe->joints);
    free(bpe->merged);
}
