//! Safety rules bind checks: what fails beyond a limit is a last resort, never served where something else is up, and loud.

use super::*;
use crate::control::api::{NewOverlay, Refusal, Status};

/// Regions fail one after the other, far enough apart to be no crowd, and come back at the end.
const FIRST: u64 = 100;
const APART: u64 = 300;
const END: u64 = 1_600;

/// Nothing is in doubt here.
const SETTINGS: &str = "[health]\nfreeze = false\n";

fn die_in_turn(ip: IpAddr, now: Duration) -> Target {
    let IpAddr::V4(v4) = ip else { return Target::Well };
    let net = u64::from(v4.octets()[1]);
    let dies = FIRST + (net - 1) * APART;
    if (dies..END).contains(&now.as_secs()) { Target::Refused } else { Target::Well }
}

/// Three regions of two, `app` prefers them in order, under these safety rules.
fn limited(safety: &str, steer: &str) -> Simulation {
    let all: Vec<Vec<IpAddr>> = (1..=3).map(|net| vec![at(net, 1), at(net, 2)]).collect();
    let zone = zone("", &[("one", "eu", &all[0]), ("two", "us", &all[1]), ("three", "ap", &all[2])], steer);
    Simulation::start(&format!("{zone}[safety]\n{safety}\n"), SETTINGS, 1, die_in_turn).watch("app.example.com")
}

/// What is kept as a last resort, by address.
fn kept(status: &Status) -> Vec<IpAddr> {
    let endpoints = status.pools.iter().flat_map(|pool| &pool.endpoints);
    let mut kept: Vec<IpAddr> = endpoints.filter(|one| one.kept_in.is_some()).map(|one| one.target.parse().expect("an address")).collect();
    kept.sort();
    kept
}

fn answer(simulation: &Simulation) -> Vec<IpAddr> {
    simulation.answers.last().expect("an answer").1.clone()
}

#[test]
fn what_fails_beyond_a_limit_is_a_last_resort() {
    let mut simulation = limited("max_withdrawn = \"50%\"", "all_down = \"nodata\"");
    simulation.run_until(secs(FIRST + APART - 1));
    assert_eq!((kept(&simulation.driven.status()), answer(&simulation)), (vec![], vec![at(2, 1), at(2, 2)]), "two of six may go");
    // The second region: one may go, the other is kept, but nobody is sent there while the third is up.
    simulation.run_until(secs(FIRST + 2 * APART - 1));
    let status = simulation.driven.status();
    let only = kept(&status);
    assert!(matches!(only[..], [one] if one == at(2, 1) || one == at(2, 2)), "{only:?}");
    assert_eq!(answer(&simulation), [at(3, 1), at(3, 2)]);
    assert!(status.degraded.iter().any(|why| why.contains("max_withdrawn") && why.contains(&only[0].to_string())), "{:?}", status.degraded);
    let pool = |status: &Status, name: &str| status.pools.iter().find(|pool| pool.id.ends_with(name)).map(|pool| (pool.health.clone(), pool.usable));
    assert_eq!(pool(&status, "/two"), Some(("critical".into(), 0)), "it counts for nothing that looks for health");
    // The third: both are kept. With nothing else left the answer is what is kept, in the order of the policy, not an empty one.
    simulation.run_until(secs(FIRST + 3 * APART - 1));
    assert_eq!(kept(&simulation.driven.status()), [only[0], at(3, 1), at(3, 2)]);
    assert_eq!(answer(&simulation), only);
    assert_eq!(simulation.driven.ask("app.example.com").steering.map(|steering| (steering.pass, steering.ttl)), Some(("last resort".into(), 10)));
    // All is well again.
    simulation.run_until(secs(END + 200));
    let status = simulation.driven.status();
    assert_eq!((kept(&status), answer(&simulation)), (vec![], vec![at(1, 1), at(1, 2)]));
    assert!(!status.degraded.iter().any(|why| why.contains("safety")), "{:?}", status.degraded);
}

#[test]
fn what_failed_first_goes_first_when_there_is_room_again() {
    let mut simulation = limited("max_withdrawn = \"50%\"", "");
    // One of the first region comes back.
    let back = |ip: IpAddr, now: Duration| if ip == at(1, 1) && now >= secs(800) { Target::Well } else { die_in_turn(ip, now) };
    simulation.course = Box::new(back);
    simulation.run_until(secs(799));
    let before = kept(&simulation.driven.status());
    assert_eq!(before.len(), 3);
    simulation.run_until(secs(860));
    assert_eq!(kept(&simulation.driven.status()), [at(3, 1), at(3, 2)], "that of the second region went");
    assert_eq!(answer(&simulation), [at(1, 1)]);
}

