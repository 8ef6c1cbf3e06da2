#!/usr/bin/env bash
# eval niah on a small model of bytes with random weights, which finds nothing: the same files for any ranks and groups,
# also when it was killed, in parts, or with samples of lm-evaluation-harness; and all that can be wrong.
source "$(dirname "$0")/lib.sh"
make_model=$3 harness=$4
niah=(eval niah --model m --template short --lengths 400,700 --needles 1,3 --count 6 --max-new 4)

setup() {
    "$make_model" m layers=1 || complain "no model"
    "$make_model" other layers=1 seed=2 inner=32 || complain "no model"
    seq 1 900 | awk '{ printf "This sentence has the number %d. ", ($1 * 7919) % 1013 }' >long.txt
}

# same A B: the folders hold the same answers and reports.
same() {
    local member
    expect "files of $2" "$(ls "$2")" "$(ls "$1")"
    cmp "$1/samples.jsonl" "$2/samples.jsonl" || complain "$2 has other answers than $1"
    cmp "$1/heatmap.svg" "$2/heatmap.svg" || complain "$2 has another heat map than $1"
    cmp "$1/run.json" "$2/run.json" || complain "$2 describes another run than $1"
    for member in results intervals n-samples configs; do
        expect "$member of $2" "$(sed -n "/^  \"$member\"/,/^  }/p" "$2/results.json")" \
            "$(sed -n "/^  \"$member\"/,/^  }/p" "$1/results.json")"
    done
}

ranks_and_groups() {
    local n
    succeed "${niah[@]}" --output whole
    expect "files" "$(ls whole | paste -sd' ')" "heatmap.svg results.json run.json samples.jsonl"
    expect "lines of the table" "$(grep -c '^niah_short_noise_k[13] *\(400\|700\) *6 *\(6\|18\) ' stdout.txt)" 4
    grep -q '^heat map: whole/heatmap.svg$' stdout.txt || complain "no heat map: $(cat stdout.txt)"
    expect "answers" "$(wc -l <whole/samples.jsonl)" 48
    expect "a score" "$("$json" whole/results.json results.niah_short_noise_k3.700,none)" 0.0
    expect "answers of a cell" "$("$json" whole/results.json intervals.niah_short_noise_k3.700.answers)" 18
    for n in 2 3; do
        on_ranks $n "${niah[@]}" --output ranks$n || complain "np $n: $(cat stderr.txt)"
        same whole ranks$n
    done
    on_ranks 4 "${niah[@]}" --output groups --group-size 2 || complain "groups: $(cat stderr.txt)"
    same whole groups
    # Two cells of one sample each: one for each group.
    on_ranks 2 "${niah[@]}" --output dealt --needles 1 --count 1 --group-size 1 --progress always || complain "dealt: $(cat stderr.txt)"
    grep -q '1/1 samples' stderr.txt || complain "one group has all the samples: $(cat stderr.txt)"
}

progress() {
    timeout -k 5 60 "$lucid" "${niah[@]}" --output shown --progress always >/dev/null 2>stderr.txt
    grep -Eq '^lucid: +[0-9.]+ %  [0-9]+/24 samples  0.0 % found  [0-9]+ s left$' stderr.txt || complain "progress: $(cat stderr.txt)"
    grep -q 'Gflop/s' stderr.txt && complain "a second progress line: $(cat stderr.txt)"
    same whole shown
}

lengths_fit() {
    succeed "${niah[@]}" --output text --haystack text --haystack-text long.txt --depths 0,50,100 --lengths 2K --needles 1
    expect "depths" "$(grep -o '"depth":[0-9.]*' text/samples.jsonl | sort | uniq -c | awk '{ printf "%s%s ", $1, $2 }')" \
        '2"depth":0.0 2"depth":100.0 2"depth":50.0 '
    expect "samples that do not fill 2048 tokens to a word" \
        "$(sed -E 's/.*"length":([0-9]+).*/\1/' text/samples.jsonl | awk '$1 > 2048 || $1 < 2036' | wc -l)" 0
}

# Ends in the middle of a sample; what was written then is gone on with, also by other groups of ranks.
killed() {
    local job=(eval niah --model m --template short --lengths 1000 --needles 2 --count 60 --max-new 30)
    succeed "${job[@]}" --output finished
    "$lucid" "${job[@]}" --output killed >/dev/null 2>&1 &
    local pid=$! tries
    for ((tries = 0; tries < 500; tries++)); do
        [[ $(cat killed/answers.*.jsonl 2>/dev/null | wc -l) -lt 6 ]] || break
        sleep 0.02
    done
    kill -9 "$pid"
    wait "$pid" 2>/dev/null
    [[ ! -e killed/samples.jsonl ]] || complain "the run ended before it was killed"
    [[ $(cat killed/answers.*.jsonl | wc -l) -ge 6 ]] || complain "no answers before the kill"
    refuse 2 "killed holds answers; go on with --resume" "${job[@]}" --output killed
    head -c 200 killed/answers.*.jsonl >cut
    cat cut >>"$(echo killed/answers.*.jsonl)" # half of a line
    on_ranks 2 "${job[@]}" --output killed --resume --group-size 1 || complain "resume: $(cat stderr.txt)"
    same finished killed
    succeed "${job[@]}" --output finished --resume
    same killed finished
}

