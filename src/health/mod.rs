//! L1: what a series of check results means. Pure: results and times in, states out (DESIGN §5, algorithms §3.2).
//!
//! ```text
//!   UNKNOWN ── first result ──▶ UP or DOWN
//!   UP ── a failure ──▶ SUSPECT ── fall failures in a row, or too many faults ──▶ DOWN ── rise successes in a row ──▶ RAMP ── time ──▶ UP
//!                       SUSPECT ── a success ──▶ UP
//! ```
//! Every arrow stands above [`machine::Machine`].

pub mod machine;

use std::time::Duration;

pub use machine::{Machine, Transition};

/// The state of one endpoint, or of one check of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Never checked since it was configured. Usable; asks for the minimum TTL.
    Unknown,
    /// Passing.
    Up,
    /// Was up, has failed fewer than `fall` times in a row. Usable; asks for the minimum TTL.
    Suspect,
    /// Failed. Not usable.
    Down,
    /// Back after being down; usable at a share of its weight that grows. Asks for the minimum TTL.
    Ramp,
}

impl State {
    /// May be handed out.
    pub fn is_usable(self) -> bool {
        self != State::Down
    }

    /// Neither settled up nor settled down: asks for the minimum TTL.
    pub fn is_unsettled(self) -> bool {
        matches!(self, State::Unknown | State::Suspect | State::Ramp)
    }

    /// The word used in JSON, logs, metrics and tables.
    pub fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Suspect => "suspect",
            State::Down => "down",
            State::Ramp => "ramp",
        }
    }
}

/// Why a check failed, in a form that tables and JSON can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, reset. The operating system's words.
    Connect(String),
    /// Nothing within the timeout; the phase that hung (`resolve`, `connect`, `tls`, `response`, `body`).
    Timeout(&'static str),
    /// TLS did not come about; the reason (`certificate expired`, `certificate not valid for name "…"`, …).
    Tls(String),
    /// A status outside the expected ranges.
    Status(u16),
    /// The expected substring is not in the first part of the body.
    Body,
    /// The peer spoke no HTTP.
    Protocol(String),
    /// The check could not be run at all (no file descriptors, unreadable CA file): says nothing of the endpoint, so it does not count.
    Internal(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Connect(why) => write!(f, "connect: {why}"),
            Failure::Timeout(phase) => write!(f, "timeout during {phase}"),
            Failure::Tls(why) => write!(f, "TLS: {why}"),
            Failure::Status(code) => write!(f, "HTTP status {code}"),
            Failure::Body => f.write_str("expected text not in the body"),
            Failure::Protocol(why) => write!(f, "protocol: {why}"),
            Failure::Internal(why) => write!(f, "check could not run: {why}"),
        }
    }
}

/// The outcome of one check.
pub type Outcome = Result<(), Failure>;

/// The numbers of a monitor that the state machine needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Thresholds {
    /// Between checks while nothing is wrong.
    pub interval: Duration,
    /// Between checks while suspect.
    pub fast: Duration,
    /// Failures in a row from up to down, 1 to 10.
    pub fall: u8,
    /// Successes in a row from down to ramp, 1 to 10.
    pub rise: u8,
}
