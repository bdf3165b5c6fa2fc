//! TSIG, NOTIFY and UPDATE by RFC and section, through the engine, as in `rfc_edns.rs`: nothing of it is configured, so what is malformed is told, and
//! the rest refused.

use meridian::answer::Transport::{Tcp, Udp};
use meridian::dns::RecordType;

use crate::rfc_edns::{BOTH, CLIENT, CONFIG, PLAIN, VERSION_1, and, ask, check, flags, opt, options, query, world_with, www};

/// A TSIG record of key `key.` with hmac-sha256, a MAC of 32 octets.
pub fn tsig() -> Vec<u8> {
    let rdata = [&b"\x0bhmac-sha256\x00"[..], &[0, 0, 0x5c, 0xf7, 0x9f, 0x11, 1, 44, 0, 32], &[0xaa; 32], &[0x12, 0x34, 0, 0, 0, 0]].concat();
    [&b"\x03key\x00\x00\xfa\x00\xff\x00\x00\x00\x00"[..], &(rdata.len() as u16).to_be_bytes(), &rdata].concat()
}

#[test]
fn rfc8945_section_5_2_tsig_of_a_key_we_do_not_have() {
    let broken = |at: usize, octet: u8| {
        let mut record = tsig();
        record[at] = octet;
        and(www(), &record)
    };
    let mut cut = tsig();
    cut.truncate(40);
    cut[14] = 40 - 15;
    check(&[
        ("5.2.1 BADKEY", and(www(), &tsig()), &[Udp, Tcp], "NOTAUTH, 1 | | | TSIG"),
        ("with EDNS", and(and(www(), &options(&[])), &tsig()), &[Udp, Tcp], "NOTAUTH, 1 | | | opt 0 1232 TSIG"),
        ("BADVERS comes first", and(and(www(), &opt(1232, VERSION_1, &[])), &tsig()), &[Udp], "BADVERS, 1 | | | opt 0 1232"),
        ("5.1 not the last record", and(and(www(), &tsig()), &options(&[])), &[Udp, Tcp], "FORMERR, 1"),
        ("5.2 twice", and(and(www(), &tsig()), &tsig()), &[Udp, Tcp], "FORMERR, 1"),
        ("4.2 a class other than ANY", broken(8, 1), &[Udp], "FORMERR, 1"),
        ("4.2 a TTL", broken(12, 1), &[Udp], "FORMERR, 1"),
        ("cut", and(www(), &cut), &[Udp, Tcp], "FORMERR, 1"),
        ("SIG(0) is not looked at (RFC 2931 §3)", and(www(), &[0, 0, 24, 0, 255, 0, 0, 0, 0, 0, 2, 0, 0]), &[Udp], PLAIN),
    ]);
    let reply = ask(&world_with(CONFIG), &and(www(), &tsig()), Udp).expect("a reply");
    let record = &reply[www().len()..];
    let (time, id_error_other) = ([0, 0, 0x5c, 0xf7, 0x9f, 0x11, 1, 44], [0x12, 0x34, 0, 17, 0, 0]);
    let rdata = [&b"\x0bhmac-sha256\x00"[..], &time, &[0, 0], &id_error_other].concat();
    assert_eq!(record, [&tsig()[..13], &[0, rdata.len() as u8], &rdata].concat(), "unsigned, BADKEY (5.3.2)");
}

#[test]
fn rfc1035_section_4_1_4_and_rfc8945_section_4_2_the_name_of_the_key_may_be_compressed() {
    // The question's name: 3 www 7 example 3 com 0.
    let (key, rest) = (b"\x03key", &tsig()[5..]);
    let at = www().len() as u8;
    let mut longest = vec![0xc0, 12];
    for _ in 0..127 {
        longest.splice(..0, *b"\x01a");
    }
    for (what, owner, expected) in [
        ("a pointer", vec![0xc0, 16], Some(&b"\x07example\x03com\x00"[..])),
        ("a label and a pointer", [&key[..], &[0xc0, 16]].concat(), Some(b"\x03key\x07example\x03com\x00")),
        ("to the root", vec![0xc0, 28], Some(b"\x00")),
        ("to itself", vec![0xc0, at], None),
        ("to its own beginning", [&key[..], &[0xc0, at]].concat(), None),
        ("forward", vec![0xc0, at + 2], None),
        ("beyond the message", vec![0xff, 0xff], None),
        ("too long", longest, None),
    ] {
        let packet = and(www(), &[&owner, rest].concat());
        let fine = if expected.is_some() { "NOTAUTH, 1 | | | TSIG" } else { "FORMERR, 1" };
        check(&[(what, packet.clone(), &[Udp, Tcp], fine)]);
        if let Some(owner) = expected {
            let reply = ask(&world_with(CONFIG), &packet, Udp).expect("a reply");
            assert_eq!(&reply[www().len()..][..owner.len() + 2], [owner, &[0, 250]].concat(), "{what}: in full");
        }
    }
}

