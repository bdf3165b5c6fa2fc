//! What a monitor checks, how the states of several come to one, and which of them there are.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::pattern::Pattern;
use super::query::{Bound, PrometheusCheck};
use super::reported::{PushCheck, ShareCheck};
use crate::dns::{Name, Rcode, RecordType};
use crate::health::{Thresholds, Watch};

/// The kinds of monitors, each by the key of the files that says it. There is no other list of them: the reader of the files, metrics, the interface
/// and its document take their words from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorWord {
    /// A request over TLS.
    Https,
    /// A request over plain HTTP.
    Http,
    /// A connection.
    Tcp,
    /// A query over UDP.
    Dns,
    /// The health service of gRPC.
    Grpc,
    /// A program.
    Exec,
    /// An echo request.
    Ping,
    /// A query of Prometheus.
    Prometheus,
    /// Somebody reports.
    Push,
    /// All of others.
    All,
    /// Any of others.
    Any,
    /// So many of others.
    AtLeast,
    /// The reverse of another.
    Not,
}

impl MonitorWord {
    /// All of them; those that ask come first.
    pub const EACH: [MonitorWord; 13] = [
        MonitorWord::Https,
        MonitorWord::Http,
        MonitorWord::Tcp,
        MonitorWord::Dns,
        MonitorWord::Grpc,
        MonitorWord::Exec,
        MonitorWord::Ping,
        MonitorWord::Prometheus,
        MonitorWord::Push,
        MonitorWord::All,
        MonitorWord::Any,
        MonitorWord::AtLeast,
        MonitorWord::Not,
    ];

    /// Their words, in the same order.
    pub const WORDS: [&'static str; 13] =
        ["https", "http", "tcp", "dns", "grpc", "exec", "ping", "prometheus", "push", "all", "any", "at_least", "not"];

    /// So many of them ask: each check takes its time.
    pub const ASKING: usize = MonitorWord::Prometheus as usize + 1;

    /// As in the files.
    pub fn word(self) -> &'static str {
        MonitorWord::WORDS[self as usize]
    }
}

/// A `[monitor.NAME]` of a zone, or of a library that the zone uses.
#[derive(Clone, Debug)]
pub struct MonitorDefinition {
    /// NAME.
    pub name: String,
    /// What it does.
    pub kind: MonitorWord,
    /// It explains and has no vote.
    pub advisory: bool,
    /// It is a library's.
    pub in_library: bool,
    /// Names of the monitors that it follows from, in order of the file.
    pub of: Vec<String>,
    /// Of `at_least`: how many of them.
    pub count: Option<u16>,
    /// Ids of the pools whose list names it, of the endpoints whose own list does, and of the monitors that follow from it; the first
    /// [`MAX_USERS`](MonitorDefinition::MAX_USERS).
    pub users: Vec<Arc<str>>,
    /// How many they are.
    pub users_count: usize,
}

impl MonitorDefinition {
    /// Users that are listed: some monitors have as many as there are endpoints.
    pub const MAX_USERS: usize = 100;
}

/// The definition of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Monitor {
    /// As in `[monitor.NAME]`.
    pub name: String,
    /// What is done.
    pub kind: MonitorKind,
    /// Port that is connected to, 1 to 65535.
    pub port: u16,
    /// Interval, fast interval, fall, rise.
    pub thresholds: Thresholds,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// Addresses of this machine that checks come from, one of a family at most; where there is none the system chooses.
    pub source: Vec<IpAddr>,
    /// What is wrong though checks pass.
    pub watch: Watch,
}

impl Monitor {
    /// Where a check of this address comes from, if that is set.
    pub fn source_for(&self, addr: IpAddr) -> Option<IpAddr> {
        self.source.iter().copied().find(|source| source.is_ipv4() == addr.is_ipv4())
    }
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MonitorKind {
    /// Connects; perhaps says something and listens.
    Tcp(TcpCheck),
    /// A request over plain HTTP.
    Http(HttpCheck),
    /// A request over TLS.
    Https {
        /// Request and expectation; `host` is the SNI as well.
        check: HttpCheck,
        /// Whom it trusts.
        tls: TlsCheck,
    },
    /// A query over UDP.
    Dns(DnsCheck),
    /// The health service of gRPC.
    Grpc(GrpcCheck),
    /// A program of the operator's.
    Exec(ExecCheck),
    /// An echo request (ICMP).
    Ping,
    /// A query of Prometheus.
    Prometheus(Box<PrometheusCheck>),
    /// Nothing is asked: somebody reports.
    Push(PushCheck),
    /// Nothing is asked: callers report how many of their calls succeed.
    Share(ShareCheck),
}

impl MonitorKind {
    /// The key of the files that says it; `None` for what a pool asks for.
    pub fn word(&self) -> Option<MonitorWord> {
        Some(match self {
            MonitorKind::Tcp(_) => MonitorWord::Tcp,
            MonitorKind::Http(_) => MonitorWord::Http,
            MonitorKind::Https { .. } => MonitorWord::Https,
            MonitorKind::Dns(_) => MonitorWord::Dns,
            MonitorKind::Grpc(_) => MonitorWord::Grpc,
            MonitorKind::Exec(_) => MonitorWord::Exec,
            MonitorKind::Ping => MonitorWord::Ping,
            MonitorKind::Prometheus(_) => MonitorWord::Prometheus,
            MonitorKind::Push(_) => MonitorWord::Push,
            MonitorKind::Share(_) => return None,
        })
    }

    /// Nobody asks: what is known comes with reports.
    pub fn is_reported(&self) -> bool {
        matches!(self, MonitorKind::Push(_) | MonitorKind::Share(_))
    }

