/* The engine's inside: one rank's share of an attention run. Private to runtime/.
 *
 * Sequences are (batch, kv head) pairs, numbered b * n_kv_heads + h and cut into channels of consecutive ones. A
 * channel has its own schedule and its own memory; the sequences of a channel travel together. A tile of a channel is
 *   (n_sequences, granules_per_tile) records,
 * contiguous, stored by the owner, sent and received as it stands, and read by the kernels in place. The last tile is
 * stored in full too, however few of its tokens there are, so that a record's place never changes.
 */
#ifndef LUCID_RUNTIME_ATTENTION_ATTENTION_H
#define LUCID_RUNTIME_ATTENTION_ATTENTION_H

#include "comm/clock.h"
#include "runtime/attention/schedule.h"

#include <omp.h>

/* Records of keys that one piece of work reads: they stay in the second-level cache while all its row granules pass. */
#define LUCID_KEY_RANGE_BYTES ((size_t)640 << 10)
#define LUCID_KEY_RANGE_TILES 32 /* and as many tiles at most */
/* Tokens of keys that one piece of work reads on a GPU, or one tile: a block of threads passes over them all, for about
 * a third of a millisecond at head_dim 128 if it keeps the tensor cores busy, and the kernels of the chain and of
 * transfers wait for one that ends. */
#define LUCID_KEY_RANGE_TOKENS ((int64_t)32 << 10)

typedef struct lucid_worker lucid_worker; /* a thread's scratch and counters, engine.h */
typedef struct lucid_assignment lucid_assignment;
typedef struct lucid_backward lucid_backward; /* backward.h */
typedef struct lucid_device lucid_device;     /* device.h */

/* How tiles leave and arrive: the ordered channels of comm.h, or something before them. Called under the lock. */
typedef struct {
    lucid_status (*send)(void *context, int channel, int peer, const void *tile, size_t bytes, lucid_request **request);
    lucid_status (*recv)(void *context, int channel, int peer, void *tile, size_t bytes, lucid_request **request);
    lucid_status (*test)(void *context, lucid_request *request, bool *done);
    void *context;
} lucid_mover;

typedef struct {
    int first_sequence, n_sequences;
    lucid_schedule *schedule;
    /* Does a piece of work, by one thread, outside the engine's lock. */
    void (*run)(const lucid_attention *a, lucid_worker *worker, const lucid_assignment *job);
    double update_cost, attend_cost; /* of a pair of tiles and a sequence, for the progress report */
    size_t tile_floats;              /* of a whole tile of records */
    float *kv;                       /* (n_rows, tile) records of the own tiles */
    ptrdiff_t tile_step;             /* floats from one own tile to the next */
    float *window;                   /* (window, tile) records of remote tiles */
    float *queries;                  /* (n_rows - first_row, n_sequences, group, granules_per_tile) qt */
    float *states;                   /* the same, states */
} lucid_channel;

/* What the certificate keeps from before the solve overwrites V. */
typedef struct {
    int n_rows; /* sampled */
    struct lucid_sample {
        int64_t token;
        int sequence, head; /* head: query head within the group */
    } * rows;
    float *values;       /* (n_rows, value_dim) V of the sampled rows that this rank owns */
    double *value_norms; /* (sequences, value_dim) sum of V^2 over this rank's tokens */
} lucid_samples;

