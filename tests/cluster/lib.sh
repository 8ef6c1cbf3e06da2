# shellcheck shell=bash
# Sourced by the cluster's tests: SCRIPT SOURCE_DIR SWITCH LUCID. $work is a folder that goes away, and any cluster in it.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
source_dir=$1 lucid=$3
export CLUSTER_SWITCH=$2
work=$(mktemp -d /tmp/lucid-XXXXXX) # short: Open MPI's sockets lie below
state=$work/cluster
trap 'tear_down; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cd "$work" || exit 1

cluster() {
    timeout -k 5 60 "$source_dir/cluster/local" --state "$state" "$@"
}

tear_down() {
    local marker
    for marker in "$work"/cluster*/cluster; do
        [[ ! -f $marker ]] || state=${marker%/*} cluster down
    done
}

# skip_unless_possible [--slurm]
skip_unless_possible() {
    local lacks
    lacks=$(cluster check "$@") || { printf 'skipped: %s\n' "$lacks"; exit 77; }
}

# run_batch OPTIONS SCRIPT ARGUMENTS...: until the job is over, with its exit code. sbatch -W looks only every ten seconds.
run_batch() {
    local job shown
    job=$(LUCID=$lucid cluster head sbatch --parsable "$@") || return 1
    while shown=$(cluster head scontrol --oneliner show job "$job"); do
        [[ $shown =~ JobState=(PENDING|RUNNING|COMPLETING|CONFIGURING) ]] || break
        sleep 0.2
    done
    [[ $shown =~ ExitCode=([0-9]+):([0-9]+) ]] || return 1
    return $((BASH_REMATCH[1] + BASH_REMATCH[2]))
}

# refuse CODE PATTERN ARGUMENTS...: ends with CODE, one line on stderr that matches PATTERN, nothing on stdout.
refuse() {
    local code=$1 pattern=$2
    shift 2
    cluster "$@" >"$work/stdout" 2>"$work/stderr"
    expect "exit code of $*" $? "$code"
    expect "lines on stderr of $*" "$(wc -l <"$work/stderr")" 1
    grep -Eq -- "^cluster/local: .*$pattern" "$work/stderr" || complain "$*: '$(<"$work/stderr")' does not match '$pattern'"
    [[ ! -s $work/stdout ]] || complain "$*: stdout is not empty"
}

status_shows() { # PATTERN
    local status
    status=$(cluster status)
    grep -Eq -- "$1" <<<"$status" || complain "no line '$1' in: $status"
}

reaches() { # FROM TO
    cluster run "$1" ping -c 1 -W 1 -q "$2" >/dev/null 2>&1
}

# Processes that carry the cluster's mark in their environment, or its directory in their command line.
processes_of() { # STATE
    grep -lszxF -- "CLUSTER_STATE=$1" /proc/[0-9]*/environ | cut -d/ -f3
    grep -lsFz -f <(printf %s "$1") /proc/[0-9]*/cmdline | cut -d/ -f3
}

# Namespaces that these processes are in and this one is not.
namespaces_of() { # PID...
    local pid
    for pid in "$@"; do readlink "/proc/$pid"/ns/{net,pid,mnt,uts,ipc}; done 2>/dev/null |
        sort -u | grep -vxF -f <(readlink /proc/self/ns/*)
}

# Takes down and looks for what is left.
expect_clean_down() {
    local pids namespaces
    mapfile -t pids < <(processes_of "$state")
    namespaces=$(namespaces_of "${pids[@]}")
    [[ ${#pids[@]} -gt 0 && -n $namespaces ]] || complain "no processes or namespaces found to watch"
    cluster down || complain "down failed"
    [[ ! -e $state ]] || complain "down leaves files: $(find "$state")"
    mapfile -t pids < <(processes_of "$state")
    [[ ${#pids[@]} -eq 0 ]] || complain "down leaves processes: $(ps -o pid,args -p "$(IFS=,; echo "${pids[*]}")")"
    readlink /proc/[0-9]*/ns/* 2>/dev/null | sort -u | grep -xF -- "$namespaces" && complain "down leaves namespaces"
    grep -F -- "$work" /proc/self/mounts && complain "down leaves mounts"
    return 0
}
