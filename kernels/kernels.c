/* The table of kernel sets and the search in it. */
#include "kernels/kernels.h"

#include <string.h>

#include "kernels/sets.h"

static const lucid_kernels *const table[] = {&lucid_kernels_avx512, &lucid_kernels_avx2, &lucid_kernels_scalar};
enum { N_SETS = sizeof table / sizeof *table };

const lucid_kernels *const *lucid_kernels_table(int *count) {
    *count = N_SETS;
    return table;
}

const lucid_kernels *lucid_kernels_find(const char *isa) {
    bool any = strcmp(isa, "auto") == 0;
    for (int s = 0; s < N_SETS; s++)
        if ((any || strcmp(isa, table[s]->isa) == 0) && table[s]->supported()) return table[s];
    return NULL;
}

/* The most of: forward, a packed row panel (d, at most 16), one granule of P (64, 64) and one inverted diagonal block
 * (16, 16); in fp64 q, k (64, d), y (64, w), and scores and weights of at most 8 rows; backward, a row granule in the
 * two forms it is not stored in (64, ld) and (w, 64), a granule of ds (64, 64), a panel of weights and, in chunks of 64
 * columns, one of values, each of at most 16 rows. */
size_t lucid_kernels_scratch_floats(lucid_shape shape) {
    size_t forward = (size_t)16 * shape.head_dim + LUCID_GRANULE * LUCID_GRANULE + 16 * 16;
    size_t doubles = (size_t)LUCID_GRANULE * (2 * shape.head_dim + shape.value_ld + 2 * 8);
    size_t chunks = ((size_t)shape.value_dim + LUCID_GRANULE - 1) / LUCID_GRANULE;
    size_t backward = (size_t)LUCID_GRANULE * (lucid_key_ld(shape) + shape.value_ld) + LUCID_GRANULE * LUCID_GRANULE +
                      (1 + chunks) * 16 * LUCID_GRANULE;
    size_t most = forward > 2 * doubles ? forward : 2 * doubles;
    return most > backward ? most : backward;
}
