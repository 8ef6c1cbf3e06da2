/* The commands. Each is Collective, returns a status that all ranks have agreed on, and prints on rank 0 alone. */
#ifndef LUCID_LAUNCH_COMMANDS_H
#define LUCID_LAUNCH_COMMANDS_H

#include "launch/options.h"

lucid_status launch_attend(const launch_options *options, lucid_comm *comm);
lucid_status launch_verify(const launch_options *options, lucid_comm *comm);
lucid_status launch_bench(const launch_options *options, lucid_comm *comm);
lucid_status launch_info(const launch_options *options, lucid_comm *comm);
lucid_status launch_make(const launch_options *options, lucid_comm *comm);
lucid_status launch_generate(const launch_options *options, lucid_comm *comm);
lucid_status launch_score(const launch_options *options, lucid_comm *comm);
lucid_status launch_batch(const launch_options *options, lucid_comm *comm);
lucid_status launch_eval_niah(const launch_options *options, lucid_comm *comm);
lucid_status launch_eval_merge(const launch_options *options, lucid_comm *comm);
lucid_status launch_train(const launch_options *options, lucid_comm *comm);
lucid_status launch_convert(const launch_options *options, lucid_comm *comm);

#endif
