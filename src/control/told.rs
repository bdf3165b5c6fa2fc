//! Reports in virtual time: when the last word is old, when it is forgotten, when nobody believes it, and what they do beside checks.

use std::time::Duration;

use super::api::{CheckTarget, Observation, Report};
use super::driven::Driven;
use crate::health::passive::Said;
use crate::health::{Failure, Outcome};

const HEAD: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n";

fn files(zone: &str) -> [(&'static str, String); 2] {
    [("meridian.toml", String::new()), ("zones/example.com.toml", format!("{HEAD}{zone}"))]
}

fn start(zone: &str) -> Driven {
    let files = files(zone);
    Driven::start(&files.each_ref().map(|(name, text)| (*name, text.as_str())))
}

fn restart(driven: Driven, zone: &str) -> Driven {
    let files = files(zone);
    driven.restart(&files.each_ref().map(|(name, text)| (*name, text.as_str())))
}

fn silent(target: &str) -> Report {
    Report { target: target.into(), state: None, successes: None, failures: None, latency_ms: None, load: None, capacity: None }
}

fn says(driven: &mut Driven, target: &str, said: Said) {
    driven.report(&[Report { state: Some(said), ..silent(target) }]);
    driven.publish();
}

/// A result of every check of these addresses.
fn observe(driven: &mut Driven, addresses: &[&str], outcome: &Outcome) {
    for spec in driven.specs().iter() {
        let CheckTarget::Address(address) = &spec.target else { continue };
        if addresses.contains(&&*address.to_string()) {
            let observation =
                Observation { spec: spec.clone(), outcome: outcome.clone(), took: Duration::from_millis(5), certificate: None, poor: None };
            driven.observe(&observation).expect("it is wanted");
        }
    }
    driven.publish();
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Lets seconds pass, one after the other; the first after which the endpoint is no more in this state.
fn leaves(driven: &mut Driven, id: &str, state: &str, seconds_of: std::ops::Range<u64>) -> Option<u64> {
    for now in seconds_of {
        driven.set(seconds(now));
        driven.tick();
        driven.publish();
        if driven.endpoint(id).state != state {
            return Some(now);
        }
    }
    None
}

const AGENT: &str = "[monitor.agent]\npush = true\nstale = \"40s\"\non_stale = \"forget\"\n\
    [pool.fra]\nendpoints = [\"192.0.2.10\"]\nmonitor = \"agent\"\nsignals = true\n[steer.www]\nuse = \"fra\"\n";
const AGENTS: &str = "example.com/fra/192.0.2.10";

#[test]
fn what_was_said_is_forgotten_to_the_second() {
    for began in 3..9 {
        let mut driven = start(AGENT);
        assert_eq!(leaves(&mut driven, AGENTS, "unknown", 0..began), None);
        driven.set(seconds(began));
        says(&mut driven, AGENTS, Said::Down);
        assert_eq!(driven.endpoint(AGENTS).state, "down");
        // Whatever else is reported makes it no younger.
        assert_eq!(leaves(&mut driven, AGENTS, "down", began..began + 30), None);
        driven.report(&[Report { load: Some(5.0), capacity: Some(10.0), ..silent(AGENTS) }]);
        driven.report(&[Report { successes: Some(500), failures: Some(0), ..silent(AGENTS) }]);
        assert_eq!(leaves(&mut driven, AGENTS, "down", began + 30..began + 60), Some(began + 40));
        // Said once more it counts once more.
        says(&mut driven, AGENTS, Said::Up);
        assert_eq!(leaves(&mut driven, AGENTS, "up", began + 41..began + 100), Some(began + 80));
    }
}

#[test]
fn a_restart_makes_what_was_said_no_younger_and_no_older() {
    let mut driven = start(AGENT);
    driven.set(seconds(10));
    says(&mut driven, AGENTS, Said::Down);
    // Reports of the same again and again are not all kept; the last is.
    for now in (12..=30).step_by(6) {
        driven.set(seconds(now));
        says(&mut driven, AGENTS, Said::Down);
    }
    let mut driven = restart(driven, AGENT);
    assert_eq!((driven.endpoint(AGENTS).state.as_str(), driven.endpoint(AGENTS).stale), ("down", true));
    assert_eq!(leaves(&mut driven, AGENTS, "down", 31..100), Some(70));
}

#[test]
fn a_verdict_is_stale_when_no_check_has_told_for_three_intervals() {
    let zone = "[monitor.web]\ntcp = true\nport = 80\ninterval = \"20s\"\ntimeout = \"4s\"\n\
        [pool.fra]\nendpoints = [\"192.0.2.10\"]\nmonitor = \"web\"\n[steer.www]\nuse = \"fra\"\n";
    let mut driven = start(zone);
    observe(&mut driven, &["192.0.2.10"], &Ok(()));
    let is_stale = |driven: &mut Driven, now: u64| {
        driven.set(seconds(now));
        // That it could not run tells nothing.
        observe(driven, &["192.0.2.10"], &Err(Failure::Internal("no file descriptors left".into())));
        driven.endpoint(AGENTS).stale
    };
    assert_eq!([20, 63, 64, 500].map(|now| is_stale(&mut driven, now)), [false, false, true, true]);
    assert_eq!(driven.endpoint(AGENTS).state, "up");
    observe(&mut driven, &["192.0.2.10"], &Ok(()));
    assert!(!is_stale(&mut driven, 520));
}

const BOTH: &str = "[region]\neu = {}\nna = {}\n[monitor.web]\ntcp = true\nport = 80\n[monitor.agent]\npush = true\n\
    [pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\nmonitor = \"web\"\n\
    [pool.iad]\nregion = \"na\"\nendpoints = [\"198.51.100.10\", \"198.51.100.11\"]\nmonitor = \"web\"\n\
    [pool.sin]\nendpoints = [\"203.0.113.10\"]\nmonitor = \"agent\"\n\
    [steer.www]\npolicy = \"failover\"\nto = [\"fra\", \"iad\", \"sin\"]\n";

#[test]
fn reports_are_not_believed_while_this_servers_own_checks_are_frozen() {
    let (all, sin) = (["192.0.2.10", "192.0.2.11", "198.51.100.10", "198.51.100.11"], "example.com/sin/203.0.113.10");
    let mut driven = start(BOTH);
    driven.set(seconds(1));
    observe(&mut driven, &all, &Ok(()));
    says(&mut driven, sin, Said::Up);
    driven.set(seconds(10));
    observe(&mut driven, &all, &Err(Failure::Timeout("connect")));
    driven.tick();
    assert!(driven.is_frozen());
    says(&mut driven, sin, Said::Down);
    assert_eq!(driven.endpoint(sin).state, "suspect");
    // What made this server doubt is over: the next word counts.
    driven.set(seconds(20));
    observe(&mut driven, &all, &Ok(()));
    driven.tick();
    assert!(!driven.is_frozen());
    driven.set(seconds(21));
    says(&mut driven, sin, Said::Down);
    assert_eq!(driven.endpoint(sin).state, "down");
}

#[test]
fn what_is_new_in_a_freeze_is_not_taken_down_either() {
    let (all, new) = (["192.0.2.10", "192.0.2.11", "198.51.100.10", "198.51.100.11"], "example.com/fra/192.0.2.12");
    let mut driven = start(BOTH);
    driven.set(seconds(1));
    observe(&mut driven, &all, &Ok(()));
    driven.set(seconds(10));
    observe(&mut driven, &all, &Err(Failure::Timeout("connect")));
    driven.tick();
    assert!(driven.is_frozen());
    let files = files(&BOTH.replace("\"192.0.2.11\"", "\"192.0.2.11\", \"192.0.2.12\""));
    driven.reload(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    for now in [11, 13] {
        driven.set(seconds(now));
        observe(&mut driven, &["192.0.2.12"], &Err(Failure::Timeout("connect")));
        assert_eq!((driven.endpoint(new).state.as_str(), driven.endpoint(new).usable), ("unknown", true), "{now}");
    }
    driven.set(seconds(20));
    observe(&mut driven, &all, &Ok(()));
    driven.tick();
    assert!(!driven.is_frozen());
    driven.set(seconds(22));
    observe(&mut driven, &["192.0.2.12"], &Err(Failure::Timeout("connect")));
    assert_eq!(driven.endpoint(new).state, "down");
}

#[test]
fn callers_have_a_say_beside_a_calculated_vote() {
    let zone = "[monitor.web]\ntcp = true\nport = 80\n[monitor.alt]\ntcp = true\nport = 81\n[monitor.front]\nany = [\"web\", \"alt\"]\n\
        [pool.fra]\nendpoints = [\"192.0.2.10\"]\nmonitor = \"front\"\nsignals = { down = \"50%\", samples = 20 }\n[steer.www]\nuse = \"fra\"\n";
    let mut driven = start(zone);
    observe(&mut driven, &["192.0.2.10"], &Ok(()));
    assert_eq!(driven.endpoint(AGENTS).state, "up");
    driven.report(&[Report { failures: Some(100), ..silent(AGENTS) }]);
    driven.publish();
    let seen = driven.endpoint(AGENTS);
    assert_eq!((seen.state.as_str(), seen.usable), ("down", false), "{seen:?}");
}

#[test]
fn what_was_reported_last_is_told_as_it_was_and_its_mean_beside_it() {
    let mut driven = start(AGENT);
    for (now, load, latency_ms) in [(1, 10.5, 100.0), (3, 30.5, 300.25)] {
        driven.set(seconds(now));
        driven.report(&[Report { load: Some(load), latency_ms: Some(latency_ms), capacity: Some(100.0), ..silent(AGENTS) }]);
        driven.publish();
    }
    let told = driven.endpoint(AGENTS).reported.expect("something");
    assert_eq!((told.load, told.latency_ms), (Some(30.5), Some(300.25)));
    assert!(told.load_smoothed.is_some_and(|mean| mean > 10.5 && mean < 30.5), "{told:?}");
    assert!(told.latency_smoothed_ms.is_some_and(|mean| mean > 100.0 && mean < 300.25), "{told:?}");
}

#[test]
fn of_several_agents_each_is_called_by_its_name_when_it_is_silent() {
    let zone = "[monitor.agent]\npush = true\nstale = \"40s\"\n[monitor.balancer]\npush = true\nstale = \"100s\"\non_stale = \"forget\"\n\
        [pool.fra]\nendpoints = [\"192.0.2.10\"]\nmonitor = [\"agent\", \"balancer\"]\n[steer.www]\nuse = \"fra\"\n";
    let mut driven = start(zone);
    says(&mut driven, AGENTS, Said::Up);
    let why = |driven: &mut Driven, now: u64| {
        driven.set(seconds(now));
        driven.tick();
        driven.publish();
        driven.endpoint(AGENTS).stale_why
    };
    assert_eq!(why(&mut driven, 39), None);
    assert_eq!(why(&mut driven, 50).as_deref(), Some("agent: nothing was reported for 50 s: what was said last holds"));
    // What is forgotten is no word any more that could be stale.
    assert_eq!(why(&mut driven, 101).as_deref(), Some("agent: nothing was reported for 101 s: what was said last holds"));
    assert_eq!(driven.endpoint(AGENTS).state, "unknown");
    says(&mut driven, AGENTS, Said::Up);
    let mut driven = restart(driven, zone);
    let kept = "kept from the last run, 9 s old: it holds until more is reported";
    assert_eq!(why(&mut driven, 110), Some(format!("agent: {kept}; balancer: {kept}, or it is 100 s old")));
}

#[test]
fn what_an_agent_said_before_a_restart_grows_old_in_words_that_are_true() {
    let zone = AGENT.replace("on_stale = \"forget\"\n", "");
    let mut driven = start(&zone);
    says(&mut driven, AGENTS, Said::Down);
    driven.set(seconds(10));
    let mut driven = restart(driven, &zone);
    for (now, words) in [
        (10, "kept from the last run, 10 s old: it holds until more is reported"),
        (39, "kept from the last run, 39 s old: it holds until more is reported"),
        (90, "nothing was reported for 90 s: what was said last holds"),
    ] {
        driven.set(seconds(now));
        driven.tick();
        driven.publish();
        let seen = driven.endpoint(AGENTS);
        assert_eq!((seen.state.as_str(), seen.stale_why.as_deref()), ("down", Some(words)), "{now}");
    }
}
