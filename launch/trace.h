/* A run's events as a Chrome trace (chrome://tracing, Perfetto): one process a rank, one row a thread. */
#ifndef LUCID_LAUNCH_TRACE_H
#define LUCID_LAUNCH_TRACE_H

#include "comm/messages.h"

/* Errors: IO. Local. */
lucid_status launch_trace_write(const char *path, const lucid_rank_report *reports, int world_size);

#endif
