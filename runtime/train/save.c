#include "runtime/train/save.h"

#include "runtime/files/safetensors.h"
#include "runtime/train/recipe.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_FORMAT "step-%09" PRId64
#define TEMPORARY   ".step.tmp." /* and the job's name */
#define MAX_KEPT    4096         /* checkpoints in a folder */
#define FORMAT      2            /* of state.json; 1 had not all of the recipe */

/* --- tensors of a training, as files have them --- */

/* The arrays that a prefix of names stands for. */
typedef struct {
    const char *prefix;
    float *values; /* (n_floats) */
} tensor_array;

static lucid_status write_arrays(const lucid_trainee *t, const char *path, const char *job, const tensor_array *arrays,
                                 int n_arrays) {
    const int n = t->n_slots * n_arrays;
    lucid_model_entry *entries = malloc((size_t)n * sizeof *entries);
    if (!entries) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d tensors", n);
    for (int i = 0; i < n; i++) {
        const tensor_array *a = &arrays[i / t->n_slots];
        const int slot = i % t->n_slots;
        entries[i] = (lucid_model_entry){.slot = &t->slots[slot], .values = a->values + t->first[slot]};
        snprintf(entries[i].name, sizeof entries[i].name, "%s%s", a->prefix, t->slots[slot].name);
    }
    const lucid_status status = lucid_model_entries_write(entries, n, path, LUCID_F32, job);
    free(entries);
    return status;
}

static lucid_status read_tensor(float *values, const lucid_safetensors *file, const char *prefix,
                                const lucid_model_slot *slot, int64_t n) {
    char name[96];
    snprintf(name, sizeof name, "%s%s", prefix, slot->name);
    const lucid_safetensors_tensor *tensor = lucid_safetensors_find(file, name);
    const char *path = lucid_safetensors_path(file);
    if (!tensor) return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s is missing", path, name);
    if (strcmp(tensor->dtype, "F32") || tensor->n_dims != slot->n_dims ||
        memcmp(tensor->shape, slot->shape, (size_t)slot->n_dims * sizeof *slot->shape))
        return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s is not of the model's shape in F32", path, name);
    return lucid_safetensors_read(file, tensor, 0, n, values);
}

static lucid_status read_arrays(const lucid_trainee *t, const char *path, const tensor_array *arrays, int n_arrays) {
    lucid_safetensors *file;
    lucid_status status = lucid_safetensors_open(&file, path);
    if (status) return status;
    for (int i = 0; !status && i < t->n_slots * n_arrays; i++) {
        const int slot = i % t->n_slots;
        const tensor_array *a = &arrays[i / t->n_slots];
        status =
            read_tensor(a->values + t->first[slot], file, a->prefix, &t->slots[slot], lucid_trainee_elements(t, slot));
    }
    lucid_safetensors_close(file);
    return status;
}

/* --- small files --- */

static lucid_status write_state(const lucid_training *t, const char *folder) {
    char *recipe = lucid_training_recipe(t);
    json_t *state =
        json_pack("{s:i, s:I, s:s*}", "format", FORMAT, "steps", (json_int_t)lucid_training_steps(t), "recipe", recipe);
    char *text = state && recipe ? json_dumps(state, JSON_INDENT(2)) : NULL;
    const lucid_status status = text ? lucid_folder_write_text(folder, "state.json", text)
                                     : lucid_fail(LUCID_ERR_MEMORY, "no memory for a state");
    free(text);
    json_decref(state);
    free(recipe);
    return status;
}

static lucid_status check_recipe(const char *path, const char *found, const char *own) {
    lucid_recipe_difference d;
    if (!own) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a recipe");
    if (!lucid_recipe_compare(&d, found, own)) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: another recipe: its \"%.*s\" is \"%.*s\" here", path, d.n_a, d.a, d.n_b,
                      d.b);
}

static lucid_status take_state(lucid_training *t, json_t *state, const char *path) {
    json_int_t steps = -1;
    int format = 0;
    const char *recipe = "";
    if (json_unpack(state, "{s:i, s:I, s:s}", "format", &format, "steps", &steps, "recipe", &recipe) || steps < 0)
        return lucid_fail(LUCID_ERR_INPUT, "%s: is no state of a training", path);
    if (format != FORMAT)
        return lucid_fail(LUCID_ERR_INPUT,
                          "%s: is of format %d, and a training goes on from format %d alone: begin another with these "
                          "weights by --from",
                          path, format, FORMAT);
    char *own = lucid_training_recipe(t);
    const lucid_status status = check_recipe(path, recipe, own);
    if (!status) lucid_training_set_steps(t, steps);
    free(own);
    return status;
}

