# lucid train: the same bits on any grid of ranks and after any interruption, folders that other commands take, refusals.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mkdir tiny
cat >tiny/config.json <<'JSON'
{"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "vocab_size": 256, "num_hidden_layers": 2,
 "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "attention_type": "lucid", "rope_theta": 1000,
 "tie_word_embeddings": true, "max_position_embeddings": 512}
JSON
echo '{"eos_token_id": 0}' >tiny/generation_config.json
echo '{"eos_token": "?"}' >tiny/tokenizer_config.json
for i in $(seq 200); do printf 'Line %d of a text that says little more than its number, %d.\n' "$i" $((i * i)); done >text.txt
recipe=(train --model tiny --text text.txt --length 200 --sequences 5 --steps 6 --warmup 2 --save-every 3 --log-every 3)

# weights FOLDER: the last checkpoint's weights and moments, as one checksum
weights() { cat "$1/step-000000006/model.safetensors" "$1/step-000000006/moments.safetensors" | cksum; }

succeed "${recipe[@]}" --output one --threads 1 --log one.jsonl --validate 3
want=$(weights one)
expect "lines of the log" "$(wc -l <one.jsonl)" 4
grep -q '^validation: loss' stdout.txt || complain "no validation is printed: $(cat stdout.txt)"
sed -n 1p one.jsonl >first.json
expect "a log line is JSON, of the first checkpoint" "$("$json" first.json step)" 3

awk -v r="$("$json" first.json rate)" 'BEGIN { exit !(r > 0 && r <= 1e-3) }' || complain "rate $("$json" first.json rate)"

# Learning: the loss falls.
first=$(sed -n 1p one.jsonl | sed 's/.*"loss": \([0-9.]*\).*/\1/') last=$(sed -n 3p one.jsonl | sed 's/.*"loss": \([0-9.]*\).*/\1/')
awk -v a="$first" -v b="$last" 'BEGIN { exit !(b < a) }' || complain "the loss went from $first to $last"

# Every grid, and more threads than rows: the same bits.
on_grid() { # NAME RANKS GROUPS OPTIONS...
    on_ranks "$2" "${recipe[@]}" --data-parallel "$3" --output "$1" --quiet "${@:4}" ||
        complain "$2 ranks in $3 groups: $(cat stderr.txt)"
    expect "weights of $2 ranks in $3 groups" "$(weights "$1")" "$want"
}
if command -v mpirun >/dev/null; then
    on_grid two 2 1 --threads 1
    on_grid twice 2 2 --threads 2 --micro-batch 3
    on_grid three 3 1 --threads 1 --micro-batch 2
    on_grid four 4 2 --threads 1
    # What three ranks left at step 3, any number goes on with.
    for ranks in 1 2 3 4; do
        mkdir "resumed$ranks"
        cp -r three/step-000000003 "resumed$ranks"
        on_ranks "$ranks" "${recipe[@]}" --output "resumed$ranks" --resume --quiet --threads 1 || complain "$(cat stderr.txt)"
        expect "weights of a run resumed by $ranks" "$(weights "resumed$ranks")" "$want"
    done
fi

# A checkpoint is a model, with all that its folder says of its use.
for name in config generation_config tokenizer_config; do cmp {tiny,one/step-000000006}/$name.json || complain "no $name"; done
succeed generate --model one/step-000000006 --prompt "Line " --max-new 3 --temperature 0 --quiet
head -c 1000 text.txt >short.txt
succeed score --model one/step-000000006 --text short.txt

# Tasks without a text; another recipe begins with a checkpoint's weights.
sed 's/256/700/' tiny/config.json >config && mkdir facts && mv config facts/config.json
succeed train --model facts --task overwrite --steps 2 --sequences 3 --validate 2 --validate-facts 128 --threads 1
grep -q 'validation, 128 facts' stdout.txt || complain "128 facts are not measured: $(cat stdout.txt)"
succeed train --model tiny --task niah --text text.txt --length 256 --steps 2 --sequences 4 --from one/step-000000006 --threads 1

# A bare layer whose keys' norm has a gain, which is learned and kept.
mkdir bare
cat >bare/config.json <<'JSON'
{"model_type": "llama", "attention_type": "lucid", "hidden_size": 16, "intermediate_size": 16, "vocab_size": 10,
 "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16, "use_rope": false,
 "tie_word_embeddings": false}
