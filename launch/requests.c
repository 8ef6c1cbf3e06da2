#include "launch/requests.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NEW (INT64_C(1) << 36) /* tokens of an answer: the runtime's limit */

/* A line under way, and where it stands. */
typedef struct {
    launch_request *request;
    const launch_vocabulary *vocabulary;
    const char *path;
    char place[64]; /* "requests.jsonl:17", for messages */
} line;

static lucid_status refuse(const line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static lucid_status refuse(const line *l, const char *format, ...) {
    char message[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return lucid_fail(LUCID_ERR_INPUT, "%s, %s: %s", l->path, l->place, message);
}

/* --- texts to ids --- */

static lucid_status encode(line *l, const char *text, size_t n_bytes) {
    return launch_vocabulary_encode(&l->request->ids, l->vocabulary, text, n_bytes, false, l->place);
}

/* What stands before a text: --bos's beginning, or where there must be something the model's BOS or EOS. */
static lucid_status begin(line *l, bool needed) {
    lucid_tokens *ids = &l->request->ids;
    const lucid_tokens *beginning = &l->vocabulary->beginning;
    const int64_t n = beginning->n ? beginning->n : needed && l->vocabulary->prefix >= 0;
    if (needed && n == 0) return refuse(l, "nothing stands before the text, and the model has neither BOS nor EOS");
    LUCID_TRY(lucid_tokens_reserve(ids, n));
    for (int64_t i = 0; i < n; i++) ids->ids[ids->n++] = beginning->n ? beginning->ids[i] : l->vocabulary->prefix;
    return LUCID_OK;
}

static bool ends_with(const char *text, size_t n, const char *ending) {
    const size_t n_ending = strlen(ending);
    return n >= n_ending && !memcmp(text + n - n_ending, ending, n_ending);
}

/* Bytes of text's (n) last character if Python's str.isspace holds of it, else 0. */
static size_t last_space(const char *text, size_t n) {
    static const char *const spaces[] = {
        " ",        "\t",     "\n",     "\v",     "\f",     "\r",     "\x1c",   "\x1d",   "\x1e",   "\x1f",
        "\xc2\x85", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
        "\u2007",   "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000",
    };
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        if (ends_with(text, n, spaces[i])) return strlen(spaces[i]);
    return 0;
}

/* The continuation's ids are those that the whole text has beyond the context's. */
static lucid_status encode_pair(line *l, const json_t *context, const json_t *continuation) {
    launch_request *r = l->request;
    const char *text = json_string_value(context);
    size_t n_context = json_string_length(context);
    char *whole;
    for (size_t n; (n = last_space(text, n_context));) n_context -= n;
    if (asprintf(&whole, "%s%s", text, json_string_value(continuation)) < 0)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for a request");
    lucid_status status = begin(l, n_context == 0);
    if (!status) status = encode(l, text, n_context);
    r->n_context = r->ids.n;
    r->ids.n = 0;
    if (!status) status = begin(l, n_context == 0);
    if (!status) status = encode(l, whole, strlen(whole));
    free(whole);
    if (status) return status;
    if (r->n_context >= r->ids.n) return refuse(l, "the continuation has no tokens of its own");
    return r->n_context > 0 ? LUCID_OK : refuse(l, "the context has no tokens");
}

/* --- the kinds --- */

static lucid_status take_loglikelihood(line *l, const json_t *arguments) {
    const json_t *context = json_array_get(arguments, 0), *continuation = json_array_get(arguments, 1);
    if (json_array_size(arguments) != 2 || !json_is_string(context) || !json_is_string(continuation))
        return refuse(l, "arguments must be [context, continuation]");
    return encode_pair(l, context, continuation);
}

static lucid_status take_rolling(line *l, const json_t *arguments) {
    const json_t *text = json_array_get(arguments, 0);
    if (json_array_size(arguments) != 1 || !json_is_string(text)) return refuse(l, "arguments must be [text]");
    LUCID_TRY(begin(l, true));
    l->request->n_context = l->request->ids.n;
    LUCID_TRY(encode(l, json_string_value(text), json_string_length(text)));
    return l->request->ids.n > l->request->n_context ? LUCID_OK : refuse(l, "the text has no tokens");
}

static lucid_status add_stop(line *l, const json_t *stop) {
    launch_texts *until = &l->request->until;
    if (!json_is_string(stop)) return refuse(l, "until must hold texts");
    if (json_string_length(stop) == 0) return LUCID_OK; /* ends nothing in the harness either */
    if (until->n == LAUNCH_MAX_TEXTS) return refuse(l, "until has more than %d texts", LAUNCH_MAX_TEXTS);
    until->items[until->n++] = json_string_value(stop);
    return LUCID_OK;
}

static lucid_status take_until(line *l, const json_t *value) {
    if (!json_is_array(value)) return add_stop(l, value);
    for (size_t i = 0; i < json_array_size(value); i++) LUCID_TRY(add_stop(l, json_array_get(value, i)));
    return LUCID_OK;
}

static lucid_status take_option(line *l, const char *key, const json_t *value) {
    launch_request *r = l->request;
    if (!strcmp(key, "until")) return take_until(l, value);
    if (!strcmp(key, "max_gen_toks")) {
        r->max_new = json_integer_value(value);
        const bool fits = r->max_new > 0 && r->max_new <= MAX_NEW;
        return fits ? LUCID_OK : refuse(l, "max_gen_toks must be a whole number from 1 to %" PRId64, MAX_NEW);
    }
    if (!strcmp(key, "do_sample"))
        return json_is_boolean(value) ? LUCID_OK : refuse(l, "do_sample must be true or false");
    if (!strcmp(key, "top_k")) {
        r->top_k = json_integer_value(value);
        const bool fits = json_is_integer(value) && r->top_k >= 0;
        return fits ? LUCID_OK : refuse(l, "top_k is out of range");
    }
    double *number = !strcmp(key, "temperature") ? &r->temperature : !strcmp(key, "top_p") ? &r->top_p : NULL;
    if (!number) return refuse(l, "generate_until has no option '%s' here", key);
    *number = json_number_value(value);
    const bool fits = json_is_number(value) && *number >= 0 && (number == &r->temperature || *number <= 1);
    return fits ? LUCID_OK : refuse(l, "%s is out of range", key);
}

static lucid_status take_generate(line *l, const json_t *arguments) {
    const json_t *context = json_array_get(arguments, 0), *value;
    json_t *options = json_array_get(arguments, 1);
    const char *key;
    if (json_array_size(arguments) != 2 || !json_is_string(context) || !json_is_object(options))
        return refuse(l, "arguments must be [context, options]");
    json_object_foreach(options, key, value) LUCID_TRY(take_option(l, key, value));
    if (!json_is_true(json_object_get(options, "do_sample"))) l->request->temperature = 0;
    LUCID_TRY(begin(l, json_string_length(context) == 0));
    LUCID_TRY(encode(l, json_string_value(context), json_string_length(context)));
    l->request->n_context = l->request->ids.n;
    return l->request->ids.n ? LUCID_OK : refuse(l, "the context has no tokens");
}

static lucid_status take_request(line *l) {
    static const struct {
        const char *name;
        launch_request_kind kind;
        lucid_status (*take)(line *l, const json_t *arguments);
    } kinds[] = {{"loglikelihood", REQUEST_LOGLIKELIHOOD, take_loglikelihood},
                 {"loglikelihood_rolling", REQUEST_ROLLING, take_rolling},
                 {"generate_until", REQUEST_GENERATE, take_generate}};
    const json_t *object = l->request->object, *arguments = json_object_get(object, "arguments");
    const char *type = json_string_value(json_object_get(object, "request_type"));
    if (!type) return refuse(l, "no request_type");
    if (!json_is_array(arguments)) return refuse(l, "arguments must be an array");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, type)) continue;
        l->request->kind = kinds[i].kind;
        return kinds[i].take(l, arguments);
    }
    return refuse(l, "request_type '%.40s' is none of loglikelihood, loglikelihood_rolling, generate_until", type);
}

