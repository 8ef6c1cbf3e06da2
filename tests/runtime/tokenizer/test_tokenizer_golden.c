/* Ids and decoded text against what Hugging Face's tokenizers gave, for every tokenizer in golden; and that
 * decoding one token at a time never splits a character. */
#include "tests/check.h"

#include "runtime/tokenizer/tokenizer.h"

#include <dirent.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Instrumented code is ten times as slow. */
#ifdef __SANITIZE_ADDRESS__
#define LONG_MIB 1
#else
#define LONG_MIB 10
#endif

typedef struct {
    char *bytes;
    size_t n;
} string;

static json_t *load(const char *folder, const char *name, const char *ending) {
    char path[1024];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
    CHECK(root, "%s: %s", path, error.text);
    return root;
}

static void check_ids(const lucid_tokens *got, const json_t *want, const char *name, size_t text) {
    const size_t n = json_array_size(want);
    size_t i = 0;
    while (i < n && i < (size_t)got->n && got->ids[i] == json_integer_value(json_array_get(want, i))) i++;
    CHECK((size_t)got->n == n, "%s, text %zu: %lld ids, want %zu", name, text, (long long)got->n, n);
    CHECK(i == n, "%s, text %zu: id %zu is %d, want %d", name, text, i, i < (size_t)got->n ? (int)got->ids[i] : -1,
          (int)json_integer_value(json_array_get(want, i)));
}

/* What is whole by itself: no continuation byte first, no character cut short at the end. */
static bool whole_characters(const char *s, size_t n) {
    size_t at = 0;
    while (at < n) {
        const unsigned char c = (unsigned char)s[at];
        const size_t length = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
        if (length == 0 || length > n - at) return false;
        for (size_t i = 1; i < length; i++) {
            if (((unsigned char)s[at + i] & 0xC0) != 0x80) return false;
        }
        at += length;
    }
    return true;
}

static void append(string *out, const char *text, size_t n, const char *name) {
    CHECK(whole_characters(text, n), "%s: a call gave %zu bytes that are no whole characters", name, n);
    out->bytes = realloc(out->bytes, out->n + n + 1);
    memcpy(out->bytes + out->n, text, n);
    out->n += n;
}

static string decode(lucid_decoding *decoding, const lucid_tokens *tokens, const char *name) {
    string out = {NULL, 0};
    const char *text = NULL;
    size_t n = 0;
    for (int64_t i = 0; i < tokens->n; i++) {
        CHECK(lucid_decoding_next(decoding, tokens->ids[i], &text, &n) == LUCID_OK, "%s: %s", name, lucid_failure());
        append(&out, text, n, name);
    }
    CHECK(lucid_decoding_finish(decoding, &text, &n) == LUCID_OK, "%s: %s", name, lucid_failure());
    append(&out, text, n, name);
    return out;
}

static void check_text(lucid_decoding *decoding, const lucid_tokens *tokens, const json_t *want, const char *what,
                       const char *name, size_t text) {
    const string got = decode(decoding, tokens, name);
    const size_t n = json_string_length(want);
    size_t i = 0;
    while (i < n && i < got.n && got.bytes[i] == json_string_value(want)[i]) i++;
    CHECK(got.n == n && i == n, "%s, text %zu: %s: %zu bytes, want %zu, the same up to byte %zu: '%.*s'", name, text,
          what, got.n, n, i, (int)(got.n - i), got.bytes + i);
    free(got.bytes);
}

typedef struct {
    lucid_tokenizer *tokenizer;
    lucid_decoding *keeping, *skipping;
    const char *name;
} subject;

static void check_case(const subject *s, const json_t *text, const json_t *entry, size_t index) {
    lucid_tokens ids = {0}, plain = {0};
    const json_t *ids_wanted = json_object_get(entry, "ids"), *plain_wanted = json_object_get(entry, "plain");
    const json_t *decoded = json_object_get(entry, "text"), *skipped = json_object_get(entry, "skipped");
    const char *bytes = json_string_value(text);
    const size_t n = json_string_length(text);
    if (!decoded) decoded = text;
    CHECK(lucid_tokenizer_encode(s->tokenizer, &ids, bytes, n, true) == LUCID_OK, "%s: %s", s->name, lucid_failure());
    CHECK(lucid_tokenizer_encode(s->tokenizer, &plain, bytes, n, false) == LUCID_OK, "%s: %s", s->name,
          lucid_failure());
    check_ids(&ids, ids_wanted, s->name, index);
    check_ids(&plain, plain_wanted ? plain_wanted : ids_wanted, s->name, index);
    check_text(s->keeping, &plain, decoded, "special tokens kept", s->name, index);
    check_text(s->skipping, &plain, skipped ? skipped : decoded, "special tokens skipped", s->name, index);
    lucid_tokens_free(&ids);
    lucid_tokens_free(&plain);
}

static void append_ids(lucid_tokens *ids, const json_t *more) {
    CHECK(lucid_tokens_reserve(ids, (int64_t)json_array_size(more)) == LUCID_OK, "%s", lucid_failure());
    for (size_t i = 0; i < json_array_size(more); i++)
        ids->ids[ids->n++] = (int32_t)json_integer_value(json_array_get(more, i));
}

