//! Server cookies that all servers of an address can make and check alike (RFC 9018), under shared secrets.
//!
//! ```text
//! client cookie (8) │ version 1 │ reserved (3) │ timestamp (4) │ hash (8)
//!                    └─────────────── server cookie, 16 octets ──────────┘
//! hash = SipHash-2-4(client cookie │ version │ reserved │ timestamp │ client address, secret), little-endian
//! ```
//!
//! ```text
//! version   hash                  age of the timestamp            verdict
//! not 1     –                     –                               Invalid
//! 1         of no secret          –                               Invalid
//! 1         of any secret         over 1 h, or over 5 min ahead   Invalid
//! 1         of any but the first  within                          Renew
//! 1         of the first          over 30 min, or ahead           Renew
//! 1         of the first          within                          Good
//! ```

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use super::edns::{CLIENT_COOKIE_LEN, Cookie, SERVER_COOKIE_LEN, ServerPart};

/// Octets of a secret (RFC 9018 §4.4: SipHash takes 128 bits).
pub const SECRET_LEN: usize = 16;

/// The most secrets at once: each cookie that none of them made costs a hash for every one. Rotation needs two or three (RFC 9018 §5).
pub const MAX_SECRETS: usize = 8;

/// Seconds for which a cookie is accepted (RFC 9018 §4.3).
pub const MAX_AGE_S: u32 = 3600;

/// Seconds that a cookie's clock may be ahead of ours (RFC 9018 §4.3).
pub const MAX_AHEAD_S: u32 = 300;

/// Seconds after which a client gets a new one (RFC 9018 §4.3).
pub const RENEW_AFTER_S: u32 = 1800;

const VERSION: u8 = 1;

/// What is hashed: the client's cookie, eight octets of header, an address.
const MAX_HASHED: usize = CLIENT_COOKIE_LEN + 8 + 16;

/// The secrets that cookies are made and checked with. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// The first signs; all are accepted. Never empty.
    all: Box<[[u8; SECRET_LEN]]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.all.len())
    }
}

/// What a server cookie is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours, not this client's, or too old.
    Invalid,
    /// Valid, and time for a new one.
    Renew,
    /// Valid; it goes back as it came.
    Good,
}

impl Secrets {
    /// From 1 to [`MAX_SECRETS`]; `None` for any other number. The first signs.
    pub fn new(all: &[[u8; SECRET_LEN]]) -> Option<Secrets> {
        (1..=MAX_SECRETS).contains(&all.len()).then(|| Secrets { all: all.into() })
    }

    /// The server cookie for a client at `source`, `unix_s` being now.
    pub fn make(&self, client: &[u8; CLIENT_COOKIE_LEN], source: IpAddr, unix_s: u64) -> [u8; SERVER_COOKIE_LEN] {
        let mut server = [0; SERVER_COOKIE_LEN];
        server[0] = VERSION;
        // Serial arithmetic, until 2106 and on (RFC 9018 §4.3).
        server[4..8].copy_from_slice(&(unix_s as u32).to_be_bytes());
        let hash = self.all.first().map_or(0, |secret| hash(secret, client, &server, source));
        server[8..].copy_from_slice(&hash.to_le_bytes());
        server
    }

    /// Judges a cookie that came from `source`, and says which server cookie goes back.
    pub fn check(&self, cookie: &Cookie, source: IpAddr, unix_s: u64) -> (Verdict, [u8; SERVER_COOKIE_LEN]) {
        match cookie.server {
            ServerPart::Given(given) => match self.judge(&cookie.client, &given, source, unix_s as u32) {
                Verdict::Good => (Verdict::Good, given),
                other => (other, self.make(&cookie.client, source, unix_s)),
            },
            ServerPart::Absent | ServerPart::Foreign => (Verdict::Invalid, self.make(&cookie.client, source, unix_s)),
        }
    }

    fn judge(&self, client: &[u8; CLIENT_COOKIE_LEN], server: &[u8; SERVER_COOKIE_LEN], source: IpAddr, now: u32) -> Verdict {
        let [version, _, _, _, t0, t1, t2, t3, h @ ..] = server;
        let age = now.wrapping_sub(u32::from_be_bytes([*t0, *t1, *t2, *t3]));
        let is_ahead = age > u32::MAX / 2;
        let is_timely = if is_ahead { age.wrapping_neg() <= MAX_AHEAD_S } else { age <= MAX_AGE_S };
        if *version != VERSION || !is_timely {
            return Verdict::Invalid;
        }
        // One comparison of two numbers: its time says nothing of where they differ.
        let given = u64::from_le_bytes(*h);
        match self.all.iter().position(|secret| hash(secret, client, server, source) == given) {
            Some(0) if !is_ahead && age <= RENEW_AFTER_S => Verdict::Good,
            Some(_) => Verdict::Renew,
            None => Verdict::Invalid,
        }
    }
}

