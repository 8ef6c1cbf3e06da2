#include "runtime/train/exact.h"
#include "runtime/train/parts.h"
#include "runtime/train/pass_state.h"

#include "runtime/attention/attention.h"
#include "runtime/model/forward.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Row r's outputs become their gradient; zeros where nothing is asked. */
static void row_loss(lucid_pass_sums *sums, const lucid_pass *p, int64_t row, float *outputs, double scale) {
    const lucid_examples *e = p->examples;
    const int n = p->trainee->n_outputs;
    lucid_row_loss found;
    int sequence;
    int64_t token;
    const bool there = lucid_micro_token(&p->micro, row, &sequence, &token) && sequence < e->n_sequences;
    const int64_t at = there ? sequence * e->length + token : 0;
    if (!there || (e->values ? isnan(e->values[at]) : e->targets[at] < 0)) {
        memset(outputs, 0, (size_t)n * sizeof *outputs);
        return;
    }
    if (e->values)
        found = lucid_squared_error(outputs, e->values[at], scale);
    else
        found = lucid_cross_entropy(outputs, n, e->targets[at], scale);
    sums->loss += lucid_exact_loss(found.loss);
    sums->correct += found.correct;
    sums->asked += 1;
}

/* p->outputs of one leaf become their gradients. The sums are exact: threads may add theirs in any order. */
static void leaf_losses(lucid_pass_sums *sums, const lucid_pass *p, const lucid_leaf *leaf, double scale) {
    double loss = 0, correct = 0, asked = 0;
#pragma omp parallel for schedule(static) num_threads(p->options.threads) reduction(+ : loss, correct, asked)
    for (int64_t r = 0; r < leaf->n_rows; r++) {
        lucid_pass_sums one = {0};
        row_loss(&one, p, leaf->first + r, p->outputs + (size_t)r * (size_t)p->trainee->n_outputs, scale);
        loss += one.loss;
        correct += one.correct;
        asked += one.asked;
    }
    sums->loss += loss;
    sums->correct += correct;
    sums->asked += asked;
}

/* One leaf's rows: x -> outputs -> losses, and back. */
static void run_leaf(lucid_pass_sums *sums, lucid_pass *p, const lucid_leaf *leaf, bool learn, double scale) {
    const lucid_model *m = &p->trainee->model;
    const int hidden = m->config.hidden_size, threads = p->options.threads;
    const size_t at = (size_t)leaf->first * (size_t)hidden;
    const lucid_leaf own = {.first = 0, .n_rows = leaf->n_rows};
    const lucid_linear head = {.weight = m->lm_head, .n_in = hidden, .n_out = p->trainee->n_outputs};
    const float *normed = m->norm ? p->normed + at : p->x + at;
    float *dnormed = m->norm ? p->dnormed + at : p->dx + at;
    if (m->norm)
        lucid_rms_norm(p->normed + at, p->x + at, m->norm, leaf->n_rows, hidden, m->config.rms_norm_eps, threads);
    lucid_pass_multiply(p, p->outputs, &head, normed, &own, 1, false);
    leaf_losses(sums, p, leaf, scale);
    if (!learn) return;
    lucid_pass_multiply_backward(p, dnormed, &head, p->outputs, normed, &own, 1, false);
    if (!m->norm) return;
    memset(p->dx + at, 0, (size_t)leaf->n_rows * (size_t)hidden * sizeof *p->dx);
    lucid_rms_norm_backward(p->dx + at, lucid_trainee_gradient(p->trainee, m->norm), dnormed, p->x + at, m->norm,
                            leaf->n_rows, hidden, m->config.rms_norm_eps, threads);
}

void lucid_pass_losses(lucid_pass_sums *sums, lucid_pass *p, bool learn, double scale) {
    const double begin = lucid_clock();
    for (int l = 0; l < p->micro.n_leaves; l++) run_leaf(sums, p, &p->leaves[l], learn, scale);
    p->times.losses += lucid_clock() - begin;
}
