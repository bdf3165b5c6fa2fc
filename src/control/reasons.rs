//! Reasons in virtual time: why an endpoint is down, for as long as it is not up, in words that are true.

use std::time::Duration;

use super::api::{CheckTarget, EndpointStatus, Observation};
use super::clock::SIMULATED_START_UNIX;
use super::driven::Driven;
use crate::health::concern::Validity;
use crate::health::{Failure, Outcome};

const ID: &str = "example.com/fra/192.0.2.10";

fn start(monitor: &str) -> Driven {
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[monitor.m]\ntcp = true\nport = 80\n{monitor}\n\
         [pool.fra]\nendpoints = [\"192.0.2.10\"]\nmonitor = \"m\"\n[pool.spare]\nendpoints = [\"192.0.2.99\"]\n\
         [steer.www]\npolicy = \"failover\"\nto = [\"fra\", \"spare\"]\n"
    );
    Driven::start(&[("meridian.toml", ""), ("zones/example.com.toml", &zone)])
}

/// One result of every check at this second; what is shown then.
fn observe(driven: &mut Driven, at: u64, outcome: &Outcome, certificate: Option<Validity>) -> EndpointStatus {
    driven.set(Duration::from_secs(at));
    for spec in driven.specs().iter() {
        assert!(matches!(spec.target, CheckTarget::Address(_)));
        let took = Duration::from_millis(5);
        driven
            .observe(&Observation { spec: spec.clone(), outcome: outcome.clone(), took, certificate: certificate.clone(), poor: None })
            .expect("it is wanted");
    }
    driven.tick();
    driven.publish();
    driven.endpoint(ID)
}

fn failed() -> Outcome {
    Err(Failure::Status(503))
}

#[test]
fn why_it_was_down_is_known_until_it_is_up() {
    let mut driven = start("rise = 3");
    observe(&mut driven, 0, &Ok(()), None);
    (1..4).for_each(|at| drop(observe(&mut driven, at, &failed(), None)));
    let why = |seen: &EndpointStatus| (seen.state.clone(), seen.last_error.clone(), seen.last_error_at.map(|at| at - SIMULATED_START_UNIX));
    let status = || Some("HTTP status 503".to_owned());
    assert_eq!(why(&driven.endpoint(ID)), ("down".into(), status(), Some(3)));
    for (at, state) in [(10, "down"), (20, "down"), (30, "ramp"), (40, "ramp")] {
        assert_eq!(why(&observe(&mut driven, at, &Ok(()), None)), (state.into(), status(), Some(3)), "{at}");
    }
    driven.set(Duration::from_secs(150));
    driven.tick();
    driven.publish();
    assert_eq!(why(&driven.endpoint(ID)), ("up".into(), None, None));
    // A suspicion that came to nothing is over with the check that passes.
    assert_eq!(why(&observe(&mut driven, 160, &failed(), None)), ("suspect".into(), status(), Some(160)));
    assert_eq!(why(&observe(&mut driven, 161, &Ok(()), None)), ("up".into(), None, None));
}

#[test]
fn a_fall_for_faults_now_and_then_is_called_that() {
    let mut driven = start("fall = 3");
    let mut seen = observe(&mut driven, 0, &Ok(()), None);
    let mut at = 0;
    // One check in three fails: the sixth fault on credit is one too many, and ten successes have paid one back.
    while seen.state != "down" {
        at += 1;
        assert!(at < 60, "{seen:?}");
        let outcome = if at % 3 == 0 { failed() } else { Ok(()) };
        seen = observe(&mut driven, at, &outcome, None);
    }
    assert_eq!((at, seen.faults), (21, 0));
    assert_eq!(seen.last_error.as_deref(), Some("7 of the last 20 checks failed: HTTP status 503"));
    // As long as it is down the words are those of now.
    assert_eq!(observe(&mut driven, 22, &failed(), None).last_error.as_deref(), Some("8 of the last 20 checks failed: HTTP status 503"));
    let passed = observe(&mut driven, 23, &Ok(()), None);
    assert_eq!((&*passed.state, passed.last_error.as_deref()), ("down", Some("8 of the last 20 checks failed: HTTP status 503")));
    // Failures in a row need no such words.
    let mut driven = start("fall = 3");
    observe(&mut driven, 0, &Ok(()), None);
    (1..4).for_each(|at| drop(observe(&mut driven, at, &failed(), None)));
    assert_eq!(driven.endpoint(ID).last_error.as_deref(), Some("HTTP status 503"));
}

#[test]
fn the_end_of_a_certificate_is_that_of_the_last_one_that_was_shown() {
    let mut driven = start("");
    let day = 86_400;
    let valid = |until: u64| Some(Validity { from: SIMULATED_START_UNIX - 90 * day, until, name: None });
    let (good, over) = (SIMULATED_START_UNIX + 60 * day, SIMULATED_START_UNIX - 3 * day);
    let expired = Err(Failure::Tls("certificate expired 3 days ago".into()));
    assert_eq!(observe(&mut driven, 0, &Ok(()), valid(good)).certificate_ends, Some(good));
    assert_eq!(observe(&mut driven, 1, &expired, valid(over)).certificate_ends, Some(over));
    let seen = observe(&mut driven, 2, &Err(Failure::Timeout("connect")), None);
    assert_eq!((seen.certificate_ends, seen.concerns.is_empty()), (Some(over), true), "none was shown");
    assert_eq!(observe(&mut driven, 3, &Ok(()), valid(good)).certificate_ends, Some(good));
}

#[test]
fn a_calculated_endpoint_is_as_it_is_since_it_became_so() {
    let zone = |more: &str| {
        format!(
            "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[monitor.a]\ntcp = true\nport = 80\nfall = 1\nrise = 1\n\
             [monitor.b]\ntcp = true\nport = 81\nfall = 1\nrise = 1\n[monitor.m]\nany = [\"a\", \"b\"]\n\
             [pool.fra]\nendpoints = [\"192.0.2.10\"{more}]\nmonitor = \"m\"\n[steer.www]\nuse = \"fra\"\n"
        )
    };
    let first = zone("");
    let mut driven = Driven::start(&[("meridian.toml", ""), ("zones/example.com.toml", &first)]);
    let tell = |driven: &mut Driven, at: u64, port: u16, outcome: &Outcome| {
        driven.set(Duration::from_secs(at));
        for spec in driven.specs().iter().filter(|spec| spec.monitor.port == port) {
            let took = Duration::from_millis(5);
            driven.observe(&Observation { spec: spec.clone(), outcome: outcome.clone(), took, certificate: None, poor: None }).expect("it is wanted");
        }
        driven.tick();
        driven.publish();
        let seen = driven.endpoint(ID);
        (seen.state, seen.since.map(|at| at - SIMULATED_START_UNIX))
    };
    assert_eq!(tell(&mut driven, 5, 80, &Ok(())), ("up".into(), Some(5)));
    // The other one comes, goes and comes: none of that is the endpoint's.
    for (at, outcome) in [(6, Ok(())), (20, failed()), (30, Ok(())), (200, Ok(()))] {
        assert_eq!(tell(&mut driven, at, 81, &outcome), ("up".into(), Some(5)), "{at}");
    }
    // Nor is the edit of something else.
    let second = zone(", \"192.0.2.11\"");
    driven.reload(&[("meridian.toml", ""), ("zones/example.com.toml", &second)]);
    assert_eq!(tell(&mut driven, 400, 81, &failed()), ("up".into(), Some(5)));
    assert_eq!(tell(&mut driven, 410, 80, &failed()), ("down".into(), Some(410)));
}
