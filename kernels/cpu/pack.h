/* From callers' rows to records: conversion, transposition, norms. */
#ifndef LUCID_CPU_PACK_H
#define LUCID_CPU_PACK_H

#include <string.h>

#include "kernels/cpu/panel.h"

INLINE vec load_elements(const char *src, const lucid_dtype dtype) {
    return dtype == LUCID_F32    ? vec_loadu((const float *)(const void *)src)
           : dtype == LUCID_BF16 ? vec_from_bf16(src)
                                 : vec_from_f16(src);
}

/* dst (cols, 64)'s first VEC columns = transpose(src), src (VEC, VEC) of dtype, rows src_ld bytes apart. */
INLINE void transpose_block(float *dst, const char *src, size_t src_ld, const lucid_dtype dtype, int cols) {
    vec x[VEC];
    UNROLL for (int r = 0; r < VEC; r++) x[r] = load_elements(src + r * src_ld, dtype);
    vec_transpose(x);
    UNROLL for (int c = 0; c < VEC; c++) {
        if (c < cols) vec_store(dst + c * GRANULE, x[c]);
    }
}

/* The same at the edges, rows x cols of src being there: through a zero-padded copy. */
static void transpose_edge(float *dst, const char *src, size_t src_ld, lucid_dtype dtype, int rows, int cols) {
    char copy[VEC * VEC * sizeof(float)] __attribute__((aligned(64))) = {0};
    size_t ld = VEC * lucid_dtype_bytes(dtype);
    for (int r = 0; r < rows; r++) memcpy(copy + r * ld, src + r * src_ld, cols * lucid_dtype_bytes(dtype));
    if (dtype == LUCID_F32) transpose_block(dst, copy, ld, LUCID_F32, cols);
    if (dtype == LUCID_BF16) transpose_block(dst, copy, ld, LUCID_BF16, cols);
    if (dtype == LUCID_F16) transpose_block(dst, copy, ld, LUCID_F16, cols);
}

INLINE void pack_rows_as(float *dst, const char *src, const lucid_dtype dtype, int n_rows, int d) {
    const size_t bytes = lucid_dtype_bytes(dtype), ld = d * bytes;
    for (int i = 0; i < GRANULE; i += VEC) {
        int rows = n_rows - i < 0 ? 0 : n_rows - i < VEC ? n_rows - i : VEC;
        for (int c = 0; c < d; c += VEC) {
            int cols = d - c < VEC ? d - c : VEC;
            float *to = dst + c * GRANULE + i;
            const char *from = rows > 0 ? src + i * ld + c * bytes : src;
            if (rows == VEC && cols == VEC)
                transpose_block(to, from, ld, dtype, VEC);
            else
                transpose_edge(to, from, ld, dtype, rows, cols);
        }
    }
}

static void pack_rows(float *dst, const void *src, lucid_dtype dtype, int n_rows, int d) {
    if (dtype == LUCID_F32) pack_rows_as(dst, src, LUCID_F32, n_rows, d);
    if (dtype == LUCID_BF16) pack_rows_as(dst, src, LUCID_BF16, n_rows, d);
    if (dtype == LUCID_F16) pack_rows_as(dst, src, LUCID_F16, n_rows, d);
}

/* One row (w) of values; what is cut or padding goes through a zero-padded copy. */
INLINE void pack_value_row(float *y, const char *src, const lucid_dtype dtype, lucid_shape shape) {
    const size_t bytes = lucid_dtype_bytes(dtype);
    int c = 0;
    for (; c + VEC <= shape.value_dim; c += VEC) vec_store(y + c, load_elements(src + c * bytes, dtype));
    if (c == shape.value_ld) return;
    char copy[16 * sizeof(float)] = {0};
    memcpy(copy, src + c * bytes, (shape.value_dim - c) * bytes);
    for (int k = 0; c + k < shape.value_ld; k += VEC) vec_store(y + c + k, load_elements(copy + k * bytes, dtype));
}

INLINE void pack_values_as(float *y, const char *src, const lucid_dtype dtype, int n_rows, lucid_shape shape) {
    const size_t ld = shape.value_dim * lucid_dtype_bytes(dtype);
    for (int i = 0; i < n_rows; i++) pack_value_row(y + (size_t)i * shape.value_ld, src + i * ld, dtype, shape);
    memset(y + (size_t)n_rows * shape.value_ld, 0, sizeof(float) * (GRANULE - n_rows) * shape.value_ld);
}

static void pack_values(float *record, const void *src, lucid_dtype dtype, int n_rows, lucid_shape shape) {
    float *y = record + lucid_record_values(shape);
    if (dtype == LUCID_F32) pack_values_as(y, src, LUCID_F32, n_rows, shape);
    if (dtype == LUCID_BF16) pack_values_as(y, src, LUCID_BF16, n_rows, shape);
    if (dtype == LUCID_F16) pack_values_as(y, src, LUCID_F16, n_rows, shape);
}

static void normalise(float *record, lucid_shape shape, float eps) {
    float *rnorm = record + lucid_record_rnorm(shape);
    vec d = vec_set1((float)shape.head_dim), one = vec_set1(1);
    column_dots(rnorm, record, record, shape.head_dim);
    for (int i = 0; i < GRANULE; i += VEC) {
        vec mean = vec_add(vec_div(vec_load(rnorm + i), d), vec_set1(eps));
        vec_store(rnorm + i, vec_div(one, vec_sqrt(mean)));
    }
}

#endif
