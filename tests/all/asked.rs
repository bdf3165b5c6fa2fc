//! Zones as text, a question, and the answer as text: for tests of what the engine says. No sockets.
//!
//! ```text
//! question   NAME TYPE [ANY-CLASS] [tcp | udp:SIZE]             SIZE 0: without EDNS; else as the client's payload size
//! answer     RCODE [aa] [tc] | answer | authority | additional  records as `owner TYPE data`; a SOA in the authority section without its data
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hickory_proto::op::Message;
use meridian::answer::{Asked, Dice, MAX_REPLY_LEN, Outcome, Transport, answer};
use meridian::config::MemoryFiles;
use meridian::control::load::{self, Previous};
use meridian::control::offline::world_of_files;
use meridian::dns::{Name, QueryName, Rcode, RecordType};
use meridian::world::World;
use meridian::zone::rdata;

/// Seconds since 1970 in all questions.
pub const NOW: u64 = 1_760_000_000;

/// The world of these zones: `NAME.toml` as TOML zones, any other name as the origin of a master file. Sets stay in order.
pub fn world(zones: &[(&str, &str)]) -> World {
    let (world, problems) = world_and_problems(zones);
    assert!(!problems.iter().any(|problem| problem.contains("error:")), "{problems:#?}");
    world
}

/// The same, and what the loader says.
pub fn world_and_problems(zones: &[(&str, &str)]) -> (World, Vec<String>) {
    let mut files = MemoryFiles::default();
    let mut config = String::from("[server]\nrotate = false\n");
    for (at, (name, text)) in zones.iter().enumerate() {
        let path = if name.ends_with(".toml") { format!("zones/{name}") } else { format!("masters/{at}") };
        if !name.ends_with(".toml") {
            config.push_str(&format!("[[zones.master]]\norigin = \"{name}\"\nfile = \"{path}\"\n"));
        }
        files.0.insert(PathBuf::from(path), Arc::from(text.as_bytes()));
    }
    files.0.insert("meridian.toml".into(), Arc::from(config.as_bytes()));
    let build = load::build(&files, Path::new("meridian.toml"), &Previous::default());
    let problems = build.problems.iter().map(ToString::to_string).collect();
    (world_of_files(build), problems)
}

/// A question in wire form.
pub fn packet(question: &str) -> (Vec<u8>, Transport) {
    let words: Vec<&str> = question.split(' ').collect();
    let (mut class, mut transport, mut payload) = (1u16, Transport::Udp, Some(1232u16));
    for word in &words[2..] {
        match *word {
            "ANY-CLASS" => class = 255,
            "tcp" => transport = Transport::Tcp,
            size => payload = Some(size.strip_prefix("udp:").expect("a size").parse().expect("a number")).filter(|size| *size > 0),
        }
    }
    let name = Name::parse_absolute(words[0]).expect("a name");
    let rtype: RecordType = words[1].parse().expect("a type");
    let mut packet = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(payload.is_some())];
    packet.extend_from_slice(name.as_wire());
    packet.extend_from_slice(&rtype.0.to_be_bytes());
    packet.extend_from_slice(&class.to_be_bytes());
    if let Some(payload) = payload {
        packet.extend_from_slice(&[0, 0, 41]);
        packet.extend_from_slice(&payload.to_be_bytes());
        packet.extend_from_slice(&[0; 6]);
    }
    (packet, transport)
}

/// The octets of the reply.
pub fn octets(world: &World, question: &str, source: IpAddr, dice: &mut Dice) -> Vec<u8> {
    let (packet, transport) = packet(question);
    let mut buf = vec![0u8; MAX_REPLY_LEN];
    let Outcome::Reply(reply) = answer(world, &Asked { packet: &packet, source, transport, keepalive: 0 }, dice, &mut buf) else {
        panic!("{question}: silence")
    };
    buf.truncate(reply.len);
    Message::from_vec(&buf).unwrap_or_else(|error| panic!("{question}: {error}: {buf:02x?}"));
    assert_eq!(reply.truncated, buf[2] & 2 != 0, "{question}");
    buf
}

