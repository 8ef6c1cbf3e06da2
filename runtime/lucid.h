/* LUCID attention across ranks: the runtime's public interface.
 *
 *   lucid_plan_make          what a run will need, without running it (pure; every rank gets the same answer)
 *   lucid_attention_create   allocate this rank's share                                   Collective
 *   lucid_attention_bind     keep keys and values in a caller's cache                     Local
 *   lucid_attention_set_key_gain  a learned gain in the keys' norm                        Local
 *   lucid_attention_load     fill q, k, v, tile by tile, through a reader                 Local
 *   lucid_attention_run      solve and softmax pass                                       Collective
 *   lucid_attention_store    hand out, y, lse to a writer, tile by tile                   Local
 *   lucid_attention_backward dq, dk, dv from dout, which load reads after a run           Collective
 *   lucid_attention_result   times, bytes, memory of the run                              Local
 *   lucid_certificate        fp64 residuals on sampled rows                               Collective
 *
 * Tensors are (batch, heads, seqlen, dim), row-major, as in files. A rank holds only the tiles that the layout gives
 * it; which ones is of no concern to callers beyond the token ranges that readers and writers are called with. All
 * results are the same bits for any world size, layout, schedule, tile, budget, thread count and transport.
 */
#ifndef LUCID_H
#define LUCID_H

#include "comm/comm.h"
#include "kernels/kernels.h"

typedef enum { LUCID_ATTENTION_LUCID, LUCID_ATTENTION_SOFTMAX } lucid_attention_kind;
typedef enum { LUCID_LAYOUT_AUTO, LUCID_LAYOUT_CONTIGUOUS, LUCID_LAYOUT_ZIGZAG, LUCID_LAYOUT_CYCLIC } lucid_layout_kind;
typedef enum { LUCID_SCHEDULE_AUTO, LUCID_SCHEDULE_PIPELINED, LUCID_SCHEDULE_FUSED } lucid_schedule_kind;
typedef enum {
    LUCID_Q,
    LUCID_K,
    LUCID_V,
    LUCID_OUT,
    LUCID_Y,
    LUCID_LSE,
    LUCID_DOUT,
    LUCID_DQ,
    LUCID_DK,
    LUCID_DV,
    LUCID_DGAIN
} lucid_tensor;

/* What is computed. The same on every rank. */
typedef struct {
    lucid_attention_kind attention;
    int64_t seqlen;
    int batch, n_heads, n_kv_heads; /* n_heads is a multiple of n_kv_heads */
    int head_dim, value_dim;        /* 1..256 */
    double softmax_scale;           /* 0: 1 / sqrt(head_dim) */
    double eps;                     /* of the keys' RMSNorm; 0: 1e-5 */
    /* Leading tokens that a cache holds already, fewer than seqlen: only later ones are loaded, computed and stored. */
    int64_t n_cached;
    /* Of 16 bits: keys before they are normalised and y (softmax: v) before any row reads it are rounded to it, to
     * nearest, ties to even; what is beyond its range becomes its largest. LUCID_F32: neither. */
    lucid_dtype cache_dtype;
} lucid_problem;

/* How it is computed. Zero means default. The same on every rank. None of it changes a bit of the result but isa. */
typedef struct {
    const char *isa; /* NULL or "auto": the best that all ranks have */
    lucid_layout_kind layout;
    lucid_schedule_kind schedule;
    int64_t tile;         /* tokens, a multiple of 64, at most 2^24; 0: chosen */
    size_t memory_budget; /* bytes a rank may use for remote tiles; 0: chosen from what is free */
    bool cuda;            /* on this host's GPUs, a rank each; what cannot be there is refused by create */
    int threads;          /* 0: 1 */
    int channels;         /* head groups that run as chains of their own; 0: chosen */
    double timeout;       /* seconds without progress before a wait is an error; 0: 600 */
    bool trace;           /* keep events for lucid_attention_trace */
    bool backward;        /* make room for lucid_attention_backward; not on top of a cache */
    /* Called by one thread a few times a second with the share of this rank's work that is done, 0..1. */
    void (*progress)(void *context, double share);
    void *progress_context;
    /* Called by one thread every hook_interval seconds while run goes on and this rank has work or waits, holding no
     * lock. Should it fail, this rank finishes the pieces of work under way and run returns that status, at once and
     * with no word to other ranks; messages may still be under way to and from its memory, so end the process soon. */
    lucid_status (*hook)(void *context);
    void *hook_context;
    double hook_interval; /* 0: 0.2 */
} lucid_options;

