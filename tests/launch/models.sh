#!/usr/bin/env bash
# generate, score and batch on a small model of bytes: alone and on several ranks, resumed, and all that can be wrong.
source "$(dirname "$0")/lib.sh"
make_model=$3 check_score=$4 golden=$5 fakes=$(dirname "$1")/fake_onednn

text() { # N BYTES of text that does not repeat soon
    seq 1 "$1" | awk '{ printf "%s ", ($1 * 7919) % 1013 }' | head -c "$2"
}

setup() {
    "$make_model" m || complain "no model"
    text 400 700 >long.txt
    seq 0 299 | awk '{ print ($1 * 7 + int($1 / 5)) % 32 }' >ids.txt
}

generation() {
    local n
    succeed generate --model m --prompt "The quick brown fox" --max-new 40 --quiet
    mv stdout.txt alone.txt
    expect "characters that are no UTF-8" "$(iconv -f UTF-8 -t UTF-8 alone.txt >/dev/null 2>&1; echo $?)" 0
    [[ -s alone.txt ]] || complain "nothing is generated"
    for n in 2 3; do
        on_ranks $n generate --model m --prompt "The quick brown fox" --max-new 40 --quiet || complain "np $n: $(cat stderr.txt)"
        cmp stdout.txt alone.txt || complain "np $n generates another text"
    done
    succeed generate --model m --prompt-file long.txt --max-new 5 --quiet --temperature 1 --seed 4 --cache-dtype bf16
    mv stdout.txt drawn.txt
    succeed generate --model m --prompt-file long.txt --max-new 5 --quiet --temperature 1 --seed 4 --cache-dtype bf16 --prefill-chunk 100
    cmp stdout.txt drawn.txt || complain "a seed draws two texts"
    timeout -k 5 60 "$lucid" generate --model m --prompt-file long.txt --max-new 3 --report g.json >stdout.txt 2>stderr.txt
    grep -Eq '^lucid: 700 prompt tokens read, first token after .* s' stderr.txt || complain "times: $(cat stderr.txt)"
    grep -Eq '^reading .* attention and solve kernels .*Gflop/s, .* products with weights' stderr.txt ||
        complain "no split of the time: $(cat stderr.txt)"
    expect "tokens of the report" "$("$json" g.json generate.tokens)" 3
    proposals
}

# What generation_config.json proposes holds unless options say otherwise; with one token to draw from, draws are greedy.
proposals() {
    local answer=(generate --model proposing --prompt "The quick brown fox" --max-new 40 --quiet)
    cp -r m proposing
    echo '{"do_sample": true, "temperature": 3.0, "top_k": 1}' >proposing/generation_config.json
    succeed "${answer[@]}"
    cmp stdout.txt alone.txt || complain "a proposed top_k of 1 draws another token than the likeliest"
    succeed "${answer[@]}" --top-k 0
    cmp -s stdout.txt alone.txt && complain "--top-k 0 does not undo the proposed top_k"
    succeed "${answer[@]}" --top-k 0 --temperature 0
    cmp stdout.txt alone.txt || complain "--temperature 0 does not undo the proposed temperature"
}

# No rank takes more memory than its share of the text by a fifth, nor is a share more than half of the whole. Instrumented
# programs take more.
memory() {
    local dtype
    ! grep -q __asan_init "$lucid" || return 0
    "$make_model" large layers=32 hidden=64 inner=64 heads=8 kv_heads=8 head_dim=64
    text 2000 1024 >1k.txt
    for dtype in fp32 bf16; do
        on_ranks 2 generate --model large --prompt-file 1k.txt --max-new 2 --cache-dtype $dtype --report $dtype.json ||
            complain "$(cat stderr.txt)"
        grep -Eq '^lucid: .* GB/s of weights and cache, .* % of the read bandwidth' stderr.txt || complain "no bandwidth: $(cat stderr.txt)"
        grep -q "^memory .* of its share of" stderr.txt || complain "no memory is printed: $(cat stderr.txt)"
        within "$dtype: memory over its share" "$("$json" $dtype.json measures.memory.peak)" "$("$json" $dtype.json measures.memory.planned)" 0.8 1.2
    done
    within "bf16: cache over that in fp32" "$("$json" bf16.json measures.memory.cache)" "$("$json" fp32.json measures.memory.cache)" 0.5 0.6
    succeed generate --model large --prompt-file 1k.txt --max-new 2 --quiet --report whole.json
    within "a rank's cache over the whole" "$("$json" fp32.json measures.memory.cache)" "$("$json" whole.json measures.memory.cache)" 0.45 0.6
}

# within WHAT A B LEAST MOST: A / B is between LEAST and MOST
within() {
    awk -v a="$2" -v b="$3" -v least="$4" -v most="$5" 'BEGIN { exit !(a >= least * b && a <= most * b) }' ||
        complain "$1: $2 of $3 is not between $4 and $5"
}

