//! What is said once is obeyed, be it later, in virtual time: after a freeze, over a restart, at the end of a penalty, when it is needed. And what has no
//! vote has none in what is doubted.

use std::time::Duration;

use super::api::{CheckTarget, Observation, Report};
use super::clock::SIMULATED_START_UNIX;
use super::driven::Driven;
use crate::health::passive::Said;
use crate::health::{Failure, Outcome};
use crate::policy::model::MonitorKind;

const HEAD: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n";

/// Two places with two endpoints each, whose agents report.
const TWO: &str = "[monitor.agent]\npush = true\n\
    [pool.n1]\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\nmonitor = \"agent\"\n\
    [pool.n2]\nendpoints = [\"198.51.100.10\", \"198.51.100.11\"]\nmonitor = \"agent\"\n\
    [steer.www]\npolicy = \"failover\"\nto = [\"n1\", \"n2\"]\nall_down = \"nodata\"\n";
const FOUR: [&str; 4] = ["example.com/n1/192.0.2.10", "example.com/n1/192.0.2.11", "example.com/n2/198.51.100.10", "example.com/n2/198.51.100.11"];

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn files(config: &str, zone: &str) -> [(&'static str, String); 2] {
    [("meridian.toml", config.to_owned()), ("zones/example.com.toml", format!("{HEAD}{zone}"))]
}

fn start(config: &str, zone: &str) -> Driven {
    let files = files(config, zone);
    Driven::start(&files.each_ref().map(|(name, text)| (*name, text.as_str())))
}

fn restart(driven: Driven, config: &str, zone: &str) -> Driven {
    let files = files(config, zone);
    driven.restart(&files.each_ref().map(|(name, text)| (*name, text.as_str())))
}

fn says(driven: &mut Driven, targets: &[&str], said: Said) {
    for target in targets {
        let report =
            Report { target: (*target).into(), state: Some(said), successes: None, failures: None, latency_ms: None, load: None, capacity: None };
        driven.report(&[report]);
    }
    driven.publish();
}

/// A second goes by.
fn pass(driven: &mut Driven, now: u64) {
    driven.set(seconds(now));
    driven.tick();
    driven.publish();
}

fn states(driven: &Driven) -> [String; 4] {
    FOUR.map(|id| driven.endpoint(id).state)
}

/// The first of these seconds after which the endpoint is no more in this state.
fn leaves(driven: &mut Driven, id: &str, state: &str, seconds_of: std::ops::Range<u64>) -> Option<u64> {
    seconds_of.into_iter().find(|now| {
        pass(driven, *now);
        driven.endpoint(id).state != state
    })
}

#[test]
fn what_is_said_once_in_a_freeze_is_believed_at_its_end() {
    let mut driven = start("", TWO);
    says(&mut driven, &FOUR, Said::Up);
    driven.set(seconds(10));
    says(&mut driven, &["example.com/n1", "example.com/n2"], Said::Down);
    pass(&mut driven, 11);
    assert_eq!(states(&driven), ["suspect"; 4]);
    let health = driven.status().health;
    assert!(health.frozen_since.is_some() && health.frozen_why.is_some_and(|why| why.contains("endpoints are reported to fail")));
    // One of them is well after all.
    says(&mut driven, &FOUR[..1], Said::Up);
    assert_eq!(leaves(&mut driven, FOUR[1], "suspect", 12..200), Some(130));
    assert_eq!(states(&driven), ["up", "down", "down", "down"]);
    assert_eq!(driven.endpoint(FOUR[1]).last_error.as_deref(), Some("reported: down, by meridian"));
    assert_eq!(driven.status().health.frozen_since, None);
    let driven = restart(driven, "", TWO);
    assert_eq!(states(&driven), ["up", "down", "down", "down"]);
}

#[test]
fn a_restart_in_a_freeze_forgets_no_word() {
    let mut driven = start("", TWO);
    says(&mut driven, &FOUR, Said::Up);
    driven.set(seconds(10));
    says(&mut driven, &["example.com/n1", "example.com/n2"], Said::Down);
    pass(&mut driven, 20);
    let mut driven = restart(driven, "", TWO);
    assert_eq!(states(&driven), ["suspect"; 4], "in service, for it is doubted still");
    let fell = leaves(&mut driven, FOUR[0], "suspect", 21..300).expect("they fall");
    assert!((130..=142).contains(&fell), "{fell}");
    assert_eq!(states(&driven), ["down"; 4]);
    // Several reports in a row are as many after it.
    let thrice = TWO.replace("push = true\n", "push = true\nfall = 3\n");
    let mut driven = start("", &thrice);
    says(&mut driven, &FOUR, Said::Up);
    (0..3).for_each(|_| says(&mut driven, &["example.com/n1", "example.com/n2"], Said::Down));
    says(&mut driven, &FOUR[..1], Said::Up);
    says(&mut driven, &FOUR[..1], Said::Down);
    let fell = leaves(&mut driven, FOUR[1], "suspect", 1..300).expect("it falls");
    assert!((119..=123).contains(&fell), "{fell}");
    assert_eq!(states(&driven), ["suspect", "down", "down", "down"], "one report is none of three");
}

#[test]
fn who_drains_is_out_at_once_whatever_is_doubted() {
    let mut driven = start("", TWO);
    says(&mut driven, &FOUR, Said::Up);
    driven.set(seconds(10));
    says(&mut driven, &FOUR[..3], Said::Down);
    pass(&mut driven, 11);
    assert_eq!(states(&driven), ["suspect", "suspect", "suspect", "up"]);
    says(&mut driven, &[FOUR[0], FOUR[3]], Said::Draining);
    assert_eq!(states(&driven), ["down", "suspect", "suspect", "down"]);
    says(&mut driven, &FOUR[1..3], Said::Up);
    pass(&mut driven, 12);
    let mut driven = restart(driven, "", TWO);
    pass(&mut driven, 500);
    assert_eq!(states(&driven), ["down", "up", "up", "down"]);
    // All of them at once is no failure of anybody: nothing is frozen by it.
    says(&mut driven, &FOUR, Said::Draining);
    pass(&mut driven, 501);
    assert_eq!((states(&driven), driven.status().health.frozen_since), (["down"; 4].map(String::from), None));
}

#[test]
fn who_fell_often_comes_back_by_itself_and_sooner_where_it_is_needed() {
    let mut driven = start("", TWO);
    says(&mut driven, &FOUR, Said::Up);
    let fall = |driven: &mut Driven| {
        for now in [40, 80, 120] {
            driven.set(seconds(now));
            says(driven, &FOUR[..2], Said::Down);
            driven.set(seconds(now + 5));
            says(driven, &FOUR[..2], Said::Up);
        }
    };
    fall(&mut driven);
    assert_eq!(states(&driven), ["down", "down", "up", "up"]);
    let until = driven.endpoint(FOUR[0]).suppressed_until.expect("it is kept down") - SIMULATED_START_UNIX;
    // The word is kept over a restart, and nothing more is said.
    pass(&mut driven, 130);
    let mut driven = restart(driven, "", TWO);
    let back = leaves(&mut driven, FOUR[0], "down", 131..until + 20).expect("it comes back");
    assert!(back.abs_diff(until) <= 2, "{back}, not {until}");
    assert_eq!((states(&driven)[0].as_str(), driven.endpoint(FOUR[0]).suppressed_until), ("ramp", None));
    // Who says nothing of being up stays down, and is not called back.
    let mut driven = start("", TWO);
    says(&mut driven, &FOUR, Said::Up);
    fall(&mut driven);
    says(&mut driven, &FOUR[..1], Said::Draining);
    pass(&mut driven, 200);
    says(&mut driven, &FOUR[2..], Said::Down);
    pass(&mut driven, 201);
    assert_eq!((states(&driven)[0].as_str(), states(&driven)[1].as_str()), ("down", "ramp"), "the last that says that it is up is needed");
    assert_eq!(driven.ask("www.example.com").answer.len(), 1);
    pass(&mut driven, 2_000);
    assert_eq!((states(&driven)[0].as_str(), driven.endpoint(FOUR[0]).suppressed_until), ("down", None));
}

const ADVISED: &str = "[region]\neu = {}\nna = {}\n[monitor.web]\ntcp = true\nport = 80\n[monitor.deep]\ntcp = true\nport = 81\nadvisory = true\n\
    [pool.n1]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\nmonitor = [\"web\", \"deep\"]\n\
    [pool.n2]\nregion = \"na\"\nendpoints = [\"198.51.100.10\", \"198.51.100.11\"]\nmonitor = [\"web\", \"deep\"]\n\
    [steer.www]\npolicy = \"failover\"\nto = [\"n1\", \"n2\"]\n";

/// A result of every check to this port, of pools with this beginning of an address.
fn observe(driven: &mut Driven, port: u16, of: &str, outcome: &Outcome) {
    let is_meant = |target: &CheckTarget| matches!(target, CheckTarget::Address(address) if address.to_string().starts_with(of));
    let specs = driven.specs();
    for spec in specs.iter().filter(|spec| spec.monitor.port == port && is_meant(&spec.target)) {
        let observation = Observation { spec: spec.clone(), outcome: outcome.clone(), took: Duration::ZERO, certificate: None, poor: None };
        driven.observe(&observation).expect("it is wanted");
    }
    driven.publish();
}

#[test]
fn what_has_no_vote_neither_freezes_nor_keeps_from_freezing() {
    let failed = Err(Failure::Status(500));
    let mut driven = start("", ADVISED);
    for port in [80, 81] {
        observe(&mut driven, port, "", &Ok(()));
    }
    // A broken page that only advises, everywhere; and then a pool that is dead in earnest.
    driven.set(seconds(10));
    observe(&mut driven, 81, "", &failed);
    pass(&mut driven, 11);
    assert!(!driven.is_frozen());
    for now in [20, 22, 24] {
        driven.set(seconds(now));
        observe(&mut driven, 80, "192.0.2", &failed);
        pass(&mut driven, now);
    }
    assert_eq!((driven.is_frozen(), states(&driven)), (false, ["down", "down", "up", "up"].map(String::from)));
    // And all that votes fails while what advises passes.
    let mut driven = start("", ADVISED);
    for port in [80, 81] {
        observe(&mut driven, port, "", &Ok(()));
    }
    driven.set(seconds(10));
    observe(&mut driven, 80, "192.0.2", &failed);
    observe(&mut driven, 80, "198.51.100.10", &failed);
    pass(&mut driven, 11);
    assert!(driven.is_frozen());
    assert!(driven.status().health.frozen_why.is_some_and(|why| why.starts_with("3 of 4 checks")));
}

#[test]
fn defaults_of_checks_are_none_of_agents_nor_of_urls() {
    let zone = "[monitor.agent]\npush = true\n[monitor.load]\nprometheus = { url = \"http://192.0.2.9:9090\", query = \"up\" }\nexpect = { value = \"< 1\" }\n\
        [monitor.web]\ntcp = true\n[pool.n1]\nendpoints = [\"192.0.2.10\"]\nmonitor = [\"agent\", \"load\", \"web\"]\n[steer.www]\nuse = \"n1\"\n";
    let mut driven = start("[defaults.monitor]\nport = 8080\nhost = \"app.example.com\"\nfall = 3\nrise = 3\n", zone);
    let ports = |wanted: fn(&MonitorKind) -> bool, driven: &Driven| {
        driven.specs().iter().find(|spec| wanted(&spec.monitor.kind)).map(|spec| spec.monitor.port)
    };
    assert_eq!(ports(|kind| matches!(kind, MonitorKind::Prometheus(asked) if asked.host == "192.0.2.9"), &driven), Some(9090));
    assert_eq!(ports(|kind| matches!(kind, MonitorKind::Tcp(_)), &driven), Some(8080));
    says(&mut driven, &FOUR[..1], Said::Up);
    says(&mut driven, &FOUR[..1], Said::Down);
    assert_eq!(driven.endpoint(FOUR[0]).state, "down", "after one report");
}

#[test]
fn the_ttl_comes_back_from_the_recovery_on_and_not_from_the_fall() {
    let zone = "[monitor.web]\ntcp = true\nport = 80\n[pool.n1]\nendpoints = [\"192.0.2.10\"]\nmonitor = \"web\"\n\
        [pool.n2]\nendpoints = [\"198.51.100.10\"]\nmonitor = \"web\"\n\
        [steer.www]\npolicy = \"failover\"\nto = [\"n1\", \"n2\"]\nttl = { max = 30, min = 3 }\n";
    let mut driven = start("[health]\nfreeze = false\n", zone);
    observe(&mut driven, 80, "", &Ok(()));
    let ttl = |driven: &Driven| driven.ask("www.example.com").steering.map(|steering| steering.ttl);
    pass(&mut driven, 100);
    assert_eq!(ttl(&driven), Some(30));
    for now in [110, 112, 114] {
        driven.set(seconds(now));
        observe(&mut driven, 80, "", &Err(Failure::Timeout("connect")));
    }
    pass(&mut driven, 140);
    assert_eq!(ttl(&driven), Some(3), "all is down");
    for now in [150, 160, 170] {
        driven.set(seconds(now));
        observe(&mut driven, 80, "192.0.2", &Ok(()));
    }
    assert_eq!((driven.endpoint(FOUR[0]).state.as_str(), ttl(&driven)), ("up", Some(3)));
    for (now, expected) in [(200, 16), (230, 30)] {
        pass(&mut driven, now);
        assert!(ttl(&driven).is_some_and(|ttl| ttl.abs_diff(expected) <= 1), "{now}: {:?}", ttl(&driven));
    }
}
