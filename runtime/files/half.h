/* The 16-bit float formats of tensor files: bf16 and IEEE half. Conversions to them round to nearest, ties to even,
 * with plain integer arithmetic, so the bits are the same on every machine; a NaN stays a NaN of the same sign (quiet),
 * and what is too large becomes Inf.
 */
#ifndef LUCID_RUNTIME_FILES_HALF_H
#define LUCID_RUNTIME_FILES_HALF_H

#include "kernels/kernels.h"

uint16_t lucid_bf16_from_f32(float x);
uint16_t lucid_f16_from_f32(float x);
float lucid_f32_from_bf16(uint16_t x); /* exact */
float lucid_f32_from_f16(uint16_t x);  /* exact */

/* dst (n) of dtype = src (n), rounded where dtype is narrower. */
void lucid_narrow(void *dst, lucid_dtype dtype, const float *src, int64_t n);
/* dst (n) = src (n) of dtype, exactly. */
void lucid_widen(float *dst, const void *src, lucid_dtype dtype, int64_t n);

#endif
