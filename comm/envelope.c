#include "comm/envelope.h"

#include "comm/messages.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

lucid_status lucid_text_put(ProtobufCBinaryData *to, const char *from, size_t capacity, const char *name) {
    *to = (ProtobufCBinaryData){.len = strnlen(from, capacity), .data = (uint8_t *)from};
    if (to->len < capacity) return LUCID_OK;
    return lucid_fail(LUCID_ERR_USAGE, "%s is longer than %zu bytes", name, capacity - 1);
}

lucid_status lucid_text_get(char *to, size_t capacity, const ProtobufCBinaryData *from, const char *name,
                            lucid_origin origin) {
    if (from->len >= capacity)
        return lucid_fail(origin.failure, "%s: %s has %zu bytes, more than %zu", origin.name, name, from->len,
                          capacity - 1);
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

static lucid_status check_element(const ProtobufCFieldDescriptor *field, const void *array, size_t i,
                                  lucid_origin origin) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_ENUM:
        if (protobuf_c_enum_descriptor_get_value(field->descriptor, ((const int *)array)[i])) return LUCID_OK;
        return lucid_fail(origin.failure, "%s: %s has no value %d", origin.name, field->name, ((const int *)array)[i]);
    case PROTOBUF_C_TYPE_DOUBLE:
        if (isfinite(((const double *)array)[i])) return LUCID_OK;
        return lucid_fail(origin.failure, "%s: %s is not finite", origin.name, field->name);
    case PROTOBUF_C_TYPE_BYTES:
        if (text_valid(&((const ProtobufCBinaryData *)array)[i])) return LUCID_OK;
        return lucid_fail(origin.failure, "%s: %s is not UTF-8 text", origin.name, field->name);
    case PROTOBUF_C_TYPE_MESSAGE:
        return lucid_message_check(((ProtobufCMessage *const *)array)[i], origin);
    default:
        return LUCID_OK;
    }
}

lucid_status lucid_message_check(const ProtobufCMessage *message, lucid_origin origin) {
    const char *base = (const char *)message;
    if (message->n_unknown_fields)
        return lucid_fail(origin.failure, "%s: %s has an unknown field %" PRIu32, origin.name,
                          message->descriptor->short_name, message->unknown_fields[0].tag);
    for (unsigned f = 0; f < message->descriptor->n_fields; f++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[f];
        const bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        const size_t n = repeated ? *(const size_t *)(base + field->quantifier_offset) : 1;
        const void *array = repeated ? *(void *const *)(base + field->offset) : base + field->offset;
        for (size_t i = 0; i < n; i++) LUCID_TRY(check_element(field, array, i, origin));
    }
    return LUCID_OK;
}

lucid_status lucid_envelope_pack(uint8_t **bytes, size_t *n_bytes, const lucid_message_kind *kind,
                                 ProtobufCMessage *body) {
    Lucid__Envelope envelope = LUCID__ENVELOPE__INIT;
    envelope.version = LUCID_MESSAGE_VERSION;
    envelope.body_case = kind->body;
    envelope.job = (Lucid__Job *)body; /* any body: they share a place */
    const size_t n = lucid__envelope__get_packed_size(&envelope);
    if (n > kind->max_bytes)
        return lucid_fail(LUCID_ERR_USAGE, "message: %zu bytes, more than %zu", n, kind->max_bytes);
    *bytes = malloc(n);
    if (!*bytes) return lucid_fail(LUCID_ERR_MEMORY, "message: no memory for %zu bytes", n);
    *n_bytes = lucid__envelope__pack(&envelope, *bytes);
    return LUCID_OK;
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

/* The version is looked at before anything else is read: it is the first field that pack writes. */
static lucid_status check_version(const uint8_t *bytes, size_t n_bytes, size_t max_bytes, lucid_origin origin) {
    if (n_bytes > max_bytes)
        return lucid_fail(origin.failure, "%s: %zu bytes, more than %zu", origin.name, n_bytes, max_bytes);
    if (n_bytes < 2 || bytes[0] != 1 << 3 || bytes[1] > 127)
        return lucid_fail(origin.failure, "%s: does not begin with a version", origin.name);
    if (bytes[1] != LUCID_MESSAGE_VERSION)
        return lucid_fail(origin.failure, "%s: version %d, this build has %d%s", origin.name, bytes[1],
                          LUCID_MESSAGE_VERSION,
                          origin.failure == LUCID_ERR_COMM ? ": ranks run different builds" : "");
    return LUCID_OK;
}

static lucid_status check_envelope(const Lucid__Envelope *envelope, const lucid_message_kind *kind,
                                   lucid_origin origin) {
    if (envelope->version != LUCID_MESSAGE_VERSION)
        return lucid_fail(origin.failure, "%s: has two versions, %d and %" PRIu32, origin.name, LUCID_MESSAGE_VERSION,
                          envelope->version);
    if (envelope->base.n_unknown_fields)
        return lucid_fail(origin.failure, "%s: the envelope has an unknown field %" PRIu32, origin.name,
                          envelope->base.unknown_fields[0].tag);
    if (envelope->body_case != kind->body) return lucid_fail(origin.failure, "%s: is no %s", origin.name, kind->name);
    return lucid_message_check(&envelope->job->base, origin);
}

/* The least event takes 11 bytes on the wire and, with protobuf-c's notes, below 200 in memory: 32 times the size is
 * ample for a true message and still a bound for one that is made of empty parts. */
lucid_status lucid_envelope_unpack(void *to, lucid_body_getter get, const uint8_t *bytes, size_t n_bytes,
                                   const lucid_message_kind *kind, lucid_origin origin) {
    LUCID_TRY(check_version(bytes, n_bytes, kind->max_bytes, origin));
    allowance room = {.left = 32 * n_bytes + 65536};
    ProtobufCAllocator allocator = {.alloc = take, .free = give, .allocator_data = &room};
    Lucid__Envelope *envelope = lucid__envelope__unpack(&allocator, n_bytes, bytes);
    if (!envelope)
        return lucid_fail(origin.failure, "%s: the %s's %zu bytes are malformed", origin.name, kind->name, n_bytes);
    lucid_status status = check_envelope(envelope, kind, origin);
    if (!status) status = get(to, &envelope->job->base, origin);
    lucid__envelope__free_unpacked(envelope, &allocator);
    return status;
}
