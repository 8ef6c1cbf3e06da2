/* All arithmetic on frequencies is fp32, as it is where the models come from: an exponent rounded to fp32 moves a
 * frequency by up to 1e-6 of itself, which at position 100000 can be seen. Scalars are fp64 until they meet a vector.
 */
#include "runtime/model/rope.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* base^(2i / head_dim) */
static float wavelength(double base, int i, int head_dim) {
    return (float)pow((float)base, (float)(2 * i) / (float)head_dim);
}

static double dynamic_base(const lucid_rope *rope, int head_dim, int max_position_embeddings, int64_t max_context) {
    const double trained = max_position_embeddings;
    const double seqlen = fmax((double)max_context, trained);
    const double growth = rope->factor * seqlen / trained - (rope->factor - 1);
    return rope->theta * pow(growth, (double)head_dim / (head_dim - 2));
}

/* Long waves are stretched by factor, short ones kept, those between interpolated. */
static float llama3(float inv_freq, const lucid_rope *rope) {
    const float original = (float)rope->original_max_position_embeddings;
    const float low = (float)rope->low_freq_factor, high = (float)rope->high_freq_factor, factor = (float)rope->factor;
    const float wave = (float)(2 * pi) * (1 / inv_freq);
    if (wave < original / high) return inv_freq;
    if (wave > original / low) return inv_freq / factor;
    const float smooth = (original / wave - low) / (high - low);
    return (1 - smooth) * inv_freq / factor + smooth * inv_freq;
}

/* The dimension that makes n_rotations over the original context. */
static double correction_dim(double n_rotations, const lucid_rope *rope, int head_dim) {
    return head_dim * log(rope->original_max_position_embeddings / (n_rotations * 2 * pi)) / (2 * log(rope->theta));
}

typedef struct {
    double first, last;
} yarn_ramp;

static yarn_ramp make_ramp(const lucid_rope *rope, int head_dim) {
    double first = correction_dim(rope->beta_fast, rope, head_dim);
    double last = correction_dim(rope->beta_slow, rope, head_dim);
    if (rope->truncate) {
        first = floor(first);
        last = ceil(last);
    }
    first = fmax(first, 0);
    last = fmin(last, head_dim - 1);
    return (yarn_ramp){first, last == first ? last + 0.001 : last};
}

static float yarn(float wave, const lucid_rope *rope, yarn_ramp ramp, int i) {
    const float share = ((float)i - (float)ramp.first) / (float)(ramp.last - ramp.first);
    const float kept = 1 - fminf(fmaxf(share, 0), 1);
    return 1 / ((float)rope->factor * wave) * (1 - kept) + 1 / wave * kept;
}

static double yarn_mscale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static double yarn_attention_factor(const lucid_rope *rope) {
    if (rope->attention_factor > 0) return rope->attention_factor;
    if (rope->mscale > 0 && rope->mscale_all_dim > 0)
        return yarn_mscale(rope->factor, rope->mscale) / yarn_mscale(rope->factor, rope->mscale_all_dim);
    return yarn_mscale(rope->factor, 1);
}

void lucid_rope_compute(double *inv_freq, double *attention_factor, const lucid_rope *rope, int head_dim,
                        int max_position_embeddings, int64_t max_context) {
    const bool is_yarn = rope->type == LUCID_ROPE_YARN;
    const yarn_ramp ramp = is_yarn ? make_ramp(rope, head_dim) : (yarn_ramp){0};
    const double base = rope->type == LUCID_ROPE_DYNAMIC
                            ? dynamic_base(rope, head_dim, max_position_embeddings, max_context)
                            : rope->theta;
    for (int i = 0; i < head_dim / 2; i++) {
        const float wave = wavelength(base, i, head_dim);
        float f = 1 / wave;
        if (rope->type == LUCID_ROPE_LINEAR) f /= (float)rope->factor;
        if (rope->type == LUCID_ROPE_LLAMA3) f = llama3(f, rope);
        if (is_yarn) f = yarn(wave, rope, ramp, i);
        inv_freq[i] = f;
    }
    *attention_factor = is_yarn ? yarn_attention_factor(rope) : 1;
}
