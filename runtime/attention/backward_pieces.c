/* Pieces of the backward pass. Tiles here are numbered from the sequence's end; granules within a tile are not, so they
 * are taken from the last to the first. */
#include "runtime/attention/backward.h"
#include "runtime/attention/gain.h"

/* The softmax's share of the gradients, and the solve's. They have sums of their own, so either may run ahead. */
typedef enum { SOFTMAX, SOLVE } share;

/* One sequence's part of a piece. */
typedef struct {
    const lucid_attention *a;
    lucid_worker *w;
    const lucid_assignment *job;
    int channel, sequence; /* channel: the forward's */
    int granules;          /* of the own tile */
} part;

static int granules_of(const lucid_attention *a, int tile) {
    return lucid_tile_granules(a, (int)a->plan.n_tiles - 1 - tile);
}

static bool solves(const lucid_attention *a) {
    return a->problem.attention == LUCID_ATTENTION_LUCID;
}

static part part_of(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job, int sequence) {
    int own = job->channel->schedule->rows[job->piece.row];
    return (part){a, w, job, job->channel_index % a->plan.channels, sequence, granules_of(a, own)};
}

static const float *own_record(const part *p, int granule) {
    const lucid_attention *a = p->a;
    const float *tile = lucid_own_tile(&a->channels[p->channel], a->n_rows - 1 - p->job->piece.row);
    return tile + lucid_record_index(a, p->sequence, granule) * a->record_floats;
}

static float *own_row(const part *p, int granule) {
    return lucid_gradient_row(p->a, p->channel, p->job->piece.row, p->sequence, granule);
}

static float *own_sums(const part *p, int granule) {
    return lucid_gradient_sums(p->a, p->channel, p->job->piece.row, p->sequence, granule);
}

/* An own granule as a key that keeps its sums: dv grows in the key row itself. */
static lucid_key_sums own_key(const part *p, share of, int granule) {
    lucid_shape s = p->a->shape;
    float *sums = own_sums(p, granule);
    if (of == SOFTMAX) return (lucid_key_sums){own_record(p, granule), sums, sums + lucid_sums_dy(s, p->a->group)};
    return (lucid_key_sums){own_record(p, granule), sums + lucid_sums_update_dkeys(s),
                            own_row(p, granule) + lucid_record_values(s)};
}

/* Lists the own tile's granules before `end` as keys; without sums where only the row's are wanted. */
static int list_own(const part *p, share of, int end, bool key_sums) {
    for (int n = 0; n < end; n++) {
        int granule = end - 1 - n;
        p->w->sums[n] = key_sums ? own_key(p, of, granule) : (lucid_key_sums){.record = own_record(p, granule)};
    }
    return end;
}

/* A row granule against the listed keys. sums: where the row's own go, or NULL. */
static void apply(const part *p, share of, const float *row, float *sums, int n_keys) {
    const lucid_attention *a = p->a;
    lucid_shape s = a->shape;
    if (of == SOLVE) {
        float *dkt = sums ? sums + lucid_sums_dkt(s) : NULL;
        a->kernels->update_backward(dkt, row, p->w->sums, n_keys, s, p->w->scratch);
        return;
    }
    for (int head = 0; head < a->group; head++) {
        float *dqt = sums ? sums + lucid_sums_dqt(s, head) : NULL;
        const float *query = row + lucid_gradient_query_row(s, head);
        a->kernels->attend_backward(dqt, query, p->w->sums, n_keys, s, p->w->scratch);
    }
}

/* An own row granule against itself. */
static void apply_diagonal(const part *p, share of, int granule, float *sums, bool key_sums) {
    const lucid_attention *a = p->a;
    lucid_shape s = a->shape;
    const float *row = own_row(p, granule);
    lucid_key_sums key = key_sums ? own_key(p, of, granule) : (lucid_key_sums){.record = own_record(p, granule)};
    if (of == SOLVE) {
        float *dkt = sums ? sums + lucid_sums_dkt(s) : NULL;
        a->kernels->update_backward_diag(dkt, row, &key, s, p->w->scratch);
        return;
    }
    for (int head = 0; head < a->group; head++) {
        float *dqt = sums ? sums + lucid_sums_dqt(s, head) : NULL;
        const float *query = row + lucid_gradient_query_row(s, head);
        a->kernels->attend_backward_diag(dqt, query, &key, s, p->w->scratch);
    }
}

