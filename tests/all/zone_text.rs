//! The master file of everything, against BIND's `named-compilezone` as an independent reader (Debian package bind9-utils).

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use meridian::dns::{Name, RecordType};
use meridian::zone::master::{self, Source};
use meridian::zone::{RecordRef, Records, rdata};

const EVERYTHING: &str = include_str!("../data/everything.zone");

/// Owner in lower case, type, TTL, record data.
type Line = (String, u16, u32, Vec<u8>);

fn ours(text: &str) -> (Records, BTreeSet<Line>) {
    let origin = Name::parse_absolute("example.com.").expect("a name");
    let mut records = Records::new();
    let source = Source { text: text.as_bytes(), file: "everything.zone".into(), origin, default_ttl: None, first_file: 0 };
    let parsed = master::parse(source, &mut |_: &str, _: &Path| Err("no files here".into()), &mut records);
    assert_eq!(parsed.errors, []);
    let lines =
        records.iter().map(|record| (record.owner_name().to_lowercase().to_string(), record.rtype.0, record.ttl, record.rdata.to_vec())).collect();
    (records, lines)
}

/// What BIND makes of `text`, through its raw format: wire form without any text of ours or its own in between.
fn theirs(text: &str) -> BTreeSet<Line> {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("zone"), folder.path().join("raw"));
    std::fs::write(&from, text).expect("the zone is written");
    let output = Command::new("named-compilezone")
        .args(["-k", "ignore", "-n", "ignore", "-m", "ignore", "-r", "ignore", "-i", "none", "-F", "raw", "-o"])
        .args([&to, Path::new("example.com"), &from])
        .output()
        .expect("named-compilezone of the package bind9-utils is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    read_raw(&std::fs::read(&to).expect("the raw zone is there"))
}

/// BIND's raw format: a header of 24 octets, then for each RRset its length, class, type, covered type, TTL, count, owner and data.
fn read_raw(raw: &[u8]) -> BTreeSet<Line> {
    let number = |at: usize, len: usize| raw[at..at + len].iter().fold(0usize, |value, octet| value << 8 | usize::from(*octet));
    let mut lines = BTreeSet::new();
    let mut at = 24;
    while at < raw.len() {
        let (rtype, ttl, count, owner_len) = (number(at + 6, 2), number(at + 10, 4), number(at + 14, 4), number(at + 18, 2));
        let owner = Name::from_wire(&raw[at + 20..at + 20 + owner_len]).expect("an owner");
        at += 20 + owner_len;
        for _ in 0..count {
            let len = number(at, 2);
            lines.insert((owner.to_lowercase().to_string(), rtype as u16, ttl as u32, raw[at + 2..at + 2 + len].to_vec()));
            at += 2 + len;
        }
    }
    lines
}

fn compare(ours: &BTreeSet<Line>, theirs: &BTreeSet<Line>) {
    let show = |lines: Vec<&Line>| -> String {
        lines.iter().map(|(owner, rtype, ttl, rdata)| format!("{owner} {ttl} {} {rdata:02x?}\n", RecordType(*rtype))).collect()
    };
    let (only_ours, only_theirs) = (show(ours.difference(theirs).collect()), show(theirs.difference(ours).collect()));
    assert!(only_ours.is_empty() && only_theirs.is_empty(), "only ours:\n{only_ours}only theirs:\n{only_theirs}");
}

#[test]
fn bind_reads_the_same_from_the_file_of_everything() {
    compare(&ours(EVERYTHING).1, &theirs(EVERYTHING));
}

#[test]
fn bind_reads_the_same_from_what_we_print() {
    let (records, lines) = ours(EVERYTHING);
    let print = |record: RecordRef<'_>| {
        let RecordRef { rtype, ttl, rdata, .. } = record;
        format!("{} {ttl} IN {rtype} {}\n", record.owner_name(), rdata::to_text(rtype, rdata))
    };
    let printed: String = records.iter().map(print).collect();
    compare(&lines, &theirs(&printed));
    compare(&lines, &ours(&printed).1);
}

#[test]
fn the_file_of_everything_has_every_type_that_others_know() {
    // Newer than the oracle, or of one implementation only.
    let newer = ["DSYNC", "HHIT", "BRID", "RESINFO", "WALLET", "ANAME", "DLV", "MD", "MF", "NULL"];
    let lines = ours(EVERYTHING).1;
    for (rtype, name) in RecordType::NAMED {
        let is_there = lines.iter().any(|(_, found, ..)| *found == rtype.0);
        assert!(is_there || rtype.is_meta() || newer.contains(name), "{name} is missing from tests/data/everything.zone");
    }
}