# An answer that stops is the beginning of the longer one.
stops() {
    local stop answer=(generate --model m --prompt "The quick brown fox" --max-new 60 --quiet --temperature 3 --seed 1)
    succeed "${answer[@]}"
    mv stdout.txt whole.txt
    stop=$(LC_ALL=C grep -aoE '[!-~]' whole.txt | sed -n 4p)
    [[ -n $stop ]] || complain "no printable character is drawn: $(od -c whole.txt | head -n 5)"
    succeed "${answer[@]}" --stop "never found" --stop "$stop"
    grep -aqF -- "$stop" stdout.txt && complain "the stop '$stop' is shown: $(cat stdout.txt)"
    [[ -s stdout.txt ]] || complain "nothing stands before the stop '$stop'"
    cmp -n "$(stat -c %s stdout.txt)" stdout.txt whole.txt || complain "a stop changes what stands before it"
}

# A text that is read once and asked twice, on other numbers of ranks than read it.
contexts() {
    local n
    on_ranks 3 generate --model m --prompt-file long.txt --max-new 0 --save-context kept --quiet || complain "no context: $(cat stderr.txt)"
    { cat long.txt; printf 'And now?'; } >whole.txt
    succeed generate --model m --prompt-file whole.txt --max-new 12 --quiet
    mv stdout.txt alone.txt
    for n in 1 2; do
        on_ranks $n generate --model m --context kept --prompt "And now?" --max-new 12 --quiet || complain "np $n: $(cat stderr.txt)"
        cmp stdout.txt alone.txt || complain "np $n: a saved context answers otherwise"
    done
    one_more
    refuse 1 "kept: the cache is of fp32, not bf16" generate --model m --context kept --prompt x --cache-dtype bf16
    "$make_model" other seed=2
    refuse 1 "kept: another model's cache" generate --model other --context kept --prompt x
    refuse 1 "absent/manifest: No such file or directory: no saved cache" generate --model m --context absent --prompt x
    put kept/shard-00001 5000 'damaged'
    refuse 1 "kept/shard-00001.*damaged" generate --model m --context kept --prompt x
    put kept/manifest 100 'damaged'
    refuse 1 "kept/manifest.*damaged" generate --model m --context kept --prompt x
    mkdir full && touch full/file
    refuse 1 "full: " generate --model m --prompt x --save-context full
}

# A saved text with one more token has the bits of the whole.
one_more() {
    local n
    { cat long.txt; printf '?'; } >longer.txt
    for n in 1 2; do
        on_ranks $n generate --model m --context kept --prompt "?" --max-new 0 --save-context more --quiet || complain "np $n: $(cat stderr.txt)"
        on_ranks $n generate --model m --prompt-file longer.txt --max-new 0 --save-context read --quiet || complain "np $n: $(cat stderr.txt)"
        diff -r more read >difference.txt || complain "np $n: one more token has other bits than the whole: $(cat difference.txt)"
        rm -r more read
    done
}

# Weights in another dtype: those of 16 bits are rounded once, and come back as they are.
conversions() {
    local dtype size
    for dtype in fp32 bf16 fp16; do
        succeed convert --model m --output as_$dtype --dtype $dtype --quiet
        grep -q '"torch_dtype"' as_$dtype/config.json || complain "no torch_dtype: $(cat as_$dtype/config.json)"
        expect "end of config.json" "$(tail -c 2 as_$dtype/config.json | tr '\n' .)" "}."
    done
    size=$(stat -c %s as_fp32/model.safetensors)
    [[ $(stat -c %s as_bf16/model.safetensors) -lt $((size * 6 / 10)) ]] || complain "bf16 takes $(ls -l as_bf16)"
    succeed generate --model as_fp32 --prompt "The quick brown fox" --max-new 40 --quiet
    cmp stdout.txt alone.txt || complain "a model copied in fp32 generates another text"
    succeed convert --model as_bf16 --output wide --dtype fp32 --quiet
    cmp -s wide/model.safetensors as_fp32/model.safetensors && complain "bf16 rounds nothing"
    sed -i '0,/{/s//{"dtype": "float32",/' wide/config.json
    on_ranks 2 convert --model wide --output again --quiet || complain "$(cat stderr.txt)"
    grep -q '"dtype"' again/config.json && complain "two names of a dtype: $(cat again/config.json)"
    cmp again/model.safetensors as_bf16/model.safetensors || complain "rounding twice gives other weights than once"
    refuse 2 "again: is there already" convert --model m --output again
    refuse 2 "convert needs --model DIR and --output DIR" convert --model m
    refuse 1 "absent.*config.json" convert --model absent --output none
    [[ -z $(compgen -G "none*") && -z $(compgen -G "*.tmp.*") ]] || complain "left behind: $(ls)"
}

