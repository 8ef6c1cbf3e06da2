/* Checkpoints of a training: folders that are models in themselves.
 *
 *   OUT/step-000001500/config.json          as it was given, and so the model's companions
 *                      model.safetensors    weights in fp32, by the names that transformers gives them
 *                      moments.safetensors  first.NAME and second.NAME, AdamW's
 *                      state.json           steps done, the recipe
 *       lucid-lock                          held by the job that writes here
 *
 * A checkpoint is written beside its place, flushed and renamed, so that there is a whole one or none. Rank 0 reads and
 * writes; the others get their parameters from it. A training that goes on from one has the bits of one that was never
 * stopped, whatever the numbers of ranks. */
#ifndef LUCID_RUNTIME_TRAIN_SAVE_H
#define LUCID_RUNTIME_TRAIN_SAVE_H

#include "runtime/checkpoint/folder.h"
#include "runtime/model/folder.h"
#include "runtime/train/training.h"

/* The newest checkpoint in a folder; empty text when there is none, or no such folder. Errors: IO. Local. */
lucid_status lucid_checkpoint_find(char path[LUCID_FOLDER_MAX_PATH], const char *folder);

/* Opens a folder to write checkpoints to, makes it where there is none, and keeps other jobs out until it is closed or
 * the process ends; what killed jobs have not finished in there is removed. On file systems without locks two jobs in
 * one folder remove each other's unfinished checkpoints, and so fail. Errors: USAGE when another job has it; IO. Local:
 * rank 0 does it for its job. */
lucid_status lucid_checkpoint_claim(lucid_folder *folder, const char *path);

/* Texts that go into a checkpoint as they are. */
typedef struct {
    const char *config;
    const char *companions[LUCID_MODEL_N_COMPANIONS]; /* NULL: there is none */
} lucid_checkpoint_texts;

/* Writes one to a claimed folder, and removes all but the newest `keep` (0: keeps all). One of the same step is left as
 * it is. job ends the temporary name. folder and texts are rank 0's. Errors, agreed: IO, MEMORY. Collective. */
lucid_status lucid_checkpoint_save(lucid_training *training, lucid_comm *comm, const lucid_folder *folder,
                                   const lucid_checkpoint_texts *texts, const char *job, int keep);

/* Goes on from a checkpoint. Errors, agreed: INPUT when it is damaged, or of another recipe; IO; MEMORY. Collective. */
lucid_status lucid_checkpoint_load(lucid_training *training, lucid_comm *comm, const char *path);

/* Begins another recipe with the weights of a model folder's model.safetensors; the moments are zeros, as AdamW's first
 * steps expect them. The same errors. Collective. */
lucid_status lucid_checkpoint_start(lucid_training *training, lucid_comm *comm, const char *path);

#endif
