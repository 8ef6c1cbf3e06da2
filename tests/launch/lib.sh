# Sourced by the tests of the lucid program; $lucid is the binary, $json the JSON query tool, $work a folder that goes away.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
lucid=$1 json=$2
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work" || exit 1

# A file of one 64-bit little-endian number.
le64() {
    local i hex=""
    for ((i = 0; i < 8; i++)); do hex+=$(printf '\\x%02x' $(($1 >> 8 * i & 255))); done
    printf '%b' "$hex"
}

# tensors FILE HEADER BYTES: a safetensors file with this JSON header and BYTES zero bytes of data.
tensors() {
    { le64 ${#2}; printf '%s' "$2"; head -c "$3" /dev/zero; } >"$1"
}

# put FILE OFFSET ESCAPES: overwrites bytes.
put() {
    printf '%b' "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# refuse CODE PATTERN ARGUMENTS...: the program ends with CODE, says one line on stderr that matches PATTERN, nothing on
# stdout, and leaves the folder as it was.
refuse() {
    local code=$1 pattern=$2 before after rc
    shift 2
    before=$(ls -A)
    timeout -k 5 60 "$lucid" "$@" >.stdout 2>.stderr
    rc=$?
    expect "exit code of lucid $*" "$rc" "$code"
    expect "lines on stderr of lucid $*" "$(wc -l <.stderr)" 1
    grep -Eq -- "^lucid: .*$pattern" .stderr || complain "lucid $*: '$(cat .stderr)' does not match '$pattern'"
    [[ ! -s .stdout ]] || complain "lucid $*: stdout is not empty: $(head -n 3 .stdout)"
    rm -f .stdout .stderr
    after=$(ls -A)
    expect "files after lucid $*" "$after" "$before"
}

# succeed ARGUMENTS...: exit code 0, nothing on stderr; the output is left in stdout.txt.
succeed() {
    timeout -k 5 100 "$lucid" "$@" >stdout.txt 2>.stderr
    expect "exit code of lucid $*" $? 0
    [[ ! -s .stderr ]] || complain "lucid $*: stderr: $(head -n 5 .stderr)"
    rm -f .stderr
}

# on_ranks N ARGUMENTS...: lucid under mpirun; stdout.txt and stderr.txt are left, the exit code is returned.
on_ranks() {
    timeout -k 5 100 mpirun --oversubscribe -n "$1" "$lucid" "${@:2}" >stdout.txt 2>stderr.txt
}
