/* Drives requests to their end, for tests. */
#ifndef LUCID_TESTS_COMM_DRIVE_H
#define LUCID_TESTS_COMM_DRIVE_H

#include "comm/comm.h"
#include "tests/check.h"

#include <sched.h>
#include <stdlib.h>

/* Stops the test where going on would only hang the other ranks. */
#define REQUIRE(call)                                                                                      \
    do {                                                                                                   \
        const lucid_status require_status_ = (call);                                                       \
        if (require_status_) {                                                                             \
            fprintf(stderr, "%s:%d: %s: status %d: %s\n", __FILE__, __LINE__, #call, (int)require_status_, \
                    lucid_failure());                                                                      \
            exit(1);                                                                                       \
        }                                                                                                  \
    } while (0)

static inline void drive(lucid_comm *comm, int n, lucid_request **requests) {
    for (int left = n; left > 0; sched_yield())
        for (int r = 0; r < n; r++) {
            bool done = false;
            if (!requests[r]) continue;
            REQUIRE(lucid_comm_test(comm, requests[r], &done));
            if (!done) continue;
            requests[r] = NULL;
            left--;
        }
}

#endif