static lucid_status read_state(lucid_training *t, const char *folder) {
    char path[LUCID_FOLDER_MAX_PATH];
    json_error_t error;
    LUCID_TRY(lucid_folder_join(path, folder, "state.json"));
    json_t *state = json_load_file(path, 0, &error);
    if (!state) return lucid_fail(LUCID_ERR_INPUT, "%s: %s", path, error.text);
    const lucid_status status = take_state(t, state, path);
    json_decref(state);
    return status;
}

/* --- folders --- */

static void remove_folder(const char *path) {
    static const char *const names[] = {"config.json", "model.safetensors", "moments.safetensors", "state.json"};
    char file[LUCID_FOLDER_MAX_PATH];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!lucid_folder_join(file, path, names[i])) unlink(file);
    for (int i = 0; i < LUCID_MODEL_N_COMPANIONS; i++)
        if (!lucid_folder_join(file, path, lucid_model_companions[i])) unlink(file);
    rmdir(path);
}

static int descending(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Steps of the folder's checkpoints, the newest first. */
static lucid_status list_steps(int64_t *steps, int *n, const char *folder) {
    DIR *directory = opendir(folder);
    *n = 0;
    if (!directory && errno == ENOENT) return LUCID_OK;
    if (!directory) return lucid_fail(LUCID_ERR_IO, "%s: cannot list: %s", folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory)) && *n < MAX_KEPT;) {
        char name[32];
        int64_t step;
        if (sscanf(entry->d_name, "step-%" SCNd64, &step) != 1) continue;
        snprintf(name, sizeof name, NAME_FORMAT, step);
        if (!strcmp(name, entry->d_name)) steps[(*n)++] = step;
    }
    closedir(directory);
    qsort(steps, (size_t)*n, sizeof *steps, descending);
    return LUCID_OK;
}

lucid_status lucid_checkpoint_find(char path[LUCID_FOLDER_MAX_PATH], const char *folder) {
    int64_t steps[MAX_KEPT];
    char name[32];
    int n;
    path[0] = '\0';
    LUCID_TRY(list_steps(steps, &n, folder));
    if (n == 0) return LUCID_OK;
    snprintf(name, sizeof name, NAME_FORMAT, steps[0]);
    return lucid_folder_join(path, folder, name);
}

static lucid_status remove_old(const char *folder, int keep) {
    int64_t steps[MAX_KEPT];
    int n;
    LUCID_TRY(list_steps(steps, &n, folder));
    for (int i = keep; keep > 0 && i < n; i++) {
        char path[LUCID_FOLDER_MAX_PATH], name[32];
        snprintf(name, sizeof name, NAME_FORMAT, steps[i]);
        LUCID_TRY(lucid_folder_join(path, folder, name));
        remove_folder(path);
    }
    return LUCID_OK;
}

/* --- unfinished ones --- */

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place) {
    (void)info, (void)type, (void)place;
    remove(path);
    return 0;
}

