/* The reader of tensor files. The header is parsed by jansson, which refuses duplicate keys, invalid UTF-8, NUL
 * characters, nesting beyond 2048 levels and anything after the object but white space; what it means is checked here.
 * The parsed header is kept, since it owns the tensors' names and the metadata: a few hundred bytes a tensor. */
#include "runtime/files/read.h"
#include "runtime/files/safetensors_format.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor files are little-endian and read in place");

struct lucid_safetensors {
    char *path;
    int fd;
    int64_t file_bytes, data_begin;
    json_t *header;
    lucid_safetensors_tensor *tensors; /* (n_tensors) by offset */
    int n_tensors;
};

/* bytes at offset, all of them; `what` names the part of the file in the error. */
static lucid_status read_fully(const lucid_safetensors *file, const char *what, void *dst, int64_t bytes,
                               int64_t offset) {
    const int64_t n = lucid_read_fully(file->fd, dst, bytes, offset);
    if (n == bytes) return LUCID_OK;
    if (n < 0)
        return lucid_fail(LUCID_ERR_IO, "%s: %s: cannot read at byte %" PRId64 ": %s", file->path, what, offset,
                          strerror(errno));
    return lucid_fail(LUCID_ERR_INPUT, "%s: %s: the file ends at byte %" PRId64 ", %" PRId64 " bytes too early",
                      file->path, what, offset + n, bytes - n);
}

/* O_NONBLOCK: a FIFO given by mistake is refused by the caller instead of waited for. */
static lucid_status open_regular(lucid_safetensors *file) {
    struct stat info;
    file->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file->fd < 0) return lucid_fail(LUCID_ERR_INPUT, "%s: cannot open: %s", file->path, strerror(errno));
    if (fstat(file->fd, &info)) return lucid_fail(LUCID_ERR_IO, "%s: cannot stat: %s", file->path, strerror(errno));
    if (!S_ISREG(info.st_mode)) return lucid_fail(LUCID_ERR_INPUT, "%s: is not a regular file", file->path);
    file->file_bytes = info.st_size;
    return LUCID_OK;
}

/* jansson quotes the text near the error, which may be anything. */
static void make_printable(char *text) {
    for (; *text; text++) {
        if (*text < 0x20 || *text > 0x7e) *text = '?';
    }
}

static lucid_status parse_header(lucid_safetensors *file, const char *text, size_t bytes) {
    json_error_t error;
    if (text[0] != '{') return lucid_fail(LUCID_ERR_INPUT, "%s: header does not begin with '{'", file->path);
    file->header = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (file->header) return LUCID_OK;
    make_printable(error.text);
    return lucid_fail(LUCID_ERR_INPUT, "%s: header: byte %d: %s", file->path, error.position, error.text);
}

static lucid_status read_header(lucid_safetensors *file) {
    uint64_t bytes;
    if (file->file_bytes < (int64_t)sizeof bytes)
        return lucid_fail(LUCID_ERR_INPUT, "%s: has %" PRId64 " bytes, too few for a tensor file", file->path,
                          file->file_bytes);
    LUCID_TRY(read_fully(file, "header length", &bytes, sizeof bytes, 0));
    if (bytes < 2 || bytes > LUCID_SAFETENSORS_MAX_HEADER)
        return lucid_fail(LUCID_ERR_INPUT, "%s: header length %" PRIu64 " is not within 2..%d: no tensor file?",
                          file->path, bytes, LUCID_SAFETENSORS_MAX_HEADER);
    file->data_begin = (int64_t)(sizeof bytes + bytes);
    if (file->data_begin > file->file_bytes)
        return lucid_fail(LUCID_ERR_INPUT, "%s: header of %" PRIu64 " bytes exceeds the file's %" PRId64, file->path,
                          bytes, file->file_bytes);
    char *text = malloc(bytes);
    if (!text)
        return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for a header of %" PRIu64 " bytes", file->path, bytes);
    lucid_status status = read_fully(file, "header", text, (int64_t)bytes, sizeof bytes);
    if (!status) status = parse_header(file, text, bytes);
    free(text);
    return status;
}

