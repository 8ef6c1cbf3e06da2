# shellcheck shell=bash
# Sourced by faults.sh after lib.sh. A run is known by the name of its output; its words are in NAME.out and NAME.err.
#
# Nothing here is a fixed time of a fast machine: faults come at moments of a run's own, between the first and the last
# that is seen of its output, and the runs' --timeout follows from how long this machine takes to start one.
n_ranks=4

now_ms() { echo $(($(date +%s%N) / 1000000)); }
pause_ms() { sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"; }

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

# The input, the bits wanted, a cluster, and what a run takes until it is at work (start_ms) and from then on (run_ms).
undisturbed() {
    local launched begun
    "$lucid" make --random 16K --heads 2 --kv-heads 1 --output qkv.safetensors --quiet &&
        "$lucid" attend --input qkv.safetensors --output want --quiet || { complain "the local run failed"; return 1; }
    cluster up 4 --slurm || { complain "up failed"; return 1; }
    launched=$(now_ms)
    timeout=60
    start_run undisturbed || return 1
    begun=$(now_ms)
    start_ms=$((begun - launched))
    await undisturbed "not done" 60 is_done undisturbed || return 1
    run_ms=$(($(now_ms) - begun))
    expect_success undisturbed
    timeout=$((1 + (2 * start_ms + 999) / 1000))
    printf 'undisturbed: starts in %d ms, runs for %d ms; seed %d, --timeout %d\n' "$start_ms" "$run_ms" "$seed" "$timeout"
}

## Runs

# launch_run NAME OPTIONS...: under mpirun on the four hosts.
launch_run() {
    cluster mpirun -n $n_ranks "$lucid" attend --input qkv.safetensors --output "$work/$1.safetensors" --timeout $timeout \
        --threads 1 --checkpoint "$1.checkpoint" --checkpoint-every 0.2 "${@:2}" >"$1.out" 2>"$1.err" &
    run=$!
    name=$1
}

# The same; comes back when it is at work.
start_run() {
    launch_run "$@"
    await "$1" "not at work" 60 is_at_work "$1"
}

# start_batch NAME: the same as a job of Slurm.
start_batch() {
    LUCID_CHECKPOINT=$work/$1.checkpoint run_batch --no-requeue --output="$1.err" "$source_dir/launch/attend.sbatch" \
        --input qkv.safetensors --output "$work/$1.safetensors" --timeout $timeout --threads 1 --quiet --checkpoint-every 0.2 &
    run=$!
    name=$1
    await "$1" "not at work" 60 is_at_work "$1"
}

run_local() { # NAME [RANKS OPTIONS...]
    timeout -k 5 100 mpirun --oversubscribe -n "${2:-2}" "$lucid" attend --input qkv.safetensors --output "$work/$1.safetensors" \
        --threads 1 "${@:3}" >>"$1.out" 2>>"$1.err"
}

rank_pids() { # NAME
    pgrep -f "^$lucid attend .*--output $work/$1\.safetensors"
}

ranks_are_there() { [[ $(rank_pids "$1" | wc -l) -ge $2 ]]; } # NAME COUNT
is_done() { [[ -e $1.safetensors ]]; }

# The output is begun after MPI has started and the input was looked at.
is_at_work() { compgen -G "$1.safetensors.tmp.*" >/dev/null || is_done "$1"; }

# await NAME COMPLAINT SECONDS COMMAND...: of the run that is under way.
await() {
    local deadline=$(($(now_ms) + $3 * 1000))
    until "${@:4}"; do
        if ! kill -0 $run 2>/dev/null || [[ $(now_ms) -ge $deadline ]]; then
            "${@:4}" && break
            complain "$1: $2: $(cat "$1.err")"
            return 1
        fi
        sleep 0.01
    done
}

## Faults

# strike SIGNAL: one of the ranks, whose process id is left in `struck`; nothing when they are gone already.
strike() {
    local pids
    mapfile -t pids < <(rank_pids "$name")
    struck=${pids[${#pids[@]} ? RANDOM % ${#pids[@]} : 0]:-}
    [[ -z $struck ]] || kill "$1" "$struck" 2>/dev/null
    return 0
}

# A rank that stopped after all was done holds its launcher up, and nobody is left to complain.
let_go() {
    [[ -z $struck ]] || kill -9 "$struck" 2>/dev/null
    struck=
}

# at_random_moment FAULT...: of a run that has just begun to work; `faulted` is the time when the fault is there. Runs that
# are done by then have become faster than the undisturbed one was.
at_random_moment() {
    pause_ms $(((RANDOM * 32768 + RANDOM) % run_ms))
    ! is_done "$name" || run_ms=$((run_ms * 3 / 4))
    "$@"
    faulted=$(now_ms)
}

## Expectations

expect_output() { # NAME
    cmp want "$1.safetensors" || complain "$1: other bits than an undisturbed run's"
    expect_no_parts "$1"
    rm -f "$1.safetensors"
}

# What was saved before the fault is taken up by another number of ranks in another layout, to the same bits.
expect_resume() { # NAME
    local layouts=(contiguous zigzag cyclic) n=$((RANDOM % 3 + 1)) layout
    layout=${layouts[RANDOM % 3]}
    note "nothing saved"
    compgen -G "$1.checkpoint/*.manifest" >/dev/null || return 0
    run_local "$1" $n --checkpoint "$1.checkpoint" --resume --layout $layout || complain "$1: no resume: $(tail -n 3 "$1.err")"
    outcome=${outcome%nothing saved}$(grep -o 'Resumed.*' "$1.out" | sed -E "s/.*: ([0-9.]+ %).*/resumed at \1 by $n ranks/")
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

# expect_end NAME SECONDS [GONE]: over by then, in either of two ways; no processes are left GONE seconds (default 10) later.
expect_end() {
    local deadline=$((faulted + $2 * 1000)) code
    while kill -0 $run 2>/dev/null && [[ $(now_ms) -lt $deadline ]]; do
        ! is_done "$1" || let_go
        sleep 0.05
    done
    ! kill -0 $run 2>/dev/null || complain "$1: not over after $2 s: $(cat "$1.err") $(processes_of_run "$1")"
    let_go
    wait $run
    code=$?
    if [[ $code -eq 0 ]]; then
        note "was done before"
        expect_output "$1"
        return
    fi
    [[ $1 == mpirun* || -s $1.err ]] || complain "$1: ends with $code and no word"
    expect_gone "$1" "${3:-10}"
    ! is_done "$1" || cmp -s want "$1.safetensors" || complain "$1: a wrong output is left"
    expect_no_parts "$1"
    # Where MPI starts or ends no rank can know of the others' lines.
    [[ $(grep '^lucid: ' "$1.err" | grep -Evc '(start|end) of MPI') -le 1 ]] || complain "$1: says more than one line: $(grep '^lucid: ' "$1.err")"
    expect_resume "$1"
}

processes_of_run() { # NAME
    rank_pids "$1" | xargs -r ps -o pid=,stat=,wchan=,args= -p
}

expect_gone() { # NAME SECONDS
    local deadline=$(($(now_ms) + $2 * 1000))
    while rank_pids "$1" >/dev/null; do
        [[ $(now_ms) -lt $deadline ]] || { complain "$1: processes are left: $(processes_of_run "$1")"; return; }
        sleep 0.05
    done
}

# By a rank, or by a launcher that noticed first.
names_somebody() { # NAME
    grep -Eq '^lucid: .*(rank [0-9]+ on h[0-9] (is stopped or unreachable|did not come)|did not return)|lost communication with a remote daemon' "$1.err"
}

# expect_named NAME SECONDS: somebody says by then whom the run waits for, or all was done already. What this shell has to
# wait for a processor, the ranks have too, so it is added; each look takes 30 ms on a quiet machine.
expect_named() {
    local deadline=$((faulted + $2 * 1000)) looked now late=0
    looked=$(now_ms)
    until names_somebody "$1" || ! kill -0 $run 2>/dev/null; do
        now=$(now_ms)
        late=$((late + (now - looked > 60 ? now - looked - 60 : 0))) looked=$now
        [[ $now -lt $((deadline + late)) ]] || break
        sleep 0.02
    done
    now=$(now_ms)
    if names_somebody "$1"; then
        note "named after $((now - faulted)) ms"
    elif is_done "$1"; then
        cmp want "$1.safetensors" || complain "$1: other bits than an undisturbed run's"
    else
        complain "$1: nothing named within $2 s and $late ms: $(cat "$1.err") $(processes_of_run "$1")"
    fi
}

## The rounds and their table

note() { outcome+=${outcome:+, }$1; }

# A fault that came too late is tried again.
one_round() { # KIND ROUND
    local n_failures_before=$n_failures began attempt
    began=$(now_ms)
    for attempt in 1 2 3; do
        outcome='' struck=''
        "fault_$1" "$1$2-$attempt"
        [[ $outcome == "was done before" ]] || break
    done
    [[ $n_failures -eq $n_failures_before ]] || outcome=FAILED
    printf '%s %d %s\n' "$1" $(($(now_ms) - began)) "${outcome:-ended as it should}" >>rounds
    printf '%-16s %d of %d: %s, %d ms\n' "$1" "$2" "$rounds" "${outcome:-ended as it should}" $(($(now_ms) - began))
}

# A kind whose every round was over before its fault, three times each, has tested nothing.
expect_struck() { # KIND
    grep "^$1 " rounds | grep -qv 'was done before$' || complain "$1: never struck: each run was done before"
}

# One row a kind: rounds, of them failed, done before the fault or resumed, and the medians of what was measured.
print_table() {
    local kind
    printf '\n%-16s %7s %7s %7s %7s %14s %14s %9s\n' kind rounds failed done resumed 'named, ms' 'most, ms' 'round, s'
    for kind in "${kinds[@]}"; do
        grep "^$kind " rounds | awk -v kind="$kind" -v named="$(median_named "$kind")" '
            { n++; ms += $2 } / FAILED/ { failed++ } / was done before/ { done++ } / resumed at/ { resumed++ }
            END { split(named, m); printf "%-16s %7d %7d %7d %7d %14s %14s %9.1f\n", kind, n, failed, done, resumed, m[1], m[2], ms / n / 1000 }'
    done
}

# The median and the greatest time to a name, or dashes.
median_named() { # KIND
    sed -En "s/^$1 .*named after ([0-9]+) ms.*/\1/p" rounds | sort -n | awk '{ t[NR] = $1 } END { print NR ? t[int((NR + 1) / 2)] " " t[NR] : "- -" }'
}
