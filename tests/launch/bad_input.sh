#!/usr/bin/env bash
# Everything wrong that a user can hand over: one clear line, the right exit code, no file left behind.
source "$(dirname "$0")/lib.sh"

f32() { printf '"%s":{"dtype":"F32","shape":[%s],"data_offsets":[%d,%d]}' "$1" "$2" "$3" "$4"; }
# qkv FILE Q_SHAPE K_SHAPE V_SHAPE with as many fp32 zeros as those shapes need
qkv() {
    local q=$((4 * ${2//,/*})) k=$((4 * ${3//,/*})) v=$((4 * ${4//,/*}))
    tensors "$1" "{$(f32 q "$2" 0 $q),$(f32 k "$3" $q $((q + k))),$(f32 v "$4" $((q + k)) $((q + k + v)))}" $((q + k + v))
}

# Launchers that this build's MPI does not know, and tasks that are told to be alone.
launchers() {
    PMI_SIZE=4 PMI_RANK=0 refuse 2 "4 ranks were started, and each is alone" attend --random 64
    expect "what rank 1 says" "$(PMI_SIZE=4 PMI_RANK=1 timeout -k 5 60 "$lucid" attend --random 64 2>&1; echo $?)" 2
    SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 refuse 2 "self is for one rank, and 4 were started" attend --random 64 --comm self
}

command_lines() {
    refuse 2 "no command"
    refuse 2 "unknown command 'atend'" atend
    refuse 2 "unknown option --inptu" attend --inptu x
    refuse 2 "unknown option --inptu" attend --inptu=x
    refuse 2 "--baseline does not apply to 'attend'" attend --random 64 --baseline none
    refuse 2 "unexpected argument 'x'" attend x
    refuse 2 "unexpected argument '-n'" attend -n 3
    refuse 2 "--input needs a value" attend --input
    refuse 2 "--quiet takes no value" attend --random 64 --quiet=1
    refuse 2 "attend needs --input FILE or --random N" attend
    refuse 2 "make needs --output FILE and --random N" make --random 64
    refuse 2 "--heads makes random input" attend --input x --heads 3
    refuse 2 "--random: 'many' is not a whole number" attend --random many
    refuse 2 "--random: '64Q' is not a whole number" attend --random 64Q
    refuse 2 "--random: '64KB' is not a whole number" attend --random 64KB
    refuse 2 "--random: '' is not a whole number" attend --random=
    refuse 2 "--random: '1e3' is not a whole number" attend --random 1e3
    refuse 2 "--random: 0 is not between 1 and" attend --random 0
    refuse 2 "--random: -5 is not between 1 and" attend --random -5
    refuse 2 "--random: 99999999999999999999 is not between" attend --random 99999999999999999999
    refuse 2 "--random: 9999999999T is not between" attend --random 9999999999T
    refuse 2 "--head-dim: 0 is not between 1 and 256" attend --random 64 --head-dim 0
    refuse 2 "--head-dim: 257 is not between 1 and 256" attend --random 64 --head-dim 257
    refuse 2 "--kv-heads: 3 does not divide --heads 4" attend --random 64 --heads 4 --kv-heads 3
    refuse 2 "--tile: 100 is not a multiple of 64" attend --random 64 --tile 100
    refuse 2 "--eps: 'nan' is not a number" attend --random 64 --eps nan
    refuse 2 "--eps: 0 is not between" attend --random 64 --eps 0
    refuse 2 "--timeout: 'soon' is not a number" attend --random 64 --timeout soon
    refuse 2 "--save: 'q' is none of" attend --random 64 --save out,q
    refuse 2 "--save: '' is none of" attend --random 64 --save out,
    refuse 2 "--save: softmax attention has no y" attend --random 64 --attention softmax --save y
    refuse 2 "--layout: 'spiral' is none of" attend --random 64 --layout spiral
    refuse 2 "--isa: 'sse' is none of" attend --random 64 --isa sse
    refuse 2 "--device cuda" attend --random 64 --device cuda
    refuse 2 "--device cuda" bench --lengths 64 --decode --device cuda
    refuse 2 "--lengths: 'x' is not a whole number" bench --quiet --lengths x
    refuse 2 "--cached: 'x' is not a whole number" bench --quiet --decode --cached x
    refuse 2 "--decode and --backward are two measurements" bench --decode --backward
    refuse 2 "--decode .* does not go with --input" bench --decode --input absent.safetensors
}

files() {
    refuse 1 "absent.safetensors.*No such file" attend --input absent.safetensors
    refuse 1 "\\./: " attend --input ./
    : >empty.safetensors
    refuse 1 "empty.safetensors" attend --input empty.safetensors
    head -c 300 /dev/urandom >noise.safetensors
    refuse 1 "noise.safetensors" attend --input noise.safetensors
    "$lucid" make --quiet --random 70 --heads 2 --head-dim 8 --output good.safetensors || complain "make failed"
    local n at
    n=$(stat -c %s good.safetensors)
    for at in 1 7 8 9 100 $((n / 2)) $((n - 1)); do
        head -c "$at" good.safetensors >cut.safetensors
        refuse 1 "cut.safetensors" attend --input cut.safetensors --output out.safetensors
    done
    { cat good.safetensors; echo; } >long.safetensors
    refuse 1 "long.safetensors" attend --input long.safetensors --output out.safetensors
}

shapes() {
    local check=(attend --input t.safetensors --output out.safetensors)
    tensors t.safetensors "{$(f32 q 1,4,2 0 32)}" 32
    refuse 1 "t.safetensors: no tensor 'k'" "${check[@]}"
    tensors t.safetensors "{$(f32 q 8 0 32),$(f32 k 1,4,2 32 64),$(f32 v 1,4,2 64 96)}" 96
    refuse 1 "t.safetensors: q has 1 dimensions" "${check[@]}"
    qkv t.safetensors 1,1,4,2 1,4,2 1,4,2
    refuse 1 "t.safetensors: q has number of dimensions 4, k has 3" "${check[@]}"
    qkv t.safetensors 1,4,2 1,5,2 1,4,2
    refuse 1 "t.safetensors: q has sequence length 4, k has 5" "${check[@]}"
    qkv t.safetensors 1,4,2 1,4,2 1,3,2
    refuse 1 "t.safetensors: q has sequence length 4, v has 3" "${check[@]}"
    qkv t.safetensors 1,4,2 1,4,3 1,4,2
    refuse 1 "t.safetensors: q has head_dim 2, k has 3" "${check[@]}"
    qkv t.safetensors 3,4,2 2,4,2 2,4,2
    refuse 1 "t.safetensors: q has 3 heads, no multiple of k's 2" "${check[@]}"
    qkv t.safetensors 2,4,2 2,4,2 1,4,2
    refuse 1 "t.safetensors: k has number of heads 2, v has 1" "${check[@]}"
    qkv t.safetensors 2,1,4,2 1,1,4,2 1,1,4,2
    refuse 1 "t.safetensors: q has batch size 2, k has 1" "${check[@]}"
    qkv t.safetensors 1,4,257 1,4,257 1,4,2
    refuse 1 "t.safetensors: q has head_dim 257, not 1..256" "${check[@]}"
    qkv t.safetensors 1,4,0 1,4,0 1,4,2
    refuse 1 "t.safetensors: q has head_dim 0, not 1..256" "${check[@]}"
    qkv t.safetensors 1,0,2 1,0,2 1,0,2
    refuse 1 "t.safetensors: q has sequence length 0, not 1.." "${check[@]}"
    tensors t.safetensors '{"q":{"dtype":"I32","shape":[1,2,2],"data_offsets":[0,16]},'"$(f32 k 1,2,2 16 32),$(f32 v 1,2,2 32 48)}" 48
    refuse 1 "t.safetensors.*q.*I32" "${check[@]}"
}

# Value i of q, k or v of an input whose header ends at data.
values() {
    local header data
    qkv t.safetensors 1,4,2 1,4,2 1,4,2
    header=$(head -c 8 t.safetensors | od -An -tu8 | tr -d ' ')
    data=$((8 + header))
    put t.safetensors $((data + 4 * 5)) '\x00\x00\xc0\x7f' # q[0,2,1] = NaN
    refuse 1 "t.safetensors: tensor 'q' is not finite.*token 2, column 1" attend --input t.safetensors --output out.safetensors
    expect "line about a NaN" "$("$lucid" attend --input t.safetensors 2>&1)" \
        "lucid: t.safetensors: tensor 'q' is not finite at (batch 0, head 0, token 2, column 1)"
    put t.safetensors $((data + 4 * 5)) '\x00\x00\x00\x00'
    put t.safetensors $((data + 4 * 15)) '\x00\x00\x80\xff' # k[0,3,1] = -Inf
    refuse 1 "'k'.*token 3, column 1" attend --input t.safetensors --output out.safetensors
    put t.safetensors $((data + 4 * 15)) '\x00\x00\x00\x00'
    put t.safetensors $((data + 4 * 16)) '\x00\x00\x80\x7f' # v[0,0,0] = Inf
    refuse 1 "'v'.*token 0, column 0" attend --input t.safetensors --output out.safetensors
}

outputs() {
    "$lucid" make --quiet --random 70 --heads 2 --head-dim 8 --output good.safetensors || complain "make failed"
    local before
    before=$(cksum <good.safetensors)
    refuse 1 "missing/out.safetensors" attend --input good.safetensors --output missing/out.safetensors
    refuse 2 "good.safetensors" attend --input good.safetensors --output good.safetensors
    ln good.safetensors other-name.safetensors
    refuse 2 "other-name.safetensors" attend --input good.safetensors --output other-name.safetensors
    expect "input after it was named as output" "$(cksum <good.safetensors)" "$before"
    mkdir folder
    refuse 2 "folder" attend --input good.safetensors --output folder
    refuse 1 "missing/report.json" attend --quiet --random 64 --report missing/report.json
    refuse 1 "missing/trace.json" attend --quiet --random 64 --trace missing/trace.json
    mkdir locked
    chmod a-w locked
    if touch locked/probe 2>/dev/null; then # root writes everywhere
        rm locked/probe
    else
        refuse 1 "locked/out.safetensors" attend --input good.safetensors --output locked/out.safetensors
    fi
    refuse 1 "a rank needs [0-9.]+ MiB .* and may use [0-9.]+ MiB: use more ranks" attend --random 32G --head-dim 256 --heads 64
}

launchers
command_lines
files
shapes
values
outputs
finish
