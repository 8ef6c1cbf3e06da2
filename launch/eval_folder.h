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
    lucid_eval_records records; /* sorted: of a run before; after collect, all */
    bool made;                  /* by this run */
} launch_eval_folder;

/* Takes run over. Reads what a run before left, and writes nothing. Errors: USAGE where there is such without resume;
 * INPUT where it is of another model or task; IO; MEMORY. Close also after a failure. */
lucid_status launch_eval_folder_open(launch_eval_folder *folder, const char *path, json_t *run, bool resume);

/* Makes the folder and run.json. */
lucid_status launch_eval_folder_make(launch_eval_folder *folder);

/* A group's own file of answers in a folder that was made. */
typedef struct {
    FILE *stream; /* NULL: none is open */
    char *path;
    int64_t n_added; /* samples */
} launch_eval_answers;

lucid_status launch_eval_answers_open(launch_eval_answers *answers, const char *folder, const char *job_id, int group);

/* Appends a sample's records, and flushes. */
lucid_status launch_eval_answers_add(launch_eval_answers *answers, const lucid_eval_records *sample);

/* What was added is where other hosts can read it; a file without answers goes. Errors: IO. Fine on zeros. */
lucid_status launch_eval_answers_close(launch_eval_answers *answers);

/* Reads the answers of all groups, which closed their files, in place of those known before. */
lucid_status launch_eval_folder_collect(launch_eval_folder *folder);

/* Adds what a finished folder holds to a folder that was opened with an empty run. Errors: INPUT where it is not
 * finished, or of another model than those before it. */
lucid_status launch_eval_folder_gather(launch_eval_folder *folder, const char *path);
/* Makes the folder of what was collected or gathered: its reports take the place of the answers' files. Errors: INPUT
 * where there is nothing, or two answers to one question; IO; MEMORY. */
lucid_status launch_eval_folder_write(launch_eval_folder *folder, const launch_options *options,
                                      const lucid_comm *comm);

/* A folder that this run made and that holds no answers goes. Fine on zeros. */
void launch_eval_folder_close(launch_eval_folder *folder);

#endif
