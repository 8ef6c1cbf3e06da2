# The script of the small experiments: a rate that diverges is recorded and loses, what failed otherwise is tried again.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
run=$3/run

export LUCID=$lucid SEEDS=1 STEPS=2 STEPS2=2 ATTENTIONS=softmax
RATES="10 3e-3" "$run" two-phase mixed >summary.txt 2>stderr.txt || complain "a rate that diverges ends the sweep: $(cat stderr.txt)"
expect "rows, one a rate and phase" "$(cut -f 2,5 mixed/two-phase.tsv | tail -n +2 | tr '\t' ' ' | xargs)" "10 1 10 2 3e-3 1 3e-3 2"
expect "what diverged" "$(grep -c diverged mixed/two-phase.tsv)" 2
expect "the best rate" "$(cut -f 4 summary.txt | tail -n +2 | sort -u)" 3e-3
cp mixed/two-phase.tsv before
RATES="10 3e-3" LUCID=/bin/false "$run" two-phase mixed >/dev/null 2>stderr.txt || complain "runs that were recorded are repeated"
cmp before mixed/two-phase.tsv || complain "a second time adds to the table"

# A table of before, in which a loss that was no number is null.
sed -i 's/diverged/null/g' mixed/two-phase.tsv
RATES=10 "$run" two-phase mixed 2>/dev/null | cut -f 4 | grep -qx 10 && complain "null is the best loss"

RATES=3e-3 LUCID=/bin/false "$run" two-phase failing >/dev/null 2>stderr.txt && complain "failures are no failure"
grep -q '1 runs failed' stderr.txt || complain "a failure: $(cat stderr.txt)"
expect "rows of runs that failed" "$(wc -l <failing/two-phase.tsv)" 1
RATES=3e-3 "$run" two-phase failing >/dev/null 2>&1
expect "rows once they succeed" "$(wc -l <failing/two-phase.tsv)" 3
finish
