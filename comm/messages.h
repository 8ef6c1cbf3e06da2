/* What crosses process borders, as plain structures and as bytes: the job that rank 0 broadcasts, and the report
 * that each rank sends back. The bytes are protobuf messages (lucid.proto) in an envelope with a version, so that
 * builds that differ notice it instead of misreading each other.
 *
 * Unpacking trusts nothing: size, version, unknown or missing parts, ranges of enumerations, finite numbers, lengths,
 * UTF-8 and NUL in texts are checked, and memory is bounded before it is taken. What the numbers mean is the receiver's
 * to check. Texts are arrays of bounded length that end with NUL; an empty one means "not given".
 *
 * This folder knows no attention: enumerations are plain integers, with the values of the types named beside them.
 * All functions are Local.
 */
#ifndef LUCID_MESSAGES_H
#define LUCID_MESSAGES_H

#include "comm/comm.h"

#define LUCID_MESSAGE_VERSION   1
#define LUCID_JOB_MAX_BYTES     ((size_t)4 << 20) /* Linux gives a process 2 MiB of words and environment */
#define LUCID_REPORT_MAX_BYTES  ((size_t)96 << 20)
#define LUCID_CACHE_MAX_BYTES   ((size_t)1 << 30) /* 200 million token ids */
#define LUCID_REPORT_MAX_EVENTS 1000000           /* always fit */
#define LUCID_REPORT_PHASES     5

/* A run: rank 0's command line, which every rank reads as rank 0 did. */
typedef struct {
    char build[64];  /* of rank 0's program */
    char job_id[64]; /* ends temporary names: the same on all ranks, unlike any other job's */
    char **words;    /* (n_words), the program's name first */
    int n_words;
} lucid_job;

/* lucid_event */
typedef struct {
    double begin, end;
    int phase, thread, channel;
    int64_t row, first, last;
} lucid_report_event;

/* One rank's measurements. */
typedef struct {
    int rank;
    char host[64];

    /* lucid_result */
    double wall, pack, read, write;
    double phase[LUCID_REPORT_PHASES];
    double bytes_sent;
    int64_t messages_sent;
    double flops;
    int threads;

    double load, store;                                 /* seconds of the whole steps */
    double fma_peak;                                    /* flop/s */
    uint64_t tensor_bytes, window_bytes, scratch_bytes; /* planned */
    uint64_t memory_peak, memory_share;                 /* bytes; share 0: no limit known */

    lucid_report_event *events; /* (n_events), NULL without a trace */
    int64_t n_events;
} lucid_rank_report;

/* What a folder with a saved cache holds. */
typedef struct {
    char fingerprint[128];
    int attention, dtype; /* lucid_attention_kind, lucid_dtype */
    int n_layers, n_kv_heads, head_dim, value_dim;
    double eps;
    int64_t tile, tokens;
    int n_shards;
    int32_t *token_ids;  /* (tokens) */
    uint64_t *checksums; /* (n_layers, n_tiles) */
    int64_t n_tiles;     /* tokens / tile, rounded up */
} lucid_cache_manifest;

/* *bytes (*n_bytes) is to be freed. Errors: USAGE where a text is no UTF-8 or a number is out of its type's range,
 * MEMORY. */
lucid_status lucid_message_pack_job(uint8_t **bytes, size_t *n_bytes, const lucid_job *job);
lucid_status lucid_message_pack_report(uint8_t **bytes, size_t *n_bytes, const lucid_rank_report *report);
lucid_status lucid_message_pack_cache(uint8_t **bytes, size_t *n_bytes, const lucid_cache_manifest *manifest);

/* Errors: COMM for whatever is wrong with the bytes, MEMORY. Outputs are set only on success. job->words, one block
 * with their texts, is to be freed. */
lucid_status lucid_message_unpack_job(lucid_job *job, const uint8_t *bytes, size_t n_bytes);
/* report->events is to be freed. */
lucid_status lucid_message_unpack_report(lucid_rank_report *report, const uint8_t *bytes, size_t n_bytes);

/* Bytes of the file at path. Errors: INPUT for whatever is wrong with them, naming the path; MEMORY. Dimensions are
 * those of a possible cache, and the arrays have the lengths that they ask for. For lucid_cache_manifest_free. */
lucid_status lucid_message_unpack_cache(lucid_cache_manifest *manifest, const uint8_t *bytes, size_t n_bytes,
                                        const char *path);
void lucid_cache_manifest_free(lucid_cache_manifest *manifest);

#endif
