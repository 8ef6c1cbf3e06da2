/* Writes the inputs that fuzz_safetensors starts from into a folder: raw files and headers, good and nearly good. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char one[] = "{\"q\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}";
static const char two[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"k\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
    "\"v\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[4,6]}}  ";
static const char packed[] = "{\"x\":{\"dtype\":\"F4\",\"shape\":[2,1,3],\"data_offsets\":[0,3]},"
                             "\"empty\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[3,3]}}";
static const char overlap[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
                              "\"b\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[3,8]}}";

static void save(const char *folder, const char *name, const void *bytes, size_t n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, n, file) != n || fclose(file)) {
        perror(path);
        exit(1);
    }
}

/* A seed of the kind that gets its length from the fuzzer. */
static void save_header(const char *folder, const char *name, const char *header, unsigned char data_bytes) {
    unsigned char seed[512] = {1, data_bytes};
    memcpy(seed + 2, header, strlen(header));
    save(folder, name, seed, strlen(header) + 2);
}

static void save_raw(const char *folder, const char *name, const char *header, size_t data_bytes) {
    unsigned char seed[512] = {0, (unsigned char)strlen(header)};
    memcpy(seed + 9, header, strlen(header));
    save(folder, name, seed, 9 + strlen(header) + data_bytes);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    save_header(argv[1], "one", one, 8);
    save_header(argv[1], "two", two, 6);
    save_header(argv[1], "packed", packed, 3);
    save_header(argv[1], "overlap", overlap, 8);
    save_raw(argv[1], "raw_one", one, 8);
    save_raw(argv[1], "raw_two", two, 6);
    save_raw(argv[1], "raw_short", one, 7);
    return 0;
}
