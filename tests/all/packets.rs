//! Whatever comes in: two thousand broken packets at the sample zone; and a property of whatever goes out.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use proptest::prelude::*;

use meridian::answer::{Asked, Dice, MAX_REPLY_LEN, Outcome, Transport, answer};
use meridian::config::MemoryFiles;
use meridian::control::load::{self, Previous};
use meridian::control::offline::world_of_files;
use meridian::world::World;

use crate::meridian::{Meridian, addresses, encode, scope};

/// Over each transport.
const PACKETS: usize = 2000;
/// Packets between two questions that must be answered.
const BATCH: usize = 40;
const SENTINEL: u16 = 0xffff;

/// The repository's sample on ports that the system chooses.
fn sample() -> Meridian {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let dir = tempfile::tempdir().expect("a folder");
    for folder in ["zones", "geodata"] {
        std::fs::create_dir(dir.path().join(folder)).expect("a folder");
        for entry in std::fs::read_dir(root.join(folder)).expect("the sample") {
            let name = entry.expect("an entry").file_name().into_string().expect("a name");
            std::fs::write(dir.path().join(folder).join(&name), read(&format!("{folder}/{name}"))).expect("a copy");
        }
    }
    let config = String::from_utf8(read("meridian.toml")).expect("text");
    let config = config.replace("\"127.0.0.1:5300\", \"[::1]:5300\"", "\"127.0.0.1:0\"").replace("127.0.0.1:8053", "127.0.0.1:0");
    std::fs::write(dir.path().join("meridian.toml"), config).expect("a file");
    Meridian::start_in(dir)
}

/// Good questions of all kinds, to be broken.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (name, rtype) in [
        ("www.example.com.", RecordType::A),
        ("app.example.com.", RecordType::AAAA),
        ("api.example.com.", RecordType::A),
        ("docs.example.com.", RecordType::A),
        ("x.lab.example.com.", RecordType::A),
        ("a.b.dev.example.com.", RecordType::TXT),
        ("nope.example.com.", RecordType::MX),
        ("example.org.", RecordType::SOA),
        ("example.com.", RecordType::ANY),
        ("version.bind.", RecordType::TXT),
        (".", RecordType::NS),
    ] {
        seeds.push(encode(name, rtype, 0, None));
        seeds.push(encode(name, rtype, 0, Some((Ipv4Addr::new(203, 0, 113, 0).into(), 24))));
        seeds.push(encode(name, rtype, 0, Some(("2001:db8::".parse().expect("an address"), 32))));
    }
    seeds
}

/// One broken packet; the first two octets are its number.
fn mutate(number: u16, dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut below = |bound: usize| (dice.roll() % bound.max(1) as u64) as usize;
    let mut packet = seeds[below(seeds.len())].clone();
    match below(9) {
        0 => (0..1 + below(8)).for_each(|_| {
            let at = below(packet.len());
            packet[at] ^= 1 << below(8);
        }),
        1 => packet.truncate(below(packet.len())),
        2 => (0..below(600)).for_each(|_| packet.push(below(256) as u8)),
        3 => (2..12).for_each(|at| packet[at] = below(256) as u8),
        4 => packet = (0..below(300)).map(|_| below(256) as u8).collect(),
        // Pointers and long labels where the name is.
        5 => {
            let at = 12 + below(packet.len() - 12);
            packet[at] = [0xc0, 0xff, 0x40, 0x80, 0x3f][below(5)];
        }
        // Counts that lie.
        6 => packet[4 + below(8)] = below(256) as u8,
        // A response.
        7 => packet[2] |= 0x80,
        _ => {
            let (at, len) = (below(packet.len()), 1 + below(20));
            let cut: Vec<u8> = packet[at..(at + len).min(packet.len())].to_vec();
            let into = below(packet.len());
            packet.splice(into..into, cut);
        }
    }
    for (at, octet) in number.to_be_bytes().into_iter().enumerate() {
        if let Some(place) = packet.get_mut(at) {
            *place = octet;
        }
    }
    packet
}

/// Responses and what is too short for a header are met with silence, everything else with a reply.
fn deserves_a_reply(packet: &[u8]) -> bool {
    packet.len() >= 12 && packet[2] & 0x80 == 0
}

