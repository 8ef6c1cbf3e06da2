/* Oniguruma's Ruby syntax in PCRE2's. Only what is written out here passes: an escape, a group or a set that the two
 * read differently, or that was never seen in a tokenizer, is refused rather than guessed at. */
#include "runtime/tokenizer/regex.h"

#include <ctype.h>
#include <string.h>

#define SPACE_SET "\\p{White_Space}"
#define WORD_SET  "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define HEX_SET   "0-9a-fA-F"

typedef struct {
    lucid_text *out;
    const char *pattern;
    size_t n, at;
    bool in_class;
    const char *where;
} translation;

static lucid_status put(translation *t, const char *string) {
    return lucid_text_append(t->out, string, strlen(string));
}

static lucid_status copy(translation *t, size_t n) {
    LUCID_TRY(lucid_text_append(t->out, t->pattern + t->at, n));
    t->at += n;
    return LUCID_OK;
}

static lucid_status refuse(const translation *t, const char *what) {
    return lucid_fail(LUCID_ERR_INPUT, "%s: the regular expression has %s at byte %zu, which is not known", t->where,
                      what, t->at);
}

static bool follows(const translation *t, const char *string) {
    const size_t n = strlen(string);
    return t->n - t->at >= n && memcmp(t->pattern + t->at, string, n) == 0;
}

/* Escapes that become a set: how it is spelled inside a class, and outside. NULL: refused there. */
static const struct {
    char letter;
    const char *inside, *outside;
} sets[] = {
    {'s', SPACE_SET, SPACE_SET},
    {'S', "\\P{White_Space}", "\\P{White_Space}"},
    {'w', WORD_SET, "[" WORD_SET "]"},
    {'W', NULL, "[^" WORD_SET "]"},
    {'d', "\\p{Nd}", "\\p{Nd}"},
    {'D', "\\P{Nd}", "\\P{Nd}"},
    {'h', HEX_SET, "[" HEX_SET "]"},
    {'H', NULL, "[^" HEX_SET "]"},
    {'b', "\\x08", "(?:(?<=[" WORD_SET "])(?![" WORD_SET "])|(?<![" WORD_SET "])(?=[" WORD_SET "]))"},
    {'v', "\\x0b", "\\x0b"},
    {'n', "\\n", "\\n"},
    {'r', "\\r", "\\r"},
    {'t', "\\t", "\\t"},
    {'f', "\\f", "\\f"},
    {'a', "\\a", "\\a"},
    {'e', "\\e", "\\e"},
    {'A', NULL, "\\A"},
    {'z', NULL, "\\z"},
    {'Z', NULL, "\\Z"},
};

static bool known_property(const char *name, size_t n) {
    static const char *const names[] = {"Any", "Alphabetic", "White_Space", "Lowercase", "Uppercase"};
    if (n <= 2) return true; /* a general category, or PCRE2 refuses it */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i]) == n && strncasecmp(names[i], name, n) == 0) return true;
    }
    return false;
}

/* \p{Name}, \p{^Name}: a category, a property, or else a script, which in PCRE2 must say that extensions do not count.
 */
static lucid_status property(translation *t) {
    const char *open = t->pattern + t->at + 2;
    const char *close = t->at + 2 < t->n && *open == '{' ? memchr(open, '}', t->n - t->at - 2) : NULL;
    if (!close) return refuse(t, "a property without braces");
    const char *name = open + 1 + (open[1] == '^');
    for (const char *c = name; c < close; c++) {
        if (!isalnum((unsigned char)*c) && *c != '_') return refuse(t, "a property's name");
    }
    LUCID_TRY(copy(t, (size_t)(name - (t->pattern + t->at))));
    if (!known_property(name, (size_t)(close - name))) LUCID_TRY(put(t, "sc:"));
    return copy(t, (size_t)(close + 1 - name));
}

