#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/tokenizer/regex.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* Text is valid UTF-8 wherever a match is tried. As in Oniguruma, ^ and $ hold at every line. */
#define REGEX_OPTIONS   (PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C)
#define LITERAL_OPTIONS (PCRE2_UTF | PCRE2_NO_UTF_CHECK | PCRE2_LITERAL)
#define JIT_STACK_MAX   (8u << 20)

/* Steps that one match may take: some for each byte, as a long run of spaces needs, but never their square. */
static uint32_t match_limit(size_t n) {
    const uint64_t limit = 1000000 + 4 * (uint64_t)n;
    return limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX;
}

struct lucid_regex {
    pcre2_code *code;
};

struct lucid_matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static lucid_status compile(lucid_regex **regex, const char *pattern, size_t n, uint32_t options, const char *where) {
    int error;
    PCRE2_SIZE offset;
    PCRE2_UCHAR message[120];
    lucid_regex *made = calloc(1, sizeof *made);
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!made || !context) {
        free(made);
        pcre2_compile_context_free(context);
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for a regular expression");
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    made->code = pcre2_compile((PCRE2_SPTR)pattern, n, options, &error, &offset, context);
    pcre2_compile_context_free(context);
    if (!made->code) {
        free(made);
        pcre2_get_error_message(error, message, sizeof message);
        return lucid_fail(LUCID_ERR_INPUT, "%s: the regular expression cannot be used: %s", where, (char *)message);
    }
    pcre2_jit_compile(made->code, PCRE2_JIT_COMPLETE); /* where it cannot, the interpreter matches */
    *regex = made;
    return LUCID_OK;
}

lucid_status lucid_regex_compile(lucid_regex **regex, const char *pattern, size_t n, const char *where) {
    lucid_text translated = {0};
    lucid_status status = lucid_regex_translate(&translated, pattern, n, where);
    if (!status) status = compile(regex, translated.bytes, translated.n, REGEX_OPTIONS, where);
    lucid_text_free(&translated);
    return status;
}

lucid_status lucid_regex_literal(lucid_regex **regex, const char *string, size_t n, const char *where) {
    return compile(regex, string, n, LITERAL_OPTIONS, where);
}

lucid_status lucid_regex_read(lucid_regex **regex, const json_t *object, const char *where) {
    const json_t *pattern = json_object_get(object, "pattern");
    lucid_json_text string, expression;
    LUCID_TRY(lucid_json_known(pattern, "String Regex", where));
    LUCID_TRY(lucid_json_string(&string, pattern, "String", true, where));
    LUCID_TRY(lucid_json_string(&expression, pattern, "Regex", true, where));
    if (!string.bytes == !expression.bytes)
        return lucid_fail(LUCID_ERR_INPUT, "%s: the pattern is not one String or one Regex", where);
    if (string.bytes) return lucid_regex_literal(regex, string.bytes, string.n, where);
    return lucid_regex_compile(regex, expression.bytes, expression.n, where);
}

lucid_status lucid_replace_read(lucid_regex **regex, lucid_text *content, const json_t *object, const char *where) {
    lucid_json_text text;
    LUCID_TRY(lucid_json_known(object, "type pattern content", where));
    LUCID_TRY(lucid_json_string(&text, object, "content", false, where));
    LUCID_TRY(lucid_regex_read(regex, object, where));
    if (json_object_get(json_object_get(object, "pattern"), "Regex") && memchr(text.bytes, '$', text.n))
        return lucid_fail(LUCID_ERR_INPUT, "%s: Replace: a group in the content of a Regex is not known", where);
    return lucid_text_append(content, text.bytes, text.n);
}

void lucid_regex_free(lucid_regex *regex) {
    if (!regex) return;
    pcre2_code_free(regex->code);
    free(regex);
}

lucid_status lucid_matcher_create(lucid_matcher **matcher) {
    lucid_matcher *made = calloc(1, sizeof *made);
    if (!made) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a matcher");
    made->data = pcre2_match_data_create(1, NULL);
    made->context = pcre2_match_context_create(NULL);
    made->stack =
        pcre2_jit_stack_create(32 << 10, JIT_STACK_MAX, NULL); /* NULL where there is no JIT: not needed then */
    if (!made->data || !made->context) {
        lucid_matcher_free(made);
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for a matcher");
    }
    if (made->stack) pcre2_jit_stack_assign(made->context, NULL, made->stack);
    *matcher = made;
    return LUCID_OK;
}

void lucid_matcher_free(lucid_matcher *matcher) {
    if (!matcher) return;
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    pcre2_jit_stack_free(matcher->stack);
    free(matcher);
}

lucid_status lucid_regex_scan_next(lucid_regex_scan *scan, bool *found, size_t *begin, size_t *end) {
    int32_t codepoint;
    *found = false;
    pcre2_set_match_limit(scan->matcher->context, match_limit(scan->n));
    while (scan->from <= scan->n) {
        const int result = pcre2_match(scan->regex->code, (PCRE2_SPTR)scan->text, scan->n, scan->from,
                                       PCRE2_NO_UTF_CHECK, scan->matcher->data, scan->matcher->context);
        if (result == PCRE2_ERROR_NOMATCH) break;
        if (result < 0)
            return lucid_fail(LUCID_ERR_INPUT,
                              "a regular expression of the tokenizer gives up on this text (PCRE2 error %d)", result);
        const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(scan->matcher->data);
        if (bounds[0] == bounds[1] && bounds[1] == scan->last_end) {
            const int step = lucid_utf8_next(scan->text + scan->from, scan->n - scan->from, &codepoint);
            scan->from += step > 0 ? (size_t)step : 1;
            continue;
        }
        *found = true;
        *begin = bounds[0];
        *end = scan->from = scan->last_end = bounds[1];
        return LUCID_OK;
    }
    scan->from = scan->n + 1;
    return LUCID_OK;
}

lucid_status lucid_regex_replace(lucid_text *out, const lucid_regex *regex, lucid_matcher *matcher, const char *text,
                                 size_t n, const lucid_text *content) {
    lucid_regex_scan scan = lucid_regex_scan_begin(regex, matcher, text, n);
    size_t done = 0, begin, end;
    for (bool found;;) {
        LUCID_TRY(lucid_regex_scan_next(&scan, &found, &begin, &end));
        if (!found) return lucid_text_append(out, text + done, n - done);
        LUCID_TRY(lucid_text_append(out, text + done, begin - done));
        LUCID_TRY(lucid_text_append(out, content->bytes, content->n));
        done = end;
    }
}
