#!/bin/sh
# Many maps, many names, many flips: loads a City-size database made up on the spot, 200 geo policies and 10,000 steered names, and asks under
# load with and without health flips, reloads and a change of database (docs/performance.md). Loopback only, some ten minutes, 2 GB of memory.
#
#   scripts/stalls.sh                 everything
#   PAIRS=7 SECONDS_EACH=8 RATE=60000 scripts/stalls.sh
#
# RATE is in queries per second, 0 for as many as are answered. The server runs on core 0, the questions come from core 1.
set -eu
cd "$(dirname "$0")/.."
command -v taskset >/dev/null || apt-get install -y util-linux
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cargo bench --bench scale --no-run
scale() { cargo bench -q --bench scale -- "$@"; }
scale geo "$dir/city.mmdb"
scale geo "$dir/other.mmdb" 60
scale zones "$dir" 100 1000 0
scale measure "$dir"
timeout 900 cargo bench -q --bench scale -- stalls "$dir" 100 "${PAIRS:-5}" "${SECONDS_EACH:-5}" "${RATE:-50000}"
