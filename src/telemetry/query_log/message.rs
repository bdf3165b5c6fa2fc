//! What a logged message says, and what of it is nobody's business. Messages come from the network: nothing in them is believed.

use std::net::IpAddr;
use std::ops::Range;

use crate::dns::edns::option;
use crate::dns::request::{HEADER_LEN, skip_name};
use crate::dns::{Class, Name, QueryName, RecordType};

/// Type, class, TTL and length.
const FIXED_LEN: usize = 10;

/// Options whose content says nothing of the client.
const HARMLESS: [u16; 3] = [option::NSID, option::KEEPALIVE, option::EDE];

/// What was asked: lower-case name, type, class.
pub(super) fn question(message: &[u8]) -> Option<(Name, RecordType, Class)> {
    if message.get(4..6)? == [0, 0] {
        return None;
    }
    let name = QueryName::read(message.get(HEADER_LEN..)?)?;
    let at = HEADER_LEN + name.as_wire().len();
    let fixed: &[u8; 4] = message.get(at..)?.first_chunk()?;
    let [t0, t1, c0, c1] = *fixed;
    Some((Name::from_wire(name.as_wire()).ok()?, RecordType(u16::from_be_bytes([t0, t1])), Class(u16::from_be_bytes([c0, c1]))))
}

/// A client subnet option as it stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    pub(super) addr: IpAddr,
    pub(super) source_len: u8,
    pub(super) scope: u8,
}

/// The client subnet of a message; none as well where it cannot be read.
pub(super) fn subnet(message: &[u8]) -> Option<Subnet> {
    let places = options(message)?;
    let (_, place) = places.into_iter().find(|(code, _)| *code == option::ECS)?;
    let (&[f0, f1, source_len, scope], octets) = message.get(place)?.split_first_chunk::<4>()?;
    let addr: IpAddr = match (u16::from_be_bytes([f0, f1]), octets.len()) {
        (1, ..=4) => padded::<4>(octets).into(),
        (2, ..=16) => padded::<16>(octets).into(),
        _ => return None,
    };
    Some(Subnet { addr, source_len, scope })
}

fn padded<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut all = [0; N];
    all.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
    all
}

/// Takes out of a message what tells clients apart: client subnets beyond so many bits, and the content of cookies and of options that are not known.
/// False when the message cannot be read, and so must not be shown.
pub(super) fn conceal(message: &mut [u8], (v4, v6): (u8, u8)) -> bool {
    let Some(places) = options(message) else { return false };
    for (code, place) in places {
        let Some(data) = message.get_mut(place) else { return false };
        if HARMLESS.contains(&code) {
            continue;
        }
        match data.split_first_chunk_mut::<4>() {
            Some(([0, 1, ..], octets)) if code == option::ECS => clear_beyond(octets, v4),
            Some(([0, 2, ..], octets)) if code == option::ECS => clear_beyond(octets, v6),
            Some((head, rest)) => {
                head.fill(0);
                rest.fill(0);
            }
            None => data.fill(0),
        }
    }
    true
}

/// The first `len` bits of an address.
pub(super) fn cut(addr: IpAddr, (v4, v6): (u8, u8)) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => {
            let mut octets = addr.octets();
            clear_beyond(&mut octets, v4);
            octets.into()
        }
        IpAddr::V6(addr) => {
            let mut octets = addr.octets();
            clear_beyond(&mut octets, v6);
            octets.into()
        }
    }
}

/// Clears all but the first `bits`.
fn clear_beyond(octets: &mut [u8], bits: u8) {
    for (at, octet) in octets.iter_mut().enumerate() {
        let kept = usize::from(bits).saturating_sub(8 * at).min(8);
        *octet &= !u8::MAX.checked_shr(kept as u32).unwrap_or(0);
    }
}

