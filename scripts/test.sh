#!/bin/sh
# Installs what the tests need (Debian packages, when missing) and runs everything: format, lints, unit, property, integration and doc tests.
# Needs: Rust (rust-toolchain.toml says which) and apt. `scripts/test.sh NAME` runs only the tests whose names contain NAME.
set -eu
cd "$(dirname "$0")/.."

# cc and libc: SQLite and ring are compiled in. dig, kdig, named-checkzone: clients and checkers nobody here wrote. tor-geoipdb: real address
# ranges. mmdb-bin: reads the databases we build. curl, python3: the README's own commands. procps: kill. unbound: a resolver in front of us;
# iproute2, util-linux: the network of its own that it runs in. nsd, knot, bind9: what our answers are compared with; tests start them on loopback.
packages="gcc libc6-dev ca-certificates bind9-dnsutils bind9-utils knot-dnsutils tor-geoipdb mmdb-bin curl python3 procps unbound iproute2 util-linux nsd knot bind9"

missing=
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  echo "installing:$missing"
  as_root=
  [ "$(id -u)" = 0 ] || as_root=sudo
  $as_root apt-get update -qq
  # Debian starts the servers that it installs, unless a policy says no.
  policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] && policy=
  [ -z "$policy" ] || { printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod +x "$policy"; }
  # shellcheck disable=SC2086 # a list of words on purpose
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null || failed=1
  [ -z "$policy" ] || $as_root rm -f "$policy"
  [ -z "${failed:-}" ] || exit 1
fi

if [ $# -gt 0 ]; then
  exec cargo test --locked -- "$@"
fi

echo "== format"
cargo fmt --check
echo "== lints"
cargo clippy --locked --all-targets --quiet -- -D warnings
echo "== tests"
cargo test --locked --quiet
echo "== documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet
echo "all passed"
