/* Runs that go on from snapshots of others: out, y and lse are the bytes of an undisturbed run, at another world size,
 * layout and schedule.
 *
 * Snapshots are taken row by row from the hook, each at a random moment or never, while other threads work; or all at
 * the end of a run that its hook stopped at a random moment. Half of the taken rows are watched: nobody may touch them
 * until they are let go. What ranks took is brought together by a sum, since each row is of one rank. */
#include "runtime/attention/snapshot.h"
#include "tests/runtime/attention/attention_fixture.h"
#include "tests/runtime/attention/ways.h"

#include <time.h>

enum { TILE = 64, CHANNELS = 2 };

/* Rows of all ranks: places of a row's values and states by sequence of the channel and by granule. */
typedef struct {
    int n_tiles;
    size_t row_floats;
    lucid_cursor *cursors; /* (CHANNELS, n_tiles) */
    float *rows;           /* (CHANNELS, n_tiles, row_floats) values, then states */
} saved;

typedef struct {
    lucid_attention *a;
    saved *saved;
    bool *taken; /* (rows) */
    uint64_t random;
    int calls, stop_after; /* 0: never */
} taking;

typedef struct {
    lucid_layout_kind layout;
    lucid_schedule_kind schedule;
    int threads;
} choice;

static int n_taken, n_unfinished; /* over all tests, to see that they test something */

/* --- what is kept --- */

static void saved_create(saved *s, const lucid_problem *p) {
    lucid_shape shape = lucid_shape_make(p->head_dim, p->value_dim);
    s->n_tiles = (int)((p->seqlen + TILE - 1) / TILE);
    s->row_floats = (size_t)p->batch * p->n_kv_heads * (TILE / LUCID_GRANULE) * LUCID_GRANULE * shape.value_ld +
                    (size_t)p->batch * p->n_heads * (TILE / LUCID_GRANULE) * lucid_state_floats(shape);
    s->cursors = calloc((size_t)CHANNELS * s->n_tiles, sizeof *s->cursors);
    s->rows = calloc((size_t)CHANNELS * s->n_tiles * s->row_floats, sizeof *s->rows);
}

static void saved_destroy(saved *s) {
    free(s->cursors);
    free(s->rows);
}

static void copy(float *kept, float *live, size_t n, bool save) {
    memcpy(save ? kept : live, save ? live : kept, n * sizeof *kept);
}

static void copy_row(const saved *s, const lucid_row *row, bool save) {
    float *kept = s->rows + ((size_t)row->channel * s->n_tiles + row->tile) * s->row_floats;
    for (int i = 0; i < row->n_sequences; i++)
        for (int g = 0; g < row->n_granules; g++) {
            if (row->has_values) copy(kept, lucid_row_values(row, i, g), row->values_floats, save);
            kept += row->values_floats;
            for (int head = 0; head < row->group; head++, kept += row->state_floats)
                if (row->has_states) copy(kept, lucid_row_state(row, i, head, g), row->state_floats, save);
        }
    if (save) s->cursors[row->channel * s->n_tiles + row->tile] = row->cursor;
}

static lucid_status put_row(void *context, const lucid_row *row) {
    copy_row(context, row, false);
    return LUCID_OK;
}

/* Adds up what all ranks of comm have, or takes rank 0's alone. */
static void bring_together(saved *s, bool add) {
    size_t n_cursors = (size_t)CHANNELS * s->n_tiles, n = 2 * n_cursors + n_cursors * s->row_floats;
    double *all = calloc(n, sizeof *all);
    for (size_t i = 0; i < n_cursors && (add || comm->rank == 0); i++) {
        all[2 * i] = s->cursors[i].update_next, all[2 * i + 1] = s->cursors[i].attend_next;
        for (size_t k = 0; k < s->row_floats; k++)
            all[2 * n_cursors + i * s->row_floats + k] = s->rows[i * s->row_floats + k];
    }
    must(lucid_comm_allreduce(comm, all, (int)n, LUCID_SUM), "bringing rows together");
    for (size_t i = 0; i < n_cursors; i++) {
        s->cursors[i] = (lucid_cursor){(int)all[2 * i], (int)all[2 * i + 1]};
        int tile = (int)(i % (size_t)s->n_tiles);
        n_taken += s->cursors[i].update_next > 0;
        n_unfinished += s->cursors[i].update_next > 0 && s->cursors[i].attend_next <= tile;
        for (size_t k = 0; k < s->row_floats; k++)
            s->rows[i * s->row_floats + k] = (float)all[2 * n_cursors + i * s->row_floats + k];
    }
    free(all);
}

