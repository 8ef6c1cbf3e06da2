/* Rank 1 never starts MPI, so rank 0's start cannot return: the watchdog must end it with one line. */
#include "tests/comm/drive.h"

#include <string.h>
#include <unistd.h>

int main(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) {
        printf("skipped: not Open MPI\n");
        return LUCID_TEST_SKIP;
    }
    if (strcmp(rank, "0")) sleep(60);
    lucid_comm *comm;
    const lucid_status status = lucid_comm_open(&comm, &(lucid_comm_options){.timeout = 1});
    printf("open returned status %d\n", (int)status);
    return 0;
}
