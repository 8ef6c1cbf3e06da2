/* Samples: the same for the same seed, as long as asked, needles where asked and once, controls, disjoint from what
 * training draws. */
#include "niah_fixture.h"
#include "tests/check.h"

#include <stdlib.h>

static const char *const wordings[] = {"ruler", "short"};

static int occurrences(const char *text, const char *wanted) {
    int n = 0;
    for (; (text = strstr(text, wanted)); text++) n++;
    return n;
}

static lucid_niah_sample make(const lucid_niah_task *task, int64_t index) {
    lucid_niah_sample sample;
    const lucid_status status = lucid_niah_generate(&sample, task, index);
    CHECK(!status, "sample %lld of %lld tokens: %s", (long long)index, (long long)task->length, lucid_failure());
    return sample;
}

static bool same(const lucid_niah_sample *a, const lucid_niah_sample *b) {
    return !strcmp(a->context, b->context) && !strcmp(a->questions[0].answer, b->questions[0].answer);
}

static void test_seeds(lucid_niah_haystack haystack) {
    lucid_niah_task task = fixture_task("ruler", haystack, 3000);
    task.n_keys = 3;
    lucid_niah_sample a = make(&task, 5), b = make(&task, 5), other_index = make(&task, 6);
    task.seed = 1;
    lucid_niah_sample other_seed = make(&task, 5);
    CHECK(same(&a, &b), "haystack %d: one seed, two samples", haystack);
    CHECK(!same(&a, &other_index) && !same(&a, &other_seed), "haystack %d: index or seed do not count", haystack);
    lucid_niah_sample_free(&a);
    lucid_niah_sample_free(&b);
    lucid_niah_sample_free(&other_index);
    lucid_niah_sample_free(&other_seed);
}

/* The largest haystack: no prompt is too long, and one word or line more would be. */
static void test_length(const char *wording, lucid_niah_haystack haystack, int64_t length) {
    static const int unit[] = {[LUCID_NIAH_NOISE] = 91, [LUCID_NIAH_TEXT] = 12, [LUCID_NIAH_NEEDLES] = 80};
    lucid_niah_task task = fixture_task(wording, haystack, length);
    task.n_keys = 2;
    for (int64_t index = 0; index < 10; index++) {
        lucid_niah_sample sample = make(&task, index);
        int64_t longest = 0;
        for (int q = 0; q < sample.n_questions; q++) {
            char *prompt;
            size_t n;
            if (lucid_niah_prompt(&prompt, &n, &sample, q)) return;
            CHECK(strlen(prompt) == n, "the prompt has %zu bytes, not %zu", strlen(prompt), n);
            if ((int64_t)n + task.n_new > longest) longest = (int64_t)n + task.n_new;
            free(prompt);
        }
        CHECK(longest == sample.length, "length %lld is said to be %lld", (long long)longest, (long long)sample.length);
        CHECK(longest <= length && longest > length - unit[haystack], "%s, haystack %d: %lld tokens of %lld", wording,
              haystack, (long long)longest, (long long)length);
        lucid_niah_sample_free(&sample);
    }
}

/* Where a needle stands in the haystack, without its fellows: they take no room in the depths that are asked for. */
static void test_depths(const char *wording, lucid_niah_haystack haystack) {
    static const double depths[] = {0, 12.5, 50, 100};
    lucid_niah_task task = fixture_task(wording, haystack, 40000);
    task.depths = depths;
    task.n_depths = 4;
    for (int64_t index = 0; index < 8; index++) {
        lucid_niah_sample sample = make(&task, index);
        const lucid_niah_question *q = &sample.questions[0];
        CHECK(q->depth == depths[index % 4], "sample %lld: depth %g, want %g", (long long)index, q->depth,
              depths[index % 4]);
        const char *at = strstr(sample.context, q->outputs[0]);
        CHECK(at && occurrences(sample.context, q->outputs[0]) == 1, "the value is not there once");
        const double found = at ? 100. * (double)(at - sample.context) / (double)sample.n_context : -1;
        CHECK_NEAR(found, q->depth, 1, "%s, haystack %d: the needle is not where it was asked for", wording, haystack);
        lucid_niah_sample_free(&sample);
    }
}

/* Without depths, needles are everywhere: in 60 samples, each quarter of the haystack holds at least 5 (expected 15;
 * fewer has a chance of 1e-3). */
