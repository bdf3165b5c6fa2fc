//! Static answers, by RFC and section. What the engine writes is decoded by hickory-proto.

use std::sync::Arc;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr;
use hickory_proto::serialize::binary::BinEncodable;

use super::*;
use crate::dns::{Name, RecordType};
use crate::policy::model::{SerialSource, ZoneModel};
use crate::world::{DownZone, ServerOptions, ZoneIndex, ZoneWorld};
use crate::zone::tree::ZoneTree;
use crate::zone::{Owners, Place, Record, Records, rdata};

/// `owner TTL TYPE data` lines, names relative to the apex.
fn zone(apex: &str, lines: &str) -> Arc<ZoneWorld> {
    let origin = Name::parse_absolute(apex).expect("an apex");
    let records: Records = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut parts = line.splitn(4, ' ');
            let mut part = || parts.next().expect("four parts");
            let owner = Name::parse(part(), &origin).expect("an owner");
            let ttl = part().parse().expect("a TTL");
            let rtype: RecordType = part().parse().expect("a type");
            let rdata = rdata::parse(rtype, part(), &origin).unwrap_or_else(|error| panic!("{line}: {error}"));
            Record { owner, rtype, ttl, rdata, place: Place::default() }
        })
        .collect();
    let tree = ZoneTree::build(&origin, Owners::group(&origin, records), &[]).expect("small");
    let model = ZoneModel { soa_serial: SerialSource::File, ..ZoneModel::empty(origin) };
    Arc::new(ZoneWorld {
        serial: tree.soa_serial(),
        tree: Arc::new(tree),
        ttls: None,
        steered: Arc::new([]),
        steerings: Default::default(),
        slot: apex.len() as u32,
        model: Arc::new(model),
        view: Arc::default(),
    })
}

fn world() -> World {
    let example = zone(
        "example.com.",
        r#"
        @ 3600 SOA ns1 hostmaster 7 3600 900 1209600 60
        @ 300 NS ns1
        @ 300 NS ns2.example.net.
        @ 300 MX 10 mail
        @ 300 CAA 0 issue "ca.example.net"
        ns1 300 A 192.0.2.53
        mail 300 A 192.0.2.25
        mail 300 AAAA 2001:db8::25
        www 300 CNAME web
        web 300 A 192.0.2.80
        a.b.c 300 TXT "deep"
        *.wild 300 TXT "any"
        *.wild 300 MX 5 mail
        x.wild 300 A 192.0.2.1
        sub.*.wild 300 A 192.0.2.2
        *.alias 300 CNAME web
        child 300 NS ns.child
        child 300 NS ns.other.example.
        child 300 DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
        ns.child 300 A 192.0.2.54
        ns.child 300 AAAA 2001:db8::54
        old 300 DNAME new
        x.new 300 A 192.0.2.90
        out 300 CNAME elsewhere.example.net.
        loop1 300 CNAME loop2
        loop2 300 CNAME loop1
        to-nothing 300 CNAME missing
        to-child 300 CNAME host.child
        nested 300 NS ns1.nested
        ns1.nested 300 A 192.0.2.60
        "#,
    );
    let nested = zone("nested.example.com.", "@ 300 SOA ns1 h 1 1 1 1 30\n@ 300 NS ns1\nns1 300 A 192.0.2.60\n");
    let server = ServerOptions { nsid: Some((*b"node-1").into()), ..ServerOptions::default() };
    World {
        generation: 1,
        server,
        zones: ZoneIndex::new(vec![example, nested], vec![DownZone { apex: Name::parse_absolute("Down.example").expect("a name") }]),
    }
}

fn query(name: &str, rtype: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(name.parse().expect("a name"), rtype.parse::<RecordType>().map(|t| rr::RecordType::from(t.0)).expect("a type")));
    message.to_bytes().expect("encodes")
}

fn ask_octets(packet: &[u8], transport: Transport) -> (Message, Reply) {
    let mut buf = vec![0u8; MAX_REPLY_LEN];
    let asked = Asked { packet, source: "192.0.2.200".parse().expect("an address"), transport, keepalive: 0 };
    let Outcome::Reply(reply) = answer(&world(), &asked, &mut Dice::new(1_000_000, 1), &mut buf) else { panic!("silence") };
    (Message::from_vec(&buf[..reply.len]).expect("hickory-proto decodes what we write"), reply)
}