/// The reserved octets are hashed as they are: whoever made the cookie may have had a use for them (RFC 9018 §4.2).
fn hash(secret: &[u8; SECRET_LEN], client: &[u8; CLIENT_COOKIE_LEN], server: &[u8; SERVER_COOKIE_LEN], source: IpAddr) -> u64 {
    let mut octets = [0u8; MAX_HASHED];
    octets[..8].copy_from_slice(client);
    octets[8..16].copy_from_slice(&server[..8]);
    let len = match source {
        IpAddr::V4(v4) => {
            octets[16..20].copy_from_slice(&v4.octets());
            20
        }
        IpAddr::V6(v6) => {
            octets[16..32].copy_from_slice(&v6.octets());
            32
        }
    };
    SipHasher24::new_with_key(secret).hash(&octets[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets<const N: usize>(hex: &str) -> [u8; N] {
        let octets = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal digits");
        octets.try_into().expect("their number")
    }

    fn secrets(all: &[&str]) -> Secrets {
        Secrets::new(&all.iter().map(|hex| octets(hex)).collect::<Vec<_>>()).expect("their number")
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    /// Client cookie, address, time of the query; the server cookie in the query and in the reply.
    #[test]
    fn rfc9018_appendix_a_test_vectors() {
        let old = "dd3bdf9344b678b185a6f5cb60fca715";
        let new = "445536bcd2513298075a5d379663c962";
        for (section, all, client, source, now, given, verdict, reply) in [
            ("A.1", &[SECRET][..], "2464c4abcf10c957", "198.51.100.100", 1_559_731_985, None, Verdict::Invalid, "010000005cf79f111f8130c3eee29480"),
            (
                "A.2",
                &[SECRET],
                "2464c4abcf10c957",
                "198.51.100.100",
                1_559_734_385,
                Some("010000005cf79f111f8130c3eee29480"),
                Verdict::Renew,
                "010000005cf7a871d4a564a1442aca77",
            ),
            (
                "A.3",
                &[SECRET],
                "fc93fc62807ddb86",
                "203.0.113.203",
                1_559_727_985,
                Some("01abcdef5cf78f71a314227b6679ebf5"),
                Verdict::Good,
                "01abcdef5cf78f71a314227b6679ebf5",
            ),
            (
                "A.4",
                &[new, old],
                "22681ab97d52c298",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1_559_741_961,
                Some("010000005cf7c57926556bd0934c72f8"),
                Verdict::Renew,
                "010000005cf7c609a6bb79d16625507a",
            ),
        ] {
            let server = given.map_or(ServerPart::Absent, |given| ServerPart::Given(octets(given)));
            let cookie = Cookie { client: octets(client), server };
            let found = secrets(all).check(&cookie, source.parse().expect("an address"), now);
            assert_eq!(found, (verdict, octets(reply)), "{section}");
        }
    }

    #[test]
    fn rfc9018_section_4_3_timestamps() {
        let (secrets, source) = (secrets(&[SECRET]), "192.0.2.1".parse().expect("an address"));
        for made in [1_700_000_000u64, 4_294_967_290, 4_294_967_300] {
            let client = [7; 8];
            let cookie = Cookie { client, server: ServerPart::Given(secrets.make(&client, source, made)) };
            for (later, expected) in [
                (0, Verdict::Good),
                (1800, Verdict::Good),
                (1801, Verdict::Renew),
                (3600, Verdict::Renew),
                (3601, Verdict::Invalid),
                (1 << 31, Verdict::Invalid),
                (-1, Verdict::Renew),
                (-300, Verdict::Renew),
                (-301, Verdict::Invalid),
            ] {
                let now = made.wrapping_add_signed(later);
                assert_eq!(secrets.check(&cookie, source, now).0, expected, "made at {made}, {later} s later");
            }
        }
    }

    #[test]
    fn rfc9018_section_4_4_every_input_counts() {
        let source: IpAddr = "192.0.2.1".parse().expect("an address");
        let (secrets, client, now) = (secrets(&[SECRET]), [7; 8], 1_700_000_000);
        let server = secrets.make(&client, source, now);
        let verdict = |client, server, source| secrets.check(&Cookie { client, server }, source, now).0;
        assert_eq!(verdict(client, ServerPart::Given(server), source), Verdict::Good);
        assert_eq!(verdict(client, ServerPart::Foreign, source), Verdict::Invalid);
        assert_eq!(verdict(client, ServerPart::Given(server), "192.0.2.2".parse().expect("an address")), Verdict::Invalid);
        for bit in 0..64 {
            let mut other = client;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verdict(other, ServerPart::Given(server), source), Verdict::Invalid, "client, bit {bit}");
        }
        for bit in 0..128 {
            let mut other = server;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verdict(client, ServerPart::Given(other), source), Verdict::Invalid, "server, bit {bit}");
        }
    }

    #[test]
    fn rfc9018_section_5_the_first_secret_signs_and_all_are_accepted() {
        let source = "2001:db8::1".parse().expect("an address");
        let other = "445536bcd2513298075a5d379663c962";
        let (client, now) = ([7; 8], 1_700_000_000);
        let cookie = Cookie { client, server: ServerPart::Given(secrets(&[SECRET]).make(&client, source, now)) };
        for (all, expected) in
            [(&[SECRET][..], Verdict::Good), (&[SECRET, other], Verdict::Good), (&[other, SECRET], Verdict::Renew), (&[other], Verdict::Invalid)]
        {
            let (verdict, reply) = secrets(all).check(&cookie, source, now);
            assert_eq!(verdict, expected, "{all:?}");
            assert_eq!(reply, secrets(&all[..1]).make(&client, source, now), "the reply has one of the first");
        }
        assert_eq!(Secrets::new(&[]), None);
        assert_eq!(Secrets::new(&[[0; 16]; MAX_SECRETS + 1]), None);
        assert!(!format!("{:?}", secrets(&[SECRET])).contains("229"), "secrets are not shown");
    }
}
