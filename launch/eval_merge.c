/* lucid eval merge: the finished folders below one folder, as an array of batch jobs leaves them, become one. What that
 * one holds already stays in it. */
#include "launch/commands.h"
#include "launch/eval_folder.h"
#include "runtime/eval/report.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int select_all(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* Folders that no evaluation wrote into are passed over. */
static lucid_status gather_one(launch_eval_folder *folder, const char *parent, const char *name, int *n) {
    char path[PATH_MAX], run[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", parent, name) >= PATH_MAX ||
        snprintf(run, sizeof run, "%s/%s/run.json", parent, name) >= PATH_MAX)
        return lucid_fail(LUCID_ERR_IO, "%s: name too long", parent);
    if (access(run, F_OK)) return LUCID_OK;
    ++*n;
    return launch_eval_folder_gather(folder, path);
}

static lucid_status gather(launch_eval_folder *folder, const char *parent) {
    struct dirent **entries;
    int n_gathered = 0;
    const int n = scandir(parent, &entries, select_all, versionsort);
    if (n < 0) return lucid_fail(LUCID_ERR_IO, "%s: %s", parent, strerror(errno));
    lucid_status status = LUCID_OK;
    for (int i = 0; i < n; i++) {
        if (!status) status = gather_one(folder, parent, entries[i]->d_name, &n_gathered);
        free(entries[i]);
    }
    free(entries);
    if (!status && n_gathered == 0)
        return lucid_fail(LUCID_ERR_INPUT, "%s: no folder below it holds answers of eval niah", parent);
    return status;
}

static lucid_status merge(const launch_options *options, const lucid_comm *comm) {
    launch_eval_folder folder;
    lucid_status status = launch_eval_folder_open(&folder, options->output, json_object(), true);
    if (!status) status = gather(&folder, options->input);
    if (!status) status = launch_eval_folder_write(&folder, options, comm);
    if (!status && !options->quiet) {
        lucid_eval_table(stdout, &folder.records);
        printf("heat map: %s/heatmap.svg\n", options->output);
    }
    launch_eval_folder_close(&folder);
    return status;
}

lucid_status launch_eval_merge(const launch_options *options, lucid_comm *comm) {
    return lucid_comm_agree(comm, comm->rank ? LUCID_OK : merge(options, comm));
}
