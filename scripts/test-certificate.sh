#!/bin/sh
# Makes a small authority and a certificate of it for trying encrypted transports (docs/encrypted.md): scripts/test-certificate.sh [NAME] [FOLDER]
#   NAME     what clients verify; dns.example.net when left out. 127.0.0.1, ::1 and localhost are in the certificate, too.
#   FOLDER   where ca.crt, dns.crt and dns.key go; tls when left out. What is there is not overwritten.
# For tests alone: the authority's key is thrown away at the end, and everything expires after 30 days. Needs openssl.
set -eu
name="${1:-dns.example.net}"
folder="${2:-tls}"
case "$name" in
-*) sed -n '2,5s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
for file in ca.crt dns.crt dns.key; do
    if [ -e "$folder/$file" ]; then
        echo "$folder/$file is there already: nothing was written" >&2
        exit 1
    fi
done
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 077
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
# shellcheck disable=SC2086
openssl req -x509 $key -days 30 -subj "/CN=an authority for tests" -keyout "$work/ca.key" -out "$work/ca.crt" 2>"$work/log" || { cat "$work/log" >&2 && exit 1; }
printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1\n' "$name" >"$work/extensions"
# shellcheck disable=SC2086
openssl req $key -subj "/CN=$name" -keyout "$work/dns.key" -out "$work/dns.csr" 2>"$work/log" || { cat "$work/log" >&2 && exit 1; }
openssl x509 -req -in "$work/dns.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -CAcreateserial -days 30 -extfile "$work/extensions" \
    -out "$work/dns.crt" 2>"$work/log" || { cat "$work/log" >&2 && exit 1; }
cp "$work/dns.key" "$folder/dns.key"
umask 022
for file in ca.crt dns.crt; do cat "$work/$file" >"$folder/$file"; done
chmod 644 "$folder/ca.crt" "$folder/dns.crt"
cat <<END
$folder/ca.crt, $folder/dns.crt, $folder/dns.key: for $name, 30 days

[server.tls]
listen = "127.0.0.1:8853"
certificate = "$folder/dns.crt"
key = "$folder/dns.key"
name = "$name"

kdig @127.0.0.1 -p 8853 +tls-ca=$folder/ca.crt +tls-hostname=$name www.example.com
END
