/* The tensors that a configuration calls for, by the names that transformers gives them. Internal to lucid_model. */
#ifndef LUCID_RUNTIME_MODEL_TENSORS_H
#define LUCID_RUNTIME_MODEL_TENSORS_H

#include "runtime/model/files.h"
#include "runtime/model/weights.h"

typedef struct {
    char name[80];
    int n_dims;
    int64_t shape[3];
    const float **pointer;                  /* into the model: where its address goes */
    const lucid_safetensors_tensor *tensor; /* what the files have */
    lucid_dtype dtype;
    int shard;
    size_t offset; /* into shared memory, of a tensor that is not used in place */
} lucid_model_slot;

/* One slot a tensor of model->config into model and model->layers. *slots is malloc'ed. Errors: MEMORY. */
lucid_status lucid_model_slots_make(lucid_model_slot **slots, int *n_slots, lucid_model *model);

/* Finds every slot's tensor. Errors: INPUT naming the tensor that is missing or of a wrong shape or dtype, or that no
 * slot uses and options do not allow; tied: an output head there is the embedding again, and not read. */
lucid_status lucid_model_slots_find(lucid_model_slot *slots, int n_slots, const lucid_model_files *files,
                                    const char *folder, bool tied, const lucid_model_options *options);

#endif
