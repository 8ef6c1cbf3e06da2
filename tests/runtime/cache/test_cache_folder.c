/* Saved caches: any world size reads what any other wrote, and goes on with the same bits; what is damaged, another
 * model's or no cache at all is refused with the reason, and a failed save leaves what was there. */
#include "tests/comm/worlds.h"
#include "tests/runtime/cache/cache_fixture.h"

#include "tests/capture_failure.h"

#include "runtime/cache/folder.h"
#include "runtime/cache/records.h"
#include "tests/scratch_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const cache_case cases[] = {
    {"fp32", LUCID_ATTENTION_LUCID, LUCID_F32, 4, 2, 20, 24, 330, 700, 64},
    {"bf16", LUCID_ATTENTION_LUCID, LUCID_BF16, 2, 2, 36, 16, 200, 700, 128},
    {"whole granules", LUCID_ATTENTION_LUCID, LUCID_F32, 1, 1, 8, 8, 192, 192, 64},
    {"empty", LUCID_ATTENTION_LUCID, LUCID_F32, 1, 1, 8, 8, 0, 64, 64},
};
static const char fingerprint[] = "a model";

static int32_t *make_ids(int64_t n) {
    int32_t *ids = calloc((size_t)n + 1, sizeof *ids);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(i * 7919 % 100000);
    return ids;
}

/* The first n tokens of a case, saved at path. */
static void save_case(lucid_comm *comm, const cache_case *c, int64_t n, const char *path) {
    lucid_cache *cache;
    const lucid_cache_config config = case_config(c, 1);
    float *out = case_outputs(c);
    int32_t *ids = make_ids(n);
    REQUIRE(lucid_cache_create(&cache, comm, &config));
    case_decode(cache, c, out, 0, n);
    REQUIRE(lucid_cache_save(cache, path, fingerprint, comm->rank == 0 ? ids : NULL));
    lucid_cache_destroy(cache);
    free(out), free(ids);
}

static lucid_status load_case(lucid_cache **cache, int32_t **ids, lucid_comm *comm, const cache_case *c,
                              const char *path) {
    const lucid_cache_config config = case_config(c, 2);
    return lucid_cache_load(cache, ids, comm, path, fingerprint, &config);
}

/* Loads, decodes the rest and compares with a run that was never saved. */
static void check_loaded(lucid_comm *comm, const cache_case *c, int64_t n, const char *path, const float *want) {
    lucid_cache *cache;
    int32_t *ids, *want_ids = make_ids(n);
    float *out = case_outputs(c);
    REQUIRE(load_case(&cache, &ids, comm, c, path));
    CHECK(lucid_cache_tokens(cache) == n, "%s: %d tokens", c->name, (int)lucid_cache_tokens(cache));
    CHECK(memcmp(ids, want_ids, (size_t)n * sizeof *ids) == 0, "%s: other ids", c->name);
    case_decode(cache, c, out, n, c->n);
    const int64_t t = case_difference(c, out, want, n);
    CHECK(t < 0, "%s: token %d differs after %d were loaded by %d ranks", c->name, (int)t, (int)n, comm->world_size);
    lucid_cache_destroy(cache);
    free(ids), free(want_ids), free(out);
}

static void check_round_trip(lucid_comm *comm, lucid_comm *alone, const cache_case *c) {
    const char *path = scratch_path("context");
    const int64_t n = c->n - c->n % 64 / 2;
    float *want = case_run(alone, c, 1);
    save_case(comm, c, n, path); /* replaces the one of the case before */
    check_loaded(comm, c, n, path, want);
    if (comm->rank == 0) check_loaded(alone, c, n, path, want);
    REQUIRE(lucid_comm_barrier(comm));
    if (comm->rank == 0) save_case(alone, c, n, scratch_path("alone"));
    REQUIRE(lucid_comm_barrier(comm));
    check_loaded(comm, c, n, scratch_path("alone"), want);
    REQUIRE(lucid_comm_barrier(comm));
    free(want);
}

