#include "runtime/eval/niah.h"

#include <string.h>

/* The first is lm-evaluation-harness 0.4.9's (tasks/ruler/niah_utils.py and prepare_niah.py), its rules for one value
 * applied. The second is made for models of bytes: its question ends with what stands before the value in the text. */
static const lucid_niah_template templates[] = {
    {.name = "ruler",
     .needle = "One of the special magic {type} for {key} is: {value}.",
     .one = {.before = "A special magic {type} is hidden within the following text. Make sure to memorize it. I will "
                       "quiz you about the {type} afterwards.\n",
             .question = "\nWhat is the special magic {type} for {query} mentioned in the provided text?",
             .answer = "The special magic {type} for {query} mentioned in the provided text is"},
     .several = {.before = "Some special magic {type} are hidden within the following text. Make sure to memorize it. "
                           "I will quiz you about the {type} afterwards.\n",
                 .question = "\nWhat are all the special magic {type} for {query} mentioned in the provided text?",
                 .answer = "The special magic {type} for {query} mentioned in the provided text are"},
     .text_step = 500,
     .line_step = 25,
     .short_step = 5,
     .n_new = {128, 128, 128}},
    {.name = "short",
     .needle = "[{key}: {value}]",
     .one = {.before = "", .question = "\nRecall", .answer = "[{query}:"},
     .text_step = 1,
     .line_step = 1,
     .short_step = 1,
     .random_start = true,
     .stop = "]",
     .n_new = {24, 12, 40}},
};

const lucid_niah_template *lucid_niah_template_find(const char *name) {
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
        if (!strcmp(templates[i].name, name)) return &templates[i];
    return NULL;
}

/* --- names of results --- */

const char *const lucid_niah_haystacks[] = {"noise", "text", "needles"};
const char *const lucid_niah_kinds[] = {"words", "numbers", "uuids"};

/* The harness's own tasks. */
static const struct {
    const char *name;
    lucid_niah_haystack haystack;
    lucid_niah_kind key_kind, value_kind;
    int n_keys, n_values;
    lucid_niah_asking asking;
} known[] = {
    {"niah_single_1", LUCID_NIAH_NOISE, LUCID_NIAH_WORDS, LUCID_NIAH_NUMBERS, 1, 1, LUCID_NIAH_ASK_EACH},
    {"niah_single_2", LUCID_NIAH_TEXT, LUCID_NIAH_WORDS, LUCID_NIAH_NUMBERS, 1, 1, LUCID_NIAH_ASK_EACH},
    {"niah_single_3", LUCID_NIAH_TEXT, LUCID_NIAH_WORDS, LUCID_NIAH_UUIDS, 1, 1, LUCID_NIAH_ASK_EACH},
    {"niah_multikey_1", LUCID_NIAH_TEXT, LUCID_NIAH_WORDS, LUCID_NIAH_NUMBERS, 4, 1, LUCID_NIAH_ASK_ONE},
    {"niah_multikey_2", LUCID_NIAH_NEEDLES, LUCID_NIAH_WORDS, LUCID_NIAH_NUMBERS, 1, 1, LUCID_NIAH_ASK_EACH},
    {"niah_multikey_3", LUCID_NIAH_NEEDLES, LUCID_NIAH_UUIDS, LUCID_NIAH_UUIDS, 1, 1, LUCID_NIAH_ASK_EACH},
    {"niah_multivalue", LUCID_NIAH_TEXT, LUCID_NIAH_WORDS, LUCID_NIAH_NUMBERS, 1, 4, LUCID_NIAH_ASK_EACH},
    {"niah_multiquery", LUCID_NIAH_TEXT, LUCID_NIAH_WORDS, LUCID_NIAH_NUMBERS, 4, 1, LUCID_NIAH_ASK_ALL},
};

static const char *known_name(const lucid_niah_task *t) {
    if (t->wording != &templates[0] || t->n_distractors || t->control || t->n_depths || t->step) return NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].haystack == t->haystack && known[i].key_kind == t->key_kind &&
            known[i].value_kind == t->value_kind && known[i].n_keys == t->n_keys && known[i].n_values == t->n_values &&
            (known[i].asking == t->asking || t->n_keys == 1))
            return known[i].name;
    return NULL;
}

void lucid_niah_name(char *text, const lucid_niah_task *t) {
    static const char *const askings[] = {"", "_one", "_all"}, *const controls[] = {"", "_removed", "_wrong_key"};
    FILE *stream = fmemopen(text, LUCID_NIAH_NAME_MAX, "w");
    text[0] = 0;
    if (!stream) return;
    if (known_name(t)) {
        fputs(known_name(t), stream);
    } else {
        fprintf(stream, "niah_%s_%s_k%d", t->wording->name, lucid_niah_haystacks[t->haystack], t->n_keys);
        if (t->n_values > 1) fprintf(stream, "_v%d", t->n_values);
        if (t->n_keys > 1) fputs(askings[t->asking], stream);
        if (t->n_distractors) fprintf(stream, "_d%d", t->n_distractors);
        if (t->key_kind != LUCID_NIAH_WORDS || t->value_kind != LUCID_NIAH_NUMBERS)
            fprintf(stream, "_%s_%s", lucid_niah_kinds[t->key_kind], lucid_niah_kinds[t->value_kind]);
        fputs(controls[t->control], stream);
    }
    fclose(stream);
}