#[test]
fn sets_and_windows_bind_checks_too() {
    let mut simulation = limited("min_in_rotation.web = { of = [\"one\", \"two\", \"region:ap\"], at_least = 2 }", "");
    simulation.run_until(secs(FIRST + 2 * APART - 1));
    assert_eq!(kept(&simulation.driven.status()).len(), 1, "the last of the second pool");
    assert_eq!(answer(&simulation), [at(3, 1), at(3, 2)]);
    // Three withdrawals in ten minutes: the fourth waits until the first is forgotten.
    let mut simulation = limited("max_changes = { count = 3, per = \"10m\" }", "");
    simulation.run_until(secs(FIRST + APART + 60));
    assert_eq!(kept(&simulation.driven.status()).len(), 1);
    simulation.run_until(secs(FIRST + APART + 330));
    let kept = kept(&simulation.driven.status());
    assert!(matches!(kept[..], [one] if [at(3, 1), at(3, 2)].contains(&one)), "the first two are forgotten, so two more went: {kept:?}");
}

#[test]
fn windows_count_what_a_clock_that_was_ahead_has_counted_as_of_now() {
    let mut simulation = limited("max_changes = { count = 3, per = \"10m\" }", "");
    simulation.driven.set_clock(86_400);
    simulation.run_until(secs(FIRST + 60));
    simulation.driven.set_clock(0);
    simulation.run_until(secs(FIRST + APART + 60));
    assert_eq!(kept(&simulation.driven.status()).len(), 1);
    // The first two went when the clock was set right, as far as anybody knows.
    simulation.run_until(secs(FIRST + 60 + 630));
    let kept = kept(&simulation.driven.status());
    assert!(matches!(kept[..], [one] if [at(3, 1), at(3, 2)].contains(&one)), "the first two are forgotten, so two more went: {kept:?}");
}

#[test]
fn limits_bind_operators_alone_where_they_are_told_to() {
    let mut simulation = limited("max_withdrawn = \"50%\"\nbind_checks = false", "");
    simulation.run_until(secs(FIRST + 3 * APART - 1));
    assert_eq!(kept(&simulation.driven.status()), Vec::<IpAddr>::new());
    assert_eq!(answer(&simulation), [at(1, 1), at(1, 2)], "all down: as if all were up");
}

#[test]
fn rules_that_nobody_stated_leave_what_is_down_to_all_down() {
    // `last_healthy` and `min_capacity` hold without any configuration.
    let mut simulation = limited("", "all_down = \"nodata\"");
    simulation.run_until(secs(FIRST + 3 * APART - 1));
    assert_eq!(kept(&simulation.driven.status()), Vec::<IpAddr>::new());
    assert_eq!(answer(&simulation), Vec::<IpAddr>::new());
}

#[test]
fn operators_take_out_what_is_kept_past_the_rule() {
    let mut simulation = limited("max_withdrawn = \"50%\"", "");
    simulation.run_until(secs(FIRST + 2 * APART - 1));
    let only = kept(&simulation.driven.status())[0];
    let lay = |break_glass: bool| -> NewOverlay {
        serde_json::from_value(serde_json::json!({
            "target": format!("example.com/two/{only}"), "set": { "state": "down" }, "reason": "it is dead", "break_glass": break_glass
        }))
        .expect("an overlay")
    };
    let refused = simulation.driven.lay(lay(false));
    assert!(matches!(&refused, Err(Refusal::Safety { broken }) if broken[0].rule.ends_with("max_withdrawn")), "{refused:?}");
    // Past the rule; what stops it then is that simulations have no disk.
    let passed = simulation.driven.lay(lay(true));
    assert!(matches!(passed, Err(Refusal::Store { .. })), "{passed:?}");
}

/// A restart at the height of it.
#[test]
fn a_restart_in_a_disaster_keeps_the_last_resort() {
    let mut simulation = limited("max_withdrawn = \"50%\"", "all_down = \"nodata\"");
    simulation.run_until(secs(FIRST + 3 * APART - 1));
    let (before, kept_before) = (answer(&simulation), kept(&simulation.driven.status()));
    assert_eq!((before.len(), kept_before.len()), (1, 3));
    for _ in 0..2 {
        simulation = simulation.restart();
        assert_eq!((answer(&simulation), kept(&simulation.driven.status())), (before.clone(), kept_before.clone()), "at once");
        simulation.run_until(simulation.now + secs(60));
        assert_eq!((answer(&simulation), kept(&simulation.driven.status())), (before.clone(), kept_before.clone()), "and later");
    }
    assert!(simulation.driven.status().degraded.iter().any(|why| why.contains("max_withdrawn")));
    // Nothing of it is left when all is well.
    simulation.run_until(secs(END + 200));
    assert_eq!((kept(&simulation.driven.status()), answer(&simulation)), (vec![], vec![at(1, 1), at(1, 2)]));
    assert_eq!(kept(&simulation.restart().driven.status()), Vec::<IpAddr>::new());
}