scores() {
    local n
    succeed score --model "$golden/lucid_rope" --token-ids ids.txt --logits 1.safetensors --positions 10:250 --report 1.json
    "$check_score" "$golden/lucid_rope" ids.txt 1.safetensors 10:250 1.json || complain "score of lucid_rope"
    succeed score --model "$golden/softmax_norope" --token-ids ids.txt --logits s.safetensors --report s.json --prefill-chunk 70
    "$check_score" "$golden/softmax_norope" ids.txt s.safetensors 0 s.json || complain "score of softmax_norope"
    for n in 2 3 4; do
        on_ranks $n score --model "$golden/lucid_rope" --token-ids ids.txt --logits $n.safetensors --positions 10:250 --report $n.json || complain "np $n: $(cat stderr.txt)"
        cmp 1.safetensors $n.safetensors || complain "np $n gives other logits"
        expect "loss on $n ranks" "$("$json" $n.json score.loss)" "$("$json" 1.json score.loss)"
    done
    on_ranks 2 score --model "$golden/deltanet_conv" --token-ids ids.txt --logits d.safetensors --report d.json || complain "DeltaNet: $(cat stderr.txt)"
    "$check_score" "$golden/deltanet_conv" ids.txt d.safetensors 0 d.json || complain "score of deltanet_conv"
    succeed score --model m --text long.txt --report t.json
    expect "tokens of a text of bytes" "$("$json" t.json score.scored)" 699
    expect "bytes" "$("$json" t.json score.bytes)" 700
    awk -v loss="$("$json" t.json score.loss)" -v bits="$("$json" t.json score.bits_per_byte)" \
        'BEGIN { apart = bits * 700 * log(2) / loss - 1; exit !(apart < 1e-9 && apart > -1e-9) }' || complain "bits per byte: $("$json" t.json score.bits_per_byte)"
    grep -q '^bits/byte' stdout.txt || complain "no bits per byte: $(cat stdout.txt)"
    succeed score --model m --token-ids <(echo 7) --logits one.safetensors
}

# request TYPE ARGUMENTS: a line of the harness's form, with a key that is kept
request() {
    printf '{"request_type": "%s", "arguments": %s, "doc": {"id": "%s"}}\n' "$1" "$2" "$RANDOM"
}

requests() {
    request loglikelihood '["The capital of France is", " Paris"]'
    request loglikelihood '["The capital of France is", " Rome, \u00e9 "]'
    request loglikelihood '["The capital of France is ", "Rome"]'
    request generate_until '["The capital of France is", {"until": ["\n\n", "Q:"], "max_gen_toks": 9, "do_sample": false}]'
    request generate_until '["Another question", {"until": "x", "max_gen_toks": 70}]'
    request loglikelihood_rolling '["A text of its own"]'
}

resps() { # LINE PATH
    sed -n "${1}p" "$out" >line.json
    "$json" line.json "resps.$2"
}

batches() {
    local n out
    requests >requests.jsonl
    sed -i 's/"eos_token_id":\[0,3\]/"eos_token_id":[0,3],"bos_token_id":2/' m/config.json
    for n in 1 2 3; do
        on_ranks $n batch --model m --requests requests.jsonl --output $n.jsonl || complain "np $n: $(cat stderr.txt)"
        cmp 1.jsonl $n.jsonl || complain "np $n answers otherwise"
    done
    grep -Eq '^6 requests answered, 0 of them before; [0-9]+ tokens read, [1-9][0-9]+ shared' stdout.txt || complain "summary: $(cat stdout.txt)"
    out=1.jsonl
    expect "lines of answers" "$(wc -l <1.jsonl)" 6
    expect "members of a loglikelihood" "$(resps 1 0)" 2
    grep -qE '^-[0-9.]+$' <<<"$(resps 1 0.0)" || complain "a loglikelihood is $(resps 1 0.0)"
    expect "spaces at a context's end belong to the continuation" "$(resps 3 0.0)" "$(request loglikelihood '["The capital of France is", " Rome"]' >one.jsonl; "$lucid" batch --quiet --model m --requests one.jsonl --output one.out; out=one.out; resps 1 0.0)"
    grep -qE '^-[0-9.]+$' <<<"$(resps 6 0)" || complain "a rolling loglikelihood is $(resps 6 0)"
    rolling "$(resps 6 0)"
    as_the_harness
    printf 'The capital of' >beginning.txt
    succeed generate --model m --prompt-file beginning.txt --max-new 0 --save-context france --quiet
    succeed batch --model m --requests requests.jsonl --output france.jsonl --context france
    cmp 1.jsonl france.jsonl || complain "a saved context answers requests otherwise"
    independence
    greedy
    resume
}