/* --- taking --- */

/* Others work on meanwhile; when the row changes they work on it. */
static void watch_row(const saved *s, const lucid_row *row) {
    size_t bytes = s->row_floats * sizeof(float);
    float *kept = s->rows + ((size_t)row->channel * s->n_tiles + row->tile) * s->row_floats, *before = malloc(bytes);
    memcpy(before, kept, bytes);
    nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
    copy_row(s, row, true);
    CHECK(!memcmp(before, kept, bytes), "row tile %d at %d and %d changes while it is held", row->tile,
          row->cursor.update_next, row->cursor.attend_next);
    free(before);
}

static void take_row(taking *t, int index, bool always) {
    lucid_row row;
    t->random = fixture_hash(t->random + 1);
    if (t->taken[index] || (!always && t->random % 8)) return;
    if (!lucid_snapshot_begin(t->a, index, &row)) {
        CHECK(!always, "row %d does not rest after the run", index);
        return; /* held from now on, so a later call gets it */
    }
    copy_row(t->saved, &row, true);
    if (t->random >> 32 & 1) watch_row(t->saved, &row);
    lucid_snapshot_end(t->a, index);
    t->taken[index] = true;
}

static lucid_status hook(void *context) {
    taking *t = context;
    t->calls++;
    for (int i = 0; i < lucid_snapshot_rows(t->a); i++) {
        if (t->stop_after && i % 2) continue; /* the others' rows are taken at the end */
        take_row(t, i, false);
    }
    return t->stop_after && t->calls >= t->stop_after ? LUCID_ERR_INTERRUPTED : LUCID_OK;
}

static lucid_options options_of(const choice *c) {
    return (lucid_options){.layout = c->layout,
                           .schedule = c->schedule,
                           .threads = c->threads,
                           .tile = TILE,
                           .channels = CHANNELS,
                           .timeout = 60};
}

static void load(lucid_attention *a, fixture *f) {
    for (int tensor = LUCID_Q; tensor <= LUCID_V; tensor++)
        must(lucid_attention_load(a, (lucid_tensor)tensor, LUCID_F32, fixture_read, f), "load");
}

/* Runs on `on` and takes rows on the way; with stop_after the run is stopped, which only one rank alone can be. */
static void take(saved *s, const lucid_problem *p, lucid_comm *on, const choice *c, int stop_after, uint64_t seed) {
    fixture f;
    taking t = {.saved = s, .random = seed + (uint64_t)on->rank, .stop_after = stop_after};
    lucid_options options = options_of(c);
    options.hook = hook;
    options.hook_context = &t;
    options.hook_interval = 1e-9;
    fixture_create(&f, p, KEYS_CLUSTERED, 7);
    must(lucid_attention_create(&t.a, on, p, &options), "create");
    t.taken = calloc((size_t)lucid_snapshot_rows(t.a) + 1, sizeof *t.taken);
    load(t.a, &f);
    lucid_status status = lucid_attention_run(t.a);
    if (status != LUCID_ERR_INTERRUPTED) must(status, "run");
    for (int i = 0; stop_after && i < lucid_snapshot_rows(t.a); i++) take_row(&t, i, true);
    lucid_attention_destroy(t.a);
    free(t.taken);
    fixture_destroy(&f);
}

/* --- going on --- */

static void go_on(const fixture *want, saved *s, lucid_comm *on, const choice *c, const char *what) {
    fixture got;
    lucid_attention *a;
    lucid_certificate_result certificate;
    lucid_options options = options_of(c);
    fixture_create(&got, &want->problem, want->keys, want->seed);
    must(lucid_attention_create(&a, on, &want->problem, &options), what);
    load(a, &got);
    must(lucid_attention_resume(a, s->cursors, put_row, s), what);
    must(lucid_attention_run(a), what);
    must(lucid_certificate(a, &certificate), what);
    CHECK_NEAR(certificate.residual, 0, 1e-4, "%s: residual", what);
    for (int tensor = LUCID_OUT; tensor <= LUCID_LSE; tensor++)
        must(lucid_attention_store(a, (lucid_tensor)tensor, fixture_write, &got), what);
    fixture_compare(&got, want, what);
    lucid_attention_destroy(a);
    fixture_destroy(&got);
}

