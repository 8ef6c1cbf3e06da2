/* A folder of its own for a test's files, removed with what is left in it. */
#ifndef LUCID_TESTS_SCRATCH_FOLDER_H
#define LUCID_TESTS_SCRATCH_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch_folder[200];

static inline void scratch_make(void) {
    const char *base = getenv("TMPDIR");
    snprintf(scratch_folder, sizeof scratch_folder, "%.150s/lucid-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(scratch_folder)) {
        perror(scratch_folder);
        exit(1);
    }
}

/* A path in the folder, in one of a few static buffers. */
static inline const char *scratch_path(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

/* Entries in the folder; with remove they are deleted. */
static inline int scratch_entries(int remove) {
    int n = 0;
    DIR *folder = opendir(scratch_folder);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        n++;
        if (remove && unlink(scratch_path(entry->d_name))) rmdir(scratch_path(entry->d_name));
    }
    if (folder) closedir(folder);
    return n;
}

static inline void scratch_remove(void) {
    scratch_entries(1);
    rmdir(scratch_folder);
}

#endif
