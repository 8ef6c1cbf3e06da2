/* Opening a model: each rank reads the headers for itself, all agree that they saw the same, and only then is memory
 * taken and filled. */
#include "runtime/model/weights.h"

#include "runtime/files/half.h"
#include "runtime/model/fingerprint.h"
#include "runtime/model/shared.h"
#include "runtime/model/tensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK     (1 << 16) /* elements that are widened at once: 128 KiB of a file */
#define ALIGNMENT 64

typedef struct {
    void *base; /* NULL: nothing of this shard is used in place */
    size_t bytes;
} mapping;

struct lucid_model_storage {
    mapping *mappings; /* (n_mappings) */
    int n_mappings;
    lucid_shared_memory shared;
};

/* What is needed only until the model is open. */
typedef struct {
    lucid_model_files files;
    lucid_model_slot *slots; /* (n_slots) */
    int n_slots;
} loading;

static bool in_place(const lucid_model_slot *slot) {
    return slot->dtype == LUCID_F32 && slot->tensor->offset % (int64_t)sizeof(float) == 0;
}

/* Both of sizes that follow from the configuration, which is why they are checked before anything is allocated. */
static lucid_status allocate(lucid_model *model, int n_shards, const char *folder) {
    model->layers = calloc((size_t)model->config.n_layers, sizeof *model->layers);
    model->storage->mappings = calloc((size_t)n_shards, sizeof *model->storage->mappings);
    if (!model->layers || !model->storage->mappings)
        return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for %d layers", folder, model->config.n_layers);
    model->storage->n_mappings = n_shards;
    return LUCID_OK;
}

static void settle_qk_norm(lucid_model_config *config, const lucid_model_files *files) {
    int shard;
    if (config->qk_norm != LUCID_QKNORM_AS_WEIGHTS) return;
    const bool there = lucid_model_files_find(files, "model.layers.0.self_attn.q_norm.weight", &shard) != NULL;
    config->qk_norm = there ? LUCID_QKNORM_ON : LUCID_QKNORM_OFF;
}