/// Asks and reads the reply.
pub fn ask(world: &World, question: &str) -> String {
    let source = IpAddr::from([192, 0, 2, 200]);
    shown(&octets(world, question, source, &mut Dice::new(NOW, 1)), false)
}

/// A reply as text; with TTLs if wanted.
pub fn shown(reply: &[u8], ttls: bool) -> String {
    let count = |at: usize| usize::from(u16::from_be_bytes([reply[at], reply[at + 1]]));
    let mut out = Rcode(u16::from(reply[3] & 15)).to_string();
    for (bit, word) in [(4, " aa"), (2, " tc")] {
        out.push_str(if reply[2] & bit != 0 { word } else { "" });
    }
    let mut at = 12;
    for _ in 0..count(4) {
        at = read_name(reply, at).1 + 4;
    }
    for section in [6, 8, 10] {
        let mut records = Vec::new();
        for _ in 0..count(section) {
            let (owner, fixed) = read_name(reply, at);
            let rtype = RecordType(u16::from_be_bytes([reply[fixed], reply[fixed + 1]]));
            let ttl = u32::from_be_bytes(reply[fixed + 4..fixed + 8].try_into().expect("four octets"));
            let (from, len) = (fixed + 10, usize::from(u16::from_be_bytes([reply[fixed + 8], reply[fixed + 9]])));
            at = from + len;
            if rtype == RecordType::OPT {
                continue;
            }
            let ttl = if ttls { format!(" {ttl}") } else { String::new() };
            let data = if section == 8 && rtype == RecordType::SOA { String::new() } else { format!(" {}", read_data(reply, rtype, from, len)) };
            records.push(format!("{owner}{ttl} {rtype}{data}"));
        }
        out.push_str(" | ");
        out.push_str(&records.join("; "));
    }
    assert_eq!(at, reply.len(), "nothing behind the last record");
    out.trim_end_matches([' ', '|']).to_string()
}

/// The name at an offset, pointers followed, and where it ends.
fn read_name(reply: &[u8], from: usize) -> (Name, usize) {
    let (mut wire, mut at, mut end) = (Vec::new(), from, None);
    loop {
        let len = usize::from(reply[at]);
        if len & 0xc0 == 0xc0 {
            end = end.or(Some(at + 2));
            let target = (len & 0x3f) << 8 | usize::from(reply[at + 1]);
            assert!(target < at, "pointers lead backwards (RFC 1035 §4.1.4)");
            at = target;
            continue;
        }
        wire.extend_from_slice(&reply[at..=at + len]);
        at += 1 + len;
        if len == 0 {
            return (Name::from_wire(&wire).expect("a name"), end.unwrap_or(at));
        }
    }
}

/// Record data as text, its names uncompressed first: only the types of RFC 1035 may be compressed (RFC 3597 §4).
fn read_data(reply: &[u8], rtype: RecordType, from: usize, len: usize) -> String {
    let before = match rtype {
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::SOA => 0,
        RecordType::MX => 2,
        _ => return rdata::to_text(rtype, &reply[from..from + len]),
    };
    let mut wire = reply[from..from + before].to_vec();
    let mut at = from + before;
    for _ in 0..if rtype == RecordType::SOA { 2 } else { 1 } {
        let (name, end) = read_name(reply, at);
        wire.extend_from_slice(name.as_wire());
        at = end;
    }
    wire.extend_from_slice(&reply[at..from + len]);
    rdata::to_text(rtype, &wire)
}

/// Asks each question and compares; all differences are shown at once.
pub fn check(world: &World, cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(question, expected)| {
            let found = ask(world, question);
            (found != *expected).then(|| format!("{question}\n  found    {found}\n  expected {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A lower-case name in wire form, for octet-exact tests.
pub fn wire(name: &str) -> Vec<u8> {
    let name = Name::parse_absolute(name).expect("a name");
    QueryName::read(name.as_wire()).expect("a name").as_wire().to_vec()
}
