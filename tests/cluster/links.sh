#!/usr/bin/env bash
# Links go down and up, get slow, late and lossy, as much as asked for.
source "$(dirname "$0")/lib.sh"
skip_unless_possible

round_trip_us() { # FROM TO: the least of 5, in whole microseconds
    cluster run "$1" ping -c 5 -i 0.05 -q "$2" | sed -En 's|^rtt .* = ([0-9]+)\.([0-9]{3})/.*|\1\2|p' | sed 's/^0*//'
}

# transfer_ms FROM TO BYTES: time for a stream of bytes over TCP, until the last has arrived.
transfer_ms() {
    local listener='use IO::Socket::INET; $| = 1;
        my $s = IO::Socket::INET->new(Listen => 1, LocalPort => 5000, ReuseAddr => 1) or die; print "ready\n";
        my $c = $s->accept; my $b; 1 while sysread $c, $b, 1 << 20;'
    local begin
    rm -f listening
    cluster run "$2" perl -e "$listener" >listening &
    until [[ -s listening ]]; do sleep 0.01; done
    begin=$(date +%s%N)
    cluster run "$1" bash -c 'head -c "$2" /dev/zero >"/dev/tcp/$1/5000"' - "$2" "$3"
    wait $!
    echo $((($(date +%s%N) - begin) / 1000000))
}

between() { # WHAT GOT LEAST MOST
    [[ $2 =~ ^[0-9]+$ && $2 -ge $3 && $2 -le $4 ]] || complain "$1: got '$2', want $3..$4"
}

cut_and_mend() {
    cluster cut h1
    reaches h0 h1 && complain "a cut host answers"
    reaches h0 h2 || complain "a cut link takes others along"
    status_shows '^h1 .*link cut'
    cluster mend h1
    reaches h0 h1 || complain "a mended host does not answer"
}

# 10 MB at 100 Mbit/s take 800 ms, 10 less for the burst that a bucket lets through at once; up to 2 s when others want the
# processors.
limits() {
    local bytes=10000000
    between "unlimited transfer, ms" "$(transfer_ms h0 h1 $bytes)" 0 600
    cluster limit h1 100mbit
    between "transfer to a limited host, ms" "$(transfer_ms h0 h1 $bytes)" 780 2000
    between "transfer from a limited host, ms" "$(transfer_ms h1 h0 $bytes)" 780 2000
    between "transfer between others, ms" "$(transfer_ms h0 h2 $bytes)" 0 600
    cluster limit h1 none
    between "transfer after the limit, ms" "$(transfer_ms h0 h1 $bytes)" 0 600
}

# A round trip is two delays and at most a few ms of scheduling.
delays() {
    local bytes=50000000
    cluster delay 10000
    between "round trip, us" "$(round_trip_us h0 h1)" 20000 25000
    cluster delay 1000 0 1gbit
    between "round trip, us" "$(round_trip_us h0 h1)" 2000 5000
    between "transfer through the switch, ms" "$(transfer_ms h0 h1 $bytes)" 395 2000
    cut_and_mend
    cluster kill h2
    cluster boot h2
    between "round trip after a boot, us" "$(round_trip_us h0 h2)" 2000 5000
    status_shows '^h2 .*limit 1gbit'
    cluster nodelay
    between "round trip on the bridge, us" "$(round_trip_us h0 h1)" 1 1500
}

# 400 pings and as many answers, each lost with probability 0.2: 144 +- 8.3 lost... 6 sigma either way.
loses() {
    local answers
    cluster delay 0 20%
    reaches h0 h1 || reaches h0 h1 || reaches h0 h1 # finds the neighbour
    answers=$(cluster run h0 ping -c 400 -i 0.002 -W 1 -q h1 | sed -En 's/.* ([0-9]+) received.*/\1/p')
    between "answers to 400 pings with 20 % loss each way" "$answers" 198 314
    cluster nodelay
    refuse 2 "bad loss" delay 0 100
    refuse 1 "no program /none" --switch /none delay 1
    refuse 1 "no switch: .*h1|no switch" --switch /bin/false delay 1
}

cluster up 3 || { complain "up failed"; finish; }
cut_and_mend
limits
delays
loses
expect_clean_down
finish
