/* Links between devices by NCCL: what the transport `nccl` has as its devices. */
#ifndef LUCID_COMM_NCCL_LINKS_H
#define LUCID_COMM_NCCL_LINKS_H

#include "comm/comm.h"

/* Between neighbours on the ring of ranks only. */
extern const lucid_device_links lucid_nccl_links;

#endif
