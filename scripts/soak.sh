#!/bin/sh
# A soak: random faults of origins with the injector's own log, overlays, reloads, and a client that never stops asking; then memory, transitions and
# unanswered questions are judged. Exit code 1 on a finding. Loopback only, a few per cent of a processor.
# Usage: scripts/soak.sh [MINUTES [SEED]], an hour without; MERIDIAN=PROGRAM runs that one.
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh python3
exec python3 scripts/health/soak.py "$@"
