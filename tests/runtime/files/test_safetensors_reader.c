/* The reader of tensor files against files laid out here by hand: one good file, and every way a file can be wrong,
 * each with the words that its error must have. */
#include "tests/capture_failure.h"
#include "tests/scratch_folder.h"

#include "runtime/files/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>

static void write_raw(const char *path, uint64_t length, const char *header, size_t header_bytes, size_t data_bytes) {
    FILE *file = fopen(path, "wb");
    fwrite(&length, 1, sizeof length, file);
    fwrite(header, 1, header_bytes, file);
    for (size_t i = 0; i < data_bytes; i++) fputc((int)(i & 0xff), file);
    fclose(file);
}

static void write_file(const char *path, const char *header, size_t data_bytes) {
    write_raw(path, strlen(header), header, strlen(header), data_bytes);
}

static void test_good_file(void) {
    static const char header[] = "{\"k\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[16,28]},"
                                 "\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"q\":{\"shape\":[4],\"dtype\":\"F32\",\"data_offsets\":[0,16]},"
                                 "\"none\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[16,16]},"
                                 "\"scalar\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[28,29]}}   \n ";
    const char *path = scratch_path("good");
    lucid_safetensors *file = NULL;
    lucid_dtype dtype;
    unsigned char bytes[16];
    int count;
    write_file(path, header, 29);
    CHECK(lucid_safetensors_open(&file, path) == LUCID_OK, "%s", last_failure);
    if (!file) return;
    const lucid_safetensors_tensor *all = lucid_safetensors_tensors(file, &count);
    CHECK(count == 4 && strcmp(all[0].name, "q") == 0 && strcmp(all[1].name, "none") == 0, "%d tensors", count);
    CHECK(strcmp(lucid_safetensors_metadata(file, "format"), "pt") == 0, "metadata");
    CHECK(!lucid_safetensors_metadata(file, "absent") && !lucid_safetensors_find(file, "absent"), "absent keys");
    CHECK(!lucid_safetensors_find(file, "__metadata__"), "metadata is no tensor");

    const lucid_safetensors_tensor *k = lucid_safetensors_find(file, "k");
    CHECK(k && k->n_dims == 2 && k->shape[0] == 2 && k->shape[1] == 3 && k->n_elements == 6 && k->n_bytes == 12, "k");
    CHECK(lucid_safetensors_dtype(&dtype, file, k) == LUCID_OK && dtype == LUCID_BF16, "k's dtype");
    memset(bytes, 0xee, sizeof bytes);
    CHECK(lucid_safetensors_read(file, k, 2, 3, bytes) == LUCID_OK, "%s", last_failure);
    for (int i = 0; i < 16; i++) CHECK(bytes[i] == (i < 6 ? 20 + i : 0xee), "byte %d is %d", i, bytes[i]);
    CHECK(lucid_safetensors_read(file, k, 6, 0, bytes) == LUCID_OK, "nothing at the end: %s", last_failure);

    const lucid_safetensors_tensor *scalar = lucid_safetensors_find(file, "scalar");
    CHECK(scalar->n_dims == 0 && scalar->n_elements == 1, "scalar");
    check_failed(lucid_safetensors_dtype(&dtype, file, scalar), LUCID_ERR_INPUT, "tensor scalar: dtype U8");
    check_failed(lucid_safetensors_read(file, k, 4, 3, bytes), LUCID_ERR_INTERNAL, "tensor k: 3 elements from 4 of 6");
    check_failed(lucid_safetensors_read(file, k, -1, 3, bytes), LUCID_ERR_INTERNAL, "tensor k");
    check_failed(lucid_safetensors_read(file, k, INT64_MAX, 3, bytes), LUCID_ERR_INTERNAL, "tensor k");

    CHECK(truncate(path, (off_t)(8 + sizeof header - 1 + 22)) == 0, "truncate");
    check_failed(lucid_safetensors_read(file, k, 1, 5, bytes), LUCID_ERR_INPUT, "tensor k: the file ends at byte");
    lucid_safetensors_close(file);
}

/* Tensor x with these members and 8 bytes of data. */
#define X(members) "{\"x\":{" members "}}"
#define OFFSETS    ",\"data_offsets\":[0,8]"

