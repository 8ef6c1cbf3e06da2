/* lucid convert: a model's folder with its weights in another dtype. */
#include "launch/commands.h"
#include "runtime/model/folder.h"

#include <inttypes.h>
#include <stdio.h>

lucid_status launch_convert(const launch_options *options, lucid_comm *comm) {
    lucid_model *model;
    LUCID_TRY(lucid_model_open(&model, comm, options->model, NULL));
    lucid_status status = LUCID_OK;
    if (comm->rank == 0)
        status = lucid_model_convert(model, options->model, options->output, options->dtype, options->job_id);
    status = lucid_comm_conclude(comm, status);
    if (!status && comm->rank == 0 && !options->quiet)
        printf("%s: %" PRId64 " parameters\n", options->output, model->n_parameters);
    lucid_model_close(model);
    return status;
}
