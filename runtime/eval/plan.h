/* What a sample hides and asks for, before it is text. Internal to lucid_eval. */
#ifndef LUCID_RUNTIME_EVAL_PLAN_H
#define LUCID_RUNTIME_EVAL_PLAN_H

#include "runtime/eval/niah.h"

typedef struct {
    char key[LUCID_DRAWN_MAX], value[LUCID_DRAWN_MAX];
    char shown[LUCID_DRAWN_MAX]; /* the key that the text has; empty: the needle is not there */
    bool asked;
    double depth;     /* percent */
    int64_t position; /* stands before this unit of the haystack: a sentence or a line */
} lucid_niah_needle;

typedef struct {
    const lucid_niah_task *task;
    int64_t index;
    lucid_niah_needle needles[LUCID_NIAH_MAX_NEEDLES]; /* all values of a key side by side, distractors last */
    int order[LUCID_NIAH_MAX_NEEDLES];                 /* by position */
    int n_needles;
    int first_asked, n_asked; /* keys */
    int64_t start;            /* word that running text begins with */
} lucid_niah_plan;

/* Everything but the places. Pure. */
void lucid_niah_plan_make(lucid_niah_plan *plan, const lucid_niah_task *task, int64_t index);

/* Places in a haystack of n_units sentences or lines. Pure. */
void lucid_niah_plan_place(lucid_niah_plan *plan, int64_t n_units);

/* Draws of line i of a haystack of needles. */
lucid_draws lucid_niah_plan_line(const lucid_niah_plan *plan, int64_t i);
/* A key that no needle has, or a value. text holds LUCID_DRAWN_MAX. */
void lucid_niah_draw_key(char *text, lucid_draws *draws, const lucid_niah_plan *plan);
void lucid_niah_draw_value(char *text, lucid_draws *draws, const lucid_niah_plan *plan);

/* The context around a haystack of n words or lines; places the needles. *text is malloc'ed. */
lucid_status lucid_niah_render_context(char **text, size_t *n_bytes, lucid_niah_plan *plan, int64_t n);

/* The question for n_keys keys from first_key on. */
lucid_status lucid_niah_render_question(lucid_niah_question *question, const lucid_niah_plan *plan, int first_key,
                                        int n_keys);

#endif
