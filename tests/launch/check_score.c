/* check_score MODEL_DIR IDS LOGITS.safetensors FIRST[:END] REPORT.json: what `lucid score` says of a model of the
 * golden folders' kind, against the fp64 oracle: the logits of positions FIRST to END - 1, else to the last, the loss
 * and what follows from it. */
#include "tests/check.h"
#include "tests/runtime/model/oracle_folder.h"

#include "runtime/files/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* fp32 through a few layers. */
#define TOLERANCE 5e-5

static int read_ids(int64_t *ids, int max, const char *path) {
    FILE *file = fopen(path, "r");
    int n = 0;
    long long id;
    while (file && n < max && fscanf(file, "%lld", &id) == 1) ids[n++] = id;
    if (file) fclose(file);
    return n;
}

static void check_logits(const char *path, const char *positions, const double *want, int n, int vocab) {
    lucid_safetensors *file;
    if (lucid_safetensors_open(&file, path)) exit(1);
    const lucid_safetensors_tensor *tensor = lucid_safetensors_find(file, "logits");
    const char *end = strchr(positions, ':');
    const int64_t first = atoll(positions), rows = (end ? atoll(end + 1) : n) - first;
    double apart = 0, largest = 0;
    if (!tensor || tensor->n_dims != 2 || tensor->shape[0] != rows || tensor->shape[1] != vocab) {
        CHECK(false, "%s: want logits of (%lld, %d)", path, (long long)rows, vocab);
        return;
    }
    float *got = calloc((size_t)(rows * vocab), sizeof *got);
    if (lucid_safetensors_read(file, tensor, 0, rows * vocab, got)) exit(1);
    for (int64_t i = 0; i < rows * vocab; i++) {
        const double d = fabs(got[i] - want[first * vocab + i]);
        apart = d > apart || isnan(d) ? d : apart;
        largest = fmax(largest, fabs(want[first * vocab + i]));
    }
    CHECK_NEAR(apart / largest, 0, TOLERANCE, "%lld rows of logits", (long long)rows);
    free(got);
    lucid_safetensors_close(file);
}

static double loss_of(const double *logits, const int64_t *ids, int n, int vocab) {
    double loss = 0;
    for (int t = 0; t + 1 < n; t++) {
        double largest = -INFINITY, sum = 0;
        for (int i = 0; i < vocab; i++) largest = fmax(largest, logits[t * vocab + i]);
        for (int i = 0; i < vocab; i++) sum += exp(logits[t * vocab + i] - largest);
        loss += largest + log(sum) - logits[t * vocab + ids[t + 1]];
    }
    return loss;
}

static double reported(const json_t *report, const char *key) {
    return json_number_value(json_object_get(json_object_get(report, "score"), key));
}

static void check_report(const char *path, double loss, int n_scored) {
    json_t *report = json_load_file(path, 0, NULL);
    CHECK_NEAR(reported(report, "loss") / loss, 1, TOLERANCE, "loss");
    CHECK_NEAR(reported(report, "scored"), n_scored, 0, "tokens scored");
    CHECK_NEAR(reported(report, "mean_loss") * n_scored / loss, 1, TOLERANCE, "mean loss");
    CHECK_NEAR(log(reported(report, "perplexity")) * n_scored / loss, 1, TOLERANCE, "perplexity");
    json_decref(report);
}

int main(int argc, char **argv) {
    enum { MAX = 4096 };
    static int64_t ids[MAX];
    if (argc != 6) return 2;
    const int n = read_ids(ids, MAX, argv[2]);
    oracle_folder folder = oracle_folder_read(argv[1], n);
    const int vocab = folder.model.config.vocab_size;
    double *logits = calloc((size_t)n * (size_t)vocab, sizeof *logits);
    oracle_logits(logits, &folder.model, ids, n);
    check_logits(argv[3], argv[4], logits, n, vocab);
    check_report(argv[5], loss_of(logits, ids, n, vocab), n - 1);
    free(logits);
    oracle_folder_free(&folder);
    return check_result();
}