# Spaces are Python's, which are more than ASCII's, and a stop without characters stops nothing.
as_the_harness() {
    local space
    for space in ' ' '\n ' '\u001c' '\u001f' '\u0085' '\u00a0' '\u1680' '\u2000' '\u200a' '\u2028' '\u202f' '\u205f\t' '\u3000 \u3000'; do
        request loglikelihood "[\"It ends$space\", \"so\"]" >&3
        request loglikelihood "[\"It ends\", \"${space}so\"]"
    done 3>spaces.jsonl >moved.jsonl
    request loglikelihood '["It ends\u200b", "so"]' >>spaces.jsonl
    request loglikelihood '["It ends\u200b", "so"]' >>moved.jsonl
    request loglikelihood '["It ends", "\u200bso"]' >none.jsonl
    request generate_until '["It ends", {"until": ["", "never found"], "max_gen_toks": 20}]' >>spaces.jsonl
    request generate_until '["It ends", {"until": ["never found"], "max_gen_toks": 20}]' >>moved.jsonl
    for space in spaces moved none; do succeed batch --model m --requests $space.jsonl --output $space.out --quiet; done
    sed -i 's/.*"resps"/"resps"/' spaces.out moved.out none.out
    cmp spaces.out moved.out || complain "spaces at a context's end: $(diff spaces.out moved.out)"
    grep -qxFf none.out spaces.out && complain "U+200B is no space to Python"
    spaced_words
}

# An answer of words that begin with a space goes on from the prompt; on its own, as a batch gives it, it begins without.
spaced_words() {
    "$make_model" words layers=1 vocab=8 || complain "no model"
    cat >words/tokenizer.json <<'JSON'
{"version": "1.0", "added_tokens": [],
 "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
 "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
 "model": {"type": "BPE", "vocab": {"▁": 0, "a": 1, "b": 2, "▁a": 3, "▁b": 4, "c": 5, "▁c": 6, "▁▁": 7},
  "merges": ["▁ a", "▁ b", "▁ c"]}}
JSON
    mv words/tokenizer.json kept.json && touch words/tokenizer.model
    refuse 1 "words: has tokenizer.model but no tokenizer.json" generate --model words --prompt "a b c"
    mv kept.json words/tokenizer.json
    request generate_until '["a b c", {"until": [], "max_gen_toks": 3}]' >words.jsonl
    "$lucid" generate --model words --prompt "a b c" --max-new 3 --temperature 0 >words.txt 2>/dev/null
    succeed batch --model words --requests words.jsonl --output words.out --quiet
    expect "an answer behind its prompt" "$(cat words.txt)" " c c c"
    expect "an answer on its own" "$(sed 's/.*"resps":\["\(.*\)"\].*/\1/' words.out)" "c c c"
}

# The generated answer in line N of asked.out, as JSON has it, if it is ASCII.
ascii_answer() {
    sed -n "$1p" asked.out | LC_ALL=C grep -oP '"resps":\["\K([ -!#-\[\]-~]|\\[^u]|\\u00[01].){4}(?="\])'
}

# An answer is its request's alone: not of what was read before it, nor of what a run that goes on does not read again.
# Contexts that differ in one token from what is there, and contexts that go on where an answer was decoded.
independence() {
    local context i answer
    context=$(printf 'Answer:%.0s' {1..20})
    for i in A B C; do request loglikelihood "[\"$context\", \"$i\"]"; done >near.jsonl
    succeed batch --model m --requests near.jsonl --output near.out
    grep -Eq ' [1-9][0-9]{2} shared' stdout.txt || complain "near requests share little: $(cat stdout.txt)"
    begun near near.out 1
    succeed batch --model m --requests near.jsonl --output again.jsonl --quiet
    cmp again.jsonl near.out || complain "near requests are answered otherwise by a batch that goes on"
    for i in {1..40}; do request generate_until "[\"$i. What\", {\"until\": [], \"max_gen_toks\": 4}]"; done >asked.jsonl
    succeed batch --model m --requests asked.jsonl --output asked.out --quiet
    for i in {1..40}; do
        answer=$(ascii_answer $i) || continue
        sed -n ${i}p asked.jsonl
        request loglikelihood "[\"$i. What$answer\", \" then\"]"
    done >asked_on.jsonl
    [[ $(wc -l <asked_on.jsonl) -ge 6 ]] || complain "too few answers are ASCII: $(cat asked.out)"
    grep likelihood asked_on.jsonl >on.jsonl
    succeed batch --model m --requests asked_on.jsonl --output asked_on.out --quiet
    succeed batch --model m --requests on.jsonl --output on.out --quiet
    grep likelihood asked_on.out | cmp - on.out || complain "what was decoded is taken for what was read"
}

