#!/usr/bin/env bash
# Good runs through the real program: alone and on several ranks, the same bits, and reports that can be read back.
source "$(dirname "$0")/lib.sh"

plain() {
    succeed --version
    grep -Eq '^lucid [0-9]+\.[0-9]+\.[0-9]+ \(.+\)$' stdout.txt || complain "--version: $(cat stdout.txt)"
    succeed --help
    grep -q '^  attend' stdout.txt || complain "--help lists no attend"
    succeed attend --help
    grep -q -- '--softmax-scale X' stdout.txt || complain "attend --help lists no --softmax-scale"
    succeed info
    grep -q 'transports' stdout.txt || complain "info names no transports"
    succeed attend --random 1 --heads 1 --head-dim 1
    succeed attend --random 200 --quiet
    [[ ! -s stdout.txt ]] || complain "--quiet prints"
}

# The random input and the file made of it give the same bits, on any number of ranks.
ranks() {
    local shape=(--heads 4 --kv-heads 2 --head-dim 20 --value-dim 12 --batch 2 --seed 7 --keys clustered) n
    succeed make --random 1000 "${shape[@]}" --output qkv.safetensors
    succeed attend --input qkv.safetensors --output 1.safetensors --save out,y,lse
    succeed attend --random 1000 "${shape[@]}" --output random.safetensors --save out,y,lse
    cmp 1.safetensors random.safetensors || complain "random input and its file differ"
    for n in 1 2 3; do
        on_ranks $n attend --input qkv.safetensors --output np$n.safetensors --save out,y,lse --tile 64 || complain "np $n failed: $(cat stderr.txt)"
        cmp 1.safetensors np$n.safetensors || complain "np $n gives other bits"
    done
    on_ranks 2 make --random 1000 "${shape[@]}" --output qkv2.safetensors --quiet || complain "make on two ranks failed"
    cmp qkv.safetensors qkv2.safetensors || complain "make on two ranks gives other bits"
    ls | grep -F .tmp. && complain "temporary files are left"
}

dtypes() {
    local dtype
    for dtype in bf16 fp16; do
        succeed make --random 130 --dtype $dtype --head-dim 16 --output half.safetensors
        succeed attend --input half.safetensors --output out.safetensors
        expect "bytes of $dtype out" $(($(stat -c %s out.safetensors) / (4 * 130 * 16))) 2
        succeed attend --input half.safetensors --output out.safetensors --out-dtype fp32
        expect "bytes of fp32 out" $(($(stat -c %s out.safetensors) / (4 * 130 * 16))) 4
    done
}

reports() {
    local n=2 figure
    on_ranks $n attend --random 2000 --heads 2 --report report.json --trace trace.json --progress always || complain "run with reports failed: $(cat stderr.txt)"
    grep -q 'certificate' stdout.txt || complain "the summary has no certificate"
    expect "command" "$("$json" report.json command)" attend
    expect "world size" "$("$json" report.json world_size)" $n
    expect "ranks" "$("$json" report.json ranks)" $n
    expect "seqlen" "$("$json" report.json problem.seqlen)" 2000
    expect "option echo" "$("$json" report.json options.heads)" 2
    expect "default echo" "$("$json" report.json options.head-dim)" 64
    # 2 heads and 2 key-value heads, d = d_v = 64, 4 * 64 flops a pair, N (N + 1) / 2 pairs
    expect "flops" "$("$json" report.json figures.flops | cut -d. -f1)" $((4 * 4 * 64 * 2000 * 2001 / 2))
    for figure in residual out_error lse_error; do
        awk -v x="$("$json" report.json certificate.$figure)" 'BEGIN { exit !(x > 0 && x < 5e-5) }' ||
            complain "the certificate's $figure: $("$json" report.json certificate)"
    done
    "$json" trace.json traceEvents >/dev/null || complain "the trace is no JSON"
    [[ $("$json" trace.json traceEvents) -gt $n ]] || complain "the trace has no events"
    on_ranks $n attend --random 2000 --heads 2 --progress never || complain "--progress never failed"
    ! grep -q '%' stderr.txt || complain "--progress never shows progress"
    # What a killed process left that had this one's number, as in a container all have the same ones.
    bash -c 'touch kept.json.tmp.$$ && exec "$@"' - "$lucid" attend --random 200 --quiet --report kept.json || complain "a leftover is in the way"
    rm kept.json.tmp.* || complain "the leftover of another process is gone"
}