#[test]
fn a_pool_in_panic_serves_whole_and_what_comes_back_in_it_needs_no_ramp() {
    let all: Vec<IpAddr> = (1..=4).map(|host| at(1, host)).collect();
    let zone = zone("", &[("one", "eu", &all), ("two", "us", &[at(2, 1)])], "").replace("[pool.one]\n", "[pool.one]\npanic = \"50%\"\n");
    // Three die; the second comes back, then the others.
    let course = |ip: IpAddr, now: Duration| {
        let dead = match ip {
            ip if ip == at(1, 2) => 100..400,
            ip if ip == at(1, 3) || ip == at(1, 4) => 100..700,
            _ => 0..0,
        };
        if dead.contains(&now.as_secs()) { Target::Refused } else { Target::Well }
    };
    let mut simulation = Simulation::start(&zone, "[health]\nfreeze = false\n", 1, course).watch("app.example.com");
    simulation.run_until(secs(300));
    assert_eq!([2, 3, 4].map(|host| simulation.state(at(1, host))), [State::Down; 3]);
    let (all_dead, panics) = (simulation.driven.status().pools[0].panic, simulation.driven.status().degraded);
    assert!(all_dead && panics.iter().any(|why| why.starts_with("example.com/one is in panic: 1 of 4 endpoints usable")), "{panics:?}");
    assert_eq!(answer(&simulation), all, "at no time fewer than it takes");
    simulation.run_until(secs(500));
    assert_eq!(simulation.times(at(1, 2), State::Ramp), Vec::<Duration>::new(), "it was handed out all the while");
    assert_eq!((simulation.state(at(1, 2)), answer(&simulation)), (State::Up, vec![at(1, 1), at(1, 2)]), "two of four are enough");
    assert!(!simulation.driven.status().degraded.iter().any(|why| why.contains("panic")), "{:?}", simulation.driven.status().degraded);
    simulation.run_until(secs(1_000));
    assert_eq!(simulation.times(at(1, 3), State::Ramp).len(), 1, "it was out");
    assert_eq!(answer(&simulation), all);
}

#[test]
fn a_restart_forgets_no_withdrawal_that_max_changes_counts() {
    let mut simulation = limited("max_changes = { count = 3, per = \"10m\" }", "");
    simulation.run_until(secs(FIRST + APART + 60));
    let only = kept(&simulation.driven.status());
    assert_eq!(only.len(), 1);
    let mut simulation = simulation.restart();
    simulation.run_until(simulation.now + secs(60));
    assert_eq!(kept(&simulation.driven.status()), only);
}

#[test]
fn who_passes_is_not_kept_down_for_its_falls_while_what_fails_is_kept_in() {
    // The first region fails three times within four minutes and is well then: its penalty keeps it down for minutes. Meanwhile one of the second fails.
    let course = |ip: IpAddr, now: Duration| match (ip, now.as_secs()) {
        (ip, 100..=140 | 190..=230 | 280..=320) if ip == at(1, 1) || ip == at(1, 2) => Target::Refused,
        (ip, 100..=140 | 190..=230 | 280..=320 | 400..=1_000) if ip == at(2, 1) => Target::Refused,
        (ip, 400..=1_000) if ip == at(2, 2) => Target::Refused,
        _ => Target::Well,
    };
    let passing = |simulation: &Simulation| [at(1, 1), at(1, 2)].map(|ip| simulation.state(ip));
    let run = |safety: &str| {
        let mut simulation = limited(safety, "");
        simulation.course = Box::new(course);
        simulation.run_until(secs(395));
        assert_eq!(passing(&simulation), [State::Down; 2], "they pass, and are kept down");
        simulation.run_until(secs(500));
        simulation
    };
    // Without a limit nothing needs them: the third region serves.
    let simulation = run("max_withdrawn = \"90%\"");
    assert_eq!((passing(&simulation), answer(&simulation)), ([State::Down; 2], vec![at(3, 1), at(3, 2)]));
    // With one that has no room for another, as much of what passes comes back as is needed to let go what fails.
    let simulation = run("max_withdrawn = \"50%\"");
    let mut states = passing(&simulation);
    states.sort();
    assert_eq!((kept(&simulation.driven.status()), states), (vec![], [State::Down, State::Ramp]));
    let back = answer(&simulation);
    assert!(matches!(back[..], [one] if simulation.state(one) == State::Ramp), "{back:?}");
}
