#!/bin/sh
# DNS over TLS and HTTPS beside NSD and BIND on this machine, and UDP while others knock (docs/performance.md): scripts/compare-encrypted.sh [SECONDS]
# Installs what is missing (nsd, bind9, dnsperf, nghttp2-client, openssl, python3). Core 0 serves with one worker, core 1 asks; everything stays on loopback and
# ends by itself. SECONDS is how long each measurement takes (5). Knot DNS of Debian 12 (3.2) speaks neither; nobody there answers over QUIC.
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh nsd bind9 dnsperf nghttp2-client openssl python3 util-linux procps >/dev/null
seconds="${1:-5}"
cargo build --locked --release
meridian="${CARGO_TARGET_DIR:-target}/release/meridian"
meridian=$(realpath "$meridian")
work=$(mktemp -d)
started=""
finish() {
    for pid in $started; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT INT TERM
ulimit -n "$(ulimit -Hn)"
scripts/test-certificate.sh dns.example.net "$work/tls" >/dev/null
chmod -R a+rX "$work"

# A thousand names with an A record each.
{
    printf '$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n'
    seq 1 1000 | sed 's/.*/n& A 192.0.2.80/'
} >"$work/names.test.zone"
seq 1 1000 | sed 's/.*/n&.names.test A/' >"$work/queries"

mkdir -p "$work/zones" "$work/nsd" "$work/named"
cp "$work/names.test.zone" "$work/zones/"
cat >"$work/meridian.toml" <<END
[server]
listen = ["127.0.0.1:5301"]
threads = 1
[server.tls]
listen = "127.0.0.1:5302"
certificate = "tls/dns.crt"
key = "tls/dns.key"
connections = 20000
connections_per_client = 20000
idle = "5m"
[server.https]
listen = "127.0.0.1:5303"
certificate = "tls/dns.crt"
key = "tls/dns.key"
[admin]
enabled = false
END
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
  zonefile: names.test.zone
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
zone "names.test" { type primary; file "$work/names.test.zone"; };
END
start() { # NAME COMMAND...
    name="$1"
    shift
    (cd "$work" && exec taskset -c 0 "$@" >"$work/$name.log" 2>&1) &
    started="$started $!"
}
start meridian "$meridian" run
start nsd nsd -d -c "$work/nsd.conf"
start named named -f -n 1 -c "$work/named.conf"
for port in 5302 5312 5322 5303 5323; do
    tries=0
    until openssl s_client -connect "127.0.0.1:$port" </dev/null >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ]; then
            echo "nobody speaks TLS on port $port" >&2
            tail -n 5 "$work"/*.log >&2
            exit 1
        fi
        sleep 0.1
    done
done

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

# UDP beside it: the same quiet load all the while.
latency() {
    taskset -c 1 dnsperf -s 127.0.0.1 -p 5301 -d "$work/queries" -Q 5000 -l "$seconds" >"$work/dnsperf.out" 2>&1 || true
    awk '/Queries completed/ { done = $3 } /Queries lost/ { lost = $3 } /Average Latency/ { average = $4 * 1e6 }
        END { printf "%d answered, %d lost, %d µs mean", done, lost, average }' "$work/dnsperf.out"
}
memory() { awk '/^Pss:/ { print $2 }' "/proc/$1/smaps_rollup"; }
pid=$(pgrep -f "^$meridian run" | head -n 1)
echo
echo "Meridian over UDP, 5,000 queries per second:"
echo "quiet:                       $(latency)"
before=$(memory "$pid")
cat >"$work/idle.py" <<'END'
import socket, ssl, sys, time
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["dot"])
kept = []
for _ in range(int(sys.argv[1])):
    kept.append(context.wrap_socket(socket.create_connection(("127.0.0.1", 5302))))
print("open", flush=True)
time.sleep(float(sys.argv[2]))
END
taskset -c 1 python3 "$work/idle.py" 10000 $((seconds + 30)) >"$work/idle.out" 2>&1 &
started="$started $!"
tries=0
until grep -q open "$work/idle.out" || [ "$tries" -gt 1200 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
[ -s "$work/idle.out" ] && tail -n 1 "$work/idle.out"
echo "10,000 idle TLS connections: $(latency); $((($(memory "$pid") - before) * 1024 / 10000)) octets each"
taskset -c 1 openssl s_time -connect 127.0.0.1:5302 -new -time $((seconds + 2)) >/dev/null 2>&1 &
started="$started $!"
sleep 1
echo "and handshakes one after another: $(latency)"
