# What scripts/compare-encrypted.sh and scripts/flood-encrypted.sh share; they source it from the folder of the project. It builds, and makes a folder that
# is gone at the end, with a certificate (tls/) and a zone of a thousand names with an A record each (names.test.zone). Core 0 serves, core 1 asks.
#   $meridian, $tool   the program, and clients that no package has (benches/encrypted)
#   $work              the folder
#   start NAME COMMAND...   runs it there on core 0 until the end, and keeps what it says in NAME.log; its process is $started_last
#   await SECONDS COMMAND...   until the command succeeds; fails, and shows the logs, when it does not
#   table TRANSPORT ADDRESS   prints [server.TRANSPORT] with the certificate
cargo build --locked --release
meridian=$(realpath "${CARGO_TARGET_DIR:-target}/release/meridian")
tool=$(cargo bench --locked --bench encrypted --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
work=$(mktemp -d)
started=""
at_end=true
finish() {
    for pid in $started; do kill "$pid" 2>/dev/null || true; done
    $at_end
    rm -rf "$work"
}
trap finish EXIT INT TERM
ulimit -n "$(ulimit -Hn)"
scripts/test-certificate.sh dns.example.net "$work/tls" >/dev/null
chmod -R a+rX "$work"
mkdir "$work/zones"
{
    printf '$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n'
    seq 1 1000 | sed 's/.*/n& A 192.0.2.80/'
} >"$work/zones/names.test.zone"

start() {
    name="$1"
    shift
    (cd "$work" && exec taskset -c 0 "$@" >"$work/$name.log" 2>&1) &
    started_last=$!
    started="$started $started_last"
}
await() {
    tries=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            echo "in vain: $*" >&2
            tail -n 5 "$work"/*.log >&2
            exit 1
        fi
        sleep 0.1
    done
}
table() {
    printf '[server.%s]\nlisten = "%s"\ncertificate = "%s/tls/dns.crt"\nkey = "%s/tls/dns.key"\n' "$1" "$2" "$work" "$work"
}