/// `RCODE [aa] [tc] | answers | authority | additional`, records as `owner TTL TYPE data`.
fn show(message: &Message) -> String {
    let section = |records: &[rr::Record]| records.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ").replace(" IN ", " ");
    let flags = format!("{}{}", if message.metadata.authoritative { " aa" } else { "" }, if message.metadata.truncation { " tc" } else { "" });
    let code = Rcode(u16::from(message.metadata.response_code));
    let parts = [section(&message.answers), section(&message.authorities), section(&message.additionals)];
    format!("{code}{flags} | {} | {} | {}", parts[0], parts[1], parts[2]).trim_end_matches([' ', '|']).to_string()
}

const SOA: &str = "example.com. 60 SOA ns1.example.com. hostmaster.example.com. 7 3600 900 1209600 60";

#[test]
fn rfc1034_section_4_3_2_static_answers() {
    let nodata = format!("NOERROR aa |  | {SOA}");
    let nxdomain = format!("NXDOMAIN aa |  | {SOA}");
    for (name, rtype, expected) in [
        ("web.example.com.", "A", "NOERROR aa | web.example.com. 300 A 192.0.2.80"),
        (
            "example.com.",
            "MX",
            "NOERROR aa | example.com. 300 MX 10 mail.example.com. |  | mail.example.com. 300 A 192.0.2.25; mail.example.com. 300 AAAA 2001:db8::25",
        ),
        (
            "example.com.",
            "NS",
            "NOERROR aa | example.com. 300 NS ns1.example.com.; example.com. 300 NS ns2.example.net. |  | ns1.example.com. 300 A 192.0.2.53",
        ),
        ("example.com.", "SOA", "NOERROR aa | example.com. 3600 SOA ns1.example.com. hostmaster.example.com. 7 3600 900 1209600 60"),
        ("web.example.com.", "AAAA", &nodata),
        ("nope.example.com.", "A", &nxdomain),
        ("a.very.deep.nope.example.com.", "A", &nxdomain),
        // RFC 8020: empty non-terminals exist.
        ("b.c.example.com.", "A", &nodata),
        ("c.example.com.", "A", &nodata),
        ("x.c.example.com.", "A", &nxdomain),
        // Not our zone.
        ("example.net.", "A", "REFUSED"),
        (".", "NS", "REFUSED"),
        ("com.", "NS", "REFUSED"),
        ("host.down.example.", "A", "SERVFAIL"),
        ("example.com.", "AXFR", "REFUSED"),
        ("web.example.com.", "TYPE65280", &nodata),
    ] {
        assert_eq!(show(&ask_octets(&query(name, rtype), Transport::Udp).0), expected, "{name} {rtype}");
    }
}

#[test]
fn rfc4343_the_question_keeps_its_case_and_owners_point_to_it() {
    let mut packet = query("web.example.com.", "A");
    packet[13..16].copy_from_slice(b"WeB");
    let mut buf = vec![0u8; MAX_REPLY_LEN];
    let asked = Asked { packet: &packet, source: IpAddr::from([192, 0, 2, 200]), transport: Transport::Udp, keepalive: 0 };
    assert!(matches!(answer(&world(), &asked, &mut Dice::new(0, 1), &mut buf), Outcome::Reply(Reply { rcode: Rcode::NOERROR, .. })));
    assert_eq!(&buf[12..packet.len()], &packet[12..]);
    assert_eq!(&buf[packet.len()..packet.len() + 2], &[0xc0, 12]);
}

