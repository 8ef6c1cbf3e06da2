/* Writing a cache's folder. Ranks write shards side by side into a folder of another name; rank 0, once all are on the
 * disk, adds the manifest and renames. */
#include "comm/messages.h"
#include "runtime/cache/folder.h"
#include "runtime/cache/pieces.h"
#include "runtime/files/checksum.h"
#include "runtime/files/durable.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    const lucid_cache *cache;
    const char *fingerprint;
    const int32_t *ids;
    char *path;          /* without slashes at its end */
    char *temporary;     /* the folder that is being written */
    bool made;           /* by rank 0 */
    uint64_t *checksums; /* (n_layers, own tiles) */
} saving;

static lucid_status fail_io(const char *path) {
    return lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
}

static lucid_status no_memory(const char *path) {
    return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to save a cache", path);
}

/* A file that is written from its beginning to its end. */
typedef struct {
    const char *path;
    int fd;
    int64_t n_bytes;
} output;

static lucid_status create_output(output *o, const char *path) {
    *o = (output){.path = path, .fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)};
    if (o->fd >= 0) return LUCID_OK;
    if (errno != ENOENT) return fail_io(path);
    return lucid_fail(LUCID_ERR_IO, "%s: rank 0 made its folder, which is not seen here: use a shared file system",
                      path);
}

static lucid_status write_output(output *o, const void *bytes, size_t n_bytes) {
    if (!lucid_write_fully(o->fd, bytes, (int64_t)n_bytes, o->n_bytes)) return fail_io(o->path);
    o->n_bytes += (int64_t)n_bytes;
    return LUCID_OK;
}

/* `status` is what writing gave. */
static lucid_status close_output(lucid_status status, const output *o) {
    if (!lucid_close_flushed(o->fd) && !status) status = fail_io(o->path);
    return status;
}

/* --- shards --- */

static lucid_status write_piece(output *o, uint64_t *checksum, const lucid_cache *c, int layer, int64_t tile) {
    *checksum = 0;
    for (int b = 0; b < lucid_piece_blocks(c, tile); b++) {
        size_t n_bytes;
        const char *block = lucid_piece_block(c, layer, tile, b, &n_bytes);
        *checksum = lucid_checksum(*checksum, block, n_bytes);
        LUCID_TRY(write_output(o, block, n_bytes));
    }
    return LUCID_OK;
}

static lucid_status write_pieces(output *o, const saving *s) {
    const lucid_cache *c = s->cache;
    const int64_t rows = lucid_cache_rows(c, lucid_cache_tiles(c, c->tokens), c->comm->rank);
    for (int layer = 0; layer < c->config.n_layers; layer++)
        for (int64_t row = 0; row < rows; row++)
            LUCID_TRY(
                write_piece(o, &s->checksums[layer * rows + row], c, layer, row * c->comm->world_size + c->comm->rank));
    return LUCID_OK;
}

static lucid_status write_shard(saving *s) {
    const lucid_cache *c = s->cache;
    const size_t rows = (size_t)lucid_cache_rows(c, lucid_cache_tiles(c, c->tokens), c->comm->rank);
    s->checksums = malloc((rows * c->config.n_layers + 1) * sizeof *s->checksums);
    char *path = lucid_shard_path(s->temporary, c->comm->rank);
    output shard;
    lucid_status status = path && s->checksums ? LUCID_OK : no_memory(s->path);
    if (status) goto free_path;
    LUCID_TRY_GOTO(create_output(&shard, path), free_path);
    status = close_output(write_pieces(&shard, s), &shard);
free_path:
    free(path);
    return status;
}

/* --- the manifest --- */

/* From rank by rank, (n_layers, own tiles) each, to (n_layers, tiles). */
static void order_checksums(uint64_t *to, const uint64_t *from, const lucid_cache *c) {
    const int64_t n_tiles = lucid_cache_tiles(c, c->tokens);
    for (int rank = 0; rank < c->comm->world_size; rank++)
        for (int layer = 0; layer < c->config.n_layers; layer++)
            for (int64_t tile = rank; tile < n_tiles; tile += c->comm->world_size) to[layer * n_tiles + tile] = *from++;
}

static lucid_status write_manifest(const saving *s, uint64_t *checksums) {
    const lucid_cache_config *config = &s->cache->config;
    lucid_cache_manifest manifest = {.attention = config->attention,
                                     .dtype = config->dtype,
                                     .n_layers = config->n_layers,
                                     .n_kv_heads = config->n_kv_heads,
                                     .head_dim = config->head_dim,
                                     .value_dim = config->value_dim,
                                     .eps = config->eps,
                                     .tile = config->tile,
                                     .tokens = s->cache->tokens,
                                     .n_shards = s->cache->comm->world_size,
                                     .token_ids = (int32_t *)s->ids,
                                     .checksums = checksums,
                                     .n_tiles = lucid_cache_tiles(s->cache, s->cache->tokens)};
    char path[4096];
    uint8_t *bytes;
    size_t n_bytes;
    strcpy(manifest.fingerprint, s->fingerprint); /* checked */
    snprintf(path, sizeof path, "%s/" LUCID_CACHE_MANIFEST, s->temporary);
    LUCID_TRY(lucid_message_pack_cache(&bytes, &n_bytes, &manifest));
    const uint64_t checksum = lucid_checksum(0, bytes, n_bytes);
    output file;
    lucid_status status = create_output(&file, path);
    if (status) goto free_bytes;
    status = write_output(&file, &checksum, sizeof checksum);
    if (!status) status = write_output(&file, bytes, n_bytes);
    status = close_output(status, &file);
free_bytes:
    free(bytes);
    return status;
}

