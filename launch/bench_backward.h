/* lucid bench --backward. */
#ifndef LUCID_LAUNCH_BENCH_BACKWARD_H
#define LUCID_LAUNCH_BENCH_BACKWARD_H

#include "launch/source.h"

#include <jansson.h>

/* Rank 0: what the rows mean. */
void launch_bench_backward_header(const launch_options *options, const lucid_comm *comm);

/* Measures forward and backward over the source; prints a row on rank 0 and appends it to rows. Errors: INTERNAL when
 * the gradients fail their check, besides. Collective; agreed. */
lucid_status launch_bench_backward(json_t *rows, const launch_options *options, lucid_comm *comm,
                                   launch_source *source);

#endif
