#include "runtime/files/read.h"
#include "runtime/tokenizer/parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILE_BYTES ((size_t)256 << 20) /* the largest known are below 40 MB */

static lucid_status load_json(json_t **root, const char *json, size_t n, const char *name) {
    json_error_t error;
    *root = json_loadb(json, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (*root) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: line %d: %s", name, error.line,
                      lucid_excerpt_of(error.text, strlen(error.text)).text);
}

static const char *part_name(char where[static 512], const char *name, const char *part) {
    snprintf(where, 512, "%.400s: %s", name, part);
    return where;
}

static lucid_status check_version(const json_t *root, const char *name) {
    lucid_json_text version;
    LUCID_TRY(lucid_json_string(&version, root, "version", true, name));
    if (!version.bytes || strcmp(version.bytes, "1.0") == 0) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: version '%s' is not known", name,
                      lucid_excerpt_of(version.bytes, version.n).text);
}

static lucid_status read_parts(lucid_tokenizer *t, const json_t *root, const char *name) {
    char where[512];
    LUCID_TRY(lucid_json_known(root,
                               "version truncation padding added_tokens normalizer pre_tokenizer post_processor "
                               "decoder model",
                               name));
    LUCID_TRY(check_version(root, name));
    LUCID_TRY(lucid_bpe_read(&t->bpe, json_object_get(root, "model"), part_name(where, name, "model")));
    LUCID_TRY(lucid_normalizers_read(&t->normalizers, json_object_get(root, "normalizer"),
                                     part_name(where, name, "normalizer")));
    LUCID_TRY(lucid_added_read(&t->added, json_object_get(root, "added_tokens"), &t->bpe.vocab, &t->normalizers,
                               part_name(where, name, "added_tokens")));
    LUCID_TRY(lucid_splitters_read(&t->splitters, json_object_get(root, "pre_tokenizer"),
                                   part_name(where, name, "pre_tokenizer")));
    LUCID_TRY(lucid_decoders_read(&t->decoders, json_object_get(root, "decoder"), part_name(where, name, "decoder")));
    LUCID_TRY(
        lucid_template_read(t, json_object_get(root, "post_processor"), part_name(where, name, "post_processor")));
    t->bos = t->prefix.n ? t->prefix.ids[0] : -1;
    t->eos = t->suffix.n ? t->suffix.ids[t->suffix.n - 1] : -1;
    return LUCID_OK;
}

lucid_status lucid_tokenizer_parse(lucid_tokenizer **tokenizer, const char *json, size_t n_bytes, const char *name) {
    json_t *root;
    LUCID_TRY(load_json(&root, json, n_bytes, name));
    lucid_tokenizer *made = calloc(1, sizeof *made);
    const lucid_status status =
        made ? read_parts(made, root, name) : lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for a tokenizer", name);
    json_decref(root);
    if (status) {
        lucid_tokenizer_close(made);
        return status;
    }
    *tokenizer = made;
    return LUCID_OK;
}

/* "<s>", or {"content": "<s>", ...}; null and absence change nothing. */
static lucid_status read_named(int32_t *id, const lucid_tokenizer *t, const json_t *config, const char *key,
                               const char *name) {
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    if (!value || json_is_null(value)) return LUCID_OK;
    if (!json_is_string(value)) return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is no string", name, key);
    *id = lucid_tokenizer_id(t, json_string_value(value), json_string_length(value));
    if (*id >= 0) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: %s '%s' is no token", name, key,
                      lucid_excerpt_of(json_string_value(value), json_string_length(value)).text);
}

static lucid_status read_config(lucid_tokenizer *t, const char *text, size_t n_bytes, const char *name) {
    json_t *config;
    LUCID_TRY(load_json(&config, text, n_bytes, name));
    lucid_status status = json_is_object(config) ? LUCID_OK : lucid_fail(LUCID_ERR_INPUT, "%s: is no object", name);
    if (!status) status = read_named(&t->bos, t, config, "bos_token", name);
    if (!status) status = read_named(&t->eos, t, config, "eos_token", name);
    json_decref(config);
    return status;
}

/* Of the file beside `path`, where there is one. */
static lucid_status read_config_beside(lucid_tokenizer *t, const char *path) {
    const char *slash = strrchr(path, '/');
    char *beside = NULL, *text = NULL;
    size_t n_bytes;
    if (asprintf(&beside, "%.*stokenizer_config.json", slash ? (int)(slash + 1 - path) : 0, path) < 0)
        return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory", path);
    lucid_status status = LUCID_OK;
    if (!access(beside, F_OK) || errno != ENOENT) {
        status = lucid_read_file(&text, &n_bytes, beside, MAX_FILE_BYTES);
        if (!status && n_bytes) status = read_config(t, text, n_bytes, beside);
    }
    free(text);
    free(beside);
    return status;
}

lucid_status lucid_tokenizer_open(lucid_tokenizer **tokenizer, const char *path) {
    char *text;
    size_t n_bytes;
    lucid_tokenizer *made = NULL;
    LUCID_TRY(lucid_read_file(&text, &n_bytes, path, MAX_FILE_BYTES));
    lucid_status status = lucid_tokenizer_parse(&made, text, n_bytes, path);
    free(text);
    if (!status) status = read_config_beside(made, path);
    if (status) {
        lucid_tokenizer_close(made);
        return status;
    }
    *tokenizer = made;
    return LUCID_OK;
}
