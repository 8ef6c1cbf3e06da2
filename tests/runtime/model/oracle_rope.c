/* Rotary position embedding: pair (c, c + dim / 2) of every head turns by position * frequency[c], and all types of
 * scaling are a choice of the frequencies and of one factor on the result. */
#include "tests/runtime/model/oracle_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static double plain_frequency(double theta, int c, int dim) {
    return pow(theta, -2.0 * c / dim);
}

/* NTK scaling: theta grows so that the slowest pair is stretched as linear scaling by max_context would. */
static double dynamic_theta(const oracle_rope *rope, int dim) {
    const double trained = (double)rope->original_max_position;
    const double length = fmax((double)rope->max_context, trained);
    return rope->theta * pow(rope->factor * length / trained - (rope->factor - 1), dim / (dim - 2.0));
}

/* Long wavelengths are divided by factor, short ones kept, those between blended. */
static double llama3_frequency(const oracle_rope *rope, double frequency) {
    const double turns = (double)rope->original_max_position * frequency / (2 * M_PI);
    if (turns < rope->low_freq_factor) return frequency / rope->factor;
    if (turns > rope->high_freq_factor) return frequency;
    const double keep = (turns - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - keep) * frequency / rope->factor + keep * frequency;
}

/* The (real) pair that makes this many turns in the original length. */
static double yarn_pair(const oracle_rope *rope, double turns, int dim) {
    return dim * log((double)rope->original_max_position / (turns * 2 * M_PI)) / (2 * log(rope->theta));
}

static double yarn_frequency(const oracle_rope *rope, int c, int dim) {
    const double frequency = plain_frequency(rope->theta, c, dim);
    const double first = fmax(floor(yarn_pair(rope, rope->beta_fast, dim)), 0);
    double last = fmin(ceil(yarn_pair(rope, rope->beta_slow, dim)), dim - 1);
    if (first == last) last += 0.001;
    const double stretch = fmin(fmax((c - first) / (last - first), 0), 1);
    return frequency / rope->factor * stretch + frequency * (1 - stretch);
}

static double frequency_of(const oracle_rope *rope, int c, int dim) {
    switch (rope->kind) {
    case ORACLE_ROPE_LINEAR:
        return plain_frequency(rope->theta, c, dim) / rope->factor;
    case ORACLE_ROPE_DYNAMIC:
        return plain_frequency(dynamic_theta(rope, dim), c, dim);
    case ORACLE_ROPE_LLAMA3:
        return llama3_frequency(rope, plain_frequency(rope->theta, c, dim));
    case ORACLE_ROPE_YARN:
        return yarn_frequency(rope, c, dim);
    default:
        return plain_frequency(rope->theta, c, dim);
    }
}

static double length_of(const oracle_rope *rope) {
    if (rope->kind != ORACLE_ROPE_YARN) return 1;
    if (rope->attention_factor != 0) return rope->attention_factor;
    return rope->factor > 1 ? 0.1 * log(rope->factor) + 1 : 1;
}

void oracle_rotate(oracle_heads *x, const oracle_rope *rope) {
    const int dim = rope->dim ? rope->dim : x->dim, half = dim / 2;
    if (rope->kind == ORACLE_ROPE_NONE) return;
    if (dim % 2) {
        fprintf(stderr, "oracle: RoPE turns an even number of dimensions, not %d\n", dim);
        abort();
    }
    for (int c = 0; c < half; c++) {
        const double frequency = frequency_of(rope, c, dim), length = length_of(rope);
        for (int t = 0; t < x->n_tokens; t++) {
            const double cosine = length * cos(t * frequency), sine = length * sin(t * frequency);
            for (int h = 0; h < x->n_heads; h++) {
                double *row = oracle_head(x, t, h);
                const double first = row[c], second = row[c + half];
                row[c] = first * cosine - second * sine;
                row[c + half] = second * cosine + first * sine;
            }
        }
    }
}