/// Code and place of every option of a message; `None` when it cannot be read to its end.
fn options(message: &[u8]) -> Option<Vec<(u16, Range<usize>)>> {
    let header: &[u8; HEADER_LEN] = message.first_chunk()?;
    let count = |at: usize| u32::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let mut at = HEADER_LEN;
    for _ in 0..count(4) {
        at = skip_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..count(6) + count(8) + count(10) {
        let fixed_at = skip_name(message, at)?;
        let fixed: &[u8; FIXED_LEN] = message.get(fixed_at..)?.first_chunk()?;
        let data_at = fixed_at + FIXED_LEN;
        at = data_at + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        message.get(data_at..at)?;
        if u16::from_be_bytes([fixed[0], fixed[1]]) == RecordType::OPT.0 {
            read_options(message, data_at..at, &mut found)?;
        }
    }
    (at == message.len()).then_some(found)
}

fn read_options(message: &[u8], data: Range<usize>, found: &mut Vec<(u16, Range<usize>)>) -> Option<()> {
    let mut at = data.start;
    while at < data.end {
        let &[c0, c1, l0, l1] = message.get(at..data.end)?.first_chunk::<4>()?;
        let place = at + 4..at + 4 + usize::from(u16::from_be_bytes([l0, l1]));
        message.get(place.clone()).filter(|_| place.end <= data.end)?;
        at = place.end;
        found.push((u16::from_be_bytes([c0, c1]), place));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_message_is_too_bad(octets in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..60, octet: u8) {
            let mut nearly = query(&[ECS, b"\0\x0a\0\x0812345678"].concat());
            nearly[at] = octet;
            for mut message in [octets, nearly] {
                let _ = (question(&message), subnet(&message));
                let len = message.len();
                conceal(&mut message, (24, 56));
                prop_assert_eq!(message.len(), len);
            }
        }
    }

    /// A query for www.example.com A with these options.
    fn query(options: &[u8]) -> Vec<u8> {
        let opt = [&b"\0\0\x29\x04\xd0\0\0\0\0"[..], &(options.len() as u16).to_be_bytes(), options].concat();
        [&b"\x12\x34\0\0\0\x01\0\0\0\0\0\x01\x03WWW\x07example\x03com\0\0\x01\0\x01"[..], &opt].concat()
    }

    const ECS: &[u8] = b"\0\x08\0\x08\0\x01\x20\x18\xcb\0\x71\x07";

    #[test]
    fn what_was_asked() {
        let (name, rtype, class) = question(&query(b"")).expect("a question");
        assert_eq!((name.to_string().as_str(), rtype, class), ("www.example.com.", RecordType(1), Class::IN));
        for bad in [&b""[..], &[0; 11], &[0; 12], b"\0\0\0\0\0\x01\0\0\0\0\0\0\x03ww", b"\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x01\0"] {
            assert_eq!(question(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn client_subnets_are_found_behind_other_options() {
        let cookie = b"\0\x0a\0\x0812345678";
        let found = subnet(&query(&[cookie, ECS].concat()));
        assert_eq!(found, Some(Subnet { addr: "203.0.113.7".parse().expect("an address"), source_len: 32, scope: 24 }));
        let v6 = b"\0\x08\0\x0a\0\x02\x30\0\x20\x01\x0d\xb8\0\x01";
        assert_eq!(subnet(&query(v6)), Some(Subnet { addr: "2001:db8:1::".parse().expect("an address"), source_len: 48, scope: 0 }));
        for none in
            [&b""[..], cookie, b"\0\x08\0\x02\0\x01", b"\0\x08\0\x05\0\x09\0\0\x01", b"\0\x08\0\x09\0\x01\x20\0\x01\x02\x03\x04\x05", b"\0\x08\0\xff"]
        {
            assert_eq!(subnet(&query(none)), None, "{none:?}");
        }
    }

    #[test]
    fn concealed_messages_say_nothing_of_the_client() {
        let mut message = query(&[ECS, b"\0\x0a\0\x0812345678", b"\xfd\xe9\0\x06\x02\x42\xac\x11\0\x02", b"\0\x03\0\x01n"].concat());
        assert!(conceal(&mut message, (24, 56)));
        let expected = query(
            &[b"\0\x08\0\x08\0\x01\x20\x18\xcb\0\x71\0", &b"\0\x0a\0\x08\0\0\0\0\0\0\0\0"[..], b"\xfd\xe9\0\x06\0\0\0\0\0\0", b"\0\x03\0\x01n"]
                .concat(),
        );
        assert_eq!(message, expected);
        // What cannot be read is not shown: cut short, with octets behind, or with an option that overruns.
        let whole = query(ECS);
        for bad in [whole[..whole.len() - 1].to_vec(), [&whole[..], b"x"].concat(), query(b"\0\x08\0\x09\0\x01\x20\0"), Vec::new()] {
            assert!(!conceal(&mut bad.clone(), (24, 56)), "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_cut_to_so_many_bits() {
        for (addr, bits, expected) in [
            ("192.0.2.129", (24, 56), "192.0.2.0"),
            ("192.0.2.129", (25, 56), "192.0.2.128"),
            ("192.0.2.129", (32, 56), "192.0.2.129"),
            ("192.0.2.129", (0, 56), "0.0.0.0"),
            ("2001:db8:1:2ff::1", (24, 56), "2001:db8:1:200::"),
            ("2001:db8:1:2ff::1", (24, 128), "2001:db8:1:2ff::1"),
            ("2001:db8:1:2ff::1", (24, 0), "::"),
        ] {
            assert_eq!(cut(addr.parse().expect("an address"), bits).to_string(), expected);
        }
    }
}
