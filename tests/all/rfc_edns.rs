//! EDNS and refusals by RFC and section, through the engine: question, transport and reply on one line each. Replies are read octet by octet here,
//! not by a library, because what matters is often what a library would hide.
//!
//! A reply is shown as `RCODE flags, questions | answer types | authority types | additional`, where OPT is `opt VERSION PAYLOAD [do] [code=hex …]`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use meridian::answer::{Asked, CookieState, Dice, MAX_REPLY_LEN, Outcome, PADDING_BLOCK, Transport, answer, bad_cookie};
use meridian::config::MemoryFiles;
use meridian::control::load::{self, Previous};
use meridian::control::offline::world_of_files;
use meridian::dns::{Rcode, RecordType};
use meridian::world::World;

use Transport::{Tcp, Tls, Udp};

use crate::meridian::Meridian;
use crate::rest::Rest;
use crate::rfc_opcodes::tsig;

pub const CONFIG: &str = "[server]\nnsid = \"node-1\"\nversion = \"test 1\"\ncookie_secrets = \"secrets\"\n";
const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
/// The client, and the time, of RFC 9018 appendix A.1.
const SOURCE: &str = "198.51.100.100";
const NOW: u64 = 1_559_731_985;
pub const CLIENT: &str = "2464c4abcf10c957";
pub const BOTH: &str = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";

pub fn world_with(config: &str) -> World {
    let lines: String = (0..60).map(|n| format!("big 300 A 192.0.2.{n}\n")).collect();
    let zone = format!("@ 300 SOA ns h 1 1 1 1 60\n@ 300 NS ns\nns 300 A 192.0.2.53\nwww 300 A 192.0.2.1\n{lines}");
    let files = MemoryFiles::from_texts([("meridian.toml", config), ("secrets", SECRET), ("zones/example.com.zone", &zone)]);
    let build = load::build(&files, Path::new("meridian.toml"), &Previous::default());
    assert!(!build.has_errors(), "{:#?}", build.problems);
    world_of_files(build)
}

/// A query of class IN without flags.
pub fn query(name: &str, rtype: RecordType) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&rtype.0.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

pub fn www() -> Vec<u8> {
    query("www.example.com", RecordType::A)
}

/// The same with these bits of the header set (in octets 2 and 3).
pub fn flags(bits: u16, mut packet: Vec<u8>) -> Vec<u8> {
    packet[2] |= (bits >> 8) as u8;
    packet[3] |= bits as u8;
    packet
}

fn class(class: u8, mut packet: Vec<u8>) -> Vec<u8> {
    let last = packet.len() - 1;
    packet[last] = class;
    packet
}

/// The same with a record in the additional section.
pub fn and(mut packet: Vec<u8>, record: &[u8]) -> Vec<u8> {
    packet[11] += 1;
    packet.extend_from_slice(record);
    packet
}

fn octets(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal digits")
}

/// An OPT record: payload size, the four octets of its TTL, options as code and hexadecimal digits.
pub fn opt(payload: u16, ttl: u32, options: &[(u16, &str)]) -> Vec<u8> {
    let mut rdata = Vec::new();
    for (code, hex) in options {
        let data = octets(hex);
        rdata.extend_from_slice(&code.to_be_bytes());
        rdata.extend_from_slice(&(data.len() as u16).to_be_bytes());
        rdata.extend_from_slice(&data);
    }
    [&[0, 0, 41][..], &payload.to_be_bytes(), &ttl.to_be_bytes(), &(rdata.len() as u16).to_be_bytes(), &rdata].concat()
}

pub fn options(options: &[(u16, &str)]) -> Vec<u8> {
    opt(1232, 0, options)
}

const DO: u32 = 0x8000;
pub const VERSION_1: u32 = 0x1_0000;

pub fn ask(world: &World, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut buf = vec![0xee; MAX_REPLY_LEN];
    let asked = Asked { packet, source: SOURCE.parse().expect("an address"), transport, keepalive: 100 };
    match answer(world, &asked, &mut Dice::new(NOW, 1), &mut buf) {
        Outcome::Reply(reply) => Some(buf[..reply.len].to_vec()),
        Outcome::Silence => None,
    }
}

fn skip_name(reply: &[u8], mut at: usize) -> usize {
    loop {
        match reply[at] {
            0 => return at + 1,
            0xc0.. => return at + 2,
            len => at += 1 + usize::from(len),
        }
    }
}