/* What a run will do: the choices made and what they cost. */
typedef struct {
    lucid_layout_kind layout;
    lucid_schedule_kind schedule;
    int64_t tile, n_tiles;
    int channels;
    int window_tiles;              /* remote tiles a rank holds at once, per channel */
    bool second_round;             /* tiles come round again in a pass of their own */
    size_t tensor_bytes_max;       /* q, k, y, out and softmax state of the fullest rank */
    size_t window_bytes;           /* remote tiles, <= memory budget */
    size_t scratch_bytes;          /* threads' scratch, tables */
    int64_t messages_max;          /* sent by the busiest rank */
    double bytes_sent_max;         /* by the busiest rank */
    double flops_total, flops_max; /* all ranks; the busiest rank: 4 d per pair and head, see README */
} lucid_plan;

/* free_bytes: what this rank may still allocate (0: unlimited). Errors: USAGE for impossible combinations, MEMORY when
 * it cannot fit. Pure. */
lucid_status lucid_plan_make(lucid_plan *plan, const lucid_problem *problem, const lucid_options *options,
                             int world_size, size_t free_bytes);

typedef struct lucid_attention lucid_attention;

lucid_status lucid_attention_create(lucid_attention **attention, lucid_comm *comm, const lucid_problem *problem,
                                    const lucid_options *options);
void lucid_attention_destroy(lucid_attention *attention); /* Local; NULL is fine */

/* Makes a caller's cache the home of keys and values, until the next bind; needed where n_cached > 0. Before load; an
 * attention object may be bound to one layer after the other, and load, run and store each. Local.
 *   records  this rank's tiles, ascending, each (batch * n_kv_heads, tile / 64) records of kernels.h, the last one in
 *            full too; aligned to 64 bytes. Those of cached tokens are read, those of new tokens written.
 *   pending  (batch * n_kv_heads, 64, value_ld): values of the last granule's rows less all earlier granules' share,
 *            on the rank that owns it, read where n_cached and written where seqlen is no multiple of 64. With them
 * that granule is solved anew in the next chunk: however the tokens are cut into chunks, the bits are those of one run
 * over all. NULL is fine for softmax, and where both are multiples. After a failed run the granule that n_cached lies
 * in holds nothing of use. Errors: USAGE unless the layout is cyclic and there is one channel. */
lucid_status lucid_attention_bind(lucid_attention *attention, float *records, float *pending);

/* Fills rows (n_tokens, dim) of dtype with tokens first..first+n_tokens-1 of one head. Called by several threads. */
typedef lucid_status (*lucid_reader)(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                                     int n_tokens);
/* Takes rows (n_tokens, dim) fp32, dim the tensor's (LSE: (n_tokens)). */
typedef lucid_status (*lucid_writer)(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                                     int64_t first, int n_tokens);

/* Reads this rank's tokens of Q, K or V, or after run those of DOUT. Errors: INPUT naming tensor, index and rank when a
 * value is NaN or Inf; whatever the reader returns. Local. Load all three before run; run consumes V (Y takes its
 * place). */
lucid_status lucid_attention_load(lucid_attention *attention, lucid_tensor tensor, lucid_dtype dtype,
                                  lucid_reader reader, void *context);
/* Collective. After a failure peers may still wait for this rank's tiles, so nothing can be agreed on any more: tidy up
 * locally, then lucid_comm_abort. */
lucid_status lucid_attention_run(lucid_attention *attention);
/* Gradients of sum(out * dout) from the last run and the DOUT loaded since, of which both stay as they are; fills
 * result anew: update and solve are then the keys' pass, attend the rows', flops 2.5 times the forward's. Collective,
 * and after a failure as run. */
