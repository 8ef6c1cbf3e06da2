/* The generators of sequences: what is asked for is what a reader of the sequence would answer, training and
 * validation share no key, value or window of text, and a sequence depends on its numbers alone. */
#include "runtime/eval/niah.h"
#include "runtime/files/checksum.h"
#include "runtime/train/task.h"
#include "tests/check.h"
#include "tests/comm/drive.h"

#include <math.h>
#include <string.h>

#define LENGTH 512
#define N_TEXT 40000
#define BORDER (N_TEXT - N_TEXT / 20) /* validation's part begins here */

static int32_t text[N_TEXT];

/* Sentences of one word, "train" or "test"; no brackets. */
static void make_text(void) {
    for (int i = 0; i < N_TEXT; i++) text[i] = i < BORDER ? "train. "[i % 7] : "test. "[(i - BORDER) % 6];
}

static lucid_task_options niah_options(int facts, int needles) {
    return (lucid_task_options){.kind = LUCID_TASK_NIAH,
                                .seed = 11,
                                .length = LENGTH,
                                .ids = text,
                                .n_ids = N_TEXT,
                                .vocab_size = 256,
                                .facts_in_ten = facts,
                                .needles_in_ten = needles};
}

static lucid_examples fill(lucid_task **task, const lucid_task_options *options, lucid_task_use use, int n) {
    lucid_examples e;
    REQUIRE(lucid_task_open(task, options));
    REQUIRE(lucid_examples_create(&e, *task, n));
    REQUIRE(lucid_task_fill(&e, 0, *task, use, 3, 0, n));
    return e;
}

static void done(lucid_examples *e, lucid_task *task) {
    lucid_examples_destroy(e);
    lucid_task_close(task);
}

/* --- the paper's tasks --- */

static void test_two_phase(int phase) {
    lucid_task *task;
    const lucid_task_options options = {.kind = LUCID_TASK_TWO_PHASE, .phase = phase, .seed = 5};
    lucid_examples e = fill(&task, &options, LUCID_TASK_TRAIN, 30);
    for (int s = 0; s < e.n_sequences; s++) {
        int seen = 0;
        double sum = 0;
        for (int i = 0; i < e.length; i++) {
            const int32_t id = e.ids[s * e.length + i];
            seen |= 1 << id;
            sum += id;
            CHECK_NEAR(e.values[s * e.length + i], phase == 1 ? id : sum / (i + 1), 1e-6, "phase %d, token %d", phase,
                       i);
        }
        CHECK(seen == 1023, "sequence %d is no permutation: %x", s, seen);
    }
    done(&e, task);
}

/* Facts and queries are read as a reader would: the last value of a key counts. */
static void test_facts(lucid_task_kind kind, int n_positions) {
    const lucid_task_options o = {.kind = kind,
                                  .seed = 5,
                                  .n_facts = 24,
                                  .n_slots = 6,
                                  .n_queries = 9,
                                  .n_keys = 40,
                                  .n_values = 10,
                                  .n_positions = n_positions};
    lucid_task *task;
    lucid_examples e = fill(&task, &o, LUCID_TASK_TRAIN, 20);
    for (int s = 0; s < e.n_sequences; s++) {
        int last[40], n_keys = 0;
        memset(last, -1, sizeof last);
        for (int64_t i = 0; i < e.length; i++) {
            const int32_t *ids = e.ids + (s * e.length + i) * e.n_ids, target = e.targets[s * e.length + i];
            if (n_positions) CHECK(i == 0 || ids[2] == ids[2 - e.n_ids] + 1, "position %d at %d", ids[2], (int)i);
            if (i < o.n_facts) {
                n_keys += last[ids[0]] < 0;
                last[ids[0]] = ids[1];
                CHECK(target == -1 && ids[1] >= 40 && ids[1] < 50, "fact %d: value %d, target %d", (int)i, ids[1],
                      target);
            } else
                CHECK(ids[1] == 50 && target == last[ids[0]], "query %d: target %d, want %d", (int)i, target,
                      last[ids[0]]);
        }
        CHECK(n_keys == (kind == LUCID_TASK_RECALL ? 24 : 6), "%d different keys", n_keys);
    }
    done(&e, task);
}

