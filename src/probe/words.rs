//! From the errors of sockets, TLS and HTTP to the words that an operator reads at night. Knows nothing of checks but the phase they were in.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

use crate::certs::words::{foreign, material, spelled};
use crate::health::Failure;
use crate::health::dates::{Bound, OutOfTime};

/// A timeout that is noticed this much too late says that this machine stood still, not that the endpoint did.
const STALL: Duration = Duration::from_secs(1);

/// Where checks would come from is not this machine's, or used up.
pub(super) const NO_LOCAL_ADDRESS: &str = "no free local address or port";

/// A lookup came to nothing, so nothing is known of the name.
const UNRESOLVED: &str = "this machine's resolver gave no answer";

/// What a check is busy with. The words are those of `Failure::Timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// Waits for one of our own few lookups to end.
    Queue,
    Resolve,
    /// Waits for one of our own few programs to end.
    Place,
    Run,
    Connect,
    Tls,
    Response,
    Body,
    /// Connects over TCP: what came over UDP was cut off.
    ConnectAgain,
    /// The same question over TCP.
    ResponseAgain,
}

impl Phase {
    pub(super) const ALL: [Phase; 10] = [
        Phase::Queue,
        Phase::Resolve,
        Phase::Place,
        Phase::Run,
        Phase::Connect,
        Phase::Tls,
        Phase::Response,
        Phase::Body,
        Phase::ConnectAgain,
        Phase::ResponseAgain,
    ];

    /// The part of a check that it is, for whoever wants to know what took how long.
    pub(super) fn part(self) -> &'static str {
        match self {
            Phase::Response => "first byte",
            Phase::Place => "wait",
            Phase::ConnectAgain => "tcp",
            Phase::ResponseAgain => "tcp answer",
            phase => phase.word(),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Phase::Queue | Phase::Resolve => "resolve",
            Phase::Place | Phase::Run => "run",
            Phase::Connect => "connect",
            Phase::Tls => "tls",
            Phase::Response => "response",
            Phase::Body => "body",
            Phase::ConnectAgain => "connect over TCP (it answers over UDP, but truncated)",
            Phase::ResponseAgain => "response over TCP (it answers over UDP, but truncated)",
        }
    }
}

/// A check that was stopped after `took`, where `timeout` was allowed.
pub(super) fn timed_out(took: Duration, timeout: Duration, phase: Phase) -> Failure {
    match took.checked_sub(timeout) {
        Some(late) if late > STALL => Failure::Internal(format!("this machine stood still for {:.1} s", late.as_secs_f64())),
        _ if phase == Phase::Queue => Failure::Internal("too many lookups of host names hang in this machine's resolver".to_owned()),
        // Whose silence it is cannot be told: the resolver's, or that of those whom it asks.
        _ if phase == Phase::Resolve => Failure::Internal(format!("{UNRESOLVED} within the timeout")),
        _ if phase == Phase::Place => Failure::Internal("too many programs of checks run at a time".to_owned()),
        _ => Failure::Timeout(phase.word()),
    }
}

