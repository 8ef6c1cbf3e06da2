#!/usr/bin/env bash
# SIGUSR2 makes every rank say what it is doing, in one block each, and the run goes on.
source "$(dirname "$0")/lib.sh"

# begun FILE: the run's first line is there.
begun() {
    local i
    for ((i = 0; i < 300; i++)); do
        [[ -s $1 ]] && return 0
        sleep 0.1
    done
    complain "the run does not begin: $(cat stderr.txt)"
}

block_of() { # RANK
    awk -v start="^lucid: \\\\[rank $1/" '/^lucid: /{on = $0 ~ start} on' stderr.txt
}

several_ranks() {
    local n=3 rank block pid
    mpirun --oversubscribe -n $n "$lucid" attend --random 16K --heads 2 --threads 1 --schedule pipelined >stdout.txt 2>stderr.txt &
    pid=$!
    begun stdout.txt
    sleep 0.3
    kill -USR2 $pid
    wait $pid
    expect "exit code after a dump" $? 0
    for ((rank = 0; rank < n; rank++)); do
        block=$(block_of $rank)
        grep -Eq '^  channel 0: [0-9]+ of [0-9]+ rows solved, [0-9]+ finished; window ' <<<"$block" || complain "rank $rank tells no cursors: $block"
        grep -Eq '^    row tile [0-9]+: update at [0-9]+' <<<"$block" || complain "rank $rank tells no rows: $block"
        expect "peers of rank $rank" "$(grep -Ec '^  peer rank [0-9] on .*: heard of [0-9.]+ s ago' <<<"$block")" 2
    done
}

alone() {
    "$lucid" attend --random 16K --heads 2 --threads 1 >stdout.txt 2>stderr.txt &
    local pid=$!
    begun stdout.txt
    sleep 0.3
    kill -USR2 $pid
    wait $pid
    expect "exit code after a dump of one rank" $? 0
    grep -q '^lucid: \[rank 0/1 .*\] running attention' stderr.txt || complain "one rank says nothing: $(cat stderr.txt)"
}

several_ranks
rm stdout.txt
alone
finish
