/* Messages between ranks: round trips, every kind of bytes that must be refused, and that the enumerations of
 * lucid.proto are those of the C types they stand for. */
#include "tests/capture_failure.h"

#include "comm/messages.h"
#include "runtime/lucid.h"

#include <stdlib.h>

_Static_assert(LUCID_REPORT_PHASES == LUCID_N_PHASES, "a report has the runtime's phases");

static char *sample_words[] = {"lucid", "attend", "--input=/data/\xc3\xa9t\xc3\xa9", "", "\xf0\x9f\x8c\x8d\n"};

/* No member is zero, so one that is lost on the way shows. */
static const lucid_job sample_job = {
    .build = "1.2.3 (abc)", .job_id = "node-1234", .words = sample_words, .n_words = 5};

static lucid_report_event sample_events[] = {
    {.begin = 0.5, .end = 1.5, .phase = 4, .thread = 3, .channel = 2, .row = (int64_t)1 << 40, .first = 7, .last = 9},
    {.begin = -1, .end = 1e300, .phase = 1, .thread = -1, .channel = -1, .row = -1, .first = -1, .last = -1},
};

static const lucid_rank_report sample_report = {
    .rank = 3,
    .host = "node17",
    .wall = 1,
    .pack = 2,
    .read = 3,
    .write = 4,
    .phase = {5, 6, 7, 8, 9},
    .bytes_sent = 1e18,
    .messages_sent = (int64_t)1 << 33,
    .flops = 1e21,
    .threads = 10,
    .load = 11,
    .store = 12,
    .fma_peak = 13,
    .tensor_bytes = (uint64_t)1 << 40,
    .window_bytes = 14,
    .scratch_bytes = 15,
    .memory_peak = 16,
    .memory_share = 17,
    .events = sample_events,
    .n_events = 2,
};

static void check_job_returns(const lucid_job *job) {
    uint8_t *bytes;
    size_t n;
    lucid_job got = {0};
    CHECK(lucid_message_pack_job(&bytes, &n, job) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_message_unpack_job(&got, bytes, n) == LUCID_OK, "%s", last_failure);
    CHECK(!strcmp(got.build, job->build) && !strcmp(got.job_id, job->job_id), "%s, %s", got.build, got.job_id);
    CHECK(got.n_words == job->n_words, "%d of %d words", got.n_words, job->n_words);
    for (int i = 0; i < got.n_words; i++) CHECK(!strcmp(got.words[i], job->words[i]), "word %d: %s", i, got.words[i]);
    free(got.words);
    free(bytes);
}

static void test_job_round_trip(void) {
    check_job_returns(&sample_job);
    check_job_returns(&(lucid_job){0});
}

/* Both sides are zeroed before they are filled, padding included, so bytes can be compared. */
static void test_report_round_trip(void) {
    uint8_t *bytes;
    size_t n;
    lucid_rank_report got = {0};
    CHECK(lucid_message_pack_report(&bytes, &n, &sample_report) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_message_unpack_report(&got, bytes, n) == LUCID_OK, "%s", last_failure);
    free(bytes);
    for (int i = 0; i < 2 && got.n_events == 2; i++) {
        const lucid_report_event *a = &got.events[i], *b = &sample_events[i];
        CHECK(a->begin == b->begin && a->end == b->end && a->phase == b->phase, "event %d: time", i);
        CHECK(a->thread == b->thread && a->channel == b->channel, "event %d: thread", i);
        CHECK(a->row == b->row && a->first == b->first && a->last == b->last, "event %d: tiles", i);
    }
    free(got.events);
    got.events = sample_events;
    CHECK(memcmp(&got, &sample_report, sizeof got) == 0, "the report changed");
}

/* Version 1 and a job of these bytes. */
/* clang-format off */
#define JOB(n, ...) {8, 1, 0x12, n, __VA_ARGS__}
/* clang-format on */

