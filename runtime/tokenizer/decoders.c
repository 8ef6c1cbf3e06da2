/* Reading decoders. Text must come out as its tokens come in, so what would have to see the whole text first is
 * refused: after Fuse (or ByteLevel, which fuses) nothing but a Strip at the beginning. */
#include "runtime/tokenizer/decoders.h"

#include <string.h>

static lucid_status read_byte_level(lucid_decoders *decoders, lucid_decoder *stage, const json_t *object,
                                    const char *where) {
    stage->kind = LUCID_DECODE_BYTES;
    decoders->fused = true;
    return lucid_json_known(object, "type add_prefix_space trim_offsets use_regex", where);
}

static lucid_status read_metaspace(lucid_decoders *decoders, lucid_decoder *stage, const json_t *object,
                                   const char *where) {
    lucid_metaspace metaspace;
    (void)decoders;
    stage->kind = LUCID_DECODE_METASPACE;
    LUCID_TRY(lucid_metaspace_read(&metaspace, object, where));
    stage->keep_first = metaspace.scheme == LUCID_PREPEND_NEVER;
    return lucid_text_append(&stage->content, metaspace.replacement.bytes, metaspace.replacement.n);
}

static lucid_status read_replace(lucid_decoders *decoders, lucid_decoder *stage, const json_t *object,
                                 const char *where) {
    (void)decoders;
    stage->kind = LUCID_DECODE_REPLACE;
    return lucid_replace_read(&stage->regex, &stage->content, object, where);
}

static lucid_status read_byte_fallback(lucid_decoders *decoders, lucid_decoder *stage, const json_t *object,
                                       const char *where) {
    stage->kind = LUCID_DECODE_BYTE_FALLBACK;
    decoders->byte_fallback = true;
    return lucid_json_known(object, "type", where);
}

static lucid_status read_strip(lucid_decoders *decoders, lucid_decoder *stage, const json_t *object,
                               const char *where) {
    lucid_json_text content;
    int32_t codepoint;
    stage->kind = decoders->fused ? LUCID_DECODE_STRIP_TEXT : LUCID_DECODE_STRIP;
    LUCID_TRY(lucid_json_known(object, "type content start stop", where));
    LUCID_TRY(lucid_json_string(&content, object, "content", false, where));
    LUCID_TRY(lucid_json_count(&stage->start, object, "start", where));
    LUCID_TRY(lucid_json_count(&stage->stop, object, "stop", where));
    if (content.n == 0 || (size_t)lucid_utf8_next(content.bytes, content.n, &codepoint) != content.n)
        return lucid_fail(LUCID_ERR_INPUT, "%s: Strip: 'content' is not one character", where);
    if (decoders->fused && (stage->stop || content.n != 1))
        return lucid_fail(LUCID_ERR_INPUT, "%s: a Strip after Fuse is known only of one ASCII character at the start",
                          where);
    return lucid_text_append(&stage->content, content.bytes, content.n);
}

static const struct {
    const char *type;
    lucid_status (*read)(lucid_decoders *decoders, lucid_decoder *stage, const json_t *object, const char *where);
    bool when_fused; /* may stand where tokens are no longer told apart */
} readers[] = {
    {"ByteLevel", read_byte_level, false},       {"Metaspace", read_metaspace, false}, {"Replace", read_replace, false},
    {"ByteFallback", read_byte_fallback, false}, {"Strip", read_strip, true},
};

static lucid_status read_component(void *context, const json_t *object, const char *where) {
    lucid_decoders *decoders = context;
    const char *type = NULL;
    LUCID_TRY(lucid_json_type(&type, object, where));
    if (strcmp(type, "Fuse") == 0) {
        decoders->fused = true;
        return lucid_json_known(object, "type", where);
    }
    if (decoders->n == LUCID_MAX_STAGES)
        return lucid_fail(LUCID_ERR_INPUT, "%s: more than %d stages", where, LUCID_MAX_STAGES);
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        if (strcmp(type, readers[i].type) != 0) continue;
        if (decoders->fused && !readers[i].when_fused)
            return lucid_fail(LUCID_ERR_INPUT, "%s: %s after Fuse or ByteLevel is not known", where, type);
        if (decoders->byte_fallback && !decoders->fused)
            return lucid_fail(LUCID_ERR_INPUT, "%s: %s between ByteFallback and Fuse is not known", where, type);
        return readers[i].read(decoders, &decoders->stages[decoders->n++], object, where);
    }
    return lucid_json_unknown(type, where);
}

lucid_status lucid_decoders_read(lucid_decoders *decoders, const json_t *object, const char *where) {
    if (!object || json_is_null(object)) {
        decoders->stages[decoders->n++].kind = LUCID_DECODE_JOIN;
        return LUCID_OK;
    }
    return lucid_json_flatten(object, "decoders", read_component, decoders, where);
}

void lucid_decoders_free(lucid_decoders *decoders) {
    for (int i = 0; i < decoders->n; i++) {
        lucid_regex_free(decoders->stages[i].regex);
        lucid_text_free(&decoders->stages[i].content);
    }
}
