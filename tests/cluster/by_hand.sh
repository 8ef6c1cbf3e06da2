# shellcheck shell=bash
# Sourced by what is run by hand, on the release build: sets `program`, the arguments that the tests' scripts begin with.
# The settings are those that CTest gives its tests.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export LC_ALL=C OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=self,vader OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_hwloc_base_binding_policy=none OMP_WAIT_POLICY=passive
program=("$root" "$root/build/release/bin/cluster_switch" "$root/build/release/bin/lucid")

# The median of the numbers in a file, one a line; of an even number of them the lower.
median() { sort -g "$1" | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }

# report_ratio WHAT TARGET A B: of the medians of what files A and B hold.
report_ratio() {
    awk -v what="$1" -v target="$2" -v a="$(median "$3")" -v b="$(median "$4")" -v n="$(wc -l <"$3")" 'BEGIN {
        printf "%s: median of %d %s %.2f s / median of %d %s %.2f s = %.4f (target: at most %s)\n", what, n, ARGV[1], b, n, ARGV[2], a, b / a, target }' \
        "$4" "$3"
}
