//! Text for the geo side: CSV ranges for `geo build`, several files in one input with a zero octet between them, and the latency table.

use meridian::geo::RttTable;
use meridian::geo::build::{Input, MAX_REPORTED, build};
use meridian::geo::space;

use super::{mmdb, parts};

/// Up to three files.
pub(super) fn body(data: &[u8]) {
    latency(data);
    let files: [&[u8]; 3] = parts(data);
    let inputs: Vec<Input<'_>> = files.iter().filter(|bytes| !bytes.is_empty()).map(|bytes| Input { name: "input.csv", bytes }).collect();
    let mut done = 0;
    let built = build(&inputs, &mut |octets| {
        assert!(octets >= done, "progress goes forward");
        done = octets;
    });
    match built {
        Err(report) => {
            assert!(report.total > 0 && report.listed.len() == report.total.min(MAX_REPORTED));
            assert!(!report.to_string().is_empty());
        }
        Ok(built) => {
            assert_eq!(done, inputs.iter().map(|input| input.bytes.len() as u64).sum::<u64>(), "all was read");
            mmdb::check_table(&built.table);
        }
    }
}

fn latency(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(table) = RttTable::parse(text) else { return };
    let facts = [
        meridian::geo::Facts::default(),
        meridian::geo::Facts { country: Some(*b"US"), subdivision: Some("CA".into()), asn: Some(64500), continent: Some(*b"NA"), location: None },
    ];
    for region in table.regions() {
        for facts in &facts {
            for net in table.prefixes().into_iter().map(Some).chain([None, space::parse_prefix("192.0.2.0/24").ok()]) {
                assert!(table.rtt(facts, net, region).is_none_or(|ms| (1.0..=5000.0).contains(&ms)));
            }
        }
    }
}
