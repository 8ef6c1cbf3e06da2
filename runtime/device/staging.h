/* Tiles between a device's memory and other ranks, through pinned memory of the host. Calls follow the contract of
 * lucid_comm_post_send and its kin and are made under the engine's lock. A copy takes the time of a tile over the bus,
 * a millisecond for 20 MB, and is waited for. */
#ifndef LUCID_RUNTIME_DEVICE_STAGING_H
#define LUCID_RUNTIME_DEVICE_STAGING_H

#include "comm/comm.h"

typedef struct lucid_staging lucid_staging;

/* Every message has tile_bytes at most. Errors: MEMORY. */
lucid_status lucid_staging_create(lucid_staging **staging, lucid_comm *comm, int ordinal, size_t tile_bytes);
void lucid_staging_destroy(lucid_staging *staging); /* NULL is fine; nothing may be under way */

lucid_status lucid_staging_send(void *staging, int channel, int peer, const void *tile, size_t bytes,
                                lucid_request **request);
lucid_status lucid_staging_recv(void *staging, int channel, int peer, void *tile, size_t bytes,
                                lucid_request **request);
lucid_status lucid_staging_test(void *staging, lucid_request *request, bool *done);

#endif
