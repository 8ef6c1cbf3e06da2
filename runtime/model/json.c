#include "runtime/model/json.h"

#include "runtime/files/read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILE_BYTES (64 << 20) /* an index of half a million tensors */
#define MAX_NUMBER     1e12

/* What stands in a file may be anything; a failure is one line of a bounded length. */
static void copy_printable(char *dst, size_t bytes, const char *src) {
    size_t i = 0;
    for (; src[i] && i + 1 < bytes; i++) dst[i] = (char)(src[i] < 0x20 || src[i] > 0x7e ? '?' : src[i]);
    dst[i] = '\0';
}

lucid_status lucid_json_refuse(const lucid_json_place *place, const char *key, const char *format, ...) {
    char name[128], message[256], line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    copy_printable(name, sizeof name, key);
    copy_printable(line, sizeof line, message);
    return lucid_fail(LUCID_ERR_INPUT, "%s: %s%s: %s", place->path, place->prefix, name, line);
}

lucid_status lucid_json_take_count(void *field, const lucid_json_key *key, const json_t *value,
                                   const lucid_json_place *place) {
    const int64_t count = json_integer_value(value); /* 0 for what is no integer */
    if (count < 1 || count > key->max)
        return lucid_json_refuse(place, key->name, "must be an integer within 1..%" PRId64, key->max);
    *(int *)field = (int)count;
    return LUCID_OK;
}

/* MAX_NUMBER keeps what is computed from these finite. */
static lucid_status take_number(double *field, const char *name, const json_t *value, const lucid_json_place *place,
                                bool (*valid)(double), const char *wanted) {
    if (!json_is_number(value) || !valid(json_number_value(value)) || json_number_value(value) > MAX_NUMBER)
        return lucid_json_refuse(place, name, "must be a number %s and at most %g", wanted, MAX_NUMBER);
    *field = json_number_value(value);
    return LUCID_OK;
}

static bool is_positive(double x) {
    return x > 0;
}

static bool is_scale(double x) {
    return x >= 1;
}

static bool is_share(double x) {
    return x >= 0;
}

lucid_status lucid_json_take_positive(void *field, const lucid_json_key *key, const json_t *value,
                                      const lucid_json_place *place) {
    return take_number(field, key->name, value, place, is_positive, "above 0");
}

lucid_status lucid_json_take_scale(void *field, const lucid_json_key *key, const json_t *value,
                                   const lucid_json_place *place) {
    return take_number(field, key->name, value, place, is_scale, "of at least 1");
}

lucid_status lucid_json_take_share(void *field, const lucid_json_key *key, const json_t *value,
                                   const lucid_json_place *place) {
    return take_number(field, key->name, value, place, is_share, "of at least 0");
}

lucid_status lucid_json_take_bool(void *field, const lucid_json_key *key, const json_t *value,
                                  const lucid_json_place *place) {
    if (!json_is_boolean(value)) return lucid_json_refuse(place, key->name, "must be true or false");
    *(bool *)field = json_is_true(value);
    return LUCID_OK;
}

static void list_words(char *list, size_t bytes, const lucid_json_word *words) {
    size_t n = 0;
    list[0] = '\0';
    for (; words->word && n < bytes; words++)
        n += (size_t)snprintf(list + n, bytes - n, "%s%s", n ? ", " : "", words->word);
}

lucid_status lucid_json_take_word(void *field, const lucid_json_key *key, const json_t *value,
                                  const lucid_json_place *place) {
    const char *text = json_string_value(value);
    char known[128];
    for (const lucid_json_word *word = key->words; text && word->word; word++) {
        if (strcmp(word->word, text) != 0) continue;
        *(int *)field = word->value;
        return LUCID_OK;
    }
    list_words(known, sizeof known, key->words);
    if (!text) return lucid_json_refuse(place, key->name, "must be one of %s", known);
    return lucid_json_refuse(place, key->name, "'%.60s' is none of %s", text, known);
}

lucid_status lucid_json_ignore(void *field, const lucid_json_key *key, const json_t *value,
                               const lucid_json_place *place) {
    (void)field, (void)key, (void)value, (void)place;
    return LUCID_OK;
}

/* Of its type, what says nothing. */
static bool is_off(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_FALSE:
    case JSON_NULL:
        return true;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(value) == 0;
    case JSON_STRING:
        return json_string_length(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    default:
        return false;
    }
}

lucid_status lucid_json_must_be_off(void *field, const lucid_json_key *key, const json_t *value,
                                    const lucid_json_place *place) {
    (void)field;
    return is_off(value) ? LUCID_OK : lucid_json_refuse(place, key->name, "is set, and that is not supported");
}

lucid_status lucid_json_must_be_one(void *field, const lucid_json_key *key, const json_t *value,
                                    const lucid_json_place *place) {
    (void)field;
    if (json_is_number(value) && json_number_value(value) == 1) return LUCID_OK;
    return lucid_json_refuse(place, key->name, "is not 1, and nothing else is supported");
}

lucid_status lucid_json_take(void *target, const json_t *object, const lucid_json_key *keys, int n_keys,
                             const lucid_json_place *place) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value) {
        int k = 0;
        while (k < n_keys && strcmp(keys[k].name, name) != 0) k++;
        if (k == n_keys) return lucid_json_refuse(place, name, "unknown key: it might change the model's results");
        if (json_is_null(value)) continue;
        LUCID_TRY(keys[k].take((char *)target + keys[k].offset, &keys[k], value, place));
    }
    return LUCID_OK;
}

lucid_status lucid_json_parse(json_t **object, const char *text, size_t n_bytes, const char *path) {
    char near[JSON_ERROR_TEXT_LENGTH];
    json_error_t error;
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        copy_printable(near, sizeof near, error.text);
        return lucid_fail(LUCID_ERR_INPUT, "%s: line %d, column %d: %s", path, error.line, error.column, near);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return lucid_fail(LUCID_ERR_INPUT, "%s: is not a JSON object", path);
    }
    *object = root;
    return LUCID_OK;
}

lucid_status lucid_json_read(char **text, size_t *n_bytes, const char *path) {
    *text = NULL;
    if (access(path, F_OK) && errno == ENOENT) return LUCID_OK;
    return lucid_read_file(text, n_bytes, path, MAX_FILE_BYTES);
}
