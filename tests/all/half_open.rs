//! A flood of handshakes that are never finished, from forged addresses, in a network of its own.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::meridian::Meridian;
use crate::namespace::Namespace;

const CONFIG: &str = "[server]\nlisten = [\"192.0.2.1:53\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n";
const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\na.A = \"192.0.2.80\"\n";

/// Handshakes begun, one each 25 µs: some four seconds, and far more than any queue of the kernel holds.
const HANDSHAKES: &str = "150000";

fn run(namespace: &Namespace, program: &str, args: &[&str]) -> String {
    let output = namespace.command(program).args(args).output().unwrap_or_else(|error| panic!("{program} runs: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Memory that the process holds, in KiB.
fn rss_kib(server: &Meridian) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn half_open_handshakes_hold_up_neither_tcp_nor_udp() {
    let namespace = Namespace::new();
    // What is sent to the forged addresses must have a way out: it leads nowhere.
    run(&namespace, "ip", &["address", "add", "192.0.2.1/24", "dev", "lo"]);
    run(&namespace, "ip", &["route", "add", "default", "dev", "lo"]);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("zones")).expect("a folder");
    std::fs::write(folder.path().join("meridian.toml"), CONFIG).expect("written");
    std::fs::write(folder.path().join("zones/example.com.toml"), ZONE).expect("written");
    let server = Meridian::start_by(namespace.command(env!("CARGO_BIN_EXE_meridian")), folder);
    let before = rss_kib(&server);

    let mut flood = namespace
        .command("hping3")
        .args(["--quiet", "--syn", "--destport", "53", "--rand-source", "--interval", "u25", "--count", HANDSHAKES, "192.0.2.1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("hping3 runs (Debian: hping3; scripts/test.sh sees to it)");
    let began = Instant::now();
    let half_open = || run(&namespace, "ss", &["--tcp", "--numeric", "--no-header", "state", "syn-recv"]).lines().count();
    while half_open() < 500 {
        assert!(began.elapsed() < Duration::from_secs(20), "the flood does not begin: {}", run(&namespace, "ss", &["--tcp", "--all", "--numeric"]));
        assert!(flood.try_wait().expect("a child").is_none(), "the flood ended before it was seen");
    }
    let mut asked = 0;
    while asked < 20 || flood.try_wait().expect("a child").is_none() && began.elapsed() < Duration::from_secs(60) {
        for transport in ["+notcp", "+tcp"] {
            let answer = run(&namespace, "dig", &["@192.0.2.1", "a.example.com", "A", transport, "+tries=1", "+time=3", "+short"]);
            assert_eq!(answer, "192.0.2.80\n", "{transport}, after {asked} questions and {:?}", began.elapsed());
        }
        asked += 1;
    }
    let _ = flood.kill();
    let _ = flood.wait();
    // Unfinished handshakes never reach the program: they cost it nothing.
    let after = rss_kib(&server);
    assert!(after < before + 16 * 1024, "{before} KiB before, {after} KiB after");
}
