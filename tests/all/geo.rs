//! `meridian geo`: building databases from text, reading them with our reader and with libmaxminddb's, and a real range list.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use meridian::cli::geo::{BuildArgs, GeoCommand, GeoError, LookupArgs, run};
use meridian::geo::build::{Input, build};
use meridian::geo::{ClassMap, Table, space};

/// The build time of `geodata/sample.mmdb`; its text says so too.
const SAMPLE_BUILD_TIME: u64 = 1_767_225_600;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn build_args(files: &[&Path]) -> BuildArgs {
    BuildArgs {
        files: files.iter().map(|path| path.to_path_buf()).collect(),
        database_type: None,
        description: "Built by meridian geo build".into(),
        build_time: Some(SAMPLE_BUILD_TIME),
    }
}

/// Runs a command; returns what it printed and what it noted.
fn meridian_geo(command: GeoCommand, configured: &[PathBuf]) -> Result<(String, String), GeoError> {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    run(&command, configured, &mut out, &mut notes)?;
    Ok((String::from_utf8(out).expect("text"), String::from_utf8(notes).expect("text")))
}

fn lookup(address: &str, json: bool, database: &Path) -> String {
    let args = LookupArgs { address: address.parse().expect("an address"), databases: vec![database.to_owned()], json };
    meridian_geo(GeoCommand::Lookup(args), &[]).expect("an answer").0
}

#[test]
fn the_sample_is_what_its_text_builds() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("sample.mmdb");
    let (_, notes) = meridian_geo(GeoCommand::Build(build_args(&[&repository("geodata/sample.csv"), &output])), &[]).expect("a database");
    assert_eq!(notes, "", "the sample has no overlaps");
    let same = fs::read(&output).expect("a file") == fs::read(repository("geodata/sample.mmdb")).expect("the sample");
    assert!(same, "geodata/sample.mmdb is not what geodata/sample.csv builds; its first lines say how to build it again");
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "no temporary file stays behind");
}

#[test]
fn the_sample_knows_the_places_of_a_demonstration() {
    let bytes = fs::read(repository("geodata/sample.mmdb")).expect("the sample");
    let table = Table::read([("sample.mmdb", bytes.as_slice())]).expect("a table");
    let mut continents: BTreeMap<[u8; 2], usize> = BTreeMap::new();
    for (address, country, subdivision) in [
        ("192.0.2.1", b"DE", Some("HE")),
        ("198.51.100.1", b"US", Some("CA")),
        ("198.51.100.65", b"US", Some("NY")),
        ("198.51.100.129", b"US", Some("VA")),
        ("203.0.113.1", b"JP", Some("13")),
        ("198.18.3.1", b"FR", Some("IDF")),
        ("198.18.11.1", b"BR", Some("SP")),
        ("2001:db8:4::1", b"GB", Some("ENG")),
        ("2001:db8:15::1", b"IN", Some("MH")),
        ("2001:db8:16::1", b"AU", Some("NSW")),
        ("2001:db8:18::1", b"ZA", Some("GP")),
        ("2001:db8:22::1", b"TR", Some("34")),
        ("198.18.32.1", b"AQ", None),
    ] {
        let facts = table.facts_at(address.parse().expect("an address"));
        assert_eq!((facts.country, facts.subdivision.as_deref()), (Some(*country), subdivision), "{address}");
        assert!(facts.location.is_some());
        *continents.entry(facts.continent.expect("a continent")).or_default() += 1;
    }
    assert_eq!(continents.len(), 7);
    for address in ["10.0.0.1", "2001:db8::1", "8.8.8.8"] {
        assert!(table.facts_at(address.parse().expect("an address")).is_empty(), "{address}");
    }
}

