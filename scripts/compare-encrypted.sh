#!/bin/sh
# DNS over TLS and HTTPS beside NSD and BIND on this machine, and over QUIC beside Knot (docs/performance.md): scripts/compare-encrypted.sh [SECONDS]
# Installs what is missing (nsd, bind9, knot, dnsperf, nghttp2-client, openssl, python3). Core 0 serves with one worker, core 1 asks; everything stays on
# loopback and in two namespaces of its own, and ends by itself. SECONDS is how long each measurement takes (5). Knot DNS of Debian 12 (3.2) speaks QUIC in its
# XDP workers alone (`xdp: quic`), which need an interface and root, and TLS not at all. UDP beside floods: scripts/flood-encrypted.sh.
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh nsd bind9 knot iproute2 dnsperf nghttp2-client openssl python3 util-linux procps >/dev/null
seconds="${1:-5}"
# shellcheck source=scripts/encrypted-common.sh
. scripts/encrypted-common.sh
servers="meridian-servers-$$"
clients="meridian-clients-$$"
remove_spaces() { for space in "$servers" "$clients"; do ip netns del "$space" 2>/dev/null || true; done; }
at_end=remove_spaces
seq 1 1000 | sed 's/.*/n&.names.test A/' >"$work/queries"

mkdir -p "$work/nsd" "$work/named"
chmod a+rX "$work" "$work/zones"
{
    printf '[server]\nlisten = ["127.0.0.1:5301"]\nthreads = 1\n[admin]\nenabled = false\n'
    table tls 127.0.0.1:5302
    table https 127.0.0.1:5303
} >"$work/meridian.toml"
cat >"$work/nsd.conf" <<END
server:
  ip-address: 127.0.0.1@5311
  ip-address: 127.0.0.1@5312
  tls-port: 5312
  tls-service-key: "$work/tls/dns.key"
  tls-service-pem: "$work/tls/dns.crt"
  server-count: 1
  tcp-count: 2000
  username: ""
  zonesdir: "$work"
  database: ""
  pidfile: "$work/nsd/pid"
  xfrdfile: "$work/nsd/xfrd"
  zonelistfile: "$work/nsd/list"
  xfrdir: "$work/nsd"
remote-control:
  control-enable: no
zone:
  name: names.test
  zonefile: zones/names.test.zone
