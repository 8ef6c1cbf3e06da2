/* What crashed runs leave on this host. */
#ifndef LUCID_LAUNCH_LEFTOVERS_H
#define LUCID_LAUNCH_LEFTOVERS_H

/* Removes shared-memory segments of Open MPI that a killed mpirun left in `folder` ("/dev/shm"): of this user, a few
 * seconds old, and mapped by no process any more. Returns how many. Local. */
int launch_leftovers_remove(const char *folder);

#endif
