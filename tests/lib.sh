# shellcheck shell=bash
# Sourced by the shell tests' own libraries: failures are counted, so that a test says all that is wrong.
n_failures=0

complain() {
    printf 'FAILED: %s\n' "$*"
    n_failures=$((n_failures + 1))
}

finish() {
    [[ $n_failures -eq 0 ]] || { printf '%d failures\n' "$n_failures"; exit 1; }
    exit 0
}

# expect WHAT GOT WANTED
expect() {
    [[ $2 == "$3" ]] || complain "$1: got '$2', want '$3'"
}
