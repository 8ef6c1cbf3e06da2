/* Tokenizers from files laid out here by hand: what the calls promise, invalid UTF-8, texts of many megabytes, and
 * every way a file can be wrong, each with the words that its error must have. */
#include "tests/capture_failure.h"
#include "tests/runtime/tokenizer/tokenizer_samples.h"
#include "tests/scratch_folder.h"

#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/tokenizer.h"

#include <time.h>

static lucid_tokenizer *parse(const char *json) {
    lucid_tokenizer *tokenizer = NULL;
    CHECK(lucid_tokenizer_parse(&tokenizer, json, strlen(json), "t.json") == LUCID_OK, "%s", last_failure);
    if (!tokenizer) exit(check_result());
    return tokenizer;
}

static void check_encoded(const lucid_tokenizer *tokenizer, const char *text, size_t n, bool add_special,
                          const int32_t *want, int n_want) {
    lucid_tokens tokens = {0};
    CHECK(lucid_tokenizer_encode(tokenizer, &tokens, text, n, add_special) == LUCID_OK, "%s", last_failure);
    CHECK(tokens.n == n_want, "'%s': %lld ids, want %d", text, (long long)tokens.n, n_want);
    for (int i = 0; i < n_want && i < tokens.n; i++)
        CHECK(tokens.ids[i] == want[i], "'%s': id %d is %d, want %d", text, i, (int)tokens.ids[i], (int)want[i]);
    lucid_tokens_free(&tokens);
}
#define CHECK_ENCODED(tokenizer, text, add_special, ...)                                          \
    check_encoded(tokenizer, text, sizeof(text) - 1, add_special, (const int32_t[]){__VA_ARGS__}, \
                  COUNT(((const int32_t[]){__VA_ARGS__})))

static void test_vocabulary(void) {
    lucid_tokenizer *t = parse(sample_special);
    size_t n = 0;
    const char *token = lucid_tokenizer_token(t, 5, &n);
    CHECK(lucid_tokenizer_size(t) == 8, "size %d", (int)lucid_tokenizer_size(t));
    CHECK(token && n == 3 && strcmp(token, "abc") == 0, "token 5");
    CHECK(!lucid_tokenizer_token(t, 8, &n) && !lucid_tokenizer_token(t, -1, &n), "ids without a token");
    CHECK(lucid_tokenizer_id(t, "abc", 3) == 5 && lucid_tokenizer_id(t, "<s>", 3) == 7, "ids of tokens");
    CHECK(lucid_tokenizer_id(t, "abc", 2) == 4 && lucid_tokenizer_id(t, "bc", 2) == -1, "ids of other strings");
    CHECK(lucid_tokenizer_is_special(t, 7) && !lucid_tokenizer_is_special(t, 0), "special tokens");
    CHECK(lucid_tokenizer_bos(t) == 7 && lucid_tokenizer_eos(t) == -1, "bos %d, eos %d", (int)lucid_tokenizer_bos(t),
          (int)lucid_tokenizer_eos(t));
    CHECK(lucid_tokenizer_template(t, false)->n == 1 && lucid_tokenizer_template(t, true)->n == 0, "template");
    lucid_tokenizer_close(t);
}

static void test_encode(void) {
    lucid_tokenizer *t = parse(sample_special);
    lucid_tokens tokens = {0};
    CHECK_ENCODED(t, "abcab", true, 7, 5, 4);
    CHECK_ENCODED(t, "abc<s>ba", false, 5, 7, 1, 0);
    CHECK_ENCODED(t, "xyza", false, 6, 0);
    CHECK_ENCODED(t, "", true, 7);
    CHECK(lucid_tokenizer_encode(t, &tokens, "a", 1, false) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_tokenizer_encode(t, &tokens, "b", 1, false) == LUCID_OK, "%s", last_failure);
    CHECK(tokens.n == 2 && tokens.ids[0] == 0 && tokens.ids[1] == 1, "ids are appended");
    check_failed(lucid_tokenizer_encode(t, &tokens, "a", (size_t)2 << 30, false), LUCID_ERR_INPUT, "at most 1 GiB");
    CHECK(tokens.n == 2, "ids after a failure");
    lucid_tokens_free(&tokens);
    lucid_tokenizer_close(t);
}

