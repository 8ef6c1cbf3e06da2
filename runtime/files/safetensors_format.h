/* What the reader and the writer of tensor files share: the format's dtypes and the sizes that follow from a shape.
 * Internal to lucid_files. */
#ifndef LUCID_RUNTIME_FILES_SAFETENSORS_FORMAT_H
#define LUCID_RUNTIME_FILES_SAFETENSORS_FORMAT_H

#include "runtime/files/safetensors.h"

/* One of the format's dtypes. The table's order is the format's own: tensors are written from its end to its start. */
typedef struct {
    const char *name;
    int bits;       /* of an element */
    int lucid_type; /* lucid_dtype, or -1 where attention has none */
} lucid_safetensors_type;

/* NULL when the format has none of this name. */
const lucid_safetensors_type *lucid_safetensors_type_find(const char *name);

/* Fills n_elements and n_bytes from dtype and shape. Errors: INPUT in the name of path. */
lucid_status lucid_safetensors_measure(lucid_safetensors_tensor *tensor, const char *path);

/* False for an empty name, an overlong one, or one that would break a line. */
bool lucid_safetensors_name_valid(const char *name);

#endif
