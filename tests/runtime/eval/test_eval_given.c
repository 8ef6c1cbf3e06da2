/* Samples of lm-evaluation-harness 0.4.9.2 (harness.jsonl: made by its generate_samples, seed 7, tokens are bytes):
 * they are read as they are, and ours of the same kind have the same texts around other keys and values. */
#include "niah_fixture.h"
#include "runtime/eval/given.h"
#include "tests/check.h"

#include <regex.h>
#include <stdlib.h>

/* Keys and values become letters, so that two samples can be compared. */
static void blank_out(char *text) {
    static const struct {
        const char *pattern;
        char letter;
    } kinds[] = {{"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", 'U'},
                 {"[1-9][0-9]{6}", 'N'},
                 {"[a-z]+(-[a-z]+)+", 'W'}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        regex_t regex;
        regmatch_t match;
        if (regcomp(&regex, kinds[i].pattern, REG_EXTENDED)) abort();
        while (!regexec(&regex, text, 1, &match, 0)) {
            text[match.rm_so] = kinds[i].letter;
            memmove(text + match.rm_so + 1, text + match.rm_eo, strlen(text + match.rm_eo) + 1);
        }
        regfree(&regex);
    }
}

static char *blanked_prompt(const lucid_niah_sample *sample) {
    char *prompt = NULL;
    size_t n;
    if (lucid_niah_prompt(&prompt, &n, sample, 0)) abort();
    blank_out(prompt);
    return prompt;
}

static int n_lines(const char *text) {
    int n = 1;
    for (; (text = strchr(text, '\n')); text++) n++;
    return n;
}

/* Each line of a stands in b. */
static void check_lines(char *a, const char *b, const char *what) {
    char *copy = strdup(b);
    for (char *line; (line = strsep(&a, "\n"));) {
        bool found = false;
        strcpy(copy, b);
        for (char *rest = copy, *other; (other = strsep(&rest, "\n"));) found = found || !strcmp(line, other);
        CHECK(found, "%s: only one of both has the line '%s'", what, line);
    }
    free(copy);
}

static void compare(const lucid_niah_sample *theirs, const lucid_niah_task *task, const char *what) {
    lucid_niah_sample ours;
    CHECK(!lucid_niah_generate(&ours, task, 0), "%s: %s", what, lucid_failure());
    char *a = blanked_prompt(&ours), *b = blanked_prompt(theirs), *a_lines = strdup(a), *b_lines = strdup(b);
    const int more = n_lines(a) - n_lines(b); /* other keys have other lengths: a step of 5 lines is in the balance */
    CHECK(abs(more) == 0 || abs(more) == 5, "%s: %d lines, theirs has %d", what, n_lines(a), n_lines(b));
    CHECK(!strncmp(a, b, strcspn(b, "\n")), "%s: the first line is\n%.*s, theirs\n%.*s", what, (int)strcspn(a, "\n"), a,
          (int)strcspn(b, "\n"), b);
    CHECK(!strcmp(strrchr(a, '\n'), strrchr(b, '\n')), "%s: the last line is%s, theirs%s", what, strrchr(a, '\n'),
          strrchr(b, '\n'));
    check_lines(a_lines, b, what);
    check_lines(b_lines, a, what);
    CHECK(ours.questions[0].n_outputs == theirs->questions[0].n_outputs, "%s: %d outputs", what,
          ours.questions[0].n_outputs);
    free(a);
    free(b);
    lucid_niah_sample_free(&ours);
}

/* The four kinds that the file has, two samples each. */
static void test_templates(const lucid_niah_samples *given) {
    static const struct {
        const char *name;
        lucid_niah_haystack haystack;
        lucid_niah_kind key_kind, value_kind;
        int n_keys, n_values;
    } kinds[] = {{"single", LUCID_NIAH_NOISE, LUCID_NIAH_WORDS, LUCID_NIAH_NUMBERS, 1, 1},
                 {"needles", LUCID_NIAH_NEEDLES, LUCID_NIAH_UUIDS, LUCID_NIAH_UUIDS, 1, 1},
                 {"values", LUCID_NIAH_NOISE, LUCID_NIAH_WORDS, LUCID_NIAH_NUMBERS, 1, 4},
                 {"queries", LUCID_NIAH_NOISE, LUCID_NIAH_WORDS, LUCID_NIAH_WORDS, 3, 1}};
    CHECK(given->n == 8, "%lld samples", (long long)given->n);
    for (int i = 0; i < 8 && i < given->n; i++) {
        /* The harness does not count the answer's beginning. */
        const int64_t length = 2001 + (int64_t)strlen(given->items[i].questions[0].answer);
        lucid_niah_task task = fixture_task("ruler", kinds[i / 2].haystack, length);
        task.key_kind = kinds[i / 2].key_kind;
        task.value_kind = kinds[i / 2].value_kind;
        task.n_keys = kinds[i / 2].n_keys;
        task.n_values = kinds[i / 2].n_values;
        task.asking = LUCID_NIAH_ASK_ALL;
        task.step = 0;
        task.n_new = 128;
        compare(&given->items[i], &task, kinds[i / 2].name);
    }
}

