//! What is logged of queries: the checked values of `[query_log]`. Of them answering reads `sample`; the file is the business of `telemetry`.

use std::path::PathBuf;
use std::time::Duration;

/// The log of replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLog {
    /// Where it is written; when it is full it becomes `FILE.1`, that one `FILE.2`, and so on.
    pub file: PathBuf,
    /// What stands in it.
    pub format: LogFormat,
    /// One reply in so many is logged, at least 1.
    pub sample: u32,
    /// Octets of a file at most.
    pub max_len: u64,
    /// A file is no longer written to after this time; `None` for no limit.
    pub max_age: Option<Duration>,
    /// Full files that are kept.
    pub keep: u32,
    /// So many bits of clients' addresses are logged, IPv4 and IPv6; `None` for all.
    pub client_prefix: Option<(u8, u8)>,
}

/// What a query log is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// dnstap (protocol buffers) in Frame Streams.
    Dnstap,
    /// A JSON object a line.
    Json,
}
