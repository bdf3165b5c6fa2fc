//! Doubt: what is withdrawn, and when, while this server's own network is gone, while others' networks are, and when everything is. Each for many
//! seeds, since it depends on when checks happen to run.

use super::*;

/// Seeds of each scenario.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=25;
/// When a scenario begins.
const BEGIN: Duration = secs(100);
/// Worst detection of silence with the default: 11 s to the next check, jitter included, three timeouts.
const WORST: Duration = secs(20);
/// `[health] freeze` by default.
const FREEZE: Duration = secs(120);
/// `rise` checks, jitter included.
const BACK: Duration = secs(34);

const REFERENCES: &str = "[health]\nreferences = [\"192.0.2.1:53\", \"192.0.2.2:443\"]\n";

/// Three regions of two endpoints each; `app` prefers them in order.
fn regions(steer: &str) -> String {
    let all: Vec<Vec<IpAddr>> = (1..=3).map(region).collect();
    zone("", &[("one", "eu", &all[0]), ("two", "us", &all[1]), ("three", "ap", &all[2])], steer)
}

fn region(net: u8) -> Vec<IpAddr> {
    vec![at(net, 1), at(net, 2)]
}

fn net(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) if ip.octets()[0] == 10 => ip.octets()[1],
        _ => 0,
    }
}

fn run(settings: &str, steer: &str, seed: u64, until: Duration, course: impl Fn(IpAddr, Duration) -> Target + 'static) -> Simulation {
    let mut simulation = Simulation::start(&regions(steer), settings, seed, course).watch("app.example.com");
    simulation.run_until(until);
    simulation
}

/// Everything, references too, is like this from the beginning for so long.
fn cut(how: Target, lasts: Duration) -> impl Fn(IpAddr, Duration) -> Target {
    move |_, now| if now >= BEGIN && now < BEGIN + lasts { how } else { Target::Well }
}

/// These regions are gone from the beginning on.
fn dead(nets: &'static [u8]) -> impl Fn(IpAddr, Duration) -> Target {
    move |ip, now| if now >= BEGIN && nets.contains(&net(ip)) { Target::Blackholed } else { Target::Well }
}

/// When the answer was for the first time this.
fn answered(simulation: &Simulation, wanted: &[IpAddr]) -> Option<Duration> {
    simulation.answers.iter().find(|(at, found)| *at >= BEGIN && found == wanted).map(|(at, _)| *at)
}

fn all_are(simulation: &Simulation, state: State) -> bool {
    simulation.states.iter().all(|(_, found)| *found == state)
}

#[test]
fn a_cut_uplink_withdraws_nothing_where_references_are_known() {
    for (seed, lasts) in SEEDS.flat_map(|seed| [5, 30, 90, 119].map(|lasts| (seed, secs(lasts)))) {
        let simulation = run(REFERENCES, "", seed, secs(400), cut(Target::Blackholed, lasts));
        assert_eq!(simulation.downtime(), HashMap::new(), "seed {seed}, {lasts:?}");
        assert_eq!(simulation.answers.len(), 1, "seed {seed}: {:?}", simulation.answers);
        assert!(all_are(&simulation, State::Up), "seed {seed}: {:?}", simulation.states);
        // What was in service all the while is at its whole weight at once.
        assert_eq!(simulation.first(State::Ramp, BEGIN), HashMap::new(), "seed {seed}");
        if lasts >= secs(30) {
            let [from, to] = simulation.freezes[..] else { panic!("seed {seed}, {lasts:?}: {:?}", simulation.freezes) };
            assert!(from < BEGIN + secs(7) && to < BEGIN + lasts + secs(4), "seed {seed}: frozen from {from:?} to {to:?}");
        }
    }
}

#[test]
fn without_references_a_cut_uplink_is_noticed_before_much_is_withdrawn() {
    let mut worst = Duration::ZERO;
    for (seed, lasts) in SEEDS.flat_map(|seed| [30, 90, 110].map(|lasts| (seed, secs(lasts)))) {
        let simulation = run("", "", seed, secs(400), cut(Target::Blackholed, lasts));
        // Two checks that began at once may be down before four fail: for so long.
        worst = simulation.downtime().into_values().fold(worst, Duration::max);
        assert!(simulation.answers.iter().skip(1).all(|(_, found)| found.iter().all(|ip| net(*ip) == 1)), "seed {seed}: {:?}", simulation.answers);
        assert!(all_are(&simulation, State::Up), "seed {seed}: {:?}", simulation.states);
        let [from, to] = simulation.freezes[..] else { panic!("seed {seed}: {:?}", simulation.freezes) };
        assert!(from < BEGIN + secs(15) && to < BEGIN + lasts + secs(15), "seed {seed}: frozen from {from:?} to {to:?}");
    }
    assert!(worst <= secs(6), "{worst:?}");
}

