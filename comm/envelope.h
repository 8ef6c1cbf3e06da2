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

/* What an envelope may hold. */
typedef struct {
    Lucid__Envelope__BodyCase body;
    const char *name;
    size_t max_bytes; /* of a packed envelope */
} lucid_message_kind;

/* Copies a checked body into the structure `to`, which the caller frees should it fail. */
typedef lucid_status (*lucid_body_getter)(void *to, const ProtobufCMessage *body, lucid_origin origin);

/* Ranges of enumerations, finite numbers, texts, and nothing that this version does not know. */
lucid_status lucid_message_check(const ProtobufCMessage *message, lucid_origin origin);

/* The body has been checked. *bytes (*n_bytes) is to be freed. */
lucid_status lucid_envelope_pack(uint8_t **bytes, size_t *n_bytes, const lucid_message_kind *kind,
                                 ProtobufCMessage *body);

/* Unpacks and checks all of an envelope, which must hold such a body, and hands it to get. Memory is bounded by
 * n_bytes. */
lucid_status lucid_envelope_unpack(void *to, lucid_body_getter get, const uint8_t *bytes, size_t n_bytes,
                                   const lucid_message_kind *kind, lucid_origin origin);

/* A text of capacity bytes, its NUL included, as a field and back. put keeps the pointer. */
lucid_status lucid_text_put(ProtobufCBinaryData *to, const char *from, size_t capacity, const char *name);
lucid_status lucid_text_get(char *to, size_t capacity, const ProtobufCBinaryData *from, const char *name,
                            lucid_origin origin);

#endif
