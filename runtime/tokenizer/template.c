/* The post-processor: what comes before and after the ids of one text. */
#include "runtime/tokenizer/parts.h"

#include <string.h>

static lucid_status push(lucid_tokens *tokens, const lucid_tokenizer *tokenizer, const json_t *value,
                         const char *where) {
    int32_t id;
    size_t n;
    LUCID_TRY(lucid_json_id(&id, value, where));
    if (!lucid_tokenizer_token(tokenizer, id, &n))
        return lucid_fail(LUCID_ERR_INPUT, "%s: no token has id %d", where, (int)id);
    LUCID_TRY(lucid_tokens_reserve(tokens, 1));
    tokens->ids[tokens->n++] = id;
    return LUCID_OK;
}

/* One piece of a template's "single": the text itself, or a special token of one or more ids. */
static lucid_status read_piece(lucid_tokens sides[2], int *side, const lucid_tokenizer *tokenizer, const json_t *piece,
                               const json_t *specials, const char *where) {
    const json_t *sequence = json_object_get(piece, "Sequence"), *special = json_object_get(piece, "SpecialToken");
    const json_t *ids;
    lucid_json_text id;
    if (!sequence == !special)
        return lucid_fail(LUCID_ERR_INPUT, "%s: a piece is no Sequence and no SpecialToken", where);
    LUCID_TRY(lucid_json_known(sequence ? sequence : special, "id type_id", where));
    LUCID_TRY(lucid_json_string(&id, sequence ? sequence : special, "id", false, where));
    if (sequence) {
        if (strcmp(id.bytes, "A") != 0 || *side == 1)
            return lucid_fail(LUCID_ERR_INPUT, "%s: 'single' is not of one sequence A", where);
        *side = 1;
        return LUCID_OK;
    }
    const json_t *definition = json_object_get(specials, id.bytes);
    LUCID_TRY(lucid_json_known(definition, "id ids tokens", where));
    LUCID_TRY(lucid_json_array(&ids, definition, "ids", where));
    for (size_t i = 0; i < json_array_size(ids); i++)
        LUCID_TRY(push(&sides[*side], tokenizer, json_array_get(ids, i), where));
    return LUCID_OK;
}

static lucid_status read_template(lucid_tokens sides[2], const lucid_tokenizer *tokenizer, const json_t *object,
                                  const char *where) {
    const json_t *single;
    int side = 0;
    LUCID_TRY(lucid_json_known(object, "type single pair special_tokens", where)); /* pairs are not ours */
    LUCID_TRY(lucid_json_array(&single, object, "single", where));
    for (size_t i = 0; i < json_array_size(single); i++) {
        LUCID_TRY(read_piece(sides, &side, tokenizer, json_array_get(single, i),
                             json_object_get(object, "special_tokens"), where));
    }
    return side ? LUCID_OK : lucid_fail(LUCID_ERR_INPUT, "%s: 'single' is not of one sequence A", where);
}

/* ["</s>", 2] */
static lucid_status read_fixed(lucid_tokens *side, const lucid_tokenizer *tokenizer, const json_t *object,
                               const char *key, const char *where) {
    const json_t *pair;
    LUCID_TRY(lucid_json_array(&pair, object, key, where));
    if (json_array_size(pair) != 2)
        return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is not a token and its id", where, key);
    return push(side, tokenizer, json_array_get(pair, 1), where);
}

static lucid_status read_component(lucid_tokens sides[2], const lucid_tokenizer *tokenizer, const json_t *object,
                                   const char *where) {
    const char *type = NULL;
    LUCID_TRY(lucid_json_type(&type, object, where));
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(sides, tokenizer, object, where);
    if (strcmp(type, "ByteLevel") == 0) /* touches offsets alone */
        return lucid_json_known(object, "type add_prefix_space trim_offsets use_regex", where);
    if (strcmp(type, "RobertaProcessing") != 0 && strcmp(type, "BertProcessing") != 0)
        return lucid_json_unknown(type, where);
    LUCID_TRY(lucid_json_known(object, "type sep cls trim_offsets add_prefix_space", where));
    LUCID_TRY(read_fixed(&sides[0], tokenizer, object, "cls", where));
    return read_fixed(&sides[1], tokenizer, object, "sep", where);
}

static lucid_status append(lucid_tokens *tokens, const lucid_tokens *more) {
    if (more->n == 0) return LUCID_OK;
    LUCID_TRY(lucid_tokens_reserve(tokens, more->n));
    memcpy(tokens->ids + tokens->n, more->ids, (size_t)more->n * sizeof *more->ids);
    tokens->n += more->n;
    return LUCID_OK;
}

/* A later processor wraps what the earlier ones gave. */
static lucid_status wrap(void *context, const json_t *object, const char *where) {
    lucid_tokenizer *tokenizer = context;
    lucid_tokens sides[2] = {{0}, {0}};
    lucid_status status = read_component(sides, tokenizer, object, where);
    if (!status) status = append(&sides[0], &tokenizer->prefix);
    if (!status) status = append(&tokenizer->suffix, &sides[1]);
    lucid_tokens_free(&sides[1]);
    if (status) {
        lucid_tokens_free(&sides[0]);
        return status;
    }
    lucid_tokens_free(&tokenizer->prefix);
    tokenizer->prefix = sides[0];
    return LUCID_OK;
}

lucid_status lucid_template_read(lucid_tokenizer *tokenizer, const json_t *object, const char *where) {
    return lucid_json_flatten(object, "processors", wrap, tokenizer, where);
}
