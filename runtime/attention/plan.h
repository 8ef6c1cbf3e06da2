/* What the plan and the engine share beyond the public interface. */
#ifndef LUCID_RUNTIME_ATTENTION_PLAN_H
#define LUCID_RUNTIME_ATTENTION_PLAN_H

#include "runtime/attention/layout.h"

lucid_shape lucid_problem_shape(const lucid_problem *problem);

/* (row, key) pairs of the tokens first..last-1: token i has i + 1. */
double lucid_pairs(int64_t first, int64_t last);

/* Errors: USAGE with the offending number. */
lucid_status lucid_problem_check(const lucid_problem *problem);

/* Threads' scratch, key lists and staging rows. */
size_t lucid_attention_scratch_bytes(const lucid_problem *problem, const lucid_plan *plan, int threads);

#endif
