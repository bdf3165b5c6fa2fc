//! Echo requests (ICMP, RFC 792 and RFC 4443). Linux permits them in two ways, and either will do:
//!
//! ```text
//! a datagram socket    to the groups of net.ipv4.ping_group_range (none by default in many systems, not even root's)
//! a raw socket         to whoever has CAP_NET_RAW; it hears every ICMP packet of its peer
//! ```

use std::io;
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

/// What a socket hears, and has to say by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The kernel fills in checksum and identifier.
    Datagram,
    /// Over IPv4 the header of IP stands before what is heard, and the checksum is ours; over IPv6 it is the kernel's (RFC 3542 §3.1).
    Raw,
}

/// Sends one request; its reply passes.
pub(super) async fn ping(way: Way, progress: &Progress) -> Outcome {
    let (socket, kind) = open(way).map_err(|error| match is_denied(&error) {
        true => Failure::Internal(NOT_PERMITTED.to_owned()),
        false => words::io_failure(&error, Phase::Connect),
    })?;
    let fail = |error: io::Error| words::io_failure(&error, Phase::Connect);
    let is_v4 = way.to.is_ipv4();
    let (echo, reply) = if is_v4 { (ECHO_V4, ECHO_REPLY_V4) } else { (ECHO_V6, ECHO_REPLY_V6) };
    let mut request = [0; HEADER + PAYLOAD];
    request[0] = echo;
    getrandom::fill(&mut request[HEADER..]).map_err(|error| Failure::Internal(format!("no random octets: {error}")))?;
    if kind == Kind::Raw {
        // The identifier, which nobody looks for: the payload tells one request from another.
        request.copy_within(HEADER..HEADER + 2, 4);
        if is_v4 {
            let sum = checksum(&request).to_be_bytes();
            request[2..4].copy_from_slice(&sum);
        }
    }
    socket.send(&request).await.map_err(fail)?;
    progress.enter(Phase::Response);
    let mut found = [0; 256];
    loop {
        let len = socket.recv(&mut found).await.map_err(fail)?;
        let mut found = found.get(..len).unwrap_or_default();
        if kind == Kind::Raw && is_v4 {
            // Its length stands in it, in words of four octets (RFC 791 §3.1).
            let header = found.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
            found = found.get(header..).unwrap_or_default();
        }
        if answers(found, reply, &request) {
            return Ok(());
        }
    }
}

/// An echo of this request; others are of long ago, or somebody else's.
fn answers(found: &[u8], reply: u8, request: &[u8]) -> bool {
    found.first() == Some(&reply) && found.get(HEADER..) == request.get(HEADER..)
}

/// The Internet checksum (RFC 1071) of an even number of octets.
fn checksum(octets: &[u8]) -> u16 {
    let sum = octets.chunks_exact(2).fold(0u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Why a check could not run.
const NOT_PERMITTED: &str =
    "this machine does not permit ping to this program: give its group a place in the sysctl net.ipv4.ping_group_range, or the program CAP_NET_RAW";

/// The kernel refuses a kind of socket to this program.
fn is_denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT))
}

/// A socket of the first kind that is permitted.
fn socket(is_v4: bool) -> io::Result<(Socket, Kind)> {
    let (domain, protocol) = if is_v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => Ok((socket, Kind::Datagram)),
        Err(error) if is_denied(&error) => Ok((Socket::new(domain, Type::RAW, Some(protocol))?, Kind::Raw)),
        Err(error) => Err(error),
    }
}

fn open(way: Way) -> io::Result<(UdpSocket, Kind)> {
    let (socket, kind) = socket(way.to.is_ipv4())?;
    socket.set_nonblocking(true)?;
    if let Some(from) = way.from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect(&SocketAddr::new(way.to.ip(), 0).into())?;
    Ok((UdpSocket::from_std(StdSocket::from(socket))?, kind))
}

/// What is said at a load where some monitor pings and this machine does not permit it.
pub(super) fn trouble() -> Option<&'static str> {
    socket(true).is_err_and(|error| is_denied(&error)).then_some(NOT_PERMITTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        // The example of its §3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff; 24]), 0);
    }

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