/* The values that a chunk on top would solve anew come back too. */
static void check_pending(lucid_comm *alone) {
    const cache_case *c = &cases[0];
    lucid_cache *saved, *loaded;
    int32_t *ids = make_ids(c->n), *loaded_ids;
    const lucid_cache_config config = case_config(c, 1);
    float *out = case_outputs(c);
    REQUIRE(lucid_cache_create(&saved, alone, &config));
    case_decode(saved, c, out, 0, c->n);
    REQUIRE(lucid_cache_save(saved, scratch_path("context/"), fingerprint, ids));
    REQUIRE(load_case(&loaded, &loaded_ids, alone, c, scratch_path("context")));
    const size_t n_bytes = CACHE_LAYERS * lucid_cache_pending_floats(saved) * sizeof(float);
    CHECK(memcmp(saved->pending, loaded->pending, n_bytes) == 0, "pending values are lost");
    lucid_cache_destroy(saved), lucid_cache_destroy(loaded);
    free(ids), free(loaded_ids), free(out);
}

/* --- what is refused; one rank --- */

static void refuse(lucid_comm *comm, const cache_case *c, lucid_status status, const char *path, const char *fragment) {
    lucid_cache *cache;
    int32_t *ids;
    const lucid_status got = load_case(&cache, &ids, comm, c, path);
    check_failed(got, status, fragment);
    if (got) return;
    lucid_cache_destroy(cache);
    free(ids);
}

static void flip_byte(const char *path, off_t offset) {
    unsigned char byte;
    const int fd = open(path, O_RDWR);
    CHECK(fd >= 0 && pread(fd, &byte, 1, offset) == 1, "%s: no byte %d", path, (int)offset);
    byte ^= 0x10;
    CHECK(pwrite(fd, &byte, 1, offset) == 1, "%s: byte %d stays", path, (int)offset);
    close(fd);
}

static off_t size_of(const char *path) {
    struct stat status;
    return stat(path, &status) ? -1 : status.st_size;
}

/* Bytes all over a file, its first and last among them. */
static void check_damage(lucid_comm *comm, const cache_case *c, const char *folder, const char *file) {
    enum { PLACES = 37 };
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    const off_t size = size_of(path);
    for (int i = 0; i < PLACES; i++) {
        const off_t at = (size - 1) * i / (PLACES - 1);
        flip_byte(path, at);
        refuse(comm, c, LUCID_ERR_INPUT, folder, "damaged");
        flip_byte(path, at);
    }
    CHECK(truncate(path, size - 1) == 0, "%s stays whole", path);
    refuse(comm, c, LUCID_ERR_INPUT, folder, strstr(file, "shard") ? "bytes, not" : "damaged");
}

static void check_refused(lucid_comm *comm) {
    const cache_case *c = &cases[0];
    char folder[300];
    snprintf(folder, sizeof folder, "%s", scratch_path("context"));
    save_case(comm, c, c->n, folder);
    refuse(comm, c, LUCID_ERR_INPUT, scratch_path("absent"), "no saved cache");
    cache_case other = *c;
    other.head_dim = 21;
    refuse(comm, &other, LUCID_ERR_INPUT, folder, "head_dim 20, not 21");
    other = *c, other.dtype = LUCID_BF16;
    refuse(comm, &other, LUCID_ERR_INPUT, folder, "of fp32, not bf16");
    other = *c, other.attention = LUCID_ATTENTION_SOFTMAX;
    refuse(comm, &other, LUCID_ERR_INPUT, folder, "its attention is lucid, not softmax");
    other = *c, other.max_tokens = c->n - 1;
    refuse(comm, &other, LUCID_ERR_USAGE, folder, "more than the 329");
    lucid_cache *cache;
    int32_t *ids;
    const lucid_cache_config config = case_config(c, 1);
    check_failed(lucid_cache_load(&cache, &ids, comm, folder, "another", &config), LUCID_ERR_INPUT,
                 "made by 'a model', this is 'another'");
    check_damage(comm, c, folder, "manifest");
    save_case(comm, c, c->n, folder);
    check_damage(comm, c, folder, "shard-00000");
    CHECK(unlink(scratch_path("context/shard-00000")) == 0, "the shard stays");
    refuse(comm, c, LUCID_ERR_IO, folder, "shard-00000: No such file");
}

