/* The control groups that this process is in, of both versions. Local; knows nothing of MPI. */
#ifndef LUCID_RUNTIME_CGROUP_H
#define LUCID_RUNTIME_CGROUP_H

/* One group: its folder below /sys/fs/cgroup, and which version it is of, 1 or 2. */
typedef void (*lucid_cgroup_visit)(const char *folder, int version, void *context);

/* Visits the group that binds this process in `controller` ("memory", "cpu") and all above it, up to the mount: a limit
 * of any of them holds. root is put before /proc and /sys ("" in earnest; tests give a made-up tree). Inside a
 * container folders may be named that are not mounted. */
void lucid_cgroup_walk(const char *root, const char *controller, lucid_cgroup_visit visit, void *context);

/* Processors' worth of time that the groups allow, shared with all in them; INFINITY where none is bounded. root: as
 * above. */
double lucid_cgroup_cpus(const char *root);

#endif
