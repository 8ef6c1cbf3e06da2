/* bf16 and fp16 conversions, over every 16-bit pattern and the midpoints between neighbours, against values computed
 * here from the formats' definitions with ldexp, not with bits. */
#include "runtime/files/half.h"
#include "tests/check.h"

#include <string.h>

typedef struct {
    const char *name;
    int exponent_bits, mantissa_bits;
    uint16_t (*narrow)(float);
    float (*widen)(uint16_t);
} format;

static const format formats[] = {
    {"bf16", 8, 7, lucid_bf16_from_f32, lucid_f32_from_bf16},
    {"fp16", 5, 10, lucid_f16_from_f32, lucid_f32_from_f16},
};

/* The magnitude that exponent and mantissa fields stand for; where the format has Inf, the power of two that would
 * follow. */
static double magnitude(const format *f, int exponent, int mantissa) {
    const int bias = (1 << (f->exponent_bits - 1)) - 1;
    if (exponent == 0) return ldexp(mantissa, 1 - bias - f->mantissa_bits);
    return ldexp((1 << f->mantissa_bits) + mantissa, exponent - bias - f->mantissa_bits);
}

static uint16_t encode(const format *f, int sign, int code) {
    return (uint16_t)(sign << (f->exponent_bits + f->mantissa_bits) | code);
}

/* The code of a finite magnitude, the midpoint above it and the floats beside the midpoint. */
static void check_neighbourhood(const format *f, int sign, int code) {
    const int mask = (1 << f->mantissa_bits) - 1;
    const double low = magnitude(f, code >> f->mantissa_bits, code & mask);
    const double high = magnitude(f, (code + 1) >> f->mantissa_bits, (code + 1) & mask);
    const double unit = sign ? -1 : 1;
    const float value = (float)(unit * low), middle = (float)(unit * (low + high) / 2);
    const uint16_t here = encode(f, sign, code), above = encode(f, sign, code + 1);
    const float got = f->widen(here);
    CHECK(got == value && !signbit(got) == !sign, "%s %04x widens to %g, want %g", f->name, here, got, value);
    CHECK(f->narrow(value) == here, "%s %g narrows to %04x, want %04x", f->name, value, f->narrow(value), here);
    const uint16_t even = code % 2 ? above : here;
    CHECK(f->narrow(middle) == even, "%s tie %g narrows to %04x, want %04x", f->name, middle, f->narrow(middle), even);
    const float below_middle = nextafterf(middle, 0), above_middle = nextafterf(middle, sign ? -INFINITY : INFINITY);
    CHECK(f->narrow(below_middle) == here, "%s %.9g narrows to %04x", f->name, below_middle, f->narrow(below_middle));
    CHECK(f->narrow(above_middle) == above, "%s %.9g narrows to %04x", f->name, above_middle, f->narrow(above_middle));
}

static void check_special(const format *f, int sign, int code) {
    const int infinity = ((1 << f->exponent_bits) - 1) << f->mantissa_bits;
    const uint16_t here = encode(f, sign, code);
    const float value = f->widen(here);
    CHECK(!signbit(value) == !sign, "%s %04x loses its sign", f->name, here);
    if (code == infinity) {
        CHECK(isinf(value), "%s %04x widens to %g", f->name, here, value);
        CHECK(f->narrow(value) == here, "%s Inf narrows to %04x", f->name, f->narrow(value));
    } else {
        const uint16_t quiet = (uint16_t)(here | 1 << (f->mantissa_bits - 1));
        CHECK(isnan(value), "%s %04x widens to %g", f->name, here, value);
        CHECK(f->narrow(value) == quiet, "%s NaN %04x narrows to %04x", f->name, here, f->narrow(value));
    }
}

static void test_all_patterns(const format *f) {
    const int infinity = ((1 << f->exponent_bits) - 1) << f->mantissa_bits;
    for (int sign = 0; sign < 2; sign++) {
        for (int code = 0; code < 1 << 15; code++) {
            if (code < infinity)
                check_neighbourhood(f, sign, code);
            else
                check_special(f, sign, code);
        }
    }
}

/* A NaN whose payload lies only in the bits that are dropped must not become Inf; the largest floats must. */
static void test_extremes(void) {
    const uint32_t low_payload = 0x7f800001;
    float nan_value;
    memcpy(&nan_value, &low_payload, sizeof nan_value);
    CHECK(lucid_bf16_from_f32(nan_value) == 0x7fc0, "bf16 %04x", lucid_bf16_from_f32(nan_value));
    CHECK(lucid_f16_from_f32(nan_value) == 0x7e00, "fp16 %04x", lucid_f16_from_f32(nan_value));
    CHECK(lucid_bf16_from_f32(3.4028235e38f) == 0x7f80, "bf16 of the largest float");
    CHECK(lucid_f16_from_f32(-3.4028235e38f) == 0xfc00, "fp16 of the lowest float");
    CHECK(lucid_f16_from_f32(65536) == 0x7c00, "fp16 of 2^16");
    CHECK(lucid_f16_from_f32(1e-45f) == 0 && lucid_f16_from_f32(-1e-45f) == 0x8000, "fp16 of the least float");
}

static void test_arrays(void) {
    const float x[3] = {1, -2.5f, 0.1f};
    const lucid_dtype dtypes[] = {LUCID_F32, LUCID_BF16, LUCID_F16};
    const double tolerance[] = {0, 0.1 / 256, 0.1 / 2048}; /* half a place of 0.1 */
    for (int i = 0; i < 3; i++) {
        float stored[4] = {0}, back[3];
        lucid_narrow(stored, dtypes[i], x, 3);
        lucid_widen(back, stored, dtypes[i], 3);
        for (int j = 0; j < 3; j++) CHECK_NEAR(back[j], x[j], tolerance[i], "dtype %d element %d", i, j);
    }
}

int main(void) {
    test_all_patterns(&formats[0]);
    test_all_patterns(&formats[1]);
    test_extremes();
    test_arrays();
    return check_result();
}
