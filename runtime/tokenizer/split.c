#include "runtime/tokenizer/stages.h"

#include <string.h>

/* How GPT-2 cuts a text; ByteLevel's own. */
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static const char *const cut_names[] = {
    [LUCID_CUT_REMOVED] = "Removed",
    [LUCID_CUT_ISOLATED] = "Isolated",
    [LUCID_CUT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
    [LUCID_CUT_MERGED_WITH_NEXT] = "MergedWithNext",
    [LUCID_CUT_CONTIGUOUS] = "Contiguous",
};

/* The 188 bytes that print in Latin-1 stand for themselves, the others for codepoints from 256 on, in order. */
static bool prints(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

int32_t lucid_byte_to_codepoint(unsigned char byte) {
    if (prints(byte)) return byte;
    if (byte <= ' ') return 256 + byte;
    return byte == 0xAD ? 256 + 67 : 256 + 33 + (byte - 0x7F);
}

int lucid_codepoint_to_byte(int32_t codepoint) {
    if (codepoint < 256) return prints(codepoint) ? codepoint : -1;
    if (codepoint <= 256 + ' ') return codepoint - 256;
    if (codepoint == 256 + 67) return 0xAD;
    return codepoint < 256 + 67 ? codepoint - 256 - 33 + 0x7F : -1;
}

static lucid_status add_stage(lucid_splitter **stage, lucid_splitters *splitters, lucid_splitter_kind kind,
                              const char *where) {
    if (splitters->n == LUCID_MAX_STAGES)
        return lucid_fail(LUCID_ERR_INPUT, "%s: more than %d stages", where, LUCID_MAX_STAGES);
    *stage = &splitters->stages[splitters->n++];
    **stage = (lucid_splitter){.kind = kind};
    return LUCID_OK;
}

static lucid_status add_cut(lucid_splitters *splitters, const char *pattern, lucid_cut cut, bool invert,
                            const char *where) {
    lucid_splitter *stage = NULL;
    LUCID_TRY(add_stage(&stage, splitters, LUCID_SPLIT_CUT, where));
    stage->cut = cut;
    stage->invert = invert;
    return lucid_regex_compile(&stage->regex, pattern, strlen(pattern), where);
}

static lucid_status read_byte_level(lucid_splitters *splitters, const json_t *object, const char *where) {
    bool add_prefix_space, trim_offsets, use_regex;
    lucid_splitter *stage = NULL;
    LUCID_TRY(lucid_json_known(object, "type add_prefix_space trim_offsets use_regex", where));
    LUCID_TRY(lucid_json_bool(&add_prefix_space, object, "add_prefix_space", -1, where));
    LUCID_TRY(lucid_json_bool(&trim_offsets, object, "trim_offsets", true, where)); /* offsets are not ours */
    LUCID_TRY(lucid_json_bool(&use_regex, object, "use_regex", true, where));
    if (add_prefix_space) {
        LUCID_TRY(add_stage(&stage, splitters, LUCID_SPLIT_PREFIX, where));
        LUCID_TRY(lucid_text_append(&stage->content, " ", 1));
    }
    if (use_regex) LUCID_TRY(add_cut(splitters, gpt2_pattern, LUCID_CUT_ISOLATED, false, where));
    return add_stage(&stage, splitters, LUCID_SPLIT_BYTES, where);
}

lucid_status lucid_metaspace_read(lucid_metaspace *metaspace, const json_t *object, const char *where) {
    static const char *const schemes[] = {
        [LUCID_PREPEND_NEVER] = "never", [LUCID_PREPEND_FIRST] = "first", [LUCID_PREPEND_ALWAYS] = "always"};
    lucid_json_text scheme;
    bool add_prefix_space;
    int32_t codepoint;
    LUCID_TRY(lucid_json_known(object, "type replacement add_prefix_space prepend_scheme split str_rep", where));
    LUCID_TRY(lucid_json_string(&metaspace->replacement, object, "replacement", false, where));
    LUCID_TRY(lucid_json_string(&scheme, object, "prepend_scheme", true, where));
    LUCID_TRY(lucid_json_bool(&add_prefix_space, object, "add_prefix_space", true, where));
    LUCID_TRY(lucid_json_bool(&metaspace->split, object, "split", true, where));
    if (metaspace->replacement.n == 0 || (size_t)lucid_utf8_next(metaspace->replacement.bytes, metaspace->replacement.n,
                                                                 &codepoint) != metaspace->replacement.n)
        return lucid_fail(LUCID_ERR_INPUT, "%s: Metaspace: 'replacement' is not one character", where);
    metaspace->scheme = LUCID_PREPEND_ALWAYS;
    if (scheme.bytes) {
        int i = 0;
        while (i < 3 && strcmp(scheme.bytes, schemes[i]) != 0) i++;
        if (i == 3)
            return lucid_fail(LUCID_ERR_INPUT, "%s: Metaspace: 'prepend_scheme' is not never, first or always", where);
        metaspace->scheme = (lucid_prepend_scheme)i;
    }
    if (!add_prefix_space) { /* the older key; the two must agree */
        if (scheme.bytes && metaspace->scheme != LUCID_PREPEND_NEVER)
            return lucid_fail(LUCID_ERR_INPUT, "%s: Metaspace: 'add_prefix_space' contradicts 'prepend_scheme'", where);
        metaspace->scheme = LUCID_PREPEND_NEVER;
    }
    return LUCID_OK;
}

static lucid_status read_metaspace(lucid_splitters *splitters, const json_t *object, const char *where) {
    lucid_metaspace metaspace;
    lucid_splitter *stage = NULL;
    LUCID_TRY(lucid_metaspace_read(&metaspace, object, where));
    const lucid_json_text replacement = metaspace.replacement;
    LUCID_TRY(add_stage(&stage, splitters, LUCID_SPLIT_REPLACE, where));
    LUCID_TRY(lucid_regex_literal(&stage->regex, " ", 1, where));
    LUCID_TRY(lucid_text_append(&stage->content, replacement.bytes, replacement.n));
    if (metaspace.scheme != LUCID_PREPEND_NEVER) {
        LUCID_TRY(add_stage(&stage, splitters, LUCID_SPLIT_PREFIX, where));
        LUCID_TRY(lucid_text_append(&stage->content, replacement.bytes, replacement.n));
        stage->first_only = metaspace.scheme == LUCID_PREPEND_FIRST;
    }
    if (!metaspace.split) return LUCID_OK;
    LUCID_TRY(add_stage(&stage, splitters, LUCID_SPLIT_CUT, where));
    stage->cut = LUCID_CUT_MERGED_WITH_NEXT;
    return lucid_regex_literal(&stage->regex, replacement.bytes, replacement.n, where);
}

static lucid_status read_cut(lucid_cut *cut, const json_t *object, const char *where) {
    lucid_json_text behavior;
    LUCID_TRY(lucid_json_string(&behavior, object, "behavior", false, where));
    for (size_t i = 0; i < sizeof cut_names / sizeof *cut_names; i++) {
        *cut = (lucid_cut)i;
        if (strcmp(behavior.bytes, cut_names[i]) == 0) return LUCID_OK;
    }
    return lucid_fail(LUCID_ERR_INPUT, "%s: the behavior '%s' is not known", where,
                      lucid_excerpt_of(behavior.bytes, behavior.n).text);
}

static lucid_status read_split(lucid_splitters *splitters, const json_t *object, const char *where) {
    lucid_splitter *stage = NULL;
    LUCID_TRY(lucid_json_known(object, "type pattern behavior invert", where));
    LUCID_TRY(add_stage(&stage, splitters, LUCID_SPLIT_CUT, where));
    LUCID_TRY(read_cut(&stage->cut, object, where));
    LUCID_TRY(lucid_json_bool(&stage->invert, object, "invert", -1, where));
    return lucid_regex_read(&stage->regex, object, where);
}

static lucid_status read_digits(lucid_splitters *splitters, const json_t *object, const char *where) {
    bool individual;
    LUCID_TRY(lucid_json_known(object, "type individual_digits", where));
    LUCID_TRY(lucid_json_bool(&individual, object, "individual_digits", -1, where));
    return add_cut(splitters, "\\p{N}", individual ? LUCID_CUT_ISOLATED : LUCID_CUT_CONTIGUOUS, false, where);
}

static lucid_status read_punctuation(lucid_splitters *splitters, const json_t *object, const char *where) {
    lucid_cut cut = LUCID_CUT_ISOLATED;
    LUCID_TRY(lucid_json_known(object, "type behavior", where));
    if (json_object_get(object, "behavior")) LUCID_TRY(read_cut(&cut, object, where));
    return add_cut(splitters, "[!-/:-@\\[-`{-~\\p{P}]", cut, false, where);
}

static lucid_status read_whitespace(lucid_splitters *splitters, const json_t *object, const char *where) {
    LUCID_TRY(lucid_json_known(object, "type", where));
    return add_cut(splitters, "[\\w\\x{200c}\\x{200d}]+|[^\\w\\x{200c}\\x{200d}\\s]+", LUCID_CUT_REMOVED, true, where);
}

static lucid_status read_whitespace_split(lucid_splitters *splitters, const json_t *object, const char *where) {
    LUCID_TRY(lucid_json_known(object, "type", where));
    return add_cut(splitters, "\\s", LUCID_CUT_REMOVED, false, where);
}

static const struct {
    const char *type;
    lucid_status (*read)(lucid_splitters *splitters, const json_t *object, const char *where);
} readers[] = {
    {"ByteLevel", read_byte_level},
    {"Metaspace", read_metaspace},
    {"Split", read_split},
    {"Digits", read_digits},
    {"Punctuation", read_punctuation},
    {"Whitespace", read_whitespace},
    {"WhitespaceSplit", read_whitespace_split},
};

static lucid_status read_component(void *context, const json_t *object, const char *where) {
    const char *type = NULL;
    LUCID_TRY(lucid_json_type(&type, object, where));
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        if (strcmp(type, readers[i].type) == 0) return readers[i].read(context, object, where);
    }
    return lucid_json_unknown(type, where);
}

lucid_status lucid_splitters_read(lucid_splitters *splitters, const json_t *object, const char *where) {
    return lucid_json_flatten(object, "pretokenizers", read_component, splitters, where);
}

void lucid_splitters_free(lucid_splitters *splitters) {
    for (int i = 0; i < splitters->n; i++) {
        lucid_regex_free(splitters->stages[i].regex);
        lucid_text_free(&splitters->stages[i].content);
    }
}
