#include "comm/watchdog.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_SECONDS 5

static struct timespec time_after(double seconds) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const double whole = floor(seconds);
    t.tv_sec += (time_t)whole;
    t.tv_nsec += (long)((seconds - whole) * 1e9);
    if (t.tv_nsec >= 1000000000L) {
        t.tv_nsec -= 1000000000L;
        t.tv_sec++;
    }
    return t;
}

/* exit() would run handlers that may wait for the very call that hangs. The launcher is left some time to end the job,
 * if it knows better what is wrong: see the end in heart.c. */
static void end_process(const lucid_watchdog *w) {
    if (!w->call) _exit(1);
    char host[64] = "", line[256];
    gethostname(host, sizeof host - 1);
    const int length =
        snprintf(line, sizeof line, "lucid: [%s] %s did not return within %g s\n", host, w->call, w->seconds);
    if (write(STDERR_FILENO, line, (size_t)length) < 0) _exit(1);
    sleep(PATIENCE_SECONDS);
    _exit(1);
}

static void *watch(void *argument) {
    lucid_watchdog *w = argument;
    const struct timespec deadline = time_after(w->seconds);
    pthread_mutex_lock(&w->lock);
    int waited = 0;
    while (!w->stopped && waited != ETIMEDOUT)
        waited = pthread_cond_clockwait(&w->wake, &w->lock, CLOCK_MONOTONIC, &deadline);
    if (!w->stopped) end_process(w);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

void lucid_watchdog_start(lucid_watchdog *w, const char *call, double seconds) {
    *w = (lucid_watchdog){.call = call, .seconds = seconds};
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    w->started = pthread_create(&w->thread, NULL, watch, w) == 0;
}

void lucid_watchdog_stop(lucid_watchdog *w) {
    pthread_mutex_lock(&w->lock);
    w->stopped = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    if (w->started) pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
}