fn show(reply: Option<Vec<u8>>) -> String {
    let Some(reply) = reply else { return "silence".into() };
    assert_eq!(reply[..2], [0x12, 0x34], "the identifier");
    let number = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    let mut rcode = number(2) & 0x0f;
    let names = [(0x0400, " aa"), (0x0200, " tc"), (0x0100, " rd"), (0x0080, " ra"), (0x0040, " z"), (0x0020, " ad"), (0x0010, " cd")];
    let flags: String = names.iter().filter(|(bit, _)| number(2) & bit != 0).map(|(_, name)| *name).collect();
    assert_ne!(number(2) & 0x8000, 0, "QR");
    let mut at = (0..number(4)).fold(12, |at, _| skip_name(&reply, at) + 4);
    let mut sections = String::new();
    for section in [6, 8, 10] {
        sections.push_str(" |");
        for _ in 0..number(section) {
            let fixed = skip_name(&reply, at);
            let (rtype, len) = (RecordType(number(fixed)), usize::from(number(fixed + 8)));
            let rdata = &reply[fixed + 10..fixed + 10 + len];
            if rtype == RecordType::OPT {
                rcode |= u16::from(reply[fixed + 4]) << 4;
                assert_eq!(number(fixed + 6) & !0x8000, 0, "flags other than DO are cleared");
                let dnssec_ok = if number(fixed + 6) != 0 { " do" } else { "" };
                let _ = write!(sections, " opt {} {}{dnssec_ok}", reply[fixed + 5], number(fixed + 2));
                let mut rest = rdata;
                while let [c0, c1, l0, l1, data @ ..] = rest {
                    let (data, behind) = data.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
                    let hex = data_encoding::HEXLOWER.encode(data);
                    let _ = write!(sections, " {}={hex}", u16::from_be_bytes([*c0, *c1]));
                    rest = behind;
                }
                assert!(rest.is_empty());
            } else {
                let _ = write!(sections, " {rtype}");
            }
            at = fixed + 10 + len;
        }
    }
    assert_eq!(at, reply.len(), "nothing behind the last record");
    let shown = format!("{}{flags}, {}{sections}", Rcode(rcode), number(4));
    shown.trim_end_matches([' ', '|']).to_string()
}

/// Asks each; the transports that count are part of the line.
pub fn check(cases: &[(&str, Vec<u8>, &[Transport], &str)]) {
    let world = world_with(CONFIG);
    for (why, packet, transports, expected) in cases {
        for transport in *transports {
            assert_eq!(show(ask(&world, packet, *transport)), *expected, "{why}, {transport:?}");
        }
    }
}

const ANSWER: &str = "NOERROR aa, 1 | A | | opt 0 1232";
pub const PLAIN: &str = "NOERROR aa, 1 | A";

#[test]
fn rfc6891_section_6_1_1_and_7_opt_comes_back_when_it_was_sent() {
    let at_com = [&b"\x03com"[..], &options(&[])].concat();
    let mut in_answer = and(www(), &options(&[]));
    (in_answer[7], in_answer[11]) = (1, 0);
    check(&[
        ("none sent", www(), &[Udp, Tcp], PLAIN),
        ("sent", and(www(), &options(&[])), &[Udp, Tcp, Tls], ANSWER),
        ("to an error as well", and(query("example.net", RecordType::A), &options(&[])), &[Udp, Tcp], "REFUSED, 1 | | | opt 0 1232 15=0014"),
        ("NXDOMAIN", and(query("x.example.com", RecordType::A), &options(&[])), &[Udp, Tcp], "NXDOMAIN aa, 1 | | SOA | opt 0 1232"),
        ("twice", and(and(www(), &options(&[])), &options(&[])), &[Udp, Tcp], "FORMERR, 1 | | | opt 0 1232"),
        ("not at the root", and(www(), &at_com), &[Udp, Tcp], "FORMERR, 1 | | | opt 0 1232"),
        ("in the answer section", in_answer, &[Udp, Tcp], "FORMERR, 1 | | | opt 0 1232"),
        ("an option that overruns", and(www(), &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 3, 0, 1]), &[Udp, Tcp], "FORMERR, 1 | | | opt 0 1232"),
        ("shorter than it says", and(www(), &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 3]), &[Udp, Tcp], "FORMERR, 1"),
        (
            "behind another record",
            and(and(www(), b"\x01x\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x01\x02\x03\x04"), &options(&[])),
            &[Udp],
            ANSWER,
        ),
    ]);
}