/* All texts four times in one, long enough for the cache of segments, with a special token between: the ids of each. */
static void check_joined(const subject *s, const json_t *texts, const json_t *golden, const char *separator) {
    lucid_tokens got = {0}, want = {0};
    string joined = {NULL, 0};
    json_t *between = json_pack("[i]", (int)lucid_tokenizer_id(s->tokenizer, separator, strlen(separator)));
    for (size_t i = 0; i < 4 * json_array_size(texts); i++) {
        const size_t k = i % json_array_size(texts);
        const json_t *text = json_array_get(texts, k), *entry = json_array_get(golden, k);
        const json_t *plain = json_object_get(entry, "plain");
        append(&joined, json_string_value(text), json_string_length(text), s->name);
        append(&joined, separator, strlen(separator), s->name);
        append_ids(&want, plain ? plain : json_object_get(entry, "ids"));
        append_ids(&want, between);
    }
    CHECK(joined.n > 1 << 14, "%zu bytes are too few for the cache", joined.n);
    CHECK(lucid_tokenizer_encode(s->tokenizer, &got, joined.bytes, joined.n, false) == LUCID_OK, "%s", lucid_failure());
    CHECK(got.n == want.n && memcmp(got.ids, want.ids, (size_t)want.n * sizeof *want.ids) == 0,
          "%s: the texts joined have %lld ids, want %lld", s->name, (long long)got.n, (long long)want.n);
    json_decref(between);
    lucid_tokens_free(&got);
    lucid_tokens_free(&want);
    free(joined.bytes);
}

static size_t random_below(size_t n) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (size_t)(state >> 11) % n;
}

/* Whole characters from the texts, up to 30 bytes of one and then of another: all scripts, and few words twice. */
static string shuffled(const json_t *texts, size_t n_bytes) {
    string s = {malloc(n_bytes + 1), 0};
    while (s.n < n_bytes) {
        const json_t *text = json_array_get(texts, random_below(json_array_size(texts)));
        const size_t n = json_string_length(text);
        if (n == 0) continue;
        const char *bytes = json_string_value(text);
        size_t first = random_below(n), end = first + random_below(30);
        if (end > n) end = n;
        if (end - first > n_bytes - s.n) end = first + n_bytes - s.n;
        while (first < end && (bytes[first] & 0xC0) == 0x80) first++;
        while (end < n && (bytes[end] & 0xC0) == 0x80) end--;
        if (first >= end) continue;
        memcpy(s.bytes + s.n, bytes + first, end - first);
        s.n += end - first;
    }
    return s;
}

/* A long text takes less than 5 s of processor time. */
static void check_long(const subject *s, const json_t *texts) {
    lucid_tokens ids = {0};
    const string text = shuffled(texts, (size_t)LONG_MIB << 20);
    const clock_t begin = clock();
    CHECK(lucid_tokenizer_encode(s->tokenizer, &ids, text.bytes, text.n, false) == LUCID_OK, "%s", lucid_failure());
    const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    printf("%-8s %zu bytes, %lld ids, %.2f s\n", s->name, text.n, (long long)ids.n, seconds);
    CHECK(seconds < 5, "%s: %d MiB take %.2f s", s->name, LONG_MIB, seconds);
    free(text.bytes);
    lucid_tokens_free(&ids);
}

static void check_tokenizer(const char *folder, const char *name, const json_t *texts) {
    char path[1024];
    subject s = {.name = name};
    json_t *golden = load(folder, name, ".golden.json");
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    CHECK(lucid_tokenizer_open(&s.tokenizer, path) == LUCID_OK, "%s", lucid_failure());
    CHECK(golden && json_array_size(golden) == json_array_size(texts), "%s: %zu golden texts", name,
          json_array_size(golden));
    if (s.tokenizer && golden && !lucid_decoding_open(&s.keeping, s.tokenizer, false) &&
        !lucid_decoding_open(&s.skipping, s.tokenizer, true)) {
        for (size_t i = 0; i < json_array_size(texts); i++)
            check_case(&s, json_array_get(texts, i), json_array_get(golden, i), i);
        if (strcmp(name, "gpt2") == 0) check_joined(&s, texts, golden, "<|endoftext|>");
        if (strcmp(name, "llama2") == 0) check_joined(&s, texts, golden, "<s>");
        if (strcmp(name, "gpt2") == 0 || strcmp(name, "llama2") == 0 || strcmp(name, "llama3") == 0)
            check_long(&s, texts);
    }
    lucid_decoding_close(s.keeping);
    lucid_decoding_close(s.skipping);
    lucid_tokenizer_close(s.tokenizer);
    json_decref(golden);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    int n = 0;
    json_t *texts = load(argv[1], "texts", ".json");
    DIR *folder = opendir(argv[1]);
    for (struct dirent *entry; folder && texts && (entry = readdir(folder));) {
        char *ending = strstr(entry->d_name, ".golden.json");
        if (!ending) continue;
        *ending = '\0';
        check_tokenizer(argv[1], entry->d_name, texts);
        n++;
    }
    CHECK(n >= 30, "only %d tokenizers in %s", n, argv[1]);
    if (folder) closedir(folder);
    json_decref(texts);
    return check_result();
}