static void test_fields(const lucid_niah_samples *given) {
    const lucid_niah_sample *sample = &given->items[5];
    const lucid_niah_question *q = &sample->questions[0];
    CHECK(sample->index == 1 && sample->max_length == 2000 && sample->n_questions == 1 && q->n_outputs == 4,
          "index %lld, max_length %lld, %d outputs", (long long)sample->index, (long long)sample->max_length,
          q->n_outputs);
    for (int i = 0; i < q->n_outputs; i++)
        CHECK(strstr(sample->context, q->outputs[i]), "'%s' is not in the input", q->outputs[i]);
    CHECK(q->depth > 0 && q->depth < 100, "depth %g", q->depth);
}

/* What is written is read as the same. */
static void test_round_trip(void) {
    lucid_niah_task task = fixture_task("ruler", LUCID_NIAH_TEXT, 3000);
    task.n_keys = 2;
    lucid_niah_sample sample;
    char *text = NULL;
    size_t n_bytes;
    FILE *stream = open_memstream(&text, &n_bytes);
    CHECK(!lucid_niah_generate(&sample, &task, 3) && !lucid_niah_sample_write(stream, &sample), "%s", lucid_failure());
    fclose(stream);
    lucid_niah_samples read = {0};
    CHECK(!lucid_niah_samples_parse(&read, text, n_bytes, "text"), "%s", lucid_failure());
    CHECK(read.n == 2, "%lld samples", (long long)read.n);
    for (int i = 0; i < read.n; i++) {
        char *a, *b;
        size_t n_a, n_b;
        if (lucid_niah_prompt(&a, &n_a, &sample, i) || lucid_niah_prompt(&b, &n_b, &read.items[i], 0)) abort();
        CHECK(n_a == n_b && !memcmp(a, b, n_a), "question %d is another", i);
        CHECK(!strcmp(sample.questions[i].outputs[0], read.items[i].questions[0].outputs[0]), "output %d", i);
        CHECK(read.items[i].index == 6 + i, "index %lld", (long long)read.items[i].index);
        free(a);
        free(b);
    }
    lucid_niah_samples_free(&read);
    lucid_niah_sample_free(&sample);
    free(text);
}

static void test_refusals(void) {
    static const char *const bad[] = {"",
                                      "{",
                                      "[1]",
                                      "{\"input\":\"a\"}",
                                      "{\"input\":\"a\",\"max_length\":9}",
                                      "{\"input\":\"a\",\"max_length\":9,\"outputs\":[\"\"]}",
                                      "{\"input\":\"a\",\"max_length\":9,\"outputs\":[1]}",
                                      "{\"input\":\"\",\"max_length\":9,\"outputs\":[\"b\"]}",
                                      "{\"input\":\"a\",\"max_length\":0,\"outputs\":[\"b\"]}",
                                      "{\"input\":\"a\",\"max_length\":9,\"outputs\":[\"b\"],\"gen_prefix\":3}",
                                      "{\"input\":\"a\",\"max_length\":9,\"outputs\":[\"b\"],\"index\":-1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lucid_niah_samples samples = {0};
        CHECK(lucid_niah_samples_parse(&samples, bad[i], strlen(bad[i]), "bad") == LUCID_ERR_INPUT, "'%s' is taken",
              bad[i]);
        lucid_niah_samples_free(&samples);
    }
}

static char *read_file(const char *path, size_t *n) {
    FILE *file = fopen(path, "rb");
    char *text = malloc(1 << 16);
    if (!file || !text) abort();
    *n = fread(text, 1, 1 << 16, file);
    fclose(file);
    return text;
}

int main(int argc, char **argv) {
    lucid_niah_samples given = {0};
    size_t n_bytes;
    char *text = read_file(argc > 1 ? argv[1] : "harness.jsonl", &n_bytes);
    CHECK(!lucid_niah_samples_parse(&given, text, n_bytes, "harness.jsonl"), "%s", lucid_failure());
    free(text);
    test_templates(&given);
    test_fields(&given);
    test_round_trip();
    lucid_niah_samples_free(&given);
    test_refusals();
    return check_result();
}