static const struct {
    const char *fragment;
    size_t n;
    uint8_t bytes[40];
} refused_jobs[] = {
    {"does not begin with a version", 0, {0}},
    {"does not begin with a version", 1, {8}},
    {"does not begin with a version", 4, {0x12, 0, 8, 1}},
    {"does not begin with a version", 3, {8, 0x81, 1}},
    {"version 2, this build has 1", 4, {8, 2, 0x12, 0}},
    {"two versions, 1 and 2", 6, {8, 1, 0x12, 0, 8, 2}},
    {"is no job", 2, {8, 1}},
    {"is no job", 4, {8, 1, 0x1a, 0}},
    {"malformed", 4, {8, 1, 0x12, 5}},
    {"malformed", 3, {8, 1, 0x12}},
    {"malformed", 4, {8, 1, 0x10, 0}}, /* a number where the job should be */
    {"malformed", 6, JOB(2, 8, 0)},    /* a number where a text should be */
    {"malformed", 7, JOB(3, 0x1a, 0x80, 0x80)},
    {"malformed", 7, JOB(3, 0x1a, 2, 'a')},
    {"malformed", 9, JOB(5, 0x1a, 0xff, 0xff, 0xff, 0xff)},
    {"envelope has an unknown field 6", 6, {8, 1, 0x12, 0, 0x30, 1}},
    {"Job has an unknown field 200", 7, JOB(3, 0xc0, 0x0c, 1)},
    {"build is not UTF-8", 7, JOB(3, 0x0a, 1, 0xff)},
    {"job_id is not UTF-8", 7, JOB(3, 0x12, 1, 0xff)},
    {"command_line is not UTF-8", 9, JOB(5, 0x1a, 3, 'a', 0, 'b')},
    {"command_line is not UTF-8", 10, JOB(6, 0x1a, 1, 'a', 0x1a, 1, 0xff)},
    {"command_line is not UTF-8", 7, JOB(3, 0x1a, 1, 0xc3)},
    {"command_line is not UTF-8", 8, JOB(4, 0x1a, 2, 0xc0, 0x80)},
    {"command_line is not UTF-8", 8, JOB(4, 0x1a, 2, 0xc3, 0x28)},
    {"command_line is not UTF-8", 9, JOB(5, 0x1a, 3, 0xed, 0xa0, 0x80)},
    {"command_line is not UTF-8", 9, JOB(5, 0x1a, 3, 0xe0, 0x9f, 0xbf)},
    {"command_line is not UTF-8", 10, JOB(6, 0x1a, 4, 0xf4, 0x90, 0x80, 0x80)},
    {"command_line is not UTF-8", 10, JOB(6, 0x1a, 4, 0xf0, 0x8f, 0xbf, 0xbf)},
};

static void test_refused_jobs(void) {
    for (int i = 0; i < COUNT(refused_jobs); i++) {
        lucid_job job = {.n_words = 77};
        check_failed(lucid_message_unpack_job(&job, refused_jobs[i].bytes, refused_jobs[i].n), LUCID_ERR_COMM,
                     refused_jobs[i].fragment);
        CHECK(job.n_words == 77 && !job.words, "case %d: the job was set", i);
    }
    const uint8_t start[2] = {8, 1};
    lucid_job job;
    lucid_rank_report report;
    check_failed(lucid_message_unpack_job(&job, start, LUCID_JOB_MAX_BYTES + 1), LUCID_ERR_COMM, "more than 4194304");
    uint8_t long_name[70] = {8, 1, 0x12, 66, 0x0a, 64};
    memset(long_name + 6, 'a', 64);
    check_failed(lucid_message_unpack_job(&job, long_name, 70), LUCID_ERR_COMM, "build has 64 bytes, more than 63");
    check_failed(lucid_message_unpack_report(&report, start, SIZE_MAX), LUCID_ERR_COMM, "more than 100663296");
}

/* Version 1 and a report of these bytes. */
/* clang-format off */
#define REPORT(n, ...) {8, 1, 0x1a, n, __VA_ARGS__}
/* clang-format on */

static const struct {
    const char *fragment;
    size_t n;
    uint8_t bytes[60];
} refused_reports[] = {
    {"is no report", 4, {8, 1, 0x12, 0}},
    {"times of 0 phases, not 5", 4, {8, 1, 0x1a, 0}},
    {"times of 1 phases, not 5", 14, REPORT(10, 0x3a, 8, 0, 0, 0, 0, 0, 0, 0, 0)},
    {"malformed", 13, REPORT(9, 0x3a, 7, 0, 0, 0, 0, 0, 0, 0)},
    {"phase is not finite", 14, REPORT(10, 0x3a, 8, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f)},
    {"host is not UTF-8", 7, REPORT(3, 0x12, 1, 0)},
    {"phase has no value 5", 9, REPORT(5, 0xa2, 1, 2, 0x18, 5)},
    {"Event has an unknown field 9", 9, REPORT(5, 0xa2, 1, 2, 0x48, 5)},
    {"begin is not finite", 16, REPORT(12, 0xa2, 1, 9, 9, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f)},
};

static int32_t sample_ids[] = {1, INT32_MAX, 0};
static uint64_t sample_checksums[] = {1, UINT64_MAX, 3, 4};

