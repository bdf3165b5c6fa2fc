//! What happens to connections, by transport. Written a few times per connection, by whoever accepts it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Of one transport.
#[derive(Debug, Default)]
pub struct Connections {
    /// How many there may be; 0 for a transport that is closed.
    pub places: AtomicU64,
    /// How many the configuration asks for.
    pub wanted: AtomicU64,
    /// Open now.
    pub open: AtomicI64,
    /// Of them, those whose handshake has not come to its end.
    pub in_handshake: AtomicI64,
    /// Accepted since the start.
    pub accepted: AtomicU64,
    /// Closed because a limit on connections was reached and they had been quiet the longest.
    pub evicted: AtomicU64,
    /// Of them, those whose handshake had not come to its end.
    pub evicted_handshakes: AtomicU64,
    /// Closed by a deadline: a handshake that was not finished, idle, a message that took too long to arrive, replies that nobody reads, or its
    /// lifetime.
    pub timed_out: AtomicU64,
    /// Accept calls that failed.
    pub accept_errors: AtomicU64,
    /// Handshakes of TLS and QUIC that failed: no common version or protocol, a certificate that the client does not believe, or no TLS at all.
    pub handshake_errors: AtomicU64,
    /// Queries that were refused because too many octets of others waited.
    pub refused_queries: AtomicU64,
}

impl Connections {
    /// As of about now.
    pub fn totals(&self) -> ConnectionTotals {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        ConnectionTotals {
            places: of(&self.places),
            wanted: of(&self.wanted),
            open: u64::try_from(self.open.load(Relaxed)).unwrap_or(0),
            in_handshake: u64::try_from(self.in_handshake.load(Relaxed)).unwrap_or(0),
            accepted: of(&self.accepted),
            evicted: of(&self.evicted),
            evicted_handshakes: of(&self.evicted_handshakes),
            timed_out: of(&self.timed_out),
            accept_errors: of(&self.accept_errors),
            handshake_errors: of(&self.handshake_errors),
            refused_queries: of(&self.refused_queries),
        }
    }
}

/// What has happened to the connections of one transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionTotals {
    /// See [`Connections::places`].
    pub places: u64,
    /// See [`Connections::wanted`].
    pub wanted: u64,
    /// Open now.
    pub open: u64,
    /// Of them, those in their handshake.
    pub in_handshake: u64,
    /// Accepted.
    pub accepted: u64,
    /// Closed to make room.
    pub evicted: u64,
    /// See [`Connections::evicted_handshakes`].
    pub evicted_handshakes: u64,
    /// Closed by a deadline.
    pub timed_out: u64,
    /// Failed accept calls.
    pub accept_errors: u64,
    /// Failed handshakes.
    pub handshake_errors: u64,
    /// See [`Connections::refused_queries`].
    pub refused_queries: u64,
}
