#include "launch/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static lucid_status fail_open(launch_file *file, const char *path) {
    lucid_status status = lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
    launch_file_discard(file);
    return status;
}

lucid_status launch_file_open(launch_file *file, const char *path) {
    *file = (launch_file){.path = strdup(path)};
    if (asprintf(&file->temporary, "%s.tmp.%ld", path, (long)getpid()) < 0) file->temporary = NULL;
    if (!file->path || !file->temporary) return fail_open(file, path);
    file->stream = fopen(file->temporary, "wx");
    if (!file->stream) return fail_open(file, path);
    return LUCID_OK;
}

lucid_status launch_file_commit(launch_file *file) {
    bool written = !ferror(file->stream);
    written = fclose(file->stream) == 0 && written;
    file->stream = NULL;
    lucid_status status = LUCID_OK;
    if (!written || rename(file->temporary, file->path)) {
        status = lucid_fail(LUCID_ERR_IO, "%s: %s", file->path, strerror(errno));
        unlink(file->temporary);
    }
    launch_file_discard(file);
    return status;
}

void launch_file_discard(launch_file *file) {
    if (file->stream) {
        fclose(file->stream);
        unlink(file->temporary);
    }
    free(file->path);
    free(file->temporary);
    *file = (launch_file){0};
}
