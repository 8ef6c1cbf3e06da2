/* The lucid program. Ranks are started by mpirun, by srun, or alone; rank 0's command line counts, and every rank
 * receives it as a message. A failure is agreed on by all ranks, printed once by rank 0, and ends the program with exit
 * code 2 when the command line asked for something impossible and 1 otherwise. */
#include "launch/checkpoint.h"
#include "launch/commands.h"
#include "launch/file.h"
#include "launch/leftovers.h"
#include "launch/share.h"
#include "launch/sink.h"
#include "launch/version.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

/* A wide --channels needs as many channels of the transport, and a few more for the runtime's own use. */
#define CHANNELS_MIN   64
#define CHANNELS_SPARE 8

static int exit_code(lucid_status status) {
    return status == LUCID_OK ? 0 : status == LUCID_ERR_USAGE ? 2 : 1;
}

/* What a launcher set, or `missing`: known before the transport is, so that a wrong command line costs no start of MPI.
 */
static long launcher_number(const char *const *variables, long missing) {
    for (; *variables; variables++) {
        const char *value = getenv(*variables);
        if (value && *value) return strtol(value, NULL, 10);
    }
    return missing;
}

static long rank_hint(void) {
    static const char *const variables[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", NULL};
    return launcher_number(variables, 0);
}

/* srun, which names tasks, comes last: where mpirun is started by it, they are not the ranks. */
static long size_hint(void) {
    static const char *const variables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", NULL};
    return launcher_number(variables, 1);
}

static lucid_status check_alone(const launch_options *options) {
    if (strcmp(options->comm, "self") || size_hint() == 1) return LUCID_OK;
    return lucid_fail(LUCID_ERR_USAGE, "--comm: self is for one rank, and %ld were started", size_hint());
}

/* Ranks that do not find each other would each do the whole job. */
static lucid_status check_together(const lucid_comm *comm) {
    if (comm->world_size > 1 || size_hint() <= 1) return LUCID_OK;
    return lucid_fail(
        LUCID_ERR_USAGE,
        "%ld ranks were started, and each is alone (transport %s): use the mpirun or srun --mpi of the MPI "
        "that this build is for, if it is for any (lucid info)",
        size_hint(), comm->transport->name);
}

/* The host's first rank tidies up after crashed jobs, before its own has any segment. A rank whose launcher is killed
 * ends as if the launcher had ended it, and so removes its unfinished output. */
static void prepare_process(void) {
    static const char *const world[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", NULL};
    static const char *const local[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", NULL};
    if (launcher_number(world, -1) < 0) return;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (launcher_number(local, 0) == 0) launch_leftovers_remove("/dev/shm");
}

/* Without a transport. What is wrong with the command line or the build is so on every rank, and one speaks. */
static int fail(lucid_status status) {
    bool everywhere = status == LUCID_ERR_USAGE || status == LUCID_ERR_UNSUPPORTED;
    if (!everywhere || rank_hint() == 0) fprintf(stderr, "lucid: %s\n", lucid_failure());
    return exit_code(status);
}

/* --help and --version. */
static int answer(const launch_options *options) {
    if (rank_hint()) return 0;
    if (options->help)
        launch_options_help(stdout, options);
    else
        printf("lucid %s\n", LUCID_BUILD);
    return 0;
}

/* Files that are written after a long run: better refused before it. */
static lucid_status check_writable(const char *path) {
    launch_file file = {0};
    lucid_status status = path ? launch_file_open(&file, path) : LUCID_OK;
    launch_file_discard(&file);
    return status;
}

static lucid_status check_reports(const launch_options *options, lucid_comm *comm) {
    lucid_status status = LUCID_OK;
    if (comm->rank == 0) status = check_writable(options->report);
    if (comm->rank == 0 && !status) status = check_writable(options->trace);
    return lucid_comm_agree(comm, status);
}

static lucid_status run_command(const launch_options *options, lucid_comm *comm) {
    static lucid_status (*const commands[N_COMMANDS])(const launch_options *, lucid_comm *) = {
        [COMMAND_ATTEND] = launch_attend,       [COMMAND_VERIFY] = launch_verify,
        [COMMAND_BENCH] = launch_bench,         [COMMAND_INFO] = launch_info,
        [COMMAND_MAKE] = launch_make,           [COMMAND_GENERATE] = launch_generate,
        [COMMAND_SCORE] = launch_score,         [COMMAND_BATCH] = launch_batch,
        [COMMAND_EVAL_NIAH] = launch_eval_niah, [COMMAND_EVAL_MERGE] = launch_eval_merge,
        [COMMAND_TRAIN] = launch_train,         [COMMAND_CONVERT] = launch_convert,
    };
    LUCID_TRY(check_reports(options, comm));
    lucid_comm_phase(comm, "at work");
    return commands[options->command](options, comm);
}

/* Statuses differ between the rank that failed and those that were told; exit code and line are the same. Whoever finds
 * fault with an input's values knows tensor and index, but not the file. */
static int conclude(lucid_comm *comm, const launch_options *options, lucid_status status) {
    double found[] = {exit_code(status), status == LUCID_ERR_INPUT};
    if (status == LUCID_ERR_TIMEOUT || lucid_comm_allreduce(comm, found, 2, LUCID_MAX)) {
        lucid_comm_abort(comm); /* whoever still answers speaks */
        return 1;
    }
    if (found[0] == 0 || comm->rank) return (int)found[0];
    bool name_file = found[1] != 0 && options->input && !strstr(lucid_failure(), options->input);
    fprintf(stderr, "lucid: %s%s%s\n", name_file ? options->input : "", name_file ? ": " : "", lucid_failure());
    return (int)found[0];
}

/* mpirun and scancel --signal pass it on to every rank; each then says what it is doing. */
static void on_dump(int number) {
    (void)number;
    lucid_comm_dump();
}

static lucid_status open_comm(lucid_comm **comm, const launch_options *options) {
    struct sigaction dump = {.sa_handler = on_dump, .sa_flags = SA_RESTART};
    sigaction(SIGUSR2, &dump, NULL);
    if (options->checkpoint) launch_checkpoint_watch();
    int channels = options->channels > CHANNELS_MIN ? (int)options->channels : CHANNELS_MIN;
    LUCID_TRY(lucid_comm_open(comm, &(lucid_comm_options){.transport = options->comm,
                                                          .n_channels_max = channels + CHANNELS_SPARE,
                                                          .timeout = options->timeout,
                                                          .before_end = launch_sink_discard}));
    lucid_status status = check_together(*comm);
    if (status) lucid_comm_close(*comm);
    return status;
}

int main(int argc, char **argv) {
    launch_options options;
    lucid_status status = launch_options_parse(&options, argc, argv);
    if (!status && !options.help && !options.version) status = check_alone(&options);
    if (status) return fail(status);
    if (options.help || options.version) return answer(&options);

    lucid_comm *comm;
    lucid_job job = {0};
    prepare_process();
    status = open_comm(&comm, &options);
    if (status) return fail(status);
    status = launch_options_share(&options, &job, comm, argc, argv);
    if (!status) status = run_command(&options, comm);
    int code = conclude(comm, &options, status);
    lucid_comm_close(comm);
    free(job.words);
    return code;
}