# A thread that has nothing to do meets no deadline while another one works.
patient() {
    succeed attend --random 16K --heads 1 --head-dim 128 --tile 16K --threads 2 --timeout 1 --quiet
}

plans() {
    on_ranks 2 attend --random 64K --plan --output never.safetensors || complain "--plan failed: $(cat stderr.txt)"
    grep -q '  memory' stdout.txt || complain "--plan shows no memory"
    [[ ! -e never.safetensors ]] || complain "--plan writes output"
}

# A usage error and a bad file on several ranks: one line of ours, the exit code through mpirun.
failures() {
    on_ranks 2 attend --random x
    expect "exit code of a usage error on two ranks" $? 2
    expect "lines of a usage error on two ranks" "$(grep -c '^lucid: ' stderr.txt)" 1
    on_ranks 3 attend --input absent.safetensors --output out3.safetensors
    expect "exit code of a missing file on three ranks" $? 1
    expect "lines of a missing file on three ranks" "$(grep -c '^lucid: ' stderr.txt)" 1
    on_ranks 2 attend --random 64 --comm self
    expect "exit code of --comm self on two ranks" $? 2
    [[ ! -e out3.safetensors ]] || complain "a failed run left output"
}

# Rank 0's command line is the one that counts, on the same build everywhere.
one_job() {
    local commit
    mpirun --oversubscribe -n 1 "$lucid" attend --random 300 --seed 5 --output one.safetensors : \
        -n 1 "$lucid" attend --random 7 --output other.safetensors >stdout.txt 2>stderr.txt
    expect "exit code of two command lines" $? 0
    succeed attend --random 300 --seed 5 --output alone.safetensors
    cmp one.safetensors alone.safetensors || complain "two command lines give other bits"
    [[ ! -e other.safetensors ]] || complain "the second command line counts"
    commit=$("$lucid" --version | sed 's/.*(\(.*\))/\1/')
    sed "s/($commit)/($(tr '[:alnum:]' '?' <<<"$commit"))/g" "$lucid" >another
    chmod +x another
    mpirun --oversubscribe -n 1 "$lucid" attend --random 300 : -n 1 ./another attend --random 300 >stdout.txt 2>stderr.txt
    expect "exit code of two builds" $? 1
    expect "lines about two builds" "$(grep '^lucid: .*: start the same program everywhere$' stderr.txt | grep -c '(???')" 1
}

# A NaN that only the last rank reads, since rank 0 owns the other tiles: rank 0 says what and where.
bad_value() {
    local header
    succeed make --random 100 --heads 1 --head-dim 8 --output nan.safetensors
    header=$(head -c 8 nan.safetensors | od -An -tu8 | tr -d ' ')
    put nan.safetensors $((8 + header + 4 * (70 * 8 + 3))) '\x00\x00\xc0\x7f' # k[0,0,70,3]: k comes first in the file
    on_ranks 2 attend --input nan.safetensors --output out4.safetensors --tile 64 --layout contiguous
    expect "exit code of a NaN on two ranks" $? 1
    expect "line about a NaN on two ranks" "$(grep '^lucid: ' stderr.txt)" \
        "lucid: nan.safetensors: rank 1: tensor 'k' is not finite at (batch 0, head 0, token 70, column 3)"
    ! ls out4.safetensors* 2>/dev/null || complain "a failed run left output"
}

# A job that is told to stop, half way through, leaves no partial output. Until then it tells how far it is.
interrupted() {
    local pid i
    "$lucid" attend --random 64K --heads 4 --threads 1 --progress always --output stopped.safetensors >stdout.txt 2>stderr.txt &
    pid=$!
    for ((i = 0; i < 200; i++)); do
        compgen -G 'stopped.safetensors.tmp.*' >/dev/null && break
        sleep 0.1
    done
    compgen -G 'stopped.safetensors.tmp.*' >/dev/null || complain "the output was never begun"
    for ((i = 0; i < 600; i++)); do
        grep -q '[0-9] *%' stderr.txt && break
        sleep 0.1
    done
    grep -q '[0-9] *%' stderr.txt || complain "--progress always shows none: $(cat stderr.txt)"
    kill -TERM $pid
    wait $pid
    expect "exit code of a stopped run" $? 143
    ! ls stopped.safetensors* 2>/dev/null || complain "a stopped run left a file"
}

plain
ranks
dtypes
reports
patient
plans
failures
one_job
bad_value
interrupted
finish
