#include "runtime/model/folder.h"

#include "runtime/model/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const lucid_model_companions[] = {"tokenizer.json", "tokenizer_config.json", "generation_config.json"};

lucid_status lucid_folder_join(char path[LUCID_FOLDER_MAX_PATH], const char *folder, const char *name) {
    const int n = snprintf(path, LUCID_FOLDER_MAX_PATH, "%s/%s", folder, name);
    if (n < LUCID_FOLDER_MAX_PATH) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%.60s...: too long a path", folder);
}

lucid_status lucid_folder_make(const char *path) {
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: cannot make the folder: %s", path, strerror(errno));
}

lucid_status lucid_folder_write_text(const char *folder, const char *name, const char *text) {
    char path[LUCID_FOLDER_MAX_PATH];
    LUCID_TRY(lucid_folder_join(path, folder, name));
    FILE *file = fopen(path, "w");
    bool written = file && fputs(text, file) >= 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
    if (file && fclose(file)) written = false;
    return written ? LUCID_OK : lucid_fail(LUCID_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
}

static int64_t n_elements(const lucid_model_slot *slot) {
    int64_t n = 1;
    for (int i = 0; i < slot->n_dims; i++) n *= slot->shape[i];
    return n;
}

lucid_status lucid_model_entries_write(const lucid_model_entry *entries, int n_entries, const char *path,
                                       lucid_dtype dtype, const char *job) {
    static const char *const dtypes[] = {[LUCID_F32] = "F32", [LUCID_BF16] = "BF16", [LUCID_F16] = "F16"};
    lucid_safetensors_tensor *tensors = calloc((size_t)n_entries, sizeof *tensors);
    lucid_safetensors_writer *writer = NULL;
    lucid_status status = tensors ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %d tensors", n_entries);
    for (int i = 0; !status && i < n_entries; i++) {
        const lucid_model_slot *slot = entries[i].slot;
        tensors[i] =
            (lucid_safetensors_tensor){.name = entries[i].name, .dtype = dtypes[dtype], .n_dims = slot->n_dims};
        memcpy(tensors[i].shape, slot->shape, sizeof slot->shape);
    }
    const lucid_safetensors_pair format = {"format", "pt"}; /* which transformers asks for */
    const lucid_safetensors_spec spec = {
        .path = path, .job = job, .tensors = tensors, .n_tensors = n_entries, .metadata = &format, .n_metadata = 1};
    if (!status) status = lucid_safetensors_plan(&writer, &spec);
    if (!status) status = lucid_safetensors_create(writer, NULL);
    for (int i = 0; !status && i < n_entries; i++)
        status = lucid_safetensors_write(writer, entries[i].name, 0, n_elements(entries[i].slot), entries[i].values);
    if (!status) status = lucid_safetensors_finish(writer);
    if (!status) status = lucid_safetensors_commit(writer);
    lucid_safetensors_destroy(writer);
    free(tensors);
    return status;
}

/* --- conversion --- */

static lucid_status write_weights(const lucid_model *model, const char *folder, lucid_dtype dtype, const char *job) {
    char path[LUCID_FOLDER_MAX_PATH];
    lucid_model copy = *model; /* whose pointers slots may name */
    lucid_model_slot *slots = NULL;
    int n_slots = 0;
    lucid_status status = lucid_folder_join(path, folder, "model.safetensors");
    if (!status) status = lucid_model_slots_make(&slots, &n_slots, &copy);
    lucid_model_entry *entries = status ? NULL : calloc((size_t)n_slots, sizeof *entries);
    if (!status && !entries) status = lucid_fail(LUCID_ERR_MEMORY, "no memory for %d tensors", n_slots);
    for (int i = 0; !status && i < n_slots; i++) {
        entries[i] = (lucid_model_entry){.slot = &slots[i], .values = *slots[i].pointer};
        snprintf(entries[i].name, sizeof entries[i].name, "%s", slots[i].name);
    }
    if (!status) status = lucid_model_entries_write(entries, n_slots, path, dtype, job);
    free(entries);
    free(slots);
    return status;
}

/* Text of config, which ends its line. Numbers as people write them: 1e-5, not the 17 digits of its nearest double.
 * NULL: no memory. */
static char *config_text(const json_t *config) {
    char *line = NULL, *json = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    if (json && asprintf(&line, "%s\n", json) < 0) line = NULL;
    free(json);
    return line;
}

/* config.json but for its torch_dtype; dtype is a newer name of the same, which would contradict it. */
static lucid_status write_config(const char *source, const char *folder, lucid_dtype dtype) {
    static const char *const dtypes[] = {[LUCID_F32] = "float32", [LUCID_BF16] = "bfloat16", [LUCID_F16] = "float16"};
    char path[LUCID_FOLDER_MAX_PATH];
    char *text = NULL, *written = NULL;
    size_t n_bytes;
    json_t *config = NULL;
    lucid_status status = lucid_folder_join(path, source, "config.json");
    if (!status) status = lucid_json_read(&text, &n_bytes, path);
    if (!status && !text) status = lucid_fail(LUCID_ERR_INPUT, "%s: there is no such file", path);
    if (!status) status = lucid_json_parse(&config, text, n_bytes, path);
    json_object_del(config, "dtype");
    if (!status &&
        (json_object_set_new(config, "torch_dtype", json_string(dtypes[dtype])) || !(written = config_text(config))))
        status = lucid_fail(LUCID_ERR_MEMORY, "no memory for %s", path);
    if (!status) status = lucid_folder_write_text(folder, "config.json", written);
    json_decref(config);
    free(written);
    free(text);
    return status;
}

static lucid_status copy_text(const char *source, const char *folder, const char *name) {
    char path[LUCID_FOLDER_MAX_PATH];
    char *text;
    size_t n_bytes;
    LUCID_TRY(lucid_folder_join(path, source, name));
    LUCID_TRY(lucid_json_read(&text, &n_bytes, path));
    const lucid_status status = text ? lucid_folder_write_text(folder, name, text) : LUCID_OK;
    free(text);
    return status;
}

static void remove_folder(const char *folder) {
    char path[LUCID_FOLDER_MAX_PATH];
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!lucid_folder_join(path, folder, names[i])) unlink(path);
    for (int i = 0; i < LUCID_MODEL_N_COMPANIONS; i++)
        if (!lucid_folder_join(path, folder, lucid_model_companions[i])) unlink(path);
    rmdir(folder);
}

lucid_status lucid_model_convert(const lucid_model *model, const char *source, const char *path, lucid_dtype dtype,
                                 const char *job) {
    char temporary[LUCID_FOLDER_MAX_PATH];
    if (access(path, F_OK) == 0) return lucid_fail(LUCID_ERR_USAGE, "%s: is there already", path);
    if (snprintf(temporary, sizeof temporary, "%s.tmp.%s", path, job) >= (int)sizeof temporary)
        return lucid_fail(LUCID_ERR_IO, "%.60s...: too long a path", path);
    LUCID_TRY(lucid_folder_make(temporary));
    lucid_status status = write_config(source, temporary, dtype);
    for (int i = 0; !status && i < LUCID_MODEL_N_COMPANIONS; i++)
        status = copy_text(source, temporary, lucid_model_companions[i]);
    if (!status) status = write_weights(model, temporary, dtype, job);
    if (!status && rename(temporary, path))
        status = lucid_fail(LUCID_ERR_IO, "%s: cannot rename: %s", path, strerror(errno));
    if (status) remove_folder(temporary);
    return status;
}
