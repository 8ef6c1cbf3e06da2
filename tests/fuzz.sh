#!/bin/sh
# fuzz.sh FUZZER SEEDER: runs a libFuzzer program for a few seconds from the seeds that SEEDER makes. An input that fails
# stays in the working folder; the fuzzer prints how to run it again.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$2" "$folder"
# libFuzzer's own exit code for a failure, 77, means a skipped test here.
ASAN_OPTIONS=detect_leaks=1:exitcode=1 "$1" -error_exitcode=1 -seed=1 -runs=1000000 -max_total_time=5 \
    -max_len=2048 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 "$folder"
