/* A model while it is trained: its parameters in one array, and their gradients beside them.
 *
 * Every rank holds all parameters, and after a step they are the same bits everywhere. */
#ifndef LUCID_RUNTIME_TRAIN_TRAINEE_H
#define LUCID_RUNTIME_TRAIN_TRAINEE_H

#include "runtime/model/tensors.h"
#include "runtime/model/weights.h"

typedef struct {
    lucid_model_config config;
    int n_outputs; /* rows of lm_head; 0: vocab_size */
    /* Nothing but embedding, one attention layer's q, k and v projections, and lm_head: no norms, no o_proj, no
     * residual, no MLP. Needs n_heads * head_dim = hidden_size. The two-phase experiment is about such a layer. */
    bool bare;
    bool key_gain; /* bare, with LUCID attention: the keys' norm has a learned gain */
} lucid_trainee_config;

typedef struct {
    lucid_model model; /* its weights point into parameters; those that a bare model lacks are NULL */
    int n_outputs;
    bool bare;
    const float *key_gain;   /* (head_dim) into parameters; NULL: none */
    lucid_model_slot *slots; /* (n_slots) the tensors, by name */
    int64_t *first;          /* (n_slots + 1) where they begin in the arrays; multiples of 16, gaps are zero */
    int n_slots;
    int64_t n_floats;
    float *parameters; /* (n_floats) */
    double *gradients; /* (n_floats) exact sums */
} lucid_trainee;

/* Parameters are zero. Errors: USAGE for what cannot be trained (DeltaNet), MEMORY. Local. */
lucid_status lucid_trainee_create(lucid_trainee *trainee, const lucid_trainee_config *config);
void lucid_trainee_destroy(lucid_trainee *trainee); /* fine on zeros */

/* Elements of a slot's tensor. */
int64_t lucid_trainee_elements(const lucid_trainee *trainee, int slot);

/* Gradients of a weight of trainee->model; NULL for NULL. */
double *lucid_trainee_gradient(const lucid_trainee *trainee, const float *weight);

/* Gains 1, biases 0; convolutions 1 for the token itself and uniform within 1 / sqrt(width) for those before it; the
 * rest normal with deviation `deviation`, o_proj and down_proj less by sqrt(2 layers). A bare
 * model's projections are uniform within sqrt(6 / (inputs + outputs)), as its experiment has them. Each weight is a
 * function of the seed, its tensor's place among the slots and its index. */
void lucid_trainee_initialise(lucid_trainee *trainee, uint64_t seed, double deviation);

/* Then: attention that begins by finding what stood behind the last tokens when they stood there before, and by copying
 * it (after Trockman and Kolter's mimetic initialisation, arXiv 2305.09828). In each group of heads q_proj and k_proj
 * are copies of the first head's q_proj, o_proj is v_proj's transpose, less by sqrt(2 layers). Where there are
 * convolutions their taps are random signs over sqrt(width - 1), for the newest width - 1 tokens in the first head's
 * queries, and the same for those before the newest in keys and in the other heads' queries: those find their own
 * token, and so pass on what the values' convolutions gather. Not for a bare model. */
void lucid_trainee_match(lucid_trainee *trainee, uint64_t seed);

#endif
