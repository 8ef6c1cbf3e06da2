/* The writer of tensor files: the header against bytes made by the format's reference implementation, a file put
 * together by several writers, and what is left in the folder after every kind of failure. */
#include "tests/capture_failure.h"
#include "tests/scratch_folder.h"

#include "runtime/files/safetensors.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* What the Python package safetensors writes for these tensors and this metadata. */
static const char reference_header[] = "\xd0\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"lucid\"},"
                                       "\"lse\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
                                       "\"out\":{\"dtype\":\"F32\",\"shape\":[1,2,3],\"data_offsets\":[12,36]},"
                                       "\"y\":{\"dtype\":\"F16\",\"shape\":[5],\"data_offsets\":[36,46]}} ";
enum { HEADER_BYTES = sizeof reference_header - 1, FILE_BYTES = HEADER_BYTES + 46 };

static const lucid_safetensors_tensor tensors[] = {
    {.name = "y", .dtype = "F16", .n_dims = 1, .shape = {5}},
    {.name = "out", .dtype = "F32", .n_dims = 3, .shape = {1, 2, 3}},
    {.name = "lse", .dtype = "F32", .n_dims = 1, .shape = {3}},
};
static const lucid_safetensors_pair metadata[] = {{"format", "lucid"}};

static lucid_safetensors_spec spec_for(const char *path) {
    return (lucid_safetensors_spec){
        .path = path, .job = "host-17", .tensors = tensors, .n_tensors = 3, .metadata = metadata, .n_metadata = 1};
}

static lucid_safetensors_writer *plan(const char *path) {
    const lucid_safetensors_spec spec = spec_for(path);
    lucid_safetensors_writer *writer = NULL;
    CHECK(lucid_safetensors_plan(&writer, &spec) == LUCID_OK, "%s", last_failure);
    return writer;
}

/* Fills the buffer from a file, zero-padded; the file's size, or -1. */
static long slurp(const char *path, void *bytes, size_t capacity) {
    FILE *file = fopen(path, "rb");
    memset(bytes, 0, capacity);
    if (!file) return -1;
    const long n = (long)fread(bytes, 1, capacity, file);
    fclose(file);
    return n;
}

static void spit(const char *path, const char *text) {
    FILE *file = fopen(path, "wb");
    fputs(text, file);
    fclose(file);
}

static void test_ranks_write_one_file(void) {
    enum { RANKS = 3 };
    const char *path = scratch_path("output");
    const float out[6] = {1, 2, 3, 4, 5, 6}, y[5] = {0, 1, -2, 65504, 0.5f}, lse[3] = {-1, 0, 1};
    const uint16_t y_half[5] = {0, 0x3c00, 0xc000, 0x7bff, 0x3800};
    unsigned char bytes[FILE_BYTES + 8];
    lucid_safetensors_writer *ranks[RANKS];
    struct stat info;
    spit(path, "what was there before");
    for (int r = 0; r < RANKS; r++) ranks[r] = plan(path);
    umask(027);
    CHECK(lucid_safetensors_create(ranks[0], NULL) == LUCID_OK, "%s", last_failure);
    CHECK(stat(scratch_path("output.tmp.host-17"), &info) == 0, "no temporary file beside the output");
    CHECK(info.st_size == FILE_BYTES && (info.st_mode & 0777) == 0640, "size %ld", (long)info.st_size);
    for (int r = 1; r < RANKS; r++) CHECK(lucid_safetensors_join(ranks[r]) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_safetensors_write(ranks[2], "out", 4, 2, out + 4) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_safetensors_write(ranks[1], "y", 0, 3, y) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_safetensors_write(ranks[2], "y", 3, 2, y + 3) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_safetensors_write(ranks[0], "out", 0, 4, out) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_safetensors_write(ranks[1], "lse", 0, 3, lse) == LUCID_OK, "%s", last_failure);
    check_failed(lucid_safetensors_commit(ranks[0]), LUCID_ERR_INTERNAL, "committed before");
    for (int r = 0; r < RANKS; r++) CHECK(lucid_safetensors_finish(ranks[r]) == LUCID_OK, "%s", last_failure);
    check_failed(lucid_safetensors_commit(ranks[1]), LUCID_ERR_INTERNAL, "committed before");
    slurp(path, bytes, sizeof bytes);
    CHECK(strcmp((char *)bytes, "what was there before") == 0, "the old file was touched before the commit");
    CHECK(lucid_safetensors_commit(ranks[0]) == LUCID_OK, "%s", last_failure);
    for (int r = 0; r < RANKS; r++) lucid_safetensors_destroy(ranks[r]);

    CHECK(slurp(path, bytes, sizeof bytes) == FILE_BYTES, "size");
    CHECK(memcmp(bytes, reference_header, HEADER_BYTES) == 0, "header:\n%.*s", HEADER_BYTES - 8, bytes + 8);
    CHECK(memcmp(bytes + HEADER_BYTES, lse, 12) == 0, "lse");
    CHECK(memcmp(bytes + HEADER_BYTES + 12, out, 24) == 0, "out");
    CHECK(memcmp(bytes + HEADER_BYTES + 36, y_half, 10) == 0, "y");
    CHECK(scratch_entries(0) == 1, "%d files in the folder", scratch_entries(0));
}

