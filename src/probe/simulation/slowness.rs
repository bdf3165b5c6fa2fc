//! Slow, but there: when an endpoint is degraded and no more, what that does to answers, and how often it is so for no reason.

use super::super::schedule::Chance;
use super::*;
use crate::health::Watch;
use crate::health::concern::Concerns;

const BEGIN: Duration = secs(3_600);
const END: Duration = secs(7_200);
/// Three checks of five have to be slow, jitter included, and each takes what it takes.
const SEEN_WITHIN: Duration = secs(36);

/// Two pools of one endpoint each; `one` is slow for an hour.
fn slow(steer: &str, extra: &str, took: Duration) -> Simulation {
    let zone = zone("", &[("one", "eu", &[at(1, 1)]), ("two", "us", &[at(1, 2)])], "");
    let zone =
        zone.replace("policy = \"failover\"\nto = [\"one\", \"two\"]", steer).replace("region = \"eu\"\n", &format!("region = \"eu\"\n{extra}"));
    let course = move |ip, now| if ip == at(1, 1) && (BEGIN..END).contains(&now) { Target::Slow(took) } else { Target::Well };
    Simulation::start(&zone, "", 1, course)
}

const WEIGHTED: &str = "policy = \"weighted\"\nto = { one = 1, two = 1 }";

/// What the engine says that it chooses from.
fn choice(simulation: &Simulation) -> (String, u32) {
    let told = simulation.driven.ask("app.example.com").steering.expect("a steered name");
    (told.choice.join("; "), told.ttl)
}

#[test]
fn a_slow_endpoint_is_degraded_and_no_answer_changes() {
    for steer in [WEIGHTED, "policy = \"failover\"\nto = [\"one\", \"two\"]", "policy = \"multivalue\"\nto = [\"one\", \"two\"]"] {
        stays_as_it_was(steer);
    }
}

fn stays_as_it_was(steer: &str) {
    let mut simulation = slow(steer, "", Duration::from_millis(900));
    simulation.run_until(BEGIN - secs(600));
    simulation.driven.publish();
    simulation.run_until(BEGIN - secs(1));
    simulation.driven.publish();
    let before = choice(&simulation);
    simulation.run_until(END - secs(1));
    assert_eq!((simulation.state(at(1, 1)), simulation.state(at(1, 2))), (State::Degraded, State::Up));
    simulation.driven.publish();
    assert_eq!(choice(&simulation), before, "addresses, weights and TTL");
    simulation.run_until(END + secs(600));
    let (began, ended) = (simulation.times(at(1, 1), State::Degraded), simulation.times(at(1, 1), State::Up));
    assert!(began.len() == 1 && began[0] > BEGIN + secs(10) && began[0] < BEGIN + SEEN_WITHIN, "{began:?}");
    assert!(ended.len() == 2 && ended[1] > END && ended[1] < END + SEEN_WITHIN, "{ended:?}");
    assert_eq!(simulation.downtime(), HashMap::new());
}

#[test]
fn degraded_weight_takes_weight_and_gives_it_back() {
    let mut simulation = slow(WEIGHTED, "degraded_weight = \"25%\"\n", Duration::from_millis(900));
    let mut look = |until: Duration| {
        simulation.run_until(until);
        simulation.driven.publish();
        let (choice, ttl) = choice(&simulation);
        (choice.split('%').next().expect("a share").trim().to_owned(), ttl)
    };
    // It is published that all has settled.
    look(BEGIN - secs(600));
    assert_eq!(look(BEGIN - secs(1)), ("50.0".to_owned(), 30));
    assert_eq!(look(BEGIN + secs(120)), ("20.0".to_owned(), 30), "a quarter beside a whole, with the maximum TTL");
    assert_eq!(look(END + secs(120)), ("50.0".to_owned(), 30));
}

#[test]
fn what_is_slow_and_then_fails_is_down_as_soon_as_anything() {
    let course = |ip, now| match () {
        () if ip != at(1, 1) || now < BEGIN => Target::Well,
        () if now < BEGIN + secs(300) => Target::Slow(Duration::from_millis(900)),
        () if now < BEGIN + secs(600) => Target::Refused,
        () => Target::Well,
    };
    let mut simulation = Simulation::start(&zone("", &[("one", "eu", &[at(1, 1), at(1, 2)])], ""), "", 1, course);
    simulation.run_until(BEGIN + secs(1_000));
    let steps: Vec<_> = simulation.changes.iter().filter(|change| change.of == at(1, 1)).map(|change| change.to).collect();
    assert_eq!(steps, [State::Up, State::Degraded, State::Suspect, State::Down, State::Ramp, State::Up]);
    let down = simulation.times(at(1, 1), State::Down)[0] - (BEGIN + secs(300));
    assert!(down < secs(16), "{down:?}");
}

/// The figures of `docs/health.md`: a check in so many is slow by chance. Three of five are then, and were not before, 6·p³·(1 − p)³ of the time.
#[test]
fn chance_degrades_next_to_nobody() {
    for (share, weeks) in [(0.01_f64, 520_u32), (0.05, 52), (0.2, 8)] {
        let (watch, interval) = (Watch::default(), secs(10));
        let (mut concerns, mut chance, checks) = (Concerns::default(), Chance(5), weeks * 7 * 8_640);
        let mut began = 0;
        for _ in 0..checks {
            let took = if chance.unit() < share { secs(1) } else { QUICK };
            let before = concerns.any();
            concerns.passed(&watch, interval, took, None, 0);
            began += u32::from(concerns.any() && !before);
        }
        let a_day = f64::from(began) / f64::from(weeks * 7);
        let formula = 6.0 * (share * (1.0 - share)).powi(3) * 8_640.0;
        assert!((0.75..1.25).contains(&(a_day / formula)), "{share}: {a_day} a day, by the formula {formula}");
    }
}
