#include "runtime/files/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* Processes of two containers may share host, number and time; random bits are theirs alone. Where there are none yet,
 * as a machine boots, time has to do. */
void lucid_unique_word(char word[LUCID_UNIQUE_MAX]) {
    struct timespec now;
    uint64_t bits;
    clock_gettime(CLOCK_REALTIME, &now);
    if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != sizeof bits)
        bits = ((uint64_t)getpid() << 32) ^ (uint64_t)now.tv_nsec;
    snprintf(word, LUCID_UNIQUE_MAX, "%" PRIx64 "-%016" PRIx64, (uint64_t)now.tv_sec, bits);
}

bool lucid_write_fully(int fd, const void *bytes, int64_t n_bytes, int64_t offset) {
    for (int64_t done = 0; done < n_bytes;) {
        const ssize_t n = pwrite(fd, (const char *)bytes + done, (size_t)(n_bytes - done), offset + done);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return false;
        done += n;
    }
    return true;
}

bool lucid_close_flushed(int fd) {
    if (fsync(fd) == 0) return close(fd) == 0;
    const int error = errno;
    close(fd);
    errno = error;
    return false;
}

/* Some file systems cannot flush a folder; then there is nothing to be done. */
lucid_status lucid_flush_folder(const char *path) {
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return LUCID_OK; /* writable but not readable: a drop box */
    if (lucid_close_flushed(fd) || errno == EINVAL || errno == EOPNOTSUPP) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: cannot flush the folder: %s", path, strerror(errno));
}

lucid_status lucid_flush_parent(const char *path) {
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash) return lucid_flush_folder(".");
    if (snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path) >= PATH_MAX)
        return lucid_fail(LUCID_ERR_IO, "%.60s...: too long a path", path);
    return lucid_flush_folder(folder);
}
