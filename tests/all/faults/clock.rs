//! A clock that jumps, as after a lost battery or a wrong time server: states go by intervals, not by the time of day; certificates do not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Network, checked, entered, wait, zone};
use crate::failover::Stream;
use crate::meridian::{CONFIG, Meridian};
use crate::namespace::inside;
use crate::origin::{Authority, Certificate};
use crate::rest::Rest;

/// The library that tells programs another time.
fn library() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").expect("a folder").flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    places.into_iter().find(|path| path.exists()).expect("libfaketime (Debian: libfaketime; scripts/test.sh sees to it)")
}

/// The program by the clock of this file.
pub fn clocked(clock: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_meridian"));
    program.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", clock).env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    program
}

/// How far that clock is ahead.
pub fn set_clock(file: &Path, offset: &str) {
    // As a whole: it is read at every look at the clock.
    let new = file.with_extension("new");
    std::fs::write(&new, offset).expect("written");
    std::fs::rename(new, file).expect("renamed");
}

#[test]
fn a_clock_that_jumps_moves_no_state_but_that_of_certificates_that_it_ends() {
    inside("faults::clock::a_clock_that_jumps_moves_no_state_but_that_of_certificates_that_it_ends", || {
        let (authority, plain, secure) = (Authority::new(), "10.77.0.11", "10.77.0.12");
        let network = Network::new(&[plain.into(), secure.into()]);
        // The certificate is good for five days.
        let _origins = [plain, secure].map(|address| network.nginx(address, &authority, Certificate::Ending));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("zones")).expect("a folder");
        let pools = checked("plain", "http", plain, &authority) + &checked("secure", "https", secure, &authority);
        let config = format!("{CONFIG}[defaults.monitor]\ncertificate_warning = false\n");
        std::fs::write(folder.path().join("meridian.toml"), config).expect("written");
        std::fs::write(folder.path().join("zones/example.com.toml"), zone(&pools)).expect("written");
        let clock = folder.path().join("clock");
        set_clock(&clock, "+0");
        let meridian = Meridian::start_by(clocked(&clock), folder);
        let rest = Rest::new(&meridian);
        let stream = Stream::of(&meridian, &["plain", "secure"]);
        wait(&rest, "both up", |traces| [plain, secure].iter().all(|address| traces.get(*address).is_some_and(|steps| entered(steps) == ["up"])));
        let last_check = || rest.endpoint(&format!("example.com/plain/{plain}"))["last_check"].as_u64().expect("a time");
        let now = last_check();
        for (offset, seconds) in [("+3h", 3 * 3600), ("-2d", -2 * 86_400), ("+1d", 86_400)] {
            set_clock(&clock, offset);
            // Checked by that clock, and twice more.
            let is_there = || (last_check() as i64 - now as i64 - seconds).abs() < 120;
            super::wait_until(offset, is_there);
            std::thread::sleep(Duration::from_secs(3));
            let traces = super::traces(&rest);
            assert_eq!((entered(&traces[plain]), entered(&traces[secure])), (vec!["up"], vec!["up"]), "{offset}: {traces:#?}");
        }
        set_clock(&clock, "+9d");
        let seen = wait(&rest, "expired", |traces| entered(&traces[secure]) == ["up", "suspect", "down"]);
        let why = &seen[secure].last().expect("a step").why;
        assert!(why.contains("TLS: certificate expired"), "{why}");
        set_clock(&clock, "+0");
        let seen = wait(&rest, "good again", |traces| entered(&traces[secure]) == ["up", "suspect", "down", "ramp"]);
        assert_eq!(entered(&seen[plain]), ["up"], "{seen:#?}");
        stream.finish();
    });
}
