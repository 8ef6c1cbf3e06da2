/* Telling models apart: a short text that goes with what a model has computed. */
#ifndef LUCID_RUNTIME_MODEL_FINGERPRINT_H
#define LUCID_RUNTIME_MODEL_FINGERPRINT_H

#include "runtime/model/weights.h"

#define LUCID_FINGERPRINT_MAX 128 /* bytes, with the NUL */

/* Of the configuration, of every weight and, where RoPE depends on it, of max_context. Weights that only stand in other
 * files or another dtype give the same text. Reads each weight once, as a decoded token does, and on one thread.
 * Errors: MEMORY. Local. */
lucid_status lucid_model_fingerprint(char text[LUCID_FINGERPRINT_MAX], const lucid_model *model, int64_t max_context);

/* Of what config.json says and weights do not show. Local. */
uint64_t lucid_model_config_hash(const lucid_model_config *c, int64_t max_context);

#endif