/* \xHH below 0x80, \x{H...}, \uHHHH: a codepoint. */
static lucid_status codepoint(translation *t) {
    const size_t at = t->at;
    const char *digits = t->pattern + at + 2;
    const bool braces = at + 2 < t->n && t->pattern[at + 1] == 'x' && *digits == '{';
    size_t n = 0;
    digits += braces;
    while (digits + n < t->pattern + t->n && n < 8 && isxdigit((unsigned char)digits[n])) n++;
    if (t->pattern[at + 1] == 'u' && n >= 4)
        n = 4;
    else if (!braces && n >= 2 && digits[0] < '8')
        n = 2;
    else if (!braces || n == 0 || digits + n == t->pattern + t->n || digits[n] != '}')
        return refuse(t, "a codepoint");
    LUCID_TRY(put(t, "\\x{"));
    LUCID_TRY(lucid_text_append(t->out, digits, n));
    LUCID_TRY(put(t, "}"));
    t->at = (size_t)(digits + n + braces - t->pattern);
    return LUCID_OK;
}

static lucid_status escape(translation *t) {
    if (t->at + 1 == t->n) return refuse(t, "a lone backslash");
    const char letter = t->pattern[t->at + 1];
    if (letter == 'p' || letter == 'P') return property(t);
    if (letter == 'x' || letter == 'u') return codepoint(t);
    if (!isalnum((unsigned char)letter)) return copy(t, 2);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        const char *spelling = t->in_class ? sets[i].inside : sets[i].outside;
        if (sets[i].letter != letter || !spelling) continue;
        t->at += 2;
        return put(t, spelling);
    }
    return refuse(t, "an escape");
}

static lucid_status class_begin(translation *t) {
    t->in_class = true;
    LUCID_TRY(copy(t, follows(t, "[^") ? 2 : 1));
    return follows(t, "]") ? refuse(t, "']' first in a set") : LUCID_OK;
}

static lucid_status class_member(translation *t) {
    if (follows(t, "[")) return refuse(t, "'[' in a set");
    if (follows(t, "&&")) return refuse(t, "'&&' in a set");
    if (follows(t, "]")) t->in_class = false;
    return copy(t, 1);
}

/* Bare (?i) reaches to the end of its group, but on different sides of '|' in the two, unless it begins the pattern. */
static lucid_status group(translation *t) {
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"};
    if (follows(t, "(*")) return refuse(t, "'(*'");
    if (!follows(t, "(?")) return copy(t, 1);
    if (t->at == 0 && follows(t, "(?i)")) return copy(t, 4);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (follows(t, known[i])) return copy(t, strlen(known[i]));
    }
    return refuse(t, "a group");
}

/* {n}, {n,}, {n,m} and {,m}, which Oniguruma reads as {0,m}; what it takes for an interval's end is no possessive + nor
 * lazy ? there. A brace that begins no interval is a brace. */
static lucid_status interval(translation *t) {
    size_t end = t->at + 1;
    while (end < t->n && (isdigit((unsigned char)t->pattern[end]) || t->pattern[end] == ',')) end++;
    if (end == t->n || t->pattern[end] != '}' || end == t->at + 1) return copy(t, 1);
    if (end + 1 < t->n && (t->pattern[end + 1] == '+' || t->pattern[end + 1] == '?'))
        return refuse(t, "a possessive or lazy interval");
    LUCID_TRY(copy(t, 1));
    if (follows(t, ",")) LUCID_TRY(put(t, "0"));
    return copy(t, end + 1 - t->at);
}

lucid_status lucid_regex_translate(lucid_text *out, const char *pattern, size_t n, const char *where) {
    translation t = {.out = out, .pattern = pattern, .n = n, .where = where};
    LUCID_TRY(lucid_text_reserve(out, n + 1)); /* so that even the empty pattern has an address */
    while (t.at < n) {
        const char c = pattern[t.at];
        if (c == '\\')
            LUCID_TRY(escape(&t));
        else if (t.in_class)
            LUCID_TRY(class_member(&t));
        else if (c == '[')
            LUCID_TRY(class_begin(&t));
        else if (c == '(')
            LUCID_TRY(group(&t));
        else if (c == '{')
            LUCID_TRY(interval(&t));
        else
            LUCID_TRY(copy(&t, 1));
    }
    return LUCID_OK;
}
