#!/bin/sh
# Measures checks at scale: many real endpoints over tcp, http and https, the program on one core, nginx on the other; processor, memory, descriptors, and
# how late checks begin. In a network namespace of its own; a minute and a half for each line. Usage:
#   scripts/scale-health.sh [SECONDS KIND:COUNT[:dead]…]      a third of the endpoints is a black hole with `dead`
#   MERIDIAN=PROGRAM scripts/scale-health.sh 30 tcp:10000
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh nginx nftables iproute2 util-linux python3 openssl
[ $# -gt 0 ] || set -- 30 tcp:10000 http:10000 https:10000 tcp:10000:dead tcp:20000 http:20000 https:20000 tcp:50000 http:50000 https:50000
if [ -z "${MERIDIAN:-}" ]; then
  cargo build --release --locked --quiet
  MERIDIAN=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release/meridian
fi
export MERIDIAN
exec unshare --map-root-user --net python3 scripts/health/scale.py "$@"