/* Files in there may have temporary names of their own. */
static void remove_unfinished(const char *path) {
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static int is_unfinished(const struct dirent *entry) {
    return !strncmp(entry->d_name, TEMPORARY, strlen(TEMPORARY));
}

static lucid_status remove_all_unfinished(const char *folder) {
    struct dirent **entries;
    const int n = scandir(folder, &entries, is_unfinished, NULL);
    if (n < 0) return lucid_fail(LUCID_ERR_IO, "%s: cannot list: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        char path[LUCID_FOLDER_MAX_PATH];
        if (!lucid_folder_join(path, folder, entries[i]->d_name)) remove_unfinished(path);
        free(entries[i]);
    }
    free(entries);
    return LUCID_OK;
}

lucid_status lucid_checkpoint_claim(lucid_folder *folder, const char *path) {
    LUCID_TRY(lucid_folder_open(folder, path, true));
    lucid_status status = lucid_folder_lock(folder);
    if (!status) status = remove_all_unfinished(path);
    if (status) lucid_folder_close(folder);
    return status;
}

/* --- saving --- */

static lucid_status fill_folder(lucid_training *t, const char *path, const lucid_checkpoint_texts *texts,
                                const char *job) {
    const lucid_trainee *trainee = lucid_training_trainee(t);
    const lucid_moments *m = lucid_training_moments(t);
    const tensor_array weights = {"", trainee->parameters};
    const tensor_array moments[] = {{"first.", m->first}, {"second.", m->second}};
    char file[LUCID_FOLDER_MAX_PATH];
    LUCID_TRY(lucid_folder_write_text(path, "config.json", texts->config));
    for (int i = 0; i < LUCID_MODEL_N_COMPANIONS; i++)
        if (texts->companions[i])
            LUCID_TRY(lucid_folder_write_text(path, lucid_model_companions[i], texts->companions[i]));
    LUCID_TRY(lucid_folder_join(file, path, "model.safetensors"));
    LUCID_TRY(write_arrays(trainee, file, job, &weights, 1));
    LUCID_TRY(lucid_folder_join(file, path, "moments.safetensors"));
    LUCID_TRY(write_arrays(trainee, file, job, moments, 2));
    return write_state(t, path);
}

static lucid_status save(lucid_training *t, const lucid_folder *folder, const lucid_checkpoint_texts *texts,
                         const char *job) {
    char name[128], path[LUCID_FOLDER_MAX_PATH], temporary[LUCID_FOLDER_MAX_PATH];
    snprintf(name, sizeof name, NAME_FORMAT, lucid_training_steps(t));
    LUCID_TRY(lucid_folder_join(path, folder->path, name));
    if (access(path, F_OK) == 0) return LUCID_OK;
    snprintf(name, sizeof name, TEMPORARY "%s", job);
    LUCID_TRY(lucid_folder_join(temporary, folder->path, name));
    LUCID_TRY(lucid_folder_make(temporary));
    lucid_status status = fill_folder(t, temporary, texts, job);
    if (!status && rename(temporary, path))
        status = lucid_fail(LUCID_ERR_IO, "%s: cannot rename: %s", path, strerror(errno));
    if (status) remove_unfinished(temporary);
    return status ? status : lucid_folder_flush(folder);
}

lucid_status lucid_checkpoint_save(lucid_training *t, lucid_comm *comm, const lucid_folder *folder,
                                   const lucid_checkpoint_texts *texts, const char *job, int keep) {
    lucid_status status = LUCID_OK;
    if (comm->rank == 0) status = save(t, folder, texts, job);
    if (comm->rank == 0 && !status) status = remove_old(folder->path, keep);
    return lucid_comm_conclude(comm, status);
}

/* --- loading --- */

static lucid_status read_weights(lucid_training *t, const char *path) {
    const lucid_trainee *trainee = lucid_training_trainee(t);
    const tensor_array weights = {"", trainee->parameters};
    char file[LUCID_FOLDER_MAX_PATH];
    LUCID_TRY(lucid_folder_join(file, path, "model.safetensors"));
    return read_arrays(trainee, file, &weights, 1);
}

static lucid_status read_moments(lucid_training *t, const char *path) {
    const lucid_moments *m = lucid_training_moments(t);
    const tensor_array moments[] = {{"first.", m->first}, {"second.", m->second}};
    char file[LUCID_FOLDER_MAX_PATH];
    LUCID_TRY(lucid_folder_join(file, path, "moments.safetensors"));
    return read_arrays(lucid_training_trainee(t), file, moments, 2);
}

/* Rank 0's arrays and number of steps, to all. */
static lucid_status share(lucid_training *t, lucid_comm *comm) {
    const size_t bytes = (size_t)lucid_training_trainee(t)->n_floats * sizeof(float);
    int64_t steps = lucid_training_steps(t);
    LUCID_TRY(lucid_comm_broadcast(comm, lucid_training_trainee(t)->parameters, bytes, 0));
    LUCID_TRY(lucid_comm_broadcast(comm, lucid_training_moments(t)->first, bytes, 0));
    LUCID_TRY(lucid_comm_broadcast(comm, lucid_training_moments(t)->second, bytes, 0));
    LUCID_TRY(lucid_comm_broadcast(comm, &steps, sizeof steps, 0));
    lucid_training_set_steps(t, steps);
    return LUCID_OK;
}

lucid_status lucid_checkpoint_load(lucid_training *t, lucid_comm *comm, const char *path) {
    lucid_status status = LUCID_OK;
    if (comm->rank == 0) status = read_state(t, path);
    if (comm->rank == 0 && !status) status = read_weights(t, path);
    if (comm->rank == 0 && !status) status = read_moments(t, path);
    LUCID_TRY(lucid_comm_conclude(comm, status));
    return share(t, comm);
}

lucid_status lucid_checkpoint_start(lucid_training *t, lucid_comm *comm, const char *path) {
    lucid_status status = LUCID_OK;
    if (comm->rank == 0) status = read_weights(t, path);
    LUCID_TRY(lucid_comm_conclude(comm, status));
    return share(t, comm);
}