static void check_decoded(lucid_decoding *decoding, int32_t id, const char *want) {
    const char *text = NULL;
    size_t n = 0;
    const lucid_status status =
        id >= 0 ? lucid_decoding_next(decoding, id, &text, &n) : lucid_decoding_finish(decoding, &text, &n);
    CHECK(status == LUCID_OK, "%s", last_failure);
    CHECK(n == strlen(want) && memcmp(text, want, n) == 0, "id %d: '%.*s', want '%s'", (int)id, (int)n, text, want);
}

static void test_decode_bytes_of_characters(void) {
    lucid_tokenizer *t = parse(sample_bytes);
    lucid_decoding *decoding = NULL;
    CHECK(lucid_decoding_open(&decoding, t, true) == LUCID_OK, "%s", last_failure);
    check_decoded(decoding, 0, "");
    check_decoded(decoding, 1, "");
    check_decoded(decoding, 2, "\xE4\xBD\xA0");
    check_decoded(decoding, 99, "");
    check_decoded(decoding, 0, "");
    check_decoded(decoding, 1, "");
    check_decoded(decoding, 3, "\uFFFD\uFFFDx"); /* one for each byte, as ByteFallback has it */
    check_decoded(decoding, 1, "\uFFFD");
    check_decoded(decoding, 0, "");
    check_decoded(decoding, -1, "\uFFFD");
    check_decoded(decoding, -1, "");
    lucid_decoding_close(decoding);
    lucid_tokenizer_close(t);
}

static void test_invalid_utf8(void) {
    lucid_tokenizer *t = parse("{\"model\":{\"vocab\":{\"a\":0,\"\uFFFD\":1},\"merges\":[]}}");
    CHECK_ENCODED(t,
                  "a\xFF"
                  "a",
                  false, 0, 1, 0);
    CHECK_ENCODED(t, "\xC0\x80", false, 1, 1);        /* overlong */
    CHECK_ENCODED(t, "\xED\xA0\x80", false, 1, 1, 1); /* a surrogate */
    CHECK_ENCODED(t,
                  "\xE4\xBD"
                  "a",
                  false, 1, 0);                              /* cut short */
    CHECK_ENCODED(t, "\xF0\x9F\x98", false, 1);              /* by the end */
    CHECK_ENCODED(t, "\xF4\x90\x80\x80", false, 1, 1, 1, 1); /* beyond U+10FFFF */
    lucid_tokenizer_close(t);
}

static void test_byte_tokenizer(void) {
    lucid_tokenizer *t = NULL;
    lucid_decoding *decoding = NULL;
    size_t n = 0;
    CHECK(lucid_tokenizer_bytes(&t) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_decoding_open(&decoding, t, true) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_tokenizer_size(t) == 256 && lucid_tokenizer_bos(t) == -1 && lucid_tokenizer_eos(t) == -1,
          "byte tokenizer");
    CHECK(lucid_tokenizer_token(t, 65, &n)[0] == 'A' && n == 1 && !lucid_tokenizer_token(t, 256, &n), "tokens");
    CHECK(lucid_tokenizer_id(t, "\xFF", 1) == 255 && lucid_tokenizer_id(t, "ab", 2) == -1, "ids");
    CHECK_ENCODED(t, "a\0\xFF\xC3", true, 97, 0, 255, 0xC3);
    check_decoded(decoding, 0xC3, "");
    check_decoded(decoding, 0xA9, "\xC3\xA9");
    check_decoded(decoding, 0xFF, "\uFFFD");
    check_decoded(decoding, 0xE2, "");
    check_decoded(decoding, 0x82, "");
    check_decoded(decoding, 'x', "\uFFFDx"); /* one for what could have been a character */
    check_decoded(decoding, 256, "");
    lucid_decoding_close(decoding);
    lucid_tokenizer_close(t);
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "wb");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0, "cannot write %s", path);
}