static const lucid_cache_manifest sample_cache = {.fingerprint = "a model",
                                                  .attention = 1,
                                                  .dtype = 1,
                                                  .n_layers = 2,
                                                  .n_kv_heads = 3,
                                                  .head_dim = 68,
                                                  .value_dim = 64,
                                                  .eps = 1e-6,
                                                  .tile = 64,
                                                  .tokens = 3,
                                                  .n_shards = 5,
                                                  .token_ids = sample_ids,
                                                  .checksums = sample_checksums,
                                                  .n_tiles = 1};

static void check_cache_refused(lucid_cache_manifest manifest, const char *fragment) {
    uint8_t *bytes;
    size_t n;
    check_failed(lucid_message_pack_cache(&bytes, &n, &manifest), LUCID_ERR_USAGE, fragment);
}

/* What a folder's manifest says must be possible before memory is sized by it. */
static void test_cache_manifests(void) {
    const lucid_cache_manifest sample = sample_cache;
    lucid_cache_manifest back, bad = sample;
    uint8_t *bytes;
    size_t n;
    CHECK(lucid_message_pack_cache(&bytes, &n, &sample) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_message_unpack_cache(&back, bytes, n, "folder/manifest") == LUCID_OK, "%s", last_failure);
    CHECK(!strcmp(back.fingerprint, "a model") && back.attention == 1 && back.dtype == 1 && back.n_layers == 2 &&
              back.n_kv_heads == 3 && back.head_dim == 68 && back.value_dim == 64 && back.eps == 1e-6 &&
              back.tile == 64 && back.tokens == 3 && back.n_shards == 5 && back.n_tiles == 1,
          "a number is lost");
    CHECK(!memcmp(back.token_ids, sample_ids, sizeof sample_ids) && !memcmp(back.checksums, sample_checksums, 16),
          "an array is lost");
    check_failed(lucid_message_unpack_cache(&bad, bytes, n - 1, "folder/manifest"), LUCID_ERR_INPUT, "folder/manifest");
    lucid_job job;
    check_failed(lucid_message_unpack_job(&job, bytes, n), LUCID_ERR_COMM, "is no job");
    lucid_cache_manifest_free(&back);
    free(bytes);
    bad = sample, bad.n_tiles = 2, check_cache_refused(bad, "4 checksums of 2 layers and 1 tiles");
    bad = sample, bad.tile = 32, check_cache_refused(bad, "those of no cache");
    bad = sample, bad.head_dim = 257, check_cache_refused(bad, "those of no cache");
    bad = sample, bad.n_shards = 0, check_cache_refused(bad, "those of no cache");
    bad = sample, bad.dtype = 3, check_cache_refused(bad, "dtype has no value 3");
    bad = sample, bad.eps = INFINITY, check_cache_refused(bad, "eps is not finite");
}

static void test_refused_reports(void) {
    for (int i = 0; i < COUNT(refused_reports); i++) {
        lucid_rank_report report = {.rank = 77};
        check_failed(lucid_message_unpack_report(&report, refused_reports[i].bytes, refused_reports[i].n),
                     LUCID_ERR_COMM, refused_reports[i].fragment);
        CHECK(report.rank == 77 && !report.events, "case %d: the report was set", i);
    }
}

/* Three bytes an event on the wire, a hundred in memory: stopped by the allowance. */
static void test_memory_is_bounded(void) {
    enum { N = 2000000, BODY = 3 * N };
    uint8_t *bytes = malloc(BODY + 7);
    lucid_rank_report report;
    memcpy(
        bytes,
        (uint8_t[]){8, 1, 0x1a, 0x80 | (BODY & 127), 0x80 | (BODY >> 7 & 127), 0x80 | (BODY >> 14 & 127), BODY >> 21},
        7);
    for (int i = 0; i < N; i++) memcpy(bytes + 7 + 3 * i, (uint8_t[]){0xa2, 1, 0}, 3);
    check_failed(lucid_message_unpack_report(&report, bytes, BODY + 7), LUCID_ERR_COMM, "malformed");
    free(bytes);
}

