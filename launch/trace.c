/* The format is Chrome's "Trace Event Format": complete events ("ph": "X") with times in microseconds. It is written as
 * a stream, since a tree of a long run's events would take many times their memory. Ranks' clocks start with their run,
 * which a collective begins, so rows are aligned to about a network latency. */
#include "launch/trace.h"

#include "launch/file.h"
#include "launch/report.h"

#include <inttypes.h>

static void write_event(FILE *f, const lucid_report_event *e, int rank) {
    fprintf(f,
            ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"channel\":%d,"
            "\"row\":%" PRId64 ",\"first\":%" PRId64 ",\"last\":%" PRId64 "}}",
            launch_phase_name(e->phase), rank, e->thread, 1e6 * e->begin, 1e6 * (e->end - e->begin), e->channel, e->row,
            e->first, e->last);
}

static void write_all(FILE *f, const lucid_rank_report *reports, int world_size) {
    fprintf(f, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    for (int rank = 0; rank < world_size; rank++)
        fprintf(f, "%s{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":\"rank %d\"}}",
                rank ? ",\n" : "", rank, rank);
    for (int rank = 0; rank < world_size; rank++)
        for (int64_t i = 0; i < reports[rank].n_events; i++) write_event(f, &reports[rank].events[i], rank);
    fprintf(f, "\n]}\n");
}

lucid_status launch_trace_write(const char *path, const lucid_rank_report *reports, int world_size) {
    launch_file file = {0};
    LUCID_TRY(launch_file_open(&file, path));
    write_all(file.stream, reports, world_size);
    return launch_file_commit(&file);
}
