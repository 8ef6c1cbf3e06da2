#include "launch/resources.h"

#include "launch/job.h"
#include "runtime/isa.h"
#include "runtime/memory.h"

#include <stdlib.h>
#include <string.h>

/* --allow-unused, cut at its commas. */
static lucid_status open_model(lucid_model **model, const launch_options *o, lucid_comm *comm) {
    const char *names[LAUNCH_MAX_TEXTS];
    lucid_model_options options = {.allow_unused = names};
    char *list = strdup(o->allow_unused ? o->allow_unused : ""), *rest = list;
    lucid_status status = list ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory");
    for (char *name; !status && (name = strsep(&rest, ","));) {
        if (!*name) continue;
        if (options.n_allow_unused == LAUNCH_MAX_TEXTS)
            status = lucid_fail(LUCID_ERR_USAGE, "--allow-unused: more than %d names", LAUNCH_MAX_TEXTS);
        else
            names[options.n_allow_unused++] = name;
    }
    status = lucid_comm_agree(comm, status);
    if (!status) status = lucid_model_open(model, comm, o->model, &options);
    free(list);
    return status;
}

lucid_status launch_resources_open(launch_resources *r, const launch_options *options, lucid_comm *comm, bool drives) {
    *r = (launch_resources){.program_bytes = (double)lucid_memory_peak()};
    LUCID_TRY(launch_job_threads(&r->threads, options, comm));
    LUCID_TRY(lucid_isa_agree(&r->kernels, comm, options->isa));
    LUCID_TRY(lucid_blas_agree(&r->blas, comm, (lucid_blas_kind)options->blas));
    LUCID_TRY(open_model(&r->model, options, comm));
    return lucid_comm_agree(comm,
                            drives ? launch_vocabulary_open(&r->vocabulary, options, &r->model->config) : LUCID_OK);
}

void launch_resources_close(launch_resources *r) {
    launch_vocabulary_close(&r->vocabulary);
    lucid_model_close(r->model);
    *r = (launch_resources){0};
}
