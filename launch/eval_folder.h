/* The folder of an evaluation. While it runs it holds run.json, which says of what, and answers.*.jsonl, to which each
 * job's group of ranks appends its samples as they are done; in the end samples.jsonl with all of them in order,
 * results.json and heatmap.svg. The files of a run that went on are those of one that was never stopped, but for the
 * date. Local. */
#ifndef LUCID_LAUNCH_EVAL_FOLDER_H
#define LUCID_LAUNCH_EVAL_FOLDER_H

#include "comm/comm.h"
#include "launch/options.h"
#include "runtime/eval/records.h"

#include <jansson.h>

typedef struct {
    const char *path;
    json_t *run;                /* {"lucid_eval": what must be the same, "tasks": {name: configuration}} */
    lucid_eval_records records; /* sorted: of a run before; after finish, all */
    FILE *answers;
    char *answers_path;
    bool made;       /* by this run */
    int64_t n_added; /* samples */
} launch_eval_folder;

/* Takes run over. Reads what a run before left, and writes nothing. Errors: USAGE where there is such without resume;
 * INPUT where it is of another model or task; IO; MEMORY. Close also after a failure. */
lucid_status launch_eval_folder_open(launch_eval_folder *folder, const char *path, json_t *run, bool resume);

/* Makes the folder and run.json, and opens a new file of answers for this group of this job. */
lucid_status launch_eval_folder_begin(launch_eval_folder *folder, const char *job_id, int group);

/* Appends a sample's records, and flushes. */
lucid_status launch_eval_folder_add(launch_eval_folder *folder, const lucid_eval_records *sample);

/* Writes the reports from all groups' answers, and removes those. */
lucid_status launch_eval_folder_finish(launch_eval_folder *folder, const launch_options *options,
                                       const lucid_comm *comm);

/* Adds what a finished folder holds to a folder that was opened with an empty run. Errors: INPUT where it is not
 * finished, or of another model than those before it. */
lucid_status launch_eval_folder_gather(launch_eval_folder *folder, const char *path);
/* Writes all that was gathered. Errors: INPUT where there is nothing, or two answers to one question; IO; MEMORY. */
lucid_status launch_eval_folder_write(launch_eval_folder *folder, const launch_options *options,
                                      const lucid_comm *comm);

/* A run that failed before its first answer leaves nothing. Fine on zeros. */
void launch_eval_folder_close(launch_eval_folder *folder);

#endif
