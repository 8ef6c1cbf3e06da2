/* Ends the process when a blocking call outlasts its deadline: MPI's start and end, and libraries that use MPI on
 * their own, cannot be tested or given up, only left. A thread of its own watches, so nobody's signals or timers are
 * touched. */
#ifndef LUCID_COMM_WATCHDOG_H
#define LUCID_COMM_WATCHDOG_H

#include <pthread.h>
#include <stdbool.h>

typedef struct {
    const char *call; /* what is watched, for the line that is printed; NULL: none */
    double seconds;
    bool started, stopped;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} lucid_watchdog;

/* Prints "lucid: [host] <call> did not return within <seconds> s" and exits 1 a few seconds later unless stopped in
 * time. Where call is NULL it exits at once without a word. Without a thread to be had nothing is watched. */
void lucid_watchdog_start(lucid_watchdog *watchdog, const char *call, double seconds);
void lucid_watchdog_stop(lucid_watchdog *watchdog);

#endif
