/* The kernel sets that kernels.c puts in its table; each is defined by one translation unit. */
#ifndef LUCID_KERNELS_SETS_H
#define LUCID_KERNELS_SETS_H

#include "kernels/kernels.h"

extern const lucid_kernels lucid_kernels_avx512; /* cpu/avx512.c */
extern const lucid_kernels lucid_kernels_avx2;   /* cpu/avx2.c */
extern const lucid_kernels lucid_kernels_scalar; /* ref/scalar.c */

#endif
