//! The whole answer to any packet: octet 0 chooses transport, source and world, octet 1 the chance, octet 2 the time; the packet follows.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use meridian::answer::{Asked, Dice, MAX_REPLY_LEN, MAX_UDP_PAYLOAD, Outcome, Reply, Transport, answer, prepare};
use meridian::dns::{Parsed, QueryName, request};
use meridian::world::World;

use super::first;
use super::world::worlds;

/// Bits of octet 0.
pub(super) const TCP: u8 = 1;
pub(super) const OVERLAID: u8 = 2;
pub(super) const SOURCE: u8 = 4;
pub(super) const TLS: u8 = 128;

/// Where queries come from: trusted with client subnets, not trusted, allowed to ask `_why.`, IPv6, embedded IPv4.
const SOURCES: [&str; 5] = ["192.0.2.200", "198.51.100.9", "127.0.0.1", "2001:db8::9", "::ffff:198.51.100.9"];
const NOW: u64 = 1_800_000_000;

/// Choices, then a packet.
pub(super) fn body(data: &[u8]) {
    let (choice, rest) = first(data);
    let (chance, rest) = first(rest);
    let (time, packet) = first(rest);
    let source: IpAddr = SOURCES[usize::from(choice / SOURCE) % SOURCES.len()].parse().expect("an address");
    let transport = match (choice & TLS, choice & TCP) {
        (0, 0) => Transport::Udp,
        (0, _) => Transport::Tcp,
        (_, 0) => Transport::Tls,
        _ => Transport::Https,
    };
    worlds().with(choice & OVERLAID != 0, |world| {
        check(world, &Asked { packet, source, transport, keepalive: 300 }, &Dice::new(NOW + u64::from(time), chance.into()));
    });
}

fn check(world: &World, asked: &Asked<'_>, dice: &Dice) {
    let room = if asked.transport == Transport::Udp { usize::from(MAX_UDP_PAYLOAD) } else { MAX_REPLY_LEN };
    // Whatever other replies left in the buffer is not told: the same chance gives the same octets in a clean and in a used one.
    let (mut clean, mut used) = (vec![0; room], vec![0xaa; room]);
    let outcome = answer(world, asked, &mut dice.clone(), &mut clean);
    let again = answer(world, asked, &mut dice.clone(), &mut used);
    assert_eq!(outcome, again, "the same question, time and chance");
    // Step by step, as a batch is answered: for some of them there is a shorter way to the same octets.
    used.fill(0x55);
    let mut name = QueryName::root();
    let mut prepared = prepare(world, asked, &mut name);
    prepared.warm_node();
    prepared.warm_map(world);
    prepared.warm_ranges();
    assert_eq!(prepared.finish(world, asked, &mut dice.clone(), &mut used), outcome, "in steps");
    if let Outcome::Reply(reply) = outcome {
        assert!(clean[..reply.len] == used[..reply.len], "in steps: {:02x?} {:02x?}", &clean[..reply.len], &used[..reply.len]);
    }
    let deserves_a_reply = asked.packet.len() >= request::HEADER_LEN && asked.packet[2] & 0x80 == 0;
    match outcome {
        Outcome::Silence => assert!(!deserves_a_reply, "silence"),
        Outcome::Reply(reply) => {
            assert!(deserves_a_reply, "a reply to a response");
            assert!(clean[..reply.len] == used[..reply.len], "octets of another reply");
            check_reply(asked, &reply, &clean[..reply.len]);
        }
    }
}

fn limit(asked: &Asked<'_>) -> usize {
    match (asked.transport, request::parse(asked.packet, &mut QueryName::root())) {
        (Transport::Udp, Parsed::Query(query)) => query.edns.map_or(512, |edns| usize::from(edns.udp_payload.clamp(512, MAX_UDP_PAYLOAD))),
        (Transport::Udp, _) => 512,
        _ => MAX_REPLY_LEN,
    }
}

fn check_reply(asked: &Asked<'_>, reply: &Reply, octets: &[u8]) {
    assert!(octets.len() <= limit(asked), "{} octets, at most {}", octets.len(), limit(asked));
    assert_eq!(octets[..2], asked.packet[..2], "the ID");
    // QR set, opcode and RD copied; RA, Z and AD never set.
    assert_eq!((octets[2] & 0xf9, octets[3] & 0xe0), (0x80 | (asked.packet[2] & 0x79), 0), "the flags");
    assert_eq!(octets[2] & 0x02 != 0, reply.truncated, "TC");
    assert!(!reply.truncated || asked.transport == Transport::Udp || octets.len() > 60_000, "nothing is cut over TCP that fits");
    assert_eq!(u16::from(octets[3] & 0x0f), reply.rcode.0 & 0x0f, "RCODE");
    let mut decoder = BinDecoder::new(octets);
    let message = match Message::read(&mut decoder) {
        Ok(message) => message,
        // `unknown.example.com` has a record of type 65280 without data, which hickory-proto takes for an update only (RFC 3597 §5 allows it).
        Err(error) if error.to_string().contains("record with length 0") && octets.windows(2).any(|two| two == [0xff, 0x00]) => return,
        Err(error) => panic!("{error}: {octets:02x?}"),
    };
    assert!(decoder.is_empty(), "octets behind the message: {octets:02x?}");
    assert_eq!(message.metadata.message_type, MessageType::Response);
    let counts: Vec<usize> = [4, 6, 8, 10].iter().map(|at| usize::from(u16::from_be_bytes([octets[*at], octets[at + 1]]))).collect();
    let edns = usize::from(message.edns.is_some());
    assert_eq!(counts, [message.queries.len(), message.answers.len(), message.authorities.len(), message.additionals.len() + edns], "the counts");
    if counts[0] == 1 {
        let end = 16 + message.queries[0].name().iter().map(|label| label.len() + 1).sum::<usize>() + 1;
        assert_eq!(octets[12..end], asked.packet[12..end], "the question as it was asked");
    }
}
