/* The checksum of everything that is kept in files: XXH3, 64 bits. It finds damage, not forgery. */
#ifndef LUCID_RUNTIME_FILES_CHECKSUM_H
#define LUCID_RUNTIME_FILES_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Of n_bytes at data, continuing from the checksum of what comes before it (0: nothing does). The same bytes cut into
 * pieces otherwise give another checksum, so a format fixes its pieces. Pure. */
uint64_t lucid_checksum(uint64_t before, const void *data, size_t n_bytes);

#endif
