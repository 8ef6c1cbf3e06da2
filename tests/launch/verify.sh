#!/usr/bin/env bash
# `lucid verify` and `lucid bench` end to end: they pass on sound runs, and say what they measured.
source "$(dirname "$0")/lib.sh"

verify_passes() {
    local keys
    for keys in normal clustered coincident; do
        succeed verify --random 500 --heads 4 --kv-heads 2 --head-dim 32 --value-dim 24 --keys $keys --report verify.json
        [[ $(grep -c tolerance stdout.txt) -ge 3 ]] || complain "verify --keys $keys compares too little: $(cat stdout.txt)"
        grep -q FAILED stdout.txt && complain "verify --keys $keys: $(cat stdout.txt)"
        "$json" verify.json verification.y_tolerance >/dev/null || complain "no tolerance in the report"
    done
    succeed verify --random 300 --attention softmax --dtype bf16
    on_ranks 2 verify --random 700 --heads 2 --keys clustered || complain "verify on two ranks: $(cat stdout.txt stderr.txt)"
    grep -Eq '^  y +ScaLAPACK +[0-9]|ScaLAPACK was not asked: .* cannot be loaded: ' stdout.txt ||
        complain "verify on two ranks did not ask ScaLAPACK: $(cat stdout.txt)"
}

# Judged by a solver that solves nothing, a right y is wrong, and nothing else is.
verify_fails() {
    LD_LIBRARY_PATH=$(dirname "$lucid")/fake_scalapack timeout -k 5 100 "$lucid" verify --comm mpi --random 300 \
        --keys clustered --report failed.json >stdout.txt 2>stderr.txt
    expect "exit code of a verification that fails" $? 1
    expect "what failed" "$(grep FAILED stdout.txt | awk '{ print $1, $2 }')" "y ScaLAPACK"
    expect "the failure's line" "$(grep '^lucid: ' stderr.txt)" "lucid: verification failed: 1 error above tolerance"
    awk -v error="$("$json" failed.json verification.y_error_scalapack)" 'BEGIN { exit !(error > 0.01) }' ||
        complain "the report's error of y without a solve: $("$json" failed.json verification)"
}

bench_rows() {
    succeed bench --lengths 512,1K --heads 2 --repeat 2 --report bench.json
    expect "rows" "$("$json" bench.json rows)" 2
    expect "length of the second row" "$("$json" bench.json rows.1.problem.seqlen)" 1024
    expect "repetitions" "$("$json" bench.json rows.1.repetitions)" 2
    "$json" bench.json rows.1.median.both >/dev/null || complain "no share of peak in the report"
    grep -q 'outside the timers' stdout.txt || complain "bench does not say what it leaves out"
    expect "printed rows" "$(grep -c '^lucid ' stdout.txt)" 2
    succeed bench --lengths 512 --heads 1 --repeat 1 --attention softmax
    expect "softmax rows" "$(grep -c '^softmax ' stdout.txt)" 1
}

# Every row has been checked against fp64; wrong results end the run.
bench_backward() {
    succeed bench --backward --lengths 100,500 --heads 4 --kv-heads 2 --head-dim 68 --keys clustered --repeat 1 --report backward.json
    expect "rows of backward" "$("$json" backward.json rows)" 2
    "$json" backward.json rows.1.median.ratio >/dev/null || complain "no ratio in the report"
    on_ranks 2 bench --backward --lengths 300 --attention softmax --dtype bf16 --repeat 2 || complain "$(cat stderr.txt)"
    expect "softmax rows of backward" "$(grep -c '^softmax ' stdout.txt)" 1
}

bench_decode() {
    succeed bench --decode --cached 100,1K --heads 4 --kv-heads 2 --head-dim 68 --repeat 1 --report decode.json
    expect "rows of decode" "$("$json" decode.json rows)" 4
    expect "cached tokens" "$("$json" decode.json rows.3.cached)" 1024
    expect "dtype of the cache" "$("$json" decode.json rows.3.cache_dtype)" bf16
    "$json" decode.json rows.0.share >/dev/null || complain "no share of bandwidth in the report"
    on_ranks 2 bench --decode --cached 1K --keys clustered --attention softmax --repeat 1 || complain "$(cat stderr.txt)"
    expect "softmax rows of decode" "$(grep -c '^softmax ' stdout.txt)" 2
}

verify_passes
command -v mpirun >/dev/null && verify_fails
bench_rows
bench_backward
bench_decode
finish
