#include "runtime/files/checksum.h"

#include <xxhash.h>

uint64_t lucid_checksum(uint64_t before, const void *data, size_t n_bytes) {
    return XXH3_64bits_withSeed(data, n_bytes, before);
}
