/* Bytes to structures and back. protobuf-c reads the wire format; what it leaves open is checked by walking the
 * messages' descriptors, so that a field added to lucid.proto is checked without further words. */
#include "comm/messages.h"

#include "lucid.pb-c.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
/* The members that have the same name on both sides: one list for both directions. */
#define JOB_NUMBERS(X)                                                                                                 \
    X(command) X(attention) X(seqlen) X(batch) X(n_heads) X(n_kv_heads) X(head_dim) X(value_dim) X(softmax_scale)      \
    X(eps) X(layout) X(schedule) X(tile) X(memory_budget) X(threads) X(channels) X(timeout) X(seed) X(random_kind)     \
    X(dtype) X(n_centres) X(correlation) X(device) X(baseline) X(repeat) X(save) X(out_dtype) X(progress) X(verify)    \
    X(plan) X(certificate) X(quiet)
#define JOB_TEXTS(X) X(isa) X(job_id) X(transport) X(input) X(output) X(report) X(trace) X(lengths)
#define EVENT_NUMBERS(X) X(begin) X(end) X(phase) X(thread) X(channel) X(row) X(first) X(last)
#define REPORT_NUMBERS(X)                                                                                              \
    X(rank) X(wall) X(pack) X(read) X(write) X(bytes_sent) X(messages_sent) X(flops) X(threads) X(load) X(store)       \
    X(fma_peak) X(tensor_bytes) X(window_bytes) X(scratch_bytes) X(memory_peak) X(memory_share)

/* clang-format on */

#define COPY_NUMBER(member) to->member = from->member;
#define PUT_TEXT(member)    LUCID_TRY(put_text(&to->member, from->member, sizeof from->member, #member));
#define GET_TEXT(member)    LUCID_TRY(get_text(to->member, sizeof to->member, &from->member, #member));

static lucid_status put_text(ProtobufCBinaryData *to, const char *from, size_t capacity, const char *name) {
    *to = (ProtobufCBinaryData){.len = strnlen(from, capacity), .data = (uint8_t *)from};
    if (to->len < capacity) return LUCID_OK;
    return lucid_fail(LUCID_ERR_USAGE, "%s is longer than %zu bytes", name, capacity - 1);
}

static lucid_status get_text(char *to, size_t capacity, const ProtobufCBinaryData *from, const char *name) {
    if (from->len >= capacity)
        return lucid_fail(LUCID_ERR_COMM, "message: %s has %zu bytes, more than %zu", name, from->len, capacity - 1);
    if (from->len) memcpy(to, from->data, from->len);
    to[from->len] = '\0';
    return LUCID_OK;
}

/* Bytes of the UTF-8 character at text, 0 where there is none: overlong forms, surrogates and NUL are none. */
static size_t utf8_length(const uint8_t *text, size_t n) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (text[0] < 0x80) return text[0] != 0;
    const size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc0 || text[0] > 0xf4 || length > n) return 0;
    uint32_t code = text[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    const bool surrogate = code >= 0xd800 && code < 0xe000;
    return code >= least[length] && code <= 0x10ffff && !surrogate ? length : 0;
}

static bool text_valid(const ProtobufCBinaryData *text) {
    for (size_t i = 0; i < text->len;) {
        const size_t length = utf8_length(text->data + i, text->len - i);
        if (!length) return false;
        i += length;
    }
    return true;
}

static lucid_status check_message(const ProtobufCMessage *message, lucid_status failure);

static lucid_status check_element(const ProtobufCFieldDescriptor *field, const void *array, size_t i,
                                  lucid_status failure) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_ENUM:
        if (protobuf_c_enum_descriptor_get_value(field->descriptor, ((const int *)array)[i])) return LUCID_OK;
        return lucid_fail(failure, "message: %s has no value %d", field->name, ((const int *)array)[i]);
    case PROTOBUF_C_TYPE_DOUBLE:
        if (isfinite(((const double *)array)[i])) return LUCID_OK;
        return lucid_fail(failure, "message: %s is not finite", field->name);
    case PROTOBUF_C_TYPE_BYTES:
        if (text_valid(&((const ProtobufCBinaryData *)array)[i])) return LUCID_OK;
        return lucid_fail(failure, "message: %s is not UTF-8 text", field->name);
    case PROTOBUF_C_TYPE_MESSAGE:
        return check_message(((ProtobufCMessage *const *)array)[i], failure);
    default:
        return LUCID_OK;
    }
}

