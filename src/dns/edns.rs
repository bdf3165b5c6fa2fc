//! What a client says in its OPT record (RFC 6891): the options that we know, read once and checked.
//!
//! ```text
//! option                      well formed                 otherwise
//! NSID (RFC 5001 §2.1)        any content, ignored        –
//! client subnet (RFC 7871)    §6, SCOPE 0                 FORMERR; unknown family: ignored
//! cookie (RFC 7873 §4)        8, or 16 to 40 octets       FORMERR (§5.2.2); only the first is looked at
//! keepalive (RFC 7828 §3.1)   empty                       FORMERR over a stream, ignored over UDP
//! padding (RFC 7830 §3)       any content, ignored        –
//! anything else               ignored (RFC 6891 §6.1.2)
//! an option that overruns     FORMERR
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The option codes that we read or write (IANA, DNS EDNS0 Option Codes).
pub mod option {
    /// RFC 5001.
    pub const NSID: u16 = 3;
    /// Client subnet, RFC 7871.
    pub const ECS: u16 = 8;
    /// RFC 7873.
    pub const COOKIE: u16 = 10;
    /// RFC 7828.
    pub const KEEPALIVE: u16 = 11;
    /// RFC 7830.
    pub const PADDING: u16 = 12;
    /// Extended error, RFC 8914.
    pub const EDE: u16 = 15;
}

/// Octets of a client cookie (RFC 7873 §4).
pub const CLIENT_COOKIE_LEN: usize = 8;

/// Octets of a server cookie of ours (RFC 9018 §4).
pub const SERVER_COOKIE_LEN: usize = 16;

/// What the client said in its OPT record (RFC 6891 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Octets of UDP payload the client takes, at least 512 (§6.2.3).
    pub udp_payload: u16,
    /// DNSSEC OK (RFC 3225).
    pub dnssec_ok: bool,
    /// Asks for the server's identity (RFC 5001).
    pub nsid: bool,
    /// Tells that padding is understood (RFC 7830 §4).
    pub padding: bool,
    /// Asks how long the connection is kept (RFC 7828).
    pub keepalive: Keepalive,
    /// Client subnet, if given and of a known family.
    pub ecs: Option<ClientSubnet>,
    /// Cookie, if given.
    pub cookie: Option<Cookie>,
}

/// A keepalive option in a query (RFC 7828 §3.2.1). Whether it counts depends on the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Keepalive {
    /// Not there.
    #[default]
    Absent,
    /// There, and empty as it has to be.
    Asked,
    /// There with a content, which only servers may send.
    Malformed,
}

/// A client subnet option (RFC 7871 §6), checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSubnet {
    /// Bits behind the source prefix are zero.
    pub addr: IpAddr,
    /// 0 to 32 or 128.
    pub source_len: u8,
}

/// A cookie option (RFC 7873 §4), its length checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Chosen by the client.
    pub client: [u8; CLIENT_COOKIE_LEN],
    /// What it had from a server before. `None` when there is none, or one of a length that is never ours.
    pub server: Option<[u8; SERVER_COOKIE_LEN]>,
}

impl Edns {
    /// Of an OPT record without options.
    pub(super) fn bare(udp_payload: u16, dnssec_ok: bool) -> Edns {
        let udp_payload = udp_payload.max(512);
        Edns { udp_payload, dnssec_ok, nsid: false, padding: false, keepalive: Keepalive::Absent, ecs: None, cookie: None }
    }

    /// Reads the options; `None` when they are malformed.
    #[inline]
    pub(super) fn read_options(&mut self, mut rest: &[u8]) -> Option<()> {
        let mut ecs_seen = false;
        while !rest.is_empty() {
            let (head, behind) = rest.split_first_chunk::<4>()?;
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let data = behind.get(..len)?;
            match u16::from_be_bytes([head[0], head[1]]) {
                option::NSID => self.nsid = true,
                option::ECS => {
                    if ecs_seen {
                        return None;
                    }
                    ecs_seen = true;
                    self.ecs = read_ecs(data)?;
                }
                option::COOKIE if self.cookie.is_none() => self.cookie = Some(read_cookie(data)?),
                option::KEEPALIVE => self.keepalive = if data.is_empty() { Keepalive::Asked } else { Keepalive::Malformed },
                option::PADDING => self.padding = true,
                _ => {}
            }
            rest = &behind[len..];
        }
        Some(())
    }
}

/// RFC 7873 §5.2.2: 8 octets, or 8 and a server's 8 to 32.
fn read_cookie(data: &[u8]) -> Option<Cookie> {
    let (client, server) = data.split_first_chunk()?;
    if !matches!(server.len(), 0 | 8..=32) {
        return None;
    }
    Some(Cookie { client: *client, server: server.try_into().ok() })
}

/// RFC 7871 §6 and §7.1.2: outer `None` is malformed; inner `None` is a family that we do not know, which is ignored.
fn read_ecs(data: &[u8]) -> Option<Option<ClientSubnet>> {
    let head = data.get(..4)?;
    let (family, source_len, scope_len) = (u16::from_be_bytes([head[0], head[1]]), head[2], head[3]);
    let octets = &data[4..];
    let width: u8 = match family {
        1 => 32,
        2 => 128,
        _ => return Some(None),
    };
    if scope_len != 0 || source_len > width || octets.len() != usize::from(source_len.div_ceil(8)) {
        return None;
    }
    let stray_bits = (8 - source_len % 8) % 8;
    if octets.last().is_some_and(|last| last & ((1u16 << stray_bits) - 1) as u8 != 0) {
        return None;
    }
    let mut full = [0u8; 16];
    full.get_mut(..octets.len())?.copy_from_slice(octets);
    let addr = if family == 1 { IpAddr::V4(Ipv4Addr::new(full[0], full[1], full[2], full[3])) } else { IpAddr::V6(Ipv6Addr::from(full)) };
    Some(Some(ClientSubnet { addr, source_len }))
}
