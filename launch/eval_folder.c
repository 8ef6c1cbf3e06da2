#include "launch/eval_folder.h"

#include "launch/file.h"
#include "launch/report.h"
#include "runtime/eval/report.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static lucid_status join_path(char path[PATH_MAX], const char *folder, const char *name) {
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: name too long", folder);
}

/* --- files of answers --- */

static bool is_answers(const char *name) {
    const size_t n = strlen(name);
    return n > 14 && !strncmp(name, "answers.", 8) && !strcmp(name + n - 6, ".jsonl");
}

static int select_answers(const struct dirent *entry) {
    return is_answers(entry->d_name) || !strcmp(entry->d_name, "samples.jsonl");
}

/* Calls act with the path of each file of answers; none where there is no such folder. */
static lucid_status each_file(const char *folder, lucid_status (*act)(void *context, const char *path), void *context) {
    struct dirent **entries;
    const int n = scandir(folder, &entries, select_answers, alphasort);
    if (n < 0) return errno == ENOENT ? LUCID_OK : lucid_fail(LUCID_ERR_IO, "%s: %s", folder, strerror(errno));
    lucid_status status = LUCID_OK;
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        if (!status) status = join_path(path, folder, entries[i]->d_name);
        if (!status) status = act(context, path);
        free(entries[i]);
    }
    free(entries);
    return status;
}

/* A sample that was cut off in this file goes, as another file may have all of it, answered by another processor. */
static lucid_status read_file(void *records, const char *path) {
    lucid_eval_records file = {0};
    lucid_status status = lucid_eval_records_read(&file, path);
    if (!status) status = lucid_eval_records_sort(&file, path);
    if (!status) status = lucid_eval_records_append(records, &file);
    lucid_eval_records_free(&file);
    return status;
}

/* All but the one whose path is kept. */
static lucid_status remove_file(void *kept, const char *path) {
    if (!strcmp(kept, path) || unlink(path) == 0) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
}

/* --- what was run --- */

static lucid_status read_run(json_t **run, const char *folder) {
    char path[PATH_MAX];
    json_error_t error;
    LUCID_TRY(join_path(path, folder, "run.json"));
    *run = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!*run) return lucid_fail(LUCID_ERR_INPUT, "%s: %s", path, error.text);
    const json_t *same = json_object_get(*run, "lucid_eval");
    if (json_is_string(json_object_get(same, "model")) && json_is_object(json_object_get(*run, "tasks")))
        return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: says of no model and tasks what was run", path);
}

/* Adds other's tasks to run, which is of the same model or still empty. */
static lucid_status merge_run(json_t *run, json_t *other, const char *folder) {
    json_t *tasks = json_object_get(run, "tasks"), *task;
    const char *name;
    if (!tasks) return json_object_update(run, other) ? lucid_fail(LUCID_ERR_MEMORY, "no memory") : LUCID_OK;
    const json_t *same = json_object_get(other, "lucid_eval");
    if (!json_object_get(same, "fingerprint") && json_object_get(json_object_get(run, "lucid_eval"), "fingerprint"))
        return lucid_fail(LUCID_ERR_INPUT,
                          "%s/run.json is of an older version, which did not note the weights: name another folder",
                          folder);
    if (!json_equal(json_object_get(run, "lucid_eval"), same))
        return lucid_fail(LUCID_ERR_INPUT, "%s/run.json is of another model, or options that change answers", folder);
    json_object_foreach(json_object_get(other, "tasks"), name, task) {
        const json_t *known = json_object_get(tasks, name);
        if (known && !json_equal(known, task))
            return lucid_fail(LUCID_ERR_INPUT, "%s/run.json: task %s is another one of that name", folder, name);
        json_object_set(tasks, name, task);
    }
    return LUCID_OK;
}

static lucid_status merge_folder(launch_eval_folder *folder, const char *path) {
    json_t *other = NULL;
    lucid_status status = read_run(&other, path);
    if (!status) status = merge_run(folder->run, other, path);
    json_decref(other);
    return status;
}

/* --- life of a folder --- */

lucid_status launch_eval_folder_open(launch_eval_folder *folder, const char *path, json_t *run, bool resume) {
    *folder = (launch_eval_folder){.path = path, .run = run};
    if (!run) return lucid_fail(LUCID_ERR_MEMORY, "no memory");
    LUCID_TRY(each_file(path, read_file, &folder->records));
    LUCID_TRY(lucid_eval_records_sort(&folder->records, path));
    if (folder->records.n == 0) return LUCID_OK;
    if (!resume)
        return lucid_fail(LUCID_ERR_USAGE, "--output: %s holds answers; go on with --resume, or name another folder",
                          path);
    return merge_folder(folder, path);
}

typedef void file_writer(FILE *stream, const launch_eval_folder *folder);

static lucid_status write_file(char path[PATH_MAX], const launch_eval_folder *folder, const char *name,
                               file_writer *write) {
    launch_file file;
    LUCID_TRY(join_path(path, folder->path, name));
    LUCID_TRY(launch_file_open(&file, path));
    write(file.stream, folder);
    return launch_file_commit(&file);
}

static void write_records(FILE *stream, const launch_eval_folder *folder) {
    lucid_eval_records_write(stream, &folder->records, 0);
}

