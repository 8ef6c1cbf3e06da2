#include "runtime/checkpoint/folder.h"

#include "runtime/files/durable.h"
#include "runtime/files/read.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX    "lucid-"
#define LOCK_NAME "lucid-lock"

static lucid_status fail(const lucid_folder *folder, const char *name, const char *what) {
    return lucid_fail(LUCID_ERR_IO, "%s/%s: cannot %s: %s", folder->path, name, what, strerror(errno));
}

lucid_status lucid_folder_open(lucid_folder *folder, const char *path, bool create) {
    if (create && mkdir(path, 0777) && errno != EEXIST)
        return lucid_fail(LUCID_ERR_IO, "%s: cannot make the folder: %s", path, strerror(errno));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        lucid_status status = errno == ENOENT ? LUCID_ERR_INPUT : LUCID_ERR_IO;
        return lucid_fail(status, "%s: cannot open the folder: %s", path, strerror(errno));
    }
    *folder = (lucid_folder){.path = strdup(path), .fd = fd, .lock = -1};
    if (folder->path) return LUCID_OK;
    lucid_folder_close(folder);
    return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory", path);
}

void lucid_folder_close(lucid_folder *folder) {
    if (folder->lock >= 0) close(folder->lock);
    if (folder->fd >= 0) close(folder->fd);
    free(folder->path);
    *folder = (lucid_folder){.fd = -1, .lock = -1};
}

lucid_status lucid_folder_lock(lucid_folder *folder) {
    int fd = openat(folder->fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) return fail(folder, LOCK_NAME, "open");
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        close(fd);
        return lucid_fail(
            LUCID_ERR_USAGE,
            "%s: another job keeps its checkpoint here: wait for its end, or choose another folder; if it "
            "ended with its node, remove %s/" LOCK_NAME,
            folder->path, folder->path);
    }
    folder->lock = fd;
    return LUCID_OK;
}

static bool has_ending(const char *name, const char *ending) {
    size_t n = strlen(name), n_ending = strlen(ending);
    return n >= n_ending && strcmp(name + n - n_ending, ending) == 0;
}

static bool is_ours(const char *name) {
    static const char *const endings[] = {LUCID_FOLDER_TILES, LUCID_FOLDER_ROWS, LUCID_FOLDER_MANIFEST,
                                          LUCID_FOLDER_PARTIAL, LUCID_FOLDER_STOP};
    if (strncmp(name, PREFIX, strlen(PREFIX))) return false;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (has_ending(name, endings[i])) return true;
    return false;
}

static int ours_only(const struct dirent *entry) {
    return is_ours(entry->d_name);
}

/* One block: the pointers, then the texts. */
static char **copy_names(struct dirent **entries, int n_entries, const char *ending, int *n_names) {
    size_t n_bytes = ((size_t)n_entries + 1) * sizeof(char *);
    for (int i = 0; i < n_entries; i++) n_bytes += strlen(entries[i]->d_name) + 1;
    char **names = malloc(n_bytes);
    char *text = (char *)(names + n_entries + 1);
    *n_names = 0;
    for (int i = 0; names && i < n_entries; i++) {
        if (!has_ending(entries[i]->d_name, ending)) continue;
        names[(*n_names)++] = text;
        text = stpcpy(text, entries[i]->d_name) + 1;
    }
    return names;
}

lucid_status lucid_folder_list(char ***names, int *n_names, const lucid_folder *folder, const char *ending) {
    struct dirent **entries;
    int n = scandirat(folder->fd, ".", &entries, ours_only, alphasort);
    if (n < 0) return lucid_fail(LUCID_ERR_IO, "%s: cannot list the folder: %s", folder->path, strerror(errno));
    *names = copy_names(entries, n, ending, n_names);
    for (int i = 0; i < n; i++) free(entries[i]);
    free(entries);
    return *names ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for %d names", folder->path, n);
}

/* O_NONBLOCK: a FIFO in a file's place must not hold up the run. */
lucid_status lucid_folder_open_file(int *fd, const lucid_folder *folder, const char *name) {
    struct stat info;
    int opened = openat(folder->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0) return fail(folder, name, "open");
    if (fstat(opened, &info) == 0 && S_ISREG(info.st_mode)) {
        *fd = opened;
        return LUCID_OK;
    }
    close(opened);
    return lucid_fail(LUCID_ERR_IO, "%s/%s: is no regular file", folder->path, name);
}

lucid_status lucid_folder_create_file(int *fd, const lucid_folder *folder, const char *name) {
    int opened = openat(folder->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (opened < 0) return fail(folder, name, "create");
    *fd = opened;
    return LUCID_OK;
}

lucid_status lucid_folder_read(const lucid_folder *folder, const char *name, int fd, void *bytes, size_t n_bytes,
                               uint64_t offset) {
    const int64_t n = lucid_read_fully(fd, bytes, (int64_t)n_bytes, (int64_t)offset);
    if (n < 0) return fail(folder, name, "read");
    if (n == (int64_t)n_bytes) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s/%s: ends at %" PRIu64 ", before %" PRIu64, folder->path, name,
                      offset + (uint64_t)n, offset + n_bytes);
}