# A continuation is greedy if it is what would be generated, each token of it.
greedy() {
    local i answer continuation out=greedy.out
    for i in {1..40}; do answer=$(ascii_answer $i) && break; done
    for continuation in "$answer" "${answer}Z" "Z$answer"; do
        request loglikelihood "[\"$i. What\", \"$continuation\"]"
    done >greedy.jsonl
    succeed batch --model m --requests greedy.jsonl --output greedy.out --quiet
    expect "what is greedy of '$answer', alone, with a Z behind, in front" "$(for i in 1 2 3; do resps $i 0.1; done | xargs)" "true false false"
}

# begun NAME ANSWERS N: again.jsonl.partial of a batch on NAME.jsonl that has N of its ANSWERS.
begun() {
    { printf '%s\n' "$(header $1.jsonl)"; head -n "$3" "$2"; } >again.jsonl.partial
}

# The same number by another command: BOS, then the text.
rolling() {
    printf 'A text of its own' >own.txt
    succeed score --model m --text own.txt --bos yes --report own.json
    awk -v a="$1" -v b="$("$json" own.json score.loss)" 'BEGIN { exit !(a + b < 1e-4 && a + b > -1e-4) }' ||
        complain "rolling $1, score $("$json" own.json score.loss)"
}

# A run that was cut off in the middle of a line.
resume() {
    { printf '%s\n' "$(header)"; head -n 3 1.jsonl; sed -n 4p 1.jsonl | head -c 30; } >again.jsonl.partial
    succeed batch --model m --requests requests.jsonl --output again.jsonl
    cmp again.jsonl 1.jsonl || complain "a batch that goes on answers otherwise"
    grep -q '^6 requests answered, 3 of them before' stdout.txt || complain "summary: $(cat stdout.txt)"
    [[ ! -e again.jsonl.partial ]] || complain "the partial file is left"
    { printf '%s\n' "$(header)"; sed -n 2p 1.jsonl; } >again.jsonl.partial
    refuse 1 "again.jsonl.partial: line 2 is of another batch" batch --model m --requests requests.jsonl --output again.jsonl
    { header | sed 's/"m"/"n"/'; echo; } >again.jsonl.partial
    refuse 1 "again.jsonl.partial: line 1 is of another batch" batch --model m --requests requests.jsonl --output again.jsonl
    header >again.jsonl.partial
    refuse 1 "again.jsonl.partial: line 1 is of another batch" batch --model m --requests requests.jsonl --output again.jsonl --cache-dtype bf16
    other_machine
    cp -r m trained
    put m/model.safetensors $(($(stat -c %s m/model.safetensors) - 4)) '\x00\x00\x80\x3e'
    refuse 1 "again.jsonl.partial: line 1 is of another batch" batch --model m --requests requests.jsonl --output again.jsonl
    rm -r m
    mv trained m
    header | sed 's/"fingerprint":"[^"]*"/"parameters":1/' >again.jsonl.partial
    refuse 1 "again.jsonl.partial: line 1 is of another batch" batch --model m --requests requests.jsonl --output again.jsonl
    rm again.jsonl.partial
    answered
    drawn
    two_jobs
}

# Only one job at a time writes an output; what another program does to its partial file is found at the end.
two_jobs() {
    local pid
    rm -f again.jsonl
    begun requests 1.jsonl 2
    (
        flock -n 9 || complain "no lock"
        refuse 2 "again.jsonl.partial: another job writes it" batch --model m --requests requests.jsonl --output again.jsonl 9>&-
        finish
    ) 9<again.jsonl.partial || complain "two jobs on one output"
    rm again.jsonl.partial
    for pid in {1..40}; do request generate_until '["Another question", {"until": [], "max_gen_toks": 90}]'; done >slow.jsonl
    "$lucid" batch --quiet --model m --requests slow.jsonl --output again.jsonl 2>stderr.txt &
    pid=$!
    for _ in {1..1000}; do
        [[ $(cat again.jsonl.partial 2>/dev/null | wc -l) -gt 1 ]] && break
        sleep 0.01
    done
    kill -STOP $pid
    refuse 2 "again.jsonl.partial: another job writes it" batch --model m --requests slow.jsonl --output again.jsonl
    : >again.jsonl.partial
    kill -CONT $pid
    wait $pid
    expect "exit code of a batch whose partial file was emptied" $? 1
    grep -q "again.jsonl.partial: [0-9]* lines, not 41" stderr.txt || complain "an emptied partial file: $(cat stderr.txt)"
    [[ ! -e again.jsonl ]] || complain "answers are missing: $(wc -l again.jsonl)"
    rm again.jsonl.partial
}

