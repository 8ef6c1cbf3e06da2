/* Jobs and reports to bytes and back. */
#include "comm/messages.h"

#include "comm/envelope.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
/* The members that have the same name on both sides: one list for both directions. */
#define EVENT_NUMBERS(X) X(begin) X(end) X(phase) X(thread) X(channel) X(row) X(first) X(last)
#define REPORT_NUMBERS(X)                                                                                              \
    X(rank) X(wall) X(pack) X(read) X(write) X(bytes_sent) X(messages_sent) X(flops) X(threads) X(load) X(store)       \
    X(fma_peak) X(tensor_bytes) X(window_bytes) X(scratch_bytes) X(memory_peak) X(memory_share)

/* clang-format on */

#define COPY_NUMBER(member) to->member = from->member;
#define PUT_TEXT(member)    LUCID_TRY(lucid_text_put(&to->member, from->member, sizeof from->member, #member));
#define GET_TEXT(member)    LUCID_TRY(lucid_text_get(to->member, sizeof to->member, &from->member, #member, origin));

static const lucid_message_kind job_kind = {LUCID__ENVELOPE__BODY_JOB, "job", LUCID_JOB_MAX_BYTES};
static const lucid_message_kind report_kind = {LUCID__ENVELOPE__BODY_REPORT, "report", LUCID_REPORT_MAX_BYTES};
static const lucid_origin own = {"message", LUCID_ERR_USAGE}, peer = {"message", LUCID_ERR_COMM};

static lucid_status put_job(Lucid__Job *to, const lucid_job *from) {
    PUT_TEXT(build)
    PUT_TEXT(job_id)
    for (int i = 0; i < from->n_words; i++)
        to->command_line[i] = (ProtobufCBinaryData){.len = strlen(from->words[i]), .data = (uint8_t *)from->words[i]};
    to->n_command_line = (size_t)from->n_words;
    return lucid_message_check(&to->base, own);
}

lucid_status lucid_message_pack_job(uint8_t **bytes, size_t *n_bytes, const lucid_job *job) {
    Lucid__Job body = LUCID__JOB__INIT;
    body.command_line = malloc(((size_t)job->n_words + 1) * sizeof *body.command_line);
    lucid_status status =
        body.command_line ? put_job(&body, job) : lucid_fail(LUCID_ERR_MEMORY, "no memory for the command line");
    if (!status) status = lucid_envelope_pack(bytes, n_bytes, &job_kind, &body.base);
    free(body.command_line);
    return status;
}

static void put_event(Lucid__Event *to, const lucid_report_event *from) {
    lucid__event__init(to);
    EVENT_NUMBERS(COPY_NUMBER)
}

static lucid_status put_report(Lucid__RankReport *to, const lucid_rank_report *from) {
    REPORT_NUMBERS(COPY_NUMBER)
    PUT_TEXT(host)
    to->n_phase = LUCID_REPORT_PHASES;
    to->phase = (double *)from->phase;
    return lucid_message_check(&to->base, own);
}

lucid_status lucid_message_pack_report(uint8_t **bytes, size_t *n_bytes, const lucid_rank_report *report) {
    Lucid__RankReport body = LUCID__RANK_REPORT__INIT;
    lucid_status status;
    if (report->n_events < 0 || report->n_events > LUCID_REPORT_MAX_EVENTS)
        return lucid_fail(LUCID_ERR_USAGE, "message: %" PRId64 " events, not 0..%d", report->n_events,
                          LUCID_REPORT_MAX_EVENTS);
    const size_t n_events = (size_t)report->n_events;
    Lucid__Event *events = malloc((n_events + 1) * sizeof *events);
    body.events = malloc((n_events + 1) * sizeof *body.events);
    if (!events || !body.events) {
        status = lucid_fail(LUCID_ERR_MEMORY, "message: no memory for %zu events", n_events);
        goto free_events;
    }
    for (size_t i = 0; i < n_events; i++) {
        put_event(&events[i], &report->events[i]);
        body.events[i] = &events[i];
    }
    body.n_events = n_events;
    LUCID_TRY_GOTO(put_report(&body, report), free_events);
    status = lucid_envelope_pack(bytes, n_bytes, &report_kind, &body.base);
free_events:
    free(body.events);
    free(events);
    return status;
}

/* Pointers and texts are one block. */
static lucid_status get_words(lucid_job *to, const Lucid__Job *from) {
    const size_t n = from->n_command_line;
    size_t n_bytes = n * sizeof *to->words;
    for (size_t i = 0; i < n; i++) n_bytes += from->command_line[i].len + 1;
    to->words = malloc(n_bytes + 1);
    if (!to->words) return lucid_fail(LUCID_ERR_MEMORY, "message: no memory for %zu words", n);
    to->n_words = (int)n;
    char *text = (char *)(to->words + n);
    for (size_t i = 0; i < n; i++) {
        const ProtobufCBinaryData *word = &from->command_line[i];
        if (word->len) memcpy(text, word->data, word->len);
        text[word->len] = '\0';
        to->words[i] = text;
        text += word->len + 1;
    }
    return LUCID_OK;
}

static lucid_status get_job(void *job, const ProtobufCMessage *body, lucid_origin origin) {
    lucid_job *to = job;
    const Lucid__Job *from = (const Lucid__Job *)body;
    GET_TEXT(build)
    GET_TEXT(job_id)
    return get_words(to, from);
}

lucid_status lucid_message_unpack_job(lucid_job *job, const uint8_t *bytes, size_t n_bytes) {
    lucid_job copy = {0};
    LUCID_TRY(lucid_envelope_unpack(&copy, get_job, bytes, n_bytes, &job_kind, peer));
    *job = copy;
    return LUCID_OK;
}

static void get_event(lucid_report_event *to, const Lucid__Event *from) {
    EVENT_NUMBERS(COPY_NUMBER)
}

static lucid_status get_events(lucid_report_event **events, const Lucid__RankReport *from) {
    if (from->n_events > LUCID_REPORT_MAX_EVENTS)
        return lucid_fail(LUCID_ERR_COMM, "message: %zu events, more than %d", from->n_events, LUCID_REPORT_MAX_EVENTS);
    *events = NULL;
    if (!from->n_events) return LUCID_OK;
    *events = malloc(from->n_events * sizeof **events);
    if (!*events) return lucid_fail(LUCID_ERR_MEMORY, "message: no memory for %zu events", from->n_events);
    for (size_t i = 0; i < from->n_events; i++) get_event(&(*events)[i], from->events[i]);
    return LUCID_OK;
}

static lucid_status get_report(void *report, const ProtobufCMessage *body, lucid_origin origin) {
    lucid_rank_report *to = report;
    const Lucid__RankReport *from = (const Lucid__RankReport *)body;
    REPORT_NUMBERS(COPY_NUMBER)
    GET_TEXT(host)
    if (from->n_phase != LUCID_REPORT_PHASES)
        return lucid_fail(LUCID_ERR_COMM, "message: times of %zu phases, not %d", from->n_phase, LUCID_REPORT_PHASES);
    memcpy(to->phase, from->phase, sizeof to->phase);
    to->n_events = (int64_t)from->n_events;
    return get_events(&to->events, from);
}

lucid_status lucid_message_unpack_report(lucid_rank_report *report, const uint8_t *bytes, size_t n_bytes) {
    lucid_rank_report copy = {0};
    LUCID_TRY(lucid_envelope_unpack(&copy, get_report, bytes, n_bytes, &report_kind, peer));
    *report = copy;
    return LUCID_OK;
}