#[test]
fn rfc6891_section_6_1_2_to_6_1_4_unknown_options_and_flags_are_ignored() {
    check(&[
        ("an unknown option", and(www(), &options(&[(100, ""), (65001, "0102")])), &[Udp, Tcp], ANSWER),
        ("unknown flags are cleared", and(www(), &opt(1232, 0x7fff, &[])), &[Udp, Tcp], ANSWER),
        ("DO is copied (RFC 3225 §3)", and(www(), &opt(1232, DO, &[])), &[Udp, Tcp], "NOERROR aa, 1 | A | | opt 0 1232 do"),
        ("also to errors", and(query("example.net", RecordType::A), &opt(1232, DO, &[])), &[Udp], "REFUSED, 1 | | | opt 0 1232 do 15=0014"),
        ("the extended code of a query means nothing", and(www(), &opt(1232, 0xff00_0000, &[])), &[Udp], ANSWER),
    ]);
}

#[test]
fn rfc6891_section_6_1_3_other_versions_are_badvers() {
    let badvers = "BADVERS, 1 | | | opt 0 1232";
    check(&[
        ("version 1", and(www(), &opt(1232, VERSION_1, &[])), &[Udp, Tcp], badvers),
        ("version 255", and(www(), &opt(1232, 0xff_0000, &[])), &[Udp, Tcp], badvers),
        ("with DO", and(www(), &opt(1232, VERSION_1 | DO, &[])), &[Udp], "BADVERS, 1 | | | opt 0 1232 do"),
        ("its flags and options are not ours to read", and(www(), &opt(1232, VERSION_1 | 0x40, &[(10, "01"), (8, "ff")])), &[Udp, Tcp], badvers),
    ]);
}

#[test]
fn rfc6891_section_6_2_3_to_6_2_5_payload_sizes() {
    let world = world_with(CONFIG);
    let big = query("big.example.com", RecordType::A);
    for (why, packet, transport, limit, truncated) in [
        ("without EDNS 512 (RFC 1035 §4.2.1)", big.clone(), Udp, 512, true),
        ("below 512 is 512", and(big.clone(), &opt(0, 0, &[])), Udp, 512, true),
        ("below 512 is 512", and(big.clone(), &opt(511, 0, &[])), Udp, 512, true),
        ("as said", and(big.clone(), &opt(1000, 0, &[])), Udp, 1000, true),
        ("never more than ours", and(big.clone(), &opt(65535, 0, &[])), Udp, 1232, false),
        ("of no meaning over TCP", and(big.clone(), &opt(512, 0, &[])), Tcp, 65535, false),
        ("no EDNS, TCP", big, Tcp, 65535, false),
    ] {
        let reply = ask(&world, &packet, transport).expect("a reply");
        assert!(reply.len() <= limit, "{why}: {} octets", reply.len());
        assert_eq!(reply[2] & 0x02 != 0, truncated, "{why}");
        assert_eq!(reply[11], packet[11], "{why}: OPT as in the query");
    }
}

#[test]
fn rfc6891_section_7_opt_and_tc_fit_whatever_is_asked() {
    let world = world_with(&CONFIG.replace("node-1", &"n".repeat(64)));
    let all = [(3, ""), (8, "00028000 20010db8000000000000000000000001"), (10, BOTH), (11, "")];
    let all = all.map(|(code, hex)| (code, hex.replace(' ', "")));
    let all: Vec<(u16, &str)> = all.iter().map(|(code, hex)| (*code, hex.as_str())).collect();
    let labels = [63, 63, 63, 49].map(|len| "a".repeat(len)).join(".");
    for (name, truncated) in [("big.example.com".to_string(), true), (format!("{labels}.example.com"), false)] {
        let reply = ask(&world, &and(query(&name, RecordType::A), &opt(512, 0, &all)), Udp).expect("a reply");
        assert!(reply.len() <= 512, "{}", reply.len());
        assert_eq!(reply[2] & 0x02 != 0, truncated, "{name}");
        let shown = show(Some(reply));
        assert!(shown.contains(&format!("opt 0 1232 3={}", "6e".repeat(64))) && shown.contains(&format!("10={BOTH}")), "{shown}");
    }
}

