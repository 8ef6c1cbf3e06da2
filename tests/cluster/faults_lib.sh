# shellcheck shell=bash
# Sourced by faults.sh after lib.sh. A run is known by the name of its output; its words are in NAME.out and NAME.err.
timeout=3 # seconds; runs have it as --timeout
n_ranks=4

now_ms() { echo $(($(date +%s%N) / 1000000)); }

parse_fault_options() {
    while [[ $# -gt 0 ]]; do
        case $1 in
        --rounds) rounds=$2; shift 2 ;;
        --seed) seed=$2; shift 2 ;;
        *) break ;;
        esac
    done
    [[ $# -eq 0 ]] || kinds=("$@")
    RANDOM=$seed
}

# The input, the bits wanted, a cluster, and the time that a run takes once its ranks are there: faults come within it.
undisturbed() {
    "$lucid" make --random 16K --heads 2 --kv-heads 1 --output qkv.safetensors --quiet &&
        "$lucid" attend --input qkv.safetensors --output want --quiet || { complain "the local run failed"; return 1; }
    cluster up 4 --slurm || { complain "up failed"; return 1; }
    start_run undisturbed --timeout 60
    local begin
    begin=$(now_ms)
    expect_success undisturbed
    run_ms=$(($(now_ms) - begin))
    printf 'undisturbed: %d ms, seed %d\n' "$run_ms" "$seed"
}

# start_run NAME OPTIONS...: under mpirun on the four hosts; comes back when the ranks are there.
start_run() {
    cluster mpirun -n $n_ranks "$lucid" attend --input qkv.safetensors --output "$work/$1.safetensors" --timeout $timeout \
        --threads 1 --checkpoint "$1.checkpoint" --checkpoint-every 0.2 "${@:2}" >"$1.out" 2>"$1.err" &
    run=$!
    name=$1
    await_ranks "$1" $n_ranks
}

# start_batch NAME OPTIONS...: the same as a job of Slurm.
start_batch() {
    run_batch "$1" "$source_dir/launch/attend.sbatch" --input qkv.safetensors --output "$work/$1.safetensors" --threads 1 \
        --quiet --checkpoint-every 0.2 "${@:2}" &
    run=$!
    name=$1
    await_ranks "$1" $n_ranks
}

# Until the job is over, with its exit code. sbatch -W looks only every half minute.
run_batch() { # NAME SCRIPT ARGUMENTS...
    local job shown
    job=$(LUCID=$lucid LUCID_CHECKPOINT=$work/$1.checkpoint cluster head sbatch --parsable --no-requeue --output="$1.err" "${@:2}") || return 1
    while shown=$(cluster head scontrol --oneliner show job "$job"); do
        [[ $shown =~ JobState=(PENDING|RUNNING|COMPLETING|CONFIGURING) ]] || break
        sleep 0.2
    done
    [[ $shown =~ ExitCode=([0-9]+):([0-9]+) ]] || return 1
    return $((BASH_REMATCH[1] + BASH_REMATCH[2]))
}

run_local() { # NAME [RANKS OPTIONS...]
    timeout -k 5 60 mpirun --oversubscribe -n "${2:-2}" "$lucid" attend --input qkv.safetensors --output "$work/$1.safetensors" \
        --threads 1 "${@:3}" >>"$1.out" 2>>"$1.err"
}

rank_pids() { # NAME
    pgrep -f "^$lucid attend .*--output $work/$1\.safetensors"
}

await_ranks() { # NAME COUNT
    local deadline=$(($(now_ms) + 20000))
    until [[ $(rank_pids "$1" | wc -l) -ge $2 ]]; do
        [[ $(now_ms) -lt $deadline ]] && kill -0 $run 2>/dev/null || return 1
        sleep 0.01
    done
}

# strike SIGNAL: one of the ranks, whose process id is left in `struck`; nothing when they are gone already.
strike() {
    local pids
    mapfile -t pids < <(rank_pids "$name")
    struck=${pids[${#pids[@]} ? RANDOM % ${#pids[@]} : 0]:-}
    [[ -z $struck ]] || kill "$1" "$struck" 2>/dev/null
}

# A moment of the run; `faulted` is the time of the fault that follows.
wait_random() {
    local ms=$(((RANDOM * 32768 + RANDOM) % run_ms))
    sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
    faulted=$(now_ms)
}

expect_output() { # NAME
    cmp want "$1.safetensors" || complain "$1: other bits than an undisturbed run's"
    expect_no_parts "$1"
    rm -f "$1.safetensors"
}

# What was saved before the fault is taken up by another number of ranks in another layout, to the same bits.
expect_resume() { # NAME
    local layouts=(contiguous zigzag cyclic) n=$((RANDOM % 3 + 1)) layout
    layout=${layouts[RANDOM % 3]}
    outcome+=${outcome:+, }
    compgen -G "$1.checkpoint/*.manifest" >/dev/null || { outcome+="nothing saved"; return; }
    run_local "$1" $n --checkpoint "$1.checkpoint" --resume --layout $layout || complain "$1: no resume: $(tail -n 3 "$1.err")"
    outcome+=$(grep -o 'Resumed.*' "$1.out" | sed -E "s/.*: ([0-9.]+ %).*/resumed at \1 by $n ranks/")
    expect_output "$1"
}

expect_no_parts() { # NAME
    ! compgen -G "$1.safetensors.tmp.*" || complain "$1: a partial file is left"
    rm -f "$1.safetensors.tmp."*
}

expect_success() { # NAME
    wait $run || complain "$1: failed: $(cat "$1.err")"
    expect_output "$1"
}

# expect_end NAME SECONDS [GONE]: over by then, in either of two ways; no processes are left GONE seconds (default 2) later.
expect_end() {
    local deadline=$((faulted + $2 * 1000)) code
    while kill -0 $run 2>/dev/null && [[ $(now_ms) -lt $deadline ]]; do sleep 0.05; done
    ! kill -0 $run 2>/dev/null || complain "$1: not over after $2 s: $(cat "$1.err")"
    wait $run
    code=$?
    if [[ $code -eq 0 ]]; then
        outcome="was done before"
        expect_output "$1"
        return
    fi
    [[ $1 == mpirun* || -s $1.err ]] || complain "$1: ends with $code and no word"
    expect_gone "$1" "${3:-2}"
    [[ ! -e $1.safetensors ]] || cmp -s want "$1.safetensors" || complain "$1: a wrong output is left"
    expect_no_parts "$1"
    # Where MPI starts or ends no rank can know of the others' lines.
    [[ $(grep '^lucid: ' "$1.err" | grep -Evc '(start|end) of MPI') -le 1 ]] || complain "$1: says more than one line: $(grep '^lucid: ' "$1.err")"
    expect_resume "$1"
}

expect_gone() { # NAME SECONDS
    local deadline=$(($(now_ms) + $2 * 1000))
    while rank_pids "$1" >/dev/null; do
        [[ $(now_ms) -lt $deadline ]] || { complain "$1: processes are left: $(rank_pids "$1" | paste -sd' ')"; return; }
        sleep 0.05
    done
}

# expect_named NAME SECONDS: the line about the peer comes by then, unless the run is over.
expect_named() {
    local deadline=$((faulted + $2 * 1000))
    until grep -q '^lucid: ' "$1.err"; do
        kill -0 $run 2>/dev/null || return 0
        [[ $(now_ms) -lt $deadline ]] || { complain "$1: nothing named within $2 s: $(cat "$1.err")"; return; }
        sleep 0.02
    done
    outcome="named after $(($(now_ms) - faulted)) ms"
    grep -Eq '^lucid: .*(rank [0-9]+ on h[0-9] (is stopped or unreachable|did not come)|did not return)' "$1.err" ||
        complain "$1: the line names nobody: $(grep '^lucid: ' "$1.err")"
}