static const struct {
    const char *header, *fragment;
} malformed[] = {
    {"[]", "does not begin with '{'"},
    {" {}", "does not begin with '{'"},
    {"{\"x\":", "header: byte"},
    {"{} {}", "header: byte 4"},
    {"{}\x01", "header: byte"},
    {"{\"\xff\":1}", "header: byte"},
    {"{\"a\\u0000b\":1}", "header: byte"},
    {"{\"x\nthat\":1}", "header: byte"},
    {"{\"a\":{},\"a\":{}}", "duplicate"},
    {X("\"dtype\":\"F32\",\"shape\":[2],\"shape\":[2]" OFFSETS), "duplicate"},
    {"{}", "8 bytes at its end belong to no tensor"},
    {"{\"__metadata__\":3}", "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"a\":3}}", "not a string"},
    {"{\"\":{}}", "name is empty"},
    {"{\"a\\nb\":{}}", "not printable"},
    {"{\"x\":3}", "tensor x: dtype is not a string"},
    {X("\"shape\":[2]" OFFSETS), "tensor x: dtype is not a string"},
    {X("\"dtype\":7,\"shape\":[2]" OFFSETS), "tensor x: dtype is not a string"},
    {X("\"dtype\":\"F33\",\"shape\":[2]" OFFSETS), "tensor x: unknown dtype"},
    {X("\"dtype\":\"F32\"" OFFSETS), "tensor x: shape is not an array"},
    {X("\"dtype\":\"F32\",\"shape\":{\"a\":2}" OFFSETS), "tensor x: shape is not an array"},
    {X("\"dtype\":\"F32\",\"shape\":[1,2.0]" OFFSETS), "tensor x: shape[1] is not a non-negative integer"},
    {X("\"dtype\":\"F32\",\"shape\":[\"2\"]" OFFSETS), "tensor x: shape[0] is not"},
    {X("\"dtype\":\"F32\",\"shape\":[-2]" OFFSETS), "tensor x: shape[0] is not"},
    {X("\"dtype\":\"F32\",\"shape\":[9223372036854775808]" OFFSETS), "too big integer"},
    {X("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2]" OFFSETS), "tensor x: has 9 dimensions"},
    {X("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296]" OFFSETS), "more than 2^63 elements"},
    {X("\"dtype\":\"F32\",\"shape\":[4611686018427387904]" OFFSETS), "more than 2^63 bits"},
    {X("\"dtype\":\"F4\",\"shape\":[3]" OFFSETS), "do not fill whole bytes"},
    {X("\"dtype\":\"F32\",\"shape\":[2]"), "data_offsets is not a pair"},
    {X("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]"), "data_offsets is not a pair"},
    {X("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]"), "data_offsets is not a pair"},
    {X("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]"), "data_offsets is not a pair"},
    {X("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]"), "data_offsets 8..0 exceed the 8 bytes"},
    {X("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]"), "data_offsets 8..16 exceed the 8 bytes"},
    {X("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9223372036854775807]"), "exceed the 8 bytes"},
    {X("\"dtype\":\"F32\",\"shape\":[1]" OFFSETS), "tensor x: has 8 bytes of data, dtype and shape need 4"},
    {X("\"dtype\":\"F32\",\"shape\":[3]" OFFSETS), "tensor x: has 8 bytes of data, dtype and shape need 12"},
    {X("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]"), "tensor x: 4 bytes before it belong to no tensor"},
    {X("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), "4 bytes at its end belong to no tensor"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[3,8]}}",
     "tensor b: overlaps tensor a"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}",
     "overlaps tensor"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[5,8]}}",
     "tensor b: 2 bytes before it belong to no tensor"},
};

static void test_malformed_headers(void) {
    const char *path = scratch_path("malformed");
    for (int i = 0; i < COUNT(malformed); i++) {
        lucid_safetensors *file = NULL;
        write_file(path, malformed[i].header, 8);
        check_failed(lucid_safetensors_open(&file, path), LUCID_ERR_INPUT, malformed[i].fragment);
        CHECK(!file, "case %d: a file came with the failure", i);
    }
}