static void test_config_beside(void) {
    const char *path = scratch_path("tokenizer.json"), *config = scratch_path("tokenizer_config.json");
    lucid_tokenizer *t = NULL;
    write_file(path, sample_special);
    CHECK(lucid_tokenizer_open(&t, path) == LUCID_OK, "%s", last_failure);
    lucid_tokenizer_close(t);
    write_file(config, "{\"bos_token\":{\"content\":\"a\"},\"eos_token\":\"abc\",\"other\":1}");
    CHECK(lucid_tokenizer_open(&t, path) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_tokenizer_bos(t) == 0 && lucid_tokenizer_eos(t) == 5, "bos and eos by name");
    lucid_tokenizer_close(t);
    write_file(config, "{\"eos_token\":\"nowhere\"}");
    check_failed(lucid_tokenizer_open(&t, path), LUCID_ERR_INPUT,
                 "tokenizer_config.json: eos_token 'nowhere' is no token");
    write_file(config, "{\"eos_token\":");
    check_failed(lucid_tokenizer_open(&t, path), LUCID_ERR_INPUT, "tokenizer_config.json: line 1");
    check_failed(lucid_tokenizer_open(&t, scratch_path("absent")), LUCID_ERR_IO, "absent: No such file");
    check_failed(lucid_tokenizer_open(&t, scratch_folder), LUCID_ERR_INPUT, "not a file");
}

/* Processor seconds for n bytes of text made of the piece again and again. */
static double encode_long(const lucid_tokenizer *t, const char *piece, size_t n, lucid_tokens *tokens) {
    char *text = malloc(n);
    const size_t length = strlen(piece);
    for (size_t i = 0; i < n; i++) text[i] = piece[i % length];
    const clock_t begin = clock();
    CHECK(lucid_tokenizer_encode(t, tokens, text, n, false) == LUCID_OK, "%s", last_failure);
    free(text);
    return (double)(clock() - begin) / CLOCKS_PER_SEC;
}

/* Instrumented code is ten times as slow. */
#ifdef __SANITIZE_ADDRESS__
#define LONG_TEXT ((size_t)1 << 20)
#else
#define LONG_TEXT ((size_t)10 << 20)
#endif

/* In the style of Llama-2 the whole text is one word. Runs with no seam to cut at go through the heap as a whole. Five
 * seconds are ten times what is needed, and nothing quadratic meets them. */
static void test_long_text(void) {
    static const struct {
        const char *piece;
        size_t n;
    } texts[] = {{"abc abcab cab ", LONG_TEXT}, {"ab", LONG_TEXT / 5}, {"a", LONG_TEXT / 5}, {" ", LONG_TEXT / 5}};
    lucid_tokenizer *t =
        parse("{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\" \":3,\"ab\":4,\"abab\":5,\"aa\":6,\"aaaa\":7,"
              "\"ba\":8,\"  \":9},\"merges\":[\"a b\",\"ab ab\",\"a a\",\"aa aa\",\"b a\",[\" \",\" \"]]}}");
    for (int i = 0; i < COUNT(texts); i++) {
        lucid_tokens tokens = {0};
        const double seconds = encode_long(t, texts[i].piece, texts[i].n, &tokens);
        int64_t bytes = 0;
        for (int64_t k = 0; k < tokens.n; k++) {
            size_t length = 0;
            lucid_tokenizer_token(t, tokens.ids[k], &length);
            bytes += (int64_t)length;
        }
        CHECK(bytes == (int64_t)texts[i].n, "'%s': the tokens have %lld bytes", texts[i].piece, (long long)bytes);
        CHECK(seconds < 5, "'%s': %.1f s", texts[i].piece, seconds);
        lucid_tokens_free(&tokens);
    }
    lucid_tokenizer_close(t);
}

