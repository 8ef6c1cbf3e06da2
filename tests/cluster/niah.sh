#!/usr/bin/env bash
# The batch scripts for models on a Slurm of two nodes. niah.sbatch, an array of jobs and the job that merges what they
# found: the files of one local run, also when a job is cut off and requeued. generate.sbatch: a local run's text.
source "$(dirname "$0")/lib.sh"
make_model=$4
skip_unless_possible --slurm
# shellcheck disable=SC2054
job=(--model "$work/m" --template short --lengths 400,700 --needles 1,3 --count 30 --max-new 8)

submit() { # OUTPUT: prints the merging job's number
    LUCID=$lucid cluster head "$source_dir/launch/niah.sbatch" "${job[@]}" --output "$1"
}

# Until the command succeeds.
wait_for() { # WHAT COMMAND...
    local tries
    for ((tries = 0; tries < 300; tries++)); do
        ! "${@:2}" || return 0
        sleep 0.1
    done
    complain "no $1 after 30 s: $(cluster head squeue -a; tail -n 5 ./*.log)"
}

table_is_printed() { grep -hqs '^niah_short_noise_k3 *700 *30 *90 ' lucid-niah-*-merge.log; }

same() { # FOLDER
    cmp local/samples.jsonl "$1/samples.jsonl" || complain "$1: other answers than a local run's"
    cmp local/heatmap.svg "$1/heatmap.svg" || complain "$1: another heat map than a local run's"
}

whole() {
    local merge
    merge=$(submit out)
    [[ $merge =~ ^[0-9]+$ ]] || complain "no job number: '$merge'"
    wait_for "samples" test -e out/samples.jsonl
    same out
    wait_for "table" table_is_printed
}

# Again, over what is there: nothing is asked twice, and the last folder misses an answer. The jobs know nothing of this
# environment, which names the program, and hold what NIAH_SBATCH says.
again() {
    local merge
    head -n 40 out/parts/700-k3/samples.jsonl >out/parts/700-k3/answers.x.0.jsonl
    rm out/parts/700-k3/samples.jsonl out/samples.jsonl
    mkdir -p build/release/bin
    ln -s "$lucid" build/release/bin/lucid
    merge=$(SBATCH_EXPORT=PATH,OMP_WAIT_POLICY,OMPI_MCA_mpi_yield_when_idle NIAH_SBATCH=--comment=ours submit out)
    wait_for "samples" test -e out/samples.jsonl
    same out
    cluster head scontrol show job "$merge" | grep -q 'Comment=ours' || complain "the last job lacks NIAH_SBATCH"
    wait_for "end of all jobs" no_jobs
    cluster head sbatch "$source_dir/launch/niah.sbatch" "${job[@]}" --output out >/dev/null
    wait_for "end of all jobs" no_jobs
    grep -hq 'not by sbatch' lucid-niah-*.log || complain "niah.sbatch under sbatch: $(tail -n 3 lucid-niah-*.log)"
}

no_jobs() { [[ -z $(cluster head squeue --noheader) ]]; }

failed() {
    LUCID=$lucid cluster head "$source_dir/launch/niah.sbatch" --model none --output none >job
    while [[ -n $(cluster head squeue --noheader) ]]; do sleep 0.2; done
    grep -hq '^lucid: .*none/config.json' lucid-niah-*-0.log || complain "no line about none/config.json"
    [[ ! -e none/samples.jsonl ]] || complain "a failed array was merged"
}

generate() { # COMMAND ARGUMENTS...: both nodes' answer in batch.txt, what it said in batch.err
    COMMAND=$1 LUCID=$lucid cluster head sbatch -W --nodes=2 --output=batch.txt --error=batch.err \
        "$source_dir/launch/generate.sbatch" "${@:2}"
}

generated() {
    local prompt=(--model "$work/m" --prompt "The quick brown fox" --max-new 20)
    "$lucid" generate "${prompt[@]}" --quiet >local.txt || complain "the local run failed"
    generate generate "${prompt[@]}" --quiet || complain "generate.sbatch failed: $(tail -n 5 batch.err)"
    cmp local.txt batch.txt || complain "generate.sbatch: another text than a local run's"
    printf 'The quick brown fox' >fox.txt
    generate score --model "$work/m" --text fox.txt --report fox.json || complain "a score failed: $(tail -n 5 batch.err)"
    grep -q '"world_size": 2' fox.json || complain "not 2 ranks: $(grep world_size fox.json)"
    grep -q '^perplexity' batch.txt || complain "no score: $(cat batch.txt)"
    generate generate --model none --prompt x
    expect "exit code of generate.sbatch without a model" $? 1
    expect "lines that name it" "$(grep -c '^lucid: none/config.json' batch.err)" 1
}

"$make_model" m layers=1 || complain "no model"
"$lucid" eval niah "${job[@]}" --output local --quiet || complain "the local run failed"
cluster up 2 --slurm || { complain "up failed"; finish; }
whole
again
failed
generated
expect_clean_down
finish
