//! Decisions as truth tables: a zone in its own words, what is up, what operators say, and what comes of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use meridian::config::{MemoryFiles, load};
use meridian::geo::table::Facts;
use meridian::health::State;
use meridian::policy::model::{Child, Forced, PolicyIx, Target, TtlRange, ZoneModel};
use meridian::policy::plan::{self, AddressSet, AnswerSet, Choice, Considered, EndpointView, Pass, Plan, PoolView, UNSETTLED, View, WEIGHT_SCALE};
use meridian::policy::resolve::{Client, resolve};

/// The model of a zone whose text begins after its `[zone]` and records.
pub fn model_of(text: &str) -> Arc<ZoneModel> {
    let text = format!("[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n{text}");
    let files = MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.toml", text.as_str())]);
    let loaded = load(&files, Path::new("meridian.toml"));
    loaded.zones.first().and_then(|zone| zone.model.clone()).unwrap_or_else(|| panic!("{:#?}", loaded.problems))
}

/// `10.0.0.7` is `7`, `2001:db8::7` is `7/6`.
fn short(target: &Target) -> String {
    match target {
        Target::Address(std::net::IpAddr::V4(addr)) => addr.octets()[3].to_string(),
        Target::Address(std::net::IpAddr::V6(addr)) => format!("{}/6", addr.octets()[15]),
        Target::Cname(name) => name.to_string(),
    }
}

fn child_of(model: &ZoneModel, text: &str) -> (PolicyIx, Child) {
    let (policy, child) = text.split_once('/').expect("policy/child");
    let at = model.policies.iter().position(|other| other.name == policy).unwrap_or_else(|| panic!("no {policy}"));
    let child = model.policies[at].kind.children().into_iter().find(|other| model.child_name(*other) == child).expect("a child");
    (PolicyIx(at as u32), child)
}

/// What is known, in words: `1=down` (a state), `1=!drain` (forced), `1=w0` (weight), `1=~0.5` (ramping at half), `app/b=held`, `app/b=w3`.
/// What is not named is up. `a=y0.25`: pool `a` gives up a quarter.
fn view_of(model: &ZoneModel, words: &str) -> View {
    let words: BTreeMap<&str, &str> = words.split_whitespace().map(|word| word.split_once('=').expect("a=b")).collect();
    let mut view = View::default();
    let mut pools = Vec::new();
    for (at, pool) in model.pools.iter().enumerate() {
        let mut seen = PoolView { slot: at as u32, ..PoolView::default() };
        for endpoint in &pool.endpoints {
            let mut known = EndpointView { state: State::Up, forced: None, weight: endpoint.weight, ramp: 1.0, drained: 0.0, kept: false };
            match words.get(short(&endpoint.target).as_str()).copied() {
                None | Some("up") => {}
                Some("down") => known.state = State::Down,
                Some("unknown") => known.state = State::Unknown,
                Some("suspect") => known.state = State::Suspect,
                Some("!up") => (known.state, known.forced) = (State::Down, Some(Forced::Up)),
                Some("!down") => known.forced = Some(Forced::Down),
                Some("!drain") => known.forced = Some(Forced::Drain),
                Some(word) => match word.split_at(1) {
                    ("w", weight) => known.weight = weight.parse().expect("a weight"),
                    ("~", share) => (known.state, known.ramp) = (State::Ramp, share.parse().expect("a share")),
                    _ => panic!("{word}"),
                },
            }
            if known.is_unsettled() {
                seen.settled_at = UNSETTLED;
            }
            seen.endpoints.push(known);
        }
        match words.get(pool.name.as_str()) {
            Some(&"!down") => seen.forced = Some(Forced::Down),
            Some(word) => seen.yields = word.strip_prefix('y').and_then(|share| share.parse().ok()).expect("a share"),
            None => {}
        }
        view.yielding |= seen.yields > 0.0;
        pools.push(Arc::new(seen));
    }
    view.pools = pools.into_iter().collect();
    for (key, word) in words.iter().filter(|(key, _)| key.contains('/') && !key.ends_with("/6")) {
        match word.strip_prefix('w') {
            Some(weight) => drop(Arc::make_mut(&mut view.child_weights).insert(child_of(model, key), weight.parse().expect("a weight"))),
            None => drop(view.held.insert(child_of(model, key))),
        }
    }
    view
}

