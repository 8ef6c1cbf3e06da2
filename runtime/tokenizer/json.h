/* Members of JSON objects, read with distrust. `where` names the file and the part in failures; what is missing, of a
 * wrong type or of an unknown name is INPUT. */
#ifndef LUCID_RUNTIME_TOKENIZER_JSON_H
#define LUCID_RUNTIME_TOKENIZER_JSON_H

#include "runtime/tokenizer/vocab.h"

#include <jansson.h>

/* Strings point into the JSON value. */
typedef struct {
    const char *bytes;
    size_t n;
} lucid_json_text;

/* Every key of the object is among `known`, which are separated by spaces. */
lucid_status lucid_json_known(const json_t *object, const char *known, const char *where);
/* The "type" of a component. */
lucid_status lucid_json_type(const char **type, const json_t *object, const char *where);
/* otherwise: 0 or 1 where the key may be missing or null, -1 where it may not. */
lucid_status lucid_json_bool(bool *value, const json_t *object, const char *key, int otherwise, const char *where);
/* A missing or null string becomes {NULL, 0} where it is optional. */
lucid_status lucid_json_string(lucid_json_text *value, const json_t *object, const char *key, bool optional,
                               const char *where);
lucid_status lucid_json_count(int32_t *value, const json_t *object, const char *key, const char *where);
/* A token's id, in 0..LUCID_MAX_TOKEN_ID. */
lucid_status lucid_json_id(int32_t *id, const json_t *value, const char *where);
lucid_status lucid_json_array(const json_t **array, const json_t *object, const char *key, const char *where);

/* For failures about a component's "type". */
lucid_status lucid_json_unknown(const char *type, const char *where);

/* Calls `visit` for a component, or, where it is a Sequence, for each member of its array `key`, at any depth. */
typedef lucid_status (*lucid_json_visitor)(void *context, const json_t *object, const char *where);
lucid_status lucid_json_flatten(const json_t *object, const char *key, lucid_json_visitor visit, void *context,
                                const char *where);

#endif
