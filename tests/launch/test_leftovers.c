/* Segments of live processes, of young age and of other names stay; the others go. */
#include "launch/leftovers.h"
#include "tests/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/lucid-leftovers-XXXXXX";

static void make(char *path, size_t n, const char *name, int age) {
    snprintf(path, n, "%s/%s", folder, name);
    int file = open(path, O_CREAT | O_RDWR, 0600);
    CHECK(file >= 0 && ftruncate(file, 4096) == 0, "%s", path);
    const struct timespec times[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
    futimens(file, times);
    close(file);
}

/* A child that has the file mapped until it is killed. */
static pid_t hold(const char *path) {
    int ready[2];
    if (pipe(ready)) return -1;
    const pid_t child = fork();
    if (child == 0) {
        int file = open(path, O_RDWR);
        char *memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
        if (memory == MAP_FAILED || write(ready[1], "", 1) != 1) _exit(1);
        for (;;) pause();
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1, "the child does not hold %s", path);
    return child;
}

int main(void) {
    char dead[128], held[128], young[128], other[128];
    CHECK(mkdtemp(folder), "no folder");
    make(dead, sizeof dead, "vader_segment.host.0.768c0001.0", 100);
    make(held, sizeof held, "vader_segment.host.0.768c0001.1", 100);
    make(young, sizeof young, "vader_segment.host.0.768c0001.2", 0);
    make(other, sizeof other, "precious", 100);
    const pid_t child = hold(held);
    CHECK(launch_leftovers_remove(folder) == 1, "not one was removed");
    CHECK(access(dead, F_OK), "the dead one is still there");
    CHECK(!access(held, F_OK) && !access(young, F_OK) && !access(other, F_OK), "one too many was removed");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(launch_leftovers_remove(folder) == 1, "not removed after its process's end");
    CHECK(launch_leftovers_remove("/nowhere") == 0, "a folder that is not there");
    unlink(young);
    unlink(other);
    rmdir(folder);
    return check_result();
}
