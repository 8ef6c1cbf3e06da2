/* Answers in files and back, in order, without those that were cut off; and the reports made of them, against sums by
 * hand. */
#include "runtime/eval/records.h"
#include "runtime/eval/report.h"
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A sample of two questions, the values of which are "11" and "22". */
static lucid_niah_sample sample_of(int64_t index, int64_t length, double depth) {
    static char *outputs[] = {"11", "22"};
    static lucid_niah_question questions[2];
    for (int i = 0; i < 2; i++)
        questions[i] = (lucid_niah_question){
            .text = "?", .answer = "It is", .outputs = &outputs[i], .n_outputs = 1, .depth = depth + 10 * i};
    return (lucid_niah_sample){.index = index,
                               .length = length - 3,
                               .max_length = length,
                               .context = "",
                               .questions = questions,
                               .n_questions = 2,
                               .n_needles = 2};
}

static void add(lucid_eval_records *records, const char *task, int64_t index, int64_t length, const char *a,
                const char *b) {
    const lucid_niah_sample sample = sample_of(index, length, 25);
    const char *answers[] = {a, b};
    for (int i = 0; i < 2; i++)
        if (answers[i])
            CHECK(!lucid_eval_records_add(records, task, &sample, i, answers[i], strlen(answers[i])), "%s",
                  lucid_failure());
}

/* Of two tasks; of the last one, which comes first, a sample was cut off. In no order. */
static lucid_eval_records fixture(void) {
    lucid_eval_records records = {0};
    add(&records, "niah_k10", 1, 4096, "11", "no");
    add(&records, "niah_k10", 0, 4096, "is 11\n\"\xc3\xa9", "22");
    add(&records, "niah_k2", 0, 512, NULL, "22");
    add(&records, "niah_k2", 1, 1024, "11", "22");
    add(&records, "niah_k2", 1, 512, "11", "21");
    add(&records, "niah_k2", 7, 512, "12", "21");
    return records;
}

static void test_order(void) {
    lucid_eval_records records = fixture();
    CHECK(!lucid_eval_records_sort(&records, "fixture"), "%s", lucid_failure());
    static const struct {
        const char *task;
        int64_t length, index;
        int question;
        double score;
    } want[] = {{"niah_k2", 512, 1, 0, 1},   {"niah_k2", 512, 1, 1, 0},   {"niah_k2", 512, 7, 0, 0},
                {"niah_k2", 512, 7, 1, 0},   {"niah_k2", 1024, 1, 0, 1},  {"niah_k2", 1024, 1, 1, 1},
                {"niah_k10", 4096, 0, 0, 1}, {"niah_k10", 4096, 0, 1, 1}, {"niah_k10", 4096, 1, 0, 1},
                {"niah_k10", 4096, 1, 1, 0}};
    CHECK(records.n == 10, "%lld answers are left", (long long)records.n);
    for (int i = 0; i < records.n && i < 10; i++) {
        const lucid_eval_record *r = &records.items[i];
        CHECK(!strcmp(r->task, want[i].task) && r->max_length == want[i].length && r->index == want[i].index &&
                  r->question == want[i].question && r->score == want[i].score,
              "answer %d: %s, %lld, %lld, %d, %g", i, r->task, (long long)r->max_length, (long long)r->index,
              r->question, r->score);
    }
    CHECK(lucid_eval_records_have(&records, "niah_k2", 512, 7), "a sample is not found");
    CHECK(!lucid_eval_records_have(&records, "niah_k2", 512, 0), "half a sample is found");
    CHECK(!lucid_eval_records_have(&records, "niah_k2", 4096, 1), "another task's sample is found");
    lucid_eval_records_free(&records);
}

static void test_twice(void) {
    lucid_eval_records records = fixture();
    add(&records, "niah_k2", 7, 512, "12", NULL);
    CHECK(!lucid_eval_records_sort(&records, "fixture") && records.n == 10, "a copy is not dropped: %lld answers",
          (long long)records.n);
    add(&records, "niah_k2", 7, 512, "11", NULL);
    CHECK(lucid_eval_records_sort(&records, "fixture") == LUCID_ERR_INPUT, "two answers to one question are taken");
    lucid_eval_records_free(&records);
}

/* All but the last line, of which the end is missing, comes back as it was. */
static void test_file(void) {
    char path[] = "/tmp/test_eval_records-XXXXXX";
    lucid_eval_records records = fixture(), read = {0};
    FILE *file = fdopen(mkstemp(path), "w");
    lucid_eval_records_write(file, &records, 0);
    fflush(file);
    CHECK(!ftruncate(fileno(file), ftell(file) - 5), "truncate");
    CHECK(!lucid_eval_records_read(&read, path), "%s", lucid_failure());
    CHECK(read.n == records.n - 1, "%lld answers of %lld", (long long)read.n, (long long)records.n);
    for (int i = 0; i < read.n; i++) {
        const lucid_eval_record *a = &records.items[i], *b = &read.items[i];
        CHECK(!strcmp(a->line, b->line), "line %d: %s", i, b->line);
        CHECK(a->max_length == b->max_length && a->index == b->index && a->question == b->question &&
                  a->n_questions == b->n_questions && a->depth == b->depth && a->score == b->score,
              "answer %d", i);
    }
    lucid_eval_records_free(&read);
    CHECK(lucid_eval_records_read(&read, "/absent") == LUCID_ERR_IO, "a file that is not there");
    fclose(file);
    unlink(path);
    lucid_eval_records_free(&records);
}

