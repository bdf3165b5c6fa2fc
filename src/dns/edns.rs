//! What a client says in its OPT record (RFC 6891): the options that we know, read once and checked.
//!
//! ```text
//! option                      well formed                 otherwise
//! NSID (RFC 5001 §2.1)        any content, ignored        –
//! client subnet (RFC 7871)    §6, SCOPE 0                 FORMERR; unknown family: ignored
//! cookie (RFC 7873 §4)        8, or 16 to 40 octets       FORMERR (§5.2.2); those behind the first are ignored (§5.2)
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
    /// What it had from a server before.
    pub server: ServerPart,
}

/// The server's part of a cookie that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerPart {
    /// It has none yet.
    Absent,
    /// Of a length that ours never have.
    Foreign,
    /// Perhaps one of ours.
    Given([u8; SERVER_COOKIE_LEN]),
}

impl Edns {
    /// Of an OPT record without options.
    pub(super) fn bare(udp_payload: u16, dnssec_ok: bool) -> Edns {
        let udp_payload = udp_payload.max(512);
        Edns { udp_payload, dnssec_ok, nsid: false, padding: false, keepalive: Keepalive::Absent, ecs: None, cookie: None }
    }

    /// Of an OPT record whose options are not to be used: whether they ask for padding all the same, as far as they can be told apart. A reply that is an
    /// error has a length, too (RFC 7830 §4).
    #[cold]
    pub(super) fn with_padding_of(self, mut rest: &[u8]) -> Edns {
        let mut padding = false;
        while let Some((head, behind)) = rest.split_first_chunk::<4>() {
            padding |= u16::from_be_bytes([head[0], head[1]]) == option::PADDING;
            rest = behind.get(usize::from(u16::from_be_bytes([head[2], head[3]]))..).unwrap_or_default();
        }
        Edns { padding, ..self }
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
    let server = match (server.len(), server.try_into()) {
        (0, _) => ServerPart::Absent,
        (_, Ok(given)) => ServerPart::Given(given),
        (8..=32, _) => ServerPart::Foreign,
        _ => return None,
    };
    Some(Cookie { client: *client, server })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[u8]) -> Option<Edns> {
        let mut edns = Edns::bare(1232, false);
        edns.read_options(options).map(|()| edns)
    }

    /// One option.
    fn option(code: u16, data: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes(), &(data.len() as u16).to_be_bytes(), data].concat()
    }

    #[test]
    fn rfc7871_section_6_and_7_1_client_subnets() {
        let ecs = |body: &[u8]| {
            let mut option = vec![0, 8];
            option.extend_from_slice(&(body.len() as u16).to_be_bytes());
            option.extend_from_slice(body);
            read(&option).map(|edns| edns.ecs)
        };
        let v4 = |text: &str, source_len| Some(Some(ClientSubnet { addr: text.parse().expect("an address"), source_len }));
        assert_eq!(ecs(&[0, 1, 24, 0, 192, 0, 2]), v4("192.0.2.0", 24));
        assert_eq!(ecs(&[0, 1, 0, 0]), v4("0.0.0.0", 0));
        assert_eq!(ecs(&[0, 2, 48, 0, 0x20, 1, 0xd, 0xb8, 0, 1]), v4("2001:db8:1::", 48));
        assert_eq!(ecs(&[0, 1, 20, 0, 192, 0, 0x10]), v4("192.0.16.0", 20));
        assert_eq!(ecs(&[0, 9, 24, 0, 1, 2, 3]), Some(None), "unknown families are ignored");
        for (why, bad) in [
            ("scope in a query", &[0, 1, 24, 24, 192, 0, 2][..]),
            ("stray bits", &[0, 1, 20, 0, 192, 0, 0x11]),
            ("too long a prefix", &[0, 1, 33, 0, 1, 2, 3, 4, 5]),
            ("too few octets", &[0, 1, 24, 0, 192, 0]),
            ("too many octets", &[0, 1, 24, 0, 192, 0, 2, 0]),
            ("no fixed part", &[0, 1, 24]),
        ] {
            assert_eq!(ecs(bad), None, "{why}");
        }
    }

    #[test]
    fn rfc7873_section_5_2_2_cookies_have_8_or_16_to_40_octets() {
        let octets: Vec<u8> = (1..=41).collect();
        let client = [1, 2, 3, 4, 5, 6, 7, 8];
        for len in 0..=41 {
            let server = match len {
                8 => ServerPart::Absent,
                24 => ServerPart::Given(octets[8..24].try_into().expect("sixteen")),
                _ => ServerPart::Foreign,
            };
            let expected = matches!(len, 8 | 16..=40).then_some(Some(Cookie { client, server }));
            assert_eq!(read(&option(option::COOKIE, &octets[..len])).map(|edns| edns.cookie), expected, "{len}");
        }
    }

    #[test]
    fn rfc7873_section_5_2_of_several_cookies_the_first_counts() {
        let both = |first: &[u8], second: &[u8]| read(&[option(option::COOKIE, first), option(option::COOKIE, second)].concat());
        let first = |edns: Option<Edns>| edns.and_then(|edns| edns.cookie).map(|cookie| cookie.client);
        assert_eq!(first(both(&[1; 8], &[2; 24])), Some([1; 8]));
        assert_eq!(first(both(&[1; 40], &[2; 8])), Some([1; 8]));
        assert_eq!(first(both(&[1; 8], &[2; 3])), Some([1; 8]));
        assert_eq!(both(&[1; 3], &[2; 8]), None);
    }

    #[test]
    fn rfc7828_rfc7830_and_rfc6891_section_6_1_2_options() {
        for (options, expected) in [
            (vec![], Some((Keepalive::Absent, false, false))),
            (option(option::KEEPALIVE, &[]), Some((Keepalive::Asked, false, false))),
            (option(option::KEEPALIVE, &[0, 100]), Some((Keepalive::Malformed, false, false))),
            (option(option::PADDING, &[0; 100]), Some((Keepalive::Absent, true, false))),
            (option(option::PADDING, &[1; 3]), Some((Keepalive::Absent, true, false))),
            (option(option::NSID, b"not empty"), Some((Keepalive::Absent, false, true))),
            (option(65001, &[1; 300]), Some((Keepalive::Absent, false, false))),
            ([option(100, &[]), option(option::NSID, &[])].concat(), Some((Keepalive::Absent, false, true))),
            (vec![0, 3, 0, 1], None),
            (vec![0, 100, 255, 255, 0], None),
            (vec![0, 3, 0], None),
            (vec![0], None),
        ] {
            assert_eq!(read(&options).map(|edns| (edns.keepalive, edns.padding, edns.nsid)), expected, "{options:?}");
        }
    }
}
