#!/usr/bin/env bash
# heart.sh PROGRAM: ranks that stop, are slow, fail or are asked what they do; one job each.
set -uo pipefail
source "$(dirname "$0")/../lib.sh"
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

# With what the job wrote.
complain_of_job() {
    complain "$1"
    sed 's/^/    /' out err
}

# job RANKS SCENARIO: leaves out, err, code and ms.
job() {
    local begin
    begin=$(date +%s%N)
    timeout -k 5 30 mpirun --oversubscribe -n "$1" "$program" "$2" >out 2>err
    code=$?
    ms=$((($(date +%s%N) - begin) / 1000000))
}

# ends_with PATTERN: in good time, with a failure and this one line; every other living rank tidied up.
ends_with() {
    [[ $code -ne 0 && $code -ne 124 && $code -ne 137 ]] || complain_of_job "$2: exit code $code"
    [[ $(grep -c '^lucid: ' err) -eq 1 ]] || complain_of_job "$2: not one line"
    grep -Eq -- "^lucid: $1" err || complain_of_job "$2: no line '$1'"
    grep -q 'tidied up' out || complain_of_job "$2: nobody tidied up"
    [[ $ms -lt $3 ]] || complain_of_job "$2: took $ms ms"
}

comes_through() { # RANKS SCENARIO
    job "$1" "$2"
    [[ $code -eq 0 && $(grep -c 'came through' out) -eq $1 ]] || complain_of_job "$2 on $1 ranks: exit code $code"
    ! grep -q '^lucid: ' err || complain_of_job "$2 on $1 ranks: a line on stderr"
}

job 5 stopped
ends_with "\[rank [0-9]/5 .*\] rank 4 on $(hostname) is stopped or unreachable: not heard of for .* s, while this rank was computing" \
    stopped 20000
job 4 failing
ends_with '\[rank 1/4 .*\] no space left for rank 1$' failing 15000
job 4 alone
ends_with '\[rank 3/4 .*\] out of memory$' alone 15000
comes_through 3 slow
comes_through 2 suspended
comes_through 2 lent
job 2 dumped
[[ $code -eq 0 ]] || complain_of_job "dumped: exit code $code"
for rank in 0 1; do
    grep -A 2 "^lucid: \[rank $rank/2 .*\] starting$" err | tr '\n' ' ' |
        grep -Eq "starting   tile $((7 + rank))   peer rank $((1 - rank)) on $(hostname): heard of [0-9.]+ s ago" ||
        complain_of_job "dumped: rank $rank's block"
done
finish