/// The server's part (§8 of RFC 8906 lists these with `dig`; the last column of each is what it expects).
#[test]
fn rfc8906_section_8_the_whole_list() {
    let soa = || query("example.com", RecordType::SOA);
    let answer = "NOERROR aa, 1 | SOA";
    let with_opt = "NOERROR aa, 1 | SOA | | opt 0 1232";
    check(&[
        ("8.1.1 configured for the zone", soa(), &[Udp, Tcp], answer),
        ("8.1.2 unknown types", query("example.com", RecordType(1000)), &[Udp, Tcp], "NOERROR aa, 1 | | SOA"),
        ("8.1.3.1 CD=1 (copied: RFC 4035 §3.1.6)", flags(0x0010, soa()), &[Udp, Tcp], "NOERROR aa cd, 1 | SOA"),
        ("8.1.3.2 AD=1", flags(0x0020, soa()), &[Udp, Tcp], answer),
        ("8.1.3.3 reserved bit", flags(0x0040, soa()), &[Udp, Tcp], answer),
        ("8.1.3.4 recursive", flags(0x0100, soa()), &[Udp, Tcp], "NOERROR aa rd, 1 | SOA"),
        ("8.1.4 unknown opcode", flags(0x7800, soa()), &[Udp, Tcp], "NOTIMP, 1"),
        ("8.1.4 unknown opcode, header only", flags(0x7800, vec![0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), &[Udp, Tcp], "NOTIMP, 0"),
        ("8.1.5 TCP", soa(), &[Tcp], answer),
        ("8.2.1 EDNS 0", and(soa(), &options(&[])), &[Udp, Tcp], with_opt),
        ("8.2.2 EDNS 1", and(soa(), &opt(1232, VERSION_1, &[])), &[Udp, Tcp], "BADVERS, 1 | | | opt 0 1232"),
        ("8.2.3 unknown option", and(soa(), &options(&[(100, "")])), &[Udp, Tcp], with_opt),
        ("8.2.4 unknown flags", and(soa(), &opt(1232, 0x40, &[])), &[Udp, Tcp], with_opt),
        ("8.2.5 EDNS 1 with unknown flags", and(soa(), &opt(1232, VERSION_1 | 0x40, &[])), &[Udp, Tcp], "BADVERS, 1 | | | opt 0 1232"),
        ("8.2.6 EDNS 1 with unknown options", and(soa(), &opt(1232, VERSION_1, &[(100, "")])), &[Udp, Tcp], "BADVERS, 1 | | | opt 0 1232"),
        (
            "8.2.7 truncated, with EDNS and DO",
            and(query("big.example.com", RecordType::A), &opt(512, DO, &[])),
            &[Udp],
            "NOERROR aa tc, 1 | | | opt 0 1232 do",
        ),
        ("8.2.8 DO=1", and(soa(), &opt(1232, DO, &[])), &[Udp, Tcp], "NOERROR aa, 1 | SOA | | opt 0 1232 do"),
        ("8.2.9 EDNS 1 with DO=1", and(soa(), &opt(1232, VERSION_1 | DO, &[])), &[Udp, Tcp], "BADVERS, 1 | | | opt 0 1232 do"),
        (
            "8.2.10 several defined options",
            and(soa(), &options(&[(3, ""), (8, "00010000"), (9, ""), (10, CLIENT)])),
            &[Udp, Tcp],
            &format!("{with_opt} 3=6e6f64652d31 8=00010000 10={BOTH}"),
        ),
    ]);
}

#[test]
fn rfc9619_section_4_only_one_question() {
    let counted = |count: u8, mut packet: Vec<u8>| {
        packet[5] = count;
        packet
    };
    let two = [&www()[..], &www()[12..]].concat();
    check(&[
        ("none", counted(0, www()[..12].to_vec()), &[Udp, Tcp], "FORMERR, 0"),
        ("none, with EDNS", and(counted(0, www()[..12].to_vec()), &options(&[])), &[Udp, Tcp], "FORMERR, 0 | | | opt 0 1232"),
        ("none by the header", counted(0, www()), &[Udp, Tcp], "FORMERR, 0"),
        ("two", counted(2, two.clone()), &[Udp, Tcp], "FORMERR, 0"),
        ("two, with EDNS", and(counted(2, two.clone()), &options(&[])), &[Udp, Tcp], "FORMERR, 0 | | | opt 0 1232"),
        ("two by the header", counted(2, www()), &[Udp, Tcp], "FORMERR, 0"),
        ("one by the header", counted(1, two), &[Udp, Tcp], "FORMERR, 1"),
        ("65,535", [&[0x12, 0x34, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], &www()[12..]].concat(), &[Udp, Tcp], "FORMERR, 0"),
    ]);
}

#[test]
fn rfc7873_section_5_2_what_a_server_makes_of_cookies() {
    let cookie = |hex: &str| and(www(), &options(&[(10, hex)]));
    let renewed = format!("{ANSWER} 10={BOTH}");
    let twice = |a: &str, b: &str| and(www(), &options(&[(10, a), (10, b)]));
    check(&[
        ("5.2.1 none", and(www(), &options(&[])), &[Udp, Tcp], ANSWER),
        ("5.2.2 malformed", cookie("2464c4abcf10c9"), &[Udp, Tcp], "FORMERR, 1 | | | opt 0 1232"),
        ("5.2.2 malformed", cookie("2464c4abcf10c95701"), &[Udp, Tcp], "FORMERR, 1 | | | opt 0 1232"),
        ("5.2.2 malformed", cookie(&"24".repeat(41)), &[Udp, Tcp], "FORMERR, 1 | | | opt 0 1232"),
        ("5.2.2 empty", cookie(""), &[Udp, Tcp], "FORMERR, 1 | | | opt 0 1232"),
        ("5.2.3 a client cookie only", cookie(CLIENT), &[Udp, Tcp, Tls], &renewed),
        ("5.2.4 an invalid server cookie", cookie(&BOTH.replace("eee29480", "eee29481")), &[Udp, Tcp], &renewed),
        ("5.2.4 one of another length", cookie(&format!("{CLIENT}0011223344556677")), &[Udp, Tcp], &renewed),
        ("5.2.4 one of another version", cookie(&BOTH.replace("57010000", "57020000")), &[Udp, Tcp], &renewed),
        ("5.2.5 a valid one", cookie(BOTH), &[Udp, Tcp], &renewed),
        ("two, the second malformed: the first counts", twice(CLIENT, "001122"), &[Udp, Tcp], &renewed),
        ("two, the second empty", twice(CLIENT, ""), &[Udp], &renewed),
        ("two, the first malformed", twice("001122", CLIENT), &[Udp, Tcp], "FORMERR, 1 | | | opt 0 1232"),
        ("two: the first counts", twice(CLIENT, "0011223344556677"), &[Udp, Tcp], &renewed),
        (
            "to an error as well",
            and(query("example.net", RecordType::A), &options(&[(10, CLIENT)])),
            &[Udp],
            &format!("REFUSED, 1 | | | opt 0 1232 10={BOTH} 15=0014"),
        ),
    ]);
}

#[test]
fn rfc7873_section_5_4_a_cookie_without_a_question() {
    let bare = |hex: &str| {
        let mut packet = www()[..12].to_vec();
        packet[5] = 0;
        and(packet, &options(&[(10, hex)]))
    };
    let invalid = BOTH.replace("eee29480", "eee29481");
    check(&[
        ("client cookie only", bare(CLIENT), &[Udp, Tcp], &format!("NOERROR, 0 | | | opt 0 1232 10={BOTH}")),
        ("valid", bare(BOTH), &[Udp, Tcp], &format!("NOERROR, 0 | | | opt 0 1232 10={BOTH}")),
        ("invalid", bare(&invalid), &[Udp, Tcp], &format!("BADCOOKIE, 0 | | | opt 0 1232 10={BOTH}")),
        ("malformed", bare("24"), &[Udp, Tcp], "FORMERR, 0 | | | opt 0 1232"),
    ]);
    let off = world_with("[server]\ncookies = false\n");
    assert_eq!(show(ask(&off, &bare(CLIENT), Udp)), "FORMERR, 0 | | | opt 0 1232");
    assert_eq!(show(ask(&off, &and(www(), &options(&[(10, BOTH)])), Udp)), ANSWER, "off: not sent back");
}

#[test]
fn rfc7873_section_5_2_3_badcookie_under_load() {
    let (world, off) = (world_with(CONFIG), world_with("[server]\ncookies = false\n"));
    let bad = |world: &World, packet: &[u8]| {
        let mut buf = vec![0xee; 512];
        let asked = Asked { packet, source: SOURCE.parse().expect("an address"), transport: Udp, keepalive: 0 };
        let reply = bad_cookie(world, &asked, &Dice::new(NOW, 1), &mut buf)?;
        assert_eq!((reply.rcode, reply.cookie), (Rcode::BADCOOKIE, CookieState::ClientOnly));
        Some(buf[..reply.len].to_vec())
    };
    let with_cookie = and(www(), &options(&[(10, CLIENT)]));
    assert_eq!(show(bad(&world, &with_cookie)), format!("BADCOOKIE, 1 | | | opt 0 1232 10={BOTH}"));
    for (world, packet) in [(&world, www()), (&world, and(www(), &options(&[]))), (&off, with_cookie), (&world, vec![0; 12])] {
        assert_eq!(bad(world, &packet), None);
    }
}

#[test]
fn replies_say_what_the_cookie_says() {
    let state = |world: &World, packet: &[u8], source: &str| {
        let asked = Asked { packet, source: source.parse::<IpAddr>().expect("an address"), transport: Udp, keepalive: 0 };
        match answer(world, &asked, &mut Dice::new(NOW, 1), &mut vec![0; MAX_REPLY_LEN]) {
            Outcome::Reply(reply) => reply.cookie,
            Outcome::Silence => panic!("silence"),
        }
    };
    let world = world_with(CONFIG);
    let cookie = |hex: &str| and(www(), &options(&[(10, hex)]));
    assert_eq!(state(&world, &www(), SOURCE), CookieState::None);
    assert_eq!(state(&world, &and(www(), &options(&[])), SOURCE), CookieState::None);
    assert_eq!(state(&world, &cookie(CLIENT), SOURCE), CookieState::ClientOnly);
    assert_eq!(state(&world, &cookie(BOTH), SOURCE), CookieState::Valid);
    assert_eq!(state(&world, &cookie(BOTH), "198.51.100.101"), CookieState::ClientOnly, "another address");
    assert_eq!(state(&world_with("[server]\ncookies = false\n"), &cookie(BOTH), SOURCE), CookieState::None);
    assert_eq!(state(&world_with(""), &cookie(BOTH), SOURCE), CookieState::ClientOnly, "a secret of its own");
}

#[test]
fn rfc7828_section_3_keepalive_over_streams_only() {
    let ask = |data: &str| and(www(), &options(&[(11, data)]));
    check(&[
        ("asked for", ask(""), &[Tcp, Tls], "NOERROR aa, 1 | A | | opt 0 1232 11=0064"),
        ("not asked for", and(www(), &options(&[])), &[Tcp, Tls], ANSWER),
        ("3.2.2 ignored over UDP", ask(""), &[Udp], ANSWER),
        ("3.2.2 ignored over UDP, whatever it says", ask("0064"), &[Udp], ANSWER),
        ("3.2.1 a client says no timeout", ask("0064"), &[Tcp, Tls], "FORMERR, 1 | | | opt 0 1232"),
    ]);
}

#[test]
fn rfc7830_section_3_and_rfc8467_section_4_1_padding() {
    let world = world_with(CONFIG);
    let padded = |name: &str| and(query(name, RecordType::A), &options(&[(12, "000000"), (3, "")]));
    for (name, transport, blocks) in [
        ("www.example.com", Tls, Some(1)),
        ("x.example.com", Tls, Some(1)),
        ("big.example.com", Tls, Some(3)),
        ("www.example.com", Tcp, None),
        ("www.example.com", Udp, None),
    ] {
        let reply = ask(&world, &padded(name), transport).expect("a reply");
        assert_eq!(reply.len().is_multiple_of(PADDING_BLOCK).then_some(reply.len() / PADDING_BLOCK), blocks, "{name} {transport:?}");
        let shown = show(Some(reply));
        assert_eq!(shown.contains(" 12="), blocks.is_some(), "{shown}");
        assert!(shown.contains(" 3="), "beside the others: {shown}");
    }
    let unasked = ask(&world, &and(www(), &options(&[])), Tls).expect("a reply");
    assert_eq!(show(Some(unasked)), ANSWER, "only for clients that pad (RFC 7830 §4)");
    let fault = ask(&world, &flags(0x7800, padded("www.example.com")), Tls).expect("a reply");
    assert_eq!(fault.len(), PADDING_BLOCK, "errors too");
}

#[test]
fn rfc7871_section_7_1_2_and_11_client_subnets() {
    let ecs = |hex: &str| and(www(), &options(&[(8, hex)]));
    let formerr = "FORMERR, 1 | | | opt 0 1232";
    check(&[
        ("a static name: scope 0", ecs("00011800c00002"), &[Udp, Tcp], &format!("{ANSWER} 8=00011800c00002")),
        ("SOURCE 0 (§7.1.2)", ecs("00010000"), &[Udp, Tcp], &format!("{ANSWER} 8=00010000")),
        ("IPv6", ecs("0002300020010db80001"), &[Udp], &format!("{ANSWER} 8=0002300020010db80001")),
        ("scope in a query (§7.1.1)", ecs("00011818c00002"), &[Udp, Tcp], formerr),
        ("stray bits (§6)", ecs("00011400c00011"), &[Udp, Tcp], formerr),
        ("too long a prefix", ecs("00012100c000020101"), &[Udp, Tcp], formerr),
        ("too few octets", ecs("00011800c000"), &[Udp, Tcp], formerr),
        ("too many octets", ecs("00011800c0000200"), &[Udp, Tcp], formerr),
        ("no fixed part", ecs("0001"), &[Udp, Tcp], formerr),
        ("unknown family (§7.1.2): ignored, not sent back", ecs("00071800c00002"), &[Udp, Tcp], ANSWER),
    ]);
}

#[test]
fn rfc7871_section_7_2_1_refusals_and_errors_send_the_client_subnet_back() {
    const SUBNET: &str = "00011800c00002";
    let ecs = |packet: Vec<u8>| and(packet, &options(&[(8, SUBNET)]));
    let shown = |rcode: &str, code: &str| format!("{rcode}, 1 | | | opt 0 1232 8={SUBNET} 15={code}");
    let bare = |rcode: &str| format!("{rcode}, 1 | | | opt 0 1232 8={SUBNET}");
    let notify = flags(0x2000, query("example.com", RecordType::SOA));
    check(&[
        ("not our zone", ecs(query("example.net", RecordType::A)), &[Udp, Tcp], &shown("REFUSED", "0014")),
        ("AXFR", ecs(query("example.com", RecordType::AXFR)), &[Udp, Tcp], &shown("REFUSED", "0012")),
        ("NOTIFY", ecs(notify.clone()), &[Udp, Tcp], &shown("REFUSED", "0012")),
        ("UPDATE", ecs(flags(0x2800, query("example.com", RecordType::SOA))), &[Udp], &shown("REFUSED", "0012")),
        ("STATUS", ecs(flags(0x1000, www())), &[Udp, Tcp], &shown("NOTIMP", "0015")),
        ("class HS", ecs(class(4, www())), &[Udp], &shown("REFUSED", "0015")),
        ("class CH, refused", ecs(class(3, www())), &[Udp], &shown("REFUSED", "0014")),
        (
            "class CH, answered",
            ecs(class(3, query("version.bind", RecordType::TXT))),
            &[Udp],
            &format!("NOERROR aa, 1 | TXT | | opt 0 1232 8={SUBNET}"),
        ),
        ("NXDOMAIN", ecs(query("no.example.com", RecordType::A)), &[Udp], &format!("NXDOMAIN aa, 1 | | SOA | opt 0 1232 8={SUBNET}")),
        ("TSIG of a key we do not have", and(ecs(www()), &tsig()), &[Udp], &format!("{} TSIG", bare("NOTAUTH"))),
        (
            "IPv6",
            and(query("example.net", RecordType::A), &options(&[(8, "0002300020010db80001")])),
            &[Udp],
            "REFUSED, 1 | | | opt 0 1232 8=0002300020010db80001 15=0014",
        ),
        ("malformed ones are not", and(flags(0x1000, www()), &options(&[(8, "00011818c00002")])), &[Udp], "NOTIMP, 1 | | | opt 0 1232 15=0015"),
        ("nor those of other versions (RFC 6891 §6.1.3)", and(www(), &opt(1232, VERSION_1, &[(8, SUBNET)])), &[Udp], "BADVERS, 1 | | | opt 0 1232"),
    ]);
    // A zone that could not be loaded, and a resolver that is not trusted with the option.
    let files = MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.zone", "@ 300 A 192.0.2.256\n")]);
    let down = world_of_files(load::build(&files, Path::new("meridian.toml"), &Previous::default()));
    assert_eq!(show(ask(&down, &ecs(www()), Udp)), shown("SERVFAIL", "000e"));
    let untrusted = world_with("[ecs]\ntrust = [\"192.0.2.0/24\"]\n");
    for packet in [ecs(query("example.net", RecordType::A)), ecs(notify), ecs(class(4, www())), ecs(www())] {
        let shown = show(ask(&untrusted, &packet, Udp));
        assert!(shown.contains("opt 0 1232") && !shown.contains(" 8="), "{shown}");
    }
}

#[test]
fn rfc5001_and_rfc4892_who_is_asked() {
    let chaos = |name: &str, rtype| class(3, query(name, rtype));
    let txt = "NOERROR aa, 1 | TXT";
    check(&[
        ("NSID", and(www(), &options(&[(3, "")])), &[Udp, Tcp], &format!("{ANSWER} 3=6e6f64652d31")),
        ("NSID with a content", and(www(), &options(&[(3, "ffff")])), &[Udp], &format!("{ANSWER} 3=6e6f64652d31")),
        ("version.bind", chaos("version.bind", RecordType::TXT), &[Udp, Tcp], txt),
        ("version.server, any case", chaos("VERSION.Server", RecordType::TXT), &[Udp], txt),
        ("id.server", chaos("id.server", RecordType::TXT), &[Udp, Tcp], txt),
        ("hostname.bind", chaos("hostname.bind", RecordType::TXT), &[Udp], txt),
        ("ANY", chaos("version.bind", RecordType::ANY), &[Udp], txt),
        ("another type", and(chaos("version.bind", RecordType::A), &options(&[])), &[Udp], "REFUSED, 1 | | | opt 0 1232 15=0012"),
        ("another name", and(chaos("authors.bind", RecordType::TXT), &options(&[])), &[Udp], "REFUSED, 1 | | | opt 0 1232 15=0014"),
    ]);
    let off = world_with("");
    for name in ["version.bind", "id.server"] {
        assert_eq!(show(ask(&off, &chaos(name, RecordType::TXT), Udp)), "REFUSED, 1", "{name}");
    }
    assert_eq!(show(ask(&off, &and(www(), &options(&[(3, "")])), Udp)), ANSWER);
}

#[test]
fn rfc8914_section_4_refusals_say_why() {
    let refused = |code: &str| format!("REFUSED, 1 | | | opt 0 1232 15={code}");
    let edns = |packet: Vec<u8>| and(packet, &options(&[]));
    check(&[
        ("20: not our zone", edns(query("example.net", RecordType::A)), &[Udp, Tcp], &refused("0014")),
        ("18: AXFR (RFC 5936), until configured", edns(query("example.com", RecordType::AXFR)), &[Udp, Tcp], &refused("0012")),
        ("18: IXFR (RFC 1995)", edns(query("example.com", RecordType::IXFR)), &[Udp, Tcp], &refused("0012")),
        ("18: NOTIFY (RFC 1996)", edns(flags(0x2000, query("example.com", RecordType::SOA))), &[Udp, Tcp], &refused("0012")),
        ("18: UPDATE (RFC 2136)", edns(flags(0x2800, query("example.com", RecordType::SOA))), &[Udp, Tcp], &refused("0012")),
        (
            "types that are no data are nowhere (RFC 6895 §3.1)",
            edns(query("example.com", RecordType(253))),
            &[Udp],
            "NOERROR aa, 1 | | SOA | opt 0 1232",
        ),
        ("as are those that only messages have", edns(query("example.com", RecordType(41))), &[Udp], "NOERROR aa, 1 | | SOA | opt 0 1232"),
        ("21: class HS", edns(class(4, www())), &[Udp, Tcp], &refused("0015")),
        ("21: class NONE", edns(class(254, www())), &[Udp], &refused("0015")),
        ("class ANY is answered without authority (RFC 1035 §6.2)", edns(class(255, www())), &[Udp], "NOERROR, 1 | A | | opt 0 1232"),
        ("21: IQUERY (RFC 3425)", edns(flags(0x0800, www())), &[Udp, Tcp], "NOTIMP, 1 | | | opt 0 1232 15=0015"),
        ("21: STATUS", edns(flags(0x1000, www())), &[Udp], "NOTIMP, 1 | | | opt 0 1232 15=0015"),
        ("21: DSO (RFC 8490 §5.1.1)", flags(0x3000, vec![0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), &[Tcp], "NOTIMP, 0"),
        ("nothing without EDNS", query("example.net", RecordType::A), &[Udp], "REFUSED, 1"),
    ]);
}

#[test]
fn rfc8914_section_4_1_all_down_says_that_it_is_about_what_is_behind_the_name() {
    let zone = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool.one]\nendpoints = [\"192.0.2.1\"]\n\
        [steer.www]\nuse = \"one\"\nall_down = \"servfail\"\n";
    let server = Meridian::start(&[("zones/example.com.toml", zone)]);
    let dig = |more: &str| {
        let port = server.dns.port().to_string();
        let output = std::process::Command::new("dig").args(["@127.0.0.1", "-p", &port, "www.example.com", "A"]).args(more.split(' ')).output();
        String::from_utf8_lossy(&output.expect("dig is installed").stdout).into_owned()
    };
    let well = dig("+edns");
    assert!(well.contains("192.0.2.1") && !well.contains("EDE"), "{well}");
    Rest::new(&server).force("example.com/one", serde_json::json!({ "state": "down" }));
    for more in ["+edns", "+tcp", "+subnet=203.0.113.0/24"] {
        let down = dig(more);
        assert!(down.contains("status: SERVFAIL") && down.contains("EDE: 0 (Other): (nothing behind this name is up)"), "{down}");
    }
    let bare = dig("+noedns");
    assert!(bare.contains("status: SERVFAIL") && !bare.contains("EDE"), "{bare}");
}

#[test]
fn rfc1035_section_4_1_1_responses_are_never_answered() {
    for opcode in 0..16 {
        let packet = flags(0x8000 | opcode << 11, www());
        check(&[("QR=1", packet.clone(), &[Udp, Tcp, Tls], "silence"), ("QR=1 and cut", packet[..12].to_vec(), &[Udp, Tcp], "silence")]);
    }
    for len in 0..12 {
        check(&[("less than a header", www()[..len].to_vec(), &[Udp, Tcp], "silence")]);
    }
}

#[test]
fn rfc8482_section_4_2_any_is_one_record() {
    check(&[
        ("with data", query("example.com", RecordType::ANY), &[Udp, Tcp], "NOERROR aa, 1 | HINFO"),
        ("no name", query("x.example.com", RecordType::ANY), &[Udp], "NXDOMAIN aa, 1 | | SOA"),
    ]);
}