#[test]
fn lookup_prints_a_table_or_json() {
    let sample = repository("geodata/sample.mmdb");
    let text = lookup("2002:c633:6401::1", false, &sample);
    for line in ["looked up as 198.51.100.1", "network      198.51.100.0/26", "country      US", "subdivision  CA", "asn          AS64504"] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&lookup("198.18.22.9", true, &sample)).expect("JSON");
    assert_eq!(json["network"], "198.18.22.0/24");
    assert_eq!((&json["continent"], &json["country"], &json["subdivision"]), (&"AS".into(), &"TR".into(), &"34".into()));
    assert_eq!(json["location"]["lat"], 41.01);
    assert_eq!(json["databases"][0]["type"], "Meridian-City");
    let json: serde_json::Value = serde_json::from_str(&lookup("10.1.2.3", true, &sample)).expect("JSON");
    assert_eq!((&json["country"], &json["private"]), (&serde_json::Value::Null, &true.into()));
}

#[test]
fn lookup_uses_the_configured_databases_unless_told_otherwise() {
    let args = LookupArgs { address: IpAddr::from([192, 0, 2, 1]), databases: Vec::new(), json: false };
    let (text, _) = meridian_geo(GeoCommand::Lookup(args.clone()), &[repository("geodata/sample.mmdb")]).expect("an answer");
    assert!(text.contains("DE"), "{text}");
    assert!(matches!(meridian_geo(GeoCommand::Lookup(args.clone()), &[]), Err(GeoError::NoDatabase)));
    assert!(matches!(meridian_geo(GeoCommand::Lookup(args), &[repository("geodata/sample.csv")]), Err(GeoError::Databases(_))));
}

#[test]
fn a_build_that_fails_leaves_the_output_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("good.csv"), "192.0.2.0/24,DE\n").expect("a file");
    fs::write(path("bad.csv"), "192.0.2.0/24,DE\n192.0.2.0/99,DE\n").expect("a file");
    fs::write(path("out.mmdb"), "precious").expect("a file");
    let failed = |files: &[&str]| {
        let files: Vec<PathBuf> = files.iter().map(|name| path(name)).collect();
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        meridian_geo(GeoCommand::Build(build_args(&files)), &[]).expect_err("an error").to_string()
    };
    assert!(failed(&["good.csv", "bad.csv", "out.mmdb"]).contains("bad.csv:2: network: found"));
    assert!(failed(&["missing.csv", "out.mmdb"]).contains("missing.csv: cannot be read"));
    assert!(failed(&["good.csv", "bad.csv"]).contains("expected the database to write as the last file"));
    assert!(failed(&["good.csv", "nowhere/out.mmdb"]).contains("cannot be written"));
    assert!(failed(&[".", "out.mmdb"]).contains("not a regular file"));
    assert_eq!(fs::read_to_string(path("out.mmdb")).expect("a file"), "precious");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3);
}

/// Fields as libmaxminddb's own tool prints them: `"iso_code": "DE" <utf8_string>`.
#[test]
fn libmaxminddb_reads_what_we_write() {
    let ask = |address: &str, field: &[&str]| {
        Command::new("mmdblookup").arg("--file").arg(repository("geodata/sample.mmdb")).args(["--ip", address]).args(field).output()
    };
    ask("192.0.2.1", &[]).expect("mmdblookup is installed (package mmdb-bin; scripts/test.sh sees to it)");
    for (address, field, expected) in [
        ("192.0.2.1", &["country", "iso_code"][..], "\"DE\" <utf8_string>"),
        ("192.0.2.1", &["continent", "code"], "\"EU\" <utf8_string>"),
        ("198.51.100.77", &["subdivisions", "0", "iso_code"], "\"NY\" <utf8_string>"),
        ("198.51.100.77", &["location", "latitude"], "40.710000 <double>"),
        ("198.51.100.77", &["location", "longitude"], "-74.010000 <double>"),
        ("198.51.100.77", &["autonomous_system_number"], "64505 <uint32>"),
        ("2001:db8:22::1", &["country", "iso_code"], "\"TR\" <utf8_string>"),
        ("::ffff:203.0.113.1", &["country", "iso_code"], "\"JP\" <utf8_string>"),
        ("2002:cb00:7101::1", &["country", "iso_code"], "\"JP\" <utf8_string>"),
    ] {
        let output = ask(address, field).expect("output");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.trim() == expected, "{address} {field:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!ask("10.0.0.1", &[]).expect("output").status.success(), "nothing is known about private space");
}

/// A line of tor's list.
struct TorRange {
    first: IpAddr,
    last: IpAddr,
    country: Option<[u8; 2]>,
}

fn tor_ranges(text: &str) -> Vec<TorRange> {
    let address = |text: &str| match text.parse::<u32>() {
        Ok(number) => IpAddr::V4(Ipv4Addr::from(number)),
        Err(_) => IpAddr::V6(text.parse::<Ipv6Addr>().expect("an address")),
    };
    let country = |code: &str| match code {
        "UK" => Some(*b"GB"),
        _ => <[u8; 2]>::try_from(code.as_bytes()).ok().filter(|code| meridian::geo::is_country(*code)),
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut fields = line.split(',');
            let mut next = || fields.next().expect("three fields");
            TorRange { first: address(next()), last: address(next()), country: country(next()) }
        })
        .collect()
}

