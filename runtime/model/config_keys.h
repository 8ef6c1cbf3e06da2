/* config.json's and generation_config.json's keys, one table each; for config.c alone. */
#ifndef LUCID_RUNTIME_MODEL_CONFIG_KEYS_H
#define LUCID_RUNTIME_MODEL_CONFIG_KEYS_H

#include "runtime/model/config.h"
#include "runtime/model/json.h"

typedef enum { NO_FAMILY, LLAMA, QWEN3 } model_family;

/* config.json while it is read: what is decided only when all of it is known. */
typedef struct {
    lucid_model_config config;
    int family;          /* a model_family, as model_type or architectures says */
    double rope_theta;   /* the one outside rope_parameters; 0: not there */
    double rotary_share; /* the same of partial_rotary_factor; and the one inside */
    double inner_share;
    bool use_short_conv; /* DeltaNet's, and its size */
    int short_conv_size;
    int key_norm;         /* of no effect: there is one */
    bool use_beta;        /* DeltaNet always has it, the others never */
    const char *rope_key; /* rope_scaling or rope_parameters; NULL: neither */
} config_source;

typedef struct {
    const lucid_json_key *keys;
    int n_keys;
} lucid_config_table;

extern const lucid_config_table lucid_config_keys;     /* of a config_source */
extern const lucid_config_table lucid_generation_keys; /* of a lucid_model_config */

#endif
