#include "launch/progress.h"

#include "comm/clock.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

launch_progress launch_progress_make(int mode, int rank, double flops) {
    bool terminal = isatty(STDERR_FILENO);
    return (launch_progress){
        .on = rank == 0 && (mode == PROGRESS_ALWAYS || (mode == PROGRESS_AUTO && terminal)),
        .terminal = terminal,
        .delay = mode == PROGRESS_ALWAYS ? 0 : 2,
        .flops = flops,
    };
}

void launch_progress_begin(launch_progress *progress) {
    progress->started = lucid_clock();
    progress->printed = 0;
    progress->shown = false;
}

/* Is it time for a line? */
static bool is_due(const launch_progress *p, double t, double share) {
    const double interval = p->terminal ? 0.2 : 2; /* a log file keeps every line */
    return p->on && t - p->started >= p->delay && t - p->printed >= interval && share > 0;
}

static void print(launch_progress *p, double t, double share, const char *text) {
    p->printed = t;
    p->shown = true;
    fprintf(stderr, "%slucid: %5.1f %%  %s  %.0f s left%s", p->terminal ? "\r" : "", 100 * share, text,
            (t - p->started) * (1 - share) / share, p->terminal ? "\033[K" : "\n");
    fflush(stderr);
}

void launch_progress_show(launch_progress *progress, double share, const char *text) {
    const double t = lucid_clock();
    if (is_due(progress, t, share)) print(progress, t, share, text);
}

void launch_progress_update(void *context, double share) {
    launch_progress *p = context;
    const double t = lucid_clock();
    char text[40];
    if (!is_due(p, t, share)) return;
    snprintf(text, sizeof text, "%8.1f Gflop/s", 1e-9 * p->flops * share / (t - p->started));
    print(p, t, share, text);
}

void launch_progress_end(launch_progress *progress) {
    if (progress->shown && progress->terminal) fprintf(stderr, "\r\033[K");
    fflush(stderr);
}
