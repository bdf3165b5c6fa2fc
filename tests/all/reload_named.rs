//! A reload that names a zone: nothing else is read as long as nothing else has a say in it, and what comes out is what a load of everything gives.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use meridian::config::{Files, Known, Listed, Loaded, LoadedZone, Opened, OsFiles, Stamp, load_again, load_named};
use meridian::control::load::{Build, Previous, build, build_alone};
use meridian::dns::Name;
use meridian::geo::{build as ranges, writer};
use tempfile::TempDir;

use crate::meridian::Meridian;

/// The library's monitor has no host: it takes that of the steered name which reaches the pool.
const LIBRARY: &str =
    "[monitor.web]\nhttps = \"/\"\n[pool.shared]\nendpoints = [\"192.0.2.1\"]\nmonitor = \"web\"\n[region.eu]\nlocation = [50, 8]\n";
const A: &str = "[zone]\nname = \"a.example\"\nns = [\"ns.example.net.\"]\n[region.us]\nlocation = [40, -70]\n[records]\nx.A = \"192.0.2.9\"\n[steer.www]\nuse = \"shared\"\n";
const B: &str = "$TTL 300\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 192.0.2.1\n$INCLUDE more.inc\n";
const C: &str = "[zone]\nname = \"c.example\"\nns = [\"ns.example.net.\"]\n";

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        fs::create_dir(folder.path("zones")).expect("made");
        for (path, text) in [
            ("meridian.toml", ""),
            ("zones/library.toml", LIBRARY),
            ("zones/a.example.toml", A),
            ("zones/b.example.zone", B),
            ("zones/c.example.toml", C),
            ("zones/more.inc", "www A 192.0.2.2\n"),
        ] {
            folder.write(path, text);
        }
        folder
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).expect("written");
    }

    fn load(&self, known: &Known) -> Loaded {
        load_again(&OsFiles, &self.path("meridian.toml"), known)
    }

    fn named(&self, before: &Loaded, name: &str) -> Option<Loaded> {
        load_named(&OsFiles, &self.path("meridian.toml"), &before.known, zone(before, name))
    }
}

fn zone<'l>(loaded: &'l Loaded, name: &str) -> &'l Arc<LoadedZone> {
    loaded.zones.iter().find(|zone| zone.name.as_ref().is_some_and(|found| found.to_string() == name)).expect("the zone")
}

/// Everything but the tree, which says nothing about itself.
fn says(zone: &LoadedZone) -> String {
    format!("{:?}", LoadedZone { tree: None, ..zone.clone() })
}

