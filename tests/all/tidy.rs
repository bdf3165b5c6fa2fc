//! The house rules that a machine can check: layers, sizes, `unsafe`, dependencies with a reason, documents that name what exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the bottom up. A module may use its own layer and the ones below; those marked alone may not use their own layer's others.
const LAYERS: &[(&[&str], bool)] = &[
    (&["sys"], true),
    (&["dns"], true),
    (&["zone", "geo", "health", "policy"], false),
    (&["world"], true),
    (&["answer"], true),
    (&["certs", "config", "control", "store", "telemetry"], false),
    (&["serve", "probe", "admin"], true),
    (&["app", "cli"], false),
];

/// Lines of a source file, tests included, beyond which it must be split.
const MAX_FILE_LINES: usize = 650;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).expect("inside").display().to_string()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(modules, _)| modules.contains(&module))
}

#[test]
fn imports_point_downward_only() {
    let mut wrong = Vec::new();
    let mut modules = BTreeSet::new();
    for path in files_below("src", "rs") {
        let name = short(&path);
        let module = name.trim_start_matches("src/").split(['/', '.']).next().expect("a module").to_string();
        if module == "lib" || module == "main" {
            continue;
        }
        let Some(own) = layer_of(&module) else {
            wrong.push(format!("{name}: {module} belongs to no layer"));
            continue;
        };
        modules.insert(module.clone());
        for (number, line) in text(&path).lines().enumerate() {
            // Comments may point anywhere; what follows the unit tests' head is test code, which may too.
            if line.trim_start().starts_with("//") {
                continue;
            }
            if line.starts_with("#[cfg(test)]") {
                break;
            }
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let Some(other) = layer_of(&used) else { continue };
                let sideways = other == own && used != module && LAYERS[own].1;
                if (other > own || sideways) && !name.ends_with("tests.rs") {
                    wrong.push(format!("{name}:{}: {module} uses {used}", number + 1));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let listed: BTreeSet<String> = LAYERS.iter().flat_map(|(modules, _)| modules.iter().map(ToString::to_string)).collect();
    assert_eq!(modules, listed, "the layers name what exists");
}

#[test]
fn the_pure_layers_do_no_io_and_read_no_clock() {
    const BANNED: [&str; 12] = [
        "std::fs",
        "std::net::Udp",
        "std::net::Tcp",
        "std::thread",
        "Instant::now",
        "SystemTime",
        "tokio",
        "tracing",
        "Mutex",
        "RwLock",
        "println!",
        "getrandom",
    ];
    let mut wrong = Vec::new();
    for path in
        ["src/dns", "src/zone", "src/geo", "src/health", "src/policy", "src/world", "src/answer"].into_iter().flat_map(|dir| files_below(dir, "rs"))
    {
        if short(&path).contains("tests") {
            continue;
        }
        for (number, line) in text(&path).lines().enumerate() {
            if line.starts_with("#[cfg(test)]") {
                break;
            }
            if !line.trim_start().starts_with("//")
                && let Some(word) = BANNED.iter().find(|word| line.contains(**word))
            {
                wrong.push(format!("{}:{}: {word}", short(&path), number + 1));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn unsafe_lives_in_sys_and_files_stay_small() {
    let mut wrong = Vec::new();
    for path in ["src", "tests", "fuzz/src", "fuzz/targets"].into_iter().flat_map(|dir| files_below(dir, "rs")) {
        let (name, text) = (short(&path), text(&path));
        if text.lines().count() > MAX_FILE_LINES {
            wrong.push(format!("{name}: {} lines, at most {MAX_FILE_LINES}: split it", text.lines().count()));
        }
        let has_unsafe = text.lines().any(|line| {
            !line.trim_start().starts_with("//") && (line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
        });
        if has_unsafe && !name.starts_with("src/sys/") && !name.ends_with("tidy.rs") {
            wrong.push(format!("{name}: unsafe outside src/sys"));
        }
        for banned in [concat!("#[", "ignore"), concat!("#[", "should_panic")] {
            if text.contains(banned) {
                wrong.push(format!("{name}: {banned}]: a test that does not run or only hopes"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn nothing_says_anything_in_a_way_that_panics() {
    // `eprintln!` and its kin panic when nobody listens, and wait for whoever does not. Servers speak through telemetry's log, commands through the
    // functions of src/cli/mod.rs.
    let mut wrong = Vec::new();
    for path in files_below("src", "rs") {
        for (number, line) in text(&path).lines().enumerate() {
            if line.starts_with("#[cfg(test)]") {
                break;
            }
            if !line.trim_start().starts_with("//") && ["println!", "print!("].iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{}", short(&path), number + 1));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = text(&root().join("Cargo.toml")) + &text(&root().join("fuzz/Cargo.toml"));
    let mut wrong = Vec::new();
    let (mut in_dependencies, mut explained) = (false, false);
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies]");
            explained = false;
        } else if line.starts_with('#') {
            explained = true;
        } else if line.trim().is_empty() {
            explained = false;
        } else if in_dependencies && line.contains('=') && !explained {
            wrong.push(line.to_string());
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn documents_name_what_exists() {
    let mut wrong = Vec::new();
    let mut pages = files_below("docs", "md");
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "geodata/README.md"].map(|page| root().join(page)));
    for page in &pages {
        let folder = page.parent().expect("a folder");
        for link in text(page).split("](").skip(1) {
            let target = link.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                wrong.push(format!("{}: links to {target}", short(page)));
            }
        }
    }
    let architecture = text(&root().join("ARCHITECTURE.md"));
    for module in LAYERS.iter().flat_map(|(modules, _)| modules.iter()) {
        if !architecture.contains(&format!("`{module}`")) {
            wrong.push(format!("ARCHITECTURE.md does not name `{module}`"));
        }
    }
    for word in
        architecture.split('`').skip(1).step_by(2).filter(|word| word.starts_with("src/") || word.starts_with("tests/") || word.starts_with("docs/"))
    {
        if !root().join(word).exists() {
            wrong.push(format!("ARCHITECTURE.md names {word}"));
        }
    }
    for page in files_below("docs", "md") {
        let name = page.file_name().expect("a name").to_string_lossy().into_owned();
        let listed = if short(&page).starts_with("docs/adr") { "docs/adr" } else { "README.md" };
        if listed == "README.md" && !text(&root().join("README.md")).contains(&name) {
            wrong.push(format!("README.md does not list docs/{name}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
