/* Reading whole files of sizes around the reader's own steps and its limit, pipes, and what is no file; and bytes at a
 * place, up to the file's end. */
#include "runtime/files/read.h"
#include "tests/capture_failure.h"
#include "tests/scratch_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char byte_at(size_t i) {
    return (char)(i * 7 + i / 251);
}

static const char *make_file(size_t n) {
    const char *path = scratch_path("file");
    FILE *file = fopen(path, "w");
    for (size_t i = 0; i < n; i++) putc(byte_at(i), file);
    CHECK(fclose(file) == 0, "%s is not written", path);
    return path;
}

static bool is_ours(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (text[i] != byte_at(i)) return false;
    return true;
}

static void test_whole(void) {
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 131072, 200000};
    char *text, *const untouched = (char *)"untouched";
    size_t n;
    for (int i = 0; i < (int)(sizeof sizes / sizeof *sizes); i++) {
        const char *path = make_file(sizes[i]);
        CHECK(lucid_read_file(&text, &n, path, sizes[i]) == LUCID_OK, "%s", last_failure);
        CHECK(n == sizes[i] && is_ours(text, n) && text[n] == '\0', "%zu of %zu bytes", n, sizes[i]);
        free(text);
        if (sizes[i] == 0) continue;
        text = untouched;
        check_failed(lucid_read_file(&text, &n, path, sizes[i] - 1), LUCID_ERR_INPUT, "file: longer than ");
        CHECK(text == untouched, "a failure sets the text");
    }
    check_failed(lucid_read_file(&text, &n, scratch_folder, 10), LUCID_ERR_INPUT, "not a file");
    check_failed(lucid_read_file(&text, &n, "/dev/zero", 10), LUCID_ERR_INPUT, "not a file");
    check_failed(lucid_read_file(&text, &n, scratch_path("absent"), 10), LUCID_ERR_IO, "absent: No such file");
}

/* Written in parts, with pauses. */
static void test_pipe(void) {
    enum { PARTS = 5, PART = 30000 };
    const char *path = scratch_path("pipe");
    char *text = NULL;
    size_t n = 0;
    CHECK(mkfifo(path, 0600) == 0, "no pipe");
    const pid_t writer = fork();
    if (writer == 0) {
        FILE *pipe = fopen(path, "w");
        for (size_t i = 0; i < PARTS * PART; i++) {
            if (i % PART == 0) fflush(pipe), usleep(2000);
            putc(byte_at(i), pipe);
        }
        fclose(pipe);
        _exit(0);
    }
    CHECK(lucid_read_file(&text, &n, path, 1 << 20) == LUCID_OK, "%s", last_failure);
    CHECK(n == PARTS * PART && is_ours(text, n), "%zu bytes of a pipe", n);
    free(text);
    waitpid(writer, NULL, 0);
}

static void test_place(void) {
    char bytes[100];
    const int fd = open(make_file(1000), O_RDONLY);
    CHECK(lucid_read_fully(fd, bytes, 100, 0) == 100 && is_ours(bytes, 100), "the beginning");
    CHECK(lucid_read_fully(fd, bytes, 100, 950) == 50 && bytes[49] == byte_at(999), "beyond the end");
    CHECK(lucid_read_fully(fd, bytes, 100, 1000) == 0, "behind the end");
    close(fd);
    CHECK(lucid_read_fully(fd, bytes, 100, 0) == -1, "a closed file");
}

int main(void) {
    scratch_make();
    test_whole();
    test_pipe();
    test_place();
    scratch_remove();
    return check_result();
}
