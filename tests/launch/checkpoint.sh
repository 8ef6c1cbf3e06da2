#!/usr/bin/env bash
# Checkpoints through the real program: killed or asked to stop at random moments, runs go on with other ranks, layouts
# and schedules to the same bits; damage of any file costs time and not the result; what cannot be gone on from is
# refused. The seed of the random moments is the third argument, or the time; it is printed.
source "$(dirname "$0")/lib.sh"
trap 'umount -q small; rm -rf "$work"' EXIT
seed=${3:-$(($(date +%s) % 32768))}
RANDOM=$seed
printf 'seed %d\n' "$seed"
input=(--random 4K --heads 4 --kv-heads 2 --keys clustered --seed 3 --threads 1 --isa scalar) # seconds, wherever it runs

# Draws $n_ranks and $how: RANDOM goes on only in this shell, so there is no substitution.
draw() {
    local layouts=(contiguous zigzag cyclic) schedules=(pipelined fused)
    n_ranks=$((1 + RANDOM % 5))
    how=(--layout "${layouts[RANDOM % 3]}" --schedule "${schedules[RANDOM % 2]}")
}

# begin N ARGUMENTS...: on N ranks in the background; its process is $job.
begin() {
    rm -f out.safetensors* # of a rank that was killed alone
    mpirun --oversubscribe -n "$1" "$lucid" attend --output out.safetensors --save out,y,lse --checkpoint ckpt \
        --checkpoint-every 0.1 "${@:2}" >stdout.txt 2>stderr.txt &
    job=$!
}

# The process ids of the job's ranks.
ranks_of() {
    ps -o pid= --ppid "$1" | while read -r pid; do [[ $(cat "/proc/$pid/comm" 2>/dev/null) != lucid ]] || echo "$pid"; done
}

await_manifests() { # COUNT
    local i
    for ((i = 0; i < 600; i++)); do
        [[ $(find ckpt -name '*.manifest' 2>/dev/null | wc -l) -lt $1 ]] || return 0
        sleep 0.05
    done
    complain "no $1 manifests after 30 s: $(ls ckpt) $(cat stderr.txt)"
}

# Until the job has so many ranks and their folder is there, or the job is over. Killed while mpirun starts them, a rank
# can leave it waiting for ever.
await_ranks() { # COUNT FOLDER
    local i
    for ((i = 0; i < 600; i++)); do
        [[ $(ranks_of $job | wc -l) -lt $1 || ! -e $2/lucid-lock ]] || return 0
        kill -0 $job 2>/dev/null || return 0
        sleep 0.05
    done
    complain "no $1 ranks with $2 after 30 s: $(cat stderr.txt)"
}

# A run that was killed with checkpoints of three ranks, kept in `saved` for the tests to spoil.
make_saved() {
    rm -rf ckpt
    begin 3 "${input[@]}" --tile 64
    await_manifests 5
    kill -9 "$(ranks_of $job | tail -n 1)"
    wait $job
    [[ ! -e out.safetensors ]] || complain "a killed run left its output"
    cp -r ckpt saved
}

# resume N ARGUMENTS...: to the end, with the bits of an undisturbed run.
resume() {
    on_ranks "$1" attend --output out.safetensors --save out,y,lse --checkpoint ckpt --resume "${@:2}"
    expect "exit code of a resumed run ($*)" $? 0
    cmp reference.safetensors out.safetensors || complain "a resumed run ($*) has other bits"
    [[ ! -e ckpt ]] || complain "the checkpoint is left after a complete run: $(ls ckpt)"
    rm -f out.safetensors
}

random_resume() {
    draw
    resume $n_ranks "${input[@]}" "${how[@]}"
}

# Killed again and again, on other ranks each time, and each time further.
killed() {
    local resumed=() i
    rm -rf ckpt
    for i in 1 2 3; do
        draw
        begin $n_ranks "${input[@]}" "${how[@]}" "${resumed[@]}"
        if [[ $i -eq 1 ]]; then await_manifests 1; else await_ranks $n_ranks ckpt; fi
        sleep 0.$((RANDOM % 400 + 100))
        kill -9 "$(ranks_of $job | tail -n 1)" 2>/dev/null || break # it was quick
        wait $job
        [[ -d ckpt ]] || break # it was done
        resumed=(--resume)
    done
    wait $job
    [[ -d ckpt ]] && { random_resume; return; }
    cmp reference.safetensors out.safetensors || complain "no checkpoint is left, and no complete output: $(cat stderr.txt)"
}

# The signal reaches all ranks through mpirun, or one alone.
stopped() { # all|one
    rm -rf ckpt
    begin 3 "${input[@]}" --checkpoint-every 1000
    await_ranks 3 ckpt
    sleep 0.$((RANDOM % 500 + 200))
    if [[ $1 == all ]]; then kill -USR1 $job; else kill -USR1 "$(ranks_of $job | shuf -n 1)"; fi
    wait $job
    expect "exit code after SIGUSR1 to $1" $? 75
    expect "lines after SIGUSR1 to $1" "$(grep '^lucid: ' stderr.txt)" "lucid: saved in ckpt; go on with --resume"
    expect "files after SIGUSR1" "$(ls -d out* 2>/dev/null)" ""
    expect "manifests after SIGUSR1" "$(find ckpt -name '*.manifest' | wc -l)" 3
    random_resume
}

