/* Which rows of a chunk a rank holds: every token once, in ascending panels, and index undoes token. */
#include "tests/check.h"

#include "runtime/model/rows.h"

#define MAX_TOKENS 3000

static void test_chunk(int64_t first, int64_t last, int64_t tile, int world_size) {
    static char seen[MAX_TOKENS];
    for (int64_t t = first; t < last; t++) seen[t] = 0;
    for (int rank = 0; rank < world_size; rank++) {
        const lucid_rows rows = lucid_rows_make(first, last, tile, world_size, rank);
        int64_t before = -1;
        CHECK(rows.n_rows % LUCID_PANEL == 0, "%lld rows are no whole panels", (long long)rows.n_rows);
        for (int64_t row = 0; row < rows.n_rows; row++) {
            const int64_t token = lucid_rows_token(&rows, row);
            CHECK(token > before && token % LUCID_PANEL == row % LUCID_PANEL, "row %lld is token %lld after %lld",
                  (long long)row, (long long)token, (long long)before);
            CHECK(lucid_rows_owner(&rows, token) == rank, "token %lld is not rank %d's", (long long)token, rank);
            CHECK(lucid_rows_index(&rows, token) == row, "token %lld is at row %lld", (long long)token, (long long)row);
            if (token >= first && token < last) seen[token]++;
            before = token;
        }
    }
    for (int64_t t = first; t < last; t++)
        if (seen[t] != 1) {
            CHECK(0, "token %lld of %lld..%lld, tile %lld, %d ranks, is held %d times", (long long)t, (long long)first,
                  (long long)last, (long long)tile, world_size, seen[t]);
            return;
        }
}

int main(void) {
    static const int64_t firsts[] = {0, 1, 63, 64, 65, 500, 1024}, lengths[] = {1, 2, 63, 64, 129, 700, 1900};
    for (int world_size = 1; world_size <= 9; world_size++)
        for (int64_t tile = 64; tile <= 1024; tile *= 2)
            for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
                for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
                    test_chunk(firsts[f], firsts[f] + lengths[l], tile, world_size);
    return check_result();
}
