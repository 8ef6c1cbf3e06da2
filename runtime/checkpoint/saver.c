#include "runtime/checkpoint/saver.h"

#include "runtime/files/checksum.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TILES, ROWS, N_OWN_FILES }; /* the first of the manifest's files; adopted ones follow */

/* What a generation adds, undone if it fails. */
typedef struct {
    int number;
    int rows_fd;
    uint64_t n_bytes[N_OWN_FILES]; /* ends of the files */
} generation;

/* index: the row's, in snapshots. */
static lucid_manifest_block *final_block(const lucid_saver *s, lucid_block_kind kind, int index) {
    return &s->finals[(size_t)kind * lucid_snapshot_rows(s->attention) + index];
}

static size_t n_finals(const lucid_saver *s) {
    return (size_t)LUCID_N_BLOCK_KINDS * lucid_snapshot_rows(s->attention);
}

static void name_file(char *name, const lucid_saver *s, int number, const char *ending) {
    if (number)
        snprintf(name, LUCID_MANIFEST_MAX_NAME, "lucid-%s.%d.%d%s", s->job, s->rank, number, ending);
    else
        snprintf(name, LUCID_MANIFEST_MAX_NAME, "lucid-%s.%d%s", s->job, s->rank, ending);
}

/* --- set-up --- */

static lucid_status allocate(lucid_saver *s) {
    const size_t row_bytes = lucid_row_bytes_max(s->attention);
    s->files_capacity = N_OWN_FILES + LUCID_N_BLOCK_KINDS;
    s->manifest.n_files = N_OWN_FILES;
    s->manifest.files = calloc((size_t)s->files_capacity, sizeof *s->manifest.files);
    s->manifest.blocks = calloc(n_finals(s) + 1, sizeof *s->manifest.blocks);
    s->finals = calloc(n_finals(s) + 1, sizeof *s->finals);
    bool complete = s->manifest.files && s->manifest.blocks && s->finals;
    for (int kind = 0; kind < LUCID_N_BLOCK_KINDS; kind++) {
        s->row[kind] = lucid_alloc(row_bytes);
        complete = complete && s->row[kind];
    }
    if (complete) return LUCID_OK;
    return lucid_fail(LUCID_ERR_MEMORY, "no memory for checkpoints of %zu blocks", n_finals(s));
}

lucid_status lucid_saver_open(lucid_saver *saver, lucid_attention *attention, const lucid_folder *folder,
                              const char *job, const lucid_manifest *identity) {
    *saver = (lucid_saver){
        .attention = attention, .folder = folder, .rank = attention->comm->rank, .manifest = *identity, .tiles_fd = -1};
    snprintf(saver->job, sizeof saver->job, "%s", job);
    saver->manifest.rank = saver->rank;
    saver->manifest.world_size = attention->comm->world_size;
    LUCID_TRY(allocate(saver));
    name_file(saver->manifest.files[TILES], saver, 0, LUCID_FOLDER_TILES);
    return LUCID_OK;
}

void lucid_saver_close(lucid_saver *s) {
    if (!s->attention) return;
    if (s->tiles_fd >= 0) close(s->tiles_fd);
    for (int kind = 0; kind < LUCID_N_BLOCK_KINDS; kind++) free(s->row[kind]);
    lucid_manifest_free(&s->manifest);
    free(s->finals);
    *s = (lucid_saver){.tiles_fd = -1};
}

/* *file = index of the name among the manifest's files, which it joins. */
static lucid_status find_file(int *file, lucid_saver *s, const char *name) {
    lucid_manifest *m = &s->manifest;
    for (int i = N_OWN_FILES; i < m->n_files; i++) {
        *file = i;
        if (strcmp(m->files[i], name) == 0) return LUCID_OK;
    }
    if (m->n_files == s->files_capacity) {
        const int64_t capacity = 2 * s->files_capacity;
        void *grown = realloc(m->files, (size_t)capacity * sizeof *m->files);
        if (!grown) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d names of files", (int)capacity);
        m->files = grown;
        s->files_capacity = capacity;
    }
    *file = (int)m->n_files++;
    snprintf(m->files[*file], sizeof m->files[*file], "%s", name);
    return LUCID_OK;
}

lucid_status lucid_saver_adopt(lucid_saver *s, const lucid_candidate *candidate) {
    lucid_manifest_block block = *candidate->block;
    LUCID_TRY(find_file(&block.file, s, candidate->manifest->files[block.file]));
    *final_block(s, block.kind, lucid_row_index(s->attention, block.channel, block.tile)) = block;
    return LUCID_OK;
}

/* --- a generation --- */

static lucid_status begin(generation *g, lucid_saver *s) {
    *g = (generation){.number = s->generation + 1, .rows_fd = -1, .n_bytes = {[TILES] = s->tiles_bytes}};
    s->manifest.n_blocks = 0;
    name_file(s->manifest.files[ROWS], s, g->number, LUCID_FOLDER_ROWS);
    lucid_folder_remove_file(s->folder, s->manifest.files[ROWS]); /* where undoing an attempt of this number failed */
    if (s->tiles_fd < 0) LUCID_TRY(lucid_folder_create_file(&s->tiles_fd, s->folder, s->manifest.files[TILES]));
    return lucid_folder_create_file(&g->rows_fd, s->folder, s->manifest.files[ROWS]);
}

