/* This machine's processors in one line. topology_hwloc.c asks hwloc; topology_plain.c is for builds without it. */
#ifndef LUCID_LAUNCH_TOPOLOGY_H
#define LUCID_LAUNCH_TOPOLOGY_H

#include <stdio.h>

void launch_topology_print(FILE *stream);

#endif