#[test]
fn rfc4592_wildcards() {
    let nodata = format!("NOERROR aa |  | {SOA}");
    let nxdomain = format!("NXDOMAIN aa |  | {SOA}");
    for (name, rtype, expected) in [
        ("q.wild.example.com.", "TXT", "NOERROR aa | q.wild.example.com. 300 TXT any"),
        ("p.q.wild.example.com.", "TXT", "NOERROR aa | p.q.wild.example.com. 300 TXT any"),
        (
            "q.wild.example.com.",
            "MX",
            "NOERROR aa | q.wild.example.com. 300 MX 5 mail.example.com. |  | mail.example.com. 300 A 192.0.2.25; mail.example.com. 300 AAAA 2001:db8::25",
        ),
        ("q.wild.example.com.", "A", &nodata),
        // The name exists, so the wildcard does not apply, to it or below it.
        ("x.wild.example.com.", "TXT", &nodata),
        ("y.x.wild.example.com.", "TXT", &nxdomain),
        ("*.wild.example.com.", "TXT", "NOERROR aa | *.wild.example.com. 300 TXT any"),
        // An asterisk in the middle is a name like any other.
        ("sub.*.wild.example.com.", "A", "NOERROR aa | sub.*.wild.example.com. 300 A 192.0.2.2"),
        ("wild.example.com.", "TXT", &nodata),
        ("z.alias.example.com.", "A", "NOERROR aa | z.alias.example.com. 300 CNAME web.example.com.; web.example.com. 300 A 192.0.2.80"),
    ] {
        assert_eq!(show(&ask_octets(&query(name, rtype), Transport::Udp).0), expected, "{name} {rtype}");
    }
}

#[test]
fn rfc1034_section_3_6_2_cname_chains() {
    let nx = format!("NXDOMAIN aa | to-nothing.example.com. 300 CNAME missing.example.com. | {SOA}");
    for (name, rtype, expected) in [
        ("www.example.com.", "A", "NOERROR aa | www.example.com. 300 CNAME web.example.com.; web.example.com. 300 A 192.0.2.80"),
        ("www.example.com.", "CNAME", "NOERROR aa | www.example.com. 300 CNAME web.example.com."),
        ("out.example.com.", "A", "NOERROR aa | out.example.com. 300 CNAME elsewhere.example.net."),
        ("loop1.example.com.", "A", "NOERROR aa | loop1.example.com. 300 CNAME loop2.example.com.; loop2.example.com. 300 CNAME loop1.example.com."),
        // RFC 6604 §3: the code of the last name.
        ("to-nothing.example.com.", "A", &nx),
        ("www.example.com.", "AAAA", &format!("NOERROR aa | www.example.com. 300 CNAME web.example.com. | {SOA}")),
        (
            "to-child.example.com.",
            "A",
            "NOERROR aa | to-child.example.com. 300 CNAME host.child.example.com. | child.example.com. 300 NS ns.child.example.com.; child.example.com. 300 NS ns.other.example. | ns.child.example.com. 300 A 192.0.2.54; ns.child.example.com. 300 AAAA 2001:db8::54",
        ),
    ] {
        assert_eq!(show(&ask_octets(&query(name, rtype), Transport::Udp).0), expected, "{name} {rtype}");
    }
}

#[test]
fn delegations_refer_and_keep_ds_on_our_side() {
    let referral = "NOERROR |  | child.example.com. 300 NS ns.child.example.com.; child.example.com. 300 NS ns.other.example. | ns.child.example.com. 300 A 192.0.2.54; ns.child.example.com. 300 AAAA 2001:db8::54";
    for (name, rtype, expected) in [
        ("child.example.com.", "NS", referral),
        ("host.child.example.com.", "A", referral),
        ("ns.child.example.com.", "A", referral),
        ("child.example.com.", "DS", "NOERROR aa | child.example.com. 300 DS 7EUFASuxg69fIliBeaU7CphjH60aKSEY"),
        // Child and parent both served: the child answers, the parent has the DS (RFC 4035 §3.1.4.1).
        (
            "nested.example.com.",
            "NS",
            "NOERROR aa | nested.example.com. 300 NS ns1.nested.example.com. |  | ns1.nested.example.com. 300 A 192.0.2.60",
        ),
        ("nested.example.com.", "DS", &format!("NOERROR aa |  | {SOA}")),
        ("x.nested.example.com.", "A", "NXDOMAIN aa |  | nested.example.com. 30 SOA ns1.nested.example.com. h.nested.example.com. 1 1 1 1 30"),
    ] {
        assert_eq!(show(&ask_octets(&query(name, rtype), Transport::Udp).0), expected, "{name} {rtype}");
    }
}

