#include "runtime/tokenizer/added.h"

#include <stdlib.h>
#include <string.h>

static int compare_patterns(const lucid_text *a, const lucid_text *b) {
    const int order = memcmp(a->bytes, b->bytes, a->n < b->n ? a->n : b->n);
    return order ? order : (a->n > b->n) - (a->n < b->n);
}

static int by_pattern(const void *a, const void *b) {
    const lucid_added_token *x = *(const lucid_added_token *const *)a, *y = *(const lucid_added_token *const *)b;
    const int order = compare_patterns(&x->pattern, &y->pattern);
    return order ? order : x->order - y->order;
}

static int by_id(const void *a, const void *b) {
    const lucid_added_token *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static lucid_status read_flags(lucid_added_token *token, const json_t *object, const char *where) {
    LUCID_TRY(lucid_json_known(object, "id content single_word lstrip rstrip normalized special", where));
    LUCID_TRY(lucid_json_id(&token->id, json_object_get(object, "id"), where));
    LUCID_TRY(lucid_json_bool(&token->single_word, object, "single_word", -1, where));
    LUCID_TRY(lucid_json_bool(&token->lstrip, object, "lstrip", -1, where));
    LUCID_TRY(lucid_json_bool(&token->rstrip, object, "rstrip", -1, where));
    LUCID_TRY(lucid_json_bool(&token->normalized, object, "normalized", -1, where));
    return lucid_json_bool(&token->special, object, "special", -1, where);
}

/* The token has its own id and spelling, or those of one token of the model. */
static lucid_status check_id(const lucid_vocab *model, lucid_json_text content, int32_t id, const char *where) {
    const int32_t there = lucid_vocab_find(model, content.bytes, content.n);
    if (there == id || (there < 0 && !lucid_vocab_string(model, id, &(size_t){0}))) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: token '%s' has id %d, which the model's 'vocab' contradicts", where,
                      lucid_excerpt_of(content.bytes, content.n).text, (int)id);
}

static lucid_status set_pattern(lucid_added_token *token, lucid_json_text content, const lucid_normalizers *normalizers,
                                const char *where) {
    lucid_text scratch = {0};
    lucid_matcher *matcher = NULL;
    if (!token->normalized) return lucid_text_append(&token->pattern, content.bytes, content.n);
    LUCID_TRY(lucid_matcher_create(&matcher));
    const lucid_status status =
        lucid_normalizers_apply(normalizers, matcher, &token->pattern, &scratch, content.bytes, content.n);
    lucid_matcher_free(matcher);
    lucid_text_free(&scratch);
    if (status || token->pattern.n) return status;
    return lucid_fail(LUCID_ERR_INPUT, "%s: token '%s' is empty when normalized", where,
                      lucid_excerpt_of(content.bytes, content.n).text);
}

static lucid_status read_token(lucid_added *added, const json_t *object, const lucid_vocab *model,
                               const lucid_normalizers *normalizers, const char *where) {
    lucid_json_text content;
    lucid_added_token *token = &added->tokens[added->n];
    LUCID_TRY(read_flags(token, object, where));
    LUCID_TRY(lucid_json_string(&content, object, "content", false, where));
    if (content.n == 0) return lucid_fail(LUCID_ERR_INPUT, "%s: the token of id %d is empty", where, (int)token->id);
    LUCID_TRY(check_id(model, content, token->id, where));
    LUCID_TRY(lucid_vocab_add(&added->vocab, content.bytes, content.n, token->id, where));
    token->order = token->special ? added->n : LUCID_MAX_TOKEN_ID + added->n;
    added->n++; /* before the pattern, which is freed with the rest */
    return set_pattern(token, content, normalizers, where);
}

static lucid_status make_set(lucid_added_set *set, const lucid_added *added, bool normalized) {
    set->sorted = malloc(((size_t)added->n + 1) * sizeof *set->sorted);
    if (!set->sorted) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d added tokens", added->n);
    for (int i = 0; i < added->n; i++) {
        const lucid_added_token *token = &added->tokens[i];
        if (token->normalized != normalized) continue;
        set->sorted[set->n++] = token;
        set->begins[(unsigned char)token->pattern.bytes[0]] = true;
    }
    qsort(set->sorted, (size_t)set->n, sizeof *set->sorted, by_pattern);
    return LUCID_OK;
}