/// The first cause in the chain of `error` that we have words for, else the last cause's own words.
pub(super) fn failure(error: &(dyn Error + 'static), phase: Phase) -> Failure {
    let mut cause = error;
    loop {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return tls_failure(tls);
        }
        let next = match cause.downcast_ref::<io::Error>() {
            // An io::Error skips itself and its content when asked for its source.
            Some(io) => match io.get_ref() {
                Some(inner) if inner.is::<rustls::Error>() || inner.is::<io::Error>() || inner.source().is_some() => {
                    Some(inner as &(dyn Error + 'static))
                }
                _ => return io_failure(io, phase),
            },
            None => cause.source(),
        };
        match next {
            Some(next) => cause = next,
            None => return http_failure(&cause.to_string(), phase),
        }
    }
}

/// Words for an error of hyper's, whose types say less than their texts.
fn http_failure(text: &str, phase: Phase) -> Failure {
    // Over HTTP/2 errors of the system come as their texts.
    const OF_THE_SYSTEM: [(&str, io::ErrorKind); 5] = [
        ("connection closed", io::ErrorKind::UnexpectedEof),
        ("unexpected end of file", io::ErrorKind::UnexpectedEof),
        ("broken pipe", io::ErrorKind::BrokenPipe),
        ("connection reset", io::ErrorKind::ConnectionReset),
        ("connection aborted", io::ErrorKind::ConnectionAborted),
    ];
    if let Some((_, kind)) = OF_THE_SYSTEM.iter().find(|(words, _)| text.contains(words)) {
        return io_failure(&(*kind).into(), phase);
    }
    if text.contains("frame with invalid size") && !text.contains("error received") {
        // What is longer than any frame is the beginning of a reply in text.
        return Failure::Protocol("the peer does not speak HTTP/2 on this port".to_owned());
    }
    if let Some(words) = http2_words(text) {
        return Failure::Protocol(words);
    }
    let foreign_tongue = phase == Phase::Response && ["unexpected message", "HTTP version parsed"].iter().any(|part| text.contains(part));
    Failure::Protocol(if foreign_tongue { "the peer does not speak HTTP on this port".to_owned() } else { foreign(text) })
}

/// What went wrong in HTTP/2: who broke off what, and for which of the reasons of RFC 9113 §7.
fn http2_words(text: &str) -> Option<String> {
    const REASONS: [(&str, &str); 14] = [
        ("not a result of an error", "NO_ERROR"),
        ("unspecific protocol error", "PROTOCOL_ERROR"),
        ("unexpected internal error", "INTERNAL_ERROR"),
        ("flow-control protocol violated", "FLOW_CONTROL_ERROR"),
        ("settings ACK not received", "SETTINGS_TIMEOUT"),
        ("received frame when stream half-closed", "STREAM_CLOSED"),
        ("frame with invalid size", "FRAME_SIZE_ERROR"),
        ("refused stream before", "REFUSED_STREAM"),
        ("stream no longer needed", "CANCEL"),
        ("unable to maintain the header compression", "COMPRESSION_ERROR"),
        ("connection established in response to a CONNECT", "CONNECT_ERROR"),
        ("detected excessive load", "ENHANCE_YOUR_CALM"),
        ("security properties do not meet", "INADEQUATE_SECURITY"),
        ("endpoint requires HTTP/1.1", "HTTP_1_1_REQUIRED"),
    ];
    let (_, reason) = REASONS.iter().find(|(words, _)| text.contains(words))?;
    let what = if text.contains("stream error") { "request" } else { "connection" };
    Some(match text.contains("error received") {
        true if *reason == "HTTP_1_1_REQUIRED" => "the peer wants HTTP/1.1 here (HTTP_1_1_REQUIRED)".to_owned(),
        true => format!("the peer broke off the {what} over HTTP/2 ({reason})"),
        // Which of the two it is, nobody says.
        false if *reason == "PROTOCOL_ERROR" && what == "request" || ["COMPRESSION_ERROR", "ENHANCE_YOUR_CALM"].contains(reason) => {
            format!("the response has more than 64 KiB of headers, which is the limit here, or breaks the rules of HTTP/2 ({reason})")
        }
        false => format!("the peer breaks the rules of HTTP/2 ({reason})"),
    })
}

/// Words for an error of the system's resolver, which tells them apart in its texts only: those of glibc, then of musl.
///
/// | error | meaning |
/// |---|---|
/// | no such name, no address | it was answered: counts |
/// | a temporary failure (no resolver answers, or it says SERVFAIL), refused, no memory, no descriptors | it was not: does not count |
pub(super) fn lookup_failure(host: &str, error: &io::Error) -> Failure {
    const UNANSWERED: [&str; 6] = [
        "Temporary failure in name resolution",
        "Non-recoverable failure in name resolution",
        "Memory allocation failure",
        "Try again",
        "Unrecoverable error",
        "Out of memory",
    ];
    let text = error.to_string();
    let said = plain(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text));
    // An error of the system itself is never an answer.
    if error.raw_os_error().is_some() || UNANSWERED.iter().any(|words| text.contains(words)) {
        return Failure::Internal(format!("{UNRESOLVED} for \"{host}\": {said}"));
    }
    Failure::Resolve(format!("no address for \"{host}\": {said}"))
}

/// Words for an error of the operating system.
///
/// | error | meaning |
/// |---|---|
/// | refused, reset, host unreachable, … | the endpoint's fault: counts |
/// | no descriptors, no memory, no free port, not permitted | ours: does not count |
/// | network unreachable or down, no address of our own, a blackhole route | this machine has no way to the address at all, so it cannot judge the endpoint: does not count, but tells of its network. (A router's ICMP message does not end a connect on Linux.) |
pub(super) fn io_failure(error: &io::Error, phase: Phase) -> Failure {
    if let Some(failure) =
        no_network(error, phase).or_else(|| error.raw_os_error().and_then(own_fault).map(|words| Failure::Internal(words.to_owned())))
    {
        return failure;
    }
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::ConnectionAborted => "connection aborted",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::TimedOut => "the operating system gave up waiting for a reply",
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => "connection closed",
        _ => return Failure::Connect(plain(&error.to_string())),
    };
    let words = match phase {
        Phase::Queue | Phase::Resolve | Phase::Place | Phase::Run | Phase::Connect | Phase::ConnectAgain => {
            return Failure::Connect(words.to_owned());
        }
        Phase::Tls => return Failure::Tls(format!("{words} during the handshake")),
        Phase::Response | Phase::ResponseAgain => format!("{words} before a response"),
        Phase::Body => format!("{words} in the middle of the body"),
    };
    // To end a connection properly, but too early, is bad HTTP; to reset it is none.
    if error.kind() == io::ErrorKind::UnexpectedEof { Failure::Protocol(words) } else { Failure::Connect(words) }
}

