#!/bin/sh
# Puts the interface to the test with schemathesis (PyPI, in a folder that is thrown away): it makes requests from the served OpenAPI document and looks
# whether the replies are what it says. Needs python3 with venv. Usage: scripts/openapi.sh [EXAMPLES]
set -eu
cd "$(dirname "$0")/.."
command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || scripts/install.sh python3-venv
cargo build --locked --quiet
binary=$PWD/target/debug/meridian
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet schemathesis
mkdir "$dir/zones"
cat >"$dir/meridian.toml" <<'X'
[server]
listen = ["127.0.0.1:5395"]
[admin]
listen = "127.0.0.1:5396"
requests_per_second = 0
X
cat >"$dir/zones/example.com.toml" <<'X'
[zone]
name = "example.com"
ns = ["ns1"]
[records]
ns1.A = "192.0.2.53"
[region]
eu = {}
[pool.fra]
region = "eu"
endpoints = ["192.0.2.10", "192.0.2.11"]
[pool.iad]
endpoints = ["198.51.100.10"]
[steer.app]
policy = "weighted"
to = { fra = 3, iad = 1 }
X
"$binary" run --config "$dir/meridian.toml" 2>"$dir/log" &
server=$!
for _ in $(seq 100); do
  [ -s "$dir/state/admin.token" ] && grep -q serving "$dir/log" && break
  sleep 0.1
done
# /v1/events has no end.
"$dir/venv/bin/schemathesis" run http://127.0.0.1:5396/v1/openapi.json -H "Authorization: Bearer $(cat "$dir/state/admin.token")" \
  --max-examples "${1:-40}" --exclude-path /v1/events --request-timeout 10 --workers 1
