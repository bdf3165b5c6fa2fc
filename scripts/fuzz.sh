#!/bin/bash
# Fuzzes: scripts/fuzz.sh [TARGET] [MINUTES]
#
# TARGET is one of fuzz/targets/ (all of them, one after another, when it is left out or `all`), MINUTES the CPU minutes (user time of the fuzzer,
# default 1) that each gets. `scripts/fuzz.sh totals` prints the sums over all runs so far.
#
# Needs: Rust (rust-toolchain.toml says which), a C++ compiler, bash, awk. Installs cargo-fuzz. The stable toolchain does: RUSTC_BOOTSTRAP lets it take
# the instrumentation flags. Without address sanitizer: what is fuzzed here is safe Rust.
#
# Everything made here is in fuzz/run (FUZZ_DIR), which git ignores: corpus/TARGET grows from run to run, crashes/TARGET holds inputs that break
# something, logs/TARGET the last output, ledger.tsv a line per run. FUZZ_BUILD=0 runs what was built before.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${FUZZ_DIR:-$root/fuzz/run}
ledger=$dir/ledger.tsv
targets="mmdb geo_csv master_file zone_toml request answer oracle"

# One run of the fuzzer: wall-clock seconds; memory that a body may fill; seconds (of the clock: the machine may be busy) after which an input hangs.
slice_s=300
min_slice_s=20
rss_mb=2048
hang_s=60
# So many crashes in one call, and the target is left alone: the same one is found over and over.
max_crashes=3

totals() {
  echo "target       CPU min     executions   exec/CPU s   edges  features  corpus  crashes"
  awk -F'\t' '{ cpu[$2] += $3; runs[$2] += $4; edges[$2] = $5 > edges[$2] ? $5 : edges[$2]; features[$2] = $6 > features[$2] ? $6 : features[$2]
      corpus[$2] = $7; crashes[$2] += $8 }
    END { for (t in cpu) printf "%-11s %8.1f %14d %12d %7d %9d %7d %8d\n", t, cpu[t] / 60, runs[t], runs[t] / (cpu[t] + 0.001), edges[t], features[t], corpus[t], crashes[t] }' "$ledger" | sort
}

build() {
  if ! command -v cargo-fuzz >/dev/null; then
    echo "installing cargo-fuzz"
    cargo install --locked --quiet cargo-fuzz
  fi
  (cd "$root" && RUSTC_BOOTSTRAP=1 cargo fuzz build --sanitizer none --target-dir "${FUZZ_TARGET_DIR:-$root/fuzz/target}")
  mkdir -p "$dir/bin"
  for target in $targets; do
    # Beside its name first: the file may be running.
    cp "${FUZZ_TARGET_DIR:-$root/fuzz/target}/x86_64-unknown-linux-gnu/release/$target" "$dir/bin/.$target"
    mv "$dir/bin/.$target" "$dir/bin/$target"
  done
}

# The last number behind a word of the fuzzer's output; 0 when there is none.
last() { grep -a -o -E "(^| )$1 +[0-9]+" "$2" | tail -n 1 | grep -o '[0-9]*$' || echo 0; }

fuzz() {
  local target=$1 budget_s=$(($2 * 60)) spent=0 found=0
  local corpus=$dir/corpus/$target crashes=$dir/crashes/$target log=$dir/logs/$target
  mkdir -p "$corpus" "$crashes" "$dir/logs"
  local max_len
  max_len=$(MERIDIAN_FUZZ_SEEDS=$corpus "$dir/bin/$target" 2>/dev/null)
  local dict=()
  [ ! -s "$corpus.dict" ] || dict=(-dict="$corpus.dict")
  while [ "$spent" -lt "$budget_s" ] && [ "$found" -lt $max_crashes ]; do
    # Wall-clock time is more than CPU time where others work, too: short rests are rounded up.
    local left=$((budget_s - spent)) user crashed=0 TIMEFORMAT=%U
    local seconds=$((left < min_slice_s ? min_slice_s : left < slice_s ? left : slice_s))
    { time nice -n 19 "$dir/bin/$target" -max_total_time=$seconds -max_len="$max_len" -timeout=$hang_s -rss_limit_mb=$rss_mb \
      -print_final_stats=1 -artifact_prefix="$crashes/" "${dict[@]}" "$corpus" >"$log" 2>&1 || crashed=1; } 2>"$log.user"
    user=$(tail -n 1 "$log.user")
    rm "$log.user"
    spent=$((spent + ${user%.*} + 1))
    found=$((found + crashed))
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$(date -u +%FT%TZ)" "$target" "$user" "$(last stat::number_of_executed_units: "$log")" "$(last cov: "$log")" \
      "$(last ft: "$log")" "$(find "$corpus" -type f | wc -l)" "$crashed" "$(git -C "$root" rev-parse --short HEAD)" >>"$ledger"
    if [ $crashed = 1 ]; then
      grep -a -E 'panicked at|^slow|SUMMARY|ERROR: libFuzzer|Test unit written' -A 1 "$log" | head -n 12
    fi
  done
  echo "$target: $spent CPU s, $found crashes, edges $(last cov: "$log")"
}

case ${1:-all} in
  totals) totals; exit ;;
  all) chosen=$targets ;;
  *) chosen=$1 ;;
esac
[ "${FUZZ_BUILD:-1}" = 0 ] || build
failed=0
for target in $chosen; do
  result=$(fuzz "$target" "${2:-1}")
  echo "$result"
  case $result in *" 0 crashes"*) ;; *) failed=1 ;; esac
done
totals
exit $failed