#[test]
fn a_cut_that_lasts_is_believed_in_the_end_and_all_down_answers() {
    for (settings, believed) in [("", FREEZE), (REFERENCES, 2 * FREEZE)] {
        for seed in SEEDS {
            let simulation = run(settings, "", seed, secs(1_300), cut(Target::Blackholed, secs(900)));
            let downs = simulation.first(State::Down, BEGIN + secs(20));
            assert_eq!(downs.len(), 6, "seed {seed}");
            for (ip, fell) in downs {
                let since = fell - BEGIN;
                assert!(since > believed - secs(4) && since < believed + WORST, "seed {seed}: {ip} fell after {since:?}");
            }
            // All down is answered as if all were up.
            assert!(simulation.answers.iter().skip(1).all(|(_, found)| found.iter().all(|ip| net(*ip) <= 3)));
            // And all are back when it is over, with their whole weight: clients were given them all the while.
            let backs = simulation.first(State::Up, BEGIN + secs(900));
            assert_eq!((backs.len(), simulation.first(State::Ramp, BEGIN).len()), (6, 0), "seed {seed}");
            for (ip, back) in backs {
                assert!(back < BEGIN + secs(900) + BACK, "seed {seed}: {ip} back at {back:?}");
            }
            assert!(simulation.states.iter().all(|(_, state)| *state == State::Up), "seed {seed}: {:?}", simulation.states);
        }
    }
}

/// Everything, references too, is silent for so long from the start; then it is as the other course says.
fn late(lasts: Duration, then: impl Fn(IpAddr) -> Target) -> impl Fn(IpAddr, Duration) -> Target {
    move |ip, now| if now < lasts { Target::Blackholed } else { then(ip) }
}

#[test]
fn a_start_before_the_network_withdraws_nothing_however_long_it_lasts() {
    let begins = |seed: u64, lasts: u64| {
        let dies = |ip: IpAddr| if net(ip) == 1 { Target::Refused } else { Target::Well };
        let mut simulation = Simulation::start(&regions(""), REFERENCES, seed, late(secs(lasts), dies)).watch("app.example.com");
        simulation.run_until(secs(lasts + 60));
        simulation
    };
    for (seed, lasts) in SEEDS.flat_map(|seed| [3, 30, 119, 600, 5_000].map(|lasts| (seed, lasts))) {
        let simulation = begins(seed, lasts);
        // What is dead is found dead as soon as there is a network, and nothing else ever.
        let downs = simulation.first(State::Down, Duration::ZERO);
        assert!(downs.len() == 2 && downs.keys().all(|ip| net(*ip) == 1), "seed {seed}, {lasts} s: {downs:?}");
        assert!(downs.values().all(|at| *at >= secs(lasts) && *at < secs(lasts) + WORST), "seed {seed}, {lasts} s: {downs:?}");
        assert!(simulation.states.iter().all(|(spec, state)| (net(ip(spec)) == 1) == (*state == State::Down)), "seed {seed}");
        assert!(simulation.answers.iter().all(|(at, found)| *at >= secs(lasts) || net(found[0]) == 1), "seed {seed}");
        if lasts >= 30 {
            let [from, to] = simulation.freezes[..] else { panic!("seed {seed}, {lasts} s: {:?}", simulation.freezes) };
            assert!(from < secs(7) && to < secs(lasts + 4), "seed {seed}: frozen from {from:?} to {to:?}");
        }
    }
}

#[test]
fn a_restart_without_network_keeps_what_was_up() {
    for seed in SEEDS {
        let course = move |_: IpAddr, now: Duration| if now >= secs(100) && now < secs(700) { Target::Blackholed } else { Target::Well };
        let mut simulation = Simulation::start(&regions(""), REFERENCES, seed, course).watch("app.example.com");
        simulation.run_until(secs(101));
        let mut simulation = simulation.restart();
        simulation.run_until(secs(800));
        assert_eq!(simulation.downtime(), HashMap::new(), "seed {seed}");
        assert!(all_are(&simulation, State::Up), "seed {seed}: {:?}", simulation.states);
    }
}