static lucid_status check_metadata(const lucid_safetensors *file, json_t *metadata) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) return lucid_fail(LUCID_ERR_INPUT, "%s: __metadata__ is not an object", file->path);
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return lucid_fail(LUCID_ERR_INPUT, "%s: __metadata__ holds a value that is not a string", file->path);
    }
    return LUCID_OK;
}

/* A non-negative integer: what every number of the header is. */
static bool get_count(int64_t *count, const json_t *value) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *count = json_integer_value(value);
    return true;
}

static lucid_status parse_shape(lucid_safetensors_tensor *tensor, const json_t *shape, const char *path) {
    if (!json_is_array(shape))
        return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: shape is not an array", path, tensor->name);
    if (json_array_size(shape) > LUCID_SAFETENSORS_MAX_DIMS)
        return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: has %zu dimensions, more than %d", path, tensor->name,
                          json_array_size(shape), LUCID_SAFETENSORS_MAX_DIMS);
    tensor->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < tensor->n_dims; i++) {
        if (!get_count(&tensor->shape[i], json_array_get(shape, (size_t)i)))
            return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: shape[%d] is not a non-negative integer", path,
                              tensor->name, i);
    }
    return LUCID_OK;
}

static lucid_status parse_offsets(lucid_safetensors_tensor *tensor, const json_t *offsets,
                                  const lucid_safetensors *file) {
    const int64_t data_bytes = file->file_bytes - file->data_begin;
    int64_t begin, end;
    if (json_array_size(offsets) != 2 || !get_count(&begin, json_array_get(offsets, 0)) ||
        !get_count(&end, json_array_get(offsets, 1)))
        return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: data_offsets is not a pair of non-negative integers",
                          file->path, tensor->name);
    if (begin > end || end > data_bytes)
        return lucid_fail(LUCID_ERR_INPUT,
                          "%s: tensor %s: data_offsets %" PRId64 "..%" PRId64 " exceed the %" PRId64 " bytes of data",
                          file->path, tensor->name, begin, end, data_bytes);
    if (end - begin != tensor->n_bytes)
        return lucid_fail(LUCID_ERR_INPUT,
                          "%s: tensor %s: has %" PRId64 " bytes of data, dtype and shape need %" PRId64, file->path,
                          tensor->name, end - begin, tensor->n_bytes);
    tensor->offset = file->data_begin + begin;
    return LUCID_OK;
}

static lucid_status parse_tensor(lucid_safetensors_tensor *tensor, const lucid_safetensors *file, const char *name,
                                 json_t *entry) {
    if (!lucid_safetensors_name_valid(name))
        return lucid_fail(LUCID_ERR_INPUT, "%s: a tensor's name is empty, too long or not printable", file->path);
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype) return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: dtype is not a string", file->path, name);
    const lucid_safetensors_type *type = lucid_safetensors_type_find(dtype);
    if (!type) return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: unknown dtype", file->path, name);
    *tensor = (lucid_safetensors_tensor){.name = name, .dtype = type->name};
    LUCID_TRY(parse_shape(tensor, json_object_get(entry, "shape"), file->path));
    LUCID_TRY(lucid_safetensors_measure(tensor, file->path));
    return parse_offsets(tensor, json_object_get(entry, "data_offsets"), file);
}

static lucid_status parse_tensors(lucid_safetensors *file) {
    const char *name;
    json_t *entry;
    file->tensors = calloc(json_object_size(file->header) + 1, sizeof *file->tensors);
    if (!file->tensors)
        return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for %zu tensors", file->path,
                          json_object_size(file->header));
    json_object_foreach(file->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            LUCID_TRY(check_metadata(file, entry));
        } else {
            LUCID_TRY(parse_tensor(&file->tensors[file->n_tensors], file, name, entry));
            file->n_tensors++;
        }
    }
    return LUCID_OK;
}