/// The replies must belong to the packets that deserve one: each exactly once, with QR set.
fn check_replies(sent: &[Vec<u8>], replies: &[Vec<u8>]) {
    let by_id = |packets: &[&[u8]]| -> BTreeMap<[u8; 2], usize> {
        let mut count = BTreeMap::new();
        packets.iter().for_each(|packet| *count.entry([packet[0], packet[1]]).or_default() += 1);
        count
    };
    let expected: Vec<&[u8]> = sent.iter().map(Vec::as_slice).filter(|packet| deserves_a_reply(packet)).collect();
    let seen: Vec<&[u8]> = replies.iter().map(Vec::as_slice).collect();
    assert!(seen.iter().all(|reply| reply.len() >= 12 && reply[2] & 0x80 != 0), "a reply that is none");
    let (expected_ids, seen_ids) = (by_id(&expected), by_id(&seen));
    let odd: Vec<&Vec<u8>> = sent.iter().filter(|packet| packet.len() >= 2 && expected_ids.get(&packet[..2]) != seen_ids.get(&packet[..2])).collect();
    assert!(odd.is_empty() && expected_ids == seen_ids, "{odd:02x?}");
    for reply in replies {
        Message::from_vec(reply).unwrap_or_else(|error| panic!("{error}: {reply:02x?}"));
    }
}

/// What good questions are answered with.
fn good_answers(server: &Meridian) -> Vec<String> {
    let show = |message: Message| {
        let mut records: Vec<String> =
            message.answers.iter().chain(&message.authorities).map(|record| format!("{} {}", record.name, record.data)).collect();
        records.sort();
        format!("{} {}", message.metadata.response_code, records.join("; "))
    };
    let questions = [
        ("mail.example.com.", RecordType::A),
        ("docs.example.com.", RecordType::CNAME),
        ("example.com.", RecordType::MX),
        ("fixed.dev.example.com.", RecordType::A),
        ("x.lab.example.com.", RecordType::A),
        ("nope.example.com.", RecordType::A),
        ("www.example.org.", RecordType::CNAME),
        ("x.sites.example.org.", RecordType::A),
        ("www.example.net.", RecordType::A),
    ];
    questions.iter().flat_map(|(name, rtype)| [server.ask(name, *rtype), server.ask_tcp(name, *rtype)]).map(show).collect()
}

fn over_udp(server: SocketAddr, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server).expect("a way");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut replies = Vec::new();
    for batch in packets.chunks(BATCH) {
        for packet in batch {
            socket.send(packet).expect("it can be sent");
        }
        // One thread serves one socket in order: with this reply all others are here.
        socket.send(&encode("mail.example.com.", RecordType::A, SENTINEL, None)).expect("it can be sent");
        loop {
            let mut buf = vec![0; 4096];
            let len = socket.recv(&mut buf).expect("the server lives");
            buf.truncate(len);
            if buf[..2] == SENTINEL.to_be_bytes() {
                break;
            }
            replies.push(buf);
        }
    }
    replies
}

/// Each on a connection of its own, which ends after it.
fn over_tcp(server: SocketAddr, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut replies = Vec::new();
    for packet in packets {
        let mut stream = TcpStream::connect(server).expect("the server lives");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let sent = stream.write_all(&[&(packet.len() as u16).to_be_bytes()[..], packet].concat());
        let _ = sent.and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let mut octets = Vec::new();
        // A connection that brought nonsense may be reset.
        let _ = stream.read_to_end(&mut octets);
        let mut rest = &octets[..];
        while let [high, low, tail @ ..] = rest {
            let (reply, next) = tail.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))).expect("a whole reply");
            replies.push(reply.to_vec());
            rest = next;
        }
    }
    replies
}

#[test]
fn broken_packets_break_nothing() {
    let mut server = sample();
    let before = good_answers(&server);
    let (mut dice, seeds) = (Dice::new(0, 42), seeds());
    let packets: Vec<Vec<u8>> = (0..PACKETS as u16).map(|number| mutate(number, &mut dice, &seeds)).collect();
    assert!(packets.iter().filter(|packet| !deserves_a_reply(packet)).count() > PACKETS / 10, "some deserve silence");
    check_replies(&packets, &over_udp(server.dns, &packets));
    // TCP has no packets of less than a header: such a connection is closed.
    check_replies(&packets, &over_tcp(server.dns, &packets));
    broken_frames(server.dns);
    assert_eq!(good_answers(&server), before);
    assert!(!server.log().iter().any(|line| line.contains("panic")), "{:#?}", server.log());
    assert_eq!(server.terminate().1, Some(0));
}

