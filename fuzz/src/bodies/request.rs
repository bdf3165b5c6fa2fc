//! Reading a query: any octets come to something, and what they come to is true of them.

use meridian::dns::name::{MAX_LABELS, MAX_NAME_LEN};
use meridian::dns::{Parsed, QueryName, request};

/// A packet.
pub(super) fn body(packet: &[u8]) {
    let mut name = QueryName::root();
    match request::parse(packet, &mut name) {
        Parsed::Silence => {}
        Parsed::CookieQuery(edns) => assert!(edns.cookie.is_some()),
        Parsed::Fault(fault) => {
            let end = fault.question_end;
            assert!(end >= request::HEADER_LEN && end <= packet.len(), "the question ends at {end}");
            if let Some(tsig) = fault.tsig {
                let places = [end, tsig.owner, tsig.fixed, tsig.times, tsig.original_id, packet.len()];
                assert!(places.is_sorted(), "TSIG at {places:?}");
            }
        }
        Parsed::Query(query) => {
            let question = query.question;
            assert!(question.end <= packet.len() && question.end == request::HEADER_LEN + question.name.as_wire().len() + 4);
            let asked = &packet[request::HEADER_LEN..question.end - 4];
            assert!(asked.eq_ignore_ascii_case(question.name.as_wire()), "the name that was asked");
            check_name(question.name);
            if let Some(edns) = query.edns {
                assert!(edns.udp_payload >= 512, "RFC 6891 §6.2.3");
                if let Some(ecs) = edns.ecs {
                    assert!(ecs.source_len <= if ecs.addr.is_ipv4() { 32 } else { 128 });
                }
            }
        }
    }
}

fn check_name(name: &QueryName) {
    let wire = name.as_wire();
    assert!(wire.len() <= MAX_NAME_LEN && wire.last() == Some(&0) && name.label_count() <= MAX_LABELS);
    assert!(!wire.iter().any(u8::is_ascii_uppercase));
    assert_eq!(name.suffix(0), [0]);
    assert_eq!(name.suffix(name.label_count()), wire);
    for depth in 1..=name.label_count() {
        let (label, suffix) = (name.label_from_right(depth), name.suffix(depth));
        assert_eq!(usize::from(suffix[0]), label.len());
        assert_eq!(&suffix[1..=label.len()], label);
        assert_eq!(&suffix[1 + label.len()..], name.suffix(depth - 1));
    }
    let again = QueryName::read(wire).expect("its own wire form");
    assert_eq!((again.as_wire(), again.label_count()), (wire, name.label_count()));
}
