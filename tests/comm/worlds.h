/* The two worlds of tests that compare results of many ranks with those of one: all ranks, and each rank alone. */
#ifndef LUCID_TESTS_COMM_WORLDS_H
#define LUCID_TESTS_COMM_WORLDS_H

#include "tests/comm/drive.h"

static inline void worlds_open(lucid_comm **all, lucid_comm **alone) {
    REQUIRE(lucid_comm_open(all, &(lucid_comm_options){.timeout = 60}));
    REQUIRE(lucid_comm_open(alone, &(lucid_comm_options){.transport = "self"}));
}

/* The program's exit code. */
static inline int worlds_close(lucid_comm *all, lucid_comm *alone) {
    const int result = check_result();
    lucid_comm_close(alone);
    lucid_comm_close(all);
    return result;
}

#endif