/* Gives every tensor that is not used in place its room in shared memory, and counts. */
static lucid_status lay_out(lucid_model *model, loading *load, const char *folder) {
    for (int s = 0; s < load->n_slots; s++) {
        lucid_model_slot *slot = &load->slots[s];
        const int64_t n = slot->tensor->n_elements;
        if (n > INT64_MAX / 8 / load->n_slots)
            return lucid_fail(LUCID_ERR_MEMORY, "%s: tensor %s is too large", folder, slot->name);
        model->n_parameters += n;
        if (in_place(slot)) {
            model->mapped_bytes += (size_t)n * sizeof(float);
            continue;
        }
        slot->offset = model->shared_bytes;
        model->shared_bytes += ((size_t)n * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return LUCID_OK;
}

static lucid_status prepare(lucid_model *model, loading *load, const char *folder, const lucid_model_options *options) {
    LUCID_TRY(lucid_model_config_read(&model->config, folder));
    LUCID_TRY(lucid_model_files_open(&load->files, folder));
    settle_qk_norm(&model->config, &load->files);
    LUCID_TRY(allocate(model, load->files.n_shards, folder));
    LUCID_TRY(lucid_model_slots_make(&load->slots, &load->n_slots, model));
    LUCID_TRY(lucid_model_slots_find(load->slots, load->n_slots, &load->files, folder,
                                     model->config.tie_word_embeddings, options));
    return lay_out(model, load, folder);
}

/* FNV-1a. */
static uint64_t hash(uint64_t h, const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return h;
}

static uint64_t hash_model(const lucid_model *model, const loading *load) {
    const uint64_t config = lucid_model_config_hash(&model->config, 0);
    uint64_t h = hash(0xcbf29ce484222325u, &config, sizeof config);
    for (int s = 0; s < load->n_slots; s++) {
        const lucid_model_slot *slot = &load->slots[s];
        h = hash(h, slot->name, strlen(slot->name) + 1);
        h = hash(h, slot->shape, (size_t)slot->n_dims * sizeof slot->shape[0]);
        h = hash(h, &slot->dtype, sizeof slot->dtype);
        h = hash(h, &slot->tensor->offset, sizeof slot->tensor->offset);
    }
    return h;
}

/* A host with another copy of the folder would run into collectives that the others do not make. Halves of the hash are
 * exact in fp64. Collective. */
static lucid_status agree_on_model(const lucid_model *model, const loading *load, lucid_comm *comm,
                                   const char *folder) {
    const uint64_t h = hash_model(model, load);
    const double low = (double)(uint32_t)h, high = (double)(h >> 32);
    double least[] = {low, -low, high, -high};
    LUCID_TRY(lucid_comm_allreduce(comm, least, 4, LUCID_MIN));
    if (least[0] == -least[1] && least[2] == -least[3]) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: its model is not the same on all ranks", folder);
}

static lucid_status map_shard(mapping *m, const lucid_safetensors *shard) {
    const char *path = lucid_safetensors_path(shard);
    struct stat info;
    int n_tensors;
    const lucid_safetensors_tensor *tensors = lucid_safetensors_tensors(shard, &n_tensors);
    const int64_t end = tensors[n_tensors - 1].offset + tensors[n_tensors - 1].n_bytes;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lucid_fail(LUCID_ERR_IO, "%s: cannot open again: %s", path, strerror(errno));
    void *base = MAP_FAILED;
    const bool same = fstat(fd, &info) == 0 && info.st_size == end;
    if (same) base = mmap(NULL, (size_t)end, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (!same) return lucid_fail(LUCID_ERR_INPUT, "%s: its size changed while it was read", path);
    if (base == MAP_FAILED) return lucid_fail(LUCID_ERR_IO, "%s: cannot map: %s", path, strerror(errno));
    *m = (mapping){base, (size_t)end};
    return LUCID_OK;
}

/* Sets the slot's pointer; a shard is mapped when the first of its tensors is used in place. */
static lucid_status place(lucid_model_storage *storage, const lucid_model_slot *slot, const loading *load) {
    mapping *m = &storage->mappings[slot->shard];
    if (!in_place(slot)) {
        *slot->pointer = (const float *)(const void *)((const char *)storage->shared.base + slot->offset);
        return LUCID_OK;
    }
    if (!m->base) LUCID_TRY(map_shard(m, load->files.shards[slot->shard]));
    *slot->pointer = (const float *)(const void *)((const char *)m->base + slot->tensor->offset);
    return LUCID_OK;
}

/* The slot's tensor, as fp32, into shared memory. */
static lucid_status widen(const lucid_shared_memory *shared, const lucid_model_slot *slot, const loading *load,
                          void *scratch) {
    const lucid_safetensors *shard = load->files.shards[slot->shard];
    float *dst = (float *)(void *)((char *)shared->base + slot->offset);
    for (int64_t first = 0; first < slot->tensor->n_elements; first += CHUNK) {
        const int64_t left = slot->tensor->n_elements - first, n = left < CHUNK ? left : CHUNK;
        LUCID_TRY(lucid_safetensors_read(shard, slot->tensor, first, n, scratch));
        lucid_widen(dst + first, scratch, slot->dtype, n);
    }
    return LUCID_OK;
}

static lucid_status fill(lucid_model *model, const loading *load) {
    const lucid_shared_memory *shared = &model->storage->shared;
    lucid_status status = LUCID_OK;
    int turn = 0;
    void *scratch = malloc(CHUNK * sizeof(float));
    if (!scratch) return lucid_fail(LUCID_ERR_MEMORY, "no memory to widen weights in");
    for (int s = 0; s < load->n_slots && !status; s++) {
        status = place(model->storage, &load->slots[s], load);
        if (status || in_place(&load->slots[s])) continue;
        if (turn++ % shared->n_writers == shared->writer) status = widen(shared, &load->slots[s], load, scratch);
    }
    free(scratch);
    if (model->config.tie_word_embeddings) model->lm_head = model->embed_tokens;
    return status;
}

/* Collective. */
static lucid_status load_model(lucid_model *model, loading *load, lucid_comm *comm, const char *folder,
                               const lucid_model_options *options) {
    LUCID_TRY(lucid_comm_agree(comm, prepare(model, load, folder, options)));
    LUCID_TRY(agree_on_model(model, load, comm, folder));
    LUCID_TRY(lucid_shared_memory_open(&model->storage->shared, comm, model->shared_bytes));
    model->node_wide = model->storage->shared.node_wide;
    LUCID_TRY(lucid_comm_conclude(comm, fill(model, load)));
    return lucid_comm_agree(comm, lucid_shared_memory_seal(&model->storage->shared));
}

lucid_status lucid_model_open(lucid_model **model, lucid_comm *comm, const char *folder,
                              const lucid_model_options *options) {
    loading load = {0};
    lucid_model *m = calloc(1, sizeof *m);
    if (m) m->storage = calloc(1, sizeof *m->storage);
    lucid_status status = m && m->storage ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for it", folder);
    status = lucid_comm_agree(comm, status);
    if (!status) status = load_model(m, &load, comm, folder, options);
    free(load.slots);
    lucid_model_files_close(&load.files);
    if (status) {
        lucid_model_close(m);
        return status;
    }
    *model = m;
    return LUCID_OK;
}

void lucid_model_close(lucid_model *model) {
    if (!model) return;
    for (int i = 0; model->storage && i < model->storage->n_mappings; i++) {
        const mapping *m = &model->storage->mappings[i];
        if (m->base) munmap(m->base, m->bytes);
    }
    if (model->storage) {
        lucid_shared_memory_close(&model->storage->shared);
        free(model->storage->mappings);
    }
    free(model->storage);
    free(model->layers);
    free(model);
}
