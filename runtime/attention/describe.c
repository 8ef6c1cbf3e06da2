/* What a running attention waits for and how far its rows are, in words: for the line about a fault and for dumps. */
#include "runtime/attention/attention.h"

/* As the sequence counts them. */
static int tile_name(const lucid_schedule *s, int tile) {
    return s->config.layout.reversed ? s->n_tiles - 1 - tile : tile;
}

static const char *pass_name(const lucid_schedule *s, int position) {
    if (s->config.layout.reversed) return "backward pass";
    if (s->config.fused) return "fused pass";
    return s->config.solve && position < s->n_tiles ? "solve pass" : "softmax pass";
}

/* Tiles come from the neighbour on the side that they travel from. */
static void describe_awaited(const lucid_attention *a, int channel, int position, FILE *stream) {
    const lucid_schedule *s = a->running[channel].schedule;
    const int tile = position % s->n_tiles, named_tile = tile_name(s, tile), world_size = a->comm->world_size;
    int peer = (a->comm->rank - s->direction[tile] + world_size) % world_size;
    int named = a->comm->job_ranks ? a->comm->job_ranks[peer] : peer;
    fprintf(stream, "waiting for tile %d of %d from rank %d on %s (channel %d, %s), heard of %.1f s ago", named_tile,
            s->n_tiles, named, lucid_comm_host(a->comm, peer), channel, pass_name(s, position),
            lucid_comm_silence(a->comm, peer));
}

static void describe_clause(const lucid_attention *a, FILE *stream) {
    for (int i = 0; i < a->n_running; i++) {
        int position = lucid_schedule_awaited(a->running[i].schedule);
        if (position >= 0) {
            describe_awaited(a, i, position, stream);
            return;
        }
    }
    fprintf(stream, "not waiting for any tile");
}

/* Rows that are begun and not finished. A row that a thread works on shows the end of its range. */
static void describe_rows(const lucid_schedule *s, FILE *stream) {
    for (int row = 0; row < s->n_rows; row++) {
        bool begun = s->update_next[row] || s->attend_next[row] || s->update_until[row] || s->attend_until[row];
        if (!begun || s->attend_next[row] > s->rows[row]) continue;
        fprintf(stream, "    row tile %d: update at %d", tile_name(s, s->rows[row]), s->update_next[row]);
        if (s->update_until[row]) fprintf(stream, " (busy to %d)", s->update_until[row]);
        fprintf(stream, ", attend at %d", s->attend_next[row]);
        if (s->attend_until[row]) fprintf(stream, " (busy to %d)", s->attend_until[row]);
        fputc('\n', stream);
    }
}

static void describe_channel(const lucid_attention *a, int channel, FILE *stream) {
    const lucid_schedule *s = a->running[channel].schedule;
    int position = lucid_schedule_awaited(s);
    fprintf(stream, "  channel %d: %d of %d rows solved, %d finished; window %d of %d, %d sends in flight", channel,
            s->count->solved_rows, s->n_rows, s->count->finished_rows, s->count->claimed - s->count->released,
            s->config.window, s->count->sends_in_flight);
    fprintf(stream, "; next to claim %d, to send %d and %d of %d positions\n", s->count->next_incoming,
            s->count->next_send[0], s->count->next_send[1], s->n_positions);
    if (position >= 0) {
        fprintf(stream, "    ");
        describe_awaited(a, channel, position, stream);
        fputc('\n', stream);
    }
    describe_rows(s, stream);
}

void lucid_attention_describe(const lucid_attention *a, FILE *stream, bool brief) {
    if (brief) {
        describe_clause(a, stream);
        return;
    }
    for (int i = 0; i < a->n_running; i++) describe_channel(a, i, stream);
}
