//! A master file; behind a zero octet the file that `$INCLUDE` gets.

use std::path::{Path, PathBuf};

use meridian::config::{MemoryFiles, load_master_alone};
use meridian::dns::Name;
use meridian::zone::master::{self, MAX_ERRORS, Source};
use meridian::zone::{MAX_TTL, Records, rdata};

use super::parts;

/// Inclusions that are granted: a file that includes itself multiplies as often as the parser allows, which is known and takes its time.
const MAX_GRANTED: u64 = 20;

/// Records that all `$GENERATE` of an input may make: a line makes up to 65,536, which is meant and takes its time.
const MAX_GENERATED: u64 = 2000;

/// A file and what it includes.
pub(super) fn body(data: &[u8]) {
    let [text, included] = parts(data);
    if generated(text).saturating_add(generated(included).saturating_mul(MAX_GRANTED)) > MAX_GENERATED {
        return;
    }
    let records = read(text, included);
    for record in records.iter() {
        rdata::validate(record.rtype, record.rdata).unwrap_or_else(|error| panic!("{record:?}: {error}"));
        assert!(!record.rtype.is_meta() && record.ttl <= MAX_TTL, "{record:?}");
        let shown = rdata::to_text(record.rtype, record.rdata);
        let again = rdata::parse(record.rtype, &shown, &Name::root()).unwrap_or_else(|error| panic!("{record:?}: {shown}: {error}"));
        assert_eq!(again, record.rdata, "{} {shown}", record.rtype);
    }
    // Written out plainly they are the same records.
    let mut plain = String::new();
    for record in records.iter() {
        plain += &format!("{} {} IN {} {}\n", record.owner_name(), record.ttl, record.rtype, rdata::to_text(record.rtype, record.rdata));
    }
    let again = read(plain.as_bytes(), b"");
    assert_eq!(again.len(), records.len(), "{plain}");
    for (again, record) in again.iter().zip(records.iter()) {
        assert_eq!((again.owner, again.rtype, again.ttl, again.rdata), (record.owner, record.rtype, record.ttl, record.rdata));
    }
    check_zone(text, included);
}

/// About how many records the file makes by counting: the spans of all that looks like a range in a file that counts at all.
fn generated(text: &[u8]) -> u64 {
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    let trailing = |word: &[u8]| word.iter().rev().take_while(|octet| octet.is_ascii_digit()).count();
    let leading = |word: &[u8]| word.iter().take_while(|octet| octet.is_ascii_digit()).count();
    if !text.to_ascii_uppercase().windows(9).any(|window| window == b"$GENERATE") {
        return 0;
    }
    let dashes = (0..text.len()).filter(|at| text[*at] == b'-');
    dashes
        .filter_map(|dash| {
            let (before, after) = (&text[..dash], &text[dash + 1..]);
            let (start, stop) = (number(&before[before.len() - trailing(before)..])?, number(&after[..leading(after)])?);
            stop.checked_sub(start)
        })
        .fold(0, u64::saturating_add)
}

fn read(text: &[u8], included: &[u8]) -> Records {
    let origin = Name::parse_absolute("example.com").expect("a name");
    let mut records = Records::new();
    let source = Source { text, file: "zone".into(), origin, default_ttl: Some(300), first_file: 0 };
    let mut granted = 0;
    let mut include = |name: &str, _: &Path| {
        granted += 1;
        if granted > MAX_GRANTED { Err("enough".to_owned()) } else { Ok((PathBuf::from(name), included.to_vec())) }
    };
    let parsed = master::parse(source, &mut include, &mut records);
    assert!(parsed.errors.len() <= MAX_ERRORS + 1);
    assert!(records.iter().all(|record| usize::from(record.place.file) < parsed.files.len()), "every record is of a file");
    parsed.errors.iter().for_each(|error| assert!(!error.to_string().is_empty()));
    records
}

/// The whole way of `meridian check --zone`, with all its rules.
fn check_zone(text: &[u8], included: &[u8]) {
    let files = [("zone", text), ("included", included)].map(|(path, octets)| (PathBuf::from(path), octets.into()));
    let (zone, problems) = load_master_alone(&MemoryFiles(files.into()), Path::new("zone"), &Name::parse_absolute("example.com").expect("a name"));
    assert!(zone.model.is_some() || !problems.is_empty(), "a zone, or a reason why not");
    problems.iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
}
