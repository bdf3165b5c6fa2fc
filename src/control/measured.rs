//! Queries of Prometheus in virtual time: one that is the same for many endpoints is many, however few checks that makes.

use std::time::Duration;

use super::api::{CheckTarget, Observation};
use super::driven::Driven;
use crate::health::{Failure, Outcome};
use crate::policy::model::MonitorKind;

const ALL: [&str; 4] = ["example.com/fra/192.0.2.10", "example.com/fra/192.0.2.11", "example.com/iad/198.51.100.10", "example.com/iad/198.51.100.11"];

/// Two regions of two, with these monitors.
fn start(fra: &str, iad: &str, fall: u8) -> Driven {
    let query = |name: &str, query: &str| {
        format!(
            "[monitor.{name}]\nprometheus = {{ url = \"http://192.0.2.90:9090\", query = '{query}' }}\nexpect = {{ value = \"< 1\" }}\nfall = {fall}\n"
        )
    };
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[region.eu]\n[region.us]\n{}{}\
         [pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\nmonitor = {fra}\n\
         [pool.iad]\nregion = \"us\"\nendpoints = [\"198.51.100.10\", \"198.51.100.11\"]\nmonitor = {iad}\n\
         [steer.www]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\n",
        query("whole", "failing"),
        query("each", "failing{instance=\"$address\"}")
    );
    Driven::start(&[("meridian.toml", ""), ("zones/example.com.toml", &zone)])
}

/// A result of every query that is the same for all, or of every other one, after so many seconds; the states then.
fn observe(driven: &mut Driven, at: u64, whole: Option<&Outcome>, each: Option<&Outcome>) -> [String; 4] {
    driven.set(Duration::from_secs(at));
    for spec in driven.specs().iter() {
        let MonitorKind::Prometheus(_) = spec.monitor.kind else { panic!("{spec:?}") };
        let outcome = if matches!(spec.target, CheckTarget::Address(_)) { each } else { whole };
        let Some(outcome) = outcome.cloned() else { continue };
        let observation = Observation { spec: spec.clone(), outcome, took: Duration::from_millis(5), certificate: None, poor: None };
        driven.observe(&observation).expect("it is wanted");
    }
    driven.publish();
    let states = ALL.map(|id| driven.endpoint(id).state);
    driven.tick();
    driven.publish();
    states
}

fn failed() -> Outcome {
    Err(Failure::Answer("found 2, expected < 1".into()))
}

fn doubted(driven: &Driven) -> Option<String> {
    driven.status().degraded.into_iter().find(|why| why.contains("queries of Prometheus"))
}

#[test]
fn one_query_cannot_withdraw_everything_in_a_moment() {
    for (fra, iad, fall) in [("\"whole\"", "\"whole\"", 3), ("\"whole\"", "\"whole\"", 1), ("[\"whole\", \"each\"]", "[\"whole\", \"each\"]", 1)] {
        let mut driven = start(fra, iad, fall);
        assert_eq!(observe(&mut driven, 1, Some(&Ok(())), Some(&Ok(()))), ["up"; 4]);
        for at in (10..130).step_by(10) {
            assert_eq!(observe(&mut driven, at, Some(&failed()), Some(&Ok(()))), ["suspect"; 4], "{fra} {fall} {at}");
        }
        let words =
            "queries of Prometheus take nothing down: queries of Prometheus say of 4 of 4 endpoints at once that they fail, in several places";
        assert!(doubted(&driven).is_some_and(|why| why.starts_with(words)), "{:?}", doubted(&driven));
        // It has lasted too long to be a mistake.
        observe(&mut driven, 131, None, Some(&Ok(())));
        assert_eq!(
            (observe(&mut driven, 140, Some(&failed()), Some(&Ok(()))), doubted(&driven)),
            (["down"; 4].map(str::to_owned), None),
            "{fra} {fall}"
        );
        // And one that says that all is well again.
        let mut driven = start(fra, iad, fall);
        observe(&mut driven, 1, Some(&Ok(())), Some(&Ok(())));
        observe(&mut driven, 10, Some(&failed()), Some(&Ok(())));
        assert!(doubted(&driven).is_some());
        assert_eq!((observe(&mut driven, 20, Some(&Ok(())), Some(&Ok(()))), doubted(&driven)), (["up"; 4].map(str::to_owned), None));
    }
}

#[test]
fn a_query_of_one_region_is_believed() {
    let mut driven = start("\"whole\"", "\"each\"", 2);
    assert_eq!(observe(&mut driven, 1, Some(&Ok(())), Some(&Ok(()))), ["up"; 4]);
    observe(&mut driven, 10, Some(&failed()), None);
    assert_eq!((observe(&mut driven, 20, Some(&failed()), None), doubted(&driven)), (["down", "down", "up", "up"].map(str::to_owned), None));
}

#[test]
fn what_comes_to_no_verdict_tells_nothing_of_why_it_fell() {
    let mut driven = start("\"whole\"", "\"each\"", 1);
    observe(&mut driven, 1, Some(&Ok(())), Some(&Ok(())));
    observe(&mut driven, 10, Some(&failed()), None);
    let why = |driven: &Driven| driven.endpoint(ALL[0]).last_error;
    assert_eq!(why(&driven).as_deref(), Some("answer: found 2, expected < 1"));
    observe(&mut driven, 20, Some(&Err(Failure::NoVerdict("Prometheus: connect: connection refused".into()))), None);
    assert_eq!(why(&driven).as_deref(), Some("answer: found 2, expected < 1; now no verdict: Prometheus: connect: connection refused"));
    observe(&mut driven, 30, Some(&Err(Failure::Answer("found 3, expected < 1".into()))), None);
    assert_eq!(why(&driven).as_deref(), Some("answer: found 3, expected < 1"));
    // Where nothing is wrong but that, it stands alone, and is over with the next word.
    observe(&mut driven, 31, None, Some(&Err(Failure::NoVerdict("Prometheus: NaN".into()))));
    assert_eq!(driven.endpoint(ALL[2]).last_error.as_deref(), Some("no verdict: Prometheus: NaN"));
    observe(&mut driven, 32, None, Some(&Ok(())));
    assert_eq!(driven.endpoint(ALL[2]).last_error, None);
}