static void write_run(FILE *stream, const launch_eval_folder *folder) {
    json_dumpf(folder->run, stream, JSON_INDENT(2));
    fputc('\n', stream);
}

static void write_heatmap(FILE *stream, const launch_eval_folder *folder) {
    lucid_eval_heatmap(stream, &folder->records);
}

static lucid_status make_folder(launch_eval_folder *folder) {
    if (mkdir(folder->path, 0777) == 0)
        folder->made = true;
    else if (errno != EEXIST)
        return lucid_fail(LUCID_ERR_IO, "%s: %s", folder->path, strerror(errno));
    return LUCID_OK;
}

static lucid_status find_file(void *found, const char *path) {
    (void)path;
    *(bool *)found = true;
    return LUCID_OK;
}

lucid_status launch_eval_folder_make(launch_eval_folder *folder) {
    char path[PATH_MAX];
    LUCID_TRY(make_folder(folder));
    return write_file(path, folder, "run.json", write_run);
}

static void remove_empty(const launch_eval_folder *folder) {
    char path[PATH_MAX];
    bool found = false;
    if (each_file(folder->path, find_file, &found) || found) return;
    if (!join_path(path, folder->path, "run.json")) unlink(path);
    rmdir(folder->path);
}

void launch_eval_folder_close(launch_eval_folder *folder) {
    if (folder->made) remove_empty(folder);
    json_decref(folder->run);
    lucid_eval_records_free(&folder->records);
    *folder = (launch_eval_folder){0};
}

/* --- a group's answers --- */

lucid_status launch_eval_answers_open(launch_eval_answers *answers, const char *folder, const char *job_id, int group) {
    *answers = (launch_eval_answers){0};
    if (asprintf(&answers->path, "%s/answers.%s.%d.jsonl", folder, job_id, group) < 0) answers->path = NULL;
    if (!answers->path) return lucid_fail(LUCID_ERR_MEMORY, "no memory");
    answers->stream = fopen(answers->path, "wxe");
    if (answers->stream) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: %s", answers->path, strerror(errno));
}

lucid_status launch_eval_answers_add(launch_eval_answers *answers, const lucid_eval_records *sample) {
    answers->n_added++;
    lucid_eval_records_write(answers->stream, sample, 0);
    if (fflush(answers->stream) == 0 && !ferror(answers->stream)) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "%s: %s", answers->path, strerror(errno));
}

lucid_status launch_eval_answers_close(launch_eval_answers *answers) {
    lucid_status status = LUCID_OK;
    if (answers->stream && fclose(answers->stream))
        status = lucid_fail(LUCID_ERR_IO, "%s: %s", answers->path, strerror(errno));
    if (answers->stream && answers->n_added == 0) unlink(answers->path);
    free(answers->path);
    *answers = (launch_eval_answers){0};
    return status;
}

/* --- the end --- */

static lucid_status write_results(const launch_eval_folder *folder, const launch_options *options,
                                  const lucid_comm *comm) {
    json_t *results = lucid_eval_results(&folder->records, json_object_get(folder->run, "tasks"));
    const json_t *model = json_object_get(json_object_get(folder->run, "lucid_eval"), "model");
    char path[PATH_MAX], arguments[PATH_MAX + 16];
    snprintf(arguments, sizeof arguments, "pretrained=%s", json_string_value(model));
    json_object_set_new(results, "config", json_pack("{s:s, s:s}", "model", "lucid", "model_args", arguments));
    json_object_set_new(results, "date", json_integer((json_int_t)time(NULL)));
    json_object_set_new(results, "lucid", launch_json_header(options, comm));
    const lucid_status status = join_path(path, folder->path, "results.json");
    if (!status) return launch_json_write(results, path);
    json_decref(results);
    return status;
}

static lucid_status write_all(launch_eval_folder *folder, const launch_options *options, const lucid_comm *comm) {
    char path[PATH_MAX];
    LUCID_TRY(lucid_eval_records_sort(&folder->records, folder->path));
    if (folder->records.n == 0) return lucid_fail(LUCID_ERR_INPUT, "%s: no answers", folder->path);
    LUCID_TRY(write_results(folder, options, comm));
    LUCID_TRY(write_file(path, folder, "heatmap.svg", write_heatmap));
    LUCID_TRY(write_file(path, folder, "samples.jsonl", write_records));
    return each_file(folder->path, remove_file, path);
}

lucid_status launch_eval_folder_collect(launch_eval_folder *folder) {
    lucid_eval_records_free(&folder->records);
    LUCID_TRY(each_file(folder->path, read_file, &folder->records));
    return lucid_eval_records_sort(&folder->records, folder->path);
}

lucid_status launch_eval_folder_gather(launch_eval_folder *folder, const char *path) {
    char samples[PATH_MAX];
    LUCID_TRY(join_path(samples, path, "samples.jsonl"));
    if (access(samples, F_OK))
        return lucid_fail(LUCID_ERR_INPUT, "%s: not finished; go on with eval niah --resume", path);
    LUCID_TRY(merge_folder(folder, path));
    return lucid_eval_records_read(&folder->records, samples);
}

lucid_status launch_eval_folder_write(launch_eval_folder *folder, const launch_options *options,
                                      const lucid_comm *comm) {
    LUCID_TRY(launch_eval_folder_make(folder));
    return write_all(folder, options, comm);
}
