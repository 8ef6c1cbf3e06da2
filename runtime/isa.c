#include "runtime/isa.h"

lucid_status lucid_isa_agree(const lucid_kernels **kernels, lucid_comm *comm, const char *isa) {
    if (!isa) isa = "auto";
    const lucid_kernels *own = lucid_kernels_find(isa);
    LUCID_TRY(lucid_comm_agree(
        comm, own ? LUCID_OK
                  : lucid_fail(LUCID_ERR_UNSUPPORTED, "instruction set '%s' is unknown or not supported here", isa)));
    int count;
    const lucid_kernels *const *table = lucid_kernels_table(&count);
    double index = 0; /* best first: the largest index is the least capable */
    for (int i = 0; i < count; i++)
        if (table[i] == own) index = i;
    LUCID_TRY(lucid_comm_allreduce(comm, &index, 1, LUCID_MAX));
    *kernels = table[(int)index];
    return LUCID_OK;
}