static void test_spread(lucid_niah_haystack haystack) {
    const lucid_niah_task task = fixture_task("short", haystack, 6000);
    int quarters[4] = {0};
    for (int64_t index = 0; index < 60; index++) {
        lucid_niah_sample sample = make(&task, index);
        const double depth = sample.questions[0].depth;
        CHECK(depth >= 0 && depth <= 100, "depth %g", depth);
        quarters[depth < 100 ? (int)(depth / 25) : 3]++;
        lucid_niah_sample_free(&sample);
    }
    for (int i = 0; i < 4; i++)
        CHECK(quarters[i] >= 5, "haystack %d, quarter %d: %d of 60 needles", haystack, i, quarters[i]);
}

/* Each question's key stands once beside its value; keys differ. */
static void test_keys(const char *wording, lucid_niah_haystack haystack) {
    lucid_niah_task task = fixture_task(wording, haystack, 8000);
    task.n_keys = 10;
    task.n_distractors = 5;
    lucid_niah_sample sample = make(&task, 0);
    CHECK(sample.n_questions == 10 && sample.n_needles == 15, "%d questions, %d needles", sample.n_questions,
          sample.n_needles);
    for (int i = 0; i < sample.n_questions; i++) {
        CHECK(occurrences(sample.context, sample.questions[i].outputs[0]) == 1, "value %d is not there once", i);
        for (int j = 0; j < i; j++)
            CHECK(strcmp(sample.questions[i].answer, sample.questions[j].answer), "questions %d and %d are one", i, j);
    }
    const char *needle = task.wording->needle;
    const char before[] = {needle[0], needle[1] == '{' ? 0 : needle[1], needle[2], 0}; /* "[" or "One" */
    if (haystack != LUCID_NIAH_NEEDLES)
        CHECK(occurrences(sample.context, before) == 15, "%d needles are there", occurrences(sample.context, before));
    lucid_niah_sample_free(&sample);
}

/* What is asked, by asking. */
static void test_askings(void) {
    lucid_niah_task task = fixture_task("ruler", LUCID_NIAH_TEXT, 8000);
    task.n_keys = 4;
    task.n_values = 2;
    task.asking = LUCID_NIAH_ASK_ONE;
    lucid_niah_sample one = make(&task, 3);
    CHECK(one.n_questions == 1 && one.questions[0].n_outputs == 2, "%d questions", one.n_questions);
    task.asking = LUCID_NIAH_ASK_ALL;
    lucid_niah_sample all = make(&task, 3);
    CHECK(all.n_questions == 1 && all.questions[0].n_outputs == 8, "%d outputs", all.questions[0].n_outputs);
    CHECK(occurrences(all.questions[0].answer, ", ") == 3 && occurrences(all.questions[0].answer, ", and ") == 1,
          "the query is '%s'", all.questions[0].answer);
    lucid_niah_sample_free(&one);
    lucid_niah_sample_free(&all);
}

static void test_controls(void) {
    lucid_niah_task task = fixture_task("short", LUCID_NIAH_NOISE, 4000);
    task.n_distractors = 2;
    lucid_niah_sample plain = make(&task, 0);
    task.control = LUCID_NIAH_REMOVED;
    lucid_niah_sample removed = make(&task, 0);
    task.control = LUCID_NIAH_WRONG_KEY;
    lucid_niah_sample wrong = make(&task, 0);
    const lucid_niah_question *q = &plain.questions[0];
    char key[64];
    snprintf(key, sizeof key, "%s", q->answer); /* "[key:" */
    CHECK(!strcmp(q->answer, removed.questions[0].answer) && !strcmp(q->answer, wrong.questions[0].answer),
          "a control asks something else");
    CHECK(occurrences(plain.context, key) == 1 && occurrences(removed.context, key) == 0 &&
              occurrences(wrong.context, key) == 0,
          "the key is there %d, %d, %d times", occurrences(plain.context, key), occurrences(removed.context, key),
          occurrences(wrong.context, key));
    CHECK(occurrences(removed.context, q->outputs[0]) == 0 && occurrences(wrong.context, q->outputs[0]) == 1,
          "the value is there %d and %d times", occurrences(removed.context, q->outputs[0]),
          occurrences(wrong.context, q->outputs[0]));
    CHECK(occurrences(removed.context, "[") == 2, "distractors: %d", occurrences(removed.context, "["));
    lucid_niah_sample_free(&plain);
    lucid_niah_sample_free(&removed);
    lucid_niah_sample_free(&wrong);
}

