#!/bin/sh
# Puts random zones and questions to Meridian, NSD, Knot DNS and BIND on loopback and prints where Meridian stands alone (docs/conformance.md).
# `scripts/differential.sh [PAIRS] [SEED]`: pairs of zone and question (20000), and the seed that they follow from (1). Fails when a difference from the
# majority is not explained. `EXAMPLES=1` shows examples of the explained ones too. Needs what `scripts/test.sh` installs.
set -eu
cd "$(dirname "$0")/.."
export DIFFERENTIAL_PAIRS="${1:-20000}" DIFFERENTIAL_SEED="${2:-1}"
[ -z "${EXAMPLES:-}" ] || export DIFFERENTIAL_EXAMPLES=1
exec cargo test --locked --test all -- differential_ --nocapture --test-threads 1