# A sample of three questions that was cut off after the first, whose answer is another one than to the sample done anew,
# as another processor may give it.
cut_off() {
    succeed "${niah[@]}" --output torn
    sed -n '/"doc_id":3,.*"questions":3/{s/"resps":\[\["/&other/p;q}' torn/samples.jsonl >torn/answers.x.0.jsonl
    [[ -s torn/answers.x.0.jsonl ]] || complain "no answer was found: $(head -n 1 torn/samples.jsonl)"
    succeed "${niah[@]}" --output torn --resume
    same whole torn
}

# An evaluation by two groups of which the second's begins late, as it reads its text slowly: the first waits, for what
# it would write meanwhile is not of a run before.
late_group() {
    local job=(eval niah --model "$PWD/m" --template short --haystack text --haystack-text text.txt --lengths 700 --count 4
        --max-new 2 --quiet --group-size 1) a=$PWD/late pid
    cp long.txt text.txt
    succeed "${job[@]}" --output prompt
    mkdir slow
    mkfifo slow/text.txt
    (
        for ((i = 0; i < 30; i++)); do
            [[ $(cat "$a"/answers.*.jsonl 2>/dev/null | wc -l) == 0 ]] || break
            sleep 0.05
        done
        exec cat text.txt >slow/text.txt
    ) &
    pid=$!
    timeout -k 5 60 mpirun --oversubscribe -n 1 "$lucid" "${job[@]}" --output "$a" : -n 1 -wdir "$PWD/slow" "$lucid" "${job[@]}" --output "$a" \
        2>stderr.txt || complain "a late group: $(cat stderr.txt)"
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    same prompt late
}

# A group that sees another folder of that name, as on a host that shares none.
lost_answers() {
    local job=("${niah[@]}" --model "$PWD/m" --group-size 1 --output lost)
    mkdir -p apart/lost
    timeout -k 5 100 mpirun --oversubscribe -n 1 "$lucid" "${job[@]}" : -n 1 -wdir "$PWD/apart" "$lucid" "${job[@]}" >/dev/null 2>stderr.txt
    expect "exit code where answers are lost" $? 1
    grep -Eq '^lucid: .*lost: answers are missing, the first to task niah_short_noise_k1, length 400, sample 1: .*--resume' stderr.txt ||
        complain "lost answers: $(cat stderr.txt)"
    expect "files where answers are lost" "$(ls lost | sed 's/answers.*\.0\./answers.0./' | paste -sd' ')" "answers.0.jsonl run.json"
    succeed "${job[@]}" --output lost --resume
    cmp whole/samples.jsonl lost/samples.jsonl || complain "answers that were lost are others when they are given again"
}

# Groups of one rank each: threads are those of a rank of the whole job, and so is its share of memory.
whole_job() {
    local job=(eval niah --model m --template short --count 1 --max-new 1 --quiet) n left=()
    timeout -k 5 60 taskset -c 0 mpirun --oversubscribe -n 2 "$lucid" "${job[@]}" --output crowd --lengths 400 --group-size 1 2>stderr.txt ||
        complain "two groups on a core: $(cat stderr.txt)"
    grep -q '2 ranks of 1 thread share 1 core' stderr.txt || complain "no warning of two groups on a core: $(cat stderr.txt)"
    for n in 1 4; do
        on_ranks $n "${job[@]}" --output large --lengths 400 --max-context 1G --group-size 1 && complain "a context of 1G tokens fits"
        left+=("$(sed -En 's/.*a rank, and ([0-9]+)\.[0-9] MiB are left.*/\1/p' stderr.txt)")
    done
    [[ -n ${left[1]} && $((left[1] * 3)) -lt ${left[0]} ]] || complain "memory left to one rank and to each of four: ${left[*]} MiB"
    [[ ! -e large ]] || complain "a run that does not fit leaves $(ls large)"
}

grown() {
    succeed "${niah[@]}" --output grown --count 3 --needles 1 --lengths 700
    succeed "${niah[@]}" --output grown --resume
    same whole grown
    refuse 1 "grown/run.json is of another model" "${niah[@]}" --model other --output grown --resume
    refuse 1 "grown/run.json: task niah_short_noise_k1 is another one" "${niah[@]}" --seed 1 --output grown --resume
    cp -r m retrained
    put retrained/model.safetensors $(($(stat -c %s m/model.safetensors) - 4)) '\x00\x00\x80\x3e'
    mv m original
    mv retrained m
    refuse 1 "grown/run.json is of another model" "${niah[@]}" --output grown --resume
    mv m retrained
    mv original m
    sed -i 's/"fingerprint": "[^"]*"/"parameters": 123/' grown/run.json
    refuse 1 "grown/run.json is of an older version" "${niah[@]}" --output grown --resume
    echo '{"tasks": {}}' >grown/run.json
    refuse 1 "grown/run.json: says of no model" "${niah[@]}" --output grown --resume
}