static lucid_status write_block(lucid_saver *s, generation *g, lucid_manifest_block block, int index) {
    const bool final = block.cursor == block.tile + 1;
    const void *bytes = s->row[block.kind];
    block.file = final ? TILES : ROWS;
    block.offset = g->n_bytes[block.file];
    block.n_bytes = lucid_row_bytes(s->attention, block.kind, block.channel, block.tile);
    block.checksum = lucid_checksum(0, bytes, block.n_bytes);
    LUCID_TRY(lucid_folder_write(s->folder, s->manifest.files[block.file], final ? s->tiles_fd : g->rows_fd, bytes,
                                 block.n_bytes, block.offset));
    g->n_bytes[block.file] += block.n_bytes;
    s->bytes_written += (double)block.n_bytes;
    s->manifest.blocks[s->manifest.n_blocks++] = block;
    if (final) *final_block(s, block.kind, index) = block;
    return LUCID_OK;
}

/* Copies out what is to be written of a row while it rests, which is not for long: taken tells of which kinds. */
static lucid_cursor take_row(bool *taken, lucid_saver *s, int index) {
    lucid_row row;
    while (!lucid_snapshot_begin(s->attention, index, &row)) nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    const bool holds[] = {[LUCID_BLOCK_VALUES] = row.has_values, [LUCID_BLOCK_STATES] = row.has_states};
    for (int kind = 0; kind < LUCID_N_BLOCK_KINDS; kind++) {
        taken[kind] = holds[kind] && !final_block(s, kind, index)->cursor;
        if (taken[kind]) lucid_row_copy(s->row[kind], &row, kind);
    }
    lucid_snapshot_end(s->attention, index);
    return row.cursor;
}

static lucid_status save_row(lucid_saver *s, generation *g, int index) {
    bool taken[LUCID_N_BLOCK_KINDS];
    lucid_manifest_block block = {.channel = lucid_row_channel(s->attention, index),
                                  .tile = lucid_row_tile(s->attention, index)};
    bool complete = true;
    for (int kind = 0; kind < LUCID_N_BLOCK_KINDS; kind++) {
        const lucid_manifest_block *written = final_block(s, kind, index);
        complete = complete && written->cursor;
        if (written->cursor) s->manifest.blocks[s->manifest.n_blocks++] = *written;
    }
    if (complete) return LUCID_OK;
    const lucid_cursor cursor = take_row(taken, s, index);
    for (block.kind = 0; block.kind < LUCID_N_BLOCK_KINDS; block.kind++) {
        block.cursor = lucid_row_cursor(cursor, block.kind);
        if (taken[block.kind]) LUCID_TRY(write_block(s, g, block, index));
    }
    return LUCID_OK;
}

static lucid_status save_rows(lucid_saver *s, generation *g) {
    const int n = lucid_snapshot_rows(s->attention);
    for (int index = 0; index < n; index++) LUCID_TRY(save_row(s, g, index));
    return LUCID_OK;
}

/* The manifest comes last: whatever it names is on disk then. */
static lucid_status commit(lucid_saver *s, const generation *g) {
    char name[LUCID_MANIFEST_MAX_NAME];
    uint8_t *bytes;
    size_t n_bytes;
    LUCID_TRY(lucid_folder_flush_file(s->folder, s->manifest.files[TILES], s->tiles_fd));
    LUCID_TRY(lucid_folder_flush_file(s->folder, s->manifest.files[ROWS], g->rows_fd));
    LUCID_TRY(lucid_folder_flush(s->folder));
    LUCID_TRY(lucid_manifest_encode(&bytes, &n_bytes, &s->manifest));
    name_file(name, s, g->number, LUCID_FOLDER_MANIFEST);
    const lucid_status status = lucid_folder_put(s->folder, name, bytes, n_bytes);
    if (!status) s->bytes_written += (double)n_bytes;
    free(bytes);
    return status;
}

/* One generation before the newest is kept. Its manifest goes before what the manifest names. */
static void remove_older(const lucid_saver *s) {
    char name[LUCID_MANIFEST_MAX_NAME];
    const int older = s->generation - 2;
    if (older < 1) return;
    name_file(name, s, older, LUCID_FOLDER_MANIFEST);
    lucid_folder_remove_file(s->folder, name);
    name_file(name, s, older, LUCID_FOLDER_ROWS);
    lucid_folder_remove_file(s->folder, name);
}

/* Forgets what the generation wrote and gives the space back, which may be what was lacking. Where that fails too,
 * there are bytes that no manifest names; they do no harm. */
static void undo(lucid_saver *s, const generation *g) {
    for (size_t i = 0; i < n_finals(s); i++)
        if (s->finals[i].cursor && s->finals[i].file == TILES && s->finals[i].offset >= s->tiles_bytes)
            s->finals[i].cursor = 0;
    if (g->rows_fd >= 0) lucid_folder_remove_file(s->folder, s->manifest.files[ROWS]);
    const int failed = s->tiles_fd >= 0 ? ftruncate(s->tiles_fd, (off_t)s->tiles_bytes) : 0;
    (void)failed;
}

lucid_status lucid_saver_save(lucid_saver *s) {
    generation g;
    lucid_status status = begin(&g, s);
    if (!status) status = save_rows(s, &g);
    if (!status) status = commit(s, &g);
    if (status) {
        undo(s, &g);
    } else {
        s->generation = g.number;
        s->tiles_bytes = g.n_bytes[TILES];
        remove_older(s);
    }
    if (g.rows_fd >= 0) close(g.rows_fd);
    return status;
}