    /// What was said last is forgotten, or worth less, with time.
    pub fn grows_old(&self) -> bool {
        self.is_reported() || matches!(self, MonitorKind::Prometheus(_))
    }

    /// So old its last word is forgotten, if it is at all.
    pub fn forgotten_after(&self) -> Option<Duration> {
        match self {
            MonitorKind::Push(push) if push.forget => Some(push.stale),
            MonitorKind::Prometheus(asked) if asked.forget => Some(asked.stale),
            _ => None,
        }
    }

    /// How long the last word counts when no other comes; `None` where checks ask again and again, or the word loses its weight by itself.
    pub fn stale(&self) -> Option<Duration> {
        match self {
            MonitorKind::Push(push) => Some(push.stale),
            MonitorKind::Prometheus(asked) => Some(asked.stale),
            _ => None,
        }
    }

    /// How it speaks TLS, if it does.
    pub fn tls(&self) -> Option<&TlsCheck> {
        match self {
            MonitorKind::Https { tls, .. } => Some(tls),
            MonitorKind::Tcp(TcpCheck { tls: Some(named), .. }) => Some(&named.tls),
            MonitorKind::Grpc(check) => check.tls.as_ref(),
            MonitorKind::Prometheus(check) => check.tls.as_ref(),
            _ => None,
        }
    }
}

/// How a check speaks TLS, and whom it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsCheck {
    /// PEM file added to the system's roots, absolute path.
    pub ca: Option<PathBuf>,
    /// The certificate is not looked at.
    pub insecure: bool,
    /// The oldest version that will do.
    pub min_version: TlsVersion,
    /// What we show to who wants to know.
    pub client: Option<Box<ClientCertificate>>,
}

/// Versions of TLS; those before are gone (RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A client certificate and its key: PEM files, absolute paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The chain, our own first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// TLS with a name to ask for, where the protocol has none of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamedTls {
    /// SNI, and what the certificate must be valid for.
    pub host: String,
    /// Whom it trusts.
    pub tls: TlsCheck,
}

/// What a TCP check says and hears; nothing of both: it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpCheck {
    /// Sent once the connection stands.
    pub send: Option<String>,
    /// Substring that the first 16 KiB of what comes must hold.
    pub reply: Option<String>,
    /// All of it within TLS.
    pub tls: Option<Box<NamedTls>>,
}

/// Request and expectation of an HTTP check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// Path and query, starts with `/`.
    pub path: String,
    /// Host header (and SNI), without port.
    pub host: String,
    /// GET unless said otherwise.
    pub method: HttpMethod,
    /// Further headers of the request; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Inclusive ranges of accepted status codes; default 200 to 299.
    pub status: Vec<(u16, u16)>,
    /// Substring that the first 16 KiB of the body must hold.
    pub body: Option<String>,
    /// What the body, of which 16 KiB are looked at, must match.
    pub pattern: Option<Pattern>,
    /// JSON pointers (RFC 6901) into the body and what must be there. The body has at most 16 KiB then.
    pub json: Vec<(String, JsonExpected)>,
    /// Of HTTP.
    pub version: HttpVersion,
}

/// What must stand at a place of a JSON body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JsonExpected {
    /// This scalar, in JSON.
    Is(String),
    /// A number within all of these.
    Number(Vec<Bound>),
}

/// Versions of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// RFC 9112.
    #[default]
    Http11,
    /// RFC 9113; without TLS by prior knowledge.
    Http2,
}

/// Methods that ask and change nothing, and POST without a body for endpoints that want it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpMethod {
    /// The default.
    #[default]
    Get,
    /// Without a body.
    Head,
    /// What the origin can do.
    Options,
    /// Without a body of the request.
    Post,
}

impl HttpMethod {
    /// As in a request.
    pub fn word(self) -> &'static str {
        match self {
            HttpMethod::Get => "GET",
            HttpMethod::Head => "HEAD",
            HttpMethod::Options => "OPTIONS",
            HttpMethod::Post => "POST",
        }
    }
}

/// Question and expectation of a DNS check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsCheck {
    /// What is asked for, absolute.
    pub name: Name,
    /// Of which type; class IN, recursion not desired.
    pub rtype: RecordType,
    /// Accepted response code.
    pub rcode: Rcode,
    /// One of the records of that type must say this, in presentation form.
    pub answer: Option<String>,
}

/// Whom a gRPC check asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrpcCheck {
    /// A service's name; empty for the server as a whole.
    pub service: String,
    /// Authority (and SNI), without port.
    pub host: String,
    /// Over TLS, and whom it trusts then.
    pub tls: Option<TlsCheck>,
}

/// What an exec check runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExecCheck {
    /// The program's whole path, and its arguments.
    pub command: Vec<String>,
    /// A port that it is told of.
    pub port: Option<u16>,
}

/// How the states of an endpoint's checks come to its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// As one of its monitors has it, by position in [`Endpoint::monitors`](super::model::Endpoint::monitors).
    Check(u16),
    /// As the `count`-th best of these has it; with none of none it is up.
    AtLeast {
        /// So many must be usable, at most as many as there are.
        count: u16,
        /// Of these.
        of: Vec<Vote>,
    },
    /// Down where this is usable, and the reverse.
    Not(Box<Vote>),
}

impl Vote {
    /// The positions that it looks at.
    pub fn positions(&self) -> Vec<u16> {
        match self {
            Vote::Check(at) => vec![*at],
            Vote::AtLeast { of, .. } => of.iter().flat_map(Vote::positions).collect(),
            Vote::Not(vote) => vote.positions(),
        }
    }
}
