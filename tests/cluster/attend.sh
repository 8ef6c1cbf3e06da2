#!/usr/bin/env bash
# The batch script on a Slurm of four nodes, and mpirun over four hosts, give the bits of a local run; from bring-up to
# tear-down in 30 s.
source "$(dirname "$0")/lib.sh"
skip_unless_possible --slurm
seconds_max=30

same() { # WHAT FILE
    cmp local.safetensors "$2" || complain "$1: other bits than a local run's"
    rm -f "$2"
}

under_slurm() {
    LUCID=$lucid cluster head sbatch -W --output=log "$source_dir/launch/attend.sbatch" \
        --input qkv.safetensors --output slurm.safetensors --save out,y,lse || complain "sbatch -W failed: $(tail -n 20 log)"
    grep -Eq 'ranks +4 on 4 hosts' log || complain "not 4 ranks on 4 hosts: $(grep ranks log)"
    same Slurm slurm.safetensors
}

failure_under_slurm() {
    run_batch --output=log "$source_dir/launch/attend.sbatch" --input none.safetensors --output none
    expect "exit code of a job with a bad input" $? 1
    expect "lines that name the bad input" "$(grep -c '^lucid: .*none\.safetensors' log)" 1
    run_batch --output=log "$source_dir/launch/attend.sbatch" --input qkv.safetensors --output none --resume --checkpoint mine
    expect "lines that name a checkpoint of one's own" "$(grep -c '^lucid: .*mine: ' log)" 1
}

under_mpirun() {
    cluster mpirun -n 4 "$lucid" attend --input qkv.safetensors --output mpirun.safetensors --save out,y,lse >log 2>&1 ||
        complain "mpirun failed: $(tail -n 20 log)"
    grep -Eq 'ranks +4 on 4 hosts' log || complain "not 4 ranks on 4 hosts: $(grep ranks log)"
    same mpirun mpirun.safetensors
}

# Slurm takes a host back that lost power.
after_reboot() {
    cluster kill h3
    cluster boot h3
    expect "hosts after a reboot" "$(cluster head srun --immediate=20 -N 4 hostname | sort | paste -sd' ')" "h0 h1 h2 h3"
}

"$lucid" make --random 16K --heads 2 --kv-heads 1 --output qkv.safetensors --quiet || complain "make failed"
"$lucid" attend --input qkv.safetensors --output local.safetensors --save out,y,lse --quiet || complain "the local run failed"
begin=$(date +%s%N)
cluster up 4 --slurm || { complain "up failed"; finish; }
under_slurm
expect_clean_down
ms=$((($(date +%s%N) - begin) / 1000000))
printf 'bring-up, sbatch -W, tear-down: %d.%03d s\n' $((ms / 1000)) $((ms % 1000))
[[ $ms -le $((seconds_max * 1000)) ]] || complain "that is more than $seconds_max s"

cluster up 4 --slurm || { complain "second up failed"; finish; }
failure_under_slurm
under_mpirun
after_reboot
expect_clean_down
finish
