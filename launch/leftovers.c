/* A segment belongs to a live job as long as some process has it mapped, and only its owner's processes can. One that
 * was created this moment may not be mapped yet: hence the least age. */
#include "launch/leftovers.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SEGMENTS_MAX = 4096, AGE_MIN = 3 }; /* seconds */

typedef struct {
    char *paths[SEGMENTS_MAX];
    bool mapped[SEGMENTS_MAX];
    int n;
} segments;

static bool is_segment(const char *name) {
    return !strncmp(name, "vader_segment.", 14) || !strncmp(name, "sm_segment.", 11);
}

static bool is_old_and_ours(const char *path) {
    struct stat s;
    return lstat(path, &s) == 0 && S_ISREG(s.st_mode) && s.st_uid == geteuid() && time(NULL) - s.st_mtime >= AGE_MIN;
}

static void list_segments(segments *found, const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *entry; found->n < SEGMENTS_MAX && (entry = readdir(dir));) {
        char *path;
        if (!is_segment(entry->d_name) || asprintf(&path, "%s/%s", folder, entry->d_name) < 0) continue;
        if (is_old_and_ours(path))
            found->paths[found->n++] = path;
        else
            free(path);
    }
    closedir(dir);
}

/* Marks what one process has mapped. */
static void mark_mapped(segments *found, const char *pid) {
    char path[64], *line = NULL;
    size_t capacity = 0;
    snprintf(path, sizeof path, "/proc/%.20s/maps", pid);
    FILE *maps = fopen(path, "r");
    if (!maps) return;
    while (getline(&line, &capacity, maps) > 0) {
        const char *name = strchr(line, '/');
        if (!name) continue;
        for (int i = 0; i < found->n; i++)
            if (!strncmp(name, found->paths[i], strlen(found->paths[i]))) found->mapped[i] = true;
    }
    free(line);
    fclose(maps);
}

static bool belongs_to_us(const char *pid) {
    char path[64];
    struct stat s;
    snprintf(path, sizeof path, "/proc/%.20s", pid);
    return stat(path, &s) == 0 && s.st_uid == geteuid();
}

/* False when nothing can be known. */
static bool mark_all_mapped(segments *found) {
    DIR *dir = opendir("/proc");
    if (!dir) return false;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (isdigit((unsigned char)entry->d_name[0]) && belongs_to_us(entry->d_name)) mark_mapped(found, entry->d_name);
    closedir(dir);
    return true;
}

int launch_leftovers_remove(const char *folder) {
    segments *found = calloc(1, sizeof *found);
    int n_removed = 0;
    if (!found) return 0;
    list_segments(found, folder);
    const bool known = found->n > 0 && mark_all_mapped(found);
    for (int i = 0; i < found->n; i++) {
        if (known && !found->mapped[i] && unlink(found->paths[i]) == 0) n_removed++;
        free(found->paths[i]);
    }
    free(found);
    return n_removed;
}