#[test]
fn a_reference_that_is_wrong_from_the_start_holds_up_falls_for_a_freeze_alone_and_not_at_all_beside_another() {
    let course = |wrong: &'static [u8]| {
        move |ip: IpAddr, _: Duration| match (net(ip), ip) {
            (0, IpAddr::V4(ip)) if wrong.contains(&ip.octets()[3]) => Target::Refused,
            (1, _) => Target::Refused,
            _ => Target::Well,
        }
    };
    for (seed, (wrong, after, by)) in
        SEEDS.flat_map(|seed| [(&[1, 2][..], FREEZE, FREEZE + secs(8)), (&[2], Duration::ZERO, secs(6))].map(|case| (seed, case)))
    {
        let simulation = run(REFERENCES, "", seed, secs(300), course(wrong));
        let downs = simulation.first(State::Down, Duration::ZERO);
        assert_eq!(downs.len(), 2, "seed {seed}");
        assert!(downs.values().all(|at| *at >= after && *at < by), "seed {seed}, {wrong:?}: {downs:?}");
        assert_eq!(simulation.freezes.len(), if wrong.len() == 2 { 2 } else { 0 }, "seed {seed}: {:?}", simulation.freezes);
    }
}

#[test]
fn no_route_at_all_says_nothing_of_anybody() {
    for settings in ["", REFERENCES] {
        let simulation = run(settings, "", 1, secs(20_000), cut(Target::NoRoute, secs(10_000)));
        assert_eq!((simulation.downtime(), simulation.times(at(1, 1), State::Suspect)), (HashMap::new(), vec![]));
        assert_eq!(simulation.freezes.is_empty(), settings.is_empty(), "references have no route either, and that is news of this machine");
    }
}

#[test]
fn two_of_three_regions_that_die_are_withdrawn_at_once_where_references_answer() {
    for seed in SEEDS {
        let simulation = run(REFERENCES, "", seed, secs(400), dead(&[1, 2]));
        let moved = answered(&simulation, &region(3)).expect("traffic moves");
        assert!(moved <= BEGIN + WORST, "seed {seed}: {moved:?}");
        assert_eq!(simulation.freezes, Vec::<Duration>::new());
    }
}

#[test]
fn two_of_three_regions_that_die_cost_a_freeze_without_references() {
    for seed in SEEDS {
        let simulation = run("", "", seed, secs(500), dead(&[1, 2]));
        let moved = answered(&simulation, &region(3)).expect("traffic moves") - BEGIN;
        assert!(moved < FREEZE + WORST, "seed {seed}: {moved:?}");
        assert_eq!((simulation.state(at(1, 1)), simulation.state(at(2, 2)), simulation.state(at(3, 1))), (State::Down, State::Down, State::Up));
    }
}

#[test]
fn a_freeze_by_numbers_lasts_no_longer_for_restarts_in_the_midst_of_it() {
    for seed in SEEDS {
        let mut simulation = run("", "", seed, secs(150), dead(&[1, 2]));
        assert_eq!(simulation.freezes.len(), 1, "seed {seed}");
        for until in [190, 225, 500] {
            simulation = simulation.restart();
            simulation.run_until(secs(until));
        }
        let moved = answered(&simulation, &region(3)).expect("traffic moves") - BEGIN;
        assert!(moved < FREEZE + WORST, "seed {seed}: {moved:?}");
    }
}

#[test]
fn one_region_that_dies_is_never_doubted() {
    for (seed, settings) in SEEDS.flat_map(|seed| [(seed, ""), (seed, REFERENCES)]) {
        let simulation = run(settings, "", seed, secs(400), dead(&[1]));
        let moved = answered(&simulation, &region(2)).expect("traffic moves");
        assert!(moved <= BEGIN + WORST, "seed {seed}: {moved:?}");
        assert_eq!(simulation.freezes, Vec::<Duration>::new());
    }
}

/// One vantage that sees fewer than four checks is a quorum of its own: there is no crowd to doubt by.
#[test]
fn a_quorum_of_one_decides_alone() {
    let alone = [at(1, 1)];
    let three = [[at(1, 1)], [at(2, 1)], [at(3, 1)]];
    let small: Vec<String> =
        vec![zone("", &[("one", "eu", &alone)], ""), zone("", &[("one", "eu", &three[0]), ("two", "us", &three[1]), ("three", "ap", &three[2])], "")];
    for (seed, zone) in SEEDS.flat_map(|seed| small.iter().map(move |zone| (seed, zone))) {
        let mut simulation = Simulation::start(zone, "", seed, cut(Target::Blackholed, secs(1_000))).watch("app.example.com");
        simulation.run_until(secs(300));
        assert!(all_are(&simulation, State::Down), "seed {seed}");
        assert!(simulation.first(State::Down, BEGIN).into_values().all(|fell| fell <= BEGIN + WORST), "seed {seed}");
        // Nothing is left, so everything is answered as before.
        assert_eq!(simulation.answers.last().map(|(_, found)| found.clone()), Some(vec![at(1, 1)]));
    }
}

