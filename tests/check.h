/* Assertions for test programs: a failure prints both values, the place and the tolerance, and the program exits 1 at
 * its end, after all checks ran. A test that cannot run here returns LUCID_TEST_SKIP with its reason on stdout. */
#ifndef LUCID_TESTS_CHECK_H
#define LUCID_TESTS_CHECK_H

#include <math.h>
#include <stdio.h>

#define LUCID_TEST_SKIP 77

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static int check_failures;

#define CHECK(condition, ...)                                               \
    do {                                                                    \
        if (!(condition)) {                                                 \
            check_failures++;                                               \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                   \
            fputc('\n', stderr);                                            \
        }                                                                   \
    } while (0)

/* |got - want| <= tolerance; NaN fails. */
#define CHECK_NEAR(got, want, tolerance, ...)                                                                \
    do {                                                                                                     \
        double got_ = (got), want_ = (want), tolerance_ = (tolerance);                                       \
        if (!(fabs(got_ - want_) <= tolerance_)) {                                                           \
            check_failures++;                                                                                \
            fprintf(stderr, "%s:%d: got %.9g, want %.9g, tolerance %.3g: ", __FILE__, __LINE__, got_, want_, \
                    tolerance_);                                                                             \
            fprintf(stderr, __VA_ARGS__);                                                                    \
            fputc('\n', stderr);                                                                             \
        }                                                                                                    \
    } while (0)

static inline int check_result(void) {
    if (check_failures) fprintf(stderr, "%d checks failed\n", check_failures);
    return check_failures ? 1 : 0;
}

#endif