fn set_words(set: &AnswerSet) -> String {
    fn family<const N: usize>(set: &AddressSet<N>, tail: &str, into: &mut Vec<String>) {
        for (at, addr) in set.addrs.iter().enumerate() {
            let weight = set.weights.get(at).map_or(String::new(), |weight| format!("*{}", f64::from(*weight) / WEIGHT_SCALE as f64));
            into.push(format!("{}{tail}{weight}", addr[N - 1]));
        }
    }
    let mut words = Vec::new();
    family(&set.v4, "", &mut words);
    family(&set.v6, "/6", &mut words);
    words.join(" ")
}

fn choice_words(choice: &Choice) -> String {
    match choice {
        Choice::Answers { set, .. } => set_words(set),
        Choice::NoData => "nodata".into(),
        Choice::ServFail => "servfail".into(),
        Choice::Weighted(weighted) => {
            assert_eq!(weighted.total, weighted.entries.iter().map(|entry| entry.weight).sum::<u64>());
            let entries = weighted.entries.iter();
            let words: Vec<String> =
                entries.map(|entry| format!("{} of {}", entry.weight as f64 / WEIGHT_SCALE as f64, choice_words(&entry.choice))).collect();
            format!("[{}]", words.join(" | "))
        }
    }
}

fn plan_of(model: &ZoneModel, steer: &str, words: &str, last_good: Option<&Plan>) -> (Plan, Vec<Considered>) {
    let steer = model.steers.iter().find(|other| other.name == steer).unwrap_or_else(|| panic!("no {steer}"));
    let facts = Facts::default();
    let class = resolve(model, steer.root, Client { facts: &facts, net: None, rtt: None }, &mut |_| {});
    let mut considered = Vec::new();
    let plan = plan::plan(model, steer, steer.ttl, &class, &view_of(model, words), last_good, &mut |pool| considered.push(pool));
    (plan, considered)
}

/// Rows: steered name, what is known, the pass that decides and what is handed out.
fn check(model: &ZoneModel, rows: &[(&str, &str, Pass, &str)]) {
    for (steer, words, pass, expected) in rows {
        let (plan, _) = plan_of(model, steer, words, None);
        assert_eq!((choice_words(&plan.choice).as_str(), plan.pass), (*expected, *pass), "{steer}: {words:?}");
    }
}