lucid_status lucid_attention_backward(lucid_attention *attention);
/* A learned gain in the keys' norm: P is made of gain RMSNorm(k), and the softmax sees k as it is. gain (head_dim) is
 * read by run and backward, and NULL is none; backward then has DGAIN, (n_kv_heads, N, head_dim), each token's share of
 * the gain's gradient. Neither certificate nor checkpoints know of it. Errors: UNSUPPORTED without a solve, on top of a
 * cache or on a GPU; MEMORY. Local, and the same on every rank. */
lucid_status lucid_attention_set_key_gain(lucid_attention *attention, const float *gain);
/* Writes this rank's tokens of OUT, Y or LSE, or after backward DQ, DK, DV or DGAIN, in ascending order of batch, head,
 * token. Local. */
lucid_status lucid_attention_store(lucid_attention *attention, lucid_tensor tensor, lucid_writer writer, void *context);

typedef enum {
    LUCID_PHASE_UPDATE,
    LUCID_PHASE_SOLVE,
    LUCID_PHASE_ATTEND,
    LUCID_PHASE_COMM,
    LUCID_PHASE_WAIT,
    LUCID_N_PHASES
} lucid_phase;

/* One rank's measurements of its last run. Seconds are summed over the rank's threads except wall and pack. */
typedef struct {
    double wall;                  /* of lucid_attention_run */
    double pack;                  /* of lucid_attention_load and _store, readers and writers excluded */
    double read, write;           /* inside readers; inside writers */
    double phase[LUCID_N_PHASES]; /* threads * wall = their sum, but for bookkeeping */
    double bytes_sent;
    int64_t messages_sent;
    double flops; /* that this rank's rows stand for */
    int threads;
} lucid_result;

const lucid_plan *lucid_attention_plan(const lucid_attention *attention);
const lucid_kernels *lucid_attention_kernels(const lucid_attention *attention);
/* The instruction set of the kernels that the last run took, the same on all ranks: a processor's, or "sm80" or
 * "sm90a"; "cuda" before a GPU's first run. */
const char *lucid_attention_isa(const lucid_attention *attention);
/* The PCI address, "0000:3b:00.0", of the GPU that a rank of this host takes with options.cuda; "" where this build or
 * host has none, or n_bytes are too few. Local. */
void lucid_device_address(char *address, size_t n_bytes, int local_rank);
/* With options.cuda: flop/s of a bf16 matrix product of 8192^3 by cuBLAS on this rank's GPU, now. Local. */
lucid_status lucid_attention_device_peak(const lucid_attention *attention, double *flops_per_second);
lucid_result lucid_attention_result(const lucid_attention *attention);

/* Of a rank's run, dealt out to its threads; what comes after them is left out of the trace. */
#define LUCID_TRACE_MAX_EVENTS 1000000

/* One piece of work or communication of the last run, for traces. Times in seconds from the start of run. */
typedef struct {
    double begin, end;
    lucid_phase phase;
    int thread, channel;
    int64_t row, first, last; /* row tile and key tiles first..last-1; tile sent or received: row */
} lucid_event;
const lucid_event *lucid_attention_trace(const lucid_attention *attention, int64_t *count);

/* Accuracy of the last run, in fp64 from the inputs' fp32 values, over sampled rows of all ranks. */
typedef struct {
    int rows;         /* sampled */
    double residual;  /* max |(P Y - V)_i| / rms of |V| rows; 0 for softmax */
    double out_error; /* max |out_i - ref_i| / rms of the reference's rows, given Y */
    double lse_error; /* max absolute error of lse */
    double growth;    /* max over columns of |Y|_2 / |V|_2, at most 2 by theory; 1 for softmax */
    double seconds;
} lucid_certificate_result;
/* Errors: UNSUPPORTED where n_cached > 0, since nobody has those tokens' V any more. Collective. */
lucid_status lucid_certificate(lucid_attention *attention, lucid_certificate_result *result);

#endif