/// NOTIFY (RFC 1996) and UPDATE (RFC 2136) of our zone, which are refused until they are configured: what is wrong with a message comes first.
fn unconfigured() -> [(&'static str, Vec<u8>); 2] {
    [0x2000, 0x2800].map(|opcode| (if opcode == 0x2000 { "NOTIFY" } else { "UPDATE" }, flags(opcode, query("example.com", RecordType::SOA))))
}

#[test]
fn rfc8945_section_5_2_1_notify_and_update_with_a_key_we_do_not_have() {
    let record = [&b"\x03www\xc0\x0c"[..], &[0, 1, 0, 254, 0, 0, 0, 0, 0, 0]].concat();
    for (what, packet) in unconfigured() {
        let mut changed = packet.clone();
        changed[9] = 1;
        changed.extend_from_slice(&record);
        check(&[
            (what, packet.clone(), &[Udp, Tcp], "REFUSED, 1"),
            (what, changed.clone(), &[Udp, Tcp], "REFUSED, 1"),
            (what, and(packet.clone(), &tsig()), &[Udp, Tcp], "NOTAUTH, 1 | | | TSIG"),
            (what, and(changed, &tsig()), &[Udp, Tcp], "NOTAUTH, 1 | | | TSIG"),
            (what, and(and(packet.clone(), &options(&[])), &tsig()), &[Udp, Tcp], "NOTAUTH, 1 | | | opt 0 1232 TSIG"),
            (what, and(and(packet.clone(), &tsig()), &options(&[])), &[Udp], "FORMERR, 1"),
        ]);
        let reply = ask(&world_with(CONFIG), &and(packet.clone(), &tsig()), Udp).expect("a reply");
        let rdata = &reply[packet.len() + 15 + 13..];
        assert_eq!(rdata, [0, 0, 0x5c, 0xf7, 0x9f, 0x11, 1, 44, 0, 0, 0x12, 0x34, 0, 17, 0, 0], "{what}: unsigned, BADKEY (5.3.2)");
    }
    // Of other operations it is not known how they are to be read.
    check(&[("STATUS", and(flags(0x1000, www()), &tsig()), &[Udp], "NOTIMP, 1")]);
}

#[test]
fn rfc6891_section_6_1_1_and_rfc7873_section_5_2_2_malformed_notify_and_update() {
    let formerr = "FORMERR, 1 | | | opt 0 1232";
    for (what, packet) in unconfigured() {
        let mut cut = and(packet.clone(), &tsig());
        cut.truncate(cut.len() - 1);
        let counted = |count: u8| {
            let mut packet = packet.clone();
            packet[5] = count;
            packet
        };
        let second = [&counted(2)[..], &packet[12..]].concat();
        check(&[
            (what, and(packet.clone(), &options(&[])), &[Udp, Tcp], "REFUSED, 1 | | | opt 0 1232 15=0012"),
            (what, and(packet.clone(), &options(&[(10, CLIENT)])), &[Udp], &format!("REFUSED, 1 | | | opt 0 1232 10={BOTH} 15=0012")),
            (what, and(packet.clone(), &opt(1232, VERSION_1, &[])), &[Udp], "BADVERS, 1 | | | opt 0 1232"),
            (what, and(and(packet.clone(), &options(&[])), &options(&[])), &[Udp, Tcp], formerr),
            (what, and(packet.clone(), &options(&[(10, "24")])), &[Udp, Tcp], formerr),
            (what, and(packet.clone(), &options(&[(8, "00011818c00002")])), &[Udp], formerr),
            (what, cut, &[Udp, Tcp], "FORMERR, 1"),
            (what, [&packet[..], &[0]].concat(), &[Udp, Tcp], "FORMERR, 1"),
            (what, packet[..packet.len() - 1].to_vec(), &[Udp, Tcp], "FORMERR, 0"),
            (what, counted(0), &[Udp, Tcp], "FORMERR, 0"),
            (what, counted(0)[..12].to_vec(), &[Udp, Tcp], "FORMERR, 0"),
            (what, second, &[Udp, Tcp], "FORMERR, 0"),
        ]);
    }
}

#[test]
fn rfc2136_section_3_1_1_and_3_1_2_the_zone_section() {
    let of = |opcode: u16, zone: &str, rtype: RecordType| flags(opcode, query(zone, rtype));
    let in_class = |mut packet: Vec<u8>, class: u8| {
        *packet.last_mut().expect("a class") = class;
        packet
    };
    let (notify, update) = (0x2000, 0x2800);
    check(&[
        ("3.1.1 ZTYPE is SOA", of(update, "example.com", RecordType::A), &[Udp, Tcp], "FORMERR, 1"),
        ("3.1.1 before 3.1.2", of(update, "www.example.org", RecordType::A), &[Udp], "FORMERR, 1"),
        ("RFC 1996 §3 knows other types", of(notify, "example.com", RecordType::A), &[Udp], "REFUSED, 1"),
        ("a key comes first", and(of(update, "example.com", RecordType::A), &tsig()), &[Udp], "NOTAUTH, 1 | | | TSIG"),
    ]);
    for opcode in [notify, update] {
        let soa = |zone: &str| of(opcode, zone, RecordType::SOA);
        check(&[
            ("ours", soa("EXAMPLE.com"), &[Udp, Tcp], "REFUSED, 1"),
            ("3.1.2 not ours", soa("example.org"), &[Udp, Tcp], "NOTAUTH, 1"),
            ("3.1.2 not a zone, only in one", soa("www.example.com"), &[Udp, Tcp], "NOTAUTH, 1"),
            ("3.1.2 nor is what is above", soa("com"), &[Udp], "NOTAUTH, 1"),
            ("3.1.2 ZCLASS", in_class(soa("example.com"), 3), &[Udp], "NOTAUTH, 1"),
            ("RFC 8914 §4.21", and(soa("example.org"), &options(&[])), &[Udp], "NOTAUTH, 1 | | | opt 0 1232 15=0014"),
        ]);
    }
}
