/* Many threads fail at once: one line is kept, whole, and never changes. */
#include "comm/comm.h"
#include "tests/check.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#define N_THREADS 8

static pthread_barrier_t start;

static void *fail(void *argument) {
    const int t = (int)(intptr_t)argument;
    pthread_barrier_wait(&start);
    for (int i = 0; i < 1000; i++)
        if (lucid_fail(LUCID_ERR_IO, "thread %d failed %d times, said thread %d", t, i, t) != LUCID_ERR_IO)
            return argument;
    return NULL;
}

int main(void) {
    pthread_t threads[N_THREADS];
    pthread_barrier_init(&start, NULL, N_THREADS);
    for (int t = 0; t < N_THREADS; t++) pthread_create(&threads[t], NULL, fail, (void *)(intptr_t)t);
    for (int t = 0; t < N_THREADS; t++) {
        void *wrong;
        pthread_join(threads[t], &wrong);
        CHECK(!wrong, "thread %d was given another status than its own", t);
    }
    int first = -1, times = -1, again = -2;
    const int fields = sscanf(lucid_failure(), "thread %d failed %d times, said thread %d", &first, &times, &again);
    CHECK(fields == 3 && first == again && times == 0, "recorded: %s", lucid_failure());
    return check_result();
}
