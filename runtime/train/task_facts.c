/* overwrite and recall. Ids: keys, then values, then the query mark, then positions. A fact is a token made of its key
 * and its value; a query one made of a key and the mark, and its target is a value. */
#include "runtime/train/task_kinds.h"

#include <stdlib.h>

enum { KEY, VALUE, POSITION };

static lucid_status open_facts(lucid_task *t) {
    lucid_task_options *o = &t->options;
    if (o->kind == LUCID_TASK_RECALL) o->n_slots = o->n_facts;
    if (o->n_facts < 1 || o->n_queries < 1 || o->n_values < 1 || o->n_slots < 1 || o->n_slots > o->n_keys)
        return lucid_fail(LUCID_ERR_USAGE, "%d facts over %d of %d keys with %d values and %d queries: impossible",
                          o->n_facts, o->n_slots, o->n_keys, o->n_values, o->n_queries);
    const int64_t length = (int64_t)o->n_facts + o->n_queries;
    if (o->n_positions && o->n_positions < length)
        return lucid_fail(LUCID_ERR_USAGE, "%lld tokens need more than %d positions", (long long)length,
                          o->n_positions);
    t->shape = (lucid_task_shape){
        .length = length, .vocab_size = o->n_keys + o->n_values + 1 + o->n_positions, .n_ids = o->n_positions ? 3 : 2};
    return LUCID_OK;
}

/* n different keys, each set as likely. */
static void draw_keys(int32_t *keys, int n, int n_keys, lucid_draws *draws) {
    for (int i = 0; i < n; i++) {
        bool again = true;
        while (again) {
            again = false;
            keys[i] = (int32_t)lucid_draws_below(draws, (uint32_t)n_keys);
            for (int j = 0; j < i; j++) again = again || keys[j] == keys[i];
        }
    }
}

/* Every key is in some fact: the first facts name each once, in recall all facts do. */
static void state_facts(lucid_sequence *s, const lucid_task *t, const int32_t *keys, int32_t *last,
                        lucid_draws *draws) {
    const lucid_task_options *o = &t->options;
    for (int f = 0; f < o->n_facts; f++) {
        const int slot = f < o->n_slots ? f : (int)lucid_draws_below(draws, (uint32_t)o->n_slots);
        int32_t *ids = s->ids + (size_t)f * (size_t)t->shape.n_ids;
        last[slot] = o->n_keys + (int32_t)lucid_draws_below(draws, (uint32_t)o->n_values);
        ids[KEY] = keys[slot];
        ids[VALUE] = last[slot];
    }
}

static void ask(lucid_sequence *s, const lucid_task *t, const int32_t *keys, const int32_t *last, lucid_draws *draws) {
    const lucid_task_options *o = &t->options;
    for (int64_t i = o->n_facts; i < t->shape.length; i++) {
        const uint32_t slot = lucid_draws_below(draws, (uint32_t)o->n_slots);
        int32_t *ids = s->ids + i * t->shape.n_ids;
        ids[KEY] = keys[slot];
        ids[VALUE] = o->n_keys + o->n_values;
        s->targets[i] = last[slot];
    }
}

static lucid_status fill_facts(lucid_sequence *s, const lucid_task *t, lucid_draws *draws) {
    const lucid_task_options *o = &t->options;
    int32_t *keys = malloc(2 * (size_t)o->n_slots * sizeof *keys);
    if (!keys) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d keys", o->n_slots);
    draw_keys(keys, o->n_slots, o->n_keys, draws);
    state_facts(s, t, keys, keys + o->n_slots, draws);
    ask(s, t, keys, keys + o->n_slots, draws);
    free(keys);
    if (!o->n_positions) return LUCID_OK;
    const int32_t start = (int32_t)lucid_draws_below(draws, (uint32_t)(o->n_positions - t->shape.length + 1));
    for (int64_t i = 0; i < t->shape.length; i++)
        s->ids[i * t->shape.n_ids + POSITION] = o->n_keys + o->n_values + 1 + start + (int32_t)i;
    return LUCID_OK;
}

const lucid_task_source lucid_task_facts = {.open = open_facts, .fill = fill_facts};