/* --- the file --- */

static lucid_status take_line(launch_requests *requests, line *l, const char *text, size_t n_bytes, int64_t max_new) {
    json_error_t error;
    launch_request *larger = realloc(requests->items, (size_t)(requests->n + 1) * sizeof *larger);
    if (!larger)
        return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for %lld requests", l->path, (long long)requests->n);
    requests->items = larger;
    l->request = &requests->items[requests->n++];
    *l->request = (launch_request){.max_new = max_new, .temperature = 1, .top_p = 1};
    l->request->object = json_loadb(text, n_bytes, 0, &error);
    if (!l->request->object) return refuse(l, "%s", error.text);
    if (!json_is_object(l->request->object)) return refuse(l, "not an object");
    json_object_del(l->request->object, "resps"); /* answers of another run, whose place these take */
    return take_request(l);
}

static bool is_blank(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r", text[i]) || !text[i]) return false;
    return true;
}

lucid_status launch_requests_read(launch_requests *requests, const char *path, const launch_vocabulary *vocabulary,
                                  int64_t max_new) {
    line l = {.vocabulary = vocabulary, .path = path};
    char *text;
    size_t n_bytes;
    lucid_status status = launch_text_read(&text, &n_bytes, path);
    if (status) return status;
    int64_t number = 0;
    for (const char *at = text, *end = text + n_bytes; !status && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const size_t n = (size_t)((newline ? newline : end) - at);
        snprintf(l.place, sizeof l.place, "line %lld", (long long)++number);
        if (!is_blank(at, n)) status = take_line(requests, &l, at, n, max_new);
        at += n + 1;
    }
    free(text);
    if (!status && requests->n == 0) return lucid_fail(LUCID_ERR_INPUT, "%s: no requests", path);
    return status;
}

void launch_requests_free(launch_requests *requests) {
    for (int64_t i = 0; i < requests->n; i++) {
        json_decref(requests->items[i].object);
        lucid_tokens_free(&requests->items[i].ids);
    }
    free(requests->items);
    *requests = (launch_requests){0};
}
