/* The kernel set that a job's ranks share. */
#ifndef LUCID_RUNTIME_ISA_H
#define LUCID_RUNTIME_ISA_H

#include "comm/comm.h"
#include "kernels/kernels.h"

/* The set named isa; with NULL or "auto" the best that all ranks have, so that bits do not depend on who computed what.
 * Collective. Errors: UNSUPPORTED where a rank cannot run it. */
lucid_status lucid_isa_agree(const lucid_kernels **kernels, lucid_comm *comm, const char *isa);

#endif