#define ANSWER(question, n, depth, score)                                                                 \
    "{\"task\":\"x\",\"doc\":{\"index\":0,\"question\":" question ",\"questions\":" n ",\"depth\":" depth \
    ",\"max_length\":512},\"512\":" score "}\n"

static lucid_status read_line(const char *line) {
    char path[] = "/tmp/test_eval_records-XXXXXX";
    lucid_eval_records read = {0};
    FILE *file = fdopen(mkstemp(path), "w");
    fputs(line, file);
    fclose(file);
    const lucid_status status = lucid_eval_records_read(&read, path);
    CHECK(read.n == (status ? 0 : 1), "%lld answers of one line", (long long)read.n);
    lucid_eval_records_free(&read);
    unlink(path);
    return status;
}

static void test_lines(void) {
    static const char *const bad[] = {
        "{\"task\":\"x\"}\n",           "{\n",
        ANSWER("0", "1e300", "5", "1"), ANSWER("0", "4294967297", "5", "1"),
        ANSWER("-1", "1", "5", "1"),    ANSWER("1", "1", "5", "1"),
        ANSWER("0", "1", "101", "1"),   ANSWER("0", "1", "5", "2"),
        ANSWER("0", "1", "\"5\"", "1"),
    };
    CHECK(read_line(ANSWER("0", "1", "5", "1")) == LUCID_OK, "%s", lucid_failure());
    for (int i = 0; i < COUNT(bad); i++) CHECK(read_line(bad[i]) == LUCID_ERR_INPUT, "taken: %s", bad[i]);
}

static double number(const json_t *results, const char *part, const char *task, const char *name) {
    return json_number_value(json_object_get(json_object_get(json_object_get(results, part), task), name));
}

/* niah_k10 at 4096: 3 of 4, deviation 0.5; niah_k2: 1 of 4 and 2 of 2. */
static void test_results(const lucid_eval_records *records) {
    json_t *tasks = json_pack("{s:{s:s}}", "niah_k2", "note", "kept");
    json_t *results = lucid_eval_results(records, tasks);
    CHECK_NEAR(number(results, "results", "niah_k10", "4096,none"), 0.75, 0, "score");
    CHECK_NEAR(number(results, "results", "niah_k10", "4096_stderr,none"), 0.25, 1e-15, "standard error");
    CHECK_NEAR(number(results, "results", "niah_k2", "512,none"), 0.25, 0, "score");
    CHECK_NEAR(number(results, "results", "niah_k2", "1024,none"), 1, 0, "score");
    CHECK_NEAR(number(results, "n-samples", "niah_k2", "effective"), 6, 0, "answers");
    CHECK(
        json_is_true(json_object_get(json_object_get(json_object_get(results, "higher_is_better"), "niah_k2"), "512")),
        "higher_is_better");
    const json_t *config = json_object_get(json_object_get(results, "configs"), "niah_k2");
    CHECK(json_is_string(json_object_get(config, "note")), "a task's configuration is not there");
    json_decref(results);
    json_decref(tasks);
}

typedef void report(FILE *stream, const lucid_eval_records *records);

static char *print(report *write, const lucid_eval_records *records) {
    char *text = NULL;
    size_t n;
    FILE *stream = open_memstream(&text, &n);
    write(stream, records);
    fclose(stream);
    return text;
}

static int occurrences(const char *text, const char *wanted) {
    int n = 0;
    for (; (text = strstr(text, wanted)); text++) n++;
    return n;
}

static void test_texts(const lucid_eval_records *records) {
    char *table = print(lucid_eval_table, records), *map = print(lucid_eval_heatmap, records);
    CHECK(occurrences(table, "\n") == 4, "%d lines in\n%s", occurrences(table, "\n"), table);
    CHECK(strstr(table, "niah_k2        512        2        4   25.0 %    4.6 to 69.9 %\n"), "\n%s", table);
    /* Two depths by three columns, the frame aside; 4096 at depth 35: 1 of 2. */
    CHECK(occurrences(map, "<rect") == 7, "%d rectangles in\n%s", occurrences(map, "<rect"), map);
    CHECK(occurrences(map, "<title>1 of 2</title>") == 2 && occurrences(map, ">50</text>") == 2, "\n%s", map);
    CHECK(strstr(map, ">4K</text>") && strstr(map, ">512</text>") && strstr(map, ">35 %</text>"), "\n%s", map);
    free(table);
    free(map);
}

/* More depths than rows are bands of ten. */
static void test_bands(void) {
    lucid_eval_records records = {0};
    for (int i = 0; i <= 30; i++) {
        const lucid_niah_sample sample = sample_of(i, 512, 3 * i);
        for (int q = 0; q < 2; q++) lucid_eval_records_add(&records, "t", &sample, q, "11", 2);
    }
    CHECK(!lucid_eval_records_sort(&records, "bands"), "%s", lucid_failure());
    char *map = print(lucid_eval_heatmap, &records);
    CHECK(occurrences(map, "<rect") == 11 && strstr(map, ">90-100 %</text>"), "\n%s", map);
    free(map);
    lucid_eval_records_free(&records);
}

int main(void) {
    test_order();
    test_twice();
    test_file();
    test_lines();
    lucid_eval_records records = fixture();
    CHECK(!lucid_eval_records_sort(&records, "fixture"), "%s", lucid_failure());
    test_results(&records);
    test_texts(&records);
    lucid_eval_records_free(&records);
    test_bands();
    return check_result();
}