/* What cannot be saved leaves what was there, and nothing beside it. */
static void check_failed_saves(lucid_comm *comm) {
    const cache_case *c = &cases[3];
    lucid_cache *cache;
    const lucid_cache_config config = case_config(c, 1);
    REQUIRE(lucid_cache_create(&cache, comm, &config));
    const int before = scratch_entries(0);
    check_failed(lucid_cache_save(cache, scratch_folder, fingerprint, NULL), LUCID_ERR_INPUT, "is no saved cache");
    check_failed(lucid_cache_save(cache, scratch_path("no/where"), fingerprint, NULL), LUCID_ERR_IO, "No such file");
    check_failed(lucid_cache_save(cache, "/", fingerprint, NULL), LUCID_ERR_USAGE, "names no folder");
    char text[200];
    memset(text, 'x', sizeof text), text[199] = '\0';
    check_failed(lucid_cache_save(cache, scratch_path("long"), text, NULL), LUCID_ERR_USAGE, "longer than 127");
    check_failed(lucid_cache_save(cache, scratch_path("bytes"), "\xff", NULL), LUCID_ERR_USAGE, "not UTF-8");
    check_failed(lucid_cache_check_place(scratch_folder), LUCID_ERR_INPUT, "is no saved cache");
    check_failed(lucid_cache_check_place(scratch_path("no/where")), LUCID_ERR_IO, "No such file");
    REQUIRE(lucid_cache_check_place(scratch_path("here")));
    CHECK(scratch_entries(0) == before, "%d entries, not %d", scratch_entries(0), before);
    lucid_cache_destroy(cache);
}

/* No room on the last rank's disk: every rank is told, what was saved before is still there, and nothing beside it. */
static void check_no_room(lucid_comm *comm) {
    const cache_case *c = &cases[0];
    lucid_cache *cache;
    const lucid_cache_config config = case_config(c, 1);
    float *out = case_outputs(c);
    int32_t *ids = make_ids(c->n);
    struct rlimit limit;
    save_case(comm, c, 70, scratch_path("context"));
    REQUIRE(lucid_cache_create(&cache, comm, &config));
    case_decode(cache, c, out, 0, c->n);
    REQUIRE(lucid_comm_barrier(comm));
    getrlimit(RLIMIT_FSIZE, &limit);
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 1000;
    signal(SIGXFSZ, SIG_IGN);
    if (comm->rank == comm->world_size - 1) setrlimit(RLIMIT_FSIZE, &limit);
    const lucid_status status = lucid_cache_save(cache, scratch_path("context"), fingerprint, ids);
    limit.rlim_cur = before;
    setrlimit(RLIMIT_FSIZE, &limit);
    CHECK(status != LUCID_OK, "rank %d: a cache is saved without room", comm->rank);
    CHECK(strstr(last_failure, "File too large"), "rank %d: '%s'", comm->rank, last_failure);
    lucid_cache_destroy(cache);
    free(ids);
    int32_t *saved_ids;
    REQUIRE(load_case(&cache, &saved_ids, comm, c, scratch_path("context")));
    CHECK(lucid_cache_tokens(cache) == 70, "the older cache has %d tokens", (int)lucid_cache_tokens(cache));
    CHECK(scratch_entries(0) == 2, "%d entries, not the two saved caches", scratch_entries(0));
    lucid_cache_destroy(cache);
    free(saved_ids), free(out);
}

/* What a killed process of the same number left is in nobody's way. */
static void check_leftover(lucid_comm *comm) {
    char name[64];
    long pid = (long)getpid();
    REQUIRE(lucid_comm_broadcast(comm, &pid, sizeof pid, 0));
    snprintf(name, sizeof name, "context.tmp.%ld", pid);
    if (comm->rank == 0) CHECK(mkdir(scratch_path(name), 0700) == 0, "%s: cannot be made", name);
    save_case(comm, &cases[0], 70, scratch_path("context"));
    REQUIRE(lucid_comm_barrier(comm));
    if (comm->rank == 0) CHECK(rmdir(scratch_path(name)) == 0, "%s: cannot be removed", name);
}

static void remove_saved(const char *name) {
    char path[300];
    for (int shard = 0; shard < 8; shard++) {
        snprintf(path, sizeof path, "%s/shard-%05d", name, shard);
        unlink(scratch_path(path));
    }
    snprintf(path, sizeof path, "%s/manifest", name);
    unlink(scratch_path(path));
}

int main(void) {
    lucid_comm *comm, *alone;
    worlds_open(&comm, &alone);
    if (comm->rank == 0) scratch_make();
    REQUIRE(lucid_comm_broadcast(comm, scratch_folder, sizeof scratch_folder, 0));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_round_trip(comm, alone, &cases[i]);
    check_no_room(comm);
    check_leftover(comm);
    if (comm->world_size == 1) {
        check_pending(alone);
        check_refused(alone);
        check_failed_saves(alone);
    }
    REQUIRE(lucid_comm_barrier(comm));
    if (comm->rank == 0) {
        remove_saved("context"), remove_saved("alone");
        scratch_remove();
    }
    return worlds_close(comm, alone);
}
