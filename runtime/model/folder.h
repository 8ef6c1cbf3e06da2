/* Writing a model folder's files. Local. */
#ifndef LUCID_RUNTIME_MODEL_FOLDER_H
#define LUCID_RUNTIME_MODEL_FOLDER_H

#include "runtime/model/tensors.h"

#define LUCID_FOLDER_MAX_PATH 4096

/* Files beside config.json that say how to use the model; not all models have them. */
#define LUCID_MODEL_N_COMPANIONS 3
extern const char *const lucid_model_companions[LUCID_MODEL_N_COMPANIONS];

/* A tensor to be written: the slot's shape under a name of its own. */
typedef struct {
    char name[96];
    const lucid_model_slot *slot;
    const float *values;
} lucid_model_entry;

/* A safetensors file that appears whole or not at all, in the format that transformers reads; entries' values are
 * rounded to dtype. job: see lucid_safetensors_spec. Errors: IO, MEMORY. */
lucid_status lucid_model_entries_write(const lucid_model_entry *entries, int n_entries, const char *path,
                                       lucid_dtype dtype, const char *job);

/* folder/name = text, flushed to the device. Errors: IO. */
lucid_status lucid_folder_write_text(const char *folder, const char *name, const char *text);

/* Makes the folder, or takes one that is there. Errors: IO. */
lucid_status lucid_folder_make(const char *path);

/* folder/name. Errors: IO, for a path that is too long. */
lucid_status lucid_folder_join(char path[LUCID_FOLDER_MAX_PATH], const char *folder, const char *name);

/* Writes the model with its weights rounded to dtype, and its configuration and companions, as a new folder, which
 * appears whole or not at all. source: the folder that the model was read from. Errors: USAGE where `path` is there
 * already; INPUT, IO, MEMORY. */
lucid_status lucid_model_convert(const lucid_model *model, const char *source, const char *path, lucid_dtype dtype,
                                 const char *job);

#endif
