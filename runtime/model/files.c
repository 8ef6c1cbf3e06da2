#include "runtime/model/files.h"

#include "runtime/model/json.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SINGLE "model.safetensors"
#define INDEX  "model.safetensors.index.json"

static lucid_status make_path(char path[PATH_MAX], const char *folder, const char *name) {
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%.200s...: the path is too long", folder);
}

static lucid_status add_shard(lucid_model_files *files, const char *path) {
    lucid_safetensors **more = realloc(files->shards, (size_t)(files->n_shards + 1) * sizeof *more);
    if (!more) return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to open it", path);
    files->shards = more;
    LUCID_TRY(lucid_safetensors_open(&more[files->n_shards], path));
    files->n_shards++;
    return LUCID_OK;
}

static const char *base_name(const lucid_safetensors *shard) {
    return strrchr(lucid_safetensors_path(shard), '/') + 1;
}

static int find_shard(const lucid_model_files *files, const char *file) {
    for (int s = 0; s < files->n_shards; s++) {
        if (strcmp(base_name(files->shards[s]), file) == 0) return s;
    }
    return -1;
}

/* Names a file of the folder itself, whatever it may be a link to, and fits a line. */
static bool stays_inside(const char *file) {
    for (const char *c = file; *c; c++) {
        if (*c == '/' || (unsigned char)*c < 0x20 || *c == 0x7f) return false;
    }
    return *file && strcmp(file, ".") != 0 && strcmp(file, "..") != 0;
}

/* weight_map says that file has tensor name. */
static lucid_status check_entry(lucid_model_files *files, const char *folder, const char *name, const json_t *value,
                                const lucid_json_place *place) {
    const char *file = json_string_value(value);
    char path[PATH_MAX];
    if (!file) return lucid_json_refuse(place, name, "must be the name of a file");
    if (!stays_inside(file)) return lucid_json_refuse(place, name, "'%.60s' is not a file of the folder itself", file);
    int shard = find_shard(files, file);
    if (shard < 0) {
        LUCID_TRY(make_path(path, folder, file));
        LUCID_TRY(add_shard(files, path));
        shard = files->n_shards - 1;
    }
    if (!lucid_safetensors_find(files->shards[shard], name))
        return lucid_json_refuse(place, name, "%.100s has no such tensor", file);
    return LUCID_OK;
}

/* The shard's tensors are the index's. */
static lucid_status check_shard(const lucid_safetensors *shard, const json_t *weight_map) {
    int count;
    const lucid_safetensors_tensor *tensors = lucid_safetensors_tensors(shard, &count);
    for (int t = 0; t < count; t++) {
        const char *file = json_string_value(json_object_get(weight_map, tensors[t].name));
        const char *path = lucid_safetensors_path(shard);
        if (!file) return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: is not in the index", path, tensors[t].name);
        if (strcmp(file, base_name(shard)) != 0)
            return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: is in %.100s, too", path, tensors[t].name, file);
    }
    return LUCID_OK;
}

static lucid_status open_shards(lucid_model_files *files, const char *folder, const json_t *index, const char *path) {
    const json_t *weight_map = json_object_get(index, "weight_map");
    const lucid_json_place place = {path, "weight_map."};
    const char *name;
    json_t *value;
    if (!json_is_object(weight_map) || json_object_size(weight_map) == 0)
        return lucid_fail(LUCID_ERR_INPUT, "%s: weight_map: must be an object with tensors in it", path);
    json_object_foreach((json_t *)weight_map, name, value) LUCID_TRY(check_entry(files, folder, name, value, &place));
    for (int s = 0; s < files->n_shards; s++) LUCID_TRY(check_shard(files->shards[s], weight_map));
    return LUCID_OK;
}

static lucid_status open_index(lucid_model_files *files, const char *folder) {
    char path[PATH_MAX], *text;
    size_t n_bytes;
    json_t *index;
    LUCID_TRY(make_path(path, folder, INDEX));
    LUCID_TRY(lucid_json_read(&text, &n_bytes, path));
    if (!text) return lucid_fail(LUCID_ERR_INPUT, "%s: has neither " SINGLE " nor " INDEX, folder);
    lucid_status status = lucid_json_parse(&index, text, n_bytes, path);
    free(text);
    if (status) return status;
    status = open_shards(files, folder, index, path);
    json_decref(index);
    return status;
}

lucid_status lucid_model_files_open(lucid_model_files *files, const char *folder) {
    char path[PATH_MAX];
    LUCID_TRY(make_path(path, folder, SINGLE));
    return access(path, F_OK) == 0 ? add_shard(files, path) : open_index(files, folder);
}

void lucid_model_files_close(lucid_model_files *files) {
    for (int s = 0; s < files->n_shards; s++) lucid_safetensors_close(files->shards[s]);
    free(files->shards);
    *files = (lucid_model_files){0};
}

const lucid_safetensors_tensor *lucid_model_files_find(const lucid_model_files *files, const char *name, int *shard) {
    for (int s = 0; s < files->n_shards; s++) {
        const lucid_safetensors_tensor *tensor = lucid_safetensors_find(files->shards[s], name);
        if (!tensor) continue;
        *shard = s;
        return tensor;
    }
    return NULL;
}
