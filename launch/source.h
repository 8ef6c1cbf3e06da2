/* Where q, k and v come from: a safetensors file or the random generator, behind one reader. */
#ifndef LUCID_LAUNCH_SOURCE_H
#define LUCID_LAUNCH_SOURCE_H

#include "launch/options.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/files/random.h"
#include "runtime/files/safetensors.h"
#include "runtime/lucid.h"

#define LAUNCH_N_INPUTS 3 /* LUCID_Q, LUCID_K, LUCID_V */

typedef struct {
    lucid_safetensors *file; /* NULL: random */
    const lucid_safetensors_tensor *tensors[LAUNCH_N_INPUTS];
    lucid_dtype dtypes[LAUNCH_N_INPUTS];
    lucid_random random;
    lucid_problem problem;
    bool batched;         /* the tensors have a batch dimension */
    lucid_digest *digest; /* takes in what is read; NULL: none */
} launch_source;

/* Opens and checks the input; problem is filled from it and from options. Errors: IO, INPUT. Local. */
lucid_status launch_source_open(launch_source *source, const launch_options *options);
/* A random input of seqlen tokens. Local. */
void launch_source_random(launch_source *source, const launch_options *options, int64_t seqlen);
void launch_source_close(launch_source *source); /* after open failed, too */

/* A lucid_reader; context is a launch_source. */
lucid_status launch_source_read(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                                int n_tokens);

/* Loads q, k and v into attention. Local. */
lucid_status launch_source_load(launch_source *source, lucid_attention *attention);

/* Heads and row width of any tensor of a problem, and the row of a token: the tensor seen as (batch * heads * seqlen)
 * rows. */
int launch_tensor_heads(const lucid_problem *problem, lucid_tensor tensor);
int launch_tensor_dim(const lucid_problem *problem, lucid_tensor tensor);
int64_t launch_tensor_row(const lucid_problem *problem, lucid_tensor tensor, int batch, int head, int64_t token);

/* "fp32", "bf16", "fp16". */
const char *launch_dtype_name(lucid_dtype dtype);

#endif
