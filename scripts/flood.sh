#!/bin/sh
# The flood of docs/rate-limiting.md in full: ten times the capacity of a server that is held to a share of one processor, 10,000 slow TCP connections,
# a polite client in between; without limits first, then with them. Needs root (a control group; it goes on without) and some 20,000 open files.
# Usage: scripts/flood.sh [SECONDS]
set -eu
cd "$(dirname "$0")/.."
ulimit -n 20000 2>/dev/null || echo "only $(ulimit -n) open files: fewer connections will stand" >&2
MERIDIAN_FLOOD_SECONDS="${1:-20}" exec cargo test --locked --test all -- --exact flood::a_polite_client_is_answered_during_a_flood --nocapture
