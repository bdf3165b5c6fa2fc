//! Checks that run a program, and echo requests.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use meridian::control::api::{CheckSpec, CheckTarget};
use meridian::health::{Failure, Thresholds, Watch};
use meridian::policy::model::{ExecCheck, Monitor, MonitorKind};
use meridian::probe::check;

use crate::meridian::Meridian;
use crate::origin::means;
use crate::rest::Rest;

fn spec(kind: MonitorKind, timeout: Duration) -> CheckSpec {
    let thresholds = Thresholds { interval: timeout, fast: timeout, fall: 3, rise: 3 };
    let monitor = Monitor { name: String::new(), kind, port: 0, thresholds, timeout, source: Vec::new(), watch: Watch::default() };
    CheckSpec { target: CheckTarget::Address([127, 0, 0, 1].into()), monitor }
}

fn run(kind: MonitorKind, timeout: Duration) -> String {
    let spec = spec(kind, timeout);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(check::run(&spec, &means(&spec))).0;
    outcome.as_ref().map_or_else(Failure::to_string, |()| "ok".to_owned())
}

fn shell(script: &str, timeout: Duration) -> String {
    let command = ["/bin/sh", "-c", script, "sh", "an argument"].map(str::to_owned).to_vec();
    run(MonitorKind::Exec(ExecCheck { command, port: Some(8080) }), timeout)
}

const PATIENT: Duration = Duration::from_secs(10);

#[test]
fn programs_pass_by_exit_code_0_and_say_why_not() {
    for (script, expected) in [
        ("exit 0", "ok"),
        ("echo warming up; exit 0", "ok"),
        ("exit 3", "answer: exit code 3"),
        ("echo; echo '  queue too long: 812  '; echo more; exit 1", "answer: exit code 1: queue too long: 812"),
        ("echo to stderr >&2; exit 1", "answer: exit code 1: to stderr"),
        ("kill -9 $$", "answer: killed by a signal"),
        ("printf 'bell \\007'; exit 1", "answer: exit code 1: bell \u{fffd}"),
        // As much as it likes, and it is not held up by it.
        ("yes | head -c 1000000; exit 1", "answer: exit code 1: y"),
        // What it is told, and nothing else.
        ("[ \"$MERIDIAN_ADDRESS $MERIDIAN_PORT $MERIDIAN_TIMEOUT $1\" = '127.0.0.1 8080 10 an argument' ]", "ok"),
        ("[ -z \"$CARGO_PKG_NAME$HOME\" ] && [ \"$PATH\" = /usr/local/bin:/usr/bin:/bin ] && [ \"$PWD\" = / ]", "ok"),
        ("read line; [ -z \"$line\" ]", "ok"),
    ] {
        assert_eq!(shell(script, PATIENT), expected, "{script}");
    }
    let missing = MonitorKind::Exec(ExecCheck { command: vec!["/nowhere/check".into()], port: None });
    assert_eq!(run(missing, PATIENT), "check could not run: /nowhere/check: no such file or directory");
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_has_started() {
    let dir = tempfile::tempdir().expect("a folder");
    let pids = dir.path().join("pids");
    let script = format!("sleep 600 & echo $! > {0}; sleep 600 & echo $! >> {0}; echo $$ >> {0}; wait", pids.display());
    let began = Instant::now();
    assert_eq!(shell(&script, Duration::from_secs(1)), "timeout during run");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // What is left behind by one that ends is gone as well, and does not hold it up.
    let left = dir.path().join("left");
    let began = Instant::now();
    assert_eq!(shell(&format!("sleep 600 & echo $! > {}; exit 0", left.display()), PATIENT), "ok");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let text = std::fs::read_to_string(pids).expect("it was started") + &std::fs::read_to_string(left).expect("it was started");
    assert_eq!(text.lines().count(), 4);
    for pid in text.lines() {
        let began = Instant::now();
        // A zombie is dead, whoever has to bury it.
        let is_alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while is_alive() {
            assert!(began.elapsed() < Duration::from_secs(5), "{pid} is alive");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Programs have limits a moment after they were started, from outside.
#[cfg(target_os = "linux")]
#[test]
fn programs_take_only_so_much_of_the_machine() {
    let limited = |script: &str| shell(&format!("until [ \"$(ulimit -t)\" = 11 ]; do sleep 0.02; done; {script}"), PATIENT);
    let limits = "echo $(ulimit -c) $(ulimit -n) $(ulimit -f) $(ulimit -d); exit 1";
    // Files in blocks of 512 octets, memory in KiB.
    assert_eq!(limited(limits), "answer: exit code 1: 0 256 131072 524288");
    let takes = |count: u32| limited(&format!("exec perl -e '$count = {count}; $all = \"x\" x $count; exit length($all) != $count'"));
    assert_eq!(takes(100_000_000), "ok");
    let too_much = takes(700_000_000);
    assert!(too_much.starts_with("answer: exit code ") && too_much.contains("Out of memory"), "{too_much}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let written = limited(&format!("exec head -c 70000000 /dev/zero > {}", file.path().display()));
    assert_eq!(written, "answer: killed: it wrote a file of more than 64 MiB");
}

#[test]
fn programs_have_places_and_wait_for_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let kind = MonitorKind::Exec(ExecCheck { command: ["/bin/sleep", "2"].map(str::to_owned).to_vec(), port: None });
    // The last one waits two seconds and runs for two more: waiting is no part of its time.
    let spec = spec(kind, Duration::from_millis(3_500));
    let means = means(&spec);
    let began = Instant::now();
    let all = runtime.block_on(async {
        let running: Vec<_> = (0..17)
            .map(|_| {
                let (spec, means) = (spec.clone(), means.clone());
                tokio::spawn(async move { check::run(&spec, &means).await.0 })
            })
            .collect();
        let mut passed = 0;
        for one in running {
            passed += usize::from(one.await.expect("no panic").is_ok());
        }
        passed
    });
    assert!(all == 17 && began.elapsed() >= Duration::from_millis(4_000), "{all}: sixteen at a time");
}

#[test]
fn a_zone_may_run_programs_only_where_the_server_allows_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = dir.path().join("check");
    let mut file = std::fs::File::create(&program).expect("created");
    file.write_all(b"#!/bin/sh\n[ \"$MERIDIAN_ADDRESS\" = 192.0.2.1 ] || { echo not this one; exit 1; }\n").expect("written");
    drop(file);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[monitor.m]\nexec = [{program:?}]\ninterval = \"1s\"\n\
         [pool.p]\nendpoints = [\"192.0.2.1\", \"192.0.2.2\"]\nmonitor = \"m\"\n[steer.www]\nuse = \"p\"\n"
    );
    let files = meridian::config::MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.toml", &zone)]);
    let found: Vec<String> = meridian::config::load(&files, Path::new("meridian.toml")).problems.iter().map(ToString::to_string).collect();
    let expected = "zones/example.com.toml:6: monitor \"m\": exec: programs are not run; [health] exec = true in meridian.toml allows it";
    assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    let allowing = format!("{}\n[health]\nexec = true\n", crate::meridian::CONFIG);
    let server = Meridian::start(&[("meridian.toml", &allowing), ("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&server);
    let began = Instant::now();
    let state = |address: &str| rest.endpoint(&format!("example.com/p/{address}"));
    while state("192.0.2.1")["state"] != "up" || state("192.0.2.2")["state"] != "down" {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", rest.get("/v1/status"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(state("192.0.2.2")["last_error"], "answer: exit code 1: not this one");
}
