//! Address space as numbers: prefixes, IPv4 embedded in IPv6, private space.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::model::Prefix;

/// Both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// 32-bit addresses.
    V4,
    /// 128-bit addresses.
    V6,
}

/// The bits of an address, an IPv4 one in the low 32.
pub fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    }
}

/// The width of an address's family in bits.
pub fn width(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// The last address of a prefix, as [`bits`].
pub fn last(prefix: Prefix) -> u128 {
    bits(prefix.addr) | host_mask(width(prefix.addr), prefix.len)
}

/// True when `prefix` covers `addr`; families never mix.
pub fn contains(prefix: Prefix, addr: IpAddr) -> bool {
    prefix.addr.is_ipv4() == addr.is_ipv4() && bits(addr) & !host_mask(width(addr), prefix.len) == bits(prefix.addr)
}

/// `addr` cut to `len` bits.
pub fn prefix_of(addr: IpAddr, len: u8) -> Prefix {
    let len = len.min(width(addr));
    let cut = bits(addr) & !host_mask(width(addr), len);
    let addr = match addr {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(cut as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(cut)),
    };
    Prefix { addr, len }
}

/// Reads `192.0.2.0/24`, `2001:db8::/32` or a lone address, which is its own prefix. The error says what is wrong with it.
pub fn parse_prefix(text: &str) -> Result<Prefix, String> {
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(len)),
        None => (text, None),
    };
    let addr: IpAddr = addr.parse().map_err(|_| format!("found {text:?}, expected a prefix such as \"192.0.2.0/24\" or \"2001:db8::/32\""))?;
    let width = width(addr);
    let len = match len {
        None => width,
        // `u8::from_str` takes a leading plus sign, a network does not.
        Some(len) => match len.parse::<u8>() {
            Ok(number) if number <= width && len.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => return Err(format!("found the length {len:?} in {text:?}, expected 0 to {width}")),
        },
    };
    let prefix = prefix_of(addr, len);
    if prefix.addr != addr {
        return Err(format!("found {text:?}, which has bits behind its length; did you mean \"{}/{len}\"?", prefix.addr));
    }
    Ok(prefix)
}

/// Ones where a prefix of `len` in an address of `width` bits leaves room.
pub(super) fn host_mask(width: u8, len: u8) -> u128 {
    match u32::from(width.saturating_sub(len)) {
        128.. => u128::MAX,
        room => (1 << room) - 1,
    }
}

/// How blocks lie in one another.
pub(super) struct Nesting {
    /// Where each stretch begins, and the innermost block there; over the whole space, from 0.
    pub(super) starts: Vec<(u128, Option<usize>)>,
    /// For each block the one around it.
    pub(super) parents: Vec<Option<usize>>,
}

/// Cuts a space that ends at `max` at the borders of `blocks` (first and last address). Blocks are aligned, so that two either nest or do not touch;
/// they come in order of their first address, outer before inner.
pub(super) fn nest(blocks: &[(u128, u128)], max: u128) -> Nesting {
    let mut starts: Vec<(u128, Option<usize>)> = vec![(0, None)];
    let mut put = |first: u128, block: Option<usize>| match starts.last_mut() {
        Some(stretch) if stretch.0 == first => stretch.1 = block,
        _ => starts.push((first, block)),
    };
    let (mut parents, mut open): (Vec<Option<usize>>, Vec<usize>) = (Vec::with_capacity(blocks.len()), Vec::new());
    for at in 0..=blocks.len() {
        let next = blocks.get(at).map(|(first, _)| *first);
        while let Some(ended) = open.pop_if(|open| next.is_none_or(|next| blocks[*open].1 < next)) {
            if blocks[ended].1 < max {
                put(blocks[ended].1 + 1, open.last().copied());
            }
        }
        if let Some(next) = next {
            parents.push(open.last().copied());
            open.push(at);
            put(next, Some(at));
        }
    }
    Nesting { starts, parents }
}

/// A block of IPv6 whose addresses carry an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Embedding {
    /// First address.
    pub(super) first: u128,
    /// Length of the block.
    pub(super) len: u8,
    /// Position of the IPv4 address, in bits from the left: an IPv4 scope of `s` is `at + s` here.
    pub(super) at: u8,
    /// Teredo writes it inverted (RFC 4380 §4).
    pub(super) inverted: bool,
}

/// Where IPv4 hides in IPv6, in address order. The deprecated IPv4-compatible `::/96` is not among them: nobody sends it, and `::` and `::1` live there.
pub(super) const EMBEDDINGS: [Embedding; 4] = [
    // Mapped, RFC 4291 §2.5.5.2.
    Embedding { first: 0xffff_0000_0000, len: 96, at: 96, inverted: false },
    // NAT64 well-known prefix, RFC 6052 §2.1.
    Embedding { first: 0x0064_ff9b << 96, len: 96, at: 96, inverted: false },
    // Teredo, RFC 4380.
    Embedding { first: 0x2001_0000 << 96, len: 32, at: 96, inverted: true },
    // 6to4, RFC 3056.
    Embedding { first: 0x2002 << 112, len: 16, at: 16, inverted: false },
];

impl Embedding {
    /// The last address of the block.
    pub(super) fn last(&self) -> u128 {
        self.first | host_mask(128, self.len)
    }

    /// The IPv4 address that `addr`, an address of this block, carries.
    pub(super) fn extract(&self, addr: u128) -> u32 {
        let word = (addr >> (96 - u32::from(self.at))) as u32;
        if self.inverted { !word } else { word }
    }
}

/// The block that `addr` lies in, if it carries an IPv4 address.
pub(super) fn embedding(addr: u128) -> Option<&'static Embedding> {
    EMBEDDINGS.iter().find(|block| block.first == addr & !host_mask(128, block.len))
}