/* Ranges of enumerations, finite numbers, texts, and nothing that this version does not know. */
static lucid_status check_message(const ProtobufCMessage *message, lucid_status failure) {
    const char *base = (const char *)message;
    if (message->n_unknown_fields)
        return lucid_fail(failure, "message: %s has an unknown field %" PRIu32, message->descriptor->short_name,
                          message->unknown_fields[0].tag);
    for (unsigned f = 0; f < message->descriptor->n_fields; f++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[f];
        const bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        const size_t n = repeated ? *(const size_t *)(base + field->quantifier_offset) : 1;
        const void *array = repeated ? *(void *const *)(base + field->offset) : base + field->offset;
        for (size_t i = 0; i < n; i++) LUCID_TRY(check_element(field, array, i, failure));
    }
    return LUCID_OK;
}

static lucid_status pack(uint8_t **bytes, size_t *n_bytes, Lucid__Envelope *envelope, size_t max_bytes) {
    envelope->version = LUCID_MESSAGE_VERSION;
    const size_t n = lucid__envelope__get_packed_size(envelope);
    if (n > max_bytes) return lucid_fail(LUCID_ERR_USAGE, "message: %zu bytes, more than %zu", n, max_bytes);
    *bytes = malloc(n);
    if (!*bytes) return lucid_fail(LUCID_ERR_MEMORY, "message: no memory for %zu bytes", n);
    *n_bytes = lucid__envelope__pack(envelope, *bytes);
    return LUCID_OK;
}

static lucid_status put_job(Lucid__Job *to, const lucid_job *from) {
    JOB_NUMBERS(COPY_NUMBER)
    JOB_TEXTS(PUT_TEXT)
    return check_message(&to->base, LUCID_ERR_USAGE);
}

lucid_status lucid_message_pack_job(uint8_t **bytes, size_t *n_bytes, const lucid_job *job) {
    Lucid__Job body = LUCID__JOB__INIT;
    Lucid__Envelope envelope = LUCID__ENVELOPE__INIT;
    LUCID_TRY(put_job(&body, job));
    envelope.body_case = LUCID__ENVELOPE__BODY_JOB;
    envelope.job = &body;
    return pack(bytes, n_bytes, &envelope, LUCID_JOB_MAX_BYTES);
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
    return check_message(&to->base, LUCID_ERR_USAGE);
}

lucid_status lucid_message_pack_report(uint8_t **bytes, size_t *n_bytes, const lucid_rank_report *report) {
    Lucid__RankReport body = LUCID__RANK_REPORT__INIT;
    Lucid__Envelope envelope = LUCID__ENVELOPE__INIT;
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
    envelope.body_case = LUCID__ENVELOPE__BODY_REPORT;
    envelope.report = &body;
    status = pack(bytes, n_bytes, &envelope, LUCID_REPORT_MAX_BYTES);
free_events:
    free(body.events);
    free(events);
    return status;
}

/* Memory that unpacking may take in all. Freed memory does not count again, so blocks need no sizes. */
typedef struct {
    size_t left;
} allowance;

static void *take(void *context, size_t bytes) {
    allowance *a = context;
    const size_t overhead = 2 * sizeof(void *); /* malloc's own */
    if (bytes > a->left || a->left - bytes < overhead) return NULL;
    a->left -= bytes + overhead;
    return malloc(bytes);
}

static void give(void *context, void *block) {
    (void)context;
    free(block);
}

/* The least event takes 11 bytes on the wire and, with protobuf-c's notes, below 200 in memory: 32 times the size is
 * ample for a true message and still a bound for one that is made of empty parts. */
static ProtobufCAllocator allocator_for(allowance *a, size_t n_bytes) {
    a->left = 32 * n_bytes + 65536;
    return (ProtobufCAllocator){.alloc = take, .free = give, .allocator_data = a};
}

