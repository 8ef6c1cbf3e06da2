/* Reading files: bytes at a place, and all of a small one. Local. */
#ifndef LUCID_RUNTIME_FILES_READ_H
#define LUCID_RUNTIME_FILES_READ_H

#include "comm/comm.h"

/* Reads n_bytes at offset, also where the system gives them in parts. Returns how many there were, fewer where the file
 * ends before; -1: errno tells why not. */
int64_t lucid_read_fully(int fd, void *bytes, int64_t n_bytes, int64_t offset);

/* *text (*n_bytes) = all of a file or pipe, and a NUL behind it; to be freed. Errors: IO; INPUT where it is longer than
 * max_bytes, or a device or folder, which need not end; MEMORY. */
lucid_status lucid_read_file(char **text, size_t *n_bytes, const char *path, size_t max_bytes);

#endif
