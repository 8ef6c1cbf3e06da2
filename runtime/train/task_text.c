#include "runtime/train/task_kinds.h"

/* Windows are of one token more than a sequence: the last one's target. */
static lucid_status open_text(lucid_task *t) {
    const lucid_task_options *o = &t->options;
    t->shape = (lucid_task_shape){.length = o->length, .vocab_size = o->vocab_size, .n_ids = 1};
    for (int use = LUCID_TASK_TRAIN; use <= LUCID_TASK_VALIDATE; use++) {
        int64_t first, last;
        lucid_task_part(t, (lucid_task_use)use, &first, &last);
        if (last - first <= o->length || last - first > UINT32_MAX)
            return lucid_fail(LUCID_ERR_INPUT,
                              "the text's %lld tokens leave %lld to %s, which is not enough for sequences of %lld, or "
                              "more than 2^32",
                              (long long)o->n_ids, (long long)(last - first), use ? "validate with" : "train on",
                              (long long)o->length);
    }
    return LUCID_OK;
}

static lucid_status fill_text(lucid_sequence *s, const lucid_task *t, lucid_draws *draws) {
    const int64_t n = t->shape.length;
    const int32_t *window = lucid_task_window(t, s->use, n + 1, draws);
    for (int64_t i = 0; i < n; i++) {
        s->ids[i] = window[i];
        s->targets[i] = window[i + 1];
    }
    return LUCID_OK;
}

const lucid_task_source lucid_task_text = {.open = open_text, .fill = fill_text};