/* No beginning of a message is one, and no message with a flipped bit does harm. */
static void test_damaged_messages(void) {
    uint8_t *bytes;
    size_t n;
    int accepted = 0;
    CHECK(lucid_message_pack_job(&bytes, &n, &sample_job) == LUCID_OK, "%s", last_failure);
    for (size_t length = 0; length < n; length++) {
        lucid_job job = {0};
        CHECK(lucid_message_unpack_job(&job, bytes, length) == LUCID_ERR_COMM, "%zu of %zu bytes are accepted", length,
              n);
        free(job.words);
    }
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        lucid_job job = {0};
        if (lucid_message_unpack_job(&job, bytes, n) == LUCID_OK) {
            accepted++;
            size_t length = 0;
            for (int i = 0; i < job.n_words; i++) length += strlen(job.words[i]) + 1;
            CHECK(length <= n && memchr(job.build, 0, sizeof job.build), "bit %zu: %zu bytes of words", bit, length);
            free(job.words);
        }
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    CHECK(accepted > 0 && accepted < 8 * (int)n, "%d of %zu flips are accepted", accepted, 8 * n);
    free(bytes);
}

static void check_pack_fails(const lucid_job *job, const char *fragment) {
    uint8_t *bytes;
    size_t n;
    check_failed(lucid_message_pack_job(&bytes, &n, job), LUCID_ERR_USAGE, fragment);
}

static void test_what_cannot_be_packed(void) {
    lucid_job job = sample_job;
    memset(job.build, 'a', sizeof job.build);
    check_pack_fails(&job, "build is longer than 63 bytes");
    job = sample_job;
    job.words = (char *[]){"lucid", "\xe9t\xe9"}, job.n_words = 2;
    check_pack_fails(&job, "command_line is not UTF-8");
    char *word = calloc(1, LUCID_JOB_MAX_BYTES);
    memset(word, 'a', LUCID_JOB_MAX_BYTES - 1);
    job.words = &word, job.n_words = 1;
    check_pack_fails(&job, "more than 4194304");
    free(word);
    lucid_rank_report report = sample_report;
    uint8_t *bytes;
    size_t n;
    report.n_events = LUCID_REPORT_MAX_EVENTS + 1;
    check_failed(lucid_message_pack_report(&bytes, &n, &report), LUCID_ERR_USAGE, "1000001 events");
    report.n_events = -1;
    check_failed(lucid_message_pack_report(&bytes, &n, &report), LUCID_ERR_USAGE, "-1 events");
    report = sample_report;
    report.wall = INFINITY;
    check_failed(lucid_message_pack_report(&bytes, &n, &report), LUCID_ERR_USAGE, "wall is not finite");
}

/* The greatest report that can be made is within the limits. */
static void test_limits_fit(void) {
    lucid_report_event event = {
        .begin = 1, .end = 1, .phase = 1, .thread = -1, .channel = -1, .row = -1, .first = -1, .last = -1};
    lucid_rank_report report = {.rank = 1, .events = &event};
    uint8_t *bytes;
    size_t n, n_without;
    CHECK(lucid_message_pack_report(&bytes, &n_without, &report) == LUCID_OK, "%s", last_failure);
    free(bytes);
    report.n_events = 1;
    CHECK(lucid_message_pack_report(&bytes, &n, &report) == LUCID_OK, "%s", last_failure);
    free(bytes);
    CHECK((n - n_without) * LUCID_REPORT_MAX_EVENTS + 10000 < LUCID_REPORT_MAX_BYTES, "%zu bytes an event",
          n - n_without);
}

/* The greatest value of each enumeration packs and the next one does not. */
static void test_enumerations(void) {
    lucid_cache_manifest cache = sample_cache;
    lucid_report_event event = {.phase = LUCID_N_PHASES - 1};
    lucid_rank_report report = {.events = &event, .n_events = 1};
    uint8_t *bytes;
    size_t n;
    cache.attention = LUCID_ATTENTION_SOFTMAX, cache.dtype = LUCID_F16;
    CHECK(lucid_message_pack_cache(&bytes, &n, &cache) == LUCID_OK, "%s", last_failure);
    free(bytes);
    CHECK(lucid_message_pack_report(&bytes, &n, &report) == LUCID_OK, "%s", last_failure);
    free(bytes);
    cache.attention++, check_cache_refused(cache, "attention has no value");
    cache.attention--, cache.dtype++, check_cache_refused(cache, "dtype has no value");
    event.phase++;
    check_failed(lucid_message_pack_report(&bytes, &n, &report), LUCID_ERR_USAGE, "phase has no value");
}

int main(void) {
    test_job_round_trip();
    test_report_round_trip();
    test_refused_jobs();
    test_refused_reports();
    test_cache_manifests();
    test_memory_is_bounded();
    test_damaged_messages();
    test_what_cannot_be_packed();
    test_limits_fit();
    test_enumerations();
    return check_result();
}
