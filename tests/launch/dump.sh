#!/usr/bin/env bash
# SIGUSR2 makes every rank of a run say what it is doing, in one block each, and the run goes on.
source "$(dirname "$0")/lib.sh"

# within COMMAND...: true before half a minute is over.
within() {
    local i
    for ((i = 0; i < 300; i++)); do
        "$@" && return 0
        sleep 0.1
    done
    return 1
}

begun() { [[ -s stdout.txt ]]; }

told() { [[ $(grep -c '^  peer rank\|\] running attention' stderr.txt) -ge $1 ]]; }

# dump LINES COMMAND...: a long run, asked once it has begun, and ended when it has told so many lines.
dump() {
    local lines=$1 pid
    shift
    rm -f stdout.txt stderr.txt
    "$@" attend --random 64K --heads 1 --threads 1 --schedule pipelined >stdout.txt 2>stderr.txt &
    pid=$!
    within begun || complain "the run does not begin: $(cat stderr.txt)"
    sleep 0.3
    kill -USR2 $pid
    within told "$lines" || complain "not all ranks answer: $(cat stderr.txt)"
    kill -TERM $pid || complain "the run did not go on"
    wait $pid
}

block_of() { # RANK
    awk -v start="^lucid: \\\\[rank $1/" '/^lucid: /{on = $0 ~ start} on' stderr.txt
}

several_ranks() {
    local n=3 rank block
    dump $((3 * n)) mpirun --oversubscribe -n $n "$lucid"
    for ((rank = 0; rank < n; rank++)); do
        block=$(block_of $rank)
        grep -Eq '^  channel 0: [0-9]+ of [0-9]+ rows solved, [0-9]+ finished; window ' <<<"$block" || complain "rank $rank tells no cursors: $block"
        grep -Eq '^    row tile [0-9]+: update at [0-9]+' <<<"$block" || complain "rank $rank tells no rows: $block"
        expect "peers of rank $rank" "$(grep -Ec '^  peer rank [0-9] on .*: heard of [0-9.]+ s ago' <<<"$block")" 2
    done
}

several_ranks
dump 1 "$lucid"
finish
