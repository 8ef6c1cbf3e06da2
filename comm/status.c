/* The process's first failure. The first detector knows most, so its line is kept and later ones are dropped. */
#include "comm/comm.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

enum { EMPTY, WRITING, WRITTEN };

static atomic_int state = EMPTY;
static char line[512];

lucid_status lucid_fail(lucid_status status, const char *format, ...) {
    int expected = EMPTY;
    if (!atomic_compare_exchange_strong(&state, &expected, WRITING)) return status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    atomic_store(&state, WRITTEN);
    return status;
}

const char *lucid_failure(void) {
    return atomic_load(&state) == WRITTEN ? line : "";
}