lucid_status lucid_added_read(lucid_added *added, const json_t *tokens, const lucid_vocab *model,
                              const lucid_normalizers *normalizers, const char *where) {
    if (tokens && !json_is_null(tokens) && !json_is_array(tokens))
        return lucid_fail(LUCID_ERR_INPUT, "%s: is no array", where);
    const size_t n = json_array_size(tokens);
    if (n > LUCID_MAX_TOKEN_ID) return lucid_fail(LUCID_ERR_INPUT, "%s: %zu tokens are too many", where, n);
    added->tokens = calloc(n + 1, sizeof *added->tokens);
    if (!added->tokens) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu added tokens", n);
    for (size_t i = 0; i < n; i++) LUCID_TRY(read_token(added, json_array_get(tokens, i), model, normalizers, where));
    qsort(added->tokens, n, sizeof *added->tokens, by_id);
    LUCID_TRY(make_set(&added->raw, added, false));
    return make_set(&added->normalized, added, true);
}

void lucid_added_free(lucid_added *added) {
    for (int i = 0; i < added->n; i++) lucid_text_free(&added->tokens[i].pattern);
    free(added->tokens);
    free(added->raw.sorted);
    free(added->normalized.sorted);
    lucid_vocab_free(&added->vocab);
}

const lucid_added_token *lucid_added_find(const lucid_added *added, int32_t id) {
    const lucid_added_token key = {.id = id};
    if (added->n == 0) return NULL;
    return bsearch(&key, added->tokens, (size_t)added->n, sizeof key, by_id);
}

/* The first of low..high-1 whose byte `at` is not below `byte`. All of them are longer than at, or sort before. */
static int first_at_least(const lucid_added_set *set, int low, int high, size_t at, int byte) {
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const lucid_text *pattern = &set->sorted[middle]->pattern;
        if (pattern->n <= at || (unsigned char)pattern->bytes[at] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest pattern that the text begins with, or NULL: the sorted list is narrowed byte by byte. */
static const lucid_added_token *longest_prefix(const lucid_added_set *set, const char *text, size_t n) {
    const lucid_added_token *best = NULL;
    int low = 0, high = set->n;
    for (size_t at = 0; at < n && low < high; at++) {
        const int byte = (unsigned char)text[at];
        low = first_at_least(set, low, high, at, byte);
        high = first_at_least(set, low, high, at, byte + 1);
        if (low < high && set->sorted[low]->pattern.n == at + 1) best = set->sorted[low];
    }
    return best;
}

static bool word_before(const char *text, size_t at) {
    int32_t codepoint = 0;
    if (at == 0) return false;
    const size_t before = lucid_utf8_before(text, at);
    lucid_utf8_next(text + before, at - before, &codepoint);
    return lucid_codepoint_is_word(codepoint);
}

static bool word_after(const char *text, size_t n, size_t at) {
    int32_t codepoint;
    return lucid_utf8_next(text + at, n - at, &codepoint) > 0 && lucid_codepoint_is_word(codepoint);
}

static size_t skip_spaces_back(const char *text, size_t at) {
    while (at > 0) {
        int32_t codepoint = 0;
        const size_t before = lucid_utf8_before(text, at);
        lucid_utf8_next(text + before, at - before, &codepoint);
        if (!lucid_codepoint_is_space(codepoint)) break;
        at = before;
    }
    return at;
}

static size_t skip_spaces(const char *text, size_t n, size_t at) {
    int32_t codepoint;
    for (int length; (length = lucid_utf8_next(text + at, n - at, &codepoint)) > 0; at += (size_t)length) {
        if (!lucid_codepoint_is_space(codepoint)) break;
    }
    return at;
}

/* Sets found, begin and end to the next token; the spaces that it takes along count, but not for the search. */
static void find_next(lucid_added_scan *scan) {
    const char *text = scan->text;
    scan->found = NULL;
    while (!scan->found && scan->from < scan->n) {
        const size_t begin = scan->from++;
        if (!scan->set->begins[(unsigned char)text[begin]]) continue;
        const lucid_added_token *token = longest_prefix(scan->set, text + begin, scan->n - begin);
        if (!token) continue;
        scan->from = begin + token->pattern.n;
        if (token->single_word && (word_before(text, begin) || word_after(text, scan->n, scan->from))) continue;
        const size_t stripped = token->lstrip ? skip_spaces_back(text, begin) : begin;
        scan->found = token;
        scan->begin = token->lstrip && stripped < scan->done ? scan->done : stripped;
        scan->end = token->rstrip ? skip_spaces(text, scan->n, scan->from) : scan->from;
    }
}

bool lucid_added_scan_next(lucid_added_scan *scan, lucid_added_part *part) {
    if (!scan->found) {
        find_next(scan);
        const size_t end = scan->found ? scan->begin : scan->n;
        if (scan->done < end) {
            *part = (lucid_added_part){scan->done, end, -1};
            scan->done = end;
            return true;
        }
        if (!scan->found) return false;
    }
    *part = (lucid_added_part){scan->begin, scan->end, scan->found->id};
    scan->done = scan->end;
    scan->found = NULL;
    return true;
}
