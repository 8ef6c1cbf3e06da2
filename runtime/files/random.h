/* Random inputs that do not depend on who makes them: each element is a pure function of the seed and of its own
 * coordinates (tensor, batch, head, token, column), computed with the counter-based generator Philox4x32-10 (Salmon et
 * al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC11). Any rank makes any rows, in any order, alike.
 *
 * Normal variates come from Box-Muller with a logarithm, sine and cosine of our own, made of + - * / and sqrt in double
 * only, so the bits are also the same on every IEEE machine, whatever its libm.
 */
#ifndef LUCID_RUNTIME_FILES_RANDOM_H
#define LUCID_RUNTIME_FILES_RANDOM_H

#include "runtime/lucid.h"

/* How keys are drawn; queries and values are always standard normal. */
typedef enum {
    LUCID_RANDOM_NORMAL,    /* standard normal */
    LUCID_RANDOM_CLUSTERED, /* sqrt(rho) c_z + sqrt(1 - rho) e: one of n_centres c per batch and head, z drawn per token
                             */
    LUCID_RANDOM_COINCIDENT, /* b + 0.01 e: one b per batch and head, so keys are equal up to 1 % */
} lucid_random_kind;

typedef struct {
    uint64_t seed;
    lucid_random_kind kind;
    int n_centres;      /* CLUSTERED; 0: 16 */
    double correlation; /* CLUSTERED; rho, 0..1 */
} lucid_random;

/* rows (n_tokens, dim) of dtype = tokens first..first+n_tokens-1 of tensor LUCID_Q, LUCID_K or LUCID_V. The fp32 value
 * is rounded where dtype is narrower. dim is at most 256; coordinates are told apart below 2^48 tokens and 2^24 heads.
 * Local.
 */
void lucid_random_rows(void *rows, lucid_dtype dtype, const lucid_random *random, lucid_tensor tensor, int batch,
                       int head, int64_t first, int n_tokens, int dim);

/* The generator itself: 128 random bits for a counter under a key. */
void lucid_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

#endif