/* --- the mixture --- */

/* A sequence as text, and 1 where a byte is asked for. */
typedef struct {
    char bytes[LENGTH + 2];
    char asked[LENGTH + 2];
    lucid_task_use use;
} passage;

static void read_passage(passage *p, const lucid_examples *e, int sequence, lucid_task_use use) {
    memset(p, 0, sizeof *p);
    p->use = use;
    for (int i = 0; i < LENGTH; i++) {
        const int32_t id = e->ids[sequence * LENGTH + i], target = e->targets[sequence * LENGTH + i];
        CHECK(id < 256 && (id > 0 || (id == -1 && target == -1)), "id %d and target %d at %d", id, target, i);
        CHECK(i == 0 || id < 0 || p->bytes[i - 1], "a byte at %d after the sequence's end", i);
        p->bytes[i] = id < 0 ? 0 : (char)id;
        if (target < 0) continue;
        p->asked[i + 1] = 1;
        if (i + 1 < LENGTH)
            CHECK(target == e->ids[sequence * LENGTH + i + 1], "byte %d: target %d is not what follows", i, target);
        else
            p->bytes[LENGTH] = (char)target;
    }
}

/* Of two drawn texts, checksums say which half they are of: training's or evaluation's. */
static void check_half(const char *drawn, size_t n) {
    CHECK((lucid_checksum(0, drawn, n) & 1) == 1, "'%.*s' belongs to evaluation", (int)n, drawn);
}

/* Every whole "[key: value]": its halves, and, where its value is asked for, that the same stood before it. Returns how
 * many are asked for. */
static int check_pairs(const passage *p) {
    int n_asked = 0;
    for (const char *open = strchr(p->bytes, '['); open; open = strchr(open + 1, '[')) {
        const char *colon = strchr(open, ':'), *close = strchr(open, ']');
        char pair[100];
        if (!colon || !close) break;
        snprintf(pair, sizeof pair, "%.*s", (int)(close + 1 - open), open);
        check_half(open + 1, (size_t)(colon - open - 1));
        check_half(colon + 2, (size_t)(close - colon - 2));
        const bool asked = p->asked[colon + 2 - p->bytes];
        const char *earlier = strstr(p->bytes, pair);
        n_asked += asked;
        CHECK(asked == (earlier < open), "%s at %d: asked %d, stood before %d", pair, (int)(open - p->bytes), asked,
              earlier < open);
        for (const char *c = open; c < colon; c++) CHECK(!p->asked[c + 1 - p->bytes], "a key is asked for: %s", pair);
    }
    return n_asked;
}

static void check_text(const passage *p) {
    int asked = 0;
    for (int i = 0; i <= LENGTH; i++) asked += p->asked[i];
    CHECK_NEAR(asked, LENGTH / 4.0, 1, "bytes that are asked for");
    CHECK(!strchr(p->bytes, '['), "text with brackets");
}

typedef enum { FACTS, NEEDLES, TEXT } part;

static part part_of(const passage *p) {
    return strstr(p->bytes, "\nRecall [") ? NEEDLES : strchr(p->bytes, '[') ? FACTS : TEXT;
}

static void check_passage(const passage *p, int counts[3]) {
    const part found = part_of(p);
    const char *other = p->use == LUCID_TASK_TRAIN ? "test. test" : "train. train";
    counts[found]++;
    CHECK(!strstr(p->bytes, other), "text of the other part: %.60s", p->bytes);
    if (found == TEXT)
        check_text(p);
    else
        CHECK(check_pairs(p) > 0, "nothing is asked for: %.60s", p->bytes);
}

static void test_mixture(lucid_task_use use) {
    const lucid_task_options options = niah_options(5, 2);
    const int n = 600;
    int counts[3] = {0};
    passage p;
    lucid_task *task;
    lucid_examples e = fill(&task, &options, use, n);
    for (int s = 0; s < n; s++) {
        read_passage(&p, &e, s, use);
        check_passage(&p, counts);
    }
    /* Six deviations of a share among 600. */
    CHECK_NEAR(counts[FACTS], 0.5 * n, 74, "sequences of facts");
    CHECK_NEAR(counts[NEEDLES], 0.2 * n, 59, "sequences of needles");
    done(&e, task);
}

