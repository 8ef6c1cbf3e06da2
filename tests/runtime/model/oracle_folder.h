/* Models for the oracle, read from folders with config.json and one model.safetensors (F32, F16 or BF16), and the
 * golden logits that folders under golden/ have beside them. Parses on its own, so that a mistake of the runtime's
 * loader is not repeated here; only runtime/files/safetensors.h, which has tests of its own, is shared.
 *
 * Whatever is missing, of a wrong shape or left over ends the program with a line.
 */
#ifndef LUCID_TESTS_ORACLE_FOLDER_H
#define LUCID_TESTS_ORACLE_FOLDER_H

#include "tests/runtime/model/oracle.h"

typedef struct {
    oracle_model model;   /* points into what follows */
    oracle_layer *layers; /* (n_layers), for tests that change one */
    float **tensors;      /* (n_tensors) */
    int n_tensors;
} oracle_folder;

/* max_context: of RoPE type "dynamic", see oracle_rope. */
oracle_folder oracle_folder_read(const char *path, int64_t max_context);
void oracle_folder_free(oracle_folder *folder);

typedef struct {
    int n_tokens, vocab_size;
    int64_t *tokens; /* (n_tokens) */
    double *logits;  /* (n_tokens, vocab_size) */
} oracle_golden;

oracle_golden oracle_golden_read(const char *path);
void oracle_golden_free(oracle_golden *golden);

#endif