/* Llama-3's pattern looks for a newline through the whole run before it takes it as spaces. */
static void test_long_run(void) {
    lucid_tokenizer *t =
        parse("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)\"},"
              "\"behavior\":\"Isolated\",\"invert\":false},\"model\":{\"vocab\":{\" \":0},\"merges\":[]}}");
    lucid_tokens tokens = {0};
    encode_long(t, " ", 2 << 20, &tokens);
    CHECK(tokens.n == 2 << 20, "%lld ids", (long long)tokens.n);
    lucid_tokens_free(&tokens);
    lucid_tokenizer_close(t);
}

static void test_hopeless_pattern(void) {
    lucid_tokenizer *t =
        parse("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a|aa)*[cd]\"},\"behavior\":"
              "\"Isolated\",\"invert\":false},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}");
    lucid_tokens tokens = {0};
    check_failed(lucid_tokenizer_encode(t, &tokens, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                        64, false),
                 LUCID_ERR_INPUT, "gives up on this text");
    CHECK(tokens.n == 0, "ids after a failure");
    lucid_tokens_free(&tokens);
    lucid_tokenizer_close(t);
}

static const struct {
    const char *pattern, *want; /* NULL: refused */
} translations[] = {
    {"a|b", "a|b"},
    {"[\\s\\d]+\\S", "[\\p{White_Space}\\p{Nd}]+\\P{White_Space}"},
    {"\\v[\\v]", "\\x0b[\\x0b]"},
    {"\\h", "[0-9a-fA-F]"},
    {"\\p{L}\\p{^Lu}\\P{Han}", "\\p{L}\\p{^Lu}\\P{sc:Han}"},
    {"\\u3042\\x41\\x{1F600}", "\\x{3042}\\x{41}\\x{1F600}"},
    {"a{1,3}b{,2}c{", "a{1,3}b{0,2}c{"},
    {"(?i)a(?i:b)(?<!c)", "(?i)a(?i:b)(?<!c)"},
    {"[^\\r\\n\\[\\]]", "[^\\r\\n\\[\\]]"},
    {"[a[b]]", NULL},
    {"[a&&b]", NULL},
    {"[]a]", NULL},
    {"[\\W]", NULL},
    {"a(?i)b", NULL},
    {"(?m:.)", NULL},
    {"(?<n>a)", NULL},
    {"(*FAIL)", NULL},
    {"(a)\\1", NULL},
    {"\\R", NULL},
    {"\\X", NULL},
    {"\\K", NULL},
    {"\\G", NULL},
    {"\\pL", NULL},
    {"\\p{L", NULL},
    {"\\p{sc:Han}", NULL},
    {"\\xE4", NULL},
    {"\\x{zz}", NULL},
    {"a{2}+", NULL},
    {"\\", NULL},
};

static void test_translations(void) {
    for (int i = 0; i < COUNT(translations); i++) {
        lucid_text out = {0};
        const char *pattern = translations[i].pattern, *want = translations[i].want;
        const lucid_status status = lucid_regex_translate(&out, pattern, strlen(pattern), "here");
        if (want)
            CHECK(!status && out.n == strlen(want) && memcmp(out.bytes, want, out.n) == 0, "'%s' became '%.*s'",
                  pattern, (int)out.n, out.bytes);
        else
            check_failed(status, LUCID_ERR_INPUT, "here: the regular expression has");
        lucid_text_free(&out);
    }
}

#define WITH(part)         "{" part "," MODEL "}"
#define NORMALIZER(part)   WITH("\"normalizer\":" part)
#define PRETOKENIZER(part) WITH("\"pre_tokenizer\":" part)
#define DECODER(...)       WITH("\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" __VA_ARGS__ "]}")
#define TOKEN(part)        WITH("\"added_tokens\":[" part "]")
#define VOCAB(vocab, rest) "{\"model\":{\"vocab\":{" vocab "},\"merges\":[" rest "]}}"