/* The shortest sequences that there are have room for all needles that may be drawn: the longest ones are rare. */
static void test_shortest(void) {
    lucid_task_options options = niah_options(0, 10);
    lucid_task *task = NULL;
    char line[200];
    lucid_failure_divert(line, sizeof line);
    for (options.length = 64; options.length < LENGTH && lucid_task_open(&task, &options);) options.length++;
    lucid_failure_divert(NULL, 0);
    CHECK(task, "no length below %d: %s", LENGTH, line);
    if (!task) return;
    lucid_examples e;
    REQUIRE(lucid_examples_create(&e, task, 1));
    for (int i = 0; i < 5000; i++) REQUIRE(lucid_task_fill(&e, 0, task, LUCID_TASK_TRAIN, 3, i, 1));
    done(&e, task);
}

/* An evaluation's own keys and values are of the other half. */
static lucid_status count_bytes(void *context, int64_t *n_tokens, const char *prompt, size_t n_bytes) {
    (void)context, (void)prompt;
    *n_tokens = (int64_t)n_bytes;
    return LUCID_OK;
}

static void test_evaluation(void) {
    const lucid_niah_task task = {.wording = lucid_niah_template_find("short"),
                                  .haystack = LUCID_NIAH_NOISE,
                                  .n_keys = 3,
                                  .n_values = 1,
                                  .value_kind = LUCID_NIAH_NUMBERS,
                                  .length = LENGTH,
                                  .n_new = 12,
                                  .count = count_bytes};
    for (int i = 0; i < 20; i++) {
        lucid_niah_sample sample;
        REQUIRE(lucid_niah_generate(&sample, &task, i));
        for (int q = 0; q < sample.n_questions; q++) {
            const char *key = sample.questions[q].answer + 1, *value = sample.questions[q].outputs[0];
            CHECK((lucid_checksum(0, key, strcspn(key, ":")) & 1) == 0, "key %s belongs to training", key);
            CHECK((lucid_checksum(0, value, strlen(value)) & 1) == 0, "value %s belongs to training", value);
        }
        lucid_niah_sample_free(&sample);
    }
}

/* --- purity --- */

/* Sequence 7 of step 3, among others and alone; another step's is another. */
static void test_pure(void) {
    const lucid_task_options options = niah_options(5, 5);
    lucid_task *task;
    lucid_examples many = fill(&task, &options, LUCID_TASK_TRAIN, 10), one;
    const size_t bytes = LENGTH * sizeof *many.ids;
    REQUIRE(lucid_examples_create(&one, task, 1));
    REQUIRE(lucid_task_fill(&one, 0, task, LUCID_TASK_TRAIN, 3, 7, 1));
    CHECK(memcmp(one.ids, many.ids + 7 * LENGTH, bytes) == 0, "ids depend on what else is made");
    CHECK(memcmp(one.targets, many.targets + 7 * LENGTH, bytes) == 0, "targets depend on what else is made");
    REQUIRE(lucid_task_fill(&one, 0, task, LUCID_TASK_TRAIN, 4, 7, 1));
    CHECK(memcmp(one.ids, many.ids + 7 * LENGTH, bytes) != 0, "two steps have the same sequence");
    REQUIRE(lucid_task_fill(&one, 0, task, LUCID_TASK_VALIDATE, 3, 7, 1));
    CHECK(memcmp(one.ids, many.ids + 7 * LENGTH, bytes) != 0, "validation has training's sequence");
    lucid_examples_destroy(&one);
    done(&many, task);
}

int main(void) {
    make_text();
    test_two_phase(1);
    test_two_phase(2);
    test_facts(LUCID_TASK_OVERWRITE, 0);
    test_facts(LUCID_TASK_OVERWRITE, 50);
    test_facts(LUCID_TASK_RECALL, 0);
    test_mixture(LUCID_TASK_TRAIN);
    test_mixture(LUCID_TASK_VALIDATE);
    test_shortest();
    test_evaluation();
    test_pure();
    return check_result();
}
