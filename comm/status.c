/* The process's first failure. The first detector knows most, so its line is kept and later ones are dropped. */
#include "comm/comm.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

enum { EMPTY, WRITING, WRITTEN };

static atomic_int state = EMPTY;
static char line[512];
static _Thread_local struct {
    char *line;
    size_t n_bytes;
} diverted;

void lucid_failure_divert(char *to, size_t n_bytes) {
    diverted.line = to;
    diverted.n_bytes = n_bytes;
    if (to) to[0] = '\0';
}

lucid_status lucid_fail(lucid_status status, const char *format, ...) {
    int expected = EMPTY;
    const bool divert = diverted.line != NULL;
    if (divert ? diverted.line[0] != '\0' : !atomic_compare_exchange_strong(&state, &expected, WRITING)) return status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(divert ? diverted.line : line, divert ? diverted.n_bytes : sizeof line, format, arguments);
    va_end(arguments);
    if (!divert) atomic_store(&state, WRITTEN);
    return status;
}

const char *lucid_failure(void) {
    return atomic_load(&state) == WRITTEN ? line : "";
}