static const struct {
    const char *json, *fragment;
} malformed[] = {
    {"", "t.json: line"},
    {"[]", "t.json: is no object"},
    {"{\"model\":", "t.json: line 1"},
    {"{}", "model: is no object"},
    {"{\"model\":{},\"model\":{}}", "duplicate"},
    {WITH("\"version\":\"2.0\""), "version '2.0'"},
    {WITH("\"extra\":1"), "the key 'extra' is not known"},
    {WITH("\"\":1"), "the key '' is not known"},
    {WITH("\"version model\":1"), "the key 'version model' is not known"},
    {"{\"model\":{\"type\":\"Unigram\"}}", "model: the type 'Unigram' is not known"},
    {"{\"model\":{\"type\":7}}", "'type' is no string"},
    {"{\"model\":{\"vocab\":{},\"merges\":[]}}", "'vocab' is empty"},
    {"{\"model\":{\"vocab\":[],\"merges\":[]}}", "'vocab' is no object"},
    {"{\"model\":{\"vocab\":{\"a\":0}}}", "'merges' is no array"},
    {VOCAB("\"a\":-1", ""), "the id -1 is not in 0.."},
    {VOCAB("\"a\":4294967296", ""), "the id 4294967296 is not in 0.."},
    {VOCAB("\"a\":2147483647", ""), "the id 2147483647 is not in 0.."},
    {VOCAB("\"a\":0.5", ""), "an id is no integer"},
    {VOCAB("\"a\":\"0\"", ""), "an id is no integer"},
    {VOCAB("\"a\":0,\"b\":0", ""), "token 'b': id 0 is another token's"},
    {VOCAB("\"a\\u0000\":0", ""), "NUL byte"},
    {VOCAB("\"a\":0", "\"a\""), "merge 0 is not two strings"},
    {VOCAB("\"a\":0", "\"a a a\""), "merge 0 is not two strings"},
    {VOCAB("\"a\":0", "[\"a\",1]"), "merge 0 is not two strings"},
    {VOCAB("\"a\":0", "[\"a\"]"), "merge 0 is not two strings"},
    {VOCAB("\"a\":0", "7"), "merge 0 is not two strings"},
    {VOCAB("\"a\":0", "\"a a\""), "merge 0: 'aa' is not in 'vocab'"},
    {VOCAB("\"a\":0", "\"a b\""), "merge 0: 'b' is not in 'vocab'"},
    {"{\"model\":{\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]}}", "'dropout' is not 0"},
    {"{\"model\":{\"end_of_word_suffix\":\"</w>\",\"vocab\":{\"a\":0},\"merges\":[]}}", "'end_of_word_suffix'"},
    {"{\"model\":{\"continuing_subword_prefix\":\"##\",\"vocab\":{\"a\":0},\"merges\":[]}}",
     "'continuing_subword_prefix'"},
    {"{\"model\":{\"unk_token\":\"u\",\"vocab\":{\"a\":0},\"merges\":[]}}", "unk_token 'u' is not in 'vocab'"},
    {"{\"model\":{\"fuse_unk\":1,\"vocab\":{\"a\":0},\"merges\":[]}}", "'fuse_unk' is not true or false"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"new\":1}}", "model: the key 'new' is not known"},
    {TOKEN("7"), "added_tokens: is no object"},
    {WITH("\"added_tokens\":{}"), "added_tokens: is no array"},
    {TOKEN(ADDED(9, "", FLAGS)), "the token of id 9 is empty"},
    {TOKEN(ADDED(9, "a", FLAGS)), "token 'a' has id 9, which the model's 'vocab' contradicts"},
    {TOKEN(ADDED(0, "b0", FLAGS)), "token 'b0' has id 0, which the model's 'vocab' contradicts"},
    {TOKEN(ADDED(9, "x", FLAGS) "," ADDED(9, "y", FLAGS)), "token 'y': id 9 is another token's"},
    {TOKEN(ADDED(9, "x", FLAGS) "," ADDED(10, "x", FLAGS)), "token 'x' is there twice"},
    {TOKEN("{\"id\":9,\"content\":\"x\"}"), "'single_word' is not true or false"},
    {TOKEN(ADDED(9, "x", FLAGS ",\"odd\":1")), "the key 'odd' is not known"},
    {NORMALIZER("{\"type\":\"Nmt\"}"), "normalizer: the type 'Nmt' is not known"},
    {NORMALIZER("7"), "normalizer: is no object"},
    {NORMALIZER("{\"type\":\"NFC\",\"form\":1}"), "the key 'form' is not known"},
    {NORMALIZER("{\"type\":\"Sequence\",\"normalizers\":7}"), "'normalizers' is no array"},
    {NORMALIZER("{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"\"}"), "is no object"},
    {NORMALIZER("{\"type\":\"Replace\",\"pattern\":{},\"content\":\"\"}"), "not one String or one Regex"},
    {NORMALIZER("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(a\"},\"content\":\"\"}"), "cannot be used: missing"},
    {NORMALIZER("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"$1\"}"), "a group in the content"},
    {PRETOKENIZER("{\"type\":\"UnicodeScripts\"}"), "pre_tokenizer: the type 'UnicodeScripts' is not known"},
    {PRETOKENIZER("{\"type\":\"ByteLevel\"}"), "'add_prefix_space' is not true or false"},
    {PRETOKENIZER("{\"type\":\"Metaspace\",\"replacement\":\"__\"}"), "'replacement' is not one character"},
    {PRETOKENIZER("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}"),
     "'prepend_scheme' is not"},
    {PRETOKENIZER(
         "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\",\"add_prefix_space\":false}"),
     "'add_prefix_space' contradicts"},
    {PRETOKENIZER("{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Odd\",\"invert\":false}"),
     "the behavior 'Odd'"},
    {PRETOKENIZER(
         "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{Nowhere}\"},\"behavior\":\"Isolated\",\"invert\":false}"),
     "cannot be used: unknown property"},
    {PRETOKENIZER("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\X\"},\"behavior\":\"Isolated\",\"invert\":false}"),
     "pre_tokenizer: the regular expression has an escape at byte 0"},
    {DECODER("{\"type\":\"WordPiece\"}"), "decoder: the type 'WordPiece' is not known"},
    {DECODER("{\"type\":\"Fuse\"},{\"type\":\"Replace\"}"), "Replace after Fuse or ByteLevel is not known"},
    {DECODER("{\"type\":\"ByteFallback\"},{\"type\":\"Metaspace\"}"), "Metaspace between ByteFallback and Fuse"},
    {DECODER("{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":1}"),
     "a Strip after Fuse"},
    {DECODER("{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":1}"), "'start' is no count"},
    {WITH("\"post_processor\":{\"type\":\"Odd\"}"), "post_processor: the type 'Odd' is not known"},
    {WITH(TEMPLATE), "no token has id 7"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[],\"pair\":[],\"special_tokens\":{}}"),
     "not of one sequence A"},
    {WITH("\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"a\",0],\"cls\":[0]}"),
     "'cls' is not a token and its id"},
};

