#!/bin/sh
# Installs what the tests need (Debian packages, when missing) and runs everything: format, lints, unit, property, integration and doc tests.
# Needs: Rust (rust-toolchain.toml says which) and apt. `scripts/test.sh NAME` runs only the tests whose names contain NAME.
set -eu
cd "$(dirname "$0")/.."

# cc and libc: SQLite and ring are compiled in. dig, kdig, named-checkzone: clients and checkers nobody here wrote. tor-geoipdb: real address
# ranges. mmdb-bin: reads the databases we build. curl, python3: the README's own commands. procps: kill. unbound: a resolver in front of us;
# iproute2, util-linux: the network of its own that it runs in. nsd, knot, bind9: what our answers are compared with; tests start them on loopback.
# valgrind: counts the instructions of an answer. hping3: handshakes from forged addresses, in that network. dnstap-ldns: reads the query log, as dnstap-read of bind9-dnsutils does.
# python3-venv: schemathesis, for the interface. nginx, nftables: origins that are checked, and what befalls them. libfaketime: clocks that jump.
# prometheus: what monitors ask; a test starts it on loopback. dnsperf: a client over TLS and HTTPS.
packages="gcc libc6-dev ca-certificates bind9-dnsutils bind9-utils knot-dnsutils tor-geoipdb mmdb-bin curl python3 procps unbound iproute2 util-linux nsd knot bind9 valgrind hping3 dnstap-ldns python3-venv nginx nftables libfaketime prometheus dnsperf"

# shellcheck disable=SC2086 # a list of words on purpose
scripts/install.sh $packages

if [ $# -gt 0 ]; then
  exec cargo test --locked -- "$@"
fi

echo "== format"
cargo fmt --check
echo "== lints"
cargo clippy --locked --all-targets --quiet -- -D warnings
# What other systems build: the same lints with their socket calls. Only the library is looked at again; no dependency is.
echo "== portable socket calls"
cargo clippy --locked --lib --quiet -- -D warnings --cfg meridian_portable
echo "== tests"
cargo test --locked --quiet
echo "== interface"
scripts/openapi.sh
echo "== instructions per answer"
cargo bench --locked --quiet --bench instructions
echo "== documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet
echo "all passed"
