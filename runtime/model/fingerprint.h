/* Telling models apart: a short text that goes with what a model has computed. */
#ifndef LUCID_RUNTIME_MODEL_FINGERPRINT_H
#define LUCID_RUNTIME_MODEL_FINGERPRINT_H

#include "runtime/model/weights.h"

#define LUCID_FINGERPRINT_MAX 128 /* bytes, with the NUL */

/* Of the configuration, of samples of every layer's weights and, where RoPE depends on it, of max_context. Weights that
 * only stand in other files or another dtype give the same text. Local. */
void lucid_model_fingerprint(char text[LUCID_FINGERPRINT_MAX], const lucid_model *model, int64_t max_context);

#endif
