//! A database in MaxMind's format: refused with words, or a table that says the same after it was written and read again.

use std::net::IpAddr;

use meridian::geo::writer::{About, write};
use meridian::geo::{ClassMap, Facts, Table, space};

/// The octets of a database.
pub(super) fn body(data: &[u8]) {
    match Table::read([("input", data)]) {
        Err(errors) => assert!(errors.len() == 1 && !errors[0].text.is_empty(), "{errors:?}"),
        Ok(table) => {
            check_table(&table);
            // Laid over itself it says what it said.
            let twice = Table::read([("input", data), ("input", data)]).expect("as before");
            PROBES.iter().for_each(|text| assert_eq!(twice.facts_at(address(text)), table.facts_at(address(text)), "{text}"));
        }
    }
}

/// Addresses at the corners of both spaces and of the blocks that carry IPv4.
const PROBES: [&str; 16] = [
    "0.0.0.0",
    "1.2.3.4",
    "10.0.0.1",
    "127.255.255.255",
    "128.0.0.0",
    "192.0.2.1",
    "198.51.100.77",
    "255.255.255.255",
    "::",
    "::ffff:192.0.2.1",
    "64:ff9b::192.0.2.1",
    "2001::1",
    "2001:db8::1",
    "2002:c000:201::",
    "8000::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What must hold of every table, however it was made.
pub(super) fn check_table(table: &Table) {
    for text in PROBES {
        let addr = address(text);
        let (facts, network) = (table.facts_at(addr), table.network_at(addr));
        check_facts(facts);
        assert!(space::contains(network, space::unembed(addr)), "{text}: {network:?}");
        assert_eq!(table.facts_at(network.addr), facts, "{text}: one thing is known about {network:?}");
    }
    let about = About { database_type: "Fuzz-City".into(), description: "fuzz".into(), build_unix_s: 1 };
    let written = write(table, &about).expect("it fits");
    let again = Table::read([("again", written.as_slice())]).unwrap_or_else(|errors| panic!("what we write can be read: {errors:?}"));
    assert_eq!(again.len(), table.len(), "as many ranges");
    PROBES.iter().for_each(|text| assert_eq!(again.facts_at(address(text)), table.facts_at(address(text)), "{text}"));
    assert_eq!(write(&again, &about).expect("it fits"), written, "the same octets again");
    check_map(table);
}

fn check_facts(facts: &Facts) {
    assert!(facts.location.is_none_or(|at| (-90.0..=90.0).contains(&at.lat) && (-180.0..=180.0).contains(&at.lon)), "{facts:?}");
    assert!(facts.country.is_none_or(|code| code.iter().all(u8::is_ascii_uppercase)), "{facts:?}");
    assert!(facts.asn != Some(0), "{facts:?}");
}

/// A class map by country says what the table says, and its scopes are true: the first and the last address of the block have the same class.
fn check_map(table: &Table) {
    let class = |facts: &Facts| facts.country.map_or(0, |code| u16::from_be_bytes(code) & 0x7fff);
    let map = ClassMap::build(table, &[], None, &mut |facts, _| class(facts)).expect("few classes");
    for text in PROBES {
        let addr = address(text);
        let hit = map.lookup(addr);
        if map.is_uniform() {
            assert_eq!(hit.scope, 0, "{text}");
            continue;
        }
        assert_eq!(hit.class, class(table.facts_at(addr)), "{text}");
        let block = space::prefix_of(addr, hit.scope);
        assert_eq!(map.lookup(block.addr).class, hit.class, "{text}: {block:?}");
        let last = match addr {
            IpAddr::V4(_) => IpAddr::V4((space::last(block) as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(space::last(block).into()),
        };
        assert_eq!(map.lookup(last).class, hit.class, "{text}: {last} of {block:?}");
    }
}
