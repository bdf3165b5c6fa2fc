//! `[health]`: when failures are believed.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::settings::{DNS_PORT, socket_address};
use super::source::Value;
use super::values::span;

/// References: each is asked every three seconds.
const MAX_REFERENCES: usize = 16;
/// Of a freeze: long enough to see that all fails, short enough for users if it is true.
const FREEZE: RangeInclusive<Duration> = span(Duration::from_secs(10), Duration::from_secs(3600));

/// `[health]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthOptions {
    /// Places that accept TCP connections whenever this server's network works.
    pub references: Vec<SocketAddr>,
    /// How long failures of everything at once are doubted; zero: never.
    pub freeze: Duration,
    /// Monitors may run programs.
    pub exec: bool,
}

impl Default for HealthOptions {
    fn default() -> HealthOptions {
        HealthOptions { references: Vec::new(), freeze: Duration::from_secs(120), exec: false }
    }
}

pub(super) fn health(value: &Value<'_>) -> HealthOptions {
    let mut options = HealthOptions::default();
    let Some(table) = value.table(" such as [health]") else { return options };
    if let Some(value) = table.take("references") {
        let items = value.one_or_many();
        if items.len() > MAX_REFERENCES {
            value.error(format!("found {} references, expected at most {MAX_REFERENCES}", items.len()));
        }
        for item in items.iter().take(MAX_REFERENCES) {
            let Some(address) = socket_address(item, DNS_PORT) else { continue };
            if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
                item.error(format!("found {address}, expected an address and a port that can be connected to"));
            } else if options.references.contains(&address) {
                item.error(format!("{address} is listed twice"));
            } else {
                options.references.push(address);
            }
        }
    }
    if let Some(value) = table.take("freeze") {
        match value.as_bool() {
            Some(false) => options.freeze = Duration::ZERO,
            Some(true) => value.error("found true, expected a duration such as \"2m\", or false for no freeze"),
            None => options.freeze = value.duration(&FREEZE).unwrap_or(options.freeze),
        }
        if options.freeze.is_zero() && !options.references.is_empty() {
            value.error("freeze = false, but references are given; leave one of the two out");
        }
    }
    options.exec = table.take("exec").and_then(|value| value.boolean()).unwrap_or(false);
    table.finish();
    options
}
