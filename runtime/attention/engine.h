/* The engine: a rank's threads work off the schedules of some channels, side by side. What a piece of work does is the
 * channel's affair; the engine takes pieces, moves tiles and watches the clock. */
#ifndef LUCID_RUNTIME_ATTENTION_ENGINE_H
#define LUCID_RUNTIME_ATTENTION_ENGINE_H

#include "runtime/attention/attention.h"

/* A thread's scratch and counters. */
struct lucid_worker {
    float *scratch;
    float *gained;        /* a record with scaled keys; NULL while there is no gain */
    const float **keys;   /* (keys_max) records of one sequence that a piece reads */
    lucid_key_sums *sums; /* (keys_max) the same of a backward piece */
    float **tiles;        /* (range_max) where those tiles lie */
    double phase[LUCID_N_PHASES];
    lucid_status status; /* of its last piece */
    lucid_event *events;
    int64_t n_events, events_capacity;
    char padding[64]; /* no false sharing */
};

/* A piece that a thread has taken; the worker's tiles say where its key tiles lie. */
struct lucid_assignment {
    const lucid_channel *channel;
    int channel_index;
    lucid_piece piece;
};

/* Runs the channels' schedules, started by the caller, to their end. Bulk work of earlier channels comes before that of
 * later ones. work_total is what progress is measured by, in the channels' costs. Fills result's wall, phases, bytes
 * and messages. Collective. */
lucid_status lucid_engine_run(lucid_attention *a, lucid_channel *channels, int n_channels, double work_total);

#endif
