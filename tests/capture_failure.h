/* For tests that provoke many failures in one process: the library keeps only the first line, so this recorder takes
 * lucid_fail's place at link time and keeps the last. Include it in the test's one source file. */
#ifndef LUCID_TESTS_CAPTURE_FAILURE_H
#define LUCID_TESTS_CAPTURE_FAILURE_H

#include "comm/comm.h"
#include "tests/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char last_failure[2048];

lucid_status lucid_fail(lucid_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_failure, sizeof last_failure, format, arguments);
    va_end(arguments);
    return status;
}

const char *lucid_failure(void) {
    return last_failure;
}

/* The call failed with this status and one line that has the fragment in it. */
static inline void check_failed(lucid_status got, lucid_status want, const char *fragment) {
    CHECK(got == want, "status %d, want %d, for a failure about '%s'", (int)got, (int)want, fragment);
    CHECK(strstr(last_failure, fragment), "the line is '%s', want '%s' in it", last_failure, fragment);
    CHECK(!strpbrk(last_failure, "\r\n"), "more than one line: '%s'", last_failure);
    last_failure[0] = '\0';
}

#endif