# A batch that goes on where other kernels or libraries would do its work, or with another tile, is refused; one that
# names what ran is not.
other_machine() {
    local job=(batch --model m --requests requests.jsonl --output again.jsonl) isa
    mkdir lacks
    echo "no library" | tee lacks/libdnnl.so.2 >lacks/libdnnl.so.3
    LD_LIBRARY_PATH=lacks header >again.jsonl.partial
    LD_LIBRARY_PATH=$fakes/openmp refuse 1 "again.jsonl.partial: line 1 is of another batch" "${job[@]}"
    OPENBLAS_CORETYPE=Haswell LD_LIBRARY_PATH=lacks header | sed 's/"Haswell"/"Other"/' >again.jsonl.partial
    OPENBLAS_CORETYPE=Haswell LD_LIBRARY_PATH=lacks refuse 1 "again.jsonl.partial: line 1 is of another batch" "${job[@]}"
    header >again.jsonl.partial
    refuse 1 "again.jsonl.partial: line 1 is of another batch" "${job[@]}" --max-context 100000
    refuse 1 "again.jsonl.partial: line 1 is of another batch" "${job[@]}" --isa scalar
    isa=$("$json" again.jsonl.partial lucid_batch.isa)
    header >again.jsonl.partial
    succeed "${job[@]}" --isa "$isa" --quiet
    cmp again.jsonl 1.jsonl || complain "--isa $isa gives other answers than auto"
    header >again.jsonl.partial
}

# Requests that have answers already, as a batch's output has them.
answered() {
    { printf '%s\n' "$(header)"; head -n 3 1.jsonl; } >again.jsonl.partial
    sed 's/"resps":\[/"resps":["other",/' 1.jsonl >answered.jsonl
    succeed batch --model m --requests answered.jsonl --output again.jsonl
    cmp again.jsonl 1.jsonl || complain "answers to requests that had some are others"
    grep -q '^6 requests answered, 3 of them before' stdout.txt || complain "requests with answers are not gone on with: $(cat stdout.txt)"
}

# The same request again and again gets an answer of its own each time, and the same ones in a run that goes on.
drawn() {
    local i
    for i in 1 2 3; do
        echo '{"request_type": "generate_until", "arguments": ["A", {"until": [], "max_gen_toks": 9, "do_sample": true, "temperature": 3}]}'
    done >thrice.jsonl
    succeed batch --model m --requests thrice.jsonl --output drawn.jsonl --quiet
    expect "answers to the same request three times" "$(sort -u drawn.jsonl | wc -l)" 3
    mkdir taken
    "$lucid" batch --quiet --model m --requests thrice.jsonl --output taken 2>/dev/null
    head -n 2 taken.partial >again.jsonl.partial
    rm -r taken taken.partial
    succeed batch --model m --requests thrice.jsonl --output again.jsonl --quiet
    cmp again.jsonl drawn.jsonl || complain "draws of a run that goes on are others"
}

# The first line of a partial file, from a batch that fails at its end, for want of a place for its output.
header() {
    mkdir -p taken
    "$lucid" batch --quiet --model m --requests "${1:-requests.jsonl}" --output taken 2>/dev/null
    head -n 1 taken.partial
    rm -rf taken taken.partial
}

# What rank 0 takes its time to read is waited for, longer than for a message.
slow_input() {
    mkfifo slow.txt
    { sleep 6; cat long.txt; } >slow.txt &
    on_ranks 2 score --model m --text slow.txt --timeout 3 --report slow.json || complain "a text that comes late: $(cat stderr.txt)"
    expect "tokens of a text that comes late" "$("$json" slow.json score.scored)" 699
}

# A score that is killed leaves no file.
killed() {
    text 40000 60000 >longer.txt
    "$lucid" score --model m --text longer.txt --logits killed.safetensors --progress always >/dev/null 2>progress.txt &
    local pid=$!
    for _ in {1..200}; do
        compgen -G "killed.safetensors.tmp.*" >/dev/null && grep -q '%' progress.txt && break
        sleep 0.05
    done
    grep -q '%' progress.txt || complain "no progress is shown: $(cat progress.txt)"
    kill -TERM $pid
    wait $pid
    compgen -G "killed.safetensors*" >/dev/null && complain "a killed score leaves $(ls -d killed.safetensors*)"
}

