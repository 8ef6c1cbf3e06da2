/* Links between devices for transports that have none: through pinned memory of the hosts. A copy takes the time of a
 * tile over the bus, a millisecond for 20 MB, and is waited for. Private to runtime/device. */
#ifndef LUCID_RUNTIME_DEVICE_STAGING_H
#define LUCID_RUNTIME_DEVICE_STAGING_H

#include "comm/comm.h"

extern const lucid_device_links lucid_staging_links;

#endif