const POOLS: &str = "
[pool.a]
endpoints = [\"10.0.0.1\", \"10.0.0.2\"]
[pool.b]
endpoints = [\"10.0.0.3\"]
[pool.c]
endpoints = [\"10.0.0.4\"]
[pool.sorry]
endpoints = [\"10.0.0.9\"]
";

fn with_pools(text: &str) -> Arc<ZoneModel> {
    model_of(&format!("{POOLS}{text}"))
}

#[test]
fn failover_takes_the_first_that_is_not_critical_then_the_first_with_anything_up() {
    let model = with_pools(
        "[pool.m]\nendpoints = [\"10.0.0.5\", \"10.0.0.6\", \"10.0.0.7\"]\nmin_healthy = 2\n[pool.p]\nendpoints = [\"10.0.0.5\", \"10.0.0.6\", \"10.0.0.7\"]\nmin_healthy = \"34%\"\n[steer.app]\npolicy = \"failover\"\nto = [\"a\", \"b\", \"c\"]\n[steer.min]\npolicy = \"failover\"\nto = [\"m\", \"b\"]\n[steer.share]\npolicy = \"failover\"\nto = [\"p\", \"b\"]\n[steer.one]\nuse = \"a\"\n",
    );
    use Pass::{AllDown, AnyUp, Healthy};
    check(
        &model,
        &[
            ("app", "", Healthy, "1 2"),
            ("app", "1=down", Healthy, "2"),
            ("app", "1=suspect 2=unknown", Healthy, "1 2"),
            ("app", "1=down 2=down", Healthy, "3"),
            ("app", "1=!down 2=!drain", Healthy, "3"),
            ("app", "1=!up 2=down", Healthy, "1"),
            ("app", "1=down 2=down 3=down", Healthy, "4"),
            ("app", "1=down 2=down 3=down 4=down", AllDown, "1 2"),
            ("app", "1=w0", Healthy, "2"),
            ("app", "1=w0 2=down", Healthy, "1"),
            ("app", "1=w0 2=w0", Healthy, "1 2"),
            ("app", "1=w3", Healthy, "1*3 2*1"),
            ("app", "1=~0.5", Healthy, "1*0.5 2*1"),
            ("app", "1=~0.5 2=~0.5", Healthy, "1 2"),
            ("one", "1=down", Healthy, "2"),
            ("one", "1=down 2=down", AllDown, "1 2"),
            // Held children come in only when nothing else is left.
            ("app", "app/a=held", Healthy, "3"),
            ("app", "app/a=held 3=down", Healthy, "4"),
            ("app", "app/a=held 3=down 4=down", Healthy, "1 2"),
            ("app", "app/a=held app/b=held 4=down", Healthy, "1 2"),
            ("min", "7=down", Healthy, "5 6"),
            ("min", "6=down 7=down", Healthy, "3"),
            ("min", "6=down 7=down 3=down", AnyUp, "5"),
            ("min", "5=down 6=down 7=down 3=down", AllDown, "5 6 7"),
            // 34 % of three is two.
            ("share", "7=down", Healthy, "5 6"),
            ("share", "6=down 7=down", Healthy, "3"),
        ],
    );
}

#[test]
fn a_pool_that_gives_up_traffic_gives_it_to_those_after_it() {
    let model = with_pools(
        "[policy.p]\npolicy = \"weighted\"\nto = { b = 1, c = 1 }\n[steer.app]\npolicy = \"failover\"\nto = [\"b\", \"c\", \"sorry\"]\n\
         [steer.share]\nuse = \"p\"\n[steer.nested]\npolicy = \"failover\"\nto = [\"p\", \"sorry\"]\n[steer.one]\nuse = \"b\"\n[steer.all]\npolicy = \"multivalue\"\nto = [\"b\", \"c\"]\n",
    );
    use Pass::{AllDown, Healthy};
    check(
        &model,
        &[
            ("app", "b=y0.25", Healthy, "[768 of 3 | 256 of 4]"),
            ("app", "b=y0.5 c=y0.5", Healthy, "[512 of 3 | 256 of 4 | 256 of 9]"),
            ("app", "b=y0.5 4=down", Healthy, "[512 of 3 | 512 of 9]"),
            // One that nobody comes to gives up nothing; nor does one that has nobody after it.
            ("app", "c=y0.5", Healthy, "3"),
            ("app", "b=y0.5 4=down 9=down", Healthy, "3"),
            ("one", "b=y0.5", Healthy, "3"),
            ("app", "b=y0.5 3=down", Healthy, "4"),
            ("app", "b=y0.5 3=down 4=down 9=down", AllDown, "3"),
            // Among shares it is a smaller share; alike, they stay as they are.
            ("share", "b=y0.5", Healthy, "[0.5 of 3 | 1 of 4]"),
            ("share", "b=y0.5 c=y0.5", Healthy, "[0.5 of 3 | 0.5 of 4]"),
            // A policy gives up what all its pools do.
            ("nested", "b=y0.5", Healthy, "[0.5 of 3 | 1 of 4]"),
            ("nested", "b=y0.5 c=y0.25", Healthy, "[768 of [0.5 of 3 | 0.75 of 4] | 256 of 9]"),
            ("all", "b=y0.5", Healthy, "3*0.5 4*1"),
            // Held children stay behind the others.
            ("app", "b=y0.5 app/b=held", Healthy, "4"),
        ],
    );
}

#[test]
fn all_down_does_what_it_says_and_operators_word_holds_as_long_as_anything_is_left() {
    let steer = |name: &str| format!("[steer.{name}]\npolicy = \"failover\"\nto = [\"a\", \"b\"]\nall_down = \"{name}\"\n");
    let model = with_pools(&["all", "last-good", "nodata", "servfail", "sorry"].map(steer).concat());
    let down = "1=down 2=down 3=down";
    use Pass::AllDown;
    check(
        &model,
        &[
            ("all", down, AllDown, "1 2"),
            ("nodata", down, AllDown, "nodata"),
            ("servfail", down, AllDown, "servfail"),
            ("sorry", down, AllDown, "9"),
            ("sorry", "1=down 2=down 3=down 9=down", AllDown, "9"),
            ("all", "1=!down 2=down 3=down", AllDown, "2"),
            ("all", "1=!down 2=!drain 3=down", AllDown, "3"),
            ("all", "1=!down 2=!drain 3=!down", AllDown, "1 2"),
            ("last-good", down, AllDown, "1 2"),
        ],
    );
    let (good, _) = plan_of(&model, "last-good", "1=down 2=down", None);
    let (last, _) = plan_of(&model, "last-good", down, Some(&good));
    assert_eq!((choice_words(&last.choice).as_str(), last.settled_at), ("3", UNSETTLED));
}

#[test]
fn weights_are_of_those_that_can_serve_and_zero_is_a_last_resort() {
    let mut text = String::new();
    for (name, to) in
        [("app", "{ a = 3, b = 1 }"), ("zero", "{ a = 0, b = 1 }"), ("zeros", "{ a = 0, b = 0, c = 0 }"), ("two", "{ a = 0, b = 2, c = 2 }")]
    {
        text += &format!("[steer.{name}]\npolicy = \"weighted\"\nto = {to}\n");
    }
    let model = with_pools(&text);
    use Pass::{AllDown, Healthy};
    check(
        &model,
        &[
            ("app", "", Healthy, "[3 of 1 2 | 1 of 3]"),
            ("app", "3=down", Healthy, "1 2"),
            ("app", "1=down 2=down", Healthy, "3"),
            ("app", "1=down 2=down 3=down", AllDown, "[3 of 1 2 | 1 of 3]"),
            ("app", "app/b=w9", Healthy, "[3 of 1 2 | 9 of 3]"),
            ("app", "app/a=w0", Healthy, "3"),
            ("app", "app/a=w0 3=down", Healthy, "1 2"),
            ("app", "3=~0.25", Healthy, "[3 of 1 2 | 0.25 of 3]"),
            ("app", "1=~0.5", Healthy, "[2.25 of 1*0.5 2*1 | 1 of 3]"),
            ("zero", "", Healthy, "3"),
            ("zero", "3=down", Healthy, "1 2"),
            ("zero", "zero/a=w1", Healthy, "[1 of 1 2 | 1 of 3]"),
            ("zeros", "", Healthy, "[1 of 1 2 | 1 of 3 | 1 of 4]"),
            ("zeros", "1=down 2=down", Healthy, "[1 of 3 | 1 of 4]"),
            ("two", "", Healthy, "[2 of 3 | 2 of 4]"),
            ("two", "3=down 4=down", Healthy, "1 2"),
            ("two", "3=down 4=down 1=down 2=down", AllDown, "[2 of 3 | 2 of 4]"),
        ],
    );
}

#[test]
fn trees_hand_failure_up_and_merged_pools_are_one_set() {
    let model = with_pools(
        "[policy.ab]\npolicy = \"weighted\"\nto = { a = 1, b = 1 }\n[policy.bc]\npolicy = \"failover\"\nto = [\"b\", \"c\"]\n\
         [steer.nested]\npolicy = \"failover\"\nto = [\"ab\", \"c\"]\n\
         [steer.deep]\npolicy = \"weighted\"\nto = { ab = 1, c = 1 }\n\
         [steer.merged]\npolicy = \"multivalue\"\nto = [\"a\", \"bc\"]\nanswers = 2\n\
         [steer.all]\npolicy = \"multivalue\"\nto = [\"ab\", \"bc\"]\n",
    );
    use Pass::{AllDown, Healthy};
    check(
        &model,
        &[
            ("nested", "", Healthy, "[1 of 1 2 | 1 of 3]"),
            ("nested", "3=down", Healthy, "1 2"),
            ("nested", "1=down 2=down 3=down", Healthy, "4"),
            ("nested", "1=down 2=down 3=down 4=down", AllDown, "[1 of 1 2 | 1 of 3]"),
            ("deep", "", Healthy, "[1 of [1 of 1 2 | 1 of 3] | 1 of 4]"),
            ("deep", "1=down 2=down 3=down", Healthy, "4"),
            ("deep", "4=down", Healthy, "[1 of 1 2 | 1 of 3]"),
            // An order below contributes its first, a weighted choice all it has.
            ("merged", "", Healthy, "1 2 3"),
            ("merged", "3=down", Healthy, "1 2 4"),
            ("merged", "1=down 3=down 4=down", Healthy, "2"),
            ("merged", "1=down 2=down 3=down 4=down", AllDown, "1 2 3"),
            ("all", "", Healthy, "1 2 3"),
            ("all", "1=down 2=down 3=down", Healthy, "4"),
        ],
    );
    let (plan, _) = plan_of(&model, "merged", "", None);
    assert!(matches!(plan.choice, Choice::Answers { answers: 2, .. }), "the policy's own cap: {:?}", plan.choice);
}

#[test]
fn require_both_passes_over_half_pools_and_all_down_decides_when_none_is_whole() {
    let model = model_of(
        "[pool.a]\nendpoints = [\"10.0.0.1\", \"2001:db8::1\"]\n[pool.b]\nendpoints = [\"10.0.0.2\", \"2001:db8::2\"]\n[pool.half]\nendpoints = [\"10.0.0.3\"]\n\
         [steer.app]\npolicy = \"failover\"\nto = [\"a\", \"b\", \"half\"]\nfamily = \"require-both\"\n\
         [steer.any]\npolicy = \"failover\"\nto = [\"a\", \"b\"]\n",
    );
    use Pass::{AllDown, Healthy};
    check(
        &model,
        &[
            ("app", "", Healthy, "1 1/6"),
            ("app", "1/6=down", Healthy, "2 2/6"),
            ("app", "1=down 2/6=down", AllDown, "1 1/6"),
            ("app", "1=down 1/6=down 2=down 2/6=down", AllDown, "1 1/6"),
            ("app", "1=down 1/6=down 2=down 2/6=down 3=down", AllDown, "1 1/6"),
            ("any", "1/6=down", Healthy, "1"),
        ],
    );
    let (_, considered) = plan_of(&model, "app", "1/6=down", None);
    assert_eq!(considered[0].passed_over.as_deref(), Some("lacks a usable endpoint of one family"));
    assert_eq!(considered[1].passed_over, None);
}

#[test]
fn what_was_passed_over_says_why() {
    let model = with_pools(
        "[pool.m]\nendpoints = [\"10.0.0.5\", \"10.0.0.6\"]\nmin_healthy = \"100%\"\n[steer.app]\npolicy = \"failover\"\nto = [\"a\", \"m\", \"b\", \"c\"]\n",
    );
    let (_, considered) = plan_of(&model, "app", "1=down 2=!down 5=down app/b=held", None);
    let words: Vec<(&str, Option<&str>)> = considered.iter().map(|pool| (pool.pool.as_str(), pool.passed_over.as_deref())).collect();
    let expected = [
        ("example.com/b", Some("held back by failback")),
        ("example.com/a", Some("no usable endpoint")),
        ("example.com/m", Some("critical: 1 usable, 2 needed")),
        ("example.com/c", None),
    ];
    assert_eq!(words, expected);
    assert_eq!((considered[2].usable, considered[2].total, considered[2].needed), (1, 2, 2));
    // What is dead is not waiting for anybody.
    let (_, considered) = plan_of(&model, "app", "1=down 2=down 3=down 5=down app/a=held app/m=held app/b=held", None);
    let words: Vec<_> = considered.iter().map(|pool| pool.passed_over.as_deref()).collect();
    assert_eq!(words[..3], [Some("no usable endpoint"), Some("critical: 1 usable, 2 needed"), Some("no usable endpoint")]);
}

#[test]
fn a_pool_in_panic_hands_out_all_that_operators_leave_in_and_no_other_pool_does() {
    let model = model_of(
        "[pool.a]\nendpoints = [\"10.0.0.1\", \"10.0.0.2\", \"10.0.0.3\", { address = \"10.0.0.4\", weight = 3 }]\npanic = \"50%\"\n\
         [pool.b]\nendpoints = [\"10.0.0.5\", \"10.0.0.6\", \"10.0.0.7\"]\npanic = \"100%\"\nmin_healthy = 2\n\
         [steer.app]\npolicy = \"failover\"\nto = [\"a\", \"b\"]\n[steer.rev]\npolicy = \"failover\"\nto = [\"b\", \"a\"]\n",
    );
    use Pass::{AllDown, AnyUp, Healthy};
    check(
        &model,
        &[
            ("app", "1=down 2=down 3=down", Healthy, "4"),
            // 3 of 6 are not less than half.
            ("app", "4=down", Healthy, "1 2 3"),
            ("app", "1=down 4=down", Healthy, "1*1 2*1 3*1 4*3"),
            ("app", "1=down 2=down 4=down", Healthy, "1*1 2*1 3*1 4*3"),
            // With weights as they are: of 3, 2 are usable.
            ("app", "1=down 4=!down", Healthy, "2 3"),
            ("app", "1=down 2=down 4=!drain", Healthy, "1 2 3"),
            // Nothing usable: whoever comes next.
            ("app", "1=down 2=down 3=down 4=down", Healthy, "5 6 7"),
            // It is taken, or passed over, as without.
            ("rev", "5=down", Healthy, "5 6 7"),
            ("rev", "5=down 6=down", Healthy, "1*1 2*1 3*1 4*3"),
            ("rev", "5=down 6=down 1=down 2=down 3=down 4=down", AnyUp, "5 6 7"),
            ("rev", "5=down 6=down 7=down 1=down 2=down 3=down 4=down", AllDown, "5 6 7"),
        ],
    );
    let (_, considered) = plan_of(&model, "app", "1=down 4=down", None);
    assert!(considered[0].panic && considered[0].passed_over.is_none());
}

#[test]
fn the_ttl_is_low_while_what_was_consulted_is_unsettled_then_rises_in_a_line() {
    let model = with_pools("[steer.app]\npolicy = \"failover\"\nto = [\"a\", \"b\"]\nttl = { max = 60, min = 20 }\n");
    let rows = [
        ("", 60),
        ("1=suspect", 20),
        ("1=unknown", 20),
        ("1=~0.5", 20),
        ("1=!drain 2=!drain", 20),
        ("1=down", 60),
        ("1=down 2=down", 60),
        ("1=!down", 60),
        ("1=!up", 60),
        // Not consulted as long as the first can.
        ("3=suspect", 60),
        ("1=down 2=down 3=suspect", 20),
        ("1=down 2=suspect", 20),
        ("1=down 2=down 3=down", 20),
        // What failback holds was consulted.
        ("1=suspect app/a=held", 20),
        ("1=~0.5 app/a=held", 20),
        ("1=down 2=down app/a=held", 60),
        ("app/a=held", 60),
    ];
    for (words, ttl) in rows {
        assert_eq!(plan_of(&model, "app", words, None).0.ttl_at(1_000_000), ttl, "{words:?}");
    }
    let at = |settled_at, unix_s, ttl: TtlRange| Plan { choice: Choice::NoData, ttl, settled_at, pass: Pass::Healthy }.ttl_at(unix_s);
    let range = TtlRange { max: 60, min: 20 };
    for (elapsed, ttl) in [(0, 20), (1, 20), (3, 21), (30, 30), (60, 40), (119, 59), (120, 60), (100_000, 60)] {
        assert_eq!(at(1000, 1000 + elapsed, range), ttl, "{elapsed} s after settling");
    }
    assert_eq!(at(1000, 900, range), 20, "a clock that went back is no harm");
    assert_eq!(at(0, 1_000_000, TtlRange { max: 5, min: 5 }), 5);
    let huge = TtlRange { max: 0x7fff_ffff, min: 1 };
    assert_eq!((at(0, 0x7fff_ffff, huge), at(0, u64::MAX - 1, huge), at(UNSETTLED, 5, huge)), (0x4000_0000, 0x7fff_ffff, 1));
}
