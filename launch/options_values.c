/* Values from text, and text from values. */
#include "launch/options_table.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 2^10, 2^20, ... for a suffix; 1 for none; 0 for something else. */
static int64_t suffix_unit(const char *suffix) {
    static const char letters[] = "KMGT";
    if (!*suffix) return 1;
    const char *letter = strchr(letters, *suffix & ~0x20); /* upper case */
    return letter && *letter && !suffix[1] ? INT64_C(1) << 10 * (letter - letters + 1) : 0;
}

lucid_status launch_parse_integer(int64_t *number, const char *what, const char *text, int64_t min, int64_t max) {
    char *end;
    errno = 0;
    long long mantissa = strtoll(text, &end, 10);
    int64_t unit = end == text ? 0 : suffix_unit(end), value;
    if (!unit) return lucid_fail(LUCID_ERR_USAGE, "%s: '%s' is not a whole number", what, text);
    if (errno == ERANGE || __builtin_mul_overflow(mantissa, unit, &value) || value < min || value > max)
        return lucid_fail(LUCID_ERR_USAGE, "%s: %s is not between %" PRId64 " and %" PRId64, what, text, min, max);
    *number = value;
    return LUCID_OK;
}

lucid_status launch_parse_integers(int64_t *numbers, int *n, int n_max, const char *what, const char *text, int64_t min,
                                   int64_t max) {
    char *copy = strdup(text), *rest = copy;
    lucid_status status = copy ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory");
    *n = 0;
    for (char *one; !status && (one = strsep(&rest, ","));)
        if (*n == n_max)
            status = lucid_fail(LUCID_ERR_USAGE, "%s: more than %d numbers", what, n_max);
        else
            status = launch_parse_integer(&numbers[(*n)++], what, one, min, max);
    free(copy);
    return status;
}

static lucid_status parse_real(double *number, const launch_option *o, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return lucid_fail(LUCID_ERR_USAGE, "--%s: '%s' is not a number", o->name, text);
    if (value < o->min || value > o->max)
        return lucid_fail(LUCID_ERR_USAGE, "--%s: %s is not between %g and %g", o->name, text, o->min, o->max);
    *number = value;
    return LUCID_OK;
}

/* Position of text's first n characters among the choices, -1 when absent. */
static int choice_find(const char *choices, const char *text, size_t n) {
    for (int i = 0;; i++) {
        size_t length = strcspn(choices, "|");
        if (length == n && memcmp(choices, text, n) == 0) return i;
        if (!choices[length]) return -1;
        choices += length + 1;
    }
}

static lucid_status choice_fail(const launch_option *o, const char *text, size_t n) {
    return lucid_fail(LUCID_ERR_USAGE, "--%s: '%.*s' is none of %s", o->name, (int)n, text, o->choices);
}

static lucid_status parse_choice(int *value, const launch_option *o, const char *text) {
    int i = choice_find(o->choices, text, strlen(text));
    if (i < 0) return choice_fail(o, text, strlen(text));
    *value = i;
    return LUCID_OK;
}

static lucid_status parse_set(int *value, const launch_option *o, const char *text) {
    int bits = 0;
    for (;; text++) {
        size_t n = strcspn(text, ",");
        int i = choice_find(o->choices, text, n);
        if (i < 0) return choice_fail(o, text, n);
        bits |= 1 << i;
        text += n;
        if (!*text) break;
    }
    *value = bits;
    return LUCID_OK;
}

static lucid_status add_text(launch_texts *texts, const launch_option *o, const char *text) {
    if (!*text) return lucid_fail(LUCID_ERR_USAGE, "--%s: empty value", o->name);
    if (texts->n == LAUNCH_MAX_TEXTS)
        return lucid_fail(LUCID_ERR_USAGE, "--%s: given more than %d times", o->name, LAUNCH_MAX_TEXTS);
    texts->items[texts->n++] = text;
    return LUCID_OK;
}

lucid_status launch_option_set(const launch_option *o, launch_options *options, const char *text) {
    char what[OPTION_TEXT_MAX];
    switch (o->kind) {
    case FLAG:
        *(bool *)launch_option_field(o, options) = true;
        return LUCID_OK;
    case NAME:
        if (choice_find(o->choices, text, strlen(text)) < 0) return choice_fail(o, text, strlen(text));
        *(const char **)launch_option_field(o, options) = text;
        return LUCID_OK;
    case TEXT:
    case PROSE:
        if (!*text && o->kind == TEXT) return lucid_fail(LUCID_ERR_USAGE, "--%s: empty value", o->name);
        *(const char **)launch_option_field(o, options) = text;
        return LUCID_OK;
    case INTEGER:
        snprintf(what, sizeof what, "--%s", o->name);
        return launch_parse_integer(launch_option_field(o, options), what, text, (int64_t)o->min, (int64_t)o->max);
    case REAL:
        return parse_real(launch_option_field(o, options), o, text);
    case CHOICE:
        return parse_choice(launch_option_field(o, options), o, text);
    case SET:
        return parse_set(launch_option_field(o, options), o, text);
    case TEXTS:
        return add_text(launch_option_field(o, options), o, text);
    }
    return lucid_fail(LUCID_ERR_INTERNAL, "--%s: option of unknown kind", o->name);
}

static const char *choice_text(char *text, const char *choices, int index) {
    for (; index > 0; index--) choices += strcspn(choices, "|") + 1;
    snprintf(text, OPTION_TEXT_MAX, "%.*s", (int)strcspn(choices, "|"), choices);
    return text;
}

static const char *set_text(char *text, const char *choices, int bits) {
    size_t n = 0;
    text[0] = 0;
    for (int i = 0; bits >> i; i++) {
        char one[OPTION_TEXT_MAX];
        if (bits >> i & 1)
            n += (size_t)snprintf(text + n, OPTION_TEXT_MAX - n, "%s%s", n ? "," : "", choice_text(one, choices, i));
    }
    return text;
}

const char *launch_option_text(char *text, const launch_option *o, launch_options *options) {
    void *value = launch_option_field(o, options);
    switch (o->kind) {
    case FLAG:
        return *(bool *)value ? "true" : NULL;
    case TEXT:
    case PROSE:
    case NAME:
        return *(const char **)value;
    case INTEGER:
        if (!o->initial && *(int64_t *)value == 0) return NULL;
        snprintf(text, OPTION_TEXT_MAX, "%" PRId64, *(int64_t *)value);
        return text;
    case REAL:
        snprintf(text, OPTION_TEXT_MAX, "%.17g", *(double *)value);
        return text;
    case CHOICE:
        return choice_text(text, o->choices, *(int *)value);
    case SET:
        return set_text(text, o->choices, *(int *)value);
    case TEXTS:
        return ((launch_texts *)value)->n ? ((launch_texts *)value)->items[0] : NULL;
    }
    return NULL;
}
