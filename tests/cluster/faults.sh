#!/usr/bin/env bash
# faults.sh SOURCE_DIR SWITCH LUCID [--rounds N] [--seed S] [KIND...]
#
# The fault matrix: each kind N times (default 2), at seeded random moments of a run on four hosts. Whatever happens, the
# run ends in bounded time and says why; there is either the whole output, with an undisturbed run's bits, or nothing.
source "$(dirname "$0")/lib.sh"
source "$source_dir/tests/cluster/faults_lib.sh"
kinds=(rank host mpirun early stop cut slow loss full readonly folder oversubscribed scancel task frozen)
rounds=2 seed=1
parse_fault_options "${@:4}"
skip_unless_possible --slurm

## Kinds: what happens to a run under mpirun, and how it may end

fault_rank() { # kill -9 of one rank
    start_run "$1" && at_random_moment strike -KILL && expect_end "$1" 20
}

fault_host() {
    start_run "$1" && at_random_moment cluster kill h2 && expect_end "$1" 25
    cluster boot h2
}

kill_mpirun() { # NAME
    kill -9 "$(pgrep -f "^mpirun .*--output $work/$1\.")" 2>/dev/null
    return 0
}

fault_mpirun() {
    start_run "$1" && at_random_moment kill_mpirun "$1" && expect_end "$1" 20
}

# While MPI starts ranks cannot know of each other: all that is promised is an end. After a cut mpirun has words for that
# host on their way then, and waits for TCP to give up.
fault_early() {
    local faults=("strike -KILL" "strike -STOP" "cluster cut h1")
    launch_run "$1"
    await "$1" "no ranks" 60 ranks_are_there "$1" $n_ranks || return
    pause_ms $((RANDOM % start_ms))
    ${faults[RANDOM % 3]}
    faulted=$(now_ms)
    expect_end "$1" $((timeout + 60)) 40
    cluster mend h1
}

# Named within the timeout and 2 s, by a survivor.
fault_stop() {
    start_run "$1" && at_random_moment strike -STOP || return
    expect_named "$1" $((timeout + 2))
    expect_end "$1" $((timeout + 30))
}

fault_cut() {
    start_run "$1" && at_random_moment cluster cut h1 || return
    expect_named "$1" $((timeout + 2))
    expect_end "$1" $((timeout + 40)) 40 # those on the cut host must find out by themselves
    cluster mend h1
}

fault_slow() {
    start_run "$1" --timeout 60 && at_random_moment cluster limit h3 100mbit && expect_success "$1"
    cluster limit h3 none
}

fault_loss() {
    cluster delay 200 5%
    start_run "$1" --timeout 60 && expect_success "$1"
    cluster nodelay
}

## Kinds: what a file system does

# The output needs 4 MiB. Mounted before the run enters the cluster, in namespaces of its own.
on_file_system() { # OPTIONS NAME
    mkdir -p "$work/disk"
    timeout -k 5 60 unshare -m bash -c 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && "$@"; code=$?; ls -A disk >left; exit $code' - \
        "$1" "$work/disk" mpirun --oversubscribe -n 3 "$lucid" attend --input qkv.safetensors --output disk/out.safetensors \
        --tile 256 --threads 1 >"$2.out" 2>"$2.err"
    expect "exit code ($2)" $? 1
    expect "files left ($2)" "$(<left)" ""
    expect "lines on stderr ($2)" "$(grep -c '^lucid: ' "$2.err")" 1
}

fault_full() {
    on_file_system "size=$((RANDOM % 3 + 1))m" "$1"
    grep -q '^lucid: .*out\.safetensors.*No space left on device' "$1.err" || complain "$1: $(<"$1.err")"
}

fault_readonly() {
    on_file_system ro "$1"
    grep -q '^lucid: .*out\.safetensors.*Read-only file system' "$1.err" || complain "$1: $(<"$1.err")"
}

# Two jobs at once with one output: the last one's, whole.
fault_folder() {
    local first second
    run_local "$1" & first=$!
    run_local "$1" & second=$!
    wait $first || complain "$1: the first job failed: $(cat "$1.err")"
    wait $second || complain "$1: the second job failed: $(cat "$1.err")"
    expect_output "$1"
}

# Eight ranks on two processors, one of them running a tenth of the time: slow is not dead.
fault_oversubscribed() {
    local ranks slowed
    name=$1
    run_local "$1" 8 --timeout 60 & run=$!
    await "$1" "no ranks" 60 ranks_are_there "$1" 8 || return
    mapfile -t ranks < <(rank_pids "$1")
    slowed=${ranks[RANDOM % ${#ranks[@]}]}
    while kill -STOP "$slowed" 2>/dev/null; do
        sleep 0.09
        kill -CONT "$slowed" 2>/dev/null
        sleep 0.01
    done
    wait $run || complain "$1: false alarm: $(cat "$1.err")"
    expect_output "$1"
}

## Kinds: what Slurm does

fault_scancel() {
    start_batch "$1" && at_random_moment cluster head scancel --user root && expect_end "$1" 30
}

fault_task() { # kill -9 of one rank
    start_batch "$1" && at_random_moment strike -KILL && expect_end "$1" $((timeout + 30))
}

fault_frozen() { # SIGSTOP of one rank
    start_batch "$1" && at_random_moment strike -STOP || return
    expect_named "$1" $((timeout + 2))
    expect_end "$1" 90 # srun waits a minute before it kills the frozen one
}

## All of them

undisturbed || finish
for kind in "${kinds[@]}"; do
    for ((round = 1; round <= rounds; round++)); do one_round "$kind" $round; done
    expect_struck "$kind"
done
[[ $rounds -le 2 ]] || print_table
expect_clean_down
finish
