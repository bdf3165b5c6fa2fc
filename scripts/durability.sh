#!/bin/sh
# Kills a server with 32 writers at work (500 changes and reverts a round) at random moments, and looks whether everything acknowledged is there.
# Usage: scripts/durability.sh [ROUNDS]
set -eu
cd "$(dirname "$0")/.."
MERIDIAN_DURABILITY_ROUNDS="${1:-100}" exec cargo test --locked --test all -- --exact durability::acknowledged_changes_survive_kills_at_random_moments --nocapture