/* Rank 0 writes what all ranks' checksums are gathered into. */
static lucid_status save_manifest(const saving *s) {
    const lucid_cache *c = s->cache;
    const int64_t n_tiles = lucid_cache_tiles(c, c->tokens), rows = lucid_cache_rows(c, n_tiles, c->comm->rank);
    void *gathered = NULL;
    size_t *sizes = calloc((size_t)c->comm->world_size, sizeof *sizes);
    uint64_t *ordered = malloc(((size_t)n_tiles * c->config.n_layers + 1) * sizeof *ordered);
    lucid_status status = lucid_comm_agree(c->comm, sizes && ordered ? LUCID_OK : no_memory(s->path));
    if (!status)
        status = lucid_comm_gather(c->comm, s->checksums, (size_t)(rows * c->config.n_layers) * sizeof *s->checksums,
                                   &gathered, sizes, 0);
    if (!status && c->comm->rank == 0) {
        order_checksums(ordered, gathered, c);
        status = write_manifest(s, ordered);
    }
    free(gathered), free(ordered), free(sizes);
    return lucid_comm_agree(c->comm, status);
}

/* --- the folder --- */

static bool is_saved_cache(const char *path) {
    char manifest[4096];
    struct stat status;
    snprintf(manifest, sizeof manifest, "%s/" LUCID_CACHE_MANIFEST, path);
    return stat(manifest, &status) == 0 && S_ISREG(status.st_mode);
}

/* Only what a saved cache consists of. */
static void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (strncmp(entry->d_name, "shard-", 6) == 0 || strcmp(entry->d_name, LUCID_CACHE_MANIFEST) == 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder) closedir(folder);
    rmdir(path);
}

/* `word` makes the name of the folder that is written beside. */
static lucid_status name_folders(saving *s, const char *path, const char *word) {
    const size_t limit = sizeof((lucid_cache_manifest){0}.fingerprint);
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/') length--;
    if (length == 0 || length > 4000) return lucid_fail(LUCID_ERR_USAGE, "'%.80s' names no folder to save in", path);
    if (strlen(s->fingerprint) >= limit)
        return lucid_fail(LUCID_ERR_USAGE, "the fingerprint '%.40s...' is longer than %zu bytes", s->fingerprint,
                          limit - 1);
    s->path = strndup(path, length);
    if (s->path && asprintf(&s->temporary, "%s.tmp.%s", s->path, word) < 0) s->temporary = NULL;
    return s->path && s->temporary ? LUCID_OK : no_memory(path);
}

static lucid_status make_folder(saving *s) {
    struct stat there;
    if (stat(s->path, &there) == 0 && !is_saved_cache(s->path))
        return lucid_fail(LUCID_ERR_INPUT, "%s: is there already and is no saved cache", s->path);
    if (mkdir(s->temporary, 0777)) return fail_io(s->temporary);
    s->made = true;
    return LUCID_OK;
}

/* Rank 0 names the folder for all. */
static lucid_status begin_folder(saving *s, const char *path) {
    lucid_comm *comm = s->cache->comm;
    char word[LUCID_UNIQUE_MAX];
    lucid_unique_word(word);
    LUCID_TRY(lucid_comm_broadcast(comm, word, sizeof word, 0));
    lucid_status status = name_folders(s, path, word);
    if (!status && comm->rank == 0) status = make_folder(s);
    return lucid_comm_agree(comm, status);
}

/* An older one changes places with the new one in one step, and then goes. */
static lucid_status exchange_folders(const saving *s) {
    char aside[4200];
    if (renameat2(AT_FDCWD, s->temporary, AT_FDCWD, s->path, RENAME_EXCHANGE) == 0) {
        remove_folder(s->temporary);
        return LUCID_OK;
    }
    if (errno != EINVAL && errno != ENOSYS) return fail_io(s->path);
    /* NFS and others cannot do that; should it end in between, both are there under names of their own. */
    snprintf(aside, sizeof aside, "%s.old", s->temporary);
    if (rename(s->path, aside)) return fail_io(s->path);
    if (rename(s->temporary, s->path)) {
        const lucid_status status = fail_io(s->path);
        rename(aside, s->path);
        return status;
    }
    remove_folder(aside);
    return LUCID_OK;
}

static lucid_status rename_folder(saving *s) {
    LUCID_TRY(lucid_flush_folder(s->temporary));
    if (is_saved_cache(s->path))
        LUCID_TRY(exchange_folders(s));
    else if (rename(s->temporary, s->path))
        return fail_io(s->path);
    s->made = false;
    return lucid_flush_parent(s->path);
}

lucid_status lucid_cache_check_place(const char *path) {
    saving s = {.fingerprint = ""};
    char word[LUCID_UNIQUE_MAX];
    lucid_unique_word(word);
    lucid_status status = name_folders(&s, path, word);
    if (!status) status = make_folder(&s);
    if (s.made) remove_folder(s.temporary);
    free(s.path);
    free(s.temporary);
    return status;
}

lucid_status lucid_cache_save(const lucid_cache *cache, const char *path, const char *fingerprint, const int32_t *ids) {
    saving s = {.cache = cache, .fingerprint = fingerprint, .ids = ids};
    lucid_status status = begin_folder(&s, path);
    if (!status) status = lucid_comm_conclude(cache->comm, write_shard(&s));
    if (!status) status = save_manifest(&s);
    if (!status) status = lucid_comm_agree(cache->comm, cache->comm->rank == 0 ? rename_folder(&s) : LUCID_OK);
    if (s.made) remove_folder(s.temporary);
    free(s.path);
    free(s.temporary);
    free(s.checksums);
    return status;
}