/* The version is looked at before anything else is read: it is the first field that pack writes. */
static lucid_status check_version(const uint8_t *bytes, size_t n_bytes, size_t max_bytes) {
    if (n_bytes > max_bytes) return lucid_fail(LUCID_ERR_COMM, "message: %zu bytes, more than %zu", n_bytes, max_bytes);
    if (n_bytes < 2 || bytes[0] != 1 << 3 || bytes[1] > 127)
        return lucid_fail(LUCID_ERR_COMM, "message: does not begin with a version");
    if (bytes[1] != LUCID_MESSAGE_VERSION)
        return lucid_fail(LUCID_ERR_COMM, "message: version %d, this build has %d: ranks run different builds",
                          bytes[1], LUCID_MESSAGE_VERSION);
    return LUCID_OK;
}

static lucid_status check_envelope(const Lucid__Envelope *envelope, int body_case, const char *body) {
    if (envelope->version != LUCID_MESSAGE_VERSION)
        return lucid_fail(LUCID_ERR_COMM, "message: has two versions, %d and %" PRIu32, LUCID_MESSAGE_VERSION,
                          envelope->version);
    if (envelope->base.n_unknown_fields)
        return lucid_fail(LUCID_ERR_COMM, "message: the envelope has an unknown field %" PRIu32,
                          envelope->base.unknown_fields[0].tag);
    if ((int)envelope->body_case != body_case) return lucid_fail(LUCID_ERR_COMM, "message: is no %s", body);
    return LUCID_OK;
}

static lucid_status get_job(lucid_job *to, const Lucid__Job *from) {
    JOB_NUMBERS(COPY_NUMBER)
    JOB_TEXTS(GET_TEXT)
    return LUCID_OK;
}

lucid_status lucid_message_unpack_job(lucid_job *job, const uint8_t *bytes, size_t n_bytes) {
    allowance memory;
    lucid_job copy = {0};
    LUCID_TRY(check_version(bytes, n_bytes, LUCID_JOB_MAX_BYTES));
    ProtobufCAllocator allocator = allocator_for(&memory, n_bytes);
    Lucid__Envelope *envelope = lucid__envelope__unpack(&allocator, n_bytes, bytes);
    if (!envelope) return lucid_fail(LUCID_ERR_COMM, "message: the job's %zu bytes are malformed", n_bytes);
    lucid_status status = check_envelope(envelope, LUCID__ENVELOPE__BODY_JOB, "job");
    if (!status) status = check_message(&envelope->job->base, LUCID_ERR_COMM);
    if (!status) status = get_job(&copy, envelope->job);
    if (!status) *job = copy;
    lucid__envelope__free_unpacked(envelope, &allocator);
    return status;
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

static lucid_status get_report(lucid_rank_report *to, const Lucid__RankReport *from) {
    REPORT_NUMBERS(COPY_NUMBER)
    GET_TEXT(host)
    if (from->n_phase != LUCID_REPORT_PHASES)
        return lucid_fail(LUCID_ERR_COMM, "message: times of %zu phases, not %d", from->n_phase, LUCID_REPORT_PHASES);
    memcpy(to->phase, from->phase, sizeof to->phase);
    to->n_events = (int64_t)from->n_events;
    return get_events(&to->events, from);
}

lucid_status lucid_message_unpack_report(lucid_rank_report *report, const uint8_t *bytes, size_t n_bytes) {
    allowance memory;
    lucid_rank_report copy = {0};
    LUCID_TRY(check_version(bytes, n_bytes, LUCID_REPORT_MAX_BYTES));
    ProtobufCAllocator allocator = allocator_for(&memory, n_bytes);
    Lucid__Envelope *envelope = lucid__envelope__unpack(&allocator, n_bytes, bytes);
    if (!envelope) return lucid_fail(LUCID_ERR_COMM, "message: the report's %zu bytes are malformed", n_bytes);
    lucid_status status = check_envelope(envelope, LUCID__ENVELOPE__BODY_REPORT, "report");
    if (!status) status = check_message(&envelope->report->base, LUCID_ERR_COMM);
    if (!status) status = get_report(&copy, envelope->report);
    if (!status) *report = copy;
    lucid__envelope__free_unpacked(envelope, &allocator);
    return status;
}
