#include "runtime/eval/score.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static int holds(const char *text, size_t n_bytes, const char *wanted) {
    const size_t n = strlen(wanted);
    for (size_t i = 0; n <= n_bytes && i <= n_bytes - n; i++)
        if (!strncasecmp(text + i, wanted, n)) return 1;
    return 0;
}

double lucid_string_match_all(const char *answer, size_t n_bytes, char *const *outputs, int n_outputs) {
    int found = 0;
    for (int i = 0; i < n_outputs; i++) found += holds(answer, n_bytes, outputs[i]);
    return (double)found / n_outputs;
}

void lucid_wilson(double *low, double *high, double sum, int64_t n) {
    const double z = 1.959963984540054, z2 = z * z; /* of the normal distribution, 97.5 % lie below */
    *low = 0;
    *high = 1;
    if (n == 0) return;
    const double trials = (double)n, p = sum / trials;
    const double middle = (p + z2 / (2 * trials)) / (1 + z2 / trials);
    const double half = z / (1 + z2 / trials) * sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials));
    if (p > 0) *low = middle - half; /* exactly 0 and 1 at the ends, where rounding would leave dust */
    if (p < 1) *high = middle + half;
}
