//! `[admin]` and `[metrics]`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::settings::{Lines, Settings, pem_file, socket_address, usual_port};
use super::source::{Table, Value};

/// `admin.requests_per_second` unless it is said: far above people and most automation, far below what costs DNS anything.
pub const REQUESTS_PER_SECOND: u32 = 500;
/// 0 means as many as they like.
const RATE: RangeInclusive<i64> = 0..=1_000_000;

/// `[admin]` beyond address and switch, and `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminOptions {
    /// `admin.plaintext`: the listener may go beyond loopback without TLS.
    pub plaintext: bool,
    /// `admin.tls`.
    pub tls: Option<AdminTls>,
    /// `admin.requests_per_second`, of each address and token; 0 for no limit.
    pub requests_per_second: u32,
    /// `metrics.listen`: health and metrics without a token.
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for AdminOptions {
    fn default() -> AdminOptions {
        AdminOptions { plaintext: false, tls: None, requests_per_second: REQUESTS_PER_SECOND, metrics_listen: None }
    }
}

/// `admin.tls`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTls {
    /// The server's certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Clients must show a certificate of one of these authorities.
    pub client_ca: Option<PathBuf>,
}

pub(super) fn admin(table: &Table<'_>, settings: &mut Settings) {
    if let Some(listen) = address(table, "admin.listen", settings) {
        settings.admin_listen = listen;
    }
    if let Some(enabled) = table.take("enabled").and_then(|value| value.boolean()) {
        settings.admin_enabled = enabled;
    }
    if let Some(plaintext) = table.take("plaintext").and_then(|value| value.boolean()) {
        settings.admin.plaintext = plaintext;
    }
    if let Some(rate) = table.take("requests_per_second").and_then(|value| value.integer(RATE, "")) {
        settings.admin.requests_per_second = rate as u32;
    }
    settings.admin.tls = table.take("tls").and_then(|value| tls(&value, &mut settings.lines));
}

fn tls(value: &Value<'_>, lines: &mut Lines) -> Option<AdminTls> {
    let table = value.table(" such as { certificate = \"admin.crt\", key = \"admin.key\" }")?;
    let mut path = |key| pem_file(&table, key, "admin.tls", lines);
    let (certificate, key, client_ca) = (path("certificate"), path("key"), path("client_ca"));
    if certificate.is_none() || key.is_none() {
        table.missing("certificate or key is missing; write { certificate = \"admin.crt\", key = \"admin.key\" }");
    }
    table.finish();
    Some(AdminTls { certificate: certificate?, key: key?, client_ca })
}

pub(super) fn metrics(table: &Table<'_>, settings: &mut Settings) {
    settings.admin.metrics_listen = address(table, "metrics.listen", settings);
}

fn address(table: &Table<'_>, key: &'static str, settings: &mut Settings) -> Option<SocketAddr> {
    let value = table.take("listen")?;
    let address = socket_address(&value, usual_port(key))?;
    settings.lines.note(key, address, value.line);
    Some(address)
}