/// Host unreachable is not among them: it is what a dead machine on our own link looks like.
fn no_network(error: &io::Error, phase: Phase) -> Option<Failure> {
    let words = match error.kind() {
        // What Linux says to a connect over a route that throws everything away.
        _ if matches!(phase, Phase::Connect | Phase::ConnectAgain) && error.raw_os_error() == Some(libc::EINVAL) => {
            "this machine has a blackhole route there, or the address needs an interface"
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => "this machine has no route to the network",
        io::ErrorKind::AddrNotAvailable => NO_LOCAL_ADDRESS,
        _ => return None,
    };
    Some(Failure::NoNetwork(words.to_owned()))
}

fn own_fault(code: i32) -> Option<&'static str> {
    match code {
        libc::EMFILE | libc::ENFILE => Some("no file descriptors left"),
        libc::ENOBUFS | libc::ENOMEM => Some("no memory for a socket"),
        libc::EAFNOSUPPORT => Some("this machine does not speak the address family"),
        libc::EPERM | libc::EACCES => Some("this machine does not permit the connection"),
        _ => None,
    }
}

fn tls_failure(error: &rustls::Error) -> Failure {
    let out_of_time = match error {
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => Some((time, Bound::Until(not_after.as_secs()))),
        rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            Some((time, Bound::From(not_before.as_secs())))
        }
        _ => None,
    };
    if let Some((time, bound)) = out_of_time {
        return Failure::OutOfTime(OutOfTime { why: material(error), at: time.as_secs(), bound });
    }
    Failure::Tls(match error {
        rustls::Error::AlertReceived(alert) => format!("the peer sent the alert {}", alert_words(*alert)),
        rustls::Error::InvalidMessage(_) => "the peer does not speak TLS on this port".to_owned(),
        rustls::Error::PeerIncompatible(why) => format!("no common protocol version or cipher: {}", spelled(&format!("{why:?}"))),
        rustls::Error::PeerMisbehaved(why) => format!("the peer breaks the protocol: {}", spelled(&format!("{why:?}"))),
        rustls::Error::InappropriateMessage { .. } | rustls::Error::InappropriateHandshakeMessage { .. } => {
            "the peer sent a message out of turn".to_owned()
        }
        rustls::Error::NoCertificatesPresented => "the peer sent no certificate".to_owned(),
        other => material(other),
    })
}

/// The RFC 8446 name of an alert, in words.
fn alert_words(alert: AlertDescription) -> String {
    format!("\"{}\"", spelled(&format!("{alert:?}")))
}

