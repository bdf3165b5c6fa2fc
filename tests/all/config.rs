//! Loading of files: good ones give the model they say, bad ones the report that an operator reads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian::config::{Loaded, MemoryFiles, OsFiles, load};

fn data(dir: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(dir)
}

fn report(loaded: &Loaded) -> String {
    loaded.problems.iter().map(|problem| format!("{problem}\n")).collect()
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
}