END
cat >"$work/named.conf" <<END
tls local { cert-file "$work/tls/dns.crt"; key-file "$work/tls/dns.key"; };
http local { endpoints { "/dns-query"; }; };
options {
  directory "$work/named";
  pid-file "$work/named/pid";
  session-keyfile "$work/named/session";
  listen-on port 5321 { 127.0.0.1; };
  listen-on port 5322 tls local { 127.0.0.1; };
  listen-on port 5323 tls local http local { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion no;
  tcp-clients 2000;
};
controls { };
zone "names.test" { type primary; file "$work/zones/names.test.zone"; };
END
start meridian "$meridian" run
start nsd nsd -d -c "$work/nsd.conf"
start named named -f -n 1 -c "$work/named.conf"
speaks_tls() { # PORT [ALPN]
    openssl s_client -connect "127.0.0.1:$1" ${2:+-alpn "$2"} </dev/null
}
for port in 5302 5312 5322; do await 10 speaks_tls "$port"; done
# HTTPS without its ALPN is refused.
for port in 5303 5323; do await 10 speaks_tls "$port" h2; done

rate() { # MODE PORT CLIENTS: answers per second, or what was lost
    taskset -c 1 dnsperf -m "$1" -s 127.0.0.1 -p "$2" -d "$work/queries" -c "$3" -q 100 -l "$seconds" 2>"$work/dnsperf.log" >"$work/dnsperf.out" || true
    awk '/Queries per second/ { rate = $4 } /Queries lost/ { lost = $3 } END { printf "%d%s", rate, (lost > 0 ? " (" lost " lost)" : "") }' "$work/dnsperf.out"
}
# dnsperf looks at one HTTPS reply for each time the socket is readable (have_more is a TODO in its net_doh.c), so it hangs on replies that come together.
python3 - >"$work/uris" <<'END'
import base64, struct
for n in range(1, 1001):
    name = b"".join(bytes([len(label)]) + label for label in (b"n%d" % n, b"names", b"test", b""))
    message = struct.pack(">HHHHHH", 0, 0, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1)
    print("/dns-query?dns=" + base64.urlsafe_b64encode(message).decode().rstrip("="))
END
https() { # PORT CLIENTS IN-FLIGHT-EACH: answers per second, or what failed
    sed "s|^|https://127.0.0.1:$1|" "$work/uris" >"$work/uris.$1"
    taskset -c 1 h2load -D "$seconds" -c "$2" -m "$3" -i "$work/uris.$1" >"$work/h2load.out" 2>/dev/null || true
    awk '/^finished in/ { rate = $4 } /^requests:/ { failed = $10 + $12 + $14 }
        /^status codes:/ { failed += $5 + $7 + $9 } END { printf "%d%s", rate, (failed > 0 ? " (" failed " failed)" : "") }' "$work/h2load.out"
}
handshakes() { # PORT: new sessions per second of TLS 1.3
    taskset -c 1 openssl s_time -connect "127.0.0.1:$1" -new -time "$seconds" -CAfile "$work/tls/ca.crt" 2>/dev/null |
        awk '/connections in .* real seconds/ { printf "%d", $1 / $4 }'
}
echo "| | Meridian | NSD $(nsd -v 2>&1 | sed -n '1s/.*version //p') | BIND $(named -v | sed 's/BIND \([0-9.]*\).*/\1/') |"
echo "|---|---|---|---|"
for round in 1 2 3; do
    echo "| TLS, answers/s, 10 connections, 100 in flight ($round) | $(rate dot 5302 10) | $(rate dot 5312 10) | $(rate dot 5322 10) |"
    echo "| HTTPS, answers/s, 10 connections, 100 in flight ($round) | $(https 5303 10 10) | – | $(https 5323 10 10) |"
    echo "| TLS 1.3 handshakes/s, one after another ($round) | $(handshakes 5302) | $(handshakes 5312) | $(handshakes 5322) |"
done

# QUIC: a pair of virtual interfaces for each server, so that Knot's XDP program is on its own alone.
if ! ip netns add "$servers" 2>/dev/null || ! ip netns add "$clients" 2>/dev/null; then
    echo "no namespaces: nothing beside our QUIC" >&2
    exit 0
fi
pair() { # NAME NETWORK
    ip -n "$servers" link add "$1" type veth peer name "$1" netns "$clients"
    ip -n "$servers" address add "$2.1/24" dev "$1"
    ip -n "$clients" address add "$2.2/24" dev "$1"
    ip -n "$servers" link set "$1" up
    ip -n "$clients" link set "$1" up
}
pair ours 10.99.1
pair knot 10.99.2
mkdir -p "$work/knot"
{
    printf '[server]\nlisten = ["10.99.1.1:5301"]\nthreads = 1\n[admin]\nenabled = false\n[state]\npath = "quic/meridian.db"\n'
    table quic 10.99.1.1:853
} >"$work/quic.toml"
cat >"$work/knot.conf" <<END
server:
    rundir: "$work/knot"
    listen: 10.99.2.1@5301
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    cert-file: "$work/tls/dns.crt"
    key-file: "$work/tls/dns.key"
xdp:
    listen: knot@5301
    quic: on
    quic-port: 853
database:
    storage: "$work/knot"
zone:
  - domain: names.test
    file: "$work/zones/names.test.zone"
END
start quic ip netns exec "$servers" "$meridian" run --config quic.toml
start knot ip netns exec "$servers" knotd -c knot.conf
quic() { # WHAT ADDRESS [OPTION...]
    what="$1:$2"
    shift 2
    ip netns exec "$clients" taskset -c 1 "$tool" --bench --seconds "$seconds" "$@" "${what%%:*}" "${what#*:}:853" 2>>"$work/tool.log"
}
# Knot 3.2 answers some 97 queries of a connection, and loses some of those that come together.
modest="--connections 10 --in-flight 1 --per-connection 50"
speaks_quic() { [ "$(quic doq-handshakes "$1")" -gt 0 ]; }
for address in 10.99.1.1 10.99.2.1; do await 2 speaks_quic "$address"; done
echo
echo "| | Meridian | Knot $(knotd --version | sed 's/.*version //'), XDP |"
echo "|---|---|---|"
for round in 1 2 3; do
    echo "| QUIC, answers/s, 10 connections, 100 in flight ($round) | $(quic doq 10.99.1.1) | – |"
    # shellcheck disable=SC2086 # a list of words on purpose
    echo "| the same, 10 in flight, a new connection after 50 queries ($round) | $(quic doq 10.99.1.1 $modest) | $(quic doq 10.99.2.1 $modest) |"
    echo "| QUIC handshakes/s, one after another ($round) | $(quic doq-handshakes 10.99.1.1) | $(quic doq-handshakes 10.99.2.1) |"
done
