//! Whatever an operator may put into the zone folder, untrusted: a zone in TOML, a library, a master file and `meridian.toml`, in this order with
//! a zero octet between them. Everything a start does without sockets: read, check, compile, plan, answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use meridian::answer::{Asked, Dice, MAX_REPLY_LEN, Outcome, Transport, answer};
use meridian::config::MemoryFiles;
use meridian::control::load::{self, Previous};
use meridian::control::offline::world_of_files;
use meridian::dns::Name;
use meridian::zone::tree::NO_STEER;

use super::{parts, seeds};

/// The files of a folder.
pub(super) fn body(data: &[u8]) {
    let [zone, library, master, settings] = parts(data);
    let settings = if settings.is_empty() { seeds::SETTINGS.as_bytes() } else { settings };
    let mut files: Vec<(&str, &[u8])> =
        vec![("meridian.toml", settings), ("geo.mmdb", seeds::small_database()), ("rtt.csv", seeds::LATENCY.as_bytes()), ("ca.pem", b"")];
    let named = [("zones/example.com.toml", zone), ("zones/library.toml", library), ("zones/example.org.zone", master)];
    files.extend(named.into_iter().filter(|(_, octets)| !octets.is_empty()));
    let files = MemoryFiles(files.into_iter().map(|(path, octets)| (PathBuf::from(path), Arc::from(octets))).collect());
    let build = load::build(&files, Path::new("meridian.toml"), &Previous::default());
    build.problems.iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
    assert!(build.settings.is_some() && build.bad.is_empty() || build.has_errors(), "what is not served has its reason");
    let names: Vec<Name> = build.good.iter().filter_map(|zone| zone.loaded.name.clone()).collect();
    let world = world_of_files(build);
    let mut reply = vec![0; MAX_REPLY_LEN];
    for name in &names {
        for rtype in [6u8, 1, 255] {
            let len = ask(&world, name.as_wire(), rtype, &mut reply);
            let message = Message::from_vec(&reply[..len]).unwrap_or_else(|error| panic!("{name}: {error}: {:02x?}", &reply[..len]));
            let failed = message.metadata.response_code == ResponseCode::ServFail && rtype == 1;
            assert!(message.metadata.response_code == ResponseCode::NoError || failed, "{name}: {}", message.metadata.response_code);
            assert!(rtype != 6 || message.answers.len() == 1, "{name} has its SOA");
        }
    }
    for zone in world.zones.iter() {
        for node in (0..zone.tree.node_count() as u32).filter(|node| zone.tree.node(*node).steer != NO_STEER) {
            let owner = zone.tree.name(node);
            // An asterisk is asked for as it stands.
            let len = ask(&world, owner, 1, &mut reply);
            Message::from_vec(&reply[..len]).unwrap_or_else(|error| panic!("{owner:02x?}: {error}"));
        }
    }
}

fn ask(world: &meridian::world::World, name: &[u8], rtype: u8, reply: &mut [u8]) -> usize {
    let packet = [&[0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], name, &[0, rtype, 0, 1]].concat();
    let asked = Asked { packet: &packet, source: std::net::Ipv4Addr::new(192, 0, 2, 1).into(), transport: Transport::Tcp, keepalive: 300 };
    match answer(world, &asked, &mut Dice::new(1_800_000_000, 1), reply) {
        Outcome::Reply(reply) => reply.len,
        Outcome::Silence => panic!("silence"),
    }
}
