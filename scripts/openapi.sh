#!/bin/sh
# Puts the interface to the test with schemathesis (PyPI, in a folder that is thrown away): it makes requests from the served OpenAPI document and looks
# whether the replies are what it says. The same requests each time, about a minute; scripts/test.sh runs it.
# Needs python3 with venv. Usage: scripts/openapi.sh [EXAMPLES]
set -eu
cd "$(dirname "$0")/.."
command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || scripts/install.sh python3-venv
cargo build --locked --quiet
binary=${CARGO_TARGET_DIR:-target}/debug/meridian
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet schemathesis==4.32.5
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
[policy.split]
policy = "weighted"
to = { fra = 3, iad = 1 }
[steer.app]
policy = "failover"
to = ["split", "fra"]
failback = "manual"
X
# An Idempotency-Key is made anew for each request, and one that was used for another is refused with 422 (draft-ietf-httpapi-idempotency-key-header,
# §2.7). No schema can say "not the same as before", so good ones are made different here; bad ones stay as they are.
cat >"$dir/hooks.py" <<'X'
import itertools
import schemathesis

fresh = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    if (case.headers or {}).get("Idempotency-Key") is not None and case.meta is not None and case.meta.generation.mode.is_positive:
        case.headers["Idempotency-Key"] = str(next(fresh))
X
# All checks are on. What counts as an answer to a well-formed request, beside schemathesis' own list:
#   412  the tag in If-Match is not the present one (RFC 9110 §15.5.13): which one that is, no schema can say.
#   422  where what a value means hangs on what is loaded, or on another parameter (RFC 9110 §15.5.21: well-formed, but not to be processed):
#        audit: since after until; explain: labels of at most 63 octets, prefixes without bits behind their length; revert: break_glass needs a reason, and parameters of a query
#        cannot be tied to each other; overlays and TTLs: settings that a target does not have, TTLs above the file's, times that are over;
#        promote: a state has no form in the files. On all other calls 422 to what the document allows is a finding.
accepted='"2xx", "3xx", 401, 403, 404, 409, 412, 429, "5xx"'
printf '[checks.positive_data_acceptance]\nexpected-statuses = [%s]\n' "$accepted" >"$dir/schemathesis.toml"
for call in 'GET /v1/audit' 'GET /v1/explain' 'DELETE /v1/overlays/{id}' 'POST /v1/overlays' 'PATCH /v1/overlays/{id}' 'POST /v1/overlays/{id}/promote' \
  'PATCH /v1/zones/{zone}/names/{name}' 'PATCH /v1/zones/{zone}/records/{name}/{type}'; do
  printf '[[operations]]\ninclude-name = "%s"\n[operations.checks.positive_data_acceptance]\nexpected-statuses = [%s, 422]\n' "$call" "$accepted"
done >>"$dir/schemathesis.toml"
"$binary" run --config "$dir/meridian.toml" 2>"$dir/log" &
server=$!
for _ in $(seq 100); do
  [ -s "$dir/state/admin.token" ] && grep -q serving "$dir/log" && break
  sleep 0.1
done
# /v1/events has no end. What the tool keeps goes where the rest goes.
cd "$dir"
SCHEMATHESIS_HOOKS="$dir/hooks.py" "$dir/venv/bin/schemathesis" --config-file "$dir/schemathesis.toml" run http://127.0.0.1:5396/v1/openapi.json \
  -H "Authorization: Bearer $(cat "$dir/state/admin.token")" --max-examples "${1:-20}" --generation-deterministic \
  --exclude-path /v1/events --request-timeout 10 --workers 1 --no-color
