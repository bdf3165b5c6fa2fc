//! Echo requests (ICMP, RFC 792 and RFC 4443) from a socket that needs no rights of its own: Linux permits it to the groups of `net.ipv4.ping_group_range`.

use std::net::{SocketAddr, UdpSocket as StdSocket};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::check::{Progress, Way};
use super::words::{self, Phase};
use crate::health::{Failure, Outcome};

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// What comes back: random, so that a reply is one to this request.
const PAYLOAD: usize = 16;
const ECHO_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Sends one request; its reply passes.
pub(super) async fn ping(way: Way, progress: &Progress) -> Outcome {
    let socket = open(way).map_err(|error| match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT) => Failure::Internal(NOT_PERMITTED.to_owned()),
        _ => words::io_failure(&error, Phase::Connect),
    })?;
    let fail = |error: std::io::Error| words::io_failure(&error, Phase::Connect);
    let (echo, reply) = if way.to.is_ipv4() { (ECHO_V4, ECHO_REPLY_V4) } else { (ECHO_V6, ECHO_REPLY_V6) };
    let mut request = [0; HEADER + PAYLOAD];
    request[0] = echo;
    // The kernel fills in the checksum, and the identifier, by which it finds this socket again.
    getrandom::fill(&mut request[HEADER..]).map_err(|error| Failure::Internal(format!("no random octets: {error}")))?;
    socket.send(&request).await.map_err(fail)?;
    progress.enter(Phase::Response);
    let mut found = [0; 256];
    loop {
        let len = socket.recv(&mut found).await.map_err(fail)?;
        let found = found.get(..len).unwrap_or_default();
        if answers(found, reply, &request) {
            return Ok(());
        }
    }
}

/// An echo of this request; others are of long ago, or somebody else's.
fn answers(found: &[u8], reply: u8, request: &[u8]) -> bool {
    found.first() == Some(&reply) && found.get(HEADER..) == request.get(HEADER..)
}

/// Why a check could not run.
const NOT_PERMITTED: &str = "this machine does not permit ping to this program (sysctl net.ipv4.ping_group_range)";

fn open(way: Way) -> std::io::Result<UdpSocket> {
    let (domain, protocol) = if way.to.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if let Some(from) = way.from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect(&SocketAddr::new(way.to.ip(), 0).into())?;
    UdpSocket::from_std(StdSocket::from(socket))
}

/// What is said at a load where some monitor pings and this machine does not permit it.
pub(super) fn trouble() -> Option<&'static str> {
    let probe = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4));
    let denied = |error: &std::io::Error| matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
    probe.as_ref().is_err_and(denied).then_some(NOT_PERMITTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_echo_of_this_request_answers_it() {
        let request: Vec<u8> = (0..(HEADER + PAYLOAD) as u8).collect();
        let echo = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut found = request.clone();
            found[0] = ECHO_REPLY_V4;
            change(&mut found);
            answers(&found, ECHO_REPLY_V4, &request)
        };
        // Checksum, identifier and sequence number are the kernel's.
        assert!(echo(&|_| {}) && echo(&|found| found[2..HEADER].fill(0xff)));
        assert!(!echo(&|found| found[0] = ECHO_V4), "the request itself");
        for at in HEADER..HEADER + PAYLOAD {
            assert!(!echo(&|found| found[at] ^= 1), "another payload at {at}");
        }
        assert!(
            !echo(&|found| found.truncate(HEADER))
                && !echo(&|found| found.truncate(3))
                && !echo(&|found| found.push(0))
                && !echo(&|found| found.clear())
        );
    }
}