#[test]
fn the_last_region_serves_until_it_falls_and_then_all_down_decides() {
    let course = |ip: IpAddr, now: Duration| {
        let dies = match net(ip) {
            1 => 100,
            2 => 400,
            3 => 700,
            _ => u64::MAX,
        };
        if now >= secs(dies) && now < secs(1_000) { Target::Refused } else { Target::Well }
    };
    for (seed, settings) in SEEDS.flat_map(|seed| [(seed, ""), (seed, REFERENCES)]) {
        let simulation = run(settings, "", seed, secs(1_300), course);
        let regions: Vec<u8> = simulation.answers.iter().filter(|(at, _)| *at > secs(60)).map(|(_, found)| net(found[0])).collect();
        let mut order = regions;
        order.insert(0, 1);
        order.dedup();
        // All down is answered as if all were up: the first region. Then whoever is back first.
        assert_eq!(order[..4], [1, 2, 3, 1], "seed {seed}: {:?}", simulation.answers);
        let (_, last) = simulation.answers.last().expect("an answer");
        assert_eq!(*last, region(1), "seed {seed}");
        assert_eq!(simulation.freezes, Vec::<Duration>::new(), "seed {seed}: one at a time is no crowd");
    }
}

#[test]
fn last_good_stays_on_what_answered_last() {
    let course = |ip: IpAddr, now: Duration| if now >= secs(100 * u64::from(net(ip))) && net(ip) > 0 { Target::Refused } else { Target::Well };
    for seed in SEEDS {
        let simulation = run(REFERENCES, "all_down = \"last-good\"", seed, secs(600), course);
        assert!(all_are(&simulation, State::Down), "seed {seed}");
        let (_, last) = simulation.answers.last().expect("an answer").clone();
        assert_eq!(net(last[0]), 3, "seed {seed}: {:?}", simulation.answers);
        // A restart changes nothing of it, nor does another.
        let mut simulation = simulation.restart();
        simulation.run_until(secs(700));
        let mut simulation = simulation.restart();
        simulation.run_until(secs(800));
        let answers: Vec<_> = simulation.answers.iter().map(|(_, found)| found.clone()).collect();
        assert_eq!(answers, [last], "seed {seed}");
    }
}

#[test]
fn with_references_one_failure_alone_takes_nothing_down_whatever_fall_says() {
    let hasty = |settings: &str, seed: u64, course: Box<dyn Fn(IpAddr, Duration) -> Target>| {
        let zone = regions("").replace("tcp = true", "tcp = true\nfall = 1");
        let mut simulation = Simulation::start(&zone, settings, seed, course).watch("app.example.com");
        simulation.run_until(secs(200));
        simulation
    };
    let (mut took, mut without) = (Vec::new(), 0);
    for seed in SEEDS {
        // A moment without network is nothing.
        let moment = hasty(REFERENCES, seed, Box::new(cut(Target::Blackholed, secs(2))));
        assert_eq!(moment.downtime(), HashMap::new(), "seed {seed}");
        without += hasty("", seed, Box::new(cut(Target::Blackholed, secs(2)))).downtime().len();
        // What fails by itself falls at its second failure, when a reference was asked in between.
        let course = |ip: IpAddr, now: Duration| if now >= BEGIN && net(ip) == 1 { Target::Refused } else { Target::Well };
        let fallen = hasty(REFERENCES, seed, Box::new(course)).first(State::Down, BEGIN);
        assert_eq!(fallen.len(), 2, "seed {seed}");
        took.extend(fallen.into_values().map(|at| (at - BEGIN).as_secs_f64()));
    }
    assert!(without > 0, "that is what the second failure is for");
    let (mean, worst) = (took.iter().sum::<f64>() / took.len() as f64, took.iter().fold(0.0, |worst: f64, one| worst.max(*one)));
    // I/2 + t + max(i, t) = 7.1 s; at worst the interval with its jitter, and a third failure.
    assert!((6.1..8.6).contains(&mean) && worst < 11.0 + 0.1 + 2.0 * 2.3, "{mean} {worst}");
}
