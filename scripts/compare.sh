#!/bin/sh
# Runs Meridian beside other servers on this machine and prints tables (docs/performance.md): `scripts/compare.sh [OPTIONS]`; `--help` lists them.
# Installs what is missing (gdnsd, Knot DNS, NSD, PowerDNS, BIND, dnsperf, kxdpgun; address ranges of tor-geoipdb); Debian's own services of them are not started.
# COMPARE_INSTALL=0 leaves out what is not there. Core 0 serves, core 1 asks; everything stays on loopback and ends by itself.
set -eu
cd "$(dirname "$0")/.."
[ "${COMPARE_INSTALL:-1}" = 0 ] || scripts/install.sh gdnsd knot knot-module-geoip nsd pdns-server pdns-backend-bind pdns-backend-geoip bind9 dnsperf tor-geoipdb util-linux iproute2 knot-dnsutils
binary=$(cargo bench --locked --bench compare --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*compare-[^"]*\)".*/\1/p' | tail -n 1)
asking_core=$(($(nproc) > 1 ? 1 : 0))
exec taskset -c "$asking_core" "$binary" run "$@"
