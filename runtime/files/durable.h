/* What a file or folder needs to be there under its name whole or not at all, also after a crash: it is written under
 * another name beside, flushed, and renamed, and the folder that it is in is flushed. Local. */
#ifndef LUCID_RUNTIME_FILES_DURABLE_H
#define LUCID_RUNTIME_FILES_DURABLE_H

#include "comm/comm.h"

#define LUCID_UNIQUE_MAX 64 /* bytes, with the NUL */

/* A word that no other process makes, on any host or in any container, nor this one later: for the names of what is not
 * finished. What a killed process left is in nobody's way then. */
void lucid_unique_word(char word[LUCID_UNIQUE_MAX]);

/* Writes n_bytes at offset, also where the system takes them in parts. False: errno tells why not. */
bool lucid_write_fully(int fd, const void *bytes, int64_t n_bytes, int64_t offset);

/* Flushes fd and closes it, whatever comes. False: errno tells why what was written may not be on the disk. */
bool lucid_close_flushed(int fd);

/* Flushes the folder that path lies in, which makes a rename to path durable. Errors: IO. */
lucid_status lucid_flush_parent(const char *path);

/* The same of the folder itself. */
lucid_status lucid_flush_folder(const char *path);

#endif
