#!/usr/bin/env bash
# Measures our server beside nats-server, redis-server, mosquitto, memcached, coap-server and the baseline (`lab baseline`):
# every workload of `lab load`, one server after the other and again from the start (A B A B), each started anew on a free port of
# loopback and ended after its run. What is lost anywhere is a failure. At the end: tables (Markdown, CSV) and plots (SVG).
#
#   benches/peers.sh [DIRECTORY]        default: target/peers
#
#   QUICK=1            one round of half a second, few workloads: about a minute
#   ROUNDS=5           runs of each server in each workload
#   SECONDS_EACH=2     how long a run sends
#   GROWTH=1           also from 1 to 10,000 connections, and rooms of 10 to 10,000
#   ONLY='route|ping'  only workloads whose words match
#   PEERS='nats redis' only these beside ours
#   SERVER_OPTIONS=..  what our server is started with, such as '--engine tasks'
#   BIN=target/release where our programs lie; built if they are not there
#   INSTALL=0          do not install what is missing
#
# Peers that are missing are installed by apt if this runs as root; what cannot be is left out with a sentence.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-target/peers} quick=${QUICK:-0}
rounds=${ROUNDS:-$((quick ? 1 : 5))} seconds=${SECONDS_EACH:-$([[ $quick == 1 ]] && echo 0.5 || echo 2)}
only=${ONLY:-.} growth=${GROWTH:-0} options=${SERVER_OPTIONS:-} bin=${BIN:-target/release}
[[ -x $bin/lab && -x $bin/server ]] || cargo build --release --locked --features lab --bins
lab=$bin/lab rows=$out/peers.csv failures=0 pid='' port=''
mkdir -p "$out"
: > "$rows" > "$out/log.txt"
ulimit -n "$(ulimit -Hn)"

say() { printf '%s\n' "$*" >&2; }

# Ends what was started, and only that.
stop() {
    # How it takes that is its own affair: nats-server calls it an error.
    if [[ -n $pid ]]; then kill "$pid" 2> /dev/null || true; wait "$pid" 2> /dev/null || true; fi
    pid=''
}
trap stop EXIT
trap 'exit 130' INT TERM

# Whether a process listens on a port, over TCP (0A) or UDP (07), as the kernel writes it.
listening() {
    grep -qE ": [0-9A-F]+:$(printf %04X "$1") [0-9A-F]+:0000 0[A7]" /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6
}

# A port below those that the kernel deals out by itself.
find_port() {
    port=$((20000 + RANDOM % 12000))
    while listening "$port"; do port=$((20000 + RANDOM % 12000)); done
}

# The program of a peer, or nothing.
program() {
    case $1 in
        nats) command -v nats-server ;;
        redis) command -v redis-server ;;
        mqtt) PATH=$PATH:/usr/sbin command -v mosquitto ;;
        memcached*) command -v memcached ;;
        # Without DTLS, which is not measured.
        coap) command -v coap-server-notls || command -v coap-server ;;
        baseline) echo "$lab" ;;
    esac
}

package() {
    case $1 in nats | redis) echo "$1-server" ;; mqtt) echo mosquitto ;; memcached*) echo memcached ;; coap) echo libcoap3-bin ;; esac
}

# Whether a peer is there, after an attempt to install it.
have() {
    program "$1" > /dev/null && return
    [[ $EUID == 0 && ${INSTALL:-1} == 1 ]] || return 1
    # In run level 1, a package does not start its own service.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "$(package "$1")" \
        >> "$out/log.txt" 2>&1 && program "$1" > /dev/null
}

# Starts a peer, as peers are set in their own benchmarks: nothing on disk, no limit that a run could meet, no log.
start() {
    local peer=$1 pattern=$2 path words
    path=$(program "$peer")
    find_port
    case $peer in
        nats) words=(-a 127.0.0.1 -p "$port") ;;
        redis) words=(--bind 127.0.0.1 --port "$port" --save '' --appendonly no --tcp-backlog 4096 --maxclients 30000
            --client-output-buffer-limit 'pubsub 0 0 0') ;;
        mqtt) printf '%s\n' "listener $port 127.0.0.1" 'allow_anonymous true' 'max_queued_messages 0' 'max_queued_bytes 0' \
            'max_inflight_messages 0' 'log_type none' 'persistence false' 'set_tcp_nodelay true' > "$out/mosquitto.conf"
            words=(-c "$out/mosquitto.conf") ;;
        memcached*) words=(-l 127.0.0.1 -p 0 -U "$port")
            if [[ $EUID == 0 ]]; then words+=(-u nobody); fi
            if [[ $peer == memcached-t1 ]]; then words+=(-t 1); fi ;;
        coap) words=(-A 127.0.0.1 -p "$port") ;;
        baseline) words=(baseline "$pattern" --listen "127.0.0.1:$port") ;;
    esac
    "$path" "${words[@]}" >> "$out/log.txt" 2>&1 &
    pid=$!
    for _ in {1..500}; do
        if listening "$port"; then return; fi
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.01
    done
    say "$peer does not listen; see $out/log.txt"
    return 1
}

