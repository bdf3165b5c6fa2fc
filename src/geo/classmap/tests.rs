//! The class map against a naive leaf-pushed trie: class, privacy and scope.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::geo::table::{Facts, Table};
use crate::policy::model::Prefix;

/// A binary trie without equal sibling leaves; the leaf's depth is the minimal scope.
enum Trie {
    Leaf(Outcome),
    Node(Box<(Trie, Trie)>),
}

impl Trie {
    /// `borders`: sorted first addresses of stretches with their outcome, from `first` of this node.
    fn build(borders: &[(u128, Outcome)], first: u128, depth: u8, width: u8) -> Trie {
        let last = first | space::host_mask(width, depth);
        let inside: Vec<&(u128, Outcome)> = borders.iter().filter(|(start, _)| *start > first && *start <= last).collect();
        let here = borders.iter().rev().find(|(start, _)| *start <= first).expect("a stretch from 0").1;
        if inside.iter().all(|(_, outcome)| *outcome == here) {
            return Trie::Leaf(here);
        }
        let middle = first | 1 << (width - depth - 1);
        let near: Vec<(u128, Outcome)> = std::iter::once((first, here)).chain(inside.into_iter().copied()).collect();
        match (Trie::build(&near, first, depth + 1, width), Trie::build(&near, middle, depth + 1, width)) {
            (Trie::Leaf(left), Trie::Leaf(right)) if left == right => Trie::Leaf(left),
            both => Trie::Node(Box::new(both)),
        }
    }

    fn lookup(&self, addr: u128, width: u8) -> (Outcome, u8) {
        let (mut at, mut depth) = (self, 0);
        loop {
            match at {
                Trie::Leaf(outcome) => return (*outcome, depth),
                Trie::Node(children) => {
                    at = if addr >> (width - depth - 1) & 1 == 0 { &children.0 } else { &children.1 };
                    depth += 1;
                }
            }
        }
    }
}

/// The rules of the map, told address by address.
struct Naive<'a> {
    networks: &'a [(Prefix, Facts)],
    nets: &'a [Prefix],
    v4: Trie,
    v6: Trie,
}

impl<'a> Naive<'a> {
    fn new(networks: &'a [(Prefix, Facts)], nets: &'a [Prefix]) -> Naive<'a> {
        let mut naive = Naive { networks, nets, v4: Trie::Leaf(0), v6: Trie::Leaf(0) };
        naive.v4 = naive.trie(32, EMBEDDED);
        let embedded = if let Trie::Leaf(outcome) = naive.v4 { outcome } else { EMBEDDED };
        naive.v6 = naive.trie(128, embedded);
        naive
    }

    fn trie(&self, width: u8, embedded: Outcome) -> Trie {
        let addr = |number: u128| if width == 32 { IpAddr::V4(Ipv4Addr::from(number as u32)) } else { IpAddr::V6(Ipv6Addr::from(number)) };
        let mut borders = vec![0];
        let mut add =
            |first: u128, len: u8| borders.extend([Some(first), (first | space::host_mask(width, len)).checked_add(1)].into_iter().flatten());
        let prefixes = self.networks.iter().map(|(net, _)| net).chain(self.nets);
        prefixes.filter(|net| space::width(net.addr) == width).for_each(|net| add(space::bits(net.addr), net.len));
        if width == 32 {
            space::PRIVATE_V4.iter().for_each(|&(first, len)| add(first.into(), len));
        } else {
            space::PRIVATE_V6.iter().for_each(|&(first, len)| add(first, len));
            space::EMBEDDINGS.iter().for_each(|block| add(block.first, block.len));
            add(0, 96); // databases keep IPv4 here
        }
        borders.retain(|border| *border <= space::host_mask(width, 0));
        borders.sort_unstable();
        borders.dedup();
        let borders: Vec<(u128, Outcome)> = borders.into_iter().map(|border| (border, self.outcome(addr(border), embedded))).collect();
        Trie::build(&borders, 0, 0, width)
    }

    fn outcome(&self, addr: IpAddr, embedded: Outcome) -> Outcome {
        let deepest = self.nets.iter().filter(|net| space::contains(**net, addr)).max_by_key(|net| net.len).copied();
        let block = if let IpAddr::V6(addr) = addr { space::embedding(addr.into()) } else { None };
        let deepest = deepest.filter(|net| block.is_none_or(|block| net.len >= block.len));
        if block.is_some() && deepest.is_none() {
            return embedded;
        }
        let longest = self.networks.iter().filter(|(net, _)| space::contains(*net, addr)).max_by_key(|(net, _)| net.len);
        let blank = block.is_some() || addr.is_ipv6() && space::bits(addr) >> 32 == 0;
        let facts = if blank { Facts::default() } else { longest.map(|(_, facts)| facts.clone()).unwrap_or_default() };
        let private = match addr {
            IpAddr::V4(addr) => space::PRIVATE_V4.iter().any(|&(first, len)| u32::from(addr) & !(space::host_mask(32, len) as u32) == first),
            IpAddr::V6(addr) => space::PRIVATE_V6.iter().any(|&(first, len)| u128::from(addr) & !space::host_mask(128, len) == first),
        };
        classify(&facts, deepest) | if private && deepest.is_none() { PRIVATE } else { 0 }
    }

    fn lookup(&self, addr: IpAddr) -> Hit {
        let (outcome, scope) = match addr {
            IpAddr::V4(addr) => self.v4.lookup(u32::from(addr).into(), 32),
            IpAddr::V6(addr) => self.v6.lookup(addr.into(), 128),
        };
        if outcome != EMBEDDED {
            return Hit { class: outcome & !PRIVATE, private: outcome & PRIVATE != 0, scope };
        }
        let block = space::embedding(space::bits(addr)).expect("an embedding");
        let below = self.lookup(space::unembed(addr));
        Hit { scope: below.scope + block.at, ..below }
    }
}