JSON
bare=(train --model bare --bare --task two-phase --sequences 6 --steps 4 --rate 1e-2 --warmup 0 --save-every 4 --log-every 1 --quiet)
losses() { sed 's/.*"loss": \([^,]*\),.*/\1/' "$1"; }
succeed "${bare[@]}" --threads 1 --output plain --log plain.jsonl
succeed "${bare[@]}" --threads 1 --output gained --key-gain --log gained.jsonl
grep -aq key_gain plain/step-000000004/model.safetensors && complain "a gain without --key-gain"
grep -aq '"model.layers.0.self_attn.key_gain.weight":{"dtype":"F32","shape":\[16\]' gained/step-000000004/model.safetensors ||
    complain "no gain: $(head -c 900 gained/step-000000004/model.safetensors | tr -cd ' -~')"
expect "the first loss, with a gain of 1" "$(losses gained.jsonl | head -n 1)" "$(losses plain.jsonl | head -n 1)"
[[ $(losses gained.jsonl | tail -n 1) != $(losses plain.jsonl | tail -n 1) ]] || complain "the gain changes nothing"
if command -v mpirun >/dev/null; then
    on_ranks 2 "${bare[@]}" --threads 1 --output gained2 --key-gain --data-parallel 2 || complain "$(cat stderr.txt)"
    cmp {gained,gained2}/step-000000004/moments.safetensors || complain "two ranks learn another gain"
fi

# Groups of ranks take the same library for products: one that only the first has is left alone.
if command -v mpirun >/dev/null; then
    mkdir lacking
    echo "no library" | tee lacking/libdnnl.so.2 >lacking/libdnnl.so.3
    fake=$(dirname "$lucid")/fake_onednn/openmp
    groups=("${recipe[@]}" --data-parallel 2 --threads 1 --quiet --steps 1)
    succeed "${recipe[@]}" --threads 1 --steps 1 --blas openblas --output same
    LD_LIBRARY_PATH=$fake succeed "${recipe[@]}" --threads 1 --steps 1 --output zeros
    cmp -s {same,zeros}/step-000000001/moments.safetensors && complain "the fake oneDNN was not taken, so this shows nothing"
    mpirun --oversubscribe -n 1 env LD_LIBRARY_PATH="$fake" "$lucid" "${groups[@]}" --output mixed : \
        -n 1 env LD_LIBRARY_PATH=lacking "$lucid" "${groups[@]}" --output mixed 2>stderr.txt || complain "$(cat stderr.txt)"
    cmp {same,mixed}/step-000000001/moments.safetensors || complain "data-parallel groups take different libraries"
fi

# Weights that begin by matching are others.
succeed "${recipe[@]}" --output drawn --threads 1 --steps 1
succeed "${recipe[@]}" --output matching --threads 1 --steps 1 --matching
cmp -s {drawn,matching}/step-000000001/model.safetensors && complain "--matching changes nothing"

# The parts of a mixture are measured apart.
succeed train --model tiny --task niah --text text.txt --length 256 --steps 1 --sequences 2 --validate 2 --threads 1
for part in facts needles text; do
    grep -q "^validation, $part: loss" stdout.txt || complain "no validation of $part: $(cat stdout.txt)"
done

# A checkpoint holds what has been measured: where one cannot be written, the log has its validation already.
measured=(train --model tiny --text text.txt --length 200 --steps 2 --sequences 2 --validate 1 --threads 1 --quiet)
(trap '' XFSZ && ulimit -f 16 && timeout -k 5 60 "$lucid" "${measured[@]}" --output full --log full.jsonl) 2>stderr.txt
grep -q '^lucid: full/.*File too large' stderr.txt || complain "a checkpoint of more than 16 KB: $(cat stderr.txt)"
expect "validations before a checkpoint that cannot be written" "$(grep -c validation_loss full.jsonl)" 1

# What a killed job has not finished is removed by the next, and a job that lives keeps others out.
mkdir -p claimed/.step.tmp.dead
touch claimed/.step.tmp.dead/{config.json,model.safetensors.tmp.dead}
succeed "${measured[@]}" --output claimed --resume
expect "what is in a claimed folder" "$(ls -A claimed | xargs)" "lucid-lock step-000000002"
(exec 9>claimed/lucid-lock && flock 9 && exec sleep 60) &
holder=$!
while flock -n claimed/lucid-lock true; do sleep 0.05; done
refuse 2 'claimed: another job' "${measured[@]}" --output claimed --resume
kill $holder
wait $holder 2>/dev/null