fn beside(addr: IpAddr, step: i8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => IpAddr::V4(u32::from(addr).wrapping_add_signed(step.into()).into()),
        IpAddr::V6(addr) => IpAddr::V6(u128::from(addr).wrapping_add_signed(step.into()).into()),
    }
}

#[test]
fn a_real_range_list_is_the_same_before_and_after() {
    let files = ["/usr/share/tor/geoip", "/usr/share/tor/geoip6"];
    let [v4, v6] = files.map(|file| fs::read_to_string(file).expect("the package tor-geoipdb is installed (scripts/test.sh sees to it)"));
    let built = build(&[Input { name: "geoip", bytes: v4.as_bytes() }, Input { name: "geoip6", bytes: v6.as_bytes() }], &mut |_| {});
    let built = built.unwrap_or_else(|report| panic!("{report}"));
    let about = meridian::geo::writer::About { database_type: "Test-Country".into(), description: "for tests".into(), build_unix_s: 1 };
    let bytes = meridian::geo::writer::write(&built.table, &about).expect("a database");
    let table = Table::read([("tor", bytes.as_slice())]).expect("a table");
    let class = |country: Option<[u8; 2]>| country.map_or(0, |[a, b]| (u16::from(a - b'A') << 5 | u16::from(b - b'A')) + 1);
    let map = ClassMap::build(&table, &[], None, &mut |facts, _| class(facts.country)).expect("a map");

    let ranges: Vec<TorRange> = tor_ranges(&v4).into_iter().chain(tor_ranges(&v6)).collect();
    assert_eq!(built.rows, ranges.len());
    for (number, range) in ranges.iter().enumerate() {
        let embedded = |addr: IpAddr| space::unembed(addr) != addr;
        for addr in [range.first, range.last].into_iter().filter(|addr| !embedded(*addr)) {
            assert_eq!(table.facts_at(addr).country, range.country, "{addr}");
            let hit = map.lookup(addr);
            assert_eq!(hit.class, class(range.country), "{addr}");
            // The whole block of the scope is of this class: its ends are.
            let block = space::prefix_of(addr, hit.scope);
            let end = space::last(block);
            let end = if addr.is_ipv4() { IpAddr::V4((end as u32).into()) } else { IpAddr::V6(end.into()) };
            for other in [block.addr, end] {
                assert_eq!((map.lookup(other).class, map.lookup(other).scope), (hit.class, hit.scope), "{other} in the scope of {addr}");
            }
        }
        // Between two lines nothing is known.
        let gap = beside(range.last, 1);
        if ranges.get(number + 1).is_some_and(|next| next.first.is_ipv4() == gap.is_ipv4() && next.first > gap) && !embedded(gap) {
            assert_eq!(table.facts_at(gap).country, None, "{gap}");
        }
    }
}
