#!/usr/bin/env bash
# Measures examples/http_raw, a small HTTP/1.1 server on this library's engines, beside uvloop and asyncio with httptools and
# Go's net/http, under wrk with one thread: one server after the other and again from the start (A B C D A B C D), each started
# anew on a free port of loopback and ended after its run. At the end: a table in Markdown of medians, least and most.
#
#   benches/http.sh [DIRECTORY]         default: target/http
#
#   ROUNDS=5                            runs of each server in each cell
#   SECONDS_EACH=2                      how long a run lasts, in whole seconds; longer where SLOWEST asks for it
#   SLOWEST=400                         at so many MB/s, each connection still gets an answer before a run ends
#   CONNS='1 100 1000'                  connections
#   BODIES='100 32768 1048576 8760000'  bytes of an answer's body
#   SERVERS='http_raw uvloop asyncio go'
#   BIN=target/release/examples         where http_raw lies
#   PYTHON=python3                      the interpreter of the servers in Python
#
# Nothing is installed: what is missing is left out with a sentence that says how to get it.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-target/http} rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-2} slowest=${SLOWEST:-400}
conns=${CONNS:-1 100 1000} bodies=${BODIES:-100 32768 1048576 8760000} servers=${SERVERS:-http_raw uvloop asyncio go}
bin=${BIN:-target/release/examples} python=${PYTHON:-python3}
rows=$out/http.csv failures=0 pid='' client='' port='' length=''
ulimit -n "$(ulimit -Hn)"

say() { printf '%s\n' "$*" >&2; }

# Ends what was started, and only that.
stop() {
    local started
    for started in $client $pid; do
        kill "$started" 2> /dev/null || true
        wait "$started" 2> /dev/null || true
    done
    client='' pid=''
}
trap stop EXIT
trap 'exit 130' INT TERM

# Whether a process listens on a TCP port, as the kernel writes it.
listening() { grep -qE ": [0-9A-F]+:$(printf %04X "$1") [0-9A-F]+:0000 0A" /proc/net/tcp /proc/net/tcp6; }

# A port below those that the kernel deals out by itself; never the last one, whose connections may still be in TIME_WAIT.
find_port() {
    local last=$port
    while [[ $port == "$last" ]] || listening "$port"; do port=$((20000 + RANDOM % 12000)); done
}

# What a server needs and has not, with how to get it; nothing if all is there.
missing() {
    case $1 in
        http_raw) [[ -x $bin/http_raw ]] || echo "$bin/http_raw is not built: cargo build --release --example http_raw" ;;
        uvloop) "$python" -c 'import uvloop, httptools' 2> /dev/null || echo "a package is missing: pip install uvloop httptools" ;;
        asyncio) "$python" -c 'import httptools' 2> /dev/null || echo "a package is missing: pip install httptools" ;;
        go) command -v go > /dev/null || echo "Go is not installed: apt-get install golang-go" ;;
        *) echo "there is no such server: choose among http_raw, uvloop, asyncio and go" ;;
    esac
}

# start SERVER: on a port of its own, until it listens.
start() {
    find_port
    case $1 in
        http_raw) "$bin/http_raw" "127.0.0.1:$port" >> "$out/log.txt" 2>&1 & ;;
        uvloop | asyncio) "$python" benches/http/hello.py "$1" "$port" >> "$out/log.txt" 2>&1 & ;;
        go) "$out/hello" "$port" >> "$out/log.txt" 2>&1 & ;;
    esac
    pid=$!
    for _ in {1..1000}; do
        if listening "$port"; then return; fi
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.01
    done
    say "$1 does not listen; see $out/log.txt"
    return 1
}

# Ticks of processor time that the server has used; its name may have spaces.
ticks() { sed 's/.*) //' "/proc/$pid/stat" | awk '{ print $12 + $13 }'; }

# load CONNECTIONS BODY SECONDS: wrk in the background, so that a signal is obeyed at once; leaves its row in a file.
load() {
    wrk -t1 -c"$1" -d"$3s" --timeout 30s -s benches/http/report.lua "http://127.0.0.1:$port/$2" > "$out/wrk.txt" 2>&1 &
    client=$!
    wait "$client"
    client=''
}

# measure ROUND BODY CONNECTIONS SERVER: one run, one row.
measure() {
    local round=$1 body=$2 connections=$3 server=$4 lasts before after row
    lasts=$((body * connections / (slowest * 1000000) + 1))
    if ((lasts < seconds)); then lasts=$seconds; fi
    if ! { start "$server" && length=$("$python" benches/http/check.py "$port" "$body" 2>> "$out/log.txt") &&
        before=$(ticks) && load "$connections" "$body" "$lasts" && after=$(ticks) &&
        row=$(grep '^row,' "$out/wrk.txt"); }; then
        failures=$((failures + 1))
        say "FAILED in round $round: $server, $body B, $connections connections: $(tail -qn 1 "$out/log.txt")"
    else
        printf '%s,' "$round" "$body" "$connections" "$server" "$length" "$(((after - before) * 1000000 / hertz))" \
            "$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status")" >> "$rows"
        echo "${row#row,}" >> "$rows"
    fi
    stop
}

command -v wrk > /dev/null || { say "wrk is not installed: apt-get install wrk"; exit 1; }
command -v "$python" > /dev/null || { say "$python is not installed: apt-get install python3"; exit 1; }
for word in "$rounds" "$seconds" "$slowest"; do
    [[ $word =~ ^[1-9][0-9]*$ ]] || { say "ROUNDS, SECONDS_EACH and SLOWEST are whole numbers from 1 on: $word"; exit 1; }
done
mkdir -p "$out"
: > "$out/log.txt"
hertz=$(getconf CLK_TCK)
present=()
for server in $servers; do
    why=$(missing "$server")
    if [[ -z $why ]]; then present+=("$server"); else say "$server is left out: $why"; fi
done
[[ ${#present[@]} -gt 0 ]] || { say "no server is there to be measured"; exit 1; }
if [[ " ${present[*]} " == *" go "* ]]; then go build -o "$out/hello" benches/http/hello.go; fi

{
    printf round,body,connections,server,length,cpu_us,peak_kib,
    echo window_us,requests,bytes,p50_us,p99_us,connect,read,write,timeout,status
} > "$rows"
for body in $bodies; do
    for connections in $conns; do
        say "$body B, $connections connections .."
        for ((round = 1; round <= rounds; round++)); do
            for server in "${present[@]}"; do measure "$round" "$body" "$connections" "$server"; done
        done
    done
done

"$python" benches/http/table.py "$rows" | tee "$out/http.md"
if ((failures)); then say "$failures runs failed; see $out/log.txt"; exit 1; fi
