/* A checkpoint's folder: nothing is followed out of it, nothing of others is touched, files come whole or not at all.
 */
#include "tests/scratch_folder.h"

#include "runtime/checkpoint/folder.h"
#include "tests/check.h"

#include <fcntl.h>
#include <sys/stat.h>

static char line[512];

/* The first line of a failure of this thread since the last look. */
static const char *failure(void) {
    static char copy[sizeof line];
    memcpy(copy, line, sizeof copy);
    line[0] = '\0';
    return copy;
}

static void make(const char *name, const char *text) {
    FILE *file = fopen(scratch_path(name), "w");
    fputs(text, file);
    fclose(file);
}

static void check_line(lucid_status got, lucid_status want, const char *fragment) {
    const char *said = failure();
    CHECK(got == want && strstr(said, fragment), "status %d, line '%s', want %d and '%s'", got, said, want, fragment);
}

static void test_open(void) {
    lucid_folder folder;
    char path[300];
    snprintf(path, sizeof path, "%s", scratch_path("new"));
    check_line(lucid_folder_open(&folder, path, false), LUCID_ERR_INPUT, "new: cannot open the folder: No such file");
    CHECK(lucid_folder_open(&folder, path, true) == LUCID_OK, "%s", failure());
    lucid_folder_remove(&folder);
    CHECK(access(path, F_OK) != 0, "an empty folder is left");
    make("file", "x");
    check_line(lucid_folder_open(&folder, scratch_path("file"), true), LUCID_ERR_IO, "Not a directory");
}

static void test_put(const lucid_folder *folder) {
    char **names;
    int n_names = -1;
    uint8_t *bytes;
    size_t n_bytes;
    CHECK(lucid_folder_put(folder, "lucid-b.0.1.manifest", "bytes", 5) == LUCID_OK, "%s", failure());
    CHECK(lucid_folder_put(folder, "lucid-a.0.1.manifest", "more", 4) == LUCID_OK, "%s", failure());
    make("lucid-notes.txt", "of somebody else");
    make("other.manifest", "of somebody else");
    CHECK(lucid_folder_list(&names, &n_names, folder, LUCID_FOLDER_MANIFEST) == LUCID_OK, "%s", failure());
    CHECK(n_names == 2 && strcmp(names[0], "lucid-a.0.1.manifest") == 0, "%d names, first %s", n_names, names[0]);
    free(names);
    CHECK(lucid_folder_read_all(&bytes, &n_bytes, folder, "lucid-b.0.1.manifest", 5) == LUCID_OK, "%s", failure());
    CHECK(n_bytes == 5 && memcmp(bytes, "bytes", 5) == 0, "%zu bytes", n_bytes);
    free(bytes);
    check_line(lucid_folder_read_all(&bytes, &n_bytes, folder, "lucid-b.0.1.manifest", 4), LUCID_ERR_INPUT,
               "has 5 bytes, more than 4");
    make("lucid-c.0.1.manifest.partial", "of an attempt that could not be undone");
    CHECK(lucid_folder_put(folder, "lucid-c.0.1.manifest", "x", 1) == LUCID_OK, "%s", failure());
    CHECK(lucid_folder_read_all(&bytes, &n_bytes, folder, "lucid-c.0.1.manifest", 5) == LUCID_OK, "%s", failure());
    CHECK(n_bytes == 1 && bytes[0] == 'x', "%zu bytes", n_bytes);
    free(bytes);
    CHECK(!lucid_folder_has(folder, "lucid-c.0.1.manifest.partial"), "a partial manifest is left");
}

static void test_links(const lucid_folder *folder) {
    int fd = -1;
    make("precious", "text");
    CHECK(symlink("precious", scratch_path("lucid-l.tiles")) == 0 && mkfifo(scratch_path("lucid-f.rows"), 0666) == 0,
          "no link or FIFO");
    check_line(lucid_folder_open_file(&fd, folder, "lucid-l.tiles"), LUCID_ERR_IO, "cannot open: Too many levels");
    check_line(lucid_folder_create_file(&fd, folder, "lucid-l.tiles"), LUCID_ERR_IO, "cannot create");
    check_line(lucid_folder_open_file(&fd, folder, "lucid-f.rows"), LUCID_ERR_IO, "is no regular file");
    CHECK(fd == -1, "a file was opened");
}

static void test_read_write(const lucid_folder *folder) {
    char bytes[8];
    int writing = -1, reading = -1;
    CHECK(lucid_folder_create_file(&writing, folder, "lucid-w.rows") == LUCID_OK, "%s", failure());
    CHECK(lucid_folder_write(folder, "lucid-w.rows", writing, "abcdefgh", 8, 100) == LUCID_OK, "%s", failure());
    CHECK(lucid_folder_open_file(&reading, folder, "lucid-w.rows") == LUCID_OK, "%s", failure());
    CHECK(lucid_folder_read(folder, "lucid-w.rows", reading, bytes, 4, 102) == LUCID_OK, "%s", failure());
    CHECK(memcmp(bytes, "cdef", 4) == 0, "other bytes");
    check_line(lucid_folder_read(folder, "w", reading, bytes, 8, 104), LUCID_ERR_INPUT, "w: ends at 108, before 112");
    close(writing);
    close(reading);
}

static void test_lock(lucid_folder *folder) {
    lucid_folder other;
    CHECK(lucid_folder_lock(folder) == LUCID_OK, "%s", failure());
    CHECK(lucid_folder_open(&other, folder->path, false) == LUCID_OK, "%s", failure());
    check_line(lucid_folder_lock(&other), LUCID_ERR_USAGE, "another job keeps its checkpoint here");
    lucid_folder_close(&other);
}

static void test_remove(lucid_folder *folder) {
    lucid_folder_remove(folder);
    CHECK(access(scratch_path("lucid-notes.txt"), F_OK) == 0, "a foreign file was removed");
    CHECK(access(scratch_path("precious"), F_OK) == 0, "what a link points to was removed");
    CHECK(access(scratch_path("lucid-l.tiles"), F_OK) != 0, "a link is left");
    CHECK(access(scratch_path("lucid-a.0.1.manifest"), F_OK) != 0, "a manifest is left");
}

int main(void) {
    lucid_folder folder;
    scratch_make();
    lucid_failure_divert(line, sizeof line);
    test_open();
    CHECK(lucid_folder_open(&folder, scratch_folder, true) == LUCID_OK, "%s", failure());
    test_put(&folder);
    test_links(&folder);
    test_read_write(&folder);
    test_lock(&folder);
    test_remove(&folder);
    scratch_remove();
    return check_result();
}