/// Lengths that lie, and silence, over TCP.
fn broken_frames(server: SocketAddr) {
    let good = encode("mail.example.com.", RecordType::A, 7, None);
    for octets in [
        &[][..],
        &[0],
        &[0, 0],
        &[0xff, 0xff],
        &[0, 12, 1],
        &[0, 0, 0, 0, 0, 0],
        &[&[0xff, 0xff][..], &good].concat(),
        &[&[0, 5][..], &good].concat(),
    ] {
        let mut stream = TcpStream::connect(server).expect("the server lives");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let _ = stream.write_all(octets);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut seen = Vec::new();
        let _ = stream.read_to_end(&mut seen);
        assert!(seen.is_empty() || octets.len() > 12, "{octets:02x?}: {seen:02x?}");
    }
}

/// A zone with something of everything; `count` endpoints in the large pools.
fn rich(count: usize) -> World {
    let endpoints: Vec<String> = (1..=count).flat_map(|n| [format!("\"198.51.100.{n}\""), format!("\"2001:db8:9::{n:x}\"")]).collect();
    let text = RICH.replace("LARGE", &endpoints.join(", "));
    let files = MemoryFiles::from_texts([
        ("meridian.toml", "[server]\nnsid = \"node-1\"\n"),
        ("zones/example.com.toml", &text),
        ("zones/other.example.zone", OTHER),
    ]);
    let build = load::build(&files, Path::new("meridian.toml"), &Previous::default());
    assert!(!build.has_errors(), "{:#?}", build.problems);
    world_of_files(build)
}

const OTHER: &str = "@ 300 IN SOA ns1.example.com. h.example.com. 7 1 1 1 60\n@ 300 IN NS ns1.example.com.\n\
    www 300 IN CNAME geo.example.com.\nold 300 IN DNAME new\nx.new 300 IN A 192.0.2.90\ny.new 300 IN CNAME out.example.net.\n\
    *.wild 300 IN TXT \"any\"\nbig 300 IN TXT \"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\" \
    \"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\" \
    \"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\" \
    \"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\" \
    \"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\"\n";

const RICH: &str = r#"
[zone]
name = "example.com"
ns = ["ns1", "ns2.example.net."]
[records]
ns1.A = "192.0.2.53"
"@".MX = ["10 mail", "20 mail.example.net."]
mail.A = "192.0.2.25"
mail.AAAA = "2001:db8::25"
alias.CNAME = "geo"
chain1.CNAME = "chain2"
chain2.CNAME = "alias"
loop1.CNAME = "loop2"
loop2.CNAME = "loop1"
"*.wild".TXT = "any"
"*.wilder".CNAME = "geo"
"a.b.c".TXT = "deep"
child.NS = ["ns.child", "ns1"]
"ns.child".A = "192.0.2.54"
old.DNAME = "new"
"x.new".A = "192.0.2.91"
"_sip._tcp".SRV = "10 60 5060 mail"
[region]
eu = { location = [50.11, 8.68] }
us = { location = [39.04, -77.49] }
[pool.eu]
region = "eu"
endpoints = ["192.0.2.1", "2001:db8::1"]
records = { TXT = ["eu"], HTTPS = "1 . alpn=h2" }
[pool.us]
region = "us"
endpoints = ["192.0.2.2", "2001:db8::2"]
records = { TXT = ["us"], HTTPS = "1 . alpn=h2" }
[pool.v4]
endpoints = ["192.0.2.3"]
[pool.large]
answers = 64
endpoints = [LARGE]
[pool.cdn]
cname = "cdn.example.net."
[pool.inside]
cname = "geo"
[steer.fail]
policy = "failover"
to = ["eu", "us"]
[steer.random]
policy = "weighted"
mode = "random"
to = { eu = 3, us = 1 }
[steer.coherent]
policy = "weighted"
to = { eu = 3, us = 1, v4 = 1 }
[steer.sticky]
policy = "weighted"
mode = "sticky"
to = { eu = 3, us = 1 }
[steer.geo]
policy = "geo"
default = "nearest"
rules = [{ net = ["198.51.100.0/24", "2001:db8:5::/48"], to = "us" }, { net = ["10.0.0.0/8"], to = "eu" }]
[steer.near]
policy = "proximity"
to = ["eu", "us"]
[steer.fast]
policy = "latency"
to = ["eu", "us"]
[steer.all]
policy = "multivalue"
answers = 3
to = ["eu", "us", "v4"]
[steer.large]
use = "large"
[steer.cdn]
use = "cdn"
[steer.inside]
use = "inside"
[steer."*.star"]
policy = "geo"
default = "v4"
rules = [{ net = ["198.51.100.0/25"], to = "us" }]
[steer."@"]
use = "v4"
"#;