# Any byte of any file: named, if it matters, and never the result.
damaged() { # ENDING
    local files=(saved/*"$1") file size
    file=${files[RANDOM % ${#files[@]}]##*/}
    size=$(stat -c %s "saved/$file")
    rm -rf ckpt && cp -r saved ckpt
    [[ $size -eq 0 ]] || flip "ckpt/$file" $(((RANDOM << 15 | RANDOM) % size)) $((RANDOM % 8))
    random_resume
    [[ $1 != .manifest ]] || grep -q "^lucid: ckpt/$file: is damaged" stderr.txt || complain "damage in $file is not named: $(cat stderr.txt)"
}

flip() { # FILE OFFSET BIT
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    put "$1" "$2" "$(printf '\\x%02x' $((byte ^ 1 << $3)))"
}

# Files that are cut, missing or links.
mutilated() {
    rm -rf ckpt && cp -r saved ckpt
    rm ckpt/*.0.tiles
    truncate -s 1000 ckpt/*.1.tiles
    random_resume
    grep -q '^lucid: .*\.0\.tiles: cannot open: No such file' stderr.txt || complain "a missing file is not named: $(cat stderr.txt)"
    grep -q '^lucid: .*\.1\.tiles: ends at' stderr.txt || complain "a cut file is not named: $(cat stderr.txt)"
    rm -rf ckpt && cp -r saved ckpt
    mv ckpt/*.0.tiles elsewhere
    ln -s "$PWD/elsewhere" "ckpt/$(basename saved/*.0.tiles)"
    random_resume
    grep -q '^lucid: .*\.0\.tiles: cannot open: Too many levels' stderr.txt || complain "a link is followed: $(cat stderr.txt)"
}

refused() {
    local other=(--random 4K --heads 4 --kv-heads 2 --keys clustered)
    rm -rf ckpt && cp -r saved ckpt
    refuse 2 "ckpt: holds a checkpoint; go on from it with --resume" attend "${input[@]}" --checkpoint ckpt
    refuse 2 "--tile: the checkpoint has 64" attend "${input[@]}" --checkpoint ckpt --resume --tile 256
    refuse 2 "--isa: the checkpoint is of" attend "${input[@]}" --checkpoint ckpt --resume --isa avx2
    refuse 1 "is a checkpoint of another input" attend "${other[@]}" --checkpoint ckpt --resume
    "$lucid" attend "${input[@]}" --eps 1e-4 --checkpoint ckpt --resume >stdout.txt 2>stderr.txt
    expect "exit code with another eps" $? 1
    grep -q '^lucid: ckpt/.*: is a checkpoint of another problem: its eps is' stderr.txt || complain "another eps: $(cat stderr.txt)"
    diff -r ckpt saved >/dev/null || complain "a refused run changed the checkpoint"
    rm -rf ckpt stdout.txt stderr.txt
    refuse 1 "ckpt: cannot open the folder" attend "${input[@]}" --checkpoint ckpt --resume
    refuse 2 "--resume: from which folder" attend "${input[@]}" --resume
    mkdir ckpt
    refuse_locked
    local name
    for name in saved/*.manifest; do echo nonsense >"ckpt/${name##*/}"; done
    "$lucid" attend "${input[@]}" --checkpoint ckpt --resume >stdout.txt 2>stderr.txt
    expect "exit code where all is damaged" $? 1
    grep -q 'is damaged: its checksum does not match' stderr.txt || complain "all damaged: $(cat stderr.txt)"
}

refuse_locked() {
    (exec 9>ckpt/lucid-lock && flock 9 && exec sleep 30) &
    local holder=$!
    while flock -n ckpt/lucid-lock true; do sleep 0.05; done
    refuse 2 "ckpt: another job keeps its checkpoint here" attend "${input[@]}" --checkpoint ckpt
    kill $holder
    wait $holder 2>/dev/null
}

# A disk that fills up is told; the run goes on, and leaves nothing behind.
full() {
    mkdir -p small
    mount -t tmpfs -o size=64k tmpfs small 2>/dev/null || return 0 # needs rights
    on_ranks 2 attend --output out.safetensors --save out,y,lse --checkpoint small/ckpt --checkpoint-every 0.1 "${input[@]}"
    expect "exit code on a full disk" $? 0
    grep -Eq '^lucid: \[rank [01]/2 .*no checkpoint: small/ckpt/.*No space left on device; the run goes on' stderr.txt || complain "the full disk is not named: $(cat stderr.txt)"
    cmp reference.safetensors out.safetensors || complain "a full disk changes the bits"
    expect "files on the full disk" "$(ls -A small)" ""
    stopped_when_full
    umount small
}

# Asked to save and stop where that cannot be done, the job ends with one line, and leaves nothing behind.
stopped_when_full() {
    begin 3 "${input[@]}" --checkpoint small/ckpt --checkpoint-every 60
    await_ranks 3 small/ckpt
    sleep 0.5
    ranks_of $job | xargs kill -USR1
    wait $job
    expect "exit code where saving and stopping fails" $? 1
    expect "lines where saving and stopping fails" "$(grep -c '^lucid: ' stderr.txt)" 1
    grep -Eq '^lucid: \[rank [012]/3 .*small/ckpt/.*No space left on device' stderr.txt || complain "the full disk is not named: $(cat stderr.txt)"
    expect "output where saving and stopping fails" "$(ls -A ./out.safetensors* 2>/dev/null)" ""
}

"$lucid" attend "${input[@]}" --output reference.safetensors --save out,y,lse --quiet || complain "the reference failed"
make_saved
killed
stopped all
stopped one
for ending in .manifest .manifest .rows .tiles .tiles .tiles; do damaged $ending; done
mutilated
refused
full
finish