bad_command_lines() {
    refuse 2 "generate needs --model DIR" generate --prompt x
    refuse 2 "generate needs either --prompt TEXT or --prompt-file FILE" generate --model m
    refuse 2 "generate needs either" generate --model m --prompt x --prompt-file long.txt
    refuse 2 "score needs either --text FILE or --token-ids FILE" score --model m
    refuse 2 "--positions goes with --logits FILE" score --model m --text long.txt --positions 1:2
    refuse 2 "batch needs --requests FILE and --output FILE" batch --model m --requests x
    refuse 2 "--temperature: -2 is not between" generate --model m --prompt x --temperature -2
    refuse 2 "--top-p: 1.5 is not between" generate --model m --prompt x --top-p 1.5
    refuse 2 "--top-k: -2 is not between" generate --model m --prompt x --top-k -2
    refuse 2 "--stop: empty value" generate --model m --prompt x --stop ""
    refuse 2 "--positions: '5' is not of the form A:B" score --model m --text long.txt --logits x --positions 5
    refuse 2 "--positions: 701 is not between 1 and 700" score --model m --text long.txt --logits x --positions :701
    refuse 2 "--cache-dtype: 'fp16' is none of" generate --model m --prompt x --cache-dtype fp16
}

bad_texts() {
    : >empty.txt
    refuse 1 "empty.txt: empty" generate --model m --prompt-file empty.txt
    refuse 1 "--prompt: empty" generate --model m --prompt ""
    refuse 1 "/dev/zero: not a file" generate --model m --prompt-file /dev/zero
    refuse 1 "--max-context: 100 tokens are fewer than the 956" generate --model m --prompt-file long.txt --max-context 100
    refuse 1 "a cache of 1073741824 tokens takes .* MiB a rank, and .* are left" generate --model m --prompt x --max-context 1G
    refuse 1 "fd/[0-9]+: longer than 1073741824 bytes" generate --model m --prompt-file <(yes)
    refuse 1 "absent.txt: No such file" score --model m --text absent.txt
    refuse 1 "\\.: not a file|\\.: Is a directory" score --model m --text .
    echo "1 2 x" >bad.txt
    refuse 1 "bad.txt: 'x' \\(number 2\\) is no token's id" score --model m --token-ids bad.txt
    echo "1 -2" >bad.txt
    refuse 1 "bad.txt: '-2" score --model m --token-ids bad.txt
    echo "1 99999999999999999999" >bad.txt
    refuse 1 "bad.txt: '9999" score --model m --token-ids bad.txt
    echo "1 256" >bad.txt
    refuse 1 "bad.txt: token 1 has id 256, and m has 256 tokens" score --model m --token-ids bad.txt
    echo " " >bad.txt
    refuse 1 "bad.txt: no ids" score --model m --token-ids bad.txt
    refuse 1 "a single token has nothing before it" score --model m --token-ids <(echo 7)
    refuse 1 "no tokenizer.json, and 32 tokens are too few for bytes" generate --model "$golden/lucid_rope" --prompt x
}

# A file of that name that is no library stands before the real one. Without oneDNN OpenBLAS does its work.
bad_library() {
    local words=(generate --model m --prompt x --max-new 4 --quiet)
    mkdir lacking bad
    echo "no library" | tee lacking/libdnnl.so.2 >lacking/libdnnl.so.3
    LD_LIBRARY_PATH=lacking refuse 1 "oneDNN cannot be loaded: install libdnnl .*leave out --blas onednn" generate --model m --prompt x --blas onednn
    LD_LIBRARY_PATH=lacking "$lucid" "${words[@]}" >without
    "$lucid" "${words[@]}" --blas openblas >with
    cmp without with || complain "--blas auto is not OpenBLAS where there is no oneDNN"
    mpirun --oversubscribe -n 1 "$lucid" "${words[@]}" : -n 1 env LD_LIBRARY_PATH=lacking "$lucid" "${words[@]}" >without 2>stderr.txt ||
        complain "a rank without oneDNN: $(cat stderr.txt)"
    cmp without with || complain "a rank without oneDNN changes the text"
    mpirun --oversubscribe -n 1 "$lucid" "${words[@]}" --blas onednn : \
        -n 1 env LD_LIBRARY_PATH=lacking "$lucid" "${words[@]}" --blas onednn >without 2>stderr.txt
    expect "exit code where a rank lacks oneDNN" $? 1
    grep -q "^lucid: rank 1.*oneDNN cannot be loaded" stderr.txt || complain "where a rank lacks oneDNN: $(cat stderr.txt)"
    LD_LIBRARY_PATH=$fakes/tbb refuse 1 "install libdnnl \\(built for OpenMP\\)" generate --model m --prompt x --blas onednn
    LD_LIBRARY_PATH=$fakes/tbb "$lucid" "${words[@]}" >without
    cmp without with || complain "--blas auto takes a oneDNN that is built for TBB"
    LD_LIBRARY_PATH=$fakes/openmp "$lucid" "${words[@]}" >without
    cmp -s without with && complain "the fake oneDNN was not taken, so this shows nothing"
    mpirun --oversubscribe -n 1 "$lucid" "${words[@]}" --blas openblas : \
        -n 1 env LD_LIBRARY_PATH="$fakes/openmp" "$lucid" "${words[@]}" --blas openblas >without 2>stderr.txt
    cmp without with || complain "--blas openblas takes oneDNN: $(cat stderr.txt)"
    mpirun --oversubscribe -n 1 env LD_LIBRARY_PATH="$fakes/openmp" "$lucid" "${words[@]}" : \
        -n 1 env LD_LIBRARY_PATH=lacking "$lucid" "${words[@]}" >without 2>stderr.txt
    cmp without with || complain "a rank uses a oneDNN that another lacks: $(cat stderr.txt)"
    echo "no library" >bad/libopenblas.so.0
    LD_LIBRARY_PATH=bad refuse 1 "OpenBLAS cannot be loaded \\(bad/libopenblas.so.0: .*\\): install libopenblas0" generate --model m --prompt x
}

