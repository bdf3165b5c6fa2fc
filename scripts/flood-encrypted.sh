#!/bin/sh
# UDP while others flood TLS, HTTPS and QUIC (docs/performance.md): scripts/flood-encrypted.sh [SECONDS]
# Installs what is missing (openssl, procps, util-linux). Core 0 serves with one worker; core 1 asks over UDP, 5,000 times a second, and floods at the lowest
# priority. Before each flood the same is measured without it. Everything stays on loopback and ends by itself. SECONDS is how long each measurement takes (5).
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh openssl procps util-linux >/dev/null
seconds="${1:-5}"
# shellcheck source=scripts/encrypted-common.sh
. scripts/encrypted-common.sh
# Room for the idle ones on TLS; else what holds when nothing is said.
{
    printf '[server]\nlisten = ["127.0.0.1:5301"]\nthreads = 1\n[admin]\nenabled = false\n'
    table quic 127.0.0.1:5304
    table https 127.0.0.1:5303
    table tls 127.0.0.1:5302
    printf 'connections = 12000\nconnections_per_client = 12000\nidle = "5m"\n'
} >"$work/meridian.toml"
start meridian "$meridian" run
server=$started_last
await 10 grep -q "serving DNS" "$work/meridian.log"
udp() { taskset -c 1 "$tool" --bench --seconds "$seconds" udp 127.0.0.1:5301; }
memory() { awk '/^Pss:/ { printf "%.0f", $2 / 1024 }' "/proc/$server/smaps_rollup"; }
# Asked, answered, mean, median, 99 % and 99.9 % in microseconds: without the flood, and with it.
row() { # WHAT KIND PORT [CONNECTIONS]
    quiet=$(udp)
    taskset -c 1 nice -n 19 "$tool" --bench --seconds $((seconds + 2)) --connections "${4:-10}" "$2" "127.0.0.1:$3" >"$work/ready" 2>"$work/did" &
    flood=$!
    started="$started $flood"
    case "$2" in
    half-open | idle) await 120 test -s "$work/ready" ;;
    *) sleep 1 ;;
    esac
    busy=$(udp)
    held=$(memory)
    wait "$flood" || echo "the flood failed" >&2
    did=$(cat "$work/ready" "$work/did" | grep -v '^ready$' | tail -n 1)
    echo "$quiet $busy" | awk -v what="$1" -v did="$did" -v held="$held" '{
        printf "| %s: %s | %.2f %%, %.2f %% | %d, %d | %.2f | %d, %d | %.2f | %d MB |\n",
            what, did, 100 * $2 / $1, 100 * $8 / $7, $4, $10, $10 / $4, $5, $11, $11 / $5, held }'
}
echo "| flood, ${seconds} s | answered without, with | median without, with, µs | ratio | 99 % without, with, µs | ratio | memory then |"
echo "|---|---|---|---|---|---|---|"
row "nobody" slow 5302 0
row "TLS: handshakes, eight at a time" handshakes 5302
row "TLS: noise instead of queries" malformed 5302
row "HTTPS: requests reset at once" resets 5303
row "HTTPS: bodies that are none" bodies 5303
row "QUIC: half-open, from 200 addresses" half-open 5304
row "QUIC: streams reset at once" streams 5304
# Last, for memory that they have had stays with the allocator.
row "TLS: handshakes that never end" slow 5302 5000
row "TLS: idle connections" idle 5302 10000
if ! kill -0 "$server" || grep -i panic "$work/meridian.log"; then
    cat "$work/meridian.log" >&2
    exit 1
fi
echo "Memory at the end: $(memory) MB"
