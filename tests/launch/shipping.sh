#!/usr/bin/env bash
# The scripts that make and evaluate the models which ship, on a course of a few steps; and those models themselves: what they
# find in text that they have not seen, and that they find nothing where nothing is.
source "$(dirname "$0")/lib.sh"
shipping=$3
export LUCID=$lucid RANKS=1

# stage NAME STEPS RATE
stage() { printf '%s\t256\t4\t%d\t%s\t0.5\t1\t6\t2\t2\t2\t0\n' "$@"; }

courses() {
    local attention
    export HIDDEN=32 HEAD_DIM=16 INNER=32 STAGES=$work/stages.tsv
    { stage first 4 2e-3; stage second 2 1e-3; } >stages.tsv
    stage first 4 2e-3 >begun.tsv
    "$shipping/run" whole >log 2>&1 || complain "run: $(tail -n 3 log)"
    for attention in lucid softmax; do
        [[ -f whole/$attention/model/model.safetensors ]] || complain "no model: $(ls -R "whole/$attention")"
    done
    cmp -s whole/{lucid,softmax}/model/model.safetensors && complain "both attentions learn the same weights"
    STAGES=begun.tsv "$shipping/run" parts lucid >log 2>&1 || complain "first stage: $(tail -n 3 log)"
    mkdir locale # where it can be made, one with a decimal comma
    localedef -i de_DE -f UTF-8 locale/de_DE.UTF-8 >/dev/null 2>&1
    LOCPATH=$work/locale LC_ALL=de_DE.UTF-8 "$shipping/run" parts lucid >log 2>&1 || complain "second stage: $(tail -n 3 log)"
    cmp {whole,parts}/lucid/model/model.safetensors || complain "a course in two parts gives another model"
    "$shipping/run" parts other >log 2>&1 && complain "'other' is trained"
    grep -q "'other' is neither lucid nor softmax" log || complain "other: $(cat log)"
    unset HIDDEN HEAD_DIM INNER STAGES
}

# find MODEL OUTPUT OPTIONS...: percent found, in found
find_needles() {
    succeed eval niah --model "$1" --template short --haystack text --haystack-text whole/text/unseen.txt --needles 1 \
        --lengths 1K --count 5 --output "$2" "${@:3}"
    found=$(awk '$1 ~ /^niah_short_text/ { print int($5) }' stdout.txt)
}

models() {
    local attention found
    for attention in lucid softmax; do
        [[ -d $shipping/$attention ]] || { complain "no $attention model ships"; continue; }
        [[ $(stat -c %s "$shipping/$attention/model.safetensors") -le 8000000 ]] || complain "$attention: more than 8 MB"
        find_needles "$shipping/$attention" "$attention"
        [[ $found -ge 70 ]] || complain "$attention finds $found of 100 needles"
        find_needles "$shipping/$attention" "$attention-removed" --control removed
        expect "what $attention finds of needles that are not there" "$found" 0
    done
}

evaluation() {
    "$shipping/evaluate" whole lucid unknown >log 2>&1 && complain "an unknown set is evaluated"
    grep -q "'unknown' is none of" log || complain "unknown set: $(cat log)"
    "$shipping/evaluate" absent lucid >log 2>&1 && complain "a model that is not there is evaluated"
    grep -q "absent/lucid/model: no model there" log || complain "no model: $(cat log)"
}

courses
models
evaluation
finish
