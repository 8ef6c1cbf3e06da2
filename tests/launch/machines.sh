#!/usr/bin/env bash
# Descriptions of machines: those that come with the program plan a run, bad ones are refused by name.
source "$(dirname "$0")/lib.sh"
plan=(attend --random 64K --heads 4 --plan)

described() {
    local name
    for name in virtual cpu vista-gh; do
        succeed "${plan[@]}" --machine $name --ranks 8
        grep -q "^  machine     $name: " stdout.txt || complain "$name: not named"
        grep -Eq '^Plan for 8 ranks of [0-9]+ thread' stdout.txt || complain "$name: not for 8 ranks"
    done
}

# 2 nodes of 2 domains with 4 cores of 100 Gflop/s; 8 ranks are 4 a node, one core each. Work of the busiest of them at
# 85 % of 100 Gflop/s; the link's 8e-3 Gbit/s are 1 MB/s and decide.
computed() {
    local gflop sent
    cat >m.json <<'EOF'
{"nodes": 2, "sockets": 1, "numa_domains": 2, "cores": 4, "core_gflops": 100, "memory_gib": 8, "gpus": 0,
 "link": {"gbit_per_s": 8e-3, "latency_us": 0}}
EOF
    succeed "${plan[@]}" --machine ./m.json --ranks 8
    grep -q '^  placement   2 nodes, 4 ranks each of 1 cores' stdout.txt || complain "placement: $(grep placement stdout.txt)"
    gflop=$(sed -En 's/^  work +([0-9.e+]+) Gflop.*/\1/p' stdout.txt)
    sent=$(sed -En 's/^  sends +([0-9.]+) MiB.*/\1/p' stdout.txt)
    expect "seconds of work and transfers" "$(sed -En 's/.*work ([0-9.e+-]+) s at .* of ([0-9.]+) s$/\1 \2/p' stdout.txt)" \
        "$(awk -v g="$gflop" -v s="$sent" 'BEGIN { printf "%.3g %.3g", g / 85, s * 1.048576 }')"
    on_ranks 2 "${plan[@]}" --machine ./m.json
    grep -q '^Plan for 2 ranks of 2 threads' stdout.txt || complain "plan on two ranks: $(head -n 1 stdout.txt)"
}

refused() {
    refuse 2 "'nope' is none of .*(cpu.*vista|vista.*cpu)" "${plan[@]}" --machine nope
    refuse 1 "\./none\.json: No such file" "${plan[@]}" --machine ./none.json
    echo '{"nodes": 2,' >bad.json
    refuse 1 "bad\.json: line [12]: " "${plan[@]}" --machine bad.json
    echo '[1, 2]' >bad.json
    refuse 1 "bad\.json: 'nodes' is not a number" "${plan[@]}" --machine bad.json
    sed 's/"nodes": 2/"nodes": 0/' m.json >bad.json
    refuse 1 "bad\.json: 'nodes' is 0, not within 1 and" "${plan[@]}" --machine bad.json
    sed 's/"sockets": 1/"sockets": 1.5/' m.json >bad.json
    refuse 1 "bad\.json: 'sockets' is 1\.5, not a whole number" "${plan[@]}" --machine bad.json
    sed 's/"gbit_per_s": 8e-3/"gbit_per_s": "8"/' m.json >bad.json
    refuse 1 "bad\.json: 'gbit_per_s' is not a number" "${plan[@]}" --machine bad.json
    head -c 70000 /dev/zero >bad.json
    refuse 1 "bad\.json: longer than" "${plan[@]}" --machine bad.json
    sed 's/"memory_gib": 8/"memory_gib": 0.01/' m.json >bad.json
    refuse 1 "a rank needs .* and may use" "${plan[@]}" --machine bad.json
    refuse 1 "a rank needs .* and may use 2\.6 MiB: use more ranks" "${plan[@]}" --machine bad.json --ranks 8
}

described
computed
refused
finish
