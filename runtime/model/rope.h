/* Rotary position embeddings: what a configuration says of them, and the frequencies that follow.
 *
 * Every type of scaling only changes the inverse frequencies and, for yarn, a factor on cosines and sines; both are
 * fixed before the first token. `dynamic` would change them with the length of the text, which makes cached keys wrong;
 * here its base is fixed once, for the longest context that a run may reach. */
#ifndef LUCID_RUNTIME_MODEL_ROPE_H
#define LUCID_RUNTIME_MODEL_ROPE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    LUCID_ROPE_DEFAULT,
    LUCID_ROPE_LINEAR,
    LUCID_ROPE_DYNAMIC,
    LUCID_ROPE_YARN,
    LUCID_ROPE_LLAMA3
} lucid_rope_type;

typedef struct {
    int type;                                 /* lucid_rope_type */
    double theta;                             /* base of the frequencies, > 1 */
    double factor;                            /* all but default: how much the context grew, >= 1 */
    int original_max_position_embeddings;     /* yarn, llama3: the context before it grew */
    double low_freq_factor, high_freq_factor; /* llama3: low < high */
    double attention_factor;                  /* yarn: of cosines and sines; 0: derived */
    double beta_fast, beta_slow;              /* yarn: rotations that bound the ramp, fast >= slow > 0 */
    double mscale, mscale_all_dim;            /* yarn: of the derived attention factor; 0: not given */
    bool truncate;                            /* yarn: the ramp's bounds are whole dimensions */
} lucid_rope;

/* inv_freq (head_dim / 2): dimensions i and i + head_dim / 2 of the token at position p turn by p * inv_freq[i];
 * cosines and sines are multiplied by *attention_factor. The values are fp32 numbers, rounded where PyTorch rounds, for
 * that is what models were trained with. max_position_embeddings is the model's, max_context the most tokens this run
 * may see; only dynamic uses either. Pure. */
void lucid_rope_compute(double *inv_freq, double *attention_factor, const lucid_rope *rope, int head_dim,
                        int max_position_embeddings, int64_t max_context);

#endif