/// The system's words without its number and capital letter.
pub(super) fn plain(words: &str) -> String {
    let words = foreign(words.split(" (os error").next().unwrap_or(words));
    let mut characters = words.chars();
    characters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_have_plain_words_and_ours_do_not_count() {
        let check = |code: i32, phase: Phase, words: &str| {
            assert_eq!(io_failure(&io::Error::from_raw_os_error(code), phase).to_string(), words);
        };
        check(libc::ECONNREFUSED, Phase::Connect, "connect: connection refused");
        check(libc::EHOSTUNREACH, Phase::Connect, "connect: host unreachable");
        check(libc::ETIMEDOUT, Phase::Connect, "connect: the operating system gave up waiting for a reply");
        check(libc::ECONNRESET, Phase::Tls, "TLS: connection reset during the handshake");
        check(libc::ECONNRESET, Phase::Response, "connect: connection reset before a response");
        check(libc::EPIPE, Phase::Body, "connect: connection closed in the middle of the body");
        check(libc::EMFILE, Phase::Connect, "check could not run: no file descriptors left");
        check(libc::EADDRNOTAVAIL, Phase::Connect, "check could not run: no free local address or port");
        check(libc::ENETUNREACH, Phase::Connect, "check could not run: this machine has no route to the network");
        check(libc::EPERM, Phase::Connect, "check could not run: this machine does not permit the connection");
        let blackhole = "check could not run: this machine has a blackhole route there, or the address needs an interface";
        check(libc::EINVAL, Phase::Connect, blackhole);
        check(libc::EINVAL, Phase::Body, "connect: invalid argument");
    }

    #[test]
    fn a_lookup_that_nobody_answered_says_nothing_of_the_name() {
        let check = |error: io::Error, words: &str| assert_eq!(lookup_failure("a.example", &error).to_string(), words);
        for (said, words) in [
            ("Name or service not known", "resolve: no address for \"a.example\": name or service not known"),
            ("No address associated with hostname", "resolve: no address for \"a.example\": no address associated with hostname"),
            (
                "Temporary failure in name resolution",
                "check could not run: this machine's resolver gave no answer for \"a.example\": temporary failure in name resolution",
            ),
            ("Try again", "check could not run: this machine's resolver gave no answer for \"a.example\": try again"),
        ] {
            check(io::Error::other(format!("failed to lookup address information: {said}")), words);
        }
        let words = "check could not run: this machine's resolver gave no answer for \"a.example\": too many open files";
        check(io::Error::from_raw_os_error(libc::EMFILE), words);
    }

    #[test]
    fn no_way_to_the_network_is_a_kind_of_its_own() {
        let check = |code: i32, expected: bool| {
            let failure = io_failure(&io::Error::from_raw_os_error(code), Phase::Connect);
            assert_eq!(matches!(failure, Failure::NoNetwork(_)), expected, "{failure}");
        };
        [libc::ENETUNREACH, libc::ENETDOWN, libc::EADDRNOTAVAIL, libc::EINVAL].into_iter().for_each(|code| check(code, true));
        [libc::EHOSTUNREACH, libc::EMFILE, libc::EPERM, libc::EAFNOSUPPORT, libc::ECONNREFUSED].into_iter().for_each(|code| check(code, false));
    }

    #[test]
    fn a_timeout_names_its_phase_unless_this_machine_stood_still() {
        let check = |took: u64, phase: Phase, words: &str| {
            assert_eq!(timed_out(Duration::from_millis(took), Duration::from_secs(3), phase).to_string(), words);
        };
        check(3001, Phase::Connect, "timeout during connect");
        check(3900, Phase::Body, "timeout during body");
        check(3000, Phase::Resolve, "check could not run: this machine's resolver gave no answer within the timeout");
        check(3000, Phase::Queue, "check could not run: too many lookups of host names hang in this machine's resolver");
        check(9000, Phase::Tls, "check could not run: this machine stood still for 6.0 s");
    }

    #[test]
    fn causes_are_found_inside_io_errors() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert_eq!(failure(&wrapped, Phase::Tls).to_string(), "TLS: certificate from an unknown issuer");
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert_eq!(failure(&eof, Phase::Tls).to_string(), "TLS: connection closed during the handshake");
    }

    #[test]
    fn tls_errors_have_plain_words() {
        let check = |error: rustls::Error, words: &str| assert_eq!(tls_failure(&error).to_string(), words);
        check(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName), "TLS: the peer sent the alert \"unrecognised name\"");
        check(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), "TLS: the peer sent the alert \"handshake failure\"");
        check(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "TLS: the peer does not speak TLS on this port");
        check(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), "TLS: certificate from an unknown issuer");
    }

    #[test]
    fn no_words_are_names_of_a_library() {
        use rustls::{PeerIncompatible, PeerMisbehaved};
        for (error, words) in [
            (
                rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "no common protocol version or cipher: no cipher suites in common",
            ),
            (
                rustls::Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(None)),
                "no common protocol version or cipher: server rejected encrypted client hello",
            ),
            (rustls::Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests), "the peer breaks the protocol: too many key update requests"),
        ] {
            assert_eq!(tls_failure(&error).to_string(), format!("TLS: {words}"));
        }
    }
}
