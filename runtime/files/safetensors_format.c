#include "runtime/files/safetensors_format.h"

#include <inttypes.h>
#include <string.h>

static const lucid_safetensors_type types[] = {
    {"BOOL", 8, -1},        {"F4", 4, -1},          {"F6_E2M3", 6, -1},       {"F6_E3M2", 6, -1}, {"U8", 8, -1},
    {"I8", 8, -1},          {"F8_E5M2", 8, -1},     {"F8_E4M3", 8, -1},       {"F8_E8M0", 8, -1}, {"I16", 16, -1},
    {"U16", 16, -1},        {"F16", 16, LUCID_F16}, {"BF16", 16, LUCID_BF16}, {"I32", 32, -1},    {"U32", 32, -1},
    {"F32", 32, LUCID_F32}, {"C64", 64, -1},        {"F64", 64, -1},          {"I64", 64, -1},    {"U64", 64, -1},
};

const lucid_safetensors_type *lucid_safetensors_type_find(const char *name) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) == 0) return &types[i];
    }
    return NULL;
}

lucid_status lucid_safetensors_measure(lucid_safetensors_tensor *tensor, const char *path) {
    const int64_t bits = lucid_safetensors_type_find(tensor->dtype)->bits;
    int64_t n = 1, n_bits;
    for (int i = 0; i < tensor->n_dims; i++) {
        if (tensor->shape[i] < 0)
            return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: shape[%d] is negative", path, tensor->name, i);
        if (__builtin_mul_overflow(n, tensor->shape[i], &n))
            return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: its shape has more than 2^63 elements", path,
                              tensor->name);
    }
    if (__builtin_mul_overflow(n, bits, &n_bits))
        return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: its shape has more than 2^63 bits", path, tensor->name);
    if (n_bits % 8)
        return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: %" PRId64 " elements of %s do not fill whole bytes", path,
                          tensor->name, n, tensor->dtype);
    tensor->n_elements = n;
    tensor->n_bytes = n_bits / 8;
    return LUCID_OK;
}

bool lucid_safetensors_name_valid(const char *name) {
    const size_t length = strlen(name);
    if (length == 0 || length > 256) return false;
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7f) return false;
    }
    return true;
}
