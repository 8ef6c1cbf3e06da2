#!/usr/bin/env bash
# What cluster/local says without a cluster, and that it leaves alone what is not its own. Needs no rights.
source "$(dirname "$0")/lib.sh"

help() {
    local command
    cluster --help >help 2>&1 || complain "--help failed"
    for command in up down status check run head mpirun kill boot cut mend limit delay nodelay; do
        grep -Eq "^  ($command|[a-z]+ HOST \| $command)\b" help || complain "--help lists no $command"
    done
}

bad_usage() {
    refuse 2 "no command"
    refuse 2 "no command 'fly'" fly
    refuse 2 "unknown option --fast" --fast up 2
    refuse 2 "unknown option --fast" up 2 --fast
    refuse 2 "wants a value" up 2 --cpus
    local n
    for n in "" 0 65 -1 x 1e3 "2 3"; do refuse 2 "expected up N|unknown option" up "$n"; done
    refuse 2 "expected up N" up 2 3
    refuse 2 "bad number of processors" up 2 --cpus 0
    refuse 2 "expected run HOST COMMAND" run h0
    refuse 2 "expected kill HOST" kill
    refuse 2 "expected cut HOST" cut h0 h1
    refuse 2 "bad rate" limit h0 fast
    refuse 2 "expected down" down now
    refuse 2 "bad name" --state "" --name ../etc status
    refuse 2 "state directory" --state "$work/a b" status
    refuse 2 "state directory" --state "/tmp/$(printf '%070d' 0)" status
}

no_cluster() {
    refuse 1 "no cluster is up" run h0 true
    refuse 1 "no cluster is up" mend h0
    expect "status" "$(cluster status)" "no cluster is up in $state"
    cluster status >/dev/null && complain "status of no cluster is good"
    cluster down || complain "down of no cluster failed"
}

foreign_directory() {
    mkdir "$work/mine" && echo precious >"$work/mine/file"
    refuse 1 "not a cluster's directory" --state "$work/mine" down
    expect "the foreign file" "$(<"$work/mine/file")" precious
    ln -s "$work/mine" "$work/link"
    [[ $EUID -ne 0 ]] || refuse 1 "not a cluster's directory" --state "$work/mine" up 1
    expect "the foreign file" "$(<"$work/mine/file")" precious
}

# A pid file from a machine's former life may name somebody else's process now.
foreign_process() {
    mkdir -p "$state/pid"
    printf 'lucid virtual cluster\n1\n' >"$state/cluster"
    sleep 60 &
    echo "$! 12345" >"$state/pid/site"
    cluster down || complain "down with a stale process id failed"
    kill -0 $! || complain "down killed a foreign process"
    kill $!
}

help
bad_usage
no_cluster
foreign_directory
foreign_process
finish