/* By offset; at one offset empty tensors come before the one that has data. */
static int compare_offsets(const void *a, const void *b) {
    const lucid_safetensors_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* The tensors, in order of offset, must cover the data exactly. */
static lucid_status check_coverage(lucid_safetensors *file) {
    int64_t end = file->data_begin;
    qsort(file->tensors, (size_t)file->n_tensors, sizeof *file->tensors, compare_offsets);
    for (int i = 0; i < file->n_tensors; i++) {
        const lucid_safetensors_tensor *tensor = &file->tensors[i];
        if (tensor->offset < end)
            return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: overlaps tensor %s", file->path, tensor->name,
                              tensor[-1].name);
        if (tensor->offset > end)
            return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: %" PRId64 " bytes before it belong to no tensor",
                              file->path, tensor->name, tensor->offset - end);
        end += tensor->n_bytes;
    }
    if (end != file->file_bytes)
        return lucid_fail(LUCID_ERR_INPUT, "%s: %" PRId64 " bytes at its end belong to no tensor", file->path,
                          file->file_bytes - end);
    return LUCID_OK;
}

lucid_status lucid_safetensors_open(lucid_safetensors **file, const char *path) {
    lucid_status status;
    lucid_safetensors *f = calloc(1, sizeof *f);
    if (!f) return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to open it", path);
    f->fd = -1;
    f->path = strdup(path);
    if (!f->path) {
        status = lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to open it", path);
        goto close;
    }
    LUCID_TRY_GOTO(open_regular(f), close);
    LUCID_TRY_GOTO(read_header(f), close);
    LUCID_TRY_GOTO(parse_tensors(f), close);
    LUCID_TRY_GOTO(check_coverage(f), close);
    *file = f;
    return LUCID_OK;
close:
    lucid_safetensors_close(f);
    return status;
}

void lucid_safetensors_close(lucid_safetensors *file) {
    if (!file) return;
    if (file->fd >= 0) close(file->fd);
    json_decref(file->header);
    free(file->tensors);
    free(file->path);
    free(file);
}

const char *lucid_safetensors_path(const lucid_safetensors *file) {
    return file->path;
}

const lucid_safetensors_tensor *lucid_safetensors_tensors(const lucid_safetensors *file, int *count) {
    *count = file->n_tensors;
    return file->tensors;
}

const lucid_safetensors_tensor *lucid_safetensors_find(const lucid_safetensors *file, const char *name) {
    for (int i = 0; i < file->n_tensors; i++) {
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    }
    return NULL;
}

const char *lucid_safetensors_metadata(const lucid_safetensors *file, const char *key) {
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

lucid_status lucid_safetensors_dtype(lucid_dtype *dtype, const lucid_safetensors *file,
                                     const lucid_safetensors_tensor *tensor) {
    const int type = lucid_safetensors_type_find(tensor->dtype)->lucid_type;
    if (type < 0)
        return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: dtype %s is none of F32, BF16, F16", file->path,
                          tensor->name, tensor->dtype);
    *dtype = (lucid_dtype)type;
    return LUCID_OK;
}

lucid_status lucid_safetensors_read(const lucid_safetensors *file, const lucid_safetensors_tensor *tensor,
                                    int64_t first, int64_t n, void *dst) {
    const int bits = lucid_safetensors_type_find(tensor->dtype)->bits;
    char what[300];
    if (first < 0 || n < 0 || n > tensor->n_elements || first > tensor->n_elements - n)
        return lucid_fail(LUCID_ERR_INTERNAL, "%s: tensor %s: %" PRId64 " elements from %" PRId64 " of %" PRId64,
                          file->path, tensor->name, n, first, tensor->n_elements);
    if (bits % 8)
        return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: dtype %s cannot be read by element", file->path,
                          tensor->name, tensor->dtype);
    snprintf(what, sizeof what, "tensor %s", tensor->name);
    return read_fully(file, what, dst, n * (bits / 8), tensor->offset + first * (bits / 8));
}
