#include "runtime/train/parts.h"

#include "runtime/model/matmul.h"
#include "runtime/train/exact.h"
#include "runtime/vector.h"

#include <math.h>
#include <omp.h>

#define SPAN    4096 /* elements that a thread takes at once */
#define COLUMNS 64   /* the same of column sums */

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- RMSNorm --- */

static double dot(const float *a, const float *b, int n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* y = x r gain with r = 1 / sqrt(mean(x^2) + eps), so dx = r (dn - x r^2 mean(dn x)), dn = dout gain. Returns r. */
static double norm_row_backward(float *dx, const float *dout, const float *x, const float *gain, int n, double eps) {
    double dnx = 0;
    const double r = 1 / sqrt(dot(x, x, n) / n + eps);
#pragma omp simd reduction(+ : dnx)
    for (int i = 0; i < n; i++) dnx += (double)dout[i] * gain[i] * x[i];
    const float scale = (float)r, along = (float)(r * r * r * dnx / n);
#pragma omp simd
    for (int i = 0; i < n; i++) dx[i] += scale * (dout[i] * gain[i]) - along * x[i];
    return r;
}

/* Columns first..last-1 of one panel: sum of dout x r. Sums are exact, so threads may add in any order. */
static void panel_gain(double *dgain, const float *dout, const float *x, const float *r, int n, int first, int last) {
    float sum[COLUMNS] = {0};
    for (int row = 0; row < LUCID_PANEL; row++) {
        const float *d = dout + (size_t)row * n + first, *from = x + (size_t)row * n + first;
#pragma omp simd
        for (int i = 0; i < last - first; i++) sum[i] += d[i] * from[i] * r[row];
    }
    for (int i = first; i < last; i++) {
#pragma omp atomic
        dgain[i] += lucid_exact(sum[i - first]);
    }
}

void lucid_rms_norm_backward(float *dx, double *dgain, const float *dout, const float *x, const float *gain,
                             int64_t n_rows, int n, double eps, int threads) {
    const int64_t n_panels = n_rows / LUCID_PANEL;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t p = 0; p < n_panels; p++) {
        const size_t at = (size_t)p * LUCID_PANEL * n;
        float r[LUCID_PANEL];
        for (int i = 0; i < LUCID_PANEL; i++) {
            const size_t row = at + (size_t)i * n;
            r[i] = (float)norm_row_backward(dx + row, dout + row, x + row, gain, n, eps);
        }
        for (int first = 0; first < n; first += COLUMNS)
            panel_gain(dgain, dout + at, x + at, r, n, first, (int)min64(n, first + COLUMNS));
    }
}

/* --- RoPE --- */

void lucid_turn(float *x, const lucid_rotations *rotations, int64_t n_rows, int n_heads, int d, bool back,
                int threads) {
    const int half = rotations->n_turned / 2;
    const float way = back ? -1 : 1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < n_rows; r++) {
        const float *cosines = rotations->angles + (size_t)(r % rotations->period) * rotations->n_turned;
        const float *sines = cosines + half;
        for (int h = 0; h < n_heads; h++) {
            float *a = x + ((size_t)r * n_heads + h) * d, *b = a + half;
            for (int i = 0; i < half; i++) {
                const float sine = way * sines[i], low = a[i] * cosines[i] - b[i] * sine;
                b[i] = b[i] * cosines[i] + a[i] * sine;
                a[i] = low;
            }
        }
    }
}

void lucid_scale_rows(float *x, const float *scales, int64_t period, int64_t n_rows, int n, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < n_rows; r++) {
        const float scale = scales[r % period];
        for (int i = 0; i < n; i++) x[(size_t)r * n + i] *= scale;
    }
}

/* --- the MLP's middle --- */

/* activation(x) and its derivative, of those that no vectors are made of. */
typedef struct {
    float value, slope;
} curve;

static inline curve gelu(float x) {
    const float share = 0.5f * (1 + erff(x * (float)M_SQRT1_2));
    return (curve){x * share, share + x * (float)(0.5 * M_2_SQRTPI * M_SQRT1_2) * expf(-0.5f * x * x)};
}

