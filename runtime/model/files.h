/* The tensor files of a model folder: model.safetensors or, where there is none, the shards that
 * model.safetensors.index.json names. Internal to lucid_model. */
#ifndef LUCID_RUNTIME_MODEL_FILES_H
#define LUCID_RUNTIME_MODEL_FILES_H

#include "runtime/files/safetensors.h"

typedef struct {
    lucid_safetensors **shards; /* (n_shards) */
    int n_shards;
} lucid_model_files;

/* With an index, all of its tensors are in the files it says, which are in the folder itself and hold no others: so no
 * name is there twice. Errors: INPUT, IO, MEMORY. Local. Close also after a failure. */
lucid_status lucid_model_files_open(lucid_model_files *files, const char *folder);
void lucid_model_files_close(lucid_model_files *files);

/* NULL when no shard has it. */
const lucid_safetensors_tensor *lucid_model_files_find(const lucid_model_files *files, const char *name, int *shard);

#endif
