#include "launch/file.h"

#include "runtime/files/durable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

lucid_status launch_file_open(launch_file *file, const char *path) {
    char word[LUCID_UNIQUE_MAX];
    lucid_unique_word(word);
    *file = (launch_file){.path = strdup(path)};
    if (asprintf(&file->temporary, "%s.tmp.%s", path, word) < 0) file->temporary = NULL;
    lucid_status status = LUCID_OK;
    if (!file->path || !file->temporary)
        status = lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to write it", path);
    else if (!(file->stream = fopen(file->temporary, "wxe")))
        status = lucid_fail(LUCID_ERR_IO, "%s: cannot create: %s", file->temporary, strerror(errno));
    if (status) launch_file_discard(file);
    return status;
}

lucid_status launch_file_commit(launch_file *file) {
    bool written = !ferror(file->stream) && fflush(file->stream) == 0 && fsync(fileno(file->stream)) == 0;
    written = fclose(file->stream) == 0 && written;
    file->stream = NULL;
    lucid_status status = LUCID_OK;
    if (!written)
        status = lucid_fail(LUCID_ERR_IO, "%s: cannot write: %s", file->temporary, strerror(errno));
    else if (rename(file->temporary, file->path))
        status = lucid_fail(LUCID_ERR_IO, "%s: cannot rename to %s: %s", file->temporary, file->path, strerror(errno));
    if (status)
        unlink(file->temporary);
    else
        status = lucid_flush_parent(file->path);
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
