#include "runtime/files/read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int64_t lucid_read_fully(int fd, void *bytes, int64_t n_bytes, int64_t offset) {
    int64_t done = 0;
    while (done < n_bytes) {
        const ssize_t n = pread(fd, (char *)bytes + done, (size_t)(n_bytes - done), offset + done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        done += n;
    }
    return done;
}

static lucid_status check_kind(FILE *file, const char *path) {
    struct stat info;
    if (fstat(fileno(file), &info)) return lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
    if (S_ISREG(info.st_mode) || S_ISFIFO(info.st_mode)) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: not a file", path);
}

static lucid_status read_stream(char **text, size_t *n_bytes, FILE *file, const char *path, size_t max_bytes) {
    size_t capacity = 0;
    *n_bytes = 0;
    do {
        capacity = capacity ? 2 * capacity : (size_t)64 << 10;
        char *larger = realloc(*text, capacity + 1);
        if (!larger) return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for %zu bytes", path, capacity);
        *text = larger;
        *n_bytes += fread(*text + *n_bytes, 1, capacity - *n_bytes, file);
    } while (*n_bytes == capacity && capacity <= max_bytes);
    if (ferror(file)) return lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
    if (*n_bytes > max_bytes) return lucid_fail(LUCID_ERR_INPUT, "%s: longer than %zu bytes", path, max_bytes);
    (*text)[*n_bytes] = '\0';
    return LUCID_OK;
}

lucid_status lucid_read_file(char **text, size_t *n_bytes, const char *path, size_t max_bytes) {
    char *read = NULL;
    FILE *file = fopen(path, "re");
    if (!file) return lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
    lucid_status status = check_kind(file, path);
    if (!status) status = read_stream(&read, n_bytes, file, path, max_bytes);
    fclose(file);
    if (status) {
        free(read);
        return status;
    }
    *text = read;
    return LUCID_OK;
}
