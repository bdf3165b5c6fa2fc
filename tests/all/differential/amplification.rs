//! Amplification: octets sent for octets received, over UDP, beside the reference servers on the same zone (`minimal-responses` off, as they are compared).

use std::net::UdpSocket;
use std::time::Duration;

use meridian::answer::MAX_UDP_PAYLOAD;
use meridian::dns::Name;

use super::servers::{REFERENCES, Reference, ServedZone};
use crate::meridian::Meridian;

/// An extended error (RFC 8914), which the references of today do not send: option head and code.
const EXTENDED_ERROR_LEN: usize = 6;

const ZONE: &str = "\
$ORIGIN example.com.
$TTL 300
@ SOA ns1 hostmaster 1 3600 900 1209600 60
@ NS ns1
@ NS ns2
@ NS ns3.example.net.
@ MX 10 mail
@ MX 20 mail.example.org.
@ TXT \"v=spf1 include:_spf.example.net include:_spf.example.org ip4:192.0.2.0/24 ip6:2001:db8::/32 -all\"
@ TXT \"a-verification=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"
@ CAA 0 issue \"ca.example.net\"
ns1 A 192.0.2.53
ns1 AAAA 2001:db8::53
ns2 A 198.51.100.53
ns2 AAAA 2001:db8:1::53
mail A 192.0.2.25
mail AAAA 2001:db8::25
www A 192.0.2.1
www A 192.0.2.2
www A 192.0.2.3
www A 192.0.2.4
alias CNAME www
*.dev TXT \"any name below dev\"
lab NS ns1.lab
lab NS ns2.lab
ns1.lab A 192.0.2.150
ns2.lab A 192.0.2.151
";

/// A query by hand: sizes are what it is about. `edns` is the payload size that the client takes, with DO.
fn query(name: &str, rtype: u16, edns: Option<u16>) -> Vec<u8> {
    let name = Name::parse_absolute(name).expect("a name");
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    packet.extend_from_slice(name.as_wire());
    packet.extend_from_slice(&rtype.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    if let Some(size) = edns {
        packet.extend_from_slice(&[0, 0, 41]);
        packet.extend_from_slice(&size.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0x80, 0, 0, 0]);
    }
    packet
}

#[test]
fn differential_replies_are_no_larger_than_those_of_the_reference_servers() {
    let huge: String = (0..20).map(|n| format!("huge TXT \"{}\"\n", char::from(b'a' + n).to_string().repeat(150))).collect();
    let text = format!("{ZONE}{huge}");
    let files = tempfile::tempdir().expect("a folder");
    std::fs::write(files.path().join("z0.zone"), &text).expect("the zone");
    let zones = [ServedZone { origin: Name::parse_absolute("example.com.").expect("a name"), text: text.clone() }];
    let references = REFERENCES.map(|name| Reference::start(name, &zones, files.path()));
    let server = Meridian::start(&[("zones/example.com.zone", &text)]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let len = |packet: &[u8], server| {
        let mut buf = [0; 65_535];
        socket.send_to(packet, server).expect("sent");
        socket.recv(&mut buf).expect("a reply")
    };
    println!("{:28} {:>5} {:>6} {:>6} {:>6} {:>6} {:>6}", "question", "EDNS", "query", "ours", "nsd", "knot", "bind");
    for (name, rtype) in [
        ("example.com.", 255),
        ("example.com.", 2),
        ("example.com.", 6),
        ("example.com.", 15),
        ("example.com.", 16),
        ("www.example.com.", 1),
        ("www.example.com.", 28),
        ("www.example.com.", 255),
        ("alias.example.com.", 1),
        ("x.dev.example.com.", 16),
        ("nope.example.com.", 1),
        ("x.lab.example.com.", 1),
        ("huge.example.com.", 16),
        ("huge.example.com.", 255),
        ("example.net.", 1),
        ("example.com.", 252),
    ] {
        for edns in [None, Some(512), Some(1232), Some(4096), Some(65_535)] {
            let packet = query(name, rtype, edns);
            let ours = len(&packet, server.dns);
            let theirs: Vec<usize> = references.iter().map(|reference| len(&packet, reference.addr)).collect();
            let what = format!("{name} {rtype}");
            println!("{what:28} {:>5} {:>6} {ours:>6} {:>6} {:>6} {:>6}", edns.unwrap_or(0), packet.len(), theirs[0], theirs[1], theirs[2]);
            let most = theirs.iter().max().expect("three");
            let most = most + if edns.is_some() { EXTENDED_ERROR_LEN } else { 0 };
            // ANY: one HINFO, where they may say TC and nothing.
            assert!(rtype == 255 || ours <= most, "{what}, EDNS {edns:?}: {ours} octets, the references {theirs:?}");
            assert!(ours <= usize::from(edns.unwrap_or(512).min(MAX_UDP_PAYLOAD)), "{what}, EDNS {edns:?}: {ours} octets");
            // RFC 8482: ANY is no lever.
            assert!(rtype != 255 || ours <= packet.len() + 40, "{what}, EDNS {edns:?}: {ours} octets");
        }
    }
}
