//! `[server.tls]`, `[server.https]` and `[server.quic]`: DNS over TLS, HTTPS and QUIC.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::limits::{CONNECTIONS, LIFETIME, WAIT};
use super::settings::{Lines, addresses, pem_file};
use super::source::{Table, Value};

/// Queries under way on one connection; each may hold 128 KiB for a moment.
const STREAMS: RangeInclusive<i64> = 1..=1000;
/// Of `path`: room enough, and it stands in no log.
const MAX_PATH_LEN: usize = 255;

/// One encrypted transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedListener {
    /// Addresses and ports.
    pub listen: Vec<SocketAddr>,
    /// PEM: the server's certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
    /// The name that clients verify, if it is known here.
    pub name: Option<String>,
    /// Not TLS 1.2 either; QUIC has 1.3 in any case (RFC 9001 §4.2).
    pub tls13_only: bool,
    /// Of URIs, over HTTPS.
    pub path: String,
    /// What clients may take.
    pub limits: EncryptedLimits,
}

/// What clients may take of one encrypted transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedLimits {
    /// Connections in all, handshakes that are under way included.
    pub total: usize,
    /// Connections of one client: an IPv4 address or an IPv6 /64.
    pub per_client: usize,
    /// Queries under way on one connection, over HTTPS and QUIC.
    pub streams: u32,
    /// From the first octet to a finished handshake.
    pub handshake: Duration,
    /// From one answer to the next query.
    pub idle: Duration,
    /// From the first octet of a message to its last.
    pub message: Duration,
    /// For a peer to take the replies that are waiting for it.
    pub write: Duration,
    /// Of a connection.
    pub lifetime: Duration,
}

impl Default for EncryptedLimits {
    fn default() -> EncryptedLimits {
        EncryptedLimits {
            // Some 14 KB each while they are quiet (docs/encrypted.md), and what the kernel holds.
            total: 4096,
            per_client: 256,
            streams: 100,
            // Two round trips and a signature; a lost packet costs a second (RFC 6298).
            handshake: Duration::from_secs(5),
            // A handshake costs far more than a query, so connections are kept longer than over TCP; Knot has 10 s for all.
            idle: Duration::from_secs(30),
            message: Duration::from_secs(3),
            write: Duration::from_secs(3),
            lifetime: Duration::from_secs(3600),
        }
    }
}

/// The listeners for encrypted transports; those that are not configured are closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encrypted {
    /// `[server.tls]`: DNS over TLS (RFC 7858).
    pub tls: Option<EncryptedListener>,
    /// `[server.https]`: DNS over HTTPS (RFC 8484).
    pub https: Option<EncryptedListener>,
    /// `[server.quic]`: DNS over QUIC (RFC 9250).
    pub quic: Option<EncryptedListener>,
}

pub(super) fn encrypted(server: &Table<'_>, lines: &mut Lines) -> Encrypted {
    let mut of = |key: &'static str, whole| server.take(key).and_then(|value| listener(&value, key, whole, lines));
    Encrypted { tls: of("tls", "server.tls"), https: of("https", "server.https"), quic: of("quic", "server.quic") }
}

fn listener(value: &Value<'_>, key: &'static str, whole: &'static str, lines: &mut Lines) -> Option<EncryptedListener> {
    let table = value.table(&format!(" such as [{whole}]"))?;
    let listen = table.take("listen").map(|value| addresses(&value, whole, lines));
    let mut path = |key| pem_file(&table, key, whole, lines);
    let (certificate, private) = (path("certificate"), path("key"));
    for (given, key, example) in [
        (listen.is_some(), "listen", "\"[::]:853\""),
        (certificate.is_some(), "certificate", "\"dns.crt\", a file in PEM"),
        (private.is_some(), "key", "\"dns.key\", a file in PEM"),
    ] {
        if !given {
            table.missing(format!("{key} is missing, such as {example}"));
        }
    }
    let name = table.take("name").and_then(|value| host_name(&value));
    let tls13_only = key != "quic" && table.take("min_version").is_some_and(|value| is_newest(&value));
    let uri_path = if key == "https" { table.take("path").and_then(|value| absolute_path(&value)) } else { None };
    let limits = limits(&table, key != "tls");
    table.finish();
    Some(EncryptedListener {
        listen: listen?,
        certificate: certificate?,
        key: private?,
        name,
        tls13_only,
        path: uri_path.unwrap_or_else(|| "/dns-query".to_owned()),
        limits,
    })
}

fn host_name(value: &Value<'_>) -> Option<String> {
    let text = value.string("a host name such as \"dns.example.net\"")?;
    let name = text.trim_end_matches('.');
    if rustls::pki_types::DnsName::try_from(name).is_err() {
        value.error(format!("found {text:?}, expected a host name such as \"dns.example.net\""));
        return None;
    }
    Some(name.to_owned())
}

fn is_newest(value: &Value<'_>) -> bool {
    match value.as_str() {
        Some("1.2") => false,
        Some("1.3") => true,
        _ => {
            value.expected("\"1.2\" or \"1.3\"");
            false
        }
    }
}

fn absolute_path(value: &Value<'_>) -> Option<String> {
    let text = value.string("a path such as \"/dns-query\"")?;
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"/-._~".contains(&octet);
    // Clients take these out before they ask (RFC 3986 §5.2.4).
    let is_dotted = text.split('/').any(|part| matches!(part, "." | ".."));
    if is_dotted || !text.starts_with('/') || text.len() > MAX_PATH_LEN || !text.bytes().all(fits) {
        value.error(format!("found {text:?}, expected a path such as \"/dns-query\" of at most {MAX_PATH_LEN} letters, digits, / - . _ and ~, without . and .. between its slashes"));
        return None;
    }
    Some(text.to_owned())
}

fn limits(table: &Table<'_>, has_streams: bool) -> EncryptedLimits {
    let mut limits = EncryptedLimits::default();
    for (key, into) in [("connections", &mut limits.total), ("connections_per_client", &mut limits.per_client)] {
        if let Some(number) = table.take(key).and_then(|value| value.integer(CONNECTIONS, "")) {
            *into = number as usize;
        }
    }
    if has_streams && let Some(number) = table.take("streams").and_then(|value| value.integer(STREAMS, "")) {
        limits.streams = number as u32;
    }
    for (key, range, into) in [
        ("handshake", &WAIT, &mut limits.handshake),
        ("idle", &WAIT, &mut limits.idle),
        ("message", &WAIT, &mut limits.message),
        ("write", &WAIT, &mut limits.write),
        ("lifetime", &LIFETIME, &mut limits.lifetime),
    ] {
        if let Some(duration) = table.take(key).and_then(|value| value.duration(range)) {
            *into = duration;
        }
    }
    limits
}