/// Addresses that a name may be answered with, how many at most, and whether the client matters; by the name behind all CNAMEs.
fn meant(name: &str, count: usize) -> Option<(BTreeSet<IpAddr>, usize)> {
    let pool = |names: &[&str]| -> BTreeSet<IpAddr> {
        let addresses = |name: &&str| match *name {
            "eu" => vec!["192.0.2.1".to_string(), "2001:db8::1".into()],
            "us" => vec!["192.0.2.2".into(), "2001:db8::2".into()],
            "v4" => vec!["192.0.2.3".into()],
            _ => (1..=count).flat_map(|n| [format!("198.51.100.{n}"), format!("2001:db8:9::{n:x}")]).collect(),
        };
        names.iter().flat_map(addresses).map(|text| text.parse().expect("an address")).collect()
    };
    Some(match name.split('.').next().unwrap_or_default() {
        _ if name.ends_with(".star.example.com") => (pool(&["us", "v4"]), 1),
        _ if name.ends_with(".wilder.example.com") => (pool(&["eu", "us"]), 1),
        _ if name == "www.other.example" => (pool(&["eu", "us"]), 1),
        _ if name == "example.com" => (pool(&["v4"]), 1),
        _ if !name.ends_with(".example.com") || name.split('.').count() != 3 => return None,
        "fail" => (pool(&["eu"]), 1),
        "random" | "sticky" | "geo" | "near" | "fast" | "alias" | "chain1" | "chain2" | "inside" => (pool(&["eu", "us"]), 1),
        "coherent" => (pool(&["eu", "us", "v4"]), 1),
        "all" => (pool(&["eu", "us", "v4"]), 3),
        "large" => (pool(&["large"]), 64),
        _ => return None,
    })
}

const NAMES: [&str; 41] = [
    "example.com",
    "www.example.com",
    "fail.example.com",
    "random.example.com",
    "coherent.example.com",
    "sticky.example.com",
    "geo.example.com",
    "near.example.com",
    "fast.example.com",
    "all.example.com",
    "large.example.com",
    "cdn.example.com",
    "inside.example.com",
    "x.star.example.com",
    "a.b.star.example.com",
    "star.example.com",
    "alias.example.com",
    "chain1.example.com",
    "loop1.example.com",
    "x.wild.example.com",
    "wild.example.com",
    "y.wilder.example.com",
    "b.c.example.com",
    "a.b.c.example.com",
    "child.example.com",
    "h.child.example.com",
    "ns.child.example.com",
    "x.old.example.com",
    "z.old.example.com",
    "old.example.com",
    "_sip._tcp.example.com",
    "mail.example.com",
    "nope.example.com",
    "below.fail.example.com",
    "other.example",
    "www.other.example",
    "x.old.other.example",
    "y.old.other.example",
    "big.other.example",
    "elsewhere.example.net",
    ".",
];

const TYPES: [RecordType; 14] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::A,
    RecordType::AAAA,
    RecordType::TXT,
    RecordType::MX,
    RecordType::NS,
    RecordType::SOA,
    RecordType::CNAME,
    RecordType::HTTPS,
    RecordType::SRV,
    RecordType::DS,
    RecordType::ANY,
    RecordType::DNAME,
];

/// What EDNS says: payload, DO, NSID, and client subnet as (family, source, scope, octets).
#[derive(Clone, Debug)]
struct Extra {
    payload: u16,
    dnssec_ok: bool,
    nsid: bool,
    subnet: Option<(u16, u8, u8, Vec<u8>)>,
}

impl Extra {
    /// RFC 7871 §6 and §7.1.1.
    fn is_well_formed(&self) -> bool {
        let Some((family, source, scope, octets)) = &self.subnet else { return true };
        let width = match family {
            1 => 32,
            2 => 128,
            // Not ours to judge.
            _ => return true,
        };
        let rest = source % 8;
        *source <= width
            && *scope == 0
            && octets.len() == usize::from(source.div_ceil(8))
            && (rest == 0 || octets.last().is_none_or(|last| last << rest == 0))
    }

    fn is_known(&self) -> bool {
        self.subnet.as_ref().is_some_and(|(family, ..)| (1..=2).contains(family))
    }
}

