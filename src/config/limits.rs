//! `[rate_limit]` and `[server.tcp]`: what clients may take.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::source::Value;
use super::values::{self, span};
use crate::world::RateLimit;

/// Replies per second: more than a core answers is no limit.
const RATE: RangeInclusive<i64> = 0..=1_000_000;
/// Seconds of debt, as in BIND.
const WINDOW: RangeInclusive<i64> = 1..=3600;
/// As in BIND: with more, a client that is limited by mistake hardly ever learns of TCP.
const SLIP: RangeInclusive<i64> = 0..=10;
/// Buckets of 16 octets: 16 KiB to 256 MiB.
const TABLE_SIZE: RangeInclusive<i64> = 1024..=16_777_216;
/// The filter in the kernel looks at the first 64 bits; what is behind them a host chooses for itself (RFC 4291 §2.5.1).
const V6_LEN: RangeInclusive<i64> = 1..=64;
/// Each limited query is compared with all of them.
const MAX_EXEMPT: usize = 256;
/// Connections: a file and some hundred octets each, up to 256 KiB of kernel memory while data waits.
pub(super) const CONNECTIONS: RangeInclusive<i64> = 1..=1_000_000;
/// How long a connection may take for something: RFC 7766 §6.2.3 speaks of seconds; 5 minutes hold nobody up.
pub(super) const WAIT: RangeInclusive<Duration> = span(Duration::from_millis(100), Duration::from_secs(300));
/// Of a connection.
pub(super) const LIFETIME: RangeInclusive<Duration> = span(Duration::from_secs(1), Duration::from_secs(86_400));

/// What clients may take over TCP (`[server.tcp]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections in all; also at most half the files that the process may open.
    pub total: usize,
    /// Connections of one client: an IPv4 address or an IPv6 /64. A proxy in front of us is one client.
    pub per_client: usize,
    /// Queries per second of one connection, beyond which it is not read from for a while; 0 for no limit.
    pub queries_per_second: u32,
    /// From one answer to the next query.
    pub idle: Duration,
    /// From the first octet of a message to its last.
    pub message: Duration,
    /// For a peer to take the replies that are waiting for it.
    pub write: Duration,
    /// Of a connection.
    pub lifetime: Duration,
}

impl Default for TcpLimits {
    fn default() -> TcpLimits {
        TcpLimits {
            total: 4096,
            per_client: 256,
            queries_per_second: 0,
            // RFC 7766 §6.2.3 asks for a few seconds, RFC 9210 §4.2 for not holding on to idle ones; Knot has 10 s as well.
            idle: Duration::from_secs(10),
            // A message is one or two segments; three seconds leave room for a retransmission (RFC 6298: first after 1 s).
            message: Duration::from_secs(3),
            write: Duration::from_secs(3),
            // Resolvers reopen without ado. It bounds whoever stays just within the other limits.
            lifetime: Duration::from_secs(300),
        }
    }
}

/// `[server.tcp]`.
pub(super) fn tcp(value: &Value<'_>) -> TcpLimits {
    let mut limits = TcpLimits::default();
    let Some(table) = value.table(" such as [server.tcp]") else { return limits };
    if let Some(number) = table.take("connections").and_then(|value| value.integer(CONNECTIONS, "")) {
        limits.total = number as usize;
    }
    if let Some(number) = table.take("connections_per_client").and_then(|value| value.integer(CONNECTIONS, "")) {
        limits.per_client = number as usize;
    }
    limits.queries_per_second = table.take("queries_per_second").and_then(|value| rate_of(&value)).unwrap_or(0);
    for (key, range, into) in [
        ("idle", &WAIT, &mut limits.idle),
        ("message", &WAIT, &mut limits.message),
        ("write", &WAIT, &mut limits.write),
        ("lifetime", &LIFETIME, &mut limits.lifetime),
    ] {
        if let Some(duration) = table.take(key).and_then(|value| value.duration(range)) {
            *into = duration;
        }
    }
    table.finish();
    limits
}

/// `[rate_limit]`.
pub(super) fn rate_limit(value: &Value<'_>) -> Option<RateLimit> {
    let table = value.table(" such as [rate_limit]")?;
    let mut limits = RateLimit::default();
    let mut is_refused = false;
    let mut rate = |key| {
        let value = table.take(key)?;
        let rate = rate_of(&value);
        is_refused |= rate.is_none();
        rate
    };
    let responses = rate("responses_per_second").unwrap_or(0);
    limits.responses_per_second = responses;
    limits.nodata_per_second = rate("nodata_per_second").unwrap_or(responses);
    limits.nxdomains_per_second = rate("nxdomains_per_second").unwrap_or(responses);
    limits.referrals_per_second = rate("referrals_per_second").unwrap_or(responses);
    limits.errors_per_second = rate("errors_per_second").unwrap_or(responses);
    limits.queries_per_second = rate("queries_per_second").unwrap_or(0);
    for (key, range, into) in [("window", WINDOW, &mut limits.window_s), ("slip", SLIP, &mut limits.slip)] {
        if let Some(number) = table.take(key).and_then(|value| value.integer(range, if key == "window" { " s" } else { "" })) {
            *into = number as u32;
        }
    }
    if let Some(prefix) = table.take("prefix").and_then(|value| value.table(" such as { v4 = 24, v6 = 56 }")) {
        for (key, range, into) in [("v4", 1..=32, &mut limits.v4_len), ("v6", V6_LEN, &mut limits.v6_len)] {
            if let Some(len) = prefix.take(key).and_then(|value| value.integer(range, " bits")) {
                *into = len as u8;
            }
        }
        prefix.finish();
    }
    if let Some(value) = table.take("exempt") {
        limits.exempt = values::prefixes(&value);
        if limits.exempt.len() > MAX_EXEMPT {
            value.error(format!("found {} prefixes, expected at most {MAX_EXEMPT}", limits.exempt.len()));
        }
    }
    if let Some(number) = table.take("table_size").and_then(|value| value.integer(TABLE_SIZE, "")) {
        limits.table_size = number as usize;
    }
    for (key, into) in [("log_only", &mut limits.log_only), ("kernel_filter", &mut limits.kernel_filter)] {
        if let Some(on) = table.take(key).and_then(|value| value.boolean()) {
            *into = on;
        }
    }
    let rates = [
        limits.responses_per_second,
        limits.nodata_per_second,
        limits.nxdomains_per_second,
        limits.referrals_per_second,
        limits.errors_per_second,
        limits.queries_per_second,
    ];
    // One that was refused was meant to limit.
    if rates.iter().all(|rate| *rate == 0) && !is_refused {
        value.warning("no rate is set, so nothing is limited; write responses_per_second = 20, or leave the table out");
    }
    table.finish();
    Some(limits)
}

fn rate_of(value: &Value<'_>) -> Option<u32> {
    value.integer(RATE, " per second").map(|rate| rate as u32)
}
