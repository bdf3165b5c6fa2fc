//! Loading again: what is as it was is neither read nor parsed nor compiled, and what is not is noticed however little shows from outside.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use meridian::config::{Known, Loaded, LoadedZone, OsFiles, load_again};
use meridian::store::{Store, StoreError, ZoneFile, ZoneFiles};
use tempfile::TempDir;

use crate::meridian::{Meridian, addresses};

const LIBRARY: &str = "[pool.shared]\nendpoints = [\"192.0.2.1\"]\n";
const TOML: &str = "[zone]\nname = \"a.example\"\nns = [\"ns.example.net.\"]\n[steer.www]\nuse = \"shared\"\n";
const MASTER: &str = "$TTL 300\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 192.0.2.1\n$INCLUDE more.inc\n";

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        fs::create_dir(folder.path("zones")).expect("made");
        for (path, text) in [
            ("meridian.toml", ""),
            ("zones/library.toml", LIBRARY),
            ("zones/a.example.toml", TOML),
            ("zones/b.example.zone", MASTER),
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
        let loaded = load_again(&OsFiles, &self.path("meridian.toml"), known);
        assert!(!loaded.has_errors(), "{:?}", loaded.problems);
        loaded
    }

    /// Loads until the files are old enough for their stamps to be relied on.
    fn settled(&self) -> Loaded {
        let began = Instant::now();
        let mut loaded = self.load(&Known::default());
        loop {
            let next = self.load(&loaded.known);
            // meridian.toml and the library are read every time.
            if next.known.reads() == 2 {
                return next;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{} files are read", next.known.reads());
            loaded = next;
        }
    }
}

fn zone<'l>(loaded: &'l Loaded, name: &str) -> &'l LoadedZone {
    loaded.zones.iter().find(|zone| zone.name.as_ref().is_some_and(|found| found.to_string() == name)).expect("the zone")
}

fn same_tree(a: &LoadedZone, b: &LoadedZone) -> bool {
    Arc::ptr_eq(a.tree.as_ref().expect("a tree"), b.tree.as_ref().expect("a tree"))
}

#[test]
fn unchanged_files_are_not_read_again() {
    let folder = Folder::new();
    let before = folder.settled();
    let now = folder.load(&before.known);
    assert_eq!(now.known.reads(), 2, "meridian.toml and the library");
    for name in ["a.example.", "b.example."] {
        assert!(same_tree(zone(&before, name), zone(&now, name)), "{name}");
        assert!(Arc::ptr_eq(zone(&before, name).model.as_ref().expect("a model"), zone(&now, name).model.as_ref().expect("a model")), "{name}");
    }
}

#[test]
fn a_touched_file_that_says_the_same_is_read_but_not_compiled() {
    let folder = Folder::new();
    let before = folder.settled();
    folder.write("zones/b.example.zone", MASTER);
    let now = folder.load(&before.known);
    assert_eq!(now.known.reads(), 3);
    assert!(same_tree(zone(&before, "b.example."), zone(&now, "b.example.")));
}

#[test]
fn a_change_is_noticed_though_length_and_time_are_as_before() {
    let folder = Folder::new();
    let mut before = folder.load(&Known::default());
    // Right behind each other, within one tick of the file system's clock; and with the time set back.
    for digit in (3..=9).cycle().take(70) {
        let path = folder.path("zones/more.inc");
        let modified = fs::metadata(&path).and_then(|meta| meta.modified()).expect("a time");
        fs::write(&path, format!("www A 192.0.2.{digit}\n")).expect("written");
        File::options().write(true).open(&path).and_then(|file| file.set_modified(modified)).expect("set");
        let now = folder.load(&before.known);
        assert_ne!(zone(&now, "b.example.").content, zone(&before, "b.example.").content, "{digit}");
        assert!(!same_tree(zone(&before, "b.example."), zone(&now, "b.example.")));
        before = now;
    }
}