fn extras() -> impl Strategy<Value = Option<Extra>> {
    let good_v4 = (any::<u32>(), 0..=32u8).prop_map(|(addr, len)| {
        let addr = addr & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
        (1, len, 0, addr.to_be_bytes()[..usize::from(len.div_ceil(8))].to_vec())
    });
    let good_v6 = (any::<u128>(), 0..=128u8).prop_map(|(addr, len)| {
        let addr = addr & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        (2, len, 0, addr.to_be_bytes()[..usize::from(len.div_ceil(8))].to_vec())
    });
    let ruled = prop_oneof![Just((1, 24, 0, vec![198, 51, 100])), Just((1, 16, 0, vec![10, 9])), Just((2, 48, 0, vec![0x20, 1, 0xd, 0xb8, 0, 5]))];
    let wild = (0..4u16, 0..=140u8, 0..3u8, prop::collection::vec(any::<u8>(), 0..18));
    let subnet = prop_oneof![2 => good_v4, 2 => good_v6, 2 => ruled, 1 => wild];
    let extra = (prop_oneof![Just(512), Just(0), Just(1232), Just(4096), 512..1300u16], any::<bool>(), any::<bool>(), prop::option::of(subnet));
    prop::option::of(extra.prop_map(|(payload, dnssec_ok, nsid, subnet)| Extra { payload, dnssec_ok, nsid, subnet }))
}

/// Upper and lower case as the bits of `case` say.
fn spell(name: &str, case: u64) -> String {
    let flip = |(at, letter): (usize, char)| if case >> (at % 64) & 1 == 1 { letter.to_ascii_uppercase() } else { letter };
    let name: String = name.chars().enumerate().map(flip).collect();
    if name == "." { name } else { name + "." }
}

fn question(name: &str, rtype: RecordType, id: u16, extra: Option<&Extra>) -> Vec<u8> {
    let mut packet = encode(name, rtype, id, None);
    let Some(extra) = extra else { return packet };
    let mut options = Vec::new();
    if extra.nsid {
        options.extend([0, 3, 0, 0]);
    }
    if let Some((family, source, scope, octets)) = &extra.subnet {
        options.extend([0, 8]);
        options.extend((octets.len() as u16 + 4).to_be_bytes());
        options.extend(family.to_be_bytes());
        options.extend([*source, *scope]);
        options.extend(octets);
    }
    packet[11] = 1;
    packet.extend([0, 0, 41]);
    packet.extend(extra.payload.to_be_bytes());
    packet.extend([0, 0, if extra.dnssec_ok { 0x80 } else { 0 }, 0]);
    packet.extend((options.len() as u16).to_be_bytes());
    packet.extend(options);
    packet
}