/// The IPv4 address hidden in `addr` (mapped, NAT64, 6to4, Teredo), else `addr` itself.
pub fn unembed(addr: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = addr else { return addr };
    let number = u128::from(v6);
    embedding(number).map_or(addr, |block| IpAddr::V4(Ipv4Addr::from(block.extract(number))))
}

/// IPv4 space that says nothing about where a client is: (first, length), in address order. RFC 6890 and its registry: blocks that hosts use as
/// their own address but that are not globally reachable. `0.0.0.0/8` is among them because a client subnet cut to nothing ends up there.
/// Documentation and benchmark blocks are not: no host uses them, and examples must work with them; nor is 240.0.0.0/4.
pub(super) const PRIVATE_V4: [(u32, u8); 7] = [
    (0x0000_0000, 8),  // "this network", RFC 1122
    (0x0a00_0000, 8),  // private use, RFC 1918
    (0x6440_0000, 10), // shared by carriers, RFC 6598
    (0x7f00_0000, 8),  // loopback, RFC 1122
    (0xa9fe_0000, 16), // link local, RFC 3927
    (0xac10_0000, 12), // private use, RFC 1918
    (0xc0a8_0000, 16), // private use, RFC 1918
];

/// The same for IPv6.
pub(super) const PRIVATE_V6: [(u128, u8); 5] = [
    (0, 127),                     // unspecified and loopback, RFC 4291
    (0x0064_ff9b_0001 << 80, 48), // translation inside one network, RFC 8215
    (0xfc << 120, 7),             // unique local, RFC 4193
    (0xfe80 << 112, 10),          // link local, RFC 4291
    (0xfec0 << 112, 10),          // site local, deprecated by RFC 3879 but still configured
];

/// True for addresses that say nothing about where a client is: private use, loopback, link local and their like; embedded IPv4 counts as IPv4.
pub fn is_private(addr: IpAddr) -> bool {
    match unembed(addr) {
        IpAddr::V4(addr) => PRIVATE_V4.iter().any(|&(first, len)| u32::from(addr) & !(host_mask(32, len) as u32) == first),
        IpAddr::V6(addr) => PRIVATE_V6.iter().any(|&(first, len)| u128::from(addr) & !host_mask(128, len) == first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn embedded_ipv4_is_found() {
        for (given, expected) in [
            ("192.0.2.33", "192.0.2.33"),
            ("::ffff:192.0.2.33", "192.0.2.33"),
            ("64:ff9b::192.0.2.33", "192.0.2.33"),
            ("2002:c000:0221::1", "192.0.2.33"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdde", "192.0.2.33"), // the example of RFC 4380 §5.1 in its common form
            ("::192.0.2.33", "::192.0.2.33"),
            ("::1", "::1"),
            ("64:ff9b:0:0:0:1::", "64:ff9b:0:0:0:1::"),
            ("64:ff9b:1::192.0.2.33", "64:ff9b:1::192.0.2.33"),
            ("2001:1::1", "2001:1::1"),
            ("2003::1", "2003::1"),
        ] {
            assert_eq!(unembed(addr(given)), addr(expected), "{given}");
        }
    }

    #[test]
    fn prefixes_are_read_strictly() {
        for (text, expected) in [
            ("192.0.2.0/24", Some(24)),
            ("0.0.0.0/0", Some(0)),
            ("192.0.2.1", Some(32)),
            ("::/0", Some(0)),
            ("::1", Some(128)),
            ("2001:db8::/32", Some(32)),
        ] {
            assert_eq!(parse_prefix(text).ok().map(|prefix| prefix.len), expected, "{text}");
        }
        for text in [
            "",
            "/",
            "192.0.2.1/24",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+24",
            "192.0.2.0/-1",
            "192.0.2/24",
            "::/129",
            "2001:db8::1/64",
            "192.0.2.0/24/8",
            "x",
        ] {
            assert!(parse_prefix(text).is_err(), "{text}");
        }
    }

    #[test]
    fn private_space_is_what_hosts_use_but_nobody_routes() {
        for private in [
            "10.1.2.3",
            "172.16.0.0",
            "192.168.255.255",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "0.0.0.0",
            "::",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(addr(private)), "{private}");
        }
        for public in [
            "9.255.255.255",
            "172.32.0.0",
            "192.0.2.1",
            "198.18.0.1",
            "100.128.0.0",
            "255.255.255.255",
            "::2",
            "2001:db8::1",
            "2002:c000:0201::",
            "fbff::",
        ] {
            assert!(!is_private(addr(public)), "{public}");
        }
    }

    #[test]
    fn contains_keeps_families_apart() {
        let all: Prefix = parse_prefix("0.0.0.0/0").expect("a prefix");
        assert!(contains(all, addr("255.255.255.255")) && !contains(all, addr("::1")));
        let net = parse_prefix("2001:db8::/33").expect("a prefix");
        assert!(contains(net, addr("2001:db8:7fff::")) && !contains(net, addr("2001:db8:8000::")));
        assert_eq!(last(net), u128::from("2001:db8:7fff:ffff:ffff:ffff:ffff:ffff".parse::<Ipv6Addr>().expect("an address")));
    }

    #[test]
    fn tables_are_in_order_and_aligned() {
        assert!(EMBEDDINGS.windows(2).all(|pair| pair[0].last() < pair[1].first));
        assert!(PRIVATE_V4.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(PRIVATE_V6.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(PRIVATE_V4.iter().all(|&(first, len)| u128::from(first) & host_mask(32, len) == 0));
        assert!(PRIVATE_V6.iter().all(|&(first, len)| first & host_mask(128, len) == 0));
    }
}