static void test_malformed(void) {
    lucid_tokenizer *untouched = NULL;
    for (int i = 0; i < COUNT(malformed); i++) {
        const char *json = malformed[i].json;
        const int before = check_failures;
        check_failed(lucid_tokenizer_parse(&untouched, json, strlen(json), "t.json"), LUCID_ERR_INPUT,
                     malformed[i].fragment);
        if (check_failures > before) fprintf(stderr, "  for %s\n", json);
    }
    CHECK(!untouched, "the output of a failed parse is set");
}

/* Cut anywhere, a good file is no file. */
static void test_truncated(void) {
    static const char *const samples[] = {sample_plain, sample_special, sample_bytes, sample_stages};
    for (int i = 0; i < COUNT(samples); i++) {
        lucid_tokenizer *t = parse(samples[i]);
        lucid_tokenizer_close(t);
        for (size_t n = 0; n < strlen(samples[i]); n++)
            check_failed(lucid_tokenizer_parse(&t, samples[i], n, "t.json"), LUCID_ERR_INPUT, "t.json: ");
    }
}

int main(void) {
    scratch_make();
    test_vocabulary();
    test_encode();
    test_decode_bytes_of_characters();
    test_invalid_utf8();
    test_byte_tokenizer();
    test_config_beside();
    test_translations();
    test_malformed();
    test_truncated();
    test_hopeless_pattern();
    test_long_run();
    test_long_text();
    scratch_remove();
    return check_result();
}