/// A few classes, so that neighbours are often equal.
fn classify(facts: &Facts, net: Option<Prefix>) -> u16 {
    match net {
        Some(net) => 10 + u16::from(net.len % 3),
        None => facts.asn.map_or(0, |asn| (asn % 3) as u16),
    }
}

fn net(text: &str) -> Prefix {
    space::parse_prefix(text).expect("a network")
}

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn data(list: &[(&str, u32)]) -> Vec<(Prefix, Facts)> {
    list.iter().map(|(text, asn)| (net(text), Facts { asn: Some(*asn), ..Facts::default() })).collect()
}

/// Every address at a border, beside it, and its embedded forms.
fn interesting(networks: &[(Prefix, Facts)], nets: &[Prefix]) -> Vec<IpAddr> {
    let mut all = vec![addr("0.0.0.0"), addr("255.255.255.255"), addr("::"), addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")];
    let mut add = |first: u128, last: u128, v4: bool| {
        for number in
            [first, first.wrapping_sub(1), first.wrapping_add(1), last, last.wrapping_add(1), last.wrapping_sub(1), first + (last - first) / 3]
        {
            all.push(if v4 { IpAddr::V4(Ipv4Addr::from(number as u32)) } else { IpAddr::V6(Ipv6Addr::from(number)) });
        }
    };
    networks.iter().map(|(net, _)| *net).chain(nets.iter().copied()).for_each(|net| add(space::bits(net.addr), space::last(net), net.addr.is_ipv4()));
    space::PRIVATE_V4.iter().for_each(|&(first, len)| add(first.into(), u128::from(first) | space::host_mask(32, len), true));
    space::PRIVATE_V6.iter().for_each(|&(first, len)| add(first, first | space::host_mask(128, len), false));
    space::EMBEDDINGS.iter().for_each(|block| add(block.first, block.last(), false));
    let embedded = all.iter().filter(|addr| addr.is_ipv4()).flat_map(|addr| {
        let number = space::bits(*addr);
        [
            0xffff_0000_0000 | number,
            0x0064_ff9b << 96 | number,
            0x2001 << 112 | 0xabcd << 64 | (number ^ 0xffff_ffff),
            0x2002 << 112 | number << 80 | 7,
        ]
    });
    let embedded: Vec<IpAddr> = embedded.map(|number| IpAddr::V6(Ipv6Addr::from(number))).collect();
    all.extend(embedded);
    all
}

/// Map and trie agree everywhere it matters.
fn check(networks: &[(Prefix, Facts)], nets: &[Prefix]) {
    let table = Table::from_networks(networks);
    let map = ClassMap::build(&table, nets, None, &mut classify).expect("a map");
    let naive = Naive::new(networks, nets);
    // The same from shared ground: with tables of its own, with shared ones, and as it decides.
    if let Some(ground) = ClassMapBuilder::new(&table, nets, None).expect("a builder").ground() {
        for most_shared in [0, 4, usize::MAX] {
            let Some(shared) = ground.build_with(&mut classify, most_shared).expect("classes") else { continue };
            for addr in interesting(networks, nets) {
                assert_eq!(shared.lookup(addr), map.lookup(addr), "{addr} {most_shared}");
            }
            assert_eq!((shared.len(), shared.is_uniform()), (map.len(), map.is_uniform()));
        }
    }
    let mut classes: Vec<u16> = Vec::new();
    for addr in interesting(networks, nets) {
        let (found, expected) = (map.lookup(addr), naive.lookup(addr));
        classes.push(expected.class);
        if map.is_uniform() {
            assert_eq!((found.class, found.private, found.scope), (expected.class, false, 0), "{addr}");
        } else {
            assert_eq!(found, expected, "{addr}");
        }
    }
    assert_eq!(map.is_uniform(), classes.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn maps_of_the_same_networks_share_their_ranges() {
    let table = Table::from_networks(&data(&[("192.0.0.0/20", 1), ("192.0.8.0/24", 2), ("2001:db8::/32", 3), ("2001:db8:1::/48", 4)]));
    let ground = ClassMapBuilder::new(&table, &[], None).expect("a builder").ground().expect("ground");
    let map = ground.build_with(&mut |facts, _| (facts.asn.unwrap_or(0) % 2) as u16, 0).expect("classes").expect("a map");
    let other = ground.build_with(&mut |facts, _| facts.asn.unwrap_or(0) as u16, 0).expect("classes").expect("a map");
    assert_eq!(map.shared_bytes().collect::<Vec<_>>(), other.shared_bytes().collect::<Vec<_>>());
    assert_eq!(map.shared_bytes().count(), 2);
    for (client, class, scope) in [("192.0.8.1", 0, 24), ("192.0.9.1", 1, 24), ("2001:db8:1::1", 0, 48), ("2001:db8:2::", 1, 47)] {
        assert_eq!(map.lookup(addr(client)), Hit { class, private: false, scope }, "{client}");
    }
}

#[test]
fn rfc_7871_example_of_a_hole_is_cut_minimally() {
    let table = Table::from_networks(&data(&[("192.0.0.0/20", 1), ("192.0.8.0/24", 2)]));
    let map = ClassMap::build(&table, &[], None, &mut |facts, _| facts.asn.unwrap_or(0) as u16).expect("a map");
    for (client, class, scope) in [
        ("192.0.8.1", 2, 24),
        ("192.0.9.1", 1, 24),
        ("192.0.10.1", 1, 23),
        ("192.0.12.1", 1, 22),
        ("192.0.0.1", 1, 21),
        ("192.0.7.255", 1, 21),
        ("192.0.16.0", 0, 20),
        ("::ffff:192.0.8.1", 2, 120),
        ("64:ff9b::192.0.9.1", 1, 120),
        ("2002:c000:0a01::1", 1, 39),
    ] {
        assert_eq!(map.lookup(addr(client)), Hit { class, private: false, scope }, "{client}");
    }
}

#[test]
fn uniform_map_has_scope_zero_everywhere() {
    let map = ClassMap::uniform(7);
    for client in interesting(&[], &[]) {
        assert_eq!(map.lookup(client), Hit { class: 7, private: false, scope: 0 }, "{client}");
    }
    let built = ClassMap::build(&Table::from_networks(&data(&[("192.0.2.0/24", 1)])), &[net("10.0.0.0/8")], None, &mut |_, _| 7).expect("a map");
    assert_eq!(built, map, "one class for everyone is the uniform map, however it came about");
    assert_eq!(built.content_hash(), map.content_hash());
    assert_ne!(map.content_hash(), ClassMap::uniform(8).content_hash());
}

#[test]
fn private_space_is_its_own_outcome() {
    let table = Table::from_networks(&data(&[("192.0.2.0/24", 1), ("10.1.0.0/16", 1)]));
    let map = ClassMap::build(&table, &[net("10.9.0.0/16"), net("fd00:9::/32")], None, &mut classify).expect("a map");
    for (client, class, private, scope) in [
        ("10.0.0.1", 0, true, 16),
        ("10.1.0.1", 1, true, 16),
        ("10.9.0.1", 11, false, 16),
        ("10.200.0.1", 0, true, 9),
        ("100.64.0.1", 0, true, 10),
        ("100.128.0.1", 0, false, 9),
        ("172.31.255.255", 0, true, 12),
        ("192.168.0.1", 0, true, 16),
        ("192.169.0.1", 0, false, 16),
        ("127.0.0.1", 0, true, 8),
        ("0.0.0.0", 0, true, 8),
        ("169.254.1.1", 0, true, 16),
        ("fc00::1", 0, true, 8),
        ("fd00:9::1", 12, false, 32),
        ("fd00:8::1", 0, true, 32),
        ("fe80::1", 0, true, 9), // link local and deprecated site local are neighbours
        ("::1", 0, true, 127),
        ("::2", 0, false, 127),
        ("2002:0a01:0203::1", 1, true, 32),
        ("2001:db8::1", 0, false, 6),
    ] {
        let found = map.lookup(addr(client));
        assert_eq!((found.class, found.private), (class, private), "{client}");
        if client != "2001:db8::1" {
            assert_eq!(found.scope, scope, "{client}");
        }
    }
}

#[test]
fn map_agrees_with_a_leaf_pushed_trie() {
    check(&[], &[]);
    check(&data(&[("0.0.0.0/0", 1), ("::/0", 1)]), &[]);
    check(&data(&[("0.0.0.0/0", 1), ("::/0", 2)]), &[]);
    check(&data(&[("0.0.0.0/32", 1), ("0.0.0.1/32", 2), ("255.255.255.255/32", 1), ("255.255.255.254/32", 2)]), &[]);
    check(&data(&[("::/128", 1), ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", 1)]), &[net("::/128"), net("::1/128")]);
    check(&data(&[("0.0.0.0/1", 1)]), &[net("128.0.0.0/1")]);
    check(&[], &[net("10.0.0.0/8"), net("10.1.0.0/16"), net("10.1.2.3/32")]);
    check(&[], &[net("0.0.0.0/0")]);
    check(&[], &[net("::/0")]);
    check(&data(&[("::/0", 1)]), &[net("0.0.0.0/0"), net("::/0")]);
    check(&data(&[("10.0.0.0/8", 2)]), &[net("10.128.0.0/9"), net("fc00::/6")]);
    // Networks inside, at and around blocks that carry IPv4.
    check(
        &data(&[("192.0.2.0/24", 1)]),
        &[net("::ffff:0:0/96"), net("64:ff9b::c000:200/120"), net("2002::/15"), net("2001::/32"), net("2002:c000::/24")],
    );
    // Borders deeper than /64, in neighbouring /64s.
    check(
        &data(&[("2001:db8::/32", 1), ("2001:db8::/65", 2), ("2001:db8:0:1::/66", 1)]),
        &[net("2001:db8:0:2::1/128"), net("2001:db8:0:1:ffff::/80"), net("ffff:ffff:ffff:ffff:8000::/65")],
    );
    check(&data(&[("2001:db8:0:1:8000::/65", 1), ("2001:db8:0:2::/65", 1)]), &[]);
}

#[test]
fn scopes_never_overlap_and_cannot_be_shortened() {
    let networks = data(&[("198.51.100.0/24", 1), ("198.51.101.0/25", 2), ("203.0.112.0/22", 1), ("203.0.113.7/32", 2), ("2001:db8::/33", 1)]);
    let nets = [net("198.51.100.128/26"), net("10.0.0.0/9"), net("2001:db8:0:0:1::/80")];
    let map = ClassMap::build(&Table::from_networks(&networks), &nets, None, &mut classify).expect("a map");
    let same = |a: Hit, b: Hit| (a.class, a.private) == (b.class, b.private);
    let clients = interesting(&networks, &nets);
    for client in &clients {
        let hit = map.lookup(*client);
        let block = space::prefix_of(*client, hit.scope);
        for other in &clients {
            if space::contains(block, *other) {
                let found = map.lookup(*other);
                assert!(same(found, hit) && found.scope == hit.scope, "{other} lies in the scope of {client}");
            }
        }
        // One bit shorter would reach someone else: the sibling block holds a different outcome somewhere.
        let shorter = space::prefix_of(*client, hit.scope - 1);
        let borders: Vec<IpAddr> = clients.iter().copied().filter(|other| space::contains(shorter, *other)).collect();
        let sibling_only = borders.iter().any(|other| !same(map.lookup(*other), hit));
        assert!(sibling_only || borders.len() < 3, "{client}/{} could be shorter", hit.scope);
    }
}

#[test]
fn clip_coarsens_databases_but_not_networks() {
    let networks =
        data(&[("198.51.100.0/25", 1), ("198.51.101.128/25", 1), ("198.51.102.64/32", 1), ("2001:db8::/60", 1), ("2001:db8:1:10::/60", 1)]);
    let clip = Some(Clip { v4: 24, v6: 56 });
    let map =
        ClassMap::build(&Table::from_networks(&networks), &[net("198.51.100.200/32"), net("2001:db8:2:1::/64")], clip, &mut classify).expect("a map");
    for (client, class, scope) in [
        ("198.51.100.1", 1, 25), // the block has its first address's class, but for the network in it
        ("198.51.100.129", 1, 26),
        ("198.51.100.200", 12, 32),
        ("198.51.100.201", 1, 32),
        ("198.51.101.200", 0, 24),
        ("198.51.102.64", 0, 23),
        ("2001:db8::1", 1, 56),
        ("2001:db8:0:ff::1", 1, 56),
        ("2001:db8:1:10::1", 0, 48),
        ("2001:db8:2:1::1", 11, 64),
    ] {
        let found = map.lookup(addr(client));
        assert_eq!((found.class, found.scope), (class, scope), "{client}");
    }
    for clip in [Clip { v4: 0, v6: 56 }, Clip { v4: 33, v6: 56 }, Clip { v4: 24, v6: 0 }, Clip { v4: 24, v6: 129 }] {
        assert_eq!(ClassMap::build(&Table::empty(), &[], Some(clip), &mut classify), Err(ClassMapError::Clip(clip)));
    }
}

#[test]
fn classify_is_asked_once_per_facts_and_network() {
    let networks = data(&[("198.51.100.0/24", 1), ("203.0.113.0/24", 1), ("192.0.2.0/24", 2), ("2001:db8::/32", 1)]);
    let mut asked: Vec<(Option<u32>, Option<Prefix>)> = Vec::new();
    let map = ClassMap::build(&Table::from_networks(&networks), &[net("203.0.113.128/25")], None, &mut |facts, net| {
        asked.push((facts.asn, net));
        classify(facts, net)
    });
    assert!(map.is_ok());
    let count = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!((asked.len(), count), (4, 4), "{asked:?}");
}

#[test]
fn too_many_classes_are_refused() {
    let build = |class: u16| ClassMap::build(&Table::empty(), &[net("192.0.2.0/24")], None, &mut |_, net| if net.is_some() { class } else { 0 });
    assert!(build(MAX_CLASS).is_ok_and(|map| map.lookup(addr("192.0.2.1")).class == MAX_CLASS));
    for class in [MAX_CLASS + 1, 0x7fff, 0x8000, u16::MAX] {
        assert_eq!(build(class), Err(ClassMapError::TooManyClasses { class }));
    }
}

fn any_net() -> impl Strategy<Value = Prefix> {
    // Some anywhere, some crowded together so that they nest, touch and lie in special blocks.
    let v4 = prop_oneof![any::<u32>(), (0..64_u32).prop_map(|low| 0x0a00_0000 | low), (0..4096_u32).prop_map(|low| 0xc000_0200 | low)];
    let v6 = prop_oneof![
        any::<u128>(),
        (0..1024_u128).prop_map(|low| 0x2001_0db8 << 96 | low << 58),
        any::<u32>().prop_map(|low| 0xffff_0000_0000 | u128::from(low)),
        any::<u64>().prop_map(|middle| 0x2002 << 112 | u128::from(middle) << 48),
        any::<u8>().prop_map(u128::from),
    ];
    prop_oneof![
        (v4, 0..=32_u8).prop_map(|(number, len)| space::prefix_of(IpAddr::V4(number.into()), len)),
        (v6, 0..=128_u8).prop_map(|(number, len)| space::prefix_of(IpAddr::V6(number.into()), len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_map_agrees_with_a_trie(networks in prop::collection::vec((any_net(), 0..6_u32), 0..24), nets in prop::collection::vec(any_net(), 0..8)) {
        let networks: Vec<(Prefix, Facts)> = networks.into_iter().map(|(net, asn)| (net, Facts { asn: Some(asn), ..Facts::default() })).collect();
        check(&networks, &nets);
    }
}