/* 300 keys and values of either side: none is on both. */
static void test_training(lucid_niah_kind kind) {
    enum { N = 300 };
    static char drawn[2][N][2][64];
    lucid_niah_task task = fixture_task("short", LUCID_NIAH_NOISE, 400);
    task.key_kind = task.value_kind = kind;
    for (int side = 0; side < 2; side++) {
        task.training = side;
        for (int i = 0; i < N; i++) {
            lucid_niah_sample sample = make(&task, i);
            snprintf(drawn[side][i][0], 64, "%s", sample.questions[0].answer);
            snprintf(drawn[side][i][1], 64, "%s", sample.questions[0].outputs[0]);
            lucid_niah_sample_free(&sample);
        }
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            for (int what = 0; what < 2; what++)
                CHECK(strcmp(drawn[0][i][what], drawn[1][j][what]), "'%s' is drawn by both", drawn[0][i][what]);
}

static void refuse(lucid_niah_task task, const char *what) {
    lucid_niah_sample sample;
    CHECK(lucid_niah_generate(&sample, &task, 0) == LUCID_ERR_USAGE, "%s: not refused", what);
    lucid_niah_sample_free(&sample);
}

static void test_refusals(void) {
    lucid_niah_task task = fixture_task("ruler", LUCID_NIAH_NOISE, 200);
    refuse(task, "200 bytes");
    task = fixture_task("ruler", LUCID_NIAH_NOISE, 20000);
    task.n_keys = LUCID_NIAH_MAX_NEEDLES + 1;
    refuse(task, "too many needles");
    task = fixture_task("short", LUCID_NIAH_NOISE, 20000);
    task.n_values = 2;
    refuse(task, "two values in a wording for one");
    task = fixture_task("short", LUCID_NIAH_TEXT, 20000);
    task.corpus = NULL;
    refuse(task, "no text");
    CHECK(!lucid_niah_template_find("other"), "a template of no name");
}

/* Names of the harness for its own tasks, and for nothing else. */
static void test_names(void) {
    char name[LUCID_NIAH_NAME_MAX];
    lucid_niah_task task = fixture_task("ruler", LUCID_NIAH_TEXT, 4096);
    task.step = 0;
    lucid_niah_name(name, &task);
    CHECK(!strcmp(name, "niah_single_2"), "%s", name);
    task.n_keys = 4;
    lucid_niah_name(name, &task);
    CHECK(!strcmp(name, "niah_ruler_text_k4"), "%s", name);
    task.asking = LUCID_NIAH_ASK_ONE;
    lucid_niah_name(name, &task);
    CHECK(!strcmp(name, "niah_multikey_1"), "%s", name);
    task.control = LUCID_NIAH_REMOVED;
    lucid_niah_name(name, &task);
    CHECK(!strcmp(name, "niah_ruler_text_k4_one_removed"), "%s", name);
    task.wording = lucid_niah_template_find("short");
    task.value_kind = LUCID_NIAH_UUIDS;
    task.n_distractors = 3;
    lucid_niah_name(name, &task);
    CHECK(!strcmp(name, "niah_short_text_k4_one_d3_words_uuids_removed"), "%s", name);
}

static void test_corpus(void) {
    lucid_corpus corpus = {0};
    static const char text[] = " One two.  Three (four!) \"Five\" six\tseven.eight? and Nine. ";
    CHECK(!lucid_corpus_add(&corpus, text, sizeof text - 1), "%s", lucid_failure());
    static const char *const words[] = {"One", "two.",         "Three", "(four!)", "\"Five\"",
                                        "six", "seven.eight?", "and",   "Nine.",   "One"};
    static const bool begins[] = {true, false, true, false, true, false, false, false, false, true};
    CHECK(corpus.n_words == 9, "%lld words", (long long)corpus.n_words);
    for (int i = 0; i < 10; i++) {
        CHECK(!strcmp(lucid_corpus_word(&corpus, i), words[i]), "word %d is '%s'", i, lucid_corpus_word(&corpus, i));
        CHECK(lucid_corpus_begins(&corpus, i) == begins[i], "word %d, '%s', begins a sentence: %d", i, words[i],
              lucid_corpus_begins(&corpus, i));
    }
    lucid_corpus_free(&corpus);
}

int main(void) {
    test_corpus();
    for (int haystack = 0; haystack < 3; haystack++) {
        test_seeds(haystack);
        test_spread(haystack);
        for (int w = 0; w < 2; w++) {
            for (int64_t length = 1000; length < 10000; length += 2777) test_length(wordings[w], haystack, length);
            test_depths(wordings[w], haystack);
            test_keys(wordings[w], haystack);
        }
    }
    test_askings();
    test_controls();
    for (int kind = 0; kind < LUCID_NIAH_N_KINDS; kind++) test_training(kind);
    test_refusals();
    test_names();
    return check_result();
}
