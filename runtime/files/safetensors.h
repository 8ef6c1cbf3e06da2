/* Tensor files in the safetensors format: 8 bytes of header length, a JSON header, the tensors' data end to end.
 *
 * Reading trusts nothing. open() checks the whole header - names, dtypes, shapes, that the tensors cover the data
 * exactly, without holes or overlaps - so later reads can fail only where the operating system does. Data is read with
 * pread(), never mapped, so files may exceed memory, and a file cut short meanwhile is an error and not a signal.
 *
 * Writing is shared by ranks that know each other only through the file system. There is no communication in here: all
 * functions are Local and the caller agrees on their statuses where the list says so.
 *
 *     every rank   lucid_safetensors_plan      computes the header; the same everywhere, no I/O
 *     rank 0       lucid_safetensors_create    creates `<path>.tmp.<job>` beside the output, at its full size
 *                  -- agree --
 *     other ranks  lucid_safetensors_join      opens it
 *     every rank   lucid_safetensors_write     its own elements, in any order
 *     every rank   lucid_safetensors_finish    flushes them to the device and closes
 *                  -- agree --
 *     rank 0       lucid_safetensors_commit    renames the file into place
 *     every rank   lucid_safetensors_destroy   frees; rank 0 thereby removes a file that was not committed
 *
 * The output path therefore holds either what it held before or the whole new file. A process that is killed may leave
 * the temporary file behind; its name tells the job.
 *
 * A failure's line names the file, the tensor and the element. File and tensor descriptions stay valid until
 * close/destroy.
 */
#ifndef LUCID_RUNTIME_FILES_SAFETENSORS_H
#define LUCID_RUNTIME_FILES_SAFETENSORS_H

#include "comm/comm.h"
#include "kernels/kernels.h"

#define LUCID_SAFETENSORS_MAX_DIMS   8
#define LUCID_SAFETENSORS_MAX_HEADER 100000000 /* bytes; the format's own limit */

typedef struct {
    const char *name;
    const char *dtype; /* as the format spells it: "F32", "BF16", "I64", ... */
    int n_dims;        /* 0 for a scalar */
    int64_t shape[LUCID_SAFETENSORS_MAX_DIMS];
    int64_t n_elements; /* product of shape */
    int64_t n_bytes;
    int64_t offset; /* of the first byte in the file */
} lucid_safetensors_tensor;

typedef struct lucid_safetensors lucid_safetensors;

/* Opens for reading and checks the header. Errors: IO, INPUT, MEMORY. Local. */
lucid_status lucid_safetensors_open(lucid_safetensors **file, const char *path);
void lucid_safetensors_close(lucid_safetensors *file); /* NULL is fine */

const char *lucid_safetensors_path(const lucid_safetensors *file);
/* All tensors, in the order of their data. */
const lucid_safetensors_tensor *lucid_safetensors_tensors(const lucid_safetensors *file, int *count);
/* NULL when the file has none of this name. */
const lucid_safetensors_tensor *lucid_safetensors_find(const lucid_safetensors *file, const char *name);
/* The value of a __metadata__ key, or NULL. */
const char *lucid_safetensors_metadata(const lucid_safetensors *file, const char *key);

/* The kernels' dtype of a tensor. Errors: INPUT, naming the dtype, when attention cannot take it. */
lucid_status lucid_safetensors_dtype(lucid_dtype *dtype, const lucid_safetensors *file,
                                     const lucid_safetensors_tensor *tensor);

/* dst (n) of the tensor's dtype = elements first..first+n-1. Thread-safe. Local. */
lucid_status lucid_safetensors_read(const lucid_safetensors *file, const lucid_safetensors_tensor *tensor,
                                    int64_t first, int64_t n, void *dst);

typedef struct {
    const char *key, *value;
} lucid_safetensors_pair;

typedef struct {
    const char *path; /* of the output */
    const char *job;  /* ends the temporary name: the same on every rank, unlike any other job's */
    const lucid_safetensors_tensor *tensors; /* name, dtype (F32, BF16 or F16), n_dims, shape; the rest is computed */
    int n_tensors;
    const lucid_safetensors_pair *metadata; /* keys and values in UTF-8 */
    int n_metadata;
} lucid_safetensors_spec;

typedef struct lucid_safetensors_writer lucid_safetensors_writer;

/* The spec is copied. Tensors are laid out by dtype, widest first, then by name, so each is aligned. */
lucid_status lucid_safetensors_plan(lucid_safetensors_writer **writer, const lucid_safetensors_spec *spec);
/* Refuses an output that exists but is no regular file, or that is `input` under whatever name (NULL: none). Disk space
 * is reserved here where the file system can. */
lucid_status lucid_safetensors_create(lucid_safetensors_writer *writer, const lucid_safetensors *input);
lucid_status lucid_safetensors_join(lucid_safetensors_writer *writer);
/* Elements first..first+n-1 of the tensor called name = src (n), rounded to the tensor's dtype. Thread-safe. */
lucid_status lucid_safetensors_write(const lucid_safetensors_writer *writer, const char *name, int64_t first, int64_t n,
                                     const float *src);
lucid_status lucid_safetensors_finish(lucid_safetensors_writer *writer);
lucid_status lucid_safetensors_commit(lucid_safetensors_writer *writer);
void lucid_safetensors_destroy(lucid_safetensors_writer *writer); /* NULL is fine */

#endif
