/* lucid bench --decode. */
#ifndef LUCID_LAUNCH_BENCH_DECODE_H
#define LUCID_LAUNCH_BENCH_DECODE_H

#include "launch/options.h"

#include <jansson.h>

/* Measures one layer's decoding with each of count numbers of cached tokens, in fp32 and bf16; prints a header and a
 * row each on rank 0 and appends them to rows. Errors: INTERNAL when a result is wrong, besides. Collective; agreed. */
lucid_status launch_bench_decode(json_t *rows, const launch_options *options, lucid_comm *comm, const int64_t *cached,
                                 int count);

#endif