parts() {
    local k n
    mkdir parts parts/none
    for k in 1 3; do
        for n in 400 700; do succeed "${niah[@]}" --output parts/$n-$k --lengths $n --needles $k --quiet; done
    done
    succeed eval merge --input parts --output merged
    cp stdout.txt table.txt
    same whole merged
    expect "lines of the merged table" "$(grep -c '^niah_short' table.txt)" 4
    succeed eval merge --input parts --output merged
    same whole merged
    mv parts/400-1/samples.jsonl parts/400-1/answers.x.0.jsonl
    refuse 1 "parts/400-1: not finished" eval merge --input parts --output again
    rm -r parts/400-1
    succeed "${niah[@]}" --output parts/other --model other --count 1 --quiet
    refuse 1 "parts/other/run.json is of another model" eval merge --input parts --output again
    refuse 1 "parts/none: no folder below it" eval merge --input parts/none --output again
    refuse 1 "absent: No such file" eval merge --input absent --output again
}

# The harness's samples: the answers are those of `batch` to the same prompts, and what the model says counts as found.
given() {
    local i
    sed -E 's/^.*"input": "([^"]*)".*"gen_prefix": "([^"]*)".*$/{"request_type": "generate_until", "arguments": ["\1 \2", {"until": [], "max_gen_toks": 9}]}/' \
        <(head -n 2 "$harness") >requests.jsonl
    succeed batch --model m --requests requests.jsonl --output answers.jsonl --quiet
    head -n 2 "$harness" >niah_single_1.jsonl
    succeed eval niah --model m --samples niah_single_1.jsonl --output given --max-new 9
    grep -Eq '^niah_single_1 +2000 +2 +2 +0.0 %' stdout.txt || complain "table: $(cat stdout.txt)"
    for i in 1 2; do
        sed -n ${i}p answers.jsonl >a.json
        sed -n ${i}p given/samples.jsonl >b.json
        expect "answer $i" "$("$json" b.json resps.0.0)" "$("$json" a.json resps.0)"
    done
    local said
    said=$("$json" b.json resps.0.0)
    sed -E "2s/\"outputs\": \[[^]]*\]/\"outputs\": [\"${said:2:4}\", \"nothing\"]/" niah_single_1.jsonl >found.jsonl
    succeed eval niah --model m --samples found.jsonl --output found --max-new 9
    expect "score of half of one of two" "$("$json" found/results.json results.found.2000,none)" 0.25
}

bad_input() {
    local bad=(eval niah --model m --output new)
    refuse 2 "unknown command 'eval other'" eval other
    refuse 2 "unknown command 'eval '" eval
    refuse 2 "eval niah needs --output DIR" eval niah --model m
    refuse 2 "eval niah needs --model DIR" eval niah --output new
    refuse 2 "eval merge needs --input DIR and --output DIR" eval merge --output new
    refuse 2 "--lengths: 'x' is not a whole number" "${bad[@]}" --lengths 4K,x
    refuse 2 "--lengths: a number is there twice" "${bad[@]}" --lengths 4K,4096
    refuse 2 "--needles: 65 is not between 1 and 64" "${bad[@]}" --needles 65
    refuse 2 "69 needles.* are more than 64" "${bad[@]}" --needles 64 --distractors 5 --lengths 64K
    refuse 2 "--depths: '101' is not a percentage" "${bad[@]}" --depths 0,101
    refuse 2 "a length of 300 tokens is too short" "${bad[@]}" --lengths 300
    refuse 2 "the wording 'short' asks for one value at a time" "${bad[@]}" --template short --values-a-key 2
    refuse 2 "--haystack text and --haystack-text FILE go together" "${bad[@]}" --haystack text
    refuse 2 "--group-size: 1 ranks are no groups of 2" "${bad[@]}" --group-size 2
    refuse 1 "absent.txt: No such file" "${bad[@]}" --haystack text --haystack-text absent.txt
    printf ' \n' >blank.txt
    refuse 1 "blank.txt: no words" "${bad[@]}" --haystack text --haystack-text blank.txt
    refuse 1 "none/deep: No such file" eval niah --model m --template short --lengths 400 --output none/deep
    cp -r m broken
    put broken/model.safetensors $(($(stat -c %s broken/model.safetensors) - 128)) '\xff\xff\xff\xff'
    refuse 1 "not finite" eval niah --model broken --template short --lengths 400 --output new
    echo '{"input": "x"}' >bad.jsonl
    refuse 1 "bad.jsonl, line 1: max_length must be" "${bad[@]}" --samples bad.jsonl
    head -n 1 "$harness" | tee -a twice.jsonl >>twice.jsonl
    cat twice.jsonl twice.jsonl >again.jsonl
    refuse 1 "again.jsonl: two samples of max_length 2000 have index 0" "${bad[@]}" --samples again.jsonl
}

setup
ranks_and_groups
progress
lengths_fit
killed
cut_off
lost_answers
late_group
whole_job
grown
parts
given
bad_input
finish
