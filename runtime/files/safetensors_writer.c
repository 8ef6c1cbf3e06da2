/* The writer of tensor files. The header is a function of the spec alone, so every rank computes each tensor's place
 * itself and only the file's name needs to be shared. */
#include "runtime/files/durable.h"
#include "runtime/files/half.h"
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

struct lucid_safetensors_writer {
    char *path, *temporary;
    char *header; /* length, JSON and padding, as in the file */
    int64_t header_bytes, file_bytes;
    lucid_safetensors_tensor *tensors; /* (n_tensors) by offset; names are ours */
    int n_tensors;
    int fd;     /* of the temporary file, or -1 */
    bool owner; /* the temporary file is there and ours to remove */
};

static lucid_status no_memory(const lucid_safetensors_writer *writer) {
    return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to plan it", writer->path ? writer->path : "output");
}

static bool job_valid(const char *job) {
    const size_t length = strlen(job);
    return length > 0 && length == strspn(job, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
}

static lucid_status name_files(lucid_safetensors_writer *writer, const lucid_safetensors_spec *spec) {
    const char *slash = strrchr(spec->path, '/');
    if (!*spec->path || (slash && !slash[1]))
        return lucid_fail(LUCID_ERR_USAGE, "output '%s' names no file", spec->path);
    if (!job_valid(spec->job))
        return lucid_fail(LUCID_ERR_INTERNAL, "%s: job '%s' cannot be in a name", spec->path, spec->job);
    writer->path = strdup(spec->path);
    if (asprintf(&writer->temporary, "%s.tmp.%s", spec->path, spec->job) < 0) writer->temporary = NULL;
    return writer->path && writer->temporary ? LUCID_OK : no_memory(writer);
}

static lucid_status copy_tensor(lucid_safetensors_tensor *copy, const lucid_safetensors_tensor *tensor,
                                const char *path) {
    const lucid_safetensors_type *type = lucid_safetensors_type_find(tensor->dtype);
    if (!lucid_safetensors_name_valid(tensor->name) || strcmp(tensor->name, "__metadata__") == 0)
        return lucid_fail(LUCID_ERR_INTERNAL, "%s: a tensor cannot be called '%s'", path, tensor->name);
    if (!type || type->lucid_type < 0)
        return lucid_fail(LUCID_ERR_INTERNAL, "%s: tensor %s: dtype %s cannot be written", path, tensor->name,
                          tensor->dtype);
    if (tensor->n_dims < 0 || tensor->n_dims > LUCID_SAFETENSORS_MAX_DIMS)
        return lucid_fail(LUCID_ERR_INTERNAL, "%s: tensor %s: has %d dimensions", path, tensor->name, tensor->n_dims);
    *copy = *tensor;
    copy->dtype = type->name;
    copy->name = strdup(tensor->name);
    if (!copy->name) return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to plan it", path);
    return lucid_safetensors_measure(copy, path);
}

/* Widest dtype first, then by name: each tensor's offset is a multiple of its element's size. */
static int compare_places(const void *a, const void *b) {
    const lucid_safetensors_tensor *x = a, *y = b;
    const lucid_safetensors_type *type_x = lucid_safetensors_type_find(x->dtype);
    const lucid_safetensors_type *type_y = lucid_safetensors_type_find(y->dtype);
    if (type_x != type_y) return type_x > type_y ? -1 : 1;
    return strcmp(x->name, y->name);
}

static lucid_status place_tensors(lucid_safetensors_writer *writer, const lucid_safetensors_spec *spec) {
    int64_t offset = 0;
    writer->tensors = calloc((size_t)spec->n_tensors + 1, sizeof *writer->tensors);
    if (!writer->tensors) return no_memory(writer);
    for (int i = 0; i < spec->n_tensors; i++) {
        writer->n_tensors = i + 1;
        LUCID_TRY(copy_tensor(&writer->tensors[i], &spec->tensors[i], writer->path));
    }
    qsort(writer->tensors, (size_t)writer->n_tensors, sizeof *writer->tensors, compare_places);
    for (int i = 0; i < writer->n_tensors; i++) {
        writer->tensors[i].offset = offset;
        if (__builtin_add_overflow(offset, writer->tensors[i].n_bytes, &offset))
            return lucid_fail(LUCID_ERR_INPUT, "%s: would exceed 2^63 bytes", writer->path);
    }
    writer->file_bytes = offset;
    return LUCID_OK;
}

static json_t *describe_tensor(const lucid_safetensors_tensor *tensor) {
    json_t *shape = json_array();
    for (int i = 0; i < tensor->n_dims; i++) json_array_append_new(shape, json_integer(tensor->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->dtype, "shape", shape, "data_offsets",
                     (json_int_t)tensor->offset, (json_int_t)(tensor->offset + tensor->n_bytes));
}

/* NULL where a string is no UTF-8, a name comes twice, or memory ends. */
static json_t *describe_file(const lucid_safetensors_writer *writer, const lucid_safetensors_spec *spec) {
    json_t *header = json_object(), *metadata = json_object();
    bool ok = true;
    for (int i = 0; i < spec->n_metadata; i++)
        ok &= json_object_set_new(metadata, spec->metadata[i].key, json_string(spec->metadata[i].value)) == 0;
    if (spec->n_metadata > 0) ok &= json_object_set(header, "__metadata__", metadata) == 0;
    for (int i = 0; i < writer->n_tensors; i++) {
        const lucid_safetensors_tensor *tensor = &writer->tensors[i];
        ok &= !json_object_get(header, tensor->name);
        ok &= json_object_set_new(header, tensor->name, describe_tensor(tensor)) == 0;
    }
    json_decref(metadata);
    if (ok) return header;
    json_decref(header);
    return NULL;
}

/* Pads the JSON with spaces so that the data begins at a multiple of 8. */
static lucid_status make_header(lucid_safetensors_writer *writer, const lucid_safetensors_spec *spec) {
    json_t *description = describe_file(writer, spec);
    if (!description) return lucid_fail(LUCID_ERR_INTERNAL, "%s: its header cannot be made", writer->path);
    const size_t json_bytes = json_dumpb(description, NULL, 0, JSON_COMPACT);
    const uint64_t padded_bytes = (json_bytes + 7) / 8 * 8;
    writer->header = malloc(sizeof padded_bytes + padded_bytes);
    if (writer->header) {
        memcpy(writer->header, &padded_bytes, sizeof padded_bytes);
        memset(writer->header + sizeof padded_bytes, ' ', padded_bytes);
        json_dumpb(description, writer->header + sizeof padded_bytes, json_bytes, JSON_COMPACT);
    }
    json_decref(description);
    if (!writer->header) return no_memory(writer);
    if (padded_bytes > LUCID_SAFETENSORS_MAX_HEADER)
        return lucid_fail(LUCID_ERR_INPUT, "%s: its header would exceed %d bytes", writer->path,
                          LUCID_SAFETENSORS_MAX_HEADER);
    writer->header_bytes = (int64_t)(sizeof padded_bytes + padded_bytes);
    return LUCID_OK;
}

static lucid_status shift_tensors(lucid_safetensors_writer *writer) {
    if (__builtin_add_overflow(writer->file_bytes, writer->header_bytes, &writer->file_bytes))
        return lucid_fail(LUCID_ERR_INPUT, "%s: would exceed 2^63 bytes", writer->path);
    for (int i = 0; i < writer->n_tensors; i++) writer->tensors[i].offset += writer->header_bytes;
    return LUCID_OK;
}

lucid_status lucid_safetensors_plan(lucid_safetensors_writer **writer, const lucid_safetensors_spec *spec) {
    lucid_status status;
    lucid_safetensors_writer *w = calloc(1, sizeof *w);
    if (!w) return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to plan it", spec->path);
    w->fd = -1;
    LUCID_TRY_GOTO(name_files(w, spec), destroy);
    LUCID_TRY_GOTO(place_tensors(w, spec), destroy);
    LUCID_TRY_GOTO(make_header(w, spec), destroy);
    LUCID_TRY_GOTO(shift_tensors(w), destroy);
    *writer = w;
    return LUCID_OK;
destroy:
    lucid_safetensors_destroy(w);
    return status;
}

void lucid_safetensors_destroy(lucid_safetensors_writer *writer) {
    if (!writer) return;
    if (writer->fd >= 0) close(writer->fd);
    if (writer->owner) unlink(writer->temporary);
    for (int i = 0; i < writer->n_tensors; i++) free((char *)writer->tensors[i].name);
    free(writer->tensors);
    free(writer->header);
    free(writer->temporary);
    free(writer->path);
    free(writer);
}

/* rename() would put the new file in the place of anything but a folder, /dev/null included. */
static lucid_status check_target(const lucid_safetensors_writer *writer, const lucid_safetensors *input) {
    struct stat target, source;
    if (stat(writer->path, &target)) {
        if (errno == ENOENT) return LUCID_OK;
        return lucid_fail(LUCID_ERR_IO, "%s: cannot write here: %s", writer->path, strerror(errno));
    }
    if (S_ISDIR(target.st_mode)) return lucid_fail(LUCID_ERR_USAGE, "%s: is a folder", writer->path);
    if (!S_ISREG(target.st_mode)) return lucid_fail(LUCID_ERR_USAGE, "%s: exists and is no regular file", writer->path);
    if (input && stat(lucid_safetensors_path(input), &source) == 0 && source.st_dev == target.st_dev &&
        source.st_ino == target.st_ino)
        return lucid_fail(LUCID_ERR_USAGE, "%s: is the input itself (%s)", writer->path, lucid_safetensors_path(input));
    return LUCID_OK;
}

/* Makes the file its full size now, so that a disk too small is known before the work, not after it. */
static lucid_status reserve(const lucid_safetensors_writer *writer) {
    int result;
    do result = fallocate(writer->fd, 0, 0, writer->file_bytes);
    while (result && errno == EINTR);
    if (result && (errno == EOPNOTSUPP || errno == ENOSYS)) result = ftruncate(writer->fd, writer->file_bytes);
    if (!result) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: cannot reserve %" PRId64 " bytes: %s", writer->temporary, writer->file_bytes,
                      strerror(errno));
}

lucid_status lucid_safetensors_create(lucid_safetensors_writer *writer, const lucid_safetensors *input) {
    LUCID_TRY(check_target(writer, input));
    writer->fd = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (writer->fd < 0) return lucid_fail(LUCID_ERR_IO, "%s: cannot create: %s", writer->temporary, strerror(errno));
    writer->owner = true;
    LUCID_TRY(reserve(writer));
    if (lucid_write_fully(writer->fd, writer->header, writer->header_bytes, 0)) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: cannot write the header: %s", writer->temporary, strerror(errno));
}

lucid_status lucid_safetensors_join(lucid_safetensors_writer *writer) {
    struct stat info;
    writer->fd = open(writer->temporary, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (writer->fd < 0)
        return lucid_fail(LUCID_ERR_IO, "%s: cannot open (is the folder shared by all hosts?): %s", writer->temporary,
                          strerror(errno));
    if (fstat(writer->fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size == writer->file_bytes) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: is not the file of %" PRId64 " bytes that rank 0 created", writer->temporary,
                      writer->file_bytes);
}

static const lucid_safetensors_tensor *find_tensor(const lucid_safetensors_writer *writer, const char *name) {
    for (int i = 0; i < writer->n_tensors; i++) {
        if (strcmp(writer->tensors[i].name, name) == 0) return &writer->tensors[i];
    }
    return NULL;
}

/* Writes in pieces: a piece is what is rounded at once, and where a failure is located. */
static lucid_status write_elements(const lucid_safetensors_writer *writer, const lucid_safetensors_tensor *tensor,
                                   int64_t first, int64_t n, const float *src) {
    enum { PIECE = 16384 };
    const lucid_dtype dtype = (lucid_dtype)lucid_safetensors_type_find(tensor->dtype)->lucid_type;
    const int64_t element_bytes = (int64_t)lucid_dtype_bytes(dtype);
    uint16_t rounded[PIECE];
    for (int64_t done = 0; done < n;) {
        const int64_t piece = n - done < PIECE ? n - done : PIECE;
        const void *bytes = src + done;
        if (dtype != LUCID_F32) {
            lucid_narrow(rounded, dtype, src + done, piece);
            bytes = rounded;
        }
        if (!lucid_write_fully(writer->fd, bytes, piece * element_bytes,
                               tensor->offset + (first + done) * element_bytes))
            return lucid_fail(LUCID_ERR_IO, "%s: tensor %s: cannot write elements from %" PRId64 ": %s",
                              writer->temporary, tensor->name, first + done, strerror(errno));
        done += piece;
    }
    return LUCID_OK;
}

lucid_status lucid_safetensors_write(const lucid_safetensors_writer *writer, const char *name, int64_t first, int64_t n,
                                     const float *src) {
    const lucid_safetensors_tensor *tensor = find_tensor(writer, name);
    if (!tensor) return lucid_fail(LUCID_ERR_INTERNAL, "%s: tensor %s: was not planned", writer->path, name);
    if (first < 0 || n < 0 || n > tensor->n_elements || first > tensor->n_elements - n)
        return lucid_fail(LUCID_ERR_INTERNAL, "%s: tensor %s: %" PRId64 " elements from %" PRId64 " of %" PRId64,
                          writer->path, name, n, first, tensor->n_elements);
    return write_elements(writer, tensor, first, n, src);
}

lucid_status lucid_safetensors_finish(lucid_safetensors_writer *writer) {
    const int fd = writer->fd;
    writer->fd = -1;
    if (lucid_close_flushed(fd)) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: cannot flush: %s", writer->temporary, strerror(errno));
}

lucid_status lucid_safetensors_commit(lucid_safetensors_writer *writer) {
    if (!writer->owner || writer->fd >= 0)
        return lucid_fail(LUCID_ERR_INTERNAL, "%s: committed before it was created and finished", writer->path);
    if (rename(writer->temporary, writer->path))
        return lucid_fail(LUCID_ERR_IO, "%s: cannot rename to %s: %s", writer->temporary, writer->path,
                          strerror(errno));
    writer->owner = false;
    return lucid_flush_parent(writer->path);
}
