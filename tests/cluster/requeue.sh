#!/usr/bin/env bash
# requeue.sh SOURCE_DIR SWITCH LUCID [KIND...]
#
# Jobs of attend.sbatch and train.sbatch that Slurm interrupts go on where they were, to the bits of an undisturbed run.
# By default the warning ahead of the time limit is a signal sent at a random moment; `limit` waits for Slurm's own, which
# takes minutes.
source "$(dirname "$0")/lib.sh"
kinds=("${@:4}")
[[ ${#kinds[@]} -gt 0 ]] || kinds=(warned lost cancelled trained)
skip_unless_possible --slurm
input=(--random 8K --heads 2 --isa scalar --seed 1 --threads 1) # seconds of one core

job_shows() { # PATTERN
    [[ $(cluster head scontrol --oneliner show job "$job") =~ $1 ]]
}

await() { # SECONDS WHAT COMMAND...
    local deadline=$((SECONDS + $1))
    until "${@:3}"; do
        if [[ SECONDS -ge deadline ]] || job_shows 'JobState=(FAILED|TIMEOUT|NODE_FAIL)'; then
            complain "job $job: not $2: $(cluster head scontrol --oneliner show job "$job") $(<"$job.log")"
            return 1
        fi
        sleep 0.1
    done
}

n_manifests_is() { [[ $(find "lucid-$job.checkpoint" -name '*.manifest' 2>/dev/null | wc -l) -ge $1 ]]; }
says() { grep -q "$1" "$job.log"; }

submit() { # OPTIONS OF SBATCH...
    rm -f out.safetensors
    job=$(LUCID=$lucid cluster head sbatch --parsable --output=%j.log "$@" "$source_dir/launch/attend.sbatch" "${input[@]}" \
        --timeout 4 --checkpoint-every 0.5 --output out.safetensors --save out,y,lse) || complain "sbatch failed"
}

# Slurm lets a requeued job wait for two minutes, for its old processes to go; as soon as the nodes are free it goes on
# here.
go_on() {
    await 60 "requeued" job_shows 'Restarts=[1-9].*JobState=PENDING|JobState=PENDING.*Restarts=[1-9]' || return
    await 60 "out of its nodes" all_idle || return
    sleep 1 # Slurm dates credentials in seconds: a job that starts within the one in which it ended passes for the old one
    cluster head scontrol update jobid="$job" starttime=now || complain "the job cannot be changed"
}

all_idle() { [[ $(cluster head sinfo --noheader --states=idle --format=%D) == 4 ]]; }

expect_finished() {
    await 100 "complete" job_shows 'JobState=COMPLETED' || return
    says 'Resumed from' || complain "the job began anew: $(<"$job.log")"
    cmp want.safetensors out.safetensors || complain "other bits than an undisturbed run's"
    [[ ! -e lucid-$job.checkpoint ]] || complain "the checkpoint is left"
    expect "partial files" "$(compgen -G 'out.safetensors.*')" ""
}

warned() {
    submit
    await 30 "saved" n_manifests_is 1 || return
    sleep 0.$((RANDOM % 900 + 100))
    cluster head scancel --signal=USR1 --batch "$job"
    go_on || return
    says 'ended with exit code 75' || complain "no word of the requeue: $(<"$job.log")"
    expect_finished
}

lost() {
    submit
    await 30 "saved" n_manifests_is 4 || return
    sleep 0.$((RANDOM % 900 + 100))
    cluster kill h3
    await 60 "requeued" job_shows 'Restarts=1'
    cluster boot h3
    go_on && expect_finished
}

# scancel means it.
cancelled() {
    submit
    await 30 "saved" n_manifests_is 1 || return
    cluster head scancel "$job"
    await 60 "cancelled" job_shows 'JobState=CANCELLED'
    sleep 2
    job_shows 'Restarts=0' || complain "a cancelled job is requeued"
    n_manifests_is 1 || complain "a cancelled job takes its checkpoint along"
    expect "output of a cancelled job" "$(compgen -G 'out.safetensors*')" ""
}

trained() {
    local steps=(--model m --text text --length 128 --sequences 8 --steps 400 --save-every 20 --rate 1e-3 --threads 1)
    mkdir m
    echo '{"model_type": "llama", "attention_type": "lucid", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 256}' >m/config.json
    seq 1 5000 >text
    "$lucid" train "${steps[@]}" --output want --quiet || complain "the local training failed"
    job=$(LUCID=$lucid cluster head sbatch --parsable --output=%j.log --nodes=2 "$source_dir/launch/train.sbatch" \
        "${steps[@]}" --output trained) || complain "sbatch failed"
    await 60 "saved" compgen -G 'trained/step-*' >/dev/null || return
    cluster head scancel --signal=USR1 --batch "$job"
    go_on || return
    says 'requeued, it goes on from trained' || complain "no word of the requeue: $(<"$job.log")"
    await 100 "complete" job_shows 'JobState=COMPLETED' || return
    cmp {want,trained}/step-000000400/model.safetensors || complain "other weights than an undisturbed training's"
}

limit() {
    input=(--random 24K --heads 4 --isa scalar --seed 1 --threads 1)
    "$lucid" attend "${input[@]}" --output want.safetensors --save out,y,lse --quiet
    submit --time=1 --signal=B:USR1@30
    while ! job_shows 'JobState=COMPLETED'; do
        go_on || return
        await 60 "running" job_shows 'JobState=(RUNNING|COMPLETED)' || return
        await 120 "over" job_shows 'JobState=(PENDING|COMPLETED)' || return
    done
    expect_finished
}

RANDOM=$(date +%s)
"$lucid" attend "${input[@]}" --threads 2 --output want.safetensors --save out,y,lse --quiet || complain "the local run failed"
cluster up 4 --slurm || { complain "up failed"; finish; }
for kind in "${kinds[@]}"; do $kind; done
expect_clean_down
finish
