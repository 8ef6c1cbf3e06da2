#include "runtime/tokenizer/stages.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const struct {
    const char *name;
    int form;
} forms[] = {
    {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
    {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
    {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
    {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
};

static lucid_status read_prepend(lucid_normalizer *stage, const json_t *object, const char *where) {
    lucid_json_text content;
    stage->kind = LUCID_NORMALIZE_PREPEND;
    LUCID_TRY(lucid_json_known(object, "type prepend", where));
    LUCID_TRY(lucid_json_string(&content, object, "prepend", false, where));
    return lucid_text_append(&stage->content, content.bytes, content.n);
}

static lucid_status read_replace(lucid_normalizer *stage, const json_t *object, const char *where) {
    stage->kind = LUCID_NORMALIZE_REPLACE;
    return lucid_replace_read(&stage->regex, &stage->content, object, where);
}

/* A stage counts before it is read, so that what a failure leaves half-made is freed with the rest. */
static lucid_status read_stage(void *context, const json_t *object, const char *where) {
    lucid_normalizers *normalizers = context;
    const char *type = NULL;
    LUCID_TRY(lucid_json_type(&type, object, where));
    if (normalizers->n == LUCID_MAX_STAGES)
        return lucid_fail(LUCID_ERR_INPUT, "%s: more than %d stages", where, LUCID_MAX_STAGES);
    lucid_normalizer *stage = &normalizers->stages[normalizers->n++];
    if (strcmp(type, "Prepend") == 0) return read_prepend(stage, object, where);
    if (strcmp(type, "Replace") == 0) return read_replace(stage, object, where);
    if (strcmp(type, "Lowercase") == 0) {
        stage->kind = LUCID_NORMALIZE_LOWERCASE;
        return lucid_json_known(object, "type", where);
    }
    stage->kind = LUCID_NORMALIZE_UNICODE;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        stage->form = forms[i].form;
        if (strcmp(type, forms[i].name) == 0) return lucid_json_known(object, "type", where);
    }
    return lucid_json_unknown(type, where);
}

lucid_status lucid_normalizers_read(lucid_normalizers *normalizers, const json_t *object, const char *where) {
    return lucid_json_flatten(object, "normalizers", read_stage, normalizers, where);
}

void lucid_normalizers_free(lucid_normalizers *normalizers) {
    for (int i = 0; i < normalizers->n; i++) {
        lucid_regex_free(normalizers->stages[i].regex);
        lucid_text_free(&normalizers->stages[i].content);
    }
}

static lucid_status unicode(lucid_text *out, int form, const char *text, size_t n) {
    utf8proc_uint8_t *mapped = NULL;
    if (lucid_utf8_ascii_prefix(text, n) == n) return lucid_text_append(out, text, n);
    const utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &mapped, form);
    if (length < 0)
        return lucid_fail(LUCID_ERR_MEMORY, "cannot normalize %zu bytes of text: %s", n, utf8proc_errmsg(length));
    const lucid_status status = lucid_text_append(out, (const char *)mapped, (size_t)length);
    free(mapped);
    return status;
}

/* U+0130 is the one character whose lowercase is two. */
static lucid_status lowercase(lucid_text *out, const char *text, size_t n) {
    int32_t codepoint = 0;
    LUCID_TRY(lucid_text_reserve(out, n));
    for (size_t at = 0; at < n; at += (size_t)lucid_utf8_next(text + at, n - at, &codepoint)) {
        lucid_utf8_next(text + at, n - at, &codepoint);
        if (codepoint == 0x130)
            LUCID_TRY(lucid_text_append(out, "i\xCC\x87", 3));
        else
            LUCID_TRY(lucid_text_append_codepoint(out, utf8proc_tolower(codepoint)));
    }
    return LUCID_OK;
}

static lucid_status apply(const lucid_normalizer *stage, lucid_matcher *matcher, lucid_text *out, const char *text,
                          size_t n) {
    if (n == 0) return LUCID_OK;
    switch (stage->kind) {
    case LUCID_NORMALIZE_UNICODE:
        return unicode(out, stage->form, text, n);
    case LUCID_NORMALIZE_LOWERCASE:
        return lowercase(out, text, n);
    case LUCID_NORMALIZE_PREPEND:
        LUCID_TRY(lucid_text_append(out, stage->content.bytes, stage->content.n));
        return lucid_text_append(out, text, n);
    case LUCID_NORMALIZE_REPLACE:
        return lucid_regex_replace(out, stage->regex, matcher, text, n, &stage->content);
    }
    return LUCID_ERR_INTERNAL;
}

lucid_status lucid_normalizers_apply(const lucid_normalizers *normalizers, lucid_matcher *matcher, lucid_text *out,
                                     lucid_text *scratch, const char *text, size_t n) {
    out->n = 0;
    LUCID_TRY(lucid_text_append(out, text, n));
    for (int i = 0; i < normalizers->n; i++) {
        const lucid_text input = *out;
        *out = *scratch;
        *scratch = input;
        out->n = 0;
        LUCID_TRY(apply(&normalizers->stages[i], matcher, out, scratch->bytes, scratch->n));
    }
    return LUCID_OK;
}
