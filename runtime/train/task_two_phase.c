/* The LUCID paper's two-phase experiment: a layer that learned to hand on its input must learn to average. */
#include "runtime/train/task_kinds.h"

#define TOKENS 10

static lucid_status open_two_phase(lucid_task *t) {
    if (t->options.phase != 1 && t->options.phase != 2)
        return lucid_fail(LUCID_ERR_USAGE, "two-phase has phases 1 and 2, not %d", t->options.phase);
    t->shape = (lucid_task_shape){.length = TOKENS, .vocab_size = TOKENS, .n_outputs = 1, .n_ids = 1, .values = true};
    return LUCID_OK;
}

static lucid_status fill_two_phase(lucid_sequence *s, const lucid_task *t, lucid_draws *draws) {
    double sum = 0;
    for (int i = 0; i < TOKENS; i++) s->ids[i] = i;
    for (int i = TOKENS - 1; i > 0; i--) {
        const int j = (int)lucid_draws_below(draws, (uint32_t)i + 1);
        const int32_t kept = s->ids[i];
        s->ids[i] = s->ids[j];
        s->ids[j] = kept;
    }
    for (int i = 0; i < TOKENS; i++) {
        sum += s->ids[i];
        s->values[i] = (float)(t->options.phase == 1 ? s->ids[i] : sum / (i + 1));
    }
    return LUCID_OK;
}

const lucid_task_source lucid_task_two_phase = {.open = open_two_phase, .fill = fill_two_phase};