# measure ROUND PEER PATTERN WORKLOAD..: one run, one row.
measure() {
    local round=$1 peer=$2 pattern=$3 text row
    shift 3
    local words=(load "$@" --csv)
    if [[ $peer == sayagain ]]; then
        if [[ -n $options ]]; then words+=(--server-options "$options"); fi
    else
        start "$peer" "$pattern" || { failures=$((failures + 1)); stop; return; }
        words+=(--peer "${peer%-t1}" --host "127.0.0.1:$port" --pid "$pid")
    fi
    if ! text=$(timeout 300 "$lab" "${words[@]}" 2>> "$out/log.txt"); then
        failures=$((failures + 1))
        say "FAILED in round $round: $peer, $*: $(tail -n 1 "$out/log.txt")"
    fi
    stop
    [[ -s $rows || -z $text ]] || echo "round,$(head -n 1 <<< "$text")" > "$rows"
    while IFS= read -r row; do
        if [[ $peer == memcached-t1 ]]; then row=${row/,memcached,/,memcached-t1,}; fi
        echo "$round,$row" >> "$rows"
    done < <(tail -n +2 <<< "$text")
}

# Most bytes of one sender under way: 16 MiB of all, for the slowest peer has to deliver them before its run ends, and 256 KiB.
window() {
    local each=$(((16 << 20) / $1))
    echo $((each < 256 << 10 ? each : 256 << 10))
}

# route PAIRS SIZE, and fanout MEMBERS: with the chat servers, as many bytes under way with each of them.
route() { compare "$chat" relay route --pairs "$1" --size "$2" --window "$(window "$1")" --seconds "$seconds"; }
fanout() { compare "$chat" fan fanout --members "$1" --size 64 --window "$(window "$1")" --seconds "$seconds"; }
ping() { compare "$chat" echo ping --clients "$1" --seconds "$seconds"; }
udp() { compare "$asked" echo-udp udp --clients "$1" --seconds "$seconds"; }

# compare 'PEERS' PATTERN WORKLOAD..: all rounds of one workload. PATTERN is what `lab baseline` does then.
compare() {
    local round peer peers=$1 pattern=$2
    shift 2
    [[ "$*" =~ $only ]] || return 0
    say "$* .."
    for ((round = 1; round <= rounds; round++)); do
        for peer in sayagain $peers; do
            if [[ " sayagain $present " == *" $peer "* ]]; then measure "$round" "$peer" "$pattern" "$@"; fi
        done
    done
}

present=''
for peer in ${PEERS:-nats redis mqtt memcached memcached-t1 coap baseline}; do
    if have "$peer"; then present+=" $peer"; else say "$peer is left out: $(package "$peer") is not installed, and cannot be"; fi
done
{
    uname -sr
    nproc | sed 's/$/ cores/'
    for peer in sayagain $present; do
        # Each says its version at one of these, or as it complains.
        case $peer in sayagain) set -- "$bin/server" --version ;; mqtt) set -- "$(program mqtt)" -h ;; memcached-t1) continue ;;
            memcached) set -- "$(program memcached)" -V ;; *) set -- "$(program "$peer")" --version ;; esac
        "$@" 2>&1 | grep -im 1 -E 'v?[0-9]+\.[0-9]+' || true
    done
} > "$out/versions.txt"

chat='nats redis mqtt baseline' asked='baseline memcached memcached-t1 coap'
if [[ $quick == 1 ]]; then
    for size in 16 4096; do route 16 "$size"; done
    fanout 100
    ping 64
    udp 64
    for workload in burst serial idle; do compare "$chat" echo "$workload" 1000; done
else
    for size in 16 256 4096; do for pairs in 1 16 256; do route "$pairs" "$size"; done; done
    fanout 1000
    for clients in 1 64 1000; do ping "$clients"; done
    for clients in 16 64 256; do udp "$clients"; done
    compare "$chat" echo burst 10000
    compare "$chat" echo serial 35565
    compare "$chat" echo idle 10000
fi
if [[ $growth == 1 ]]; then
    for count in 1 10 100 1000 10000; do
        # Of 10,000 at once, coap-server loses some for good: its socket has room for few.
        if ((count == 10000)); then asked=${asked% coap}; fi
        ping "$count"
        udp "$count"
        # A pair is two connections, and the generator needs as many files as the server: 20,000 in all are usual.
        route "$((count > 1000 ? count / 2 : count))" 16
        if ((count >= 10)); then fanout "$count"; fi
    done
fi

[[ -s $rows ]] || { say "nothing was measured"; exit 1; }
"$lab" compare "$rows" --out "$out"
cat "$out/peers-table.md"
if ((failures)); then say "$failures runs failed; see $out/log.txt"; exit 1; fi