/* More elements than are rounded at once, through the reader. */
static void test_long_tensor(void) {
    enum { N = 100003 };
    const lucid_safetensors_tensor tensor = {.name = "t", .dtype = "BF16", .n_dims = 1, .shape = {N}};
    const lucid_safetensors_spec spec = {.path = scratch_path("long"), .job = "1", .tensors = &tensor, .n_tensors = 1};
    lucid_safetensors_writer *writer;
    lucid_safetensors *file;
    float *x = malloc(N * sizeof *x);
    uint16_t *half = malloc(N * sizeof *half);
    for (int i = 0; i < N; i++) x[i] = (float)(i % 256);
    CHECK(lucid_safetensors_plan(&writer, &spec) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_safetensors_create(writer, NULL) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_safetensors_write(writer, "t", 0, N, x) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_safetensors_finish(writer) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_safetensors_commit(writer) == LUCID_OK, "%s", last_failure);
    lucid_safetensors_destroy(writer);
    CHECK(lucid_safetensors_open(&file, spec.path) == LUCID_OK, "%s", last_failure);
    const lucid_safetensors_tensor *t = lucid_safetensors_find(file, "t");
    CHECK(t->offset % 8 == 0, "data begins at %ld", (long)t->offset);
    CHECK(lucid_safetensors_read(file, t, 0, N, half) == LUCID_OK, "%s", last_failure);
    for (int i = 0; i < N; i++) {
        const uint32_t bits = (uint32_t)half[i] << 16; /* whole numbers to 256 are exact in bf16 */
        float value;
        memcpy(&value, &bits, sizeof value);
        if (value != x[i]) CHECK(value == x[i], "element %d is %g, want %g", i, value, x[i]);
    }
    lucid_safetensors_close(file);
    free(half);
    free(x);
}

/* Fails to create at `path` and leaves the folder as it was. */
static void check_create_fails(const char *path, const lucid_safetensors *input, lucid_status status,
                               const char *fragment) {
    const int entries = scratch_entries(0);
    lucid_safetensors_writer *writer = plan(path);
    check_failed(lucid_safetensors_create(writer, input), status, fragment);
    lucid_safetensors_destroy(writer);
    CHECK(scratch_entries(0) == entries, "%s: a file was left behind", path);
}

static void test_impossible_outputs(void) {
    CHECK(mkdir(scratch_path("folder"), 0700) == 0, "mkdir");
    spit(scratch_path("plain"), "");
    check_create_fails(scratch_path("folder"), NULL, LUCID_ERR_USAGE, "folder: is a folder");
    check_create_fails(scratch_path("absent/output"), NULL, LUCID_ERR_IO, "cannot create: No such file");
    check_create_fails(scratch_path("plain/output"), NULL, LUCID_ERR_IO, "cannot write here: Not a directory");
    check_create_fails("/dev/null", NULL, LUCID_ERR_USAGE, "is no regular file");
    check_create_fails("/proc/output", NULL, LUCID_ERR_IO, "/proc/output.tmp.host-17: cannot create");
    spit(scratch_path("twice.tmp.host-17"), "another's");
    check_create_fails(scratch_path("twice"), NULL, LUCID_ERR_IO, "cannot create: File exists");
    CHECK(symlink(scratch_path("victim"), scratch_path("link.tmp.host-17")) == 0, "symlink");
    check_create_fails(scratch_path("link"), NULL, LUCID_ERR_IO, "cannot create: File exists");
    CHECK(access(scratch_path("victim"), F_OK) != 0, "a link was followed");
}

static void test_input_is_output(void) {
    lucid_safetensors *input;
    const char *path = scratch_path("both");
    FILE *file = fopen(path, "wb");
    fwrite("\2\0\0\0\0\0\0\0{}", 1, 10, file);
    fclose(file);
    CHECK(lucid_safetensors_open(&input, path) == LUCID_OK, "%s", last_failure);
    CHECK(link(path, scratch_path("hard")) == 0 && symlink(path, scratch_path("soft")) == 0, "links");
    check_create_fails(path, input, LUCID_ERR_USAGE, "is the input itself");
    check_create_fails(scratch_path("hard"), input, LUCID_ERR_USAGE, "is the input itself");
    check_create_fails(scratch_path("soft"), input, LUCID_ERR_USAGE, "is the input itself");
    lucid_safetensors_close(input);
}

