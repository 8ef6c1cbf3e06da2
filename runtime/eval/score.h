/* What answers are worth. Pure. */
#ifndef LUCID_RUNTIME_EVAL_SCORE_H
#define LUCID_RUNTIME_EVAL_SCORE_H

#include <stddef.h>
#include <stdint.h>

/* lm-evaluation-harness's string_match_all for one answer: the share of the outputs (n_outputs, at least 1) that it
 * holds, the case of A to Z ignored. */
double lucid_string_match_all(const char *answer, size_t n_bytes, char *const *outputs, int n_outputs);

/* Wilson's interval, at 95 %, of a share whose n trials sum to `sum`, 0 <= sum <= n. n = 0: all of 0..1. */
void lucid_wilson(double *low, double *high, double sum, int64_t n);

#endif
