/* AdamW and the learning rate's course against a plain version in fp64, clipping through a step of a training, and what
 * is refused. */
#include "runtime/train/training.h"
#include "tests/capture_failure.h"
#include "tests/check.h"
#include "tests/comm/drive.h"

#include <string.h>

#define N_STEPS 50
/* 50 steps in fp32: each rounds by 6e-8 of a weight; moments likewise. */
#define TOLERANCE 2e-5

static const lucid_model_config config = {.hidden_size = 8,
                                          .intermediate_size = 12,
                                          .vocab_size = 13,
                                          .n_layers = 1,
                                          .n_heads = 2,
                                          .n_kv_heads = 1,
                                          .head_dim = 4,
                                          .max_position_embeddings = 64,
                                          .rms_norm_eps = 1e-5,
                                          .attention = LUCID_MODEL_LUCID,
                                          .conv_size = 4};

static double gradient_at(int64_t i, int step) {
    return 0.3 * sin(0.7 * (double)i + 1.3 * step) + (i % 5 == 0 ? 0.05 : 0);
}

/* One weight's course, as the paper states it. */
static double follow(double w, int64_t i, double decay, const lucid_adamw *a, double scale) {
    double m = 0, v = 0;
    for (int t = 1; t <= N_STEPS; t++) {
        const double g = scale * gradient_at(i, t - 1), rate = 1e-2 / t;
        m = a->beta1 * m + (1 - a->beta1) * g;
        v = a->beta2 * v + (1 - a->beta2) * g * g;
        w = w - rate * decay * w;
        w = w - rate * (m / (1 - pow(a->beta1, t))) / (sqrt(v / (1 - pow(a->beta2, t))) + a->eps);
    }
    return w;
}

/* Matrices decay; gains and convolutions do not. */
static void test_adamw(void) {
    const lucid_adamw adamw = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .decay = 0.1};
    lucid_trainee t, before;
    lucid_moments m;
    REQUIRE(lucid_trainee_create(&t, &(lucid_trainee_config){.config = config}));
    REQUIRE(lucid_trainee_create(&before, &(lucid_trainee_config){.config = config}));
    REQUIRE(lucid_moments_create(&m, &t));
    lucid_trainee_initialise(&t, 3, 0.5);
    lucid_trainee_initialise(&before, 3, 0.5);
    for (int step = 0; step < N_STEPS; step++) {
        for (int s = 0; s < t.n_slots; s++)
            for (int64_t i = 0; i < lucid_trainee_elements(&t, s); i++)
                t.gradients[t.first[s] + i] = gradient_at(t.first[s] + i, step);
        lucid_adamw_step(&t, &m, &adamw, step, 1e-2 / (step + 1), 0.7, 2);
    }
    for (int s = 0; s < t.n_slots; s++)
        for (int64_t i = 0; i < lucid_trainee_elements(&t, s); i++) {
            const int64_t at = t.first[s] + i;
            const double decay = t.slots[s].n_dims == 2 ? adamw.decay : 0;
            CHECK_NEAR(t.parameters[at], follow(before.parameters[at], at, decay, &adamw, 0.7), TOLERANCE, "%s [%lld]",
                       t.slots[s].name, (long long)i);
            CHECK(t.gradients[at] == 0, "%s [%lld]: the gradient stays", t.slots[s].name, (long long)i);
        }
    lucid_moments_destroy(&m);
    lucid_trainee_destroy(&before);
    lucid_trainee_destroy(&t);
}

static void test_norm(void) {
    lucid_trainee t;
    double norm, square = 0;
    REQUIRE(lucid_trainee_create(&t, &(lucid_trainee_config){.config = config}));
    for (int s = 0; s < t.n_slots; s++)
        for (int64_t i = 0; i < lucid_trainee_elements(&t, s); i++) {
            const double g = gradient_at(t.first[s] + i, 0);
            t.gradients[t.first[s] + i] = g;
            square += g * g;
        }
    REQUIRE(lucid_gradient_norm(&norm, &t));
    CHECK_NEAR(norm, sqrt(square), 1e-12 * sqrt(square), "norm");
    t.gradients[t.first[2] + 1] = NAN;
    check_failed(lucid_gradient_norm(&norm, &t), LUCID_ERR_INPUT, t.slots[2].name);
    lucid_trainee_destroy(&t);
}

static void test_course(void) {
    const lucid_rate_course c = {.rate = 2e-3, .last = 0.1, .n_warmup = 10, .n_steps = 111};
    const double tolerance = 1e-15;
    CHECK_NEAR(lucid_rate_at(&c, 0), 2e-4, tolerance, "the first step");
    CHECK_NEAR(lucid_rate_at(&c, 9), 2e-3, tolerance, "the warm-up's end");
    CHECK_NEAR(lucid_rate_at(&c, 10), 2e-3, tolerance, "the cosine's beginning");
    CHECK_NEAR(lucid_rate_at(&c, 60), 1.1e-3, tolerance, "half of the way: the mean of both ends");
    CHECK_NEAR(lucid_rate_at(&c, 110), 2e-4, tolerance, "the last step");
    for (int64_t step = 11; step < 111; step++)
        CHECK(lucid_rate_at(&c, step) < lucid_rate_at(&c, step - 1), "the rate grows at step %lld", (long long)step);
}

/* A first step's first moments are 0.1 times the gradients that AdamW got: with a clip, less by clip / norm. */
static void test_clipping(void) {
    lucid_comm *comm;
    lucid_training *free_run, *clipped;
    lucid_step_result result, again;
    lucid_training_options options = {
        .model = {.config = config},
        .task = {.kind = LUCID_TASK_RECALL, .n_facts = 3, .n_queries = 2, .n_keys = 6, .n_values = 4},
        .n_sequences = 4,
        .deviation = 0.5,
        .adamw = {.beta1 = 0.9, .beta2 = 0.95},
        .course = {.rate = 1e-3, .last = 1, .n_steps = 2},
        .threads = 1,
    };
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.transport = "self"}));
    REQUIRE(lucid_training_create(&free_run, comm, &options));
    options.clip = 1e-3;
    REQUIRE(lucid_training_create(&clipped, comm, &options));
    REQUIRE(lucid_training_step(&result, free_run));
    REQUIRE(lucid_training_step(&again, clipped));
    CHECK(result.norm > 10 * options.clip && again.norm == result.norm, "norms %g and %g", result.norm, again.norm);
    const float *all = lucid_training_moments(free_run)->first, *less = lucid_training_moments(clipped)->first;
    for (int64_t i = 0; i < lucid_training_trainee(clipped)->n_floats; i++)
        CHECK_NEAR(less[i], all[i] * options.clip / result.norm, 1e-6 * options.clip, "moment %lld", (long long)i);
    lucid_training_destroy(clipped);
    lucid_training_destroy(free_run);
    lucid_comm_close(comm);
}

int main(void) {
    test_adamw();
    test_norm();
    test_course();
    test_clipping();
    return check_result();
}
