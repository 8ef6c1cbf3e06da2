#include "runtime/tokenizer/json.h"

#include <string.h>

static bool listed(const char *known, const char *key) {
    const size_t n = strlen(key);
    for (const char *word = known; *word; word += strspn(word, " ")) {
        const size_t length = strcspn(word, " ");
        if (length == n && memcmp(word, key, n) == 0) return true;
        word += length;
    }
    return false;
}

lucid_status lucid_json_known(const json_t *object, const char *known, const char *where) {
    const char *key;
    json_t *value;
    if (!json_is_object(object)) return lucid_fail(LUCID_ERR_INPUT, "%s: is no object", where);
    json_object_foreach((json_t *)object, key, value) {
        if (!listed(known, key))
            return lucid_fail(LUCID_ERR_INPUT, "%s: the key '%s' is not known", where,
                              lucid_excerpt_of(key, strlen(key)).text);
    }
    return LUCID_OK;
}

lucid_status lucid_json_type(const char **type, const json_t *object, const char *where) {
    lucid_json_text text;
    if (!json_is_object(object)) return lucid_fail(LUCID_ERR_INPUT, "%s: is no object", where);
    LUCID_TRY(lucid_json_string(&text, object, "type", false, where));
    *type = text.bytes;
    return LUCID_OK;
}

lucid_status lucid_json_bool(bool *value, const json_t *object, const char *key, int otherwise, const char *where) {
    const json_t *member = json_object_get(object, key);
    if (otherwise >= 0 && (!member || json_is_null(member))) {
        *value = otherwise;
        return LUCID_OK;
    }
    if (!json_is_boolean(member)) return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is not true or false", where, key);
    *value = json_is_true(member);
    return LUCID_OK;
}

lucid_status lucid_json_string(lucid_json_text *value, const json_t *object, const char *key, bool optional,
                               const char *where) {
    const json_t *member = json_object_get(object, key);
    *value = (lucid_json_text){0};
    if (optional && (!member || json_is_null(member))) return LUCID_OK;
    if (!json_is_string(member)) return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is no string", where, key);
    *value = (lucid_json_text){json_string_value(member), json_string_length(member)};
    return LUCID_OK;
}

lucid_status lucid_json_count(int32_t *value, const json_t *object, const char *key, const char *where) {
    const json_t *member = json_object_get(object, key);
    if (!json_is_integer(member) || json_integer_value(member) < 0 || json_integer_value(member) > INT32_MAX)
        return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is no count", where, key);
    *value = (int32_t)json_integer_value(member);
    return LUCID_OK;
}

lucid_status lucid_json_id(int32_t *id, const json_t *value, const char *where) {
    if (!json_is_integer(value)) return lucid_fail(LUCID_ERR_INPUT, "%s: an id is no integer", where);
    const json_int_t integer = json_integer_value(value);
    if (integer < 0 || integer > LUCID_MAX_TOKEN_ID)
        return lucid_fail(LUCID_ERR_INPUT, "%s: the id %" JSON_INTEGER_FORMAT " is not in 0..%d", where, integer,
                          LUCID_MAX_TOKEN_ID);
    *id = (int32_t)integer;
    return LUCID_OK;
}

lucid_status lucid_json_array(const json_t **array, const json_t *object, const char *key, const char *where) {
    *array = json_object_get(object, key);
    if (!json_is_array(*array)) return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is no array", where, key);
    return LUCID_OK;
}

lucid_status lucid_json_unknown(const char *type, const char *where) {
    return lucid_fail(LUCID_ERR_INPUT, "%s: the type '%s' is not known", where,
                      lucid_excerpt_of(type, strlen(type)).text);
}

lucid_status lucid_json_flatten(const json_t *object, const char *key, lucid_json_visitor visit, void *context,
                                const char *where) {
    const char *type = NULL;
    const json_t *members;
    if (!object || json_is_null(object)) return LUCID_OK;
    LUCID_TRY(lucid_json_type(&type, object, where));
    if (strcmp(type, "Sequence") != 0) return visit(context, object, where);
    LUCID_TRY(lucid_json_array(&members, object, key, where));
    if (json_object_size(object) != 2)
        return lucid_fail(LUCID_ERR_INPUT, "%s: a Sequence has more keys than 'type' and '%s'", where, key);
    for (size_t i = 0; i < json_array_size(members); i++) {
        LUCID_TRY(lucid_json_flatten(json_array_get(members, i), key, visit, context, where));
    }
    return LUCID_OK;
}
