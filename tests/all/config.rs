//! Loading of files: good ones give the model they say, bad ones the report that an operator reads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meridian::config::{EcsClip, Loaded, LoadedZone, MemoryFiles, OsFiles, TextHash, Threads, load, load_master_alone};
use meridian::dns::{Name, RecordType};
use meridian::policy::model::{AllDown, Child, Failback, GeoCode, GeoDefault, MinHealthy, MonitorKind, PolicyKind, SerialSource, TlsCheck, TtlRange};
use meridian::world::{LogFormat, QueryLog};
use proptest::prelude::*;

fn data(dir: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(dir)
}

fn report(loaded: &Loaded) -> String {
    loaded.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn zone<'l>(loaded: &'l Loaded, name: &str) -> &'l LoadedZone {
    let name = Name::parse_absolute(name).expect("name");
    loaded.zones.iter().find(|zone| zone.name.as_ref() == Some(&name)).expect("zone")
}

/// The files of a case as they would lie in the folder of `meridian.toml`, which may be left out.
fn files_of(dir: &Path) -> MemoryFiles {
    fn walk(dir: &Path, base: &Path, all: &mut MemoryFiles) {
        for entry in fs::read_dir(dir).expect("folder").map(|entry| entry.expect("entry").path()) {
            if entry.is_dir() {
                walk(&entry, base, all);
            } else if entry.file_name().is_some_and(|name| name != "expected.txt") {
                let path = entry.strip_prefix(base).expect("below").to_path_buf();
                all.0.insert(path, Arc::from(fs::read(&entry).expect("file")));
            }
        }
    }
    let mut all = MemoryFiles::default();
    walk(dir, dir, &mut all);
    all.0.entry("meridian.toml".into()).or_insert_with(|| Arc::from(&b""[..]));
    all
}

