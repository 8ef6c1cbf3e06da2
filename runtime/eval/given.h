/* Samples as lm-evaluation-harness keeps them: one JSON object a line with index, input, outputs, length, max_length
 * and gen_prefix. The lines of its sample logs, which have all this in "doc", do as well. Local. */
#ifndef LUCID_RUNTIME_EVAL_GIVEN_H
#define LUCID_RUNTIME_EVAL_GIVEN_H

#include "runtime/eval/niah.h"

#include <stdio.h>

typedef struct {
    lucid_niah_sample *items; /* (n), each with one question */
    int64_t n;
} lucid_niah_samples;

/* Of text (n_bytes); path is for messages. Free also after a failure. Errors: INPUT naming line and key, MEMORY. */
lucid_status lucid_niah_samples_parse(lucid_niah_samples *samples, const char *text, size_t n_bytes, const char *path);
void lucid_niah_samples_free(lucid_niah_samples *samples); /* fine on zeros */

/* A line for each question of the sample. Errors: MEMORY; stream's own are left to the caller. */
lucid_status lucid_niah_sample_write(FILE *stream, const lucid_niah_sample *sample);

#endif
