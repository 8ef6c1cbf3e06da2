#include "runtime/checkpoint/digest.h"

#include "runtime/files/checksum.h"

void lucid_digest_add(lucid_digest *digest, const void *rows, lucid_dtype dtype, lucid_tensor tensor, int batch,
                      int head, int64_t first, int n_tokens, int dim) {
    const size_t row_bytes = (size_t)dim * lucid_dtype_bytes(dtype);
    uint64_t sum = 0;
    for (int done = 0; done < n_tokens; done += LUCID_GRANULE) {
        const int n = n_tokens - done < LUCID_GRANULE ? n_tokens - done : LUCID_GRANULE;
        const int64_t place[] = {dtype, tensor, batch, head, first + done, dim};
        const uint64_t before = lucid_checksum(0, place, sizeof place);
        sum += lucid_checksum(before, (const char *)rows + (size_t)done * row_bytes, (size_t)n * row_bytes);
    }
    atomic_fetch_add(&digest->sum, sum);
}

/* Sums of 16-bit parts are exact in doubles for up to 2^37 ranks. */
lucid_status lucid_digest_combine(uint64_t *all, lucid_comm *comm, const lucid_digest *digest) {
    enum { PARTS = 4, BITS = 16 };
    const uint64_t mine = atomic_load(&digest->sum);
    double parts[PARTS];
    for (int i = 0; i < PARTS; i++) parts[i] = (double)(mine >> BITS * i & 0xffff);
    LUCID_TRY(lucid_comm_allreduce(comm, parts, PARTS, LUCID_SUM));
    *all = 0;
    for (int i = 0; i < PARTS; i++) *all += (uint64_t)parts[i] << BITS * i;
    return LUCID_OK;
}