#[test]
fn rfc6672_dname() {
    let long = format!("{}.old.example.com.", ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(43)].join("."));
    for (name, rtype, expected) in [
        (
            "x.old.example.com.",
            "A",
            "NOERROR aa | old.example.com. 300 DNAME new.example.com.; x.old.example.com. 300 CNAME x.new.example.com.; x.new.example.com. 300 A 192.0.2.90",
        ),
        ("old.example.com.", "DNAME", "NOERROR aa | old.example.com. 300 DNAME new.example.com."),
        ("old.example.com.", "A", &format!("NOERROR aa |  | {SOA}")),
        (
            "y.old.example.com.",
            "A",
            &format!("NXDOMAIN aa | old.example.com. 300 DNAME new.example.com.; y.old.example.com. 300 CNAME y.new.example.com. | {SOA}"),
        ),
    ] {
        // hickory-proto knows neither DNAME nor, without DNSSEC, DS: it shows their octets in base64.
        let shown = show(&ask_octets(&query(name, rtype), Transport::Udp).0).replace("DNAME A25ldwdleGFtcGxlA2NvbQA=", "DNAME new.example.com.");
        assert_eq!(shown, expected, "{name} {rtype}");
    }
    // The new name is as long as the old one here, so it still fits; one octet longer would not be a question.
    let (message, _) = ask_octets(&query(&long, "A"), Transport::Tcp);
    assert_eq!(message.answers.len(), 2);
}

#[test]
fn rfc8482_section_4_any_is_one_hinfo() {
    assert_eq!(show(&ask_octets(&query("web.example.com.", "ANY"), Transport::Udp).0), "NOERROR aa | web.example.com. 3600 HINFO RFC8482");
    assert_eq!(show(&ask_octets(&query("b.c.example.com.", "ANY"), Transport::Udp).0), format!("NOERROR aa |  | {SOA}"));
    assert_eq!(show(&ask_octets(&query("www.example.com.", "ANY"), Transport::Udp).0), "NOERROR aa | www.example.com. 300 CNAME web.example.com.");
}

#[test]
fn replies_are_cut_at_the_payload_size_and_say_so() {
    let lines: String = (0..60).map(|n| format!("big 300 A 192.0.2.{n}\n")).collect();
    let big = zone("big.test.", &format!("@ 300 SOA ns h 1 1 1 1 1\n@ 300 NS ns.x.\n{lines}"));
    let world = World { zones: ZoneIndex::new(vec![big], Vec::new()), ..World::default() };
    let plain = query("big.big.test.", "A");
    let with_edns = |payload: u16| {
        let mut packet = plain.clone();
        packet[11] = 1;
        packet.extend_from_slice(&[0, 0, 41]);
        packet.extend_from_slice(&payload.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0x80, 0, 0, 0]);
        packet
    };
    for (packet, transport, truncated, limit) in [
        (plain.clone(), Transport::Udp, true, 512),
        (with_edns(100), Transport::Udp, true, 512),
        (with_edns(900), Transport::Udp, true, 900),
        (with_edns(1232), Transport::Udp, false, 1232),
        (with_edns(65535), Transport::Udp, false, 1232),
        (plain.clone(), Transport::Tcp, false, 65535),
    ] {
        let mut buf = vec![0u8; MAX_REPLY_LEN];
        let asked = Asked { packet: &packet, source: "192.0.2.200".parse().expect("an address"), transport, keepalive: 0 };
        let Outcome::Reply(reply) = answer(&world, &asked, &mut Dice::new(0, 1), &mut buf) else { panic!("silence") };
        let message = Message::from_vec(&buf[..reply.len]).expect("decodes");
        assert_eq!(message.metadata.truncation, truncated);
        assert_eq!(reply.truncated, truncated);
        assert!(reply.len <= limit, "{} > {limit}", reply.len);
        assert_eq!(message.answers.len(), if truncated { 0 } else { 60 });
        let edns = message.edns.as_ref();
        assert_eq!(edns.map(|edns| (edns.max_payload(), edns.flags().dnssec_ok)), (packet.len() > plain.len()).then_some((1232, true)));
    }
}

