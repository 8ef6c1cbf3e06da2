#include "runtime/tokenizer/text.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

lucid_status lucid_text_reserve(lucid_text *text, size_t extra) {
    size_t need;
    if (__builtin_add_overflow(text->n, extra, &need) || need > SIZE_MAX / 4)
        return lucid_fail(LUCID_ERR_MEMORY, "a text of %zu and %zu more bytes does not fit", text->n, extra);
    if (need <= text->capacity) return LUCID_OK;
    const size_t capacity = need < 64 ? 64 : need + need / 2;
    char *bytes = realloc(text->bytes, capacity);
    if (!bytes) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a text of %zu bytes", capacity);
    text->bytes = bytes;
    text->capacity = capacity;
    return LUCID_OK;
}

lucid_status lucid_text_append(lucid_text *text, const char *bytes, size_t n) {
    if (n == 0) return LUCID_OK;
    LUCID_TRY(lucid_text_reserve(text, n));
    memcpy(text->bytes + text->n, bytes, n);
    text->n += n;
    return LUCID_OK;
}

lucid_status lucid_text_append_codepoint(lucid_text *text, int32_t codepoint) {
    utf8proc_uint8_t bytes[4];
    const utf8proc_ssize_t n = utf8proc_encode_char(codepoint, bytes);
    return lucid_text_append(text, (const char *)bytes, (size_t)n);
}

lucid_status lucid_text_append_lossy(lucid_text *text, const char *bytes, size_t n) {
    size_t good = 0, at = 0; /* bytes good..at-1 are valid and not yet appended */
    while (at < n) {
        int32_t codepoint;
        const int length = lucid_utf8_next(bytes + at, n - at, &codepoint);
        if (length > 0) {
            at += (size_t)length;
            continue;
        }
        LUCID_TRY(lucid_text_append(text, bytes + good, at - good));
        LUCID_TRY(lucid_text_append_codepoint(text, 0xFFFD));
        good = at += length < 0 ? (size_t)-length : n - at;
    }
    return lucid_text_append(text, bytes + good, at - good);
}

void lucid_text_free(lucid_text *text) {
    free(text->bytes);
    *text = (lucid_text){0};
}

/* How many bytes follow the lead byte, and what the first of them may be: Unicode's table 3-7. */
typedef struct {
    int trail;
    unsigned char low, high;
} lead;

static lead lead_of(unsigned char byte) {
    if (byte >= 0xC2 && byte <= 0xDF) return (lead){1, 0x80, 0xBF};
    if (byte == 0xE0) return (lead){2, 0xA0, 0xBF};
    if (byte == 0xED) return (lead){2, 0x80, 0x9F};
    if (byte >= 0xE1 && byte <= 0xEF) return (lead){2, 0x80, 0xBF};
    if (byte == 0xF0) return (lead){3, 0x90, 0xBF};
    if (byte >= 0xF1 && byte <= 0xF3) return (lead){3, 0x80, 0xBF};
    if (byte == 0xF4) return (lead){3, 0x80, 0x8F};
    return (lead){0, 0, 0};
}

int lucid_utf8_next(const char *s, size_t n, int32_t *codepoint) {
    const unsigned char *u = (const unsigned char *)s;
    if (n == 0) return 0;
    *codepoint = u[0];
    if (u[0] < 0x80) return 1;
    const lead first = lead_of(u[0]);
    if (first.trail == 0) return -1;
    *codepoint = u[0] & (0x3F >> first.trail);
    for (int i = 1; i <= first.trail; i++) {
        if ((size_t)i == n) return 0;
        if (u[i] < (i == 1 ? first.low : 0x80) || u[i] > (i == 1 ? first.high : 0xBF)) return -i;
        *codepoint = *codepoint << 6 | (u[i] & 0x3F);
    }
    return first.trail + 1;
}

size_t lucid_utf8_before(const char *s, size_t at) {
    do at--;
    while (at > 0 && ((unsigned char)s[at] & 0xC0) == 0x80);
    return at;
}

size_t lucid_utf8_ascii_prefix(const char *s, size_t n) {
    size_t at = 0;
    for (uint64_t eight; at + sizeof eight <= n; at += sizeof eight) {
        memcpy(&eight, s + at, sizeof eight);
        if (eight & UINT64_C(0x8080808080808080)) break;
    }
    while (at < n && (unsigned char)s[at] < 0x80) at++;
    return at;
}

bool lucid_utf8_valid(const char *s, size_t n) {
    size_t at = lucid_utf8_ascii_prefix(s, n);
    while (at < n) {
        int32_t codepoint;
        const int length = lucid_utf8_next(s + at, n - at, &codepoint);
        if (length <= 0) return false;
        at += (size_t)length;
    }
    return true;
}

bool lucid_codepoint_is_space(int32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Alphabetic, Mark, Decimal_Number, Connector_Punctuation, Join_Control. Circled and squared letters are the
 * alphabetic characters whose category does not say so. */
bool lucid_codepoint_is_word(int32_t c) {
    if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
        (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C || c == 0x200D)
        return true;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return false;
    }
}