static choice random_choice(uint64_t random) {
    return (choice){(lucid_layout_kind)(LUCID_LAYOUT_CONTIGUOUS + random % 3),
                    (lucid_schedule_kind)(LUCID_SCHEDULE_PIPELINED + random / 3 % 2), 1 + (int)(random / 6 % 3)};
}

/* From all ranks to all ranks, to one, and from one to all. */
static void run_case(const fixture *want, uint64_t seed) {
    const lucid_problem *p = &want->problem;
    uint64_t random = fixture_hash(seed);
    choice from = random_choice(random), to = random_choice(random / 100);
    bool from_all = seed % 3 != 2, to_all = seed % 3 != 1;
    saved s;
    saved_create(&s, p);
    take(&s, p, from_all ? comm : alone, &from, from_all ? 0 : 1 + (int)(random / 5000 % 60), seed);
    bring_together(&s, from_all);
    char what[200];
    snprintf(what, sizeof what, "%s, seed %llu: from %d ranks, %s %s, to %d ranks, %s %s",
             p->attention ? "softmax" : "lucid", (unsigned long long)seed, from_all ? comm->world_size : 1,
             lucid_layout_name(from.layout), lucid_schedule_name(from.schedule), to_all ? comm->world_size : 1,
             lucid_layout_name(to.layout), lucid_schedule_name(to.schedule));
    go_on(want, &s, to_all ? comm : alone, &to, what);
    saved_destroy(&s);
}

static void run_problem(const lucid_problem *p, int n_cases) {
    fixture want;
    fixture_create(&want, p, KEYS_CLUSTERED, 7);
    must(fixture_run(&want, alone, &(lucid_options){.tile = TILE}, NULL, NULL), "alone");
    for (int seed = 0; seed < n_cases; seed++) run_case(&want, (uint64_t)seed);
    fixture_destroy(&want);
}

/* --- what is refused --- */

static void check_refused(const lucid_problem *p, lucid_cursor cursor, lucid_status want) {
    lucid_attention *a;
    lucid_cursor cursors[CHANNELS * 100] = {{0, 0}};
    cursors[2] = cursor;
    must(lucid_attention_create(&a, comm, p, &(lucid_options){.tile = TILE, .channels = CHANNELS}), "create");
    lucid_status status = lucid_attention_resume(a, cursors, put_row, NULL);
    CHECK(status == want || (want && status), "cursors %d, %d: status %d, want %d", cursor.update_next,
          cursor.attend_next, status, want);
    lucid_attention_destroy(a);
}

static void check_refusals(const lucid_problem *p) {
    check_refused(p, (lucid_cursor){0, 0}, LUCID_OK);
    check_refused(p, (lucid_cursor){-1, 0}, LUCID_ERR_INPUT);
    check_refused(p, (lucid_cursor){4, 0}, LUCID_ERR_INPUT);
    check_refused(p, (lucid_cursor){3, 4}, LUCID_ERR_INPUT);
    check_refused(p, (lucid_cursor){2, 3}, LUCID_ERR_INPUT);
    if (comm->world_size > 1) check_refused(p, (lucid_cursor){0, comm->rank % 2}, LUCID_ERR_INPUT);
}

int main(int argc, char **argv) {
    bool quick = argc > 1 && !strcmp(argv[1], "quick");
    lucid_problem problem = {.seqlen = 901, .batch = 1, .n_heads = 4, .n_kv_heads = 2, .head_dim = 20, .value_dim = 36};
    worlds_open(&comm, &alone);
    run_problem(&problem, quick ? 9 : 48);
    CHECK(n_taken > 20 && n_unfinished > 10, "only %d rows were taken, %d of them not finished", n_taken, n_unfinished);
    problem.attention = LUCID_ATTENTION_SOFTMAX;
    run_problem(&problem, quick ? 3 : 12);
    check_refusals(&problem);
    if (comm->rank == 0) printf("%d rows were taken, %d of them not finished\n", n_taken, n_unfinished);
    return worlds_close(comm, alone);
}
