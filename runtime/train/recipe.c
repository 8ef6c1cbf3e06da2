#include "runtime/train/recipe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_model(FILE *to, const lucid_trainee_config *c) {
    const lucid_model_config *m = &c->config;
    fprintf(to, "%s attention, hidden %d, intermediate %d, vocabulary %d, layers %d, heads %d/%d of %d, ",
            m->attention == LUCID_MODEL_LUCID ? "lucid" : "softmax", m->hidden_size, m->intermediate_size,
            m->vocab_size, m->n_layers, m->n_heads, m->n_kv_heads, m->head_dim);
    fprintf(to, "activation %d, norms of q and k %d, rms_norm_eps %.17g, tied %d, biases %d/%d, convolutions %d, ",
            m->activation, m->qk_norm == LUCID_QKNORM_ON, m->rms_norm_eps, m->tie_word_embeddings, m->attention_bias,
            m->mlp_bias, m->conv_size);
    fprintf(to, "query scale %d, bare %d, key gain %d; ", m->query_log_scale, c->bare, c->key_gain);
}

/* All of it decides the frequencies, or is the same for all of a type. */
static void put_rope(FILE *to, const lucid_model_config *m) {
    const lucid_rope r = m->use_rope ? m->rope : (lucid_rope){0};
    fprintf(to, "RoPE %d of %.17g on %d, its scaling %d by %.17g from %d to %d, ", m->use_rope, r.theta,
            lucid_model_rotary_dim(m), r.type, r.factor, r.original_max_position_embeddings,
            r.type == LUCID_ROPE_DYNAMIC ? m->max_position_embeddings : 0);
    fprintf(to, "frequency factors %.17g and %.17g, attention factor %.17g, RoPE's betas %.17g and %.17g, ",
            r.low_freq_factor, r.high_freq_factor, r.attention_factor, r.beta_fast, r.beta_slow);
    fprintf(to, "mscale %.17g and %.17g, truncation %d; ", r.mscale, r.mscale_all_dim, r.truncate);
}

static void put_task(FILE *to, const lucid_task_options *k, uint64_t text) {
    static const char *const kinds[] = {[LUCID_TASK_TEXT] = "text",
                                        [LUCID_TASK_TWO_PHASE] = "two-phase",
                                        [LUCID_TASK_OVERWRITE] = "overwrite",
                                        [LUCID_TASK_RECALL] = "recall",
                                        [LUCID_TASK_NIAH] = "niah"};
    fprintf(to, "task %s, seed %" PRIu64 ", length %" PRId64 ", phase %d, ", kinds[k->kind], k->seed, k->length,
            k->phase);
    fprintf(to, "facts %d/%d/%d of %d and %d, positions %d, mixture %d and %d, ", k->n_facts, k->n_slots, k->n_queries,
            k->n_keys, k->n_values, k->n_positions, k->facts_in_ten, k->needles_in_ten);
    fprintf(to, "text of %" PRId64 " tokens with checksum %016" PRIx64 "; ", k->n_ids, text);
}

static void put_learning(FILE *to, const lucid_training_options *o) {
    fprintf(to, "weights from seed %" PRIu64 ", deviation %.17g, matching %d, ", o->seed, o->deviation, o->matching);
    fprintf(to, "%d sequences a step in tiles of %" PRId64 ", ", o->n_sequences, o->tile);
    fprintf(to, "rate %.17g to %.17g, warm-up %" PRId64 " of %" PRId64 ", ", o->course.rate, o->course.last,
            o->course.n_warmup, o->course.n_steps);
    fprintf(to, "betas %.17g and %.17g, eps %.17g, decay %.17g, clip %.17g; ", o->adamw.beta1, o->adamw.beta2,
            o->adamw.eps, o->adamw.decay, o->clip);
}

char *lucid_recipe_text(const lucid_recipe *recipe) {
    const lucid_training_options *o = recipe->options;
    char *text = NULL;
    size_t n_bytes;
    FILE *to = open_memstream(&text, &n_bytes);
    if (!to) return NULL;
    put_model(to, &o->model);
    put_rope(to, &o->model.config);
    put_task(to, &o->task, recipe->text);
    put_learning(to, o);
    fprintf(to, "kernels %s, products by %s, processor %s", o->isa, lucid_blas_name(recipe->blas), recipe->blas->core);
    const bool failed = ferror(to);
    if (fclose(to) == 0 && !failed) return text;
    free(text);
    return NULL;
}

static bool begins_clause(const char *text, size_t at) {
    return at == 0 || (at > 1 && text[at - 1] == ' ' && strchr(",;", text[at - 2]));
}

bool lucid_recipe_compare(lucid_recipe_difference *found, const char *a, const char *b) {
    size_t at = 0;
    while (a[at] && a[at] == b[at]) at++;
    if (a[at] == b[at]) return false;
    while (!begins_clause(a, at)) at--;
    *found = (lucid_recipe_difference){a + at, b + at, (int)strcspn(a + at, ",;"), (int)strcspn(b + at, ",;")};
    return true;
}
