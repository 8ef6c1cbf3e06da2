/* What all messages share: the envelope with its version, and the distrust. protobuf-c reads the wire format; what it
 * leaves open is checked by walking the messages' descriptors, so that a field added to lucid.proto is checked without
 * further words. Only the files that turn structures into messages include this. */
#ifndef LUCID_COMM_ENVELOPE_H
#define LUCID_COMM_ENVELOPE_H

#include "comm/comm.h"

#include "lucid.pb-c.h"

/* Whence bytes come, for the lines of failures: a peer's message, or a file by its path. */
typedef struct {
    const char *name;
    lucid_status failure; /* what malformed bytes are: COMM or INPUT */
} lucid_origin;

/* Memory that unpacking may take in all. Freed memory does not count again, so blocks need no sizes. */
typedef struct {
    size_t left;
} lucid_allowance;

typedef struct {
    Lucid__Envelope *envelope;
    lucid_allowance allowance;
    ProtobufCAllocator allocator;
} lucid_opened;

/* Ranges of enumerations, finite numbers, texts, and nothing that this version does not know. */
lucid_status lucid_message_check(const ProtobufCMessage *message, lucid_origin origin);

/* Puts the version in and packs; the body has been checked. *bytes (*n_bytes) is to be freed. */
lucid_status lucid_envelope_pack(uint8_t **bytes, size_t *n_bytes, Lucid__Envelope *envelope, size_t max_bytes);

/* Unpacks and checks all of an envelope that must hold the body `name`. Its memory is bounded by n_bytes. Close it
 * after success. */
lucid_status lucid_envelope_open(lucid_opened *opened, const uint8_t *bytes, size_t n_bytes, size_t max_bytes,
                                 Lucid__Envelope__BodyCase body, const char *name, lucid_origin origin);
void lucid_envelope_close(lucid_opened *opened);

/* A text of capacity bytes, its NUL included, as a field and back. put keeps the pointer. */
lucid_status lucid_text_put(ProtobufCBinaryData *to, const char *from, size_t capacity, const char *name);
lucid_status lucid_text_get(char *to, size_t capacity, const ProtobufCBinaryData *from, const char *name,
                            lucid_origin origin);

#endif