#[test]
fn a_zone_is_loaded_alone_only_when_nothing_else_has_a_say_in_it() {
    // Edits (a text of `None` removes the file), the zone, and whether it can be loaded alone.
    type Edit<'e> = (&'e str, Option<&'e str>);
    let a = |from: &str, to: &str| A.replace(from, to);
    let cases: &[(&str, &[Edit<'_>], &str, bool)] = &[
        ("nothing", &[], "a.example.", true),
        ("nothing, a master file", &[], "b.example.", true),
        ("a record", &[("zones/a.example.toml", Some(&a("192.0.2.9", "192.0.2.10")))], "a.example.", true),
        ("lines above a region", &[("zones/a.example.toml", Some(&a("[region.us]", "# here\n\n[region.us]")))], "a.example.", true),
        ("a master file", &[("zones/b.example.zone", Some(&B.replace("192.0.2.1", "192.0.2.3")))], "b.example.", true),
        ("an include", &[("zones/more.inc", Some("www A 192.0.2.4\n"))], "b.example.", true),
        ("a warning", &[("zones/more.inc", Some("www A 192.0.2.4\n@ MX 1 nobody\n"))], "b.example.", true),
        (
            "another zone too",
            &[("zones/a.example.toml", Some(&a("192.0.2.9", "192.0.2.10"))), ("zones/c.example.toml", Some("broken"))],
            "a.example.",
            true,
        ),
        ("the library", &[("zones/library.toml", Some(&LIBRARY.replace("192.0.2.1", "192.0.2.7")))], "a.example.", false),
        ("the library, for a master file", &[("zones/library.toml", Some(&LIBRARY.replace("192.0.2.1", "192.0.2.7")))], "b.example.", false),
        ("the configuration", &[("meridian.toml", Some("[defaults.steer]\nttl = 60\n"))], "a.example.", false),
        ("a file more", &[("zones/d.example.toml", Some(&C.replace("c.example", "d.example")))], "a.example.", false),
        ("a file less", &[("zones/c.example.toml", None)], "a.example.", false),
        ("its own file gone", &[("zones/a.example.toml", None)], "a.example.", false),
        ("another name", &[("zones/a.example.toml", Some(&a("a.example", "e.example")))], "a.example.", false),
        ("an error", &[("zones/a.example.toml", Some(&a("192.0.2.9", "192.0.2.999")))], "a.example.", false),
        ("an error in a master file", &[("zones/b.example.zone", Some(&B.replace("192.0.2.1", "x")))], "b.example.", false),
        ("an include that is gone", &[("zones/more.inc", None)], "b.example.", false),
        ("no zone any more", &[("zones/a.example.toml", Some(""))], "a.example.", false),
        ("a region that moved", &[("zones/a.example.toml", Some(&a("-70", "-71")))], "a.example.", false),
        ("a region that differs from another's", &[("zones/a.example.toml", Some(&a("region.us", "region.eu")))], "a.example.", false),
        ("another host for the library's monitor", &[("zones/a.example.toml", Some(&a("steer.www", "steer.app")))], "a.example.", false),
        (
            "the static part from a file",
            &[("zones/a.example.toml", Some(&a("[region.us]", "file = \"b.example.zone\"\n[region.us]")))],
            "a.example.",
            false,
        ),
    ];
    for (what, edits, name, is_alone) in cases {
        let folder = Folder::new();
        let before = folder.load(&Known::default());
        assert!(!before.has_errors(), "{:?}", before.problems);
        for (path, text) in *edits {
            match text {
                Some(text) => folder.write(path, text),
                None => fs::remove_file(folder.path(path)).expect("removed"),
            }
        }
        let named = folder.named(&before, name);
        assert_eq!(named.is_some(), *is_alone, "{what}");
        let Some(named) = named else { continue };
        assert_eq!(named.zones.len(), 1, "{what}");
        let all = folder.load(&Known::default());
        assert_eq!(says(zone(&named, name)), says(zone(&all, name)), "{what}");
        let records = |loaded: &Loaded| zone(loaded, name).tree.as_ref().expect("a tree").record_count();
        assert_eq!(records(&named), records(&all), "{what}");
        // What is known afterwards is as good as after a load of everything.
        let next = folder.load(&named.known);
        assert_eq!(
            next.zones.iter().map(|zone| says(zone)).collect::<Vec<_>>(),
            all.zones.iter().map(|zone| says(zone)).collect::<Vec<_>>(),
            "{what}"
        );
        assert_eq!(next.problems, all.problems, "{what}");
        assert!(folder.named(&named, name).is_some(), "{what}, and again");
    }
}

#[test]
fn a_zone_that_is_served_in_another_version_or_twice_is_not_loaded_alone() {
    let folder = Folder::new();
    let first = folder.load(&Known::default());
    folder.write("zones/a.example.toml", &A.replace("192.0.2.9", "192.0.2.10"));
    let second = folder.load(&first.known);
    let named =
        |known: &Loaded, served: &Loaded| load_named(&OsFiles, &folder.path("meridian.toml"), &known.known, zone(served, "a.example.")).is_some();
    assert_eq!((named(&second, &second), named(&second, &first)), (true, false));
    folder.write("zones/twice.toml", A);
    let twice = folder.load(&second.known);
    assert_eq!((twice.has_errors(), named(&twice, &second), named(&twice, &twice)), (true, false, false));
}

/// The files of the machine, with a list of those that were read or opened.
#[derive(Default)]
struct Counting(Mutex<Vec<String>>);

impl Counting {
    fn note(&self, path: &Path) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        self.0.lock().expect("no panic").push(name);
    }

    fn take(&self) -> Vec<String> {
        let mut read = std::mem::take(&mut *self.0.lock().expect("no panic"));
        read.sort();
        // A file that is too young to have a stamp is read for its hash first.
        read.dedup();
        read
    }
}

impl Files for Counting {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.note(path);
        OsFiles.read(path)
    }

    fn open<'f>(&'f self, path: &Path) -> io::Result<Opened<'f>> {
        self.note(path);
        OsFiles.open(path)
    }

    fn stamp(&self, path: &Path) -> Option<Stamp> {
        OsFiles.stamp(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        OsFiles.list(dir)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        OsFiles.canonical(path)
    }
}

/// A database of lines as `meridian geo build` takes them.
fn database(lines: &str) -> Vec<u8> {
    let input = ranges::Input { name: "lines", bytes: lines.as_bytes() };
    let built = ranges::build(&[input], &mut |_| {}).expect("good lines");
    writer::write(&built.table, &writer::About { database_type: "Test-Country".into(), description: "for tests".into(), build_unix_s: 1 })
        .expect("small")
}

const GEO: &str = r#"
[zone]
name = "geo.example"
ns   = ["ns.example.net."]
[pool.de]
endpoints = ["192.0.2.1"]
[pool.us]
endpoints = ["192.0.2.2"]
[steer.www]
policy  = "geo"
rules   = [{ geo = ["EU"], to = ["de"] }]
default = ["us"]
"#;