#[test]
fn a_zone_follows_its_library_and_its_includes_and_the_others_stay() {
    let folder = Folder::new();
    let before = folder.settled();
    folder.write("zones/library.toml", &LIBRARY.replace("192.0.2.1", "192.0.2.7"));
    let now = folder.load(&before.known);
    assert_ne!(zone(&now, "a.example.").content, zone(&before, "a.example.").content);
    assert!(same_tree(zone(&before, "b.example."), zone(&now, "b.example.")));
    folder.write("zones/more.inc", "www A 192.0.2.3\nx A 192.0.2.4\n");
    let last = folder.load(&now.known);
    assert_eq!(zone(&last, "b.example.").tree.as_ref().expect("a tree").record_count(), 5);
    assert!(same_tree(zone(&now, "a.example."), zone(&last, "a.example.")));
    // What was missing may be there now.
    fs::remove_file(folder.path("zones/more.inc")).expect("removed");
    let broken = load_again(&OsFiles, &folder.path("meridian.toml"), &last.known);
    assert!(zone(&broken, "b.example.").model.is_none());
    folder.write("zones/more.inc", "www A 192.0.2.3\n");
    assert!(zone(&folder.load(&broken.known), "b.example.").model.is_some());
}

/// More than a row of the state takes.
fn large_zone(www: &str) -> String {
    let names: String = (0..5000).map(|n| format!("host{n} A 10.0.{}.{}\n", n / 256, n % 256)).collect();
    format!("$TTL 300\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 192.0.2.1\nwww A {www}\n{names}")
}

#[test]
fn a_large_zone_outlives_its_file_and_is_kept_once() {
    let server = Meridian::start(&[("zones/big.example.zone", &large_zone("192.0.2.1"))]);
    let www = |server: &Meridian| addresses(&server.ask("www.big.example.", RecordType::A)).iter().map(ToString::to_string).collect::<String>();
    let kept = |server: &Meridian| {
        let folder = fs::read_dir(server.path().join("state/meridian.db-zones"));
        folder.map_or_else(|_| Vec::new(), |all| all.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect::<Vec<_>>())
    };
    let until_kept = |server: &Meridian, other: &[String]| {
        let began = Instant::now();
        loop {
            let now = kept(server);
            if now.len() == 1 && now != other && !now[0].contains('.') {
                return now;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{now:?}");
            std::thread::yield_now();
        }
    };
    let first = until_kept(&server, &[]);
    server.write("zones/big.example.zone", &large_zone("192.0.2.2"));
    assert_eq!(server.command(&["reload"]).0, 0);
    assert_eq!(www(&server), "192.0.2.2");
    until_kept(&server, &first);
    server.write("zones/big.example.zone", "<<<<<<<");
    let server = server.restart();
    assert_eq!(www(&server), "192.0.2.2", "{:#?}", server.log());
    assert_eq!(server.command(&["reload"]).0, 1);
    assert_eq!(www(&server), "192.0.2.2");
}

#[tokio::test]
async fn only_what_was_loaded_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(&folder.path().join("state.db")).expect("open");
    let texts = folder.path().join("state.db-zones");
    let files = |hash: u128, path: &Path| ZoneFiles {
        zone: "a.".into(),
        content: format!("{hash:x}"),
        files: vec![ZoneFile { path: path.to_path_buf(), hash, text: None }],
    };
    let count = || fs::read_dir(&texts).map_or(0, |all| all.filter_map(Result::ok).filter(|entry| entry.path().extension().is_none()).count());
    for len in [10, 1_000_000] {
        let path = folder.path().join(format!("text-{len}"));
        let text = vec![b'x'; len];
        fs::write(&path, &text).expect("written");
        let hash = meridian::config::TextHash::of(&text);
        assert_eq!(store.keep_zones(vec![files(hash + 1, &path)]).await, [Err(StoreError::Changed { path: path.clone() })]);
        assert_eq!(store.keep_zones(vec![files(hash, &path)]).await, [Ok(())]);
        assert_eq!(store.zone_version("a.").await, Ok(Some([(path, text)].into())));
        assert_eq!(count(), usize::from(len > 100_000));
    }
    // A damaged copy is not taken for what was kept.
    let copies: Vec<_> = fs::read_dir(&texts).expect("the folder").map(|entry| entry.expect("a file").path()).collect();
    let [copy] = &copies[..] else { panic!("{copies:?}") };
    fs::write(copy.with_extension("new"), "left over").expect("written");
    fs::write(copy, "damaged").expect("written");
    assert!(store.zone_version("a.").await.is_err());
    store.put_zone_version("a.", &Default::default()).await.expect("put");
    assert_eq!(count(), 0, "what no zone names is gone");
    store.close().await;
    drop(Store::open(&folder.path().join("state.db")).expect("open"));
    assert_eq!(fs::read_dir(&texts).expect("the folder").count(), 0);
}
