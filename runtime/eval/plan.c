#include "runtime/eval/plan.h"

#include "runtime/files/checksum.h"

#include <string.h>

/* What a stream of draws is for. */
enum { FOR_NEEDLES = 1, FOR_PLACES, FOR_START, FOR_LINES };

enum { N_DEPTHS = 40 }; /* where the harness puts needles in running text: round(linspace(0, 100, 40)) percent */

static lucid_draws begin(const lucid_niah_plan *plan, uint32_t purpose, uint32_t line) {
    const lucid_niah_task *t = plan->task;
    const uint64_t cell = (uint64_t)t->length << 8 | (uint32_t)t->n_keys;
    return lucid_draws_begin(t->seed ^ (uint64_t)line << 32, 0x4e490000 | purpose, (uint32_t)(cell ^ cell >> 32),
                             (uint32_t)plan->index);
}

/* --- keys and values --- */

static void draw(char *text, lucid_draws *draws, lucid_niah_kind kind, bool training) {
    static void (*const kinds[])(char *text, lucid_draws *draws) = {
        [LUCID_NIAH_WORDS] = lucid_draws_word,
        [LUCID_NIAH_NUMBERS] = lucid_draws_number,
        [LUCID_NIAH_UUIDS] = lucid_draws_uuid,
    };
    do kinds[kind](text, draws);
    while ((lucid_checksum(0, text, strlen(text)) & 1) != training); /* half of all that there is, for each */
}

static bool is_key(const lucid_niah_plan *plan, const char *text) {
    for (int i = 0; i < plan->n_needles; i++)
        if (!strcmp(plan->needles[i].key, text) || !strcmp(plan->needles[i].shown, text)) return true;
    return false;
}

void lucid_niah_draw_key(char *text, lucid_draws *draws, const lucid_niah_plan *plan) {
    do draw(text, draws, plan->task->key_kind, plan->task->training);
    while (is_key(plan, text));
}

void lucid_niah_draw_value(char *text, lucid_draws *draws, const lucid_niah_plan *plan) {
    draw(text, draws, plan->task->value_kind, plan->task->training);
}

/* A key and its values. */
static void add_needles(lucid_niah_plan *plan, lucid_draws *draws, int n_values) {
    char key[LUCID_DRAWN_MAX];
    lucid_niah_draw_key(key, draws, plan);
    for (int i = 0; i < n_values; i++) {
        lucid_niah_needle *needle = &plan->needles[plan->n_needles];
        *needle = (lucid_niah_needle){0};
        memcpy(needle->key, key, sizeof key);
        memcpy(needle->shown, key, sizeof key);
        lucid_niah_draw_value(needle->value, draws, plan);
        plan->n_needles++;
    }
}

/* Drawn last, so that a control differs from its sample in nothing else. */
static void apply_control(lucid_niah_plan *plan, lucid_draws *draws) {
    for (int i = 0; i < plan->n_needles; i++) {
        lucid_niah_needle *needle = &plan->needles[i];
        char other[LUCID_DRAWN_MAX] = "";
        if (!needle->asked || plan->task->control == LUCID_NIAH_NO_CONTROL) continue;
        if (plan->task->control == LUCID_NIAH_WRONG_KEY) lucid_niah_draw_key(other, draws, plan);
        memcpy(needle->shown, other, sizeof other);
    }
}

void lucid_niah_plan_make(lucid_niah_plan *plan, const lucid_niah_task *task, int64_t index) {
    *plan = (lucid_niah_plan){.task = task, .index = index, .n_asked = task->n_keys};
    lucid_draws draws = begin(plan, FOR_NEEDLES, 0);
    for (int i = 0; i < task->n_keys; i++) add_needles(plan, &draws, task->n_values);
    if (task->asking == LUCID_NIAH_ASK_ONE) {
        plan->first_asked = (int)lucid_draws_below(&draws, (uint32_t)task->n_keys);
        plan->n_asked = 1;
    }
    for (int i = 0; i < task->n_distractors; i++) add_needles(plan, &draws, 1);
    for (int i = 0; i < plan->n_asked * task->n_values; i++)
        plan->needles[plan->first_asked * task->n_values + i].asked = true;
    apply_control(plan, &draws);
    if (task->haystack != LUCID_NIAH_TEXT || !task->wording->random_start) return;
    draws = begin(plan, FOR_START, 0);
    do plan->start = lucid_draws_below(&draws, (uint32_t)task->corpus->n_words);
    while (!lucid_corpus_begins(task->corpus, plan->start));
}

/* --- places --- */

/* A depth of running text, or a line, that no needle before has while there are such. */
static void place_anywhere(lucid_niah_plan *plan, lucid_draws *draws, int i, int64_t n_units) {
    lucid_niah_needle *needle = &plan->needles[i];
    const bool text = plan->task->haystack == LUCID_NIAH_TEXT;
    const int64_t n_choices = text ? N_DEPTHS : n_units;
    int64_t choice;
    bool taken;
    do {
        choice = n_choices ? lucid_draws_below(draws, (uint32_t)n_choices) : 0;
        needle->depth = text      ? (double)((200 * choice + 39) / 78)
                        : n_units ? 100. * (double)choice / (double)n_units
                                  : 0;
        taken = false;
        for (int j = 0; j < i; j++) taken = taken || plan->needles[j].depth == needle->depth;
    } while (taken && n_choices > i);
    needle->position = text ? (int64_t)((double)n_units * needle->depth / 100) : choice;
}

static void sort_by_position(lucid_niah_plan *plan) {
    for (int i = 0; i < plan->n_needles; i++) {
        int at = i;
        for (; at > 0 && plan->needles[plan->order[at - 1]].position > plan->needles[i].position; at--)
            plan->order[at] = plan->order[at - 1];
        plan->order[at] = i;
    }
}

void lucid_niah_plan_place(lucid_niah_plan *plan, int64_t n_units) {
    const lucid_niah_task *t = plan->task;
    lucid_draws draws = begin(plan, FOR_PLACES, 0);
    int64_t turn = plan->index * plan->n_asked * t->n_values;
    for (int i = 0; i < plan->n_needles; i++) {
        lucid_niah_needle *needle = &plan->needles[i];
        if (!needle->asked || t->n_depths == 0) {
            place_anywhere(plan, &draws, i, n_units);
        } else {
            needle->depth = t->depths[turn++ % t->n_depths];
            needle->position = (int64_t)((double)n_units * needle->depth / 100);
        }
    }
    sort_by_position(plan);
}

lucid_draws lucid_niah_plan_line(const lucid_niah_plan *plan, int64_t i) {
    return begin(plan, FOR_LINES, (uint32_t)i);
}
