#include "runtime/eval/score.h"
#include "tests/check.h"

#include <string.h>

static double match(const char *answer, char *a, char *b) {
    return lucid_string_match_all(answer, strlen(answer), (char *[]){a, b}, b ? 2 : 1);
}

static void test_match(void) {
    CHECK(match("it is 1234567.", "1234567", NULL) == 1, "a number in a sentence");
    CHECK(match("it is 123 4567.", "1234567", NULL) == 0, "a number in two pieces");
    CHECK(match("Quiet-LAMP", "quiet-lamp", NULL) == 1 && match("quiet-lamp", "Quiet-LAMP", NULL) == 1, "case");
    CHECK(match("", "1", NULL) == 0, "no answer");
    CHECK(match("1", "12", NULL) == 0, "an answer that is too short");
    CHECK(match("xx12", "12", NULL) == 1 && match("12xx", "12", NULL) == 1, "at either end");
    CHECK(match("22 and 11", "11", "22") == 1, "both, in any order");
    CHECK(match("22 and 33", "11", "22") == 0.5, "one of two");
    CHECK(lucid_string_match_all("a\0b12", 5, (char *[]){"12"}, 1) == 1, "after a NUL");
    CHECK(lucid_string_match_all("1234", 2, (char *[]){"123"}, 1) == 0, "beyond the end");
}

/* Published values: Wilson's interval for 81 of 263 (Newcombe 1998, table I, method 3), 15 of 148, 0 of 20, 1 of 29;
 * to four decimals there. */
static void test_wilson(void) {
    static const struct {
        double sum;
        int n;
        double low, high;
    } published[] = {{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}};
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        double low, high;
        lucid_wilson(&low, &high, published[i].sum, published[i].n);
        CHECK_NEAR(low, published[i].low, 5e-5, "low of %g of %d", published[i].sum, published[i].n);
        CHECK_NEAR(high, published[i].high, 5e-5, "high of %g of %d", published[i].sum, published[i].n);
    }
    double low, high;
    lucid_wilson(&low, &high, 10, 10);
    CHECK(high == 1 && low > 0.7 && low < 0.73, "10 of 10: %g to %g", low, high);
    lucid_wilson(&low, &high, 0, 0);
    CHECK(low == 0 && high == 1, "0 of 0: %g to %g", low, high);
}

int main(void) {
    test_match();
    test_wilson();
    return check_result();
}