bad_models() {
    refuse 1 "absent/config.json" generate --model absent --prompt x
    cp -r m broken
    head -c 5000 m/model.safetensors >broken/model.safetensors
    refuse 1 "broken/model.safetensors" generate --model broken --prompt x
    cp m/model.safetensors broken
    sed 's/"use_rope"/"use_magic"/' m/config.json >broken/config.json
    refuse 1 "broken/config.json: use_magic" generate --model broken --prompt x
    sed 's/"num_hidden_layers":2/"num_hidden_layers":3/' m/config.json >broken/config.json
    refuse 1 "model.layers.2" generate --model broken --prompt x
    sed 's/"num_hidden_layers":2/"num_hidden_layers":1/' m/config.json >broken/config.json
    refuse 1 "model.layers.1" generate --model broken --prompt x
    succeed generate --model broken --prompt x --max-new 1 --quiet --allow-unused 'model.layers.1.*'
    sed 's/"intermediate_size":48/"intermediate_size":49/' m/config.json >broken/config.json
    refuse 1 "gate_proj" generate --model broken --prompt x
    cp m/config.json broken
    put broken/model.safetensors $(($(stat -c %s broken/model.safetensors) - 128)) '\xff\xff\xff\xff'
    refuse 1 "not finite" generate --model broken --prompt x
    not_finite
}

# Of the final norm a single gain is no number.
not_finite() {
    local n
    requests >finite.jsonl
    refuse 1 "the model's logits at token 0 are not finite" score --model broken --text long.txt
    refuse 1 "the model's logits at token 0 are not finite" score --model broken --token-ids <(echo 7) --logits out
    for n in 1 2; do
        on_ranks $n batch --model broken --requests finite.jsonl --output finite.out
        expect "exit code of a batch on $n ranks without finite logits" $? 1
        expect "lines on stderr of a batch on $n ranks without finite logits" "$(grep -c '^lucid: .*the model.s logits at token [0-9]* are not finite' stderr.txt)" 1
        [[ ! -e finite.out ]] || complain "a batch without finite logits has answers: $(cat finite.out)"
        rm -f finite.out.partial
    done
}

bad_requests() {
    local line
    while IFS='|' read -r pattern line; do
        { requests; echo "$line"; } >bad.jsonl
        refuse 1 "bad.jsonl, line 7: .*$pattern" batch --model m --requests bad.jsonl --output out.jsonl
    done <<'LINES'
invalid token|{"request_type": loglikelihood}
not an object|[1]
no request_type|{"arguments": ["a", "b"]}
arguments must be an array|{"request_type": "loglikelihood"}
request_type 'other' is none of|{"request_type": "other", "arguments": []}
arguments must be .context, continuation|{"request_type": "loglikelihood", "arguments": ["a"]}
the continuation has no tokens|{"request_type": "loglikelihood", "arguments": ["a", ""]}
has no option 'num_beams'|{"request_type": "generate_until", "arguments": ["a", {"num_beams": 4}]}
top_k is out of range|{"request_type": "generate_until", "arguments": ["a", {"top_k": 1.5}]}
max_gen_toks must be|{"request_type": "generate_until", "arguments": ["a", {"max_gen_toks": 0}]}
max_gen_toks must be|{"request_type": "generate_until", "arguments": ["a", {"max_gen_toks": 9223372036854775807}]}
until must hold texts|{"request_type": "generate_until", "arguments": ["a", {"until": [7]}]}
temperature is out of range|{"request_type": "generate_until", "arguments": ["a", {"temperature": -1}]}
LINES
    : >bad.jsonl
    refuse 1 "bad.jsonl: empty" batch --model m --requests bad.jsonl --output out.jsonl
}

setup
generation
conversions
memory
stops
contexts
scores
slow_input
killed
batches
bad_command_lines
bad_texts
bad_library
bad_models
bad_requests
finish
