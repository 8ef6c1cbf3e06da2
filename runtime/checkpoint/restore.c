#include "runtime/checkpoint/restore.h"

#include "runtime/files/checksum.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Blocks are read twice: first to see which are sound, since all ranks have to know where every row starts before any
 * row is put into place. */
typedef struct {
    lucid_saver *saver;
    const lucid_candidate **chosen; /* (kinds, rows) NULL: none */
} restoring;

static const lucid_candidate **chosen_at(const restoring *r, lucid_block_kind kind, int index) {
    return &r->chosen[(size_t)kind * lucid_snapshot_rows(r->saver->attention) + index];
}

static lucid_status check_bytes(const lucid_folder *folder, const char *file, const lucid_manifest_block *block,
                                const void *bytes) {
    if (lucid_checksum(0, bytes, block->n_bytes) == block->checksum) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s/%s: is damaged between bytes %" PRIu64 " and %" PRIu64, folder->path, file,
                      block->offset, block->offset + block->n_bytes);
}

/* Into the saver's room for a row of this kind. */
static lucid_status read_block(lucid_saver *s, const lucid_candidate *candidate) {
    const lucid_manifest_block *block = candidate->block;
    const char *file = candidate->manifest->files[block->file];
    const size_t n_bytes = lucid_row_bytes(s->attention, block->kind, block->channel, block->tile);
    int fd;
    if (block->n_bytes != n_bytes)
        return lucid_fail(LUCID_ERR_INPUT, "%s/%s: a block of tile %d has %" PRIu64 " bytes, not %zu", s->folder->path,
                          file, block->tile, block->n_bytes, n_bytes);
    LUCID_TRY(lucid_folder_open_file(&fd, s->folder, file));
    lucid_status status = lucid_folder_read(s->folder, file, fd, s->row[block->kind], n_bytes, block->offset);
    if (!status) status = check_bytes(s->folder, file, block, s->row[block->kind]);
    close(fd);
    return status;
}

/* What fails is told, not returned: there is always something older, at last the input itself. */
static bool read_or_tell(lucid_saver *s, const lucid_candidate *candidate) {
    char line[512];
    lucid_failure_divert(line, sizeof line);
    const lucid_status status = read_block(s, candidate);
    lucid_failure_divert(NULL, 0);
    if (status) fprintf(stderr, "lucid: %s; an older state of tile %d is taken\n", line, candidate->block->tile);
    return status == LUCID_OK;
}

/* *chosen = the block with the largest cursor up to limit of which the bytes are sound, NULL where none is. Returns
 * that cursor. */
static int choose(const lucid_candidate **chosen, lucid_saver *s, const lucid_catalogue *catalogue,
                  lucid_block_kind kind, int index, int limit) {
    int64_t count;
    const lucid_candidate *candidate = lucid_catalogue_find(
        &count, catalogue, kind, lucid_row_channel(s->attention, index), lucid_row_tile(s->attention, index));
    for (; count > 0; count--, candidate++) {
        if (candidate->block->cursor > limit || !read_or_tell(s, candidate)) continue;
        *chosen = candidate;
        return candidate->block->cursor;
    }
    *chosen = NULL;
    return 0;
}

/* States that include the row's own tile are of use only with its Y. */
static lucid_cursor choose_row(const restoring *r, const lucid_catalogue *catalogue, int index) {
    const lucid_attention *a = r->saver->attention;
    const int end = lucid_row_tile(a, index) + 1;
    const bool solves = a->problem.attention == LUCID_ATTENTION_LUCID;
    lucid_cursor cursor = {.update_next = end};
    if (solves)
        cursor.update_next =
            choose(chosen_at(r, LUCID_BLOCK_VALUES, index), r->saver, catalogue, LUCID_BLOCK_VALUES, index, end);
    cursor.attend_next = choose(chosen_at(r, LUCID_BLOCK_STATES, index), r->saver, catalogue, LUCID_BLOCK_STATES, index,
                                cursor.update_next == end ? end : end - 1);
    return cursor;
}

/* A lucid_row_reader: what was chosen, into place. */
static lucid_status read_row(void *context, const lucid_row *row) {
    const restoring *r = context;
    const int index = lucid_row_index(r->saver->attention, row->channel, row->tile);
    for (int kind = 0; kind < LUCID_N_BLOCK_KINDS; kind++) {
        const lucid_candidate *chosen = *chosen_at(r, kind, index);
        if (!chosen) continue;
        LUCID_TRY(read_block(r->saver, chosen));
        lucid_row_fill(row, kind, r->saver->row[kind]);
        if (chosen->block->cursor == chosen->block->tile + 1) LUCID_TRY(lucid_saver_adopt(r->saver, chosen));
    }
    return LUCID_OK;
}

/* Each tile has one owner; the others' zeros do not count. */
static lucid_status combine(lucid_cursor *cursors, const lucid_attention *a) {
    const int n = (int)(2 * a->plan.channels * a->plan.n_tiles);
    int *flat = (int *)cursors; /* pairs of int, without padding */
    _Static_assert(sizeof(lucid_cursor) == 2 * sizeof(int), "a cursor is two integers");
    double *numbers = malloc((size_t)n * sizeof *numbers);
    lucid_status status =
        numbers ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the cursors of %d rows", n / 2);
    status = lucid_comm_agree(a->comm, status);
    if (!status) {
        for (int i = 0; i < n; i++) numbers[i] = flat[i];
        status = lucid_comm_allreduce(a->comm, numbers, n, LUCID_MAX);
        for (int i = 0; i < n; i++) flat[i] = (int)numbers[i];
    }
    free(numbers);
    return status;
}

static void choose_all(lucid_cursor *cursors, const restoring *r, const lucid_catalogue *catalogue) {
    const lucid_attention *a = r->saver->attention;
    memset(cursors, 0, (size_t)a->plan.channels * a->plan.n_tiles * sizeof *cursors);
    for (int index = 0; index < lucid_snapshot_rows(a); index++)
        cursors[lucid_row_channel(a, index) * a->plan.n_tiles + lucid_row_tile(a, index)] =
            choose_row(r, catalogue, index);
}

lucid_status lucid_checkpoint_restore(lucid_cursor *cursors, lucid_saver *saver, const lucid_catalogue *catalogue) {
    lucid_attention *a = saver->attention;
    const size_t n = (size_t)LUCID_N_BLOCK_KINDS * lucid_snapshot_rows(a);
    restoring r = {.saver = saver, .chosen = calloc(n + 1, sizeof *r.chosen)};
    lucid_status status = r.chosen ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory to choose among %zu blocks", n);
    LUCID_TRY_GOTO(lucid_comm_agree(a->comm, status), free_chosen);
    choose_all(cursors, &r, catalogue);
    LUCID_TRY_GOTO(combine(cursors, a), free_chosen);
    status = lucid_attention_resume(a, cursors, read_row, &r);
free_chosen:
    free(r.chosen);
    return status;
}
