/* How much memory this process may still take: what the kernel says is available, what its control groups leave, and
 * what its resource limits leave. Local; knows nothing of MPI. */
#ifndef LUCID_RUNTIME_MEMORY_H
#define LUCID_RUNTIME_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define LUCID_MEMORY_UNLIMITED SIZE_MAX

typedef struct {
    size_t available; /* MemAvailable of the host */
    size_t cgroup; /* least of limit - usage over the control groups above this process; shared with its neighbours */
    size_t rlimit; /* least of RLIMIT_AS and RLIMIT_DATA less what is used; this process's own */
} lucid_memory;

/* root is put before /proc and /sys ("" in earnest; tests give a made-up tree). What cannot be read counts as
 * unlimited. */
lucid_memory lucid_memory_read(const char *root);

/* What each of n_local ranks of this host may take. */
size_t lucid_memory_share(const lucid_memory *memory, int n_local);

/* The largest resident size this process ever had (VmHWM); 0 when unknown. */
size_t lucid_memory_peak(void);

#endif
