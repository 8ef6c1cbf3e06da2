/* A text file that appears under its name only when complete: written beside it and renamed. */
#ifndef LUCID_LAUNCH_FILE_H
#define LUCID_LAUNCH_FILE_H

#include "comm/comm.h"

#include <stdio.h>

typedef struct {
    FILE *stream; /* NULL: nothing is open */
    char *path, *temporary;
} launch_file;

/* Errors: IO. Local. */
lucid_status launch_file_open(launch_file *file, const char *path);
lucid_status launch_file_commit(launch_file *file);
void launch_file_discard(launch_file *file); /* fine after commit, and on a zeroed file */

#endif
