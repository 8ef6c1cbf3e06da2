/* The table of kernel sets, and exp2's accuracy as it shows through the contract. */
#include "tests/kernels/fixture.h"

static const char *const names[] = {"avx512", "avx2", "scalar"};

/* The first processor's flags as the operating system lists them, between blanks. */
static const char *processor_flags(void) {
    static char line[1 << 14];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "flags", 5) == 0) break;
    if (file) fclose(file);
    line[strcspn(line, "\n")] = ' ';
    return line;
}

/* What a set needs, asked of the operating system and not of the set. */
static bool processor_has(const char *const *needed) {
    const char *flags = processor_flags();
    for (char flag[32]; *needed; needed++) {
        snprintf(flag, sizeof flag, " %s ", *needed);
        if (!strstr(flags, flag)) return false;
    }
    return true;
}

/* Whatever else is tested here runs through the sets that say they are supported. */
static void check_supported(void) {
    static const char *const needed[][8] = {
        {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "bmi2"}, {"avx2", "fma", "bmi1", "bmi2"}, {NULL}};
    int count;
    const lucid_kernels *const *table = lucid_kernels_table(&count);
    CHECK(strstr(processor_flags(), " sse2 "), "/proc/cpuinfo has no flags");
    for (int s = 0; s < count && s < COUNT(needed); s++)
        CHECK(table[s]->supported() == processor_has(needed[s]), "%s: /proc/cpuinfo says %d", table[s]->isa,
              processor_has(needed[s]));
}

/* What is timed: flops grow with the rounds, and a read sees all of its bytes (of each 64 one number, which is in a
 * vector's lane 0 whatever its width). */
static void check_bursts(const lucid_kernels *set) {
    enum { N_FLOATS = 5 * 256, LINE = 16 };
    float *x = allocate_floats(N_FLOATS + LINE);
    for (int i = 0; i < N_FLOATS + LINE; i++) x[i] = i % LINE == 0;
    CHECK(set->read_burst(x, N_FLOATS * sizeof *x) == N_FLOATS / LINE, "%s reads %g of %d lines", set->isa,
          set->read_burst(x, N_FLOATS * sizeof *x), N_FLOATS / LINE);
    CHECK(set->fma_burst(1) > 0 && set->fma_burst(200) == 200 * set->fma_burst(1), "%s: %g flops in 200 rounds of %g",
          set->isa, set->fma_burst(200), set->fma_burst(1));
    free(x);
}

static void check_table(void) {
    int count;
    const lucid_kernels *const *table = lucid_kernels_table(&count), *best = NULL;
    CHECK(count == 3, "%d sets", count);
    for (int s = 0; s < count; s++) {
        bool here = table[s]->supported();
        CHECK(strcmp(table[s]->isa, names[s]) == 0, "set %d is %s", s, table[s]->isa);
        CHECK(lucid_kernels_find(names[s]) == (here ? table[s] : NULL), "%s, supported %d", names[s], here);
        if (!best && here) best = table[s];
        if (here) check_bursts(table[s]);
    }
    CHECK(lucid_kernels_find("auto") == best, "auto is not the best");
    CHECK(lucid_kernels_find("scalar") != NULL, "scalar must run anywhere");
    CHECK(lucid_kernels_find("neon") == NULL && lucid_kernels_find("") == NULL, "an unknown name was found");
}

/* Head dimension 1, q = 1, values the identity: o_ij = exp2(k_j - m_i), the subtraction rounded once. 64 x 64 arguments
 * x = high - j step - i step / 64. */
static double worst_ulps(const lucid_kernels *set, lucid_precision precision, double high, double step) {
    lucid_shape s = lucid_shape_make(1, GRANULE);
    float *state = allocate_floats(lucid_state_floats(s)), *record = allocate_floats(lucid_record_floats(s));
    float *scratch = allocate_floats(lucid_kernels_scratch_floats(s)), qt[GRANULE] __attribute__((aligned(64)));
    const float *keys[] = {record};
    double worst = 0;
    memset(state, 0, sizeof(float) * lucid_state_floats(s));
    memset(record, 0, sizeof(float) * lucid_record_floats(s));
    for (int i = 0; i < GRANULE; i++) {
        qt[i] = 1;
        state[i] = (float)(i * step / GRANULE);
        record[i] = (float)(high - i * step);
        record[lucid_record_values(s) + i * GRANULE + i] = 1;
    }
    set->attend(state, qt, keys, 1, false, precision, 1, s, scratch);
    for (int i = 0; i < GRANULE; i++)
        for (int j = 0; j < GRANULE; j++) {
            float got = state[2 * GRANULE + i * GRANULE + j], x = record[j] - (float)(i * step / GRANULE);
            double want = exp2(x), ulp = exp2(fmax(floor(x), -126) - 23);
            bool tiny = want < 0x1.0001p-126; /* denormals may be flushed */
            double apart = tiny ? (got >= 0 && got <= 0x1.0002p-126 ? 0 : INFINITY) : fabs(got - want) / ulp;
            if (!(apart <= worst)) worst = isnan(apart) ? INFINITY : apart;
        }
    free(state);
    free(record);
    free(scratch);
    return worst;
}

/* 2.6 ulp is what an exhaustive search over the polynomials' range gave; the scalar set rounds products, too. */
static void check_exp2(const lucid_kernels *set) {
    double bound = strcmp(set->isa, "scalar") == 0 ? 3 : 2.6, worst = 0;
    for (int k = 0; k < 100; k++) {
        worst = fmax(worst, worst_ulps(set, LUCID_FAST, 1 - k * 0.37, 0.0173 + k * 1e-4));
        worst = fmax(worst, worst_ulps(set, LUCID_FAST, 33 - k * 0.01,
                                       2.9 + k * 0.01)); /* down to below the smallest normal number */
    }
    CHECK(worst <= bound, "%s: exp2 is off by %.2f ulp, bound %.2f", set->isa, worst, bound);
    CHECK(worst_ulps(set, LUCID_FAST, -126, 1e3) <= bound && worst_ulps(set, LUCID_FAST, -1e30, 1e28) <= bound,
          "%s: far exponents", set->isa);
    /* Halfway between two integers, where an argument's rounding and its fraction's must go the same way. */
    worst = fmax(worst_ulps(set, LUCID_FAST, 9.5, 1), worst_ulps(set, LUCID_EXACT, 9.5, 1));
    CHECK(worst <= bound, "%s: exp2 at halves is off by %.2f ulp", set->isa, worst);
}

int main(void) {
    check_supported();
    check_table();
    FOR_EACH_SET(set) check_exp2(set);
    return check_result();
}
