/* The folder of a checkpoint. Files in it are named without a path, opened relative to the folder and never through a
 * link, so that nobody who writes to the folder can make a run read or write elsewhere.
 *
 * Every name of ours is "lucid-JOB..." with one of the endings below; nothing else in the folder is touched.
 */
#ifndef LUCID_RUNTIME_CHECKPOINT_FOLDER_H
#define LUCID_RUNTIME_CHECKPOINT_FOLDER_H

#include "comm/comm.h"

#define LUCID_FOLDER_TILES    ".tiles"    /* blocks that are final, appended */
#define LUCID_FOLDER_ROWS     ".rows"     /* blocks of rows in progress, one file a generation */
#define LUCID_FOLDER_MANIFEST ".manifest" /* what a generation consists of */
#define LUCID_FOLDER_PARTIAL  ".partial"  /* a manifest that is being written */
#define LUCID_FOLDER_STOP     ".stop"     /* the job is asked to save and end */

typedef struct {
    char *path;
    int fd;   /* of the folder; -1: closed */
    int lock; /* of the locked file, -1: not locked */
} lucid_folder;

/* Errors: IO, INPUT where the folder does not exist and is not to be made. Local. */
lucid_status lucid_folder_open(lucid_folder *folder, const char *path, bool create);
void lucid_folder_close(lucid_folder *folder); /* fine on a closed one */

/* Keeps other jobs out until the folder is closed or the process ends. File systems without locks grant every one.
 * Errors: USAGE when another job holds the lock; IO. Local: one rank holds it for its job. */
lucid_status lucid_folder_lock(lucid_folder *folder);

/* Sorted names of ours with the ending ("": any), one block of memory to be freed. Errors: IO, MEMORY. Local. */
lucid_status lucid_folder_list(char ***names, int *n_names, const lucid_folder *folder, const char *ending);

/* Opens a regular file for reading; creates one for writing that must not exist. Errors: IO. Local. */
lucid_status lucid_folder_open_file(int *fd, const lucid_folder *folder, const char *name);
lucid_status lucid_folder_create_file(int *fd, const lucid_folder *folder, const char *name);

/* All bytes at an offset. name is for the line of an error. Errors: IO, INPUT where the file ends before. Local. */
lucid_status lucid_folder_read(const lucid_folder *folder, const char *name, int fd, void *bytes, size_t n_bytes,
                               uint64_t offset);
lucid_status lucid_folder_write(const lucid_folder *folder, const char *name, int fd, const void *bytes, size_t n_bytes,
                                uint64_t offset);

/* A whole file of at most max_bytes; *bytes is to be freed. Errors: IO, INPUT, MEMORY. Local. */
lucid_status lucid_folder_read_all(uint8_t **bytes, size_t *n_bytes, const lucid_folder *folder, const char *name,
                                   size_t max_bytes);

/* Makes a file's bytes last; makes names last that were created, renamed or removed. Errors: IO. Local. */
lucid_status lucid_folder_flush_file(const lucid_folder *folder, const char *name, int fd);
lucid_status lucid_folder_flush(const lucid_folder *folder);

/* A file that appears under its name with all its bytes, on disk, or not at all. Errors: IO. Local. */
lucid_status lucid_folder_put(const lucid_folder *folder, const char *name, const void *bytes, size_t n_bytes);

/* Makes an empty file; is there one? False, with errno, where the folder refuses. */
bool lucid_folder_touch(const lucid_folder *folder, const char *name);
bool lucid_folder_has(const lucid_folder *folder, const char *name);

/* Removes a file, if there is one. Failures do not matter: what is left over is removed with the checkpoint. */
void lucid_folder_remove_file(const lucid_folder *folder, const char *name);

/* Removes every file of ours, and the folder where nothing else is in it; closes it. Local. */
void lucid_folder_remove(lucid_folder *folder);

#endif