static inline curve gelu_tanh(float x) {
    const float c = (float)(M_2_SQRTPI * M_SQRT1_2);
    const float t = tanhf(c * (x + 0.044715f * x * x * x));
    return (curve){x * 0.5f * (1 + t), 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * c * (1 + 3 * 0.044715f * x * x)};
}

static curve other_curve(float x, int activation) {
    return activation == LUCID_ACTIVATION_GELU ? gelu(x) : gelu_tanh(x);
}

LUCID_CLONES static void silu_span(float *restrict hidden, const float *restrict gate, const float *restrict up,
                                   int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) hidden[i] = gate[i] * lucid_vector_sigmoid(gate[i]) * up[i];
}

LUCID_CLONES static void silu_span_backward(float *restrict gate, float *restrict up, float *restrict hidden,
                                            const float *restrict dhidden, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float x = gate[i], share = lucid_vector_sigmoid(x), value = x * share;
        hidden[i] = value * up[i];
        gate[i] = dhidden[i] * up[i] * (share + value * (1 - share));
        up[i] = dhidden[i] * value;
    }
}

void lucid_gate(float *hidden, const float *gate, const float *up, int64_t n, int activation, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t first = 0; first < n; first += SPAN) {
        const int64_t count = min64(SPAN, n - first);
        if (activation == LUCID_ACTIVATION_SILU) {
            silu_span(hidden + first, gate + first, up + first, count);
            continue;
        }
        for (int64_t i = first; i < first + count; i++) hidden[i] = other_curve(gate[i], activation).value * up[i];
    }
}

static void other_span_backward(float *gate, float *up, float *hidden, const float *dhidden, int64_t n,
                                int activation) {
    for (int64_t i = 0; i < n; i++) {
        const curve c = other_curve(gate[i], activation);
        hidden[i] = c.value * up[i];
        gate[i] = dhidden[i] * up[i] * c.slope;
        up[i] = dhidden[i] * c.value;
    }
}

void lucid_gate_backward(float *gate, float *up, float *hidden, const float *dhidden, int64_t n, int activation,
                         int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n; i += SPAN) {
        const int64_t count = min64(SPAN, n - i);
        if (activation == LUCID_ACTIVATION_SILU)
            silu_span_backward(gate + i, up + i, hidden + i, dhidden + i, count);
        else
            other_span_backward(gate + i, up + i, hidden + i, dhidden + i, count, activation);
    }
}

/* --- losses --- */

LUCID_CLONES static void exp_span(float *x, float highest, int n) {
#pragma omp simd
    for (int i = 0; i < n; i++) x[i] = lucid_vector_exp(x[i] - highest);
}

/* The gradient of -ln(share of target) is share - 1 there and share elsewhere. */
lucid_row_loss lucid_cross_entropy(float *logits, int n, int32_t target, double scale) {
    int best = 0;
    double sum = 0;
    for (int i = 1; i < n; i++) best = logits[i] > logits[best] ? i : best;
    const float highest = logits[best], own = logits[target];
    exp_span(logits, highest, n);
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += logits[i];
    const float share = (float)(scale / sum);
    for (int i = 0; i < n; i++) logits[i] *= share;
    logits[target] -= (float)scale;
    return (lucid_row_loss){.loss = log(sum) + (double)highest - own, .correct = best == target};
}

lucid_row_loss lucid_squared_error(float *output, float target, double scale) {
    const double apart = (double)*output - target;
    *output = (float)(2 * apart * scale);
    return (lucid_row_loss){.loss = apart * apart, .correct = fabs(apart) < 0.5};
}

void lucid_column_sums(double *dsum, const float *rows, int64_t n_rows, int n, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int first = 0; first < n; first += COLUMNS) {
        const int last = (int)min64(n, first + COLUMNS);
        for (int64_t panel = 0; panel < n_rows; panel += LUCID_PANEL) {
            float sum[COLUMNS] = {0};
            for (int64_t r = panel; r < panel + LUCID_PANEL; r++)
                for (int i = first; i < last; i++) sum[i - first] += rows[(size_t)r * n + i];
            for (int i = first; i < last; i++) dsum[i] += lucid_exact(sum[i - first]);
        }
    }
}
