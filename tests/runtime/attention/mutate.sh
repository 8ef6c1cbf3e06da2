#!/bin/sh
# mutate.sh TABLE NAME SOURCE OUTPUT: writes SOURCE as mutant NAME of the table; fails when that changes nothing.
set -eu
expression=$(sed -n "s/^$2  *//p" "$1")
[ -n "$expression" ] || { echo "mutate.sh: no mutant '$2' in $1" >&2; exit 1; }
mkdir -p "$(dirname "$4")"
sed -e "$expression" "$3" > "$4"
if cmp -s "$3" "$4"; then
    rm "$4"
    echo "mutate.sh: mutant '$2' leaves $3 as it is: $expression" >&2
    exit 1
fi