lucid_status lucid_folder_write(const lucid_folder *folder, const char *name, int fd, const void *bytes, size_t n_bytes,
                                uint64_t offset) {
    const bool written = lucid_write_fully(fd, bytes, (int64_t)n_bytes, (int64_t)offset);
    return written ? LUCID_OK : fail(folder, name, "write");
}

static lucid_status read_opened(uint8_t **bytes, size_t *n_bytes, const lucid_folder *folder, const char *name, int fd,
                                size_t max_bytes) {
    struct stat info;
    if (fstat(fd, &info)) return fail(folder, name, "read");
    if (info.st_size < 0 || (uint64_t)info.st_size > max_bytes)
        return lucid_fail(LUCID_ERR_INPUT, "%s/%s: has %jd bytes, more than %zu", folder->path, name,
                          (intmax_t)info.st_size, max_bytes);
    size_t n = (size_t)info.st_size;
    uint8_t *read = malloc(n ? n : 1);
    if (!read) return lucid_fail(LUCID_ERR_MEMORY, "%s/%s: no memory for %zu bytes", folder->path, name, n);
    lucid_status status = lucid_folder_read(folder, name, fd, read, n, 0);
    if (status) {
        free(read);
        return status;
    }
    *bytes = read;
    *n_bytes = n;
    return LUCID_OK;
}

lucid_status lucid_folder_read_all(uint8_t **bytes, size_t *n_bytes, const lucid_folder *folder, const char *name,
                                   size_t max_bytes) {
    int fd = -1;
    LUCID_TRY(lucid_folder_open_file(&fd, folder, name));
    lucid_status status = read_opened(bytes, n_bytes, folder, name, fd, max_bytes);
    close(fd);
    return status;
}

lucid_status lucid_folder_flush_file(const lucid_folder *folder, const char *name, int fd) {
    return fdatasync(fd) ? fail(folder, name, "flush") : LUCID_OK;
}

/* Some file systems cannot flush a folder; then there is nothing to be done. */
lucid_status lucid_folder_flush(const lucid_folder *folder) {
    if (!fsync(folder->fd) || errno == EINVAL || errno == EOPNOTSUPP) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: cannot flush the folder: %s", folder->path, strerror(errno));
}

static lucid_status put_partial(const lucid_folder *folder, const char *partial, const char *name, const void *bytes,
                                size_t n_bytes) {
    int fd = -1;
    LUCID_TRY(lucid_folder_create_file(&fd, folder, partial));
    lucid_status status = lucid_folder_write(folder, partial, fd, bytes, n_bytes, 0);
    if (!status) status = lucid_folder_flush_file(folder, partial, fd);
    if (close(fd) && !status) status = fail(folder, partial, "close");
    if (!status && renameat(folder->fd, partial, folder->fd, name)) status = fail(folder, partial, "rename");
    return status;
}

lucid_status lucid_folder_put(const lucid_folder *folder, const char *name, const void *bytes, size_t n_bytes) {
    char partial[256];
    if (snprintf(partial, sizeof partial, "%s" LUCID_FOLDER_PARTIAL, name) >= (int)sizeof partial)
        return lucid_fail(LUCID_ERR_INTERNAL, "%s/%s: name too long", folder->path, name);
    lucid_folder_remove_file(folder, partial); /* where removing that of a failed attempt failed, too */
    lucid_status status = put_partial(folder, partial, name, bytes, n_bytes);
    if (status) lucid_folder_remove_file(folder, partial);
    return status ? status : lucid_folder_flush(folder);
}

bool lucid_folder_touch(const lucid_folder *folder, const char *name) {
    int fd = openat(folder->fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    return fd >= 0 && close(fd) == 0;
}

bool lucid_folder_has(const lucid_folder *folder, const char *name) {
    return faccessat(folder->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void lucid_folder_remove_file(const lucid_folder *folder, const char *name) {
    unlinkat(folder->fd, name, 0);
}

static void remove_all(const lucid_folder *folder, const char *ending) {
    char **names;
    int n_names;
    if (lucid_folder_list(&names, &n_names, folder, ending)) return;
    for (int i = 0; i < n_names; i++) lucid_folder_remove_file(folder, names[i]);
    free(names);
}

/* Manifests first: if the process ends on the way, what is left is no checkpoint rather than a damaged one. */
void lucid_folder_remove(lucid_folder *folder) {
    remove_all(folder, LUCID_FOLDER_MANIFEST);
    remove_all(folder, "");
    lucid_folder_remove_file(folder, LOCK_NAME);
    rmdir(folder->path);
    lucid_folder_close(folder);
}