struct lucid_attention {
    lucid_comm *comm;
    lucid_problem problem;
    lucid_options options;
    lucid_plan plan;
    const lucid_kernels *kernels;
    lucid_shape shape;
    const float *key_gain; /* (head_dim) the caller's; NULL: none */
    int group;             /* query heads per kv head */
    int granules_per_tile;
    int n_rows;    /* own tiles */
    int first_row; /* the first of them that is not wholly cached */
    int threads;
    size_t record_floats, query_floats, state_floats;
    lucid_channel *channels;      /* (plan.channels) */
    const lucid_channel *running; /* (n_running) what the engine works on */
    int n_running;
    lucid_cursor *cursors;           /* (plan.channels, n_tiles) where rows start */
    omp_lock_t lock;                 /* schedules, requests and transport while a run goes on */
    bool bound;                      /* channels[0].kv is the caller's */
    float *pending;                  /* (sequences, 64, value_ld) the caller's, see lucid_attention_bind; NULL: none */
    lucid_worker *workers;           /* (threads) */
    lucid_dtype dtypes[LUCID_V + 1]; /* that q, k and v were loaded from */
    lucid_device *device;            /* NULL: the CPU does the work */
    lucid_mover mover;
    lucid_samples samples;
    lucid_backward *backward; /* NULL unless options.backward */
    lucid_result result;
    lucid_event *events; /* of all threads, in order of time, after a traced run */
    int64_t n_events;
    bool ran;
};

/* Cache-line aligned, in huge pages where large; NULL when there is no memory. Freed with free(). */
void *lucid_alloc(size_t bytes);

static inline int64_t lucid_tile_first(const lucid_attention *a, int tile) {
    return (int64_t)tile * a->plan.tile;
}

/* Tokens and granules of a tile: the last one may be shorter. */
static inline int lucid_tile_tokens(const lucid_attention *a, int tile) {
    int64_t left = a->problem.seqlen - lucid_tile_first(a, tile);
    return (int)(left < a->plan.tile ? left : a->plan.tile);
}
static inline int lucid_tile_granules(const lucid_attention *a, int tile) {
    return (lucid_tile_tokens(a, tile) + LUCID_GRANULE - 1) / LUCID_GRANULE;
}

/* Tokens of a tile that are cached, and its first granule with one that is not. */
static inline int lucid_tile_cached(const lucid_attention *a, int tile) {
    int64_t cached = a->problem.n_cached - lucid_tile_first(a, tile);
    int n_tokens = lucid_tile_tokens(a, tile);
    return cached < 0 ? 0 : cached < n_tokens ? (int)cached : n_tokens;
}
static inline int lucid_tile_first_granule(const lucid_attention *a, int tile) {
    return lucid_tile_cached(a, tile) / LUCID_GRANULE;
}

static inline float *lucid_own_tile(const lucid_channel *c, int row) {
    return c->kv + row * c->tile_step;
}

/* Offset of a record in a tile, in records; of a query granule or state, in granules. */
static inline size_t lucid_record_index(const lucid_attention *a, int sequence, int granule) {
    return (size_t)sequence * a->granules_per_tile + granule;
}
static inline size_t lucid_query_index(const lucid_attention *a, const lucid_channel *c, int row, int sequence,
                                       int head, int granule) {
    return (((size_t)(row - a->first_row) * c->n_sequences + sequence) * a->group + head) * a->granules_per_tile +
           granule;
}

/* x (n) rounded to dtype, what is beyond its range to its largest; n a multiple of 64. tensors.c */
void lucid_round(float *x, lucid_dtype dtype, size_t n);

static inline lucid_cursor *lucid_start_cursor(const lucid_attention *a, int channel, int tile) {
    return a->cursors + (size_t)channel * (size_t)a->plan.n_tiles + tile;
}

/* Where rows start without a snapshot: cached tiles are solved, and nobody asks for their output. attention.c */
void lucid_cursors_reset(lucid_attention *a);

/* engine.c */
lucid_status lucid_workers_create(lucid_attention *a);
void lucid_workers_destroy(lucid_attention *a);

/* describe.c: what the rank waits for, as a clause (brief), or its cursors, windows and queues in lines. The caller
 * keeps the schedules from changing. */
void lucid_attention_describe(const lucid_attention *a, FILE *stream, bool brief);

/* certificate.c */
lucid_status lucid_samples_create(lucid_attention *a);
void lucid_samples_destroy(lucid_samples *samples);
void lucid_samples_reset(lucid_attention *a); /* before V is read */
/* Notes V of one own tile of one sequence, packed already. Thread-safe for different tiles. */
void lucid_samples_capture(lucid_attention *a, const lucid_channel *channel, int row, int sequence);

#endif