fn previous(built: &Build) -> Previous {
    let zones = built.good.iter().filter_map(|zone| Some((zone.loaded.name.clone()?, zone.clone()))).collect();
    Previous { zones, known: built.known.clone(), geo: built.geo.clone(), ..Previous::default() }
}

#[test]
fn databases_are_read_only_for_what_no_build_made_before() {
    let folder = Folder::new();
    fs::write(folder.path("geo.mmdb"), database("192.0.2.0/24,DE\n198.51.100.0/24,US\n")).expect("written");
    folder.write("meridian.toml", "[geo]\ndatabases = [\"geo.mmdb\"]\n");
    folder.write("zones/geo.example.toml", GEO);
    let files = Counting::default();
    let config = folder.path("meridian.toml");
    let geo = Name::parse_absolute("geo.example").expect("a name");
    let alone = |built: &Build| build_alone(&files, &config, &previous(built), &geo).expect("alone");
    let mut built = build(&files, &config, &Previous::default());
    assert!(!built.has_errors(), "{:?}", built.problems);
    // Until the files are old enough for their stamps to be relied on.
    let began = Instant::now();
    loop {
        files.take();
        built = build(&files, &config, &previous(&built));
        if files.take() == ["library.toml", "meridian.toml"] {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    let map = |built: &Build| {
        let zone = built.good.iter().find(|zone| zone.loaded.declared_in.ends_with("geo.example.toml")).expect("the zone");
        zone.parts.roots[0].map.clone()
    };
    let before = map(&built);

    // Weights, addresses and records do not make classes: the map stays, whoever asks.
    folder.write("zones/geo.example.toml", &GEO.replace("192.0.2.1", "192.0.2.30"));
    let same = alone(&built);
    assert_eq!((files.take(), same.good.len()), (vec!["geo.example.toml".to_string()], 1));
    assert!(Arc::ptr_eq(&before, &map(&same)));
    let all = build(&files, &config, &previous(&built));
    assert_eq!(files.take(), ["geo.example.toml", "library.toml", "meridian.toml"]);
    assert!(Arc::ptr_eq(&before, &map(&all)));

    // Another rule is another shape.
    folder.write("zones/geo.example.toml", &GEO.replace("\"EU\"", "\"NA\", \"AF\""));
    let other = alone(&built);
    assert_eq!(files.take(), ["geo.example.toml", "geo.mmdb"]);
    assert!(!Arc::ptr_eq(&before, &map(&other)));

    // Other databases are other maps.
    fs::write(folder.path("geo.mmdb"), database("192.0.2.0/24,DE\n198.51.100.0/24,FR\n203.0.113.0/24,US\n")).expect("written");
    let moved = alone(&built);
    assert_eq!(files.take(), ["geo.example.toml", "geo.mmdb"]);
    assert!(!Arc::ptr_eq(&map(&other), &map(&moved)) && moved.geo_hash != built.geo_hash);
}

#[test]
fn a_named_reload_takes_that_zone_and_leaves_the_others() {
    let zone = |name: &str, address: &str| format!("[zone]\nname = \"{name}\"\nns = [\"ns.example.net.\"]\n[records]\nwww.A = \"{address}\"\n");
    let server =
        Meridian::start(&[("zones/a.example.toml", &zone("a.example", "192.0.2.1")), ("zones/b.example.toml", &zone("b.example", "192.0.2.1"))]);
    let www = |name: &str| crate::meridian::addresses(&server.ask(&format!("www.{name}."), hickory_proto::rr::RecordType::A));
    for n in 2..6 {
        server.write("zones/a.example.toml", &zone("a.example", &format!("192.0.2.{n}")));
        server.write("zones/b.example.toml", &zone("b.example", &format!("192.0.2.{n}")));
        let (code, out, _) = server.command(&["reload", "a.example"]);
        assert_eq!(code, 0, "{out}");
        assert!(out.contains("a.example.  taken") && !out.contains("b.example"), "{out}");
        assert_eq!(www("a.example")[0].to_string(), format!("192.0.2.{n}"));
        assert_eq!(www("b.example")[0].to_string(), "192.0.2.1");
    }
    // The other zone was not lost sight of, and one that is gone is noticed by name, too.
    assert_eq!(server.command(&["reload"]).0, 0);
    assert_eq!(www("b.example")[0].to_string(), "192.0.2.5");
    fs::remove_file(server.path().join("zones/b.example.toml")).expect("removed");
    let (code, out, _) = server.command(&["reload", "b.example"]);
    assert!(code == 0 && out.contains("removed"), "{out}");
    let (code, out, err) = server.command(&["reload", "c.example"]);
    assert!(code == 1 && (out.clone() + &err).contains("c.example. is declared by no file"), "{out}{err}");
}
