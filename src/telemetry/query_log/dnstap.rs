//! dnstap: a protocol-buffers message for each reply (`dnstap.proto`, by Farsight Security), each a frame in a file of Frame Streams.
//!
//! ```text
//! file      START(content type)  frame*  STOP
//! START     0  length  2  field 1  length  "protobuf:dnstap.Dnstap"      every number 32 bits, network order
//! STOP      0  4  3
//! frame     length  octets
//! ```
//! Only what these messages need of protocol buffers is here: numbers of varying and of fixed length, and octets with their length.

use std::net::{IpAddr, SocketAddr};

use super::entry::Entry;
use crate::answer::Transport;

/// What stands at the beginning of a file.
pub(super) const START: &[u8] = b"\0\0\0\0\0\0\0\x22\0\0\0\x02\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";

/// What ends a file that is complete.
pub(super) const STOP: &[u8] = b"\0\0\0\0\0\0\0\x04\0\0\0\x03";

/// `Dnstap.Type.MESSAGE`.
const DNSTAP_MESSAGE: u64 = 1;

/// `Message.Type.AUTH_RESPONSE`: a reply that an authoritative server sent.
const AUTH_RESPONSE: u64 = 2;

/// Fields of `Dnstap`.
mod envelope {
    pub(super) const IDENTITY: u32 = 1;
    pub(super) const VERSION: u32 = 2;
    pub(super) const EXTRA: u32 = 3;
    pub(super) const MESSAGE: u32 = 14;
    pub(super) const TYPE: u32 = 15;
}

/// Fields of `Message`.
mod message {
    pub(super) const TYPE: u32 = 1;
    pub(super) const SOCKET_FAMILY: u32 = 2;
    pub(super) const SOCKET_PROTOCOL: u32 = 3;
    pub(super) const QUERY_ADDRESS: u32 = 4;
    pub(super) const RESPONSE_ADDRESS: u32 = 5;
    pub(super) const QUERY_PORT: u32 = 6;
    pub(super) const RESPONSE_PORT: u32 = 7;
    pub(super) const QUERY_TIME_SEC: u32 = 8;
    pub(super) const QUERY_TIME_NSEC: u32 = 9;
    pub(super) const QUERY_MESSAGE: u32 = 10;
    pub(super) const QUERY_ZONE: u32 = 11;
    pub(super) const RESPONSE_TIME_SEC: u32 = 12;
    pub(super) const RESPONSE_TIME_NSEC: u32 = 13;
    pub(super) const RESPONSE_MESSAGE: u32 = 14;
}

/// What is to be said of a reply beside what stands in its entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// Who we are.
    pub(super) identity: Option<&'a [u8]>,
    /// Name of the zone that answered, wire form.
    pub(super) zone: Option<&'a [u8]>,
    /// For `extra`.
    pub(super) extra: &'a str,
    /// The query may be shown.
    pub(super) with_query: bool,
    /// The reply may be shown.
    pub(super) with_reply: bool,
    /// The client, as far as it may be shown.
    pub(super) client: IpAddr,
}

/// Appends a frame. `inner` is room; what it holds before does not matter.
pub(super) fn write(entry: &Entry, about: &About<'_>, inner: &mut Vec<u8>, out: &mut Vec<u8>) {
    inner.clear();
    write_message(entry, about, inner);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    if let Some(identity) = about.identity {
        octets(out, envelope::IDENTITY, identity);
    }
    octets(out, envelope::VERSION, concat!("meridian ", env!("CARGO_PKG_VERSION")).as_bytes());
    octets(out, envelope::EXTRA, about.extra.as_bytes());
    octets(out, envelope::MESSAGE, inner);
    number(out, envelope::TYPE, DNSTAP_MESSAGE);
    let len = (out.len() - at - 4) as u32;
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

fn write_message(entry: &Entry, about: &About<'_>, out: &mut Vec<u8>) {
    let facts = &entry.facts;
    let (seconds, nanos) = (facts.time_ns / 1_000_000_000, (facts.time_ns % 1_000_000_000) as u32);
    number(out, message::TYPE, AUTH_RESPONSE);
    number(out, message::SOCKET_FAMILY, if about.client.is_ipv4() { 1 } else { 2 });
    let protocol = match facts.transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
        Transport::Https => 4,
        Transport::Quic => 7,
    };
    number(out, message::SOCKET_PROTOCOL, protocol);
    address(out, message::QUERY_ADDRESS, about.client);
    if is_known(&facts.server) && facts.server.is_ipv4() == about.client.is_ipv4() {
        address(out, message::RESPONSE_ADDRESS, facts.server.ip());
    }
    number(out, message::QUERY_PORT, u64::from(facts.client.port()));
    if facts.server.port() != 0 {
        number(out, message::RESPONSE_PORT, u64::from(facts.server.port()));
    }
    number(out, message::QUERY_TIME_SEC, seconds);
    fixed(out, message::QUERY_TIME_NSEC, nanos);
    if about.with_query {
        octets(out, message::QUERY_MESSAGE, &entry.query);
    }
    if let Some(zone) = about.zone {
        octets(out, message::QUERY_ZONE, zone);
    }
    number(out, message::RESPONSE_TIME_SEC, seconds);
    fixed(out, message::RESPONSE_TIME_NSEC, nanos);
    if about.with_reply {
        octets(out, message::RESPONSE_MESSAGE, &entry.reply);
    }
}

/// False for an address that stands for all of them.
pub(super) fn is_known(server: &SocketAddr) -> bool {
    !server.ip().is_unspecified()
}

fn address(out: &mut Vec<u8>, field: u32, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => octets(out, field, &addr.octets()),
        IpAddr::V6(addr) => octets(out, field, &addr.octets()),
    }
}

/// Wire types of protocol buffers.
const VARINT: u64 = 0;
const LEN: u64 = 2;
const I32: u64 = 5;

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u64) {
    varint(out, u64::from(field) << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

fn fixed(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, I32);
    out.extend_from_slice(&value.to_le_bytes());
}

fn octets(out: &mut Vec<u8>, field: u32, octets: &[u8]) {
    tag(out, field, LEN);
    varint(out, octets.len() as u64);
    out.extend_from_slice(octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_protocol_buffers_write_them() {
        for (value, expected) in
            [(0, &b"\x08\0"[..]), (1, b"\x08\x01"), (127, b"\x08\x7f"), (150, b"\x08\x96\x01"), (u64::from(u32::MAX), b"\x08\xff\xff\xff\xff\x0f")]
        {
            let mut out = Vec::new();
            number(&mut out, 1, value);
            assert_eq!(out, expected, "{value}");
        }
        let mut out = Vec::new();
        octets(&mut out, 14, b"testing");
        fixed(&mut out, 9, 0x0102_0304);
        assert_eq!(out, b"\x72\x07testing\x4d\x04\x03\x02\x01");
    }

    #[test]
    fn a_frame_says_how_long_it_is() {
        let (entry, mut inner, mut out) = (Entry::default(), Vec::new(), b"before".to_vec());
        let about =
            About { identity: Some(b"node"), zone: None, extra: "{}", with_query: true, with_reply: false, client: IpAddr::from([192, 0, 2, 1]) };
        write(&entry, &about, &mut inner, &mut out);
        let frame = &out[6..];
        let len = u32::from_be_bytes(frame[..4].try_into().expect("four")) as usize;
        assert_eq!(len, frame.len() - 4);
        assert!(frame[4..].starts_with(b"\x0a\x04node\x12"));
    }
}