/// Everything that must hold of one reply.
fn check_reply(asked: &str, rtype: RecordType, id: u16, extra: Option<&Extra>, tcp: bool, count: usize, octets: &[u8]) {
    let spelled = asked;
    let name = asked.trim_end_matches('.').to_ascii_lowercase();
    let mut decoder = BinDecoder::new(octets);
    let message = Message::read(&mut decoder).unwrap_or_else(|error| panic!("{error}: {octets:02x?}"));
    assert!(decoder.is_empty(), "trailing octets: {octets:02x?}");
    let limit = match extra {
        _ if tcp => MAX_REPLY_LEN,
        Some(extra) => usize::from(extra.payload.clamp(512, 1232)),
        None => 512,
    };
    assert!(octets.len() <= limit, "{} octets, at most {limit}", octets.len());
    assert_eq!((message.metadata.id, message.metadata.message_type), (id, MessageType::Response));
    assert_eq!(message.queries.len(), 1);
    assert_eq!((message.queries[0].name().to_ascii(), message.queries[0].query_type()), (spelled.to_string(), rtype), "the question as it was asked");
    let counts: Vec<usize> = [4, 6, 8, 10].iter().map(|at| usize::from(u16::from_be_bytes([octets[*at], octets[at + 1]]))).collect();
    let edns = usize::from(message.edns.is_some());
    assert_eq!(counts, [1, message.answers.len(), message.authorities.len(), message.additionals.len() + edns], "section counts");
    assert_eq!(message.edns.is_some(), extra.is_some(), "EDNS for EDNS");
    let code = message.metadata.response_code;
    if extra.is_some_and(|extra| !extra.is_well_formed()) {
        assert_eq!(code, ResponseCode::FormErr);
        assert!(message.answers.is_empty() && scope(&message).is_none());
        return;
    }
    check_options(&message, extra);
    if name.is_empty() || name.ends_with("example.net") {
        assert_eq!((code, message.metadata.authoritative), (ResponseCode::Refused, false));
        return;
    }
    assert!(matches!(code, ResponseCode::NoError | ResponseCode::NXDomain), "{code}");
    let below_cut = name.ends_with("child.example.com") && !(name == "child.example.com" && rtype == RecordType::DS);
    assert_eq!(message.metadata.authoritative, !below_cut, "AA");
    if message.metadata.truncation {
        assert!(message.answers.is_empty() && message.authorities.is_empty() && !tcp, "nothing rather than a part");
        return;
    }
    if message.answers.is_empty() {
        let first = message.authorities.first().map(|record| record.record_type());
        assert_eq!(first, Some(if below_cut { RecordType::NS } else { RecordType::SOA }), "why there is nothing");
    }
    let seen = addresses(&message);
    let distinct: HashSet<&IpAddr> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "no address twice");
    assert!(seen.iter().all(|addr| addr.is_ipv4() == (rtype == RecordType::A)), "the type that was asked");
    if let Some((allowed, most)) = meant(&name, count).filter(|_| matches!(rtype, RecordType::A | RecordType::AAAA)) {
        assert!(seen.iter().all(|addr| allowed.contains(addr)), "{seen:?}");
        let available = allowed.iter().filter(|addr| addr.is_ipv4() == (rtype == RecordType::A)).count();
        assert!(
            seen.len() <= most && (seen.len() == most.min(available) || name.starts_with("coherent") || name.contains("star")),
            "{} of {available}",
            seen.len()
        );
        let steered = |data: &RData| matches!(data, RData::A(_) | RData::AAAA(_));
        assert!(message.answers.iter().filter(|record| steered(&record.data)).all(|record| (10..=30).contains(&record.ttl)), "TTL within its bounds");
    }
}

/// NSID for those who asked, and the client subnet as it came, with a scope that fits.
fn check_options(message: &Message, extra: Option<&Extra>) {
    let (Some(edns), Some(extra)) = (&message.edns, extra) else { return };
    assert_eq!(edns.option(EdnsCode::NSID).is_some(), extra.nsid, "NSID");
    let back = edns.options().as_ref().iter().find_map(|(_, option)| match option {
        EdnsOption::Subnet(subnet) => Some((subnet.addr(), subnet.source_prefix(), subnet.scope_prefix())),
        _ => None,
    });
    // Where nothing was looked up (REFUSED), the option need not come back.
    let Some((addr, source, scope)) = back else {
        assert!(!extra.is_known() || message.metadata.response_code == ResponseCode::Refused, "the option comes back");
        return;
    };
    let (_, sent, _, octets) = extra.subnet.as_ref().expect("no option in, no option out");
    let mut padded = [0; 16];
    padded[..octets.len()].copy_from_slice(octets);
    let expected: IpAddr = if addr.is_ipv4() { Ipv4Addr::new(padded[0], padded[1], padded[2], padded[3]).into() } else { padded.into() };
    assert_eq!((addr, source), (expected, *sent));
    assert!(scope <= if addr.is_ipv4() { 32 } else { 128 } && (source > 0 || scope == 0), "scope {scope} for /{source}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_decodes_to_what_was_meant(
        name in prop::sample::select(&NAMES[..]), rtype in prop::sample::select(&TYPES[..]), extra in extras(), case in any::<u64>(),
        (id, seed, tcp, size) in (any::<u16>(), any::<u64>(), any::<bool>(), 0..3usize),
    ) {
        static WORLDS: std::sync::LazyLock<[(usize, World); 3]> = std::sync::LazyLock::new(|| [1, 20, 64].map(|count| (count, rich(count))));
        let (count, world) = &WORLDS[size];
        let name = spell(name, case);
        let packet = question(&name, rtype, id, extra.as_ref());
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let mut buf = vec![0; MAX_REPLY_LEN];
        let asked = Asked { packet: &packet, source: Ipv4Addr::new(203, 0, 113, 9).into(), transport, keepalive: 0 };
        let Outcome::Reply(reply) = answer(world, &asked, &mut Dice::new(1_800_000_000, seed), &mut buf) else { panic!("silence") };
        check_reply(&name, rtype, id, extra.as_ref(), tcp, *count, &buf[..reply.len]);
    }
}