/* The nearest to a full disk that needs no disk of its own: a limit on the size of files. */
static void test_no_room(void) {
    struct rlimit old, tight;
    getrlimit(RLIMIT_FSIZE, &old);
    tight = (struct rlimit){.rlim_cur = FILE_BYTES - 1, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    const lucid_safetensors_spec spec = spec_for(scratch_path("large"));
    const int entries = scratch_entries(0);
    lucid_safetensors_writer *writer;
    CHECK(lucid_safetensors_plan(&writer, &spec) == LUCID_OK, "%s", last_failure);
    lucid_status status = lucid_safetensors_create(writer, NULL);
    if (!status) status = lucid_safetensors_write(writer, "y", 0, 5, (float[5]){1, 2, 3, 4, 5});
    setrlimit(RLIMIT_FSIZE, &old);
    check_failed(status, LUCID_ERR_IO, "File too large");
    lucid_safetensors_destroy(writer);
    CHECK(scratch_entries(0) == entries, "a file was left behind");
}

static void test_abandoned_and_misused(void) {
    const char *path = scratch_path("abandoned");
    const float x[8] = {0};
    lucid_safetensors_writer *first = plan(path), *second = plan(path);
    check_failed(lucid_safetensors_join(second), LUCID_ERR_IO, "cannot open (is the folder shared by all hosts?)");
    CHECK(lucid_safetensors_create(first, NULL) == LUCID_OK, "%s", last_failure);
    CHECK(truncate(scratch_path("abandoned.tmp.host-17"), FILE_BYTES - 1) == 0, "truncate");
    check_failed(lucid_safetensors_join(second), LUCID_ERR_IO, "is not the file of");
    check_failed(lucid_safetensors_write(first, "k", 0, 1, x), LUCID_ERR_INTERNAL, "tensor k: was not planned");
    check_failed(lucid_safetensors_write(first, "y", 3, 3, x), LUCID_ERR_INTERNAL, "tensor y: 3 elements from 3 of 5");
    check_failed(lucid_safetensors_write(first, "y", -1, 3, x), LUCID_ERR_INTERNAL, "tensor y");
    lucid_safetensors_destroy(second);
    CHECK(access(scratch_path("abandoned.tmp.host-17"), F_OK) == 0, "only its creator removes the file");
    lucid_safetensors_destroy(first);
    CHECK(access(scratch_path("abandoned.tmp.host-17"), F_OK) != 0, "the temporary file was left behind");
    CHECK(access(path, F_OK) != 0, "an output without a commit");
}

static void test_impossible_plans(void) {
    const lucid_safetensors_tensor good = tensors[1];
    lucid_safetensors_tensor pair[2] = {good, good};
    lucid_safetensors_writer *writer;
    lucid_safetensors_spec spec = {.path = "o", .job = "1", .tensors = pair, .n_tensors = 2};
    check_failed(lucid_safetensors_plan(&writer, &spec), LUCID_ERR_INTERNAL,
                 "header cannot be made"); /* one name twice */
    spec.n_tensors = 1;
    spec.path = "folder/";
    check_failed(lucid_safetensors_plan(&writer, &spec), LUCID_ERR_USAGE, "output 'folder/' names no file");
    spec.path = "";
    check_failed(lucid_safetensors_plan(&writer, &spec), LUCID_ERR_USAGE, "names no file");
    spec.path = "o";
    spec.job = "../1";
    check_failed(lucid_safetensors_plan(&writer, &spec), LUCID_ERR_INTERNAL, "job '../1'");
    spec.job = "1";
    pair[0].dtype = "F64";
    check_failed(lucid_safetensors_plan(&writer, &spec), LUCID_ERR_INTERNAL, "dtype F64 cannot be written");
    pair[0] = good;
    pair[0].shape[1] = INT64_MAX / 4;
    check_failed(lucid_safetensors_plan(&writer, &spec), LUCID_ERR_INPUT, "tensor out: its shape has more than 2^63");
    pair[0].shape[1] = -1;
    check_failed(lucid_safetensors_plan(&writer, &spec), LUCID_ERR_INPUT, "tensor out: shape[1] is negative");
    pair[0] = good;
    pair[0].name = "\xff";
    check_failed(lucid_safetensors_plan(&writer, &spec), LUCID_ERR_INTERNAL, "header cannot be made");
}

int main(void) {
    scratch_make();
    test_ranks_write_one_file();
    test_long_tensor();
    test_impossible_outputs();
    test_input_is_output();
    test_no_room();
    test_abandoned_and_misused();
    test_impossible_plans();
    scratch_remove();
    return check_result();
}
