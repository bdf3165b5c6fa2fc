#!/bin/sh
# Measures detection: from a fault of an origin to the first answer without it, for `fall` 1, 2 and 3, against the formula of docs/health.md. Real
# connections and questions on loopback, two to three minutes. Usage: scripts/detection.sh [SAMPLES OF EACH KIND]; MERIDIAN=PROGRAM runs that one.
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh python3 openssl
exec python3 scripts/health/detection.py "$@"
