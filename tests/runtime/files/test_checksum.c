/* XXH3's published value for no bytes at all fixes the algorithm, since files outlive builds; then what a checksum is
 * for: any flipped bit, any order of pieces. */
#include "runtime/files/checksum.h"
#include "tests/check.h"

#include <inttypes.h>

int main(void) {
    uint64_t empty = lucid_checksum(0, NULL, 0);
    CHECK(empty == UINT64_C(0x2d06800538d394c2), "of nothing: %016" PRIx64, empty);

    unsigned char bytes[300];
    for (int i = 0; i < (int)sizeof bytes; i++) bytes[i] = (unsigned char)(i * 37);
    uint64_t whole = lucid_checksum(0, bytes, sizeof bytes);
    for (int bit = 0; bit < 8 * (int)sizeof bytes; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        CHECK(lucid_checksum(0, bytes, sizeof bytes) != whole, "bit %d flipped", bit);
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    uint64_t a = lucid_checksum(0, bytes, 100), b = lucid_checksum(0, bytes + 100, 200);
    CHECK(lucid_checksum(a, bytes + 100, 200) != lucid_checksum(b, bytes, 100), "pieces in another order");
    return check_result();
}
