//! The operator's evening of `docs/operations.md`, line by line against the real program.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::meridian::Meridian;

/// One command and what is printed below it.
struct Step {
    command: String,
    expected: Vec<String>,
}

/// The bodies of all blocks of a language, in order.
fn blocks<'t>(page: &'t str, language: &str) -> Vec<&'t str> {
    page.split(&format!("\n```{language}\n")).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks(page, "console").into_iter().flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.into(), expected: Vec::new() }),
            None => steps.last_mut().expect("output follows a command").expected.push(line.into()),
        }
    }
    steps
}

/// Blanks are one blank; `…` is anything, and a line of `…` alone is any lines.
pub fn is_like(line: &str, pattern: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, pattern) = (squeeze(line), squeeze(pattern));
    let parts: Vec<&str> = pattern.split('…').map(str::trim).collect();
    let Some(mut rest) = line.strip_prefix(parts[0]) else { return false };
    for part in &parts[1..] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    parts.len() > 1 && (parts[parts.len() - 1].is_empty() || line.ends_with(parts[parts.len() - 1])) || rest.is_empty()
}

/// Each pattern in order; between those around `…` alone, and in the audit log, other lines may stand.
fn matches(output: &str, expected: &[String], loose: bool) -> bool {
    let lines: Vec<&str> = output.lines().collect();
    let (mut at, mut skips) = (0, loose);
    for pattern in expected {
        if pattern == "…" {
            skips = true;
            continue;
        }
        match lines[at..].iter().position(|line| is_like(line, pattern)) {
            Some(found) if found == 0 || skips => at += found + 1,
            _ => return false,
        }
        skips = loose;
    }
    skips || at == lines.len()
}

#[test]
fn patterns_mean_what_they_say() {
    for (line, pattern, like) in [
        ("a  b", "a b", true),
        ("a b c", "a … c", true),
        ("a b c", "a …", true),
        ("a b c d", "a … c", false),
        ("b", "a", false),
        ("", "a", false),
        ("a b", "a", false),
    ] {
        assert_eq!(is_like(line, pattern), like, "{line} {pattern}");
    }
    let of = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
    assert!(matches("a\nb\nc\n", &of("a\n…\nc"), false));
    assert!(!matches("a\nb\nc\n", &of("a\nc"), false));
    assert!(!matches("a\nb\n", &of("a"), false));
    assert!(!matches("", &of("a"), true));
}

/// A folder with a `meridian` that talks to this server, for the search path.
fn program_for(meridian: &Meridian, folder: &Path) {
    let text = format!("#!/bin/sh\nexec {} \"$@\" --server http://{}\n", env!("CARGO_BIN_EXE_meridian"), meridian.admin);
    let path = folder.join("meridian");
    std::fs::write(&path, text).expect("the file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
}

#[test]
fn an_operators_evening_goes_as_the_manual_says() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).expect("the page");
    let files: Vec<(String, String)> = blocks(&page, "toml")
        .into_iter()
        .map(|text| {
            let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a file name");
            (name.to_string(), text.replace("127.0.0.1:5300", "127.0.0.1:0").replace("127.0.0.1:8053", "127.0.0.1:0") + "\n")
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let meridian = Meridian::start(&files);
    let tools = tempfile::tempdir().expect("a folder");
    program_for(&meridian, tools.path());
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap_or_default());
    let steps = steps(&page);
    assert!(steps.len() >= 18, "the page has commands");
    for step in steps {
        let command = step.command.replace("-p 5300", &format!("-p {}", meridian.dns.port())).replace("127.0.0.1:8053", &meridian.admin.to_string());
        let output = Command::new("sh")
            .current_dir(meridian.path())
            .env("PATH", &path)
            .env("USER", "ada")
            .stdin(Stdio::null())
            .args(["-c", &format!("{{ {command}\n}} 2>&1")])
            .output()
            .expect("it runs");
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let loose = step.command.contains(" audit ") || step.command.contains("; echo");
        assert!(
            output.status.success() && matches(&found, &step.expected, loose),
            "$ {}\n{}found:\n{found}\nexpected:\n{}",
            step.command,
            output.status,
            step.expected.join("\n")
        );
    }
}