static void test_overlong_name(void) {
    const char *path = scratch_path("name");
    char header[400];
    lucid_safetensors *file;
    snprintf(header, sizeof header, "{\"%0257d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0);
    write_file(path, header, 0);
    check_failed(lucid_safetensors_open(&file, path), LUCID_ERR_INPUT, "name is empty, too long");
    snprintf(header, sizeof header, "{\"%0256d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0);
    write_file(path, header, 0);
    CHECK(lucid_safetensors_open(&file, path) == LUCID_OK, "%s", last_failure);
    lucid_safetensors_close(file);
}

static void test_deep_nesting(void) {
    enum { DEPTH = 100000 };
    const char *path = scratch_path("deep");
    char *header = malloc(DEPTH + 6);
    lucid_safetensors *file;
    memcpy(header, "{\"x\":", 5);
    memset(header + 5, '[', DEPTH);
    header[DEPTH + 5] = '\0';
    write_file(path, header, 0);
    check_failed(lucid_safetensors_open(&file, path), LUCID_ERR_INPUT, "maximum parsing depth");
    free(header);
}

static void test_wrong_lengths(void) {
    const char *path = scratch_path("length");
    lucid_safetensors *file;
    static const struct {
        uint64_t length;
        const char *fragment;
    } cases[] = {
        {0, "header length 0 is not within"},           {1, "header length 1 is not within"},
        {UINT64_MAX, "header length 184467440737"},     {(uint64_t)INT64_MAX - 7, "is not within"},
        {100000001, "header length 100000001 is not"},  {100000000, "header of 100000000 bytes exceeds the file's 10"},
        {3, "header of 3 bytes exceeds the file's 10"},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        write_raw(path, cases[i].length, "{}", 2, 0);
        check_failed(lucid_safetensors_open(&file, path), LUCID_ERR_INPUT, cases[i].fragment);
    }
    write_raw(path, 2, "{}", 2, 0);
    CHECK(lucid_safetensors_open(&file, path) == LUCID_OK, "a file without tensors is one: %s", last_failure);
    lucid_safetensors_close(file);
    CHECK(truncate(path, 7) == 0, "truncate");
    check_failed(lucid_safetensors_open(&file, path), LUCID_ERR_INPUT, "has 7 bytes, too few");
    CHECK(truncate(path, 0) == 0, "truncate");
    check_failed(lucid_safetensors_open(&file, path), LUCID_ERR_INPUT, "has 0 bytes, too few");
}

static void test_no_files(void) {
    lucid_safetensors *file;
    check_failed(lucid_safetensors_open(&file, scratch_path("absent")), LUCID_ERR_INPUT,
                 "absent: cannot open: No such");
    check_failed(lucid_safetensors_open(&file, scratch_folder), LUCID_ERR_INPUT, "is not a regular file");
    check_failed(lucid_safetensors_open(&file, "/dev/zero"), LUCID_ERR_INPUT, "is not a regular file");
    CHECK(mkfifo(scratch_path("fifo"), 0600) == 0, "mkfifo");
    check_failed(lucid_safetensors_open(&file, scratch_path("fifo")), LUCID_ERR_INPUT, "is not a regular file");
}

/* A file of 1 TiB, most of it a hole: offsets beyond 32 bits, and nothing that grows with the file. */
static void test_huge_file(void) {
    static const char header[] =
        "{\"k\":{\"dtype\":\"F32\",\"shape\":[274877906944],\"data_offsets\":[0,1099511627776]}}";
    const char *path = scratch_path("huge");
    const float last = 42;
    float value = 0;
    lucid_safetensors *file;
    write_file(path, header, 0);
    const int fd = open(path, O_WRONLY);
    const off_t place = (off_t)(8 + sizeof header - 1 + (1ll << 40) - 4);
    if (pwrite(fd, &last, sizeof last, place) != sizeof last) {
        printf("huge file left out: this file system has no files of 1 TiB\n");
    } else {
        CHECK(lucid_safetensors_open(&file, path) == LUCID_OK, "%s", last_failure);
        const lucid_safetensors_tensor *k = lucid_safetensors_find(file, "k");
        CHECK(lucid_safetensors_read(file, k, (1ll << 38) - 1, 1, &value) == LUCID_OK, "%s", last_failure);
        CHECK(value == last, "the last element is %g", value);
        lucid_safetensors_close(file);
    }
    close(fd);
}

int main(void) {
    scratch_make();
    test_good_file();
    test_malformed_headers();
    test_overlong_name();
    test_deep_nesting();
    test_wrong_lengths();
    test_no_files();
    test_huge_file();
    scratch_remove();
    return check_result();
}