/* dv = P^-T (dY - P^T dv of later granules): both parts of the right side meet here. */
static void solve_granule(const part *p, int granule) {
    const lucid_attention *a = p->a;
    float *row = own_row(p, granule), *values = row + lucid_record_values(a->shape);
    const float *dy = own_sums(p, granule) + lucid_sums_dy(a->shape, a->group);
    for (int k = 0; k < LUCID_GRANULE * a->shape.value_ld; k++) values[k] += dy[k];
    lucid_gain_solve_backward(a, p->w, row, own_record(p, granule));
}

/* The own tile against itself, row granules from the last: when one's turn comes, its key side is complete. */
static void run_diagonal(const part *p, bool row_sums, bool key_sums) {
    for (int g = p->granules - 1; g >= 0; g--) {
        float *sums = row_sums ? own_sums(p, g) : NULL;
        apply_diagonal(p, SOFTMAX, g, sums, key_sums);
        apply(p, SOFTMAX, own_row(p, g), sums, list_own(p, SOFTMAX, g, key_sums));
        if (!solves(p->a)) continue;
        if (key_sums) solve_granule(p, g);
        apply_diagonal(p, SOLVE, g, sums, key_sums);
        apply(p, SOLVE, own_row(p, g), sums, list_own(p, SOLVE, g, key_sums));
    }
}

/* Row tiles that have come against the own tile's keys. One rank owns them all and makes the rows' sums on the way. */
static void run_key_tiles(const part *p, share of, int first, int last) {
    const lucid_attention *a = p->a;
    bool row_sums = a->backward->joined;
    int n_keys = list_own(p, of, p->granules, true);
    for (int tile = first; tile < last; tile++)
        for (int g = granules_of(a, tile) - 1; g >= 0; g--) {
            const float *rows = p->w->tiles[tile - p->job->piece.first];
            const float *row =
                rows + lucid_record_index(a, p->sequence, g) * lucid_gradient_row_floats(a->shape, a->group);
            float *sums = row_sums ? lucid_gradient_sums(a, p->channel, tile, p->sequence, g) : NULL;
            apply(p, of, row, sums, n_keys);
        }
}

void lucid_backward_run_keys(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job) {
    const lucid_piece *piece = &job->piece;
    int own = job->channel->schedule->rows[piece->row], last = piece->last > own ? own : piece->last;
    for (int s = 0; s < job->channel->n_sequences; s++) {
        part p = part_of(a, w, job, s);
        run_key_tiles(&p, SOFTMAX, piece->first, last);
        if (solves(a)) run_key_tiles(&p, SOLVE, piece->first, last);
        if (piece->last > own) run_diagonal(&p, a->backward->joined, true);
    }
}

/* Lists the records of other key tiles, from the last granule to the first. */
static int list_others(const part *p, int first, int last) {
    const lucid_attention *a = p->a;
    int n = 0;
    for (int tile = first; tile < last; tile++) {
        const float *records = p->w->tiles[tile - p->job->piece.first];
        for (int g = granules_of(a, tile) - 1; g >= 0; g--)
            p->w->sums[n++] =
                (lucid_key_sums){.record = records + lucid_record_index(a, p->sequence, g) * a->record_floats};
    }
    return n;
}

void lucid_backward_run_rows(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job) {
    const lucid_piece *piece = &job->piece;
    int own = job->channel->schedule->rows[piece->row], first = piece->first > own ? piece->first : own + 1;
    for (int s = 0; s < job->channel->n_sequences; s++) {
        part p = part_of(a, w, job, s);
        if (piece->first <= own) run_diagonal(&p, true, false);
        int n_keys = list_others(&p, first, piece->last);
        for (int g = 0; n_keys && g < p.granules; g++) {
            apply(&p, SOFTMAX, own_row(&p, g), own_sums(&p, g), n_keys);
            if (solves(a)) apply(&p, SOLVE, own_row(&p, g), own_sums(&p, g), n_keys);
        }
    }
}