/// Every folder of `tests/data/bad` is loaded and must give its `expected.txt`: the whole report, then what was taken all the same.
/// `MERIDIAN_BLESS=1` writes the texts anew; read them before they are committed.
#[test]
fn bad_files_give_the_report_they_should() {
    let bless = std::env::var_os("MERIDIAN_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut cases = 0;
    for case in fs::read_dir(data("bad")).expect("cases").map(|entry| entry.expect("entry").path()) {
        let loaded = load(&files_of(&case), Path::new("meridian.toml"));
        let mut found = report(&loaded);
        found.push_str("---\n");
        found.push_str(if loaded.settings.is_some() { "settings taken\n" } else { "settings refused\n" });
        for zone in &loaded.zones {
            let name = zone.name.as_ref().map_or_else(|| "(no name)".to_string(), ToString::to_string);
            found.push_str(&format!("{name} {}\n", if zone.model.is_some() { "taken" } else { "refused" }));
            assert_eq!(zone.model.is_none(), zone.why().is_some(), "{}: a zone is refused for a reason, and only then", case.display());
        }
        cases += 1;
        let expected = case.join("expected.txt");
        if bless {
            fs::write(&expected, &found).expect("write");
        } else if fs::read_to_string(&expected).ok().as_deref() != Some(&found) {
            wrong.push(format!("{}:\n{found}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{} of {cases} reports differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases >= 60, "the cases are gone");
}

#[test]
fn the_sample_loads_without_problems() {
    let loaded = load(&OsFiles, &data("good/sample/meridian.toml"));
    assert_eq!(report(&loaded), "");
    let settings = loaded.settings.as_ref().expect("settings");
    assert_eq!(settings.listen, ["127.0.0.1:5300".parse().expect("v4"), "[::1]:5300".parse().expect("v6")]);
    assert_eq!(settings.threads, Threads::Auto);
    assert_eq!(settings.geo_databases, [data("good/sample/geodata/sample.mmdb")]);
    assert!(settings.admin_enabled);

    let zone = zone(&loaded, "example.com");
    assert_eq!(zone.declared_in, Path::new("zones/example.com.toml"));
    let model = zone.model.as_ref().expect("taken");
    let owners: Vec<String> = model.steers.iter().map(|steer| steer.owner.to_string()).collect();
    assert_eq!(owners, ["app.example.com.", "www.example.com."]);
    let (app, www) = (&model.steers[0], &model.steers[1]);
    assert_eq!((app.ttl, www.ttl), (TtlRange { max: 60, min: 20 }, TtlRange { max: 30, min: 10 }));
    assert_eq!(www.all_down, AllDown::All);
    let AllDown::Pool(sorry) = app.all_down else { panic!("{:?}", app.all_down) };
    assert_eq!(&*model.pool(sorry).id, "example.com/sorry");
    assert_eq!(model.child_name(www.root), "frankfurt");

    let Child::Policy(app_policy) = app.root else { panic!("{:?}", app.root) };
    let app_policy = model.policy(app_policy);
    assert!(app_policy.inline);
    assert_eq!(app_policy.failback, Failback::After(Duration::from_secs(300)));
    let PolicyKind::Geo { rules, default: GeoDefault::Nearest { to, .. } } = &app_policy.kind else { panic!("{:?}", app_policy.kind) };
    assert_eq!(rules[0].geo, [GeoCode::Continent(*b"EU"), GeoCode::Continent(*b"AF"), GeoCode::Country(*b"TR")]);
    assert_eq!((rules[2].fence, rules[2].all_down, rules[3].asn.as_slice()), (true, Some(AllDown::NoData), &[64500][..]));
    let nearest: Vec<&str> = to.iter().map(|child| model.child_name(*child)).collect();
    assert_eq!(nearest, ["frankfurt", "iad", "fra"], "in order of first mention");
    assert_eq!(model.region_of(to[0]), Some("eu"));

    let fra = model.pools.iter().find(|pool| pool.name == "fra").expect("fra");
    assert_eq!((fra.min_healthy, fra.answers, fra.endpoints.len()), (MinHealthy::Percent(50), 8, 3));
    assert_eq!((&*fra.endpoints[1].id, fra.endpoints[1].weight), ("example.com/fra/192.0.2.11", 2));
    let MonitorKind::Https { check, tls: TlsCheck { ca: None, insecure: false, .. } } = &model.monitors[0].kind else {
        panic!("{:?}", model.monitors[0].kind)
    };
    assert_eq!((check.host.as_str(), check.body.as_deref(), model.monitors[0].port), ("app.example.com", Some("ready"), 443));

    let tree = zone.tree.as_ref().expect("a tree");
    let soa = tree.soa().expect("SOA");
    assert_eq!(soa.ttl, 60);
    let rdata = tree.rdatas(&soa).next().expect("a record");
    assert_eq!(meridian::zone::rdata::to_text(RecordType::SOA, rdata), "ns1.example.com. hostmaster.example.com. 0 3600 900 1209600 60");
    let srv = tree.node_at(b"\x04_sip\x04_tcp\x07example\x03com\0").and_then(|node| tree.rrset(node, RecordType::SRV)).expect("SRV");
    assert_eq!(srv.ttl, 60);
    assert_eq!(model.soa_serial, SerialSource::Derived);
}

#[test]
fn every_key_reaches_its_place_and_defaults_cascade() {
    let loaded = load(&files_of(&data("good/everything")), Path::new("meridian.toml"));
    assert_eq!(report(&loaded), "");
    let settings = loaded.settings.as_ref().expect("settings");
    assert_eq!((settings.threads, settings.nsid.as_deref(), settings.version.as_deref()), (Threads::Count(4), Some("ns1.fra"), Some("meridian")));
    assert_eq!(settings.busy_poll, Duration::from_micros(50));
    assert_eq!(settings.geo_databases, [Path::new("geodata/city.mmdb"), Path::new("/var/lib/asn.mmdb")]);
    assert_eq!(settings.latency_table.as_deref(), Some(Path::new("rtt.csv")));
    assert_eq!(settings.ecs_clip, Some(EcsClip { v4: 24, v6: 56 }));
    assert_eq!((settings.admin_listen.to_string().as_str(), settings.admin_enabled), ("[::1]:9000", false));
    assert_eq!(settings.state_path, Path::new("/var/lib/meridian/state.db"));
    let log = QueryLog {
        file: "log/queries".into(),
        format: LogFormat::Dnstap,
        sample: 50,
        max_len: 1 << 30,
        max_age: Some(Duration::from_secs(86_400)),
        keep: 3,
        client_prefix: Some((24, 48)),
    };
    assert_eq!(settings.query_log.as_deref(), Some(&log));
    assert_eq!((settings.ecs_trust.len(), settings.diagnostics_allow.len()), (2, 1));

    let names: Vec<String> = loaded.zones.iter().filter_map(|zone| zone.name.as_ref()).map(ToString::to_string).collect();
    assert_eq!(names, ["example.com.", "example.net.", "example.org."]);
    let net = zone(&loaded, "example.net");
    let (net, tree) = (net.model.as_ref().expect("taken"), net.tree.as_ref().expect("taken"));
    assert_eq!((tree.record_count(), net.soa_serial), (4, SerialSource::File));
    assert_eq!(net.files, [Path::new("elsewhere/db.example.net"), Path::new("elsewhere/more/hosts.inc")]);

    let model = zone(&loaded, "example.com").model.as_ref().expect("taken");
    assert_eq!((zone(&loaded, "example.com").tree.as_ref().expect("taken").record_count(), model.soa_serial), (4, SerialSource::Derived));
    assert_eq!(model.files, [Path::new("zones/example.com.toml"), Path::new("zones/example.com.static.zone")]);
    let pools: Vec<&str> = model.pools.iter().map(|pool| &*pool.id).collect();
    assert_eq!(pools, ["example.com/a", "example.com/text", "example.com/cdn", "library/shared"], "own pools first, then library pools in use");
    let monitor = |pool: usize, endpoint: usize| -> Vec<&meridian::policy::model::Monitor> {
        model.pools[pool].endpoints[endpoint].monitors.iter().map(|ix| &model.monitors[ix.0 as usize]).collect()
    };
    let web = monitor(0, 0)[0];
    let MonitorKind::Http(check) = &web.kind else { panic!("{:?}", web.kind) };
    assert_eq!(
        (check.host.as_str(), check.status.as_slice()),
        ("example.com", &[(204, 204), (300, 302)][..]),
        "the host is the only name that reaches it"
    );
    assert_eq!(
        (web.port, web.thresholds.interval.as_secs(), web.thresholds.fall, web.thresholds.rise),
        (80, 12, 2, 4),
        "zone < library < meridian.toml"
    );
    let both: Vec<&str> = monitor(0, 1).iter().map(|monitor| monitor.name.as_str()).collect();
    assert_eq!(both, ["web", "db"]);
    assert!(monitor(0, 2).is_empty(), "monitor = false");
    let db = monitor(0, 1)[1];
    assert_eq!((db.thresholds.interval.as_secs(), db.timeout.as_secs(), db.thresholds.fast.as_secs()), (1, 1, 1), "never longer than the interval");
    let shared = monitor(3, 0)[0];
    assert_eq!(shared.thresholds.interval.as_secs(), 15, "a library's items know nothing of the zone's defaults");
    let MonitorKind::Https { tls: TlsCheck { ca: Some(ca), .. }, .. } = &shared.kind else { panic!("{:?}", shared.kind) };
    assert!(ca.is_absolute() && ca.ends_with("ca.pem"));

    let steers: Vec<(&str, u32, u32, AllDown, bool)> =
        model.steers.iter().map(|steer| (steer.name.as_str(), steer.ttl.max, steer.ttl.min, steer.all_down, steer.is_cname)).collect();
    assert_eq!(
        steers,
        [
            ("@", 25, 10, AllDown::LastGood, false),
            ("cdn", 100, 50, AllDown::LastGood, true),
            ("notes", 25, 10, AllDown::NoData, false),
            ("*.wild", 8, 8, AllDown::LastGood, false),
        ]
    );
    assert_eq!(model.pools[1].min_healthy, MinHealthy::Count(0), "nothing to check, so never critical");
}

#[test]
fn what_is_not_said_has_its_default() {
    let files = MemoryFiles::from_texts([("etc/meridian.toml", ""), ("etc/zones/readme.txt", "")]);
    let loaded = load(&files, Path::new("etc/meridian.toml"));
    assert_eq!(report(&loaded), "");
    let settings = loaded.settings.expect("settings");
    assert_eq!(settings.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:53", "[::]:53"]);
    assert_eq!((settings.zones_dir.as_path(), settings.state_path.as_path()), (Path::new("etc/zones"), Path::new("etc/state/meridian.db")));
    assert_eq!((settings.admin_listen.to_string().as_str(), settings.admin_enabled), ("127.0.0.1:8053", true));
    assert_eq!((settings.threads, settings.ecs_clip, settings.latency_table), (Threads::Auto, None, None));
    assert!(settings.ecs_trust.iter().all(|prefix| prefix.len == 0) && settings.ecs_trust.len() == 2, "everybody is trusted");
}

#[test]
fn kept_texts_load_to_the_same_zone() {
    let files = files_of(&data("good/everything"));
    let loaded = load(&files, Path::new("meridian.toml"));
    for zone in &loaded.zones {
        let texts = zone.sources.iter().map(|source| (source.path.clone(), files.0[&source.path].clone()));
        assert!(zone.sources.iter().all(|source| source.hash == TextHash::of(&files.0[&source.path])));
        let again = load(&MemoryFiles(texts.collect()), Path::new("meridian.toml"));
        let same = again.zones.iter().find(|other| other.name == zone.name).expect("the zone");
        assert_eq!(same.content, zone.content);
        assert_eq!(format!("{:?}", same.model), format!("{:?}", zone.model));
    }
}

#[test]
fn content_moves_with_what_decides_it_and_nothing_else() {
    let base = files_of(&data("good/everything"));
    let content = |files: &MemoryFiles, name: &str| zone(&load(files, Path::new("meridian.toml")), name).content;
    let changed = |path: &str, from: &str, to: &str| {
        let mut files = base.clone();
        let text = String::from_utf8(files.0[Path::new(path)].to_vec()).expect("text");
        assert!(text.contains(from), "{path}: {from}");
        files.0.insert(path.into(), Arc::from(text.replace(from, to).as_bytes()));
        files
    };
    for (path, from, to, moved) in [
        ("zones/example.com.toml", "192.0.2.1", "192.0.2.2", "example.com"),
        ("zones/example.com.static.zone", "static", "moved", "example.com"),
        ("zones/common.toml", "203.0.113.1", "203.0.113.2", "example.com"),
        ("ca.pem", "MA==", "MQ==", "example.com"),
        ("meridian.toml", "20s", "21s", "example.com"),
        ("elsewhere/more/hosts.inc", "192.0.2.80", "192.0.2.81", "example.net"),
        ("meridian.toml", "threads = 4", "threads = 5\n# a line more", "nothing"),
        ("zones/notes.txt", "neither", "still neither", "nothing"),
    ] {
        let files = changed(path, from, to);
        for name in ["example.com", "example.net", "example.org"] {
            assert_eq!(content(&files, name) != content(&base, name), name == moved, "{name} after {path}: {from} -> {to}");
        }
    }
}

#[test]
fn links_lead_out_of_the_zone_folder_only_by_the_folder_itself() {
    let root = tempfile::tempdir().expect("folder");
    let path = |name: &str| root.path().join(name);
    fs::create_dir_all(path("real/parts")).expect("folder");
    std::os::unix::fs::symlink(path("real"), path("zones")).expect("link");
    fs::write(path("meridian.toml"), "").expect("write");
    fs::write(path("secret"), "stolen A 192.0.2.66\n").expect("write");
    std::os::unix::fs::symlink(path("secret"), path("real/parts/link.inc")).expect("link");
    fs::write(path("real/parts/good.inc"), "good A 192.0.2.1\n").expect("write");
    let head = "@ 300 SOA ns1.example.net. hostmaster 1 2 3 4 5\n@ 300 NS ns1.example.net.\n";
    fs::write(path("real/good.example.zone"), format!("{head}$INCLUDE parts/good.inc\n")).expect("write");
    fs::write(path("real/bad.example.zone"), format!("{head}$INCLUDE parts/link.inc\n")).expect("write");
    let loaded = load(&OsFiles, &path("meridian.toml"));
    assert!(zone(&loaded, "good.example").model.is_some(), "the folder may be a link");
    assert_eq!(
        report(&loaded),
        "zones/bad.example.zone:3: cannot include \"parts/link.inc\": it is outside the zone folder, and zone files may name files there alone; \
         expected a file below the zone folder, or below what [zones] may_read in meridian.toml names\n"
    );
}

#[test]
fn a_master_file_is_checked_alone() {
    let files = MemoryFiles::from_texts([("x/db", "@ 300 SOA ns1 h 1 2 3 4 5\n@ 300 NS ns1\nns1 300 A 192.0.2.1\n"), ("x/bad", "www A\n")]);
    let origin = Name::parse_absolute("Example.org").expect("name");
    let (zone, problems) = load_master_alone(&files, Path::new("x/db"), &origin);
    assert_eq!((zone.model.is_some(), problems.len()), (true, 0), "{problems:?}");
    let (zone, problems) = load_master_alone(&files, Path::new("x/bad"), &origin);
    assert!(zone.model.is_none());
    assert!(problems[0].to_string().starts_with("x/bad:1: "), "{problems:?}");
    let (_, problems) = load_master_alone(&files, Path::new("x/none"), &origin);
    assert_eq!(problems[0].to_string(), "x/none: cannot be read: no such file or folder");
}

/// Blocks of the manual that begin with a line `# FILE` are whole files; each page's files together must load without an error.
#[test]
fn examples_of_the_manual_load() {
    for page in ["zone-format.md", "configuration.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).expect(page);
        let mut examples = 0;
        for block in text.split("\n```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
            let Some(name) = block.lines().next().and_then(|line| line.strip_prefix("# ")).filter(|name| name.ends_with(".toml")) else { continue };
            examples += 1;
            let mut files = MemoryFiles::default();
            files.0.insert("meridian.toml".into(), Arc::from(&b""[..]));
            files.0.insert("zones/none.txt".into(), Arc::from(&b""[..]));
            files.0.insert(PathBuf::from(name), Arc::from(block.as_bytes()));
            let loaded = load(&files, Path::new("meridian.toml"));
            assert_eq!(report(&loaded), "", "{page}: {name}:\n{block}");
        }
        assert!(examples > 0, "{page} has no whole file");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is done to good files, loading ends with a report and not with a panic.
    #[test]
    fn mutated_files_never_panic(edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0..4_u8, any::<proptest::sample::Index>(), any::<u8>()), 1..8)) {
        let mut files = files_of(&data("good/everything"));
        files.0.insert("zones/sample.toml".into(), Arc::from(fs::read(data("good/sample/zones/example.com.toml")).expect("sample")));
        let paths: Vec<PathBuf> = files.0.keys().cloned().collect();
        for (which, kind, at, octet) in edits {
            let path = &paths[which.index(paths.len())];
            let mut text = files.0[path].to_vec();
            let at = at.index(text.len().max(1)).min(text.len());
            // A pick of what TOML and master files are made of, so that many mutants still parse.
            let spice = b"[]{}\"'=.,#\n\\ 0-9%@*$();x";
            match kind {
                0 => text.insert(at, spice[usize::from(octet) % spice.len()]),
                1 if at < text.len() => drop(text.remove(at)),
                2 => text.truncate(at),
                _ => {
                    let end = (at + usize::from(octet)).min(text.len());
                    let copy = text[at..end].to_vec();
                    text.splice(at..at, copy);
                }
            }
            files.0.insert(path.clone(), Arc::from(text));
        }
        let loaded = load(&files, Path::new("meridian.toml"));
        for zone in &loaded.zones {
            prop_assert_eq!(zone.model.is_none(), zone.why().is_some());
        }
    }
}
