/* RoPE frequencies of every type against those that transformers computes. */
#include "tests/check.h"

#include "kernels/kernels.h"
#include "runtime/model/config.h"

#include "golden_rope.h"

#include <string.h>

/* Both sides round to fp32 after each of at most eight operations, and powf may differ by a place. */
#define TOLERANCE (8 * 0x1p-24)

static void check_case(int c) {
    const char *name = golden_rope[c].name, *text = golden_rope[c].config;
    lucid_model_config config;
    double inv_freq[LUCID_MAX_HEAD_DIM / 2], factor;
    const lucid_status status = lucid_model_config_parse(&config, &(lucid_config_text){text, strlen(text), name}, NULL);
    CHECK(status == LUCID_OK, "%s: %s", name, lucid_failure());
    if (status) return;
    CHECK(config.head_dim == 2 * golden_rope[c].n, "%s: head_dim %d", name, config.head_dim);
    lucid_rope_frequencies(inv_freq, &factor, &config, golden_rope[c].max_context);
    CHECK_NEAR(factor, golden_rope[c].attention_factor, 1e-15, "%s: attention factor", name);
    for (int i = 0; i < golden_rope[c].n; i++) {
        const double want = golden_rope[c].inv_freq[i];
        CHECK_NEAR(inv_freq[i], want, TOLERANCE * want, "%s: inv_freq[%d]", name, i);
    }
}

int main(void) {
    for (int c = 0; c < COUNT(golden_rope); c++) check_case(c);
    return check_result();
}