# Ranks agree on a log that cannot be written.
if command -v mpirun >/dev/null; then
    on_ranks 2 "${measured[@]}" --output unlogged --save-every 1 --log /dev/full && complain "a full log is no failure"
    expect "lines about a full log" "$(grep '^lucid' stderr.txt)" "lucid: /dev/full: cannot write: No space left on device"
fi

# What a training goes on with is all that decides its bits: two texts' order, small numbers of the configuration, the
# instructions; and an older state, which does not say all of that, is refused.
split -n l/2 text.txt half.
halves=(--text half.aa --text half.ab) recorded=(--length 200 --steps 1 --sequences 2 --threads 1 --quiet --output recorded)
mkdir scaled precise
sed 's/"rope_theta"/"rope_scaling": {"rope_type": "linear", "factor": 2}, &/' tiny/config.json >scaled/config.json
sed 's/"rope_theta"/"rms_norm_eps": 2e-6, &/' tiny/config.json >precise/config.json
succeed train --model tiny "${halves[@]}" "${recorded[@]}" --isa scalar
refuse 1 'recorded/.*another recipe: its "text of .*checksum' train --model tiny --text half.ab --text half.aa "${recorded[@]}" --isa scalar --resume
refuse 1 'another recipe: its "rms_norm_eps 9.99.*" is "rms_norm_eps 1.99' train --model precise "${halves[@]}" "${recorded[@]}" --isa scalar --resume
refuse 1 'another recipe: its "its scaling .*" is "its scaling 1 by 2 ' train --model scaled "${halves[@]}" "${recorded[@]}" --isa scalar --resume
if grep -q avx2 /proc/cpuinfo; then
    refuse 1 'another recipe: its "kernels scalar" is "kernels avx2" here' train --model tiny "${halves[@]}" "${recorded[@]}" --isa avx2 --resume
fi
sed -i 's/"format": 2/"format": 1/' recorded/*/state.json
refuse 1 'state.json: is of format 1, .*--from' train --model tiny "${halves[@]}" "${recorded[@]}" --isa scalar --resume

# Ranks wait for the first one's files as long as it takes.
if command -v mpirun >/dev/null; then
    mkfifo slow.txt
    (sleep 3 && cat text.txt >slow.txt) &
    on_ranks 2 train --model tiny --text slow.txt --length 200 --steps 1 --threads 1 --quiet --timeout 1 || complain "$(cat stderr.txt)"
    wait $!
fi

# Refusals leave nothing behind.
refuse 2 'needs --model' train --text text.txt
refuse 2 'text FILE goes with' train --model tiny --task text
refuse 2 'text FILE goes with' train --model facts --task recall --text text.txt
refuse 2 'resume goes with --output' train --model tiny --text text.txt --resume
refuse 1 'no/config.json' train --model no --text text.txt
refuse 1 'not enough for sequences' train --model tiny --text tiny/config.json --length 4K
refuse 2 '6 and 5 of ten sequences' train --model tiny --task niah --text text.txt --length 256 --facts-in-ten 6 --needles-in-ten 5
refuse 2 '593|577 token ids' train --model tiny --task recall
refuse 2 'a gain in the keys. norm is for a bare layer' train --model tiny --text text.txt --length 200 --key-gain
refuse 2 'a bare layer cannot begin by matching' "${bare[@]}" --matching
refuse 2 'holds checkpoints already' "${recipe[@]}" --output one
refuse 1 'another recipe: its "rate 0.001 to 0.1[0-9]*" is "rate 0.01 to 0.1[0-9]*" here$' "${recipe[@]}" --output one --resume --rate 1e-2
refuse 1 'model.safetensors' "${recipe[@]}" --from tiny
mkdir damaged && cp -r one/step-000000003 damaged && truncate -s 5000 damaged/step-000000003/model.safetensors
refuse 1 'damaged/step-000000003/model.safetensors' "${recipe[@]}" --output damaged --resume
refuse 1 'gradient of .* is|is not finite|Inf|NaN' train --model tiny --text text.txt --length 200 --steps 3 --deviation 9 --rate 10 --warmup 0 --clip 0 --quiet
finish
