/* json_query FILE [PATH]: checks that FILE is one JSON value and prints the value at PATH ("plan.tile",
 * "ranks.0.host"). An array or object prints its number of members. Exit 1 when the file is no JSON, has no such value
 * or null in its place, which is how reports write numbers that are not finite. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const json_t *descend(const json_t *value, char *path) {
    for (char *key; value && (key = strsep(&path, "."));)
        value = json_is_array(value) ? json_array_get(value, (size_t)atoi(key)) : json_object_get(value, key);
    return value;
}

static void print_value(const json_t *value) {
    if (json_is_array(value))
        printf("%zu\n", json_array_size(value));
    else if (json_is_object(value))
        printf("%zu\n", json_object_size(value));
    else if (json_is_string(value))
        puts(json_string_value(value));
    else
        puts(json_dumps(value, JSON_ENCODE_ANY));
}

int main(int argc, char **argv) {
    json_error_t error;
    json_t *root = argc > 1 ? json_load_file(argv[1], JSON_REJECT_DUPLICATES, &error) : NULL;
    if (!root) {
        fprintf(stderr, "json_query: %s\n", argc > 1 ? error.text : "no file");
        return 1;
    }
    const json_t *value = argc > 2 ? descend(root, argv[2]) : root;
    const int status = value && !json_is_null(value) ? 0 : 1;
    if (value) print_value(value);
    json_decref(root);
    return status;
}
