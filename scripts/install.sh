#!/bin/sh
# Installs the named Debian packages that are missing, without starting the servers among them.
set -eu
missing=
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "installing:$missing" >&2
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update -qq
# Debian starts the servers that it installs, unless a policy says no.
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] && policy=
[ -z "$policy" ] || { printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod +x "$policy"; }
failed=
# shellcheck disable=SC2086 # a list of words on purpose
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null || failed=1
[ -z "$policy" ] || $as_root rm -f "$policy"
[ -z "$failed" ]
