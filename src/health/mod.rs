//! L1: what a series of check results means. Pure: results and times in, states out (DESIGN §5, algorithms §3.2).
//!
//! ```text
//!   UNKNOWN ── first result ──▶ UP or DOWN
//!   UP ── a failure ──▶ SUSPECT ── fall failures in a row, or too many faults ──▶ DOWN ── rise successes in a row ──▶ RAMP ── time ──▶ UP
//!                       SUSPECT ── a success ──▶ UP
//! ```
//! Every arrow stands above [`machine::Machine`]. UP is shown as DEGRADED where something is wrong that is no failure ([`concern`]).

pub mod concern;
pub mod dates;
pub mod doubt;
pub mod machine;
pub mod passive;

use std::time::Duration;

pub use concern::Watch;
pub use machine::{Machine, Transition};

/// The state of one endpoint, or of one check of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Never checked since it was configured. Usable; asks for the minimum TTL.
    #[default]
    Unknown,
    /// Passing.
    Up,
    /// Was up, has failed fewer than `fall` times in a row. Usable; asks for the minimum TTL.
    Suspect,
    /// Failed. Not usable.
    Down,
    /// Back after being down; usable at a share of its weight that grows. Asks for the minimum TTL.
    Ramp,
    /// Passing, but not well: slow, or its certificate is about to end ([`concern`]). Usable and settled; it may last for weeks. No [`Machine`] is ever
    /// in it: it is what [`State::Up`] is called where something is wrong.
    Degraded,
}

impl State {
    /// The same where something is wrong that takes nothing down: what has a word of its own keeps it.
    pub fn degraded_if(self, concerned: bool) -> State {
        if concerned && self == State::Up { State::Degraded } else { self }
    }

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
            State::Degraded => "degraded",
        }
    }
}

/// Why a check failed, in a form that tables and JSON can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, reset. The operating system's words.
    Connect(String),
    /// The endpoint's name was looked up and has no address; the system's words.
    Resolve(String),
    /// Nothing within the timeout; the phase that hung (`resolve`, `connect`, `tls`, `response`, `body`).
    Timeout(&'static str),
    /// TLS did not come about; the reason (`certificate expired`, `certificate not valid for name "…"`, …).
    Tls(String),
    /// The same, for a certificate that is not valid in time, by this machine's clock.
    OutOfTime(dates::OutOfTime),
    /// A status outside the expected ranges.
    Status(u16),
    /// The expected substring is not in the first part of the body.
    Body,
    /// It answered, but something else than expected; what.
    Answer(String),
    /// The peer spoke no HTTP.
    Protocol(String),
    /// Nothing was asked: somebody reports that it wants no traffic, though nothing is wrong with it.
    Draining,
    /// Nothing was asked: somebody reports that it fails; how.
    Reported(String),
    /// Who was asked about the endpoint could not tell: says nothing of the endpoint, so it does not count; why.
    NoVerdict(String),
    /// The check could not be run at all (no file descriptors, unreadable CA file): says nothing of the endpoint, so it does not count.
    Internal(String),
    /// The same, because this machine has no way to the address: no route, no interface, no address of its own to go from. Tells of this machine's
    /// network, which is what references are asked about.
    NoNetwork(String),
    /// The same, because this machine's clock cannot be trusted with the time of a certificate ([`dates`]).
    Clock(String),
}

impl Failure {
    /// It is this machine's own fault, or a third party's, so it says nothing of the endpoint.
    pub fn is_no_verdict(&self) -> bool {
        self.is_own() || matches!(self, Failure::NoVerdict(_))
    }

    /// It is this machine's own fault: the check could not be run.
    pub fn is_own(&self) -> bool {
        matches!(self, Failure::Internal(_) | Failure::NoNetwork(_) | Failure::Clock(_))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Connect(why) => write!(f, "connect: {why}"),
            Failure::Resolve(why) => write!(f, "resolve: {why}"),
            Failure::Timeout(phase) => write!(f, "timeout during {phase}"),
            Failure::Tls(why) | Failure::OutOfTime(dates::OutOfTime { why, .. }) => write!(f, "TLS: {why}"),
            Failure::Status(code) => write!(f, "HTTP status {code}"),
            Failure::Body => f.write_str("expected text not in the body"),
            Failure::Answer(why) => write!(f, "answer: {why}"),
            Failure::Protocol(why) => write!(f, "protocol: {why}"),
            Failure::Draining => f.write_str("reported: draining"),
            Failure::Reported(why) => write!(f, "reported: {why}"),
            Failure::NoVerdict(why) => write!(f, "no verdict: {why}"),
            Failure::Internal(why) | Failure::NoNetwork(why) | Failure::Clock(why) => write!(f, "check could not run: {why}"),
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
