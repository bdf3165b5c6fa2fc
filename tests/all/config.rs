//! Loading of files: good ones give the model they say, bad ones the report that an operator reads.

use std::path::Path;

use meridian::config::{Loaded, OsFiles, load};

fn load_dir(dir: &str) -> Loaded {
    load(&OsFiles, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(dir).join("meridian.toml"))
}

fn report(loaded: &Loaded) -> String {
    loaded.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn the_sample_loads_without_problems() {
    let loaded = load_dir("good/sample");
    assert_eq!(report(&loaded), "");
}
