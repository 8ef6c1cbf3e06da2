#!/usr/bin/env bash
# Hosts are what they claim to be, die and come back; clusters live side by side; crashes are cleaned up. From a clone whose
# path has a blank.
source "$(dirname "$0")/lib.sh"
mkdir "a clone"
cp -r "$source_dir/cluster" "a clone"
source_dir="$work/a clone"
skip_unless_possible

# Own name, processes, shared memory and node-local disk; the file system and the current directory shared.
apart() {
    expect "host names" "$(cluster mpirun -n 3 hostname | sort | paste -sd' ')" "h0 h1 h2"
    cluster run h0 sh -c 'echo 0 >/dev/shm/note; echo 0 >$TMPDIR/note; echo 0 >shared'
    cluster run h1 sh -c 'ls /dev/shm $TMPDIR | grep note' && complain "h1 sees h0's memory or disk"
    expect "shared file" "$(cluster run h1 cat shared)" 0
    expect "first process" "$(cluster run h1 pgrep -f 'cluster/init .* h1')" 1
    [[ ! -e /dev/shm/note ]] || complain "this machine sees h0's shared memory"
    expect "arguments" "$(cluster run h0 printf '%s|' 'a b' '' '$x;y')" 'a b||$x;y|'
    cluster run h0 sh -c 'exit 41'
    expect "exit code" $? 41
    refuse 1 "no host h3" run h3 true
    refuse 1 "cannot be killed" kill head
    refuse 1 "h0 is running" boot h0
}

power() {
    cluster run h1 sleep 1000 &
    reaches h0 h1 || complain "h0 does not reach h1"
    cluster kill h1 || complain "kill failed"
    wait $!
    expect "exit code of a command on a killed host" $? 137
    reaches h0 h1 && complain "a killed host answers"
    status_shows '^h1 .*power off'
    refuse 1 "h1 is not running" run h1 true
    refuse 1 "h1 is not running" kill h1
    cluster boot h1 || complain "boot failed"
    reaches h0 h1 || complain "a booted host does not answer"
    expect "processes of before" "$(cluster run h1 pgrep -c sleep)" 1 # its first process's own
}

side_by_side() {
    local state=$work/cluster2
    { cluster up 1 && reaches h0 head && cluster down; } || complain "a second cluster failed"
    state=$work/cluster
    reaches h0 h1 || complain "the second cluster disturbed the first"
}

# Both a cluster that runs and one whose start was cut short are replaced.
again() {
    cluster up 1 || complain "up over a running cluster failed"
    refuse 1 "no host h1" run h1 true
    local delay starting
    for delay in 0.02 0.05 0.1 0.2; do
        "$source_dir/cluster/local" --state "$state" up 8 &
        starting=$!
        sleep $delay
        kill -9 $starting 2>/dev/null
        wait $starting 2>/dev/null
        cluster up 1 || complain "up after a start killed at $delay s failed"
        reaches h0 head || complain "no network after a start killed at $delay s"
    done
}

links_before=$(ip -br link)
cluster up 3 || { complain "up failed"; finish; }
apart
power
side_by_side
again
expect_clean_down
expect "this machine's own links" "$(ip -br link)" "$links_before"
finish