#[test]
fn rfc5001_nsid_and_faults_with_edns() {
    let mut packet = query("web.example.com.", "A");
    packet[11] = 1;
    packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 3, 0, 0]);
    let (message, _) = ask_octets(&packet, Transport::Udp);
    let edns = message.edns.expect("an OPT");
    assert!(
        edns.options()
            .as_ref()
            .iter()
            .any(|(_, option)| format!("{option:?}").contains("110, 111, 100, 101") || format!("{option:?}").contains("node-1")),
        "{edns:?}"
    );
    let version_at = packet.len() - 4 - 2 - 3;
    packet[version_at] = 1;
    let (message, reply) = ask_octets(&packet, Transport::Udp);
    assert_eq!(reply.rcode, Rcode::BADVERS);
    assert!(message.edns.is_some());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(2000))]
    /// Whatever comes in, what goes out decodes, is a response, and repeats the identifier.
    #[test]
    fn any_octets_get_a_reply_that_decodes(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..200), at in 0usize..60, name in 0usize..6) {
        let names = ["web.example.com.", "q.wild.example.com.", "x.old.example.com.", "host.child.example.com.", "loop1.example.com.", "nope.example.com."];
        let mut packet = query(names[name], "A");
        for (offset, octet) in octets.iter().take(at % 7).enumerate() {
            let place = (at + offset * 5) % packet.len();
            packet[place] = *octet;
        }
        let world = world();
        for packet in [&packet, &octets] {
            let mut buf = vec![0u8; MAX_REPLY_LEN];
            let asked = Asked { packet, source: IpAddr::from([192, 0, 2, 1]), transport: Transport::Udp, keepalive: 0 };
            if let Outcome::Reply(reply) = answer(&world, &asked, &mut Dice::new(0, 1), &mut buf) {
                proptest::prop_assert!(reply.len <= 1232);
                proptest::prop_assert_eq!(&buf[..2], &packet[..2]);
                proptest::prop_assert!(buf[2] & 0x80 != 0);
                let decoded = Message::from_vec(&buf[..reply.len]);
                proptest::prop_assert!(decoded.is_ok(), "{:?} {:?}", decoded, &buf[..reply.len]);
            }
        }
    }
}

#[test]
fn replies_that_say_the_same_share_a_kind_and_a_subject() {
    use Kind::{Answer, Error, NoData, NxDomain, Referral};
    let sort = |name: &str, rtype: &str| {
        let (_, reply) = ask_octets(&query(name, rtype), Transport::Udp);
        (reply.kind, reply.subject)
    };
    // Two questions, the kind of their replies, and whether they count as the same.
    for (one, other, kind, same) in [
        ("web.example.com. A", "WEB.example.com. A", Answer, true),
        ("web.example.com. A", "mail.example.com. A", Answer, false),
        ("mail.example.com. A", "mail.example.com. AAAA", Answer, false),
        ("a.wild.example.com. TXT", "b.c.wild.example.com. TXT", Answer, true),
        ("a.wild.example.com. TXT", "a.wild.example.com. MX", Answer, false),
        ("a.alias.example.com. A", "b.alias.example.com. A", Answer, true),
        ("x.old.example.com. A", "y.old.example.com. A", Answer, true),
        ("web.example.com. AAAA", "web.example.com. TXT", NoData, true),
        ("web.example.com. AAAA", "mail.example.com. TXT", NoData, false),
        ("a.wild.example.com. AAAA", "b.wild.example.com. A", NoData, true),
        ("nope.example.com. A", "a.b.other.example.com. TXT", NxDomain, true),
        ("nope.example.com. A", "nope.nested.example.com. A", NxDomain, false),
        ("host.child.example.com. A", "child.example.com. NS", Referral, true),
        ("example.net. A", "example.org. TXT", Error, true),
        ("host.down.example. A", "example.com. AXFR", Error, true),
    ] {
        let of = |question: &str| question.split_once(' ').map(|(name, rtype)| sort(name, rtype)).expect("name and type");
        let (one_sort, other_sort) = (of(one), of(other));
        assert_eq!((one_sort.0, other_sort.0), (kind, kind), "{one}, {other}");
        assert_eq!(one_sort == other_sort, same, "{one}, {other}");
    }
}

#[test]
fn what_some_alone_may_know_is_for_nobody_else() {
    for (question, audience) in [
        ("web.example.com. A", Audience::Everybody),
        ("nowhere.example.com. TXT", Audience::Everybody),
        ("_why.example.com. A", Audience::Everybody),
        // Nobody here may ask, and there is nothing to tell: others could be told something else.
        ("_why.web.example.com. TXT", Audience::Operators),
        ("_WHY.nowhere.example.com. TXT", Audience::Operators),
    ] {
        let (name, rtype) = question.split_once(' ').expect("name and type");
        assert_eq!(ask_octets(&query(name, rtype), Transport::Https).1.audience, audience, "{question}");
    }
}
