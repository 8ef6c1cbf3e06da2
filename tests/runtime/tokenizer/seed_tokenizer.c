/* Writes the inputs that fuzz_tokenizer starts from into a folder: small tokenizer.json files, each with a text. */
#include "tests/runtime/tokenizer/tokenizer_samples.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name, *json, *text;
} seeds[] = {
    {"plain", sample_plain, "abc abcab cab"},
    {"special", sample_special, "<s>abc <s><s> xyz"},
    {"bytes", sample_bytes, "x\xE4\xBD\xA0x\xE4\xBD"},
    {"stages", sample_stages,
     "\xEF\xBC\xA1"
     "bccc  C_ \xE4\xBD\xA0\n\n it's 12"},
    {"none", "", "a\xC3\xA9\xC3"},
};

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", argv[1], seeds[i].name);
        FILE *file = fopen(path, "wb");
        if (!file || fprintf(file, "%s\xFF%s", seeds[i].json, seeds[i].text) < 0 || fclose(file)) {
            perror(path);
            exit(1);
        }
    }
    return 0;
}
