//! Who gets what in which order: rules, distance, latency.

use meridian::geo::latency::RttTable;
use meridian::geo::table::Facts;
use meridian::policy::model::{AllDown, Location, Prefix, ZoneModel};
use meridian::policy::resolve::{Class, Client, Step, depends_on_client, holds, nets_below, resolve};

use crate::plan::model_of;

const PLACES: &str = "
[region]
eu = { location = [50.0, 8.0] }
us = { location = [39.0, -77.0] }
as = { location = [1.3, 103.8] }
[pool.fra]
region = \"eu\"
endpoints = [\"10.0.0.1\"]
[pool.iad]
region = \"us\"
endpoints = [\"10.0.0.2\"]
[pool.sin]
region = \"as\"
endpoints = [\"10.0.0.3\"]
[pool.ams]
location = [50.0, 8.0]
endpoints = [\"10.0.0.4\"]
[policy.europe]
policy = \"weighted\"
to = { fra = 1, ams = 1 }
";

fn places(text: &str) -> std::sync::Arc<ZoneModel> {
    model_of(&format!("{PLACES}{text}"))
}

/// In words: `geo:EU,DE,HE`, `asn:64500`, `net:192.0.2.0/24`, `at:50/8`.
fn facts_of(words: &str) -> (Facts, Option<Prefix>) {
    let (mut facts, mut net) = (Facts::default(), None);
    for word in words.split_whitespace() {
        let (key, value) = word.split_once(':').expect("key:value");
        match key {
            "geo" => {
                let letters = |text: &str| <[u8; 2]>::try_from(text.as_bytes()).expect("two letters");
                let mut codes = value.split(',');
                facts.continent = codes.next().map(letters);
                facts.country = codes.next().map(letters);
                facts.subdivision = codes.next().map(str::to_owned);
            }
            "asn" => facts.asn = Some(value.parse().expect("a number")),
            "at" => {
                let (lat, lon) = value.split_once('/').expect("lat/lon");
                facts.location = Some(Location { lat: lat.parse().expect("lat"), lon: lon.parse().expect("lon") });
            }
            _ => net = Some(prefix(value)),
        }
    }
    (facts, net)
}

fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').expect("a prefix");
    Prefix { addr: addr.parse().expect("an address"), len: len.parse().expect("a length") }
}

fn class(model: &ZoneModel, steer: &str, words: &str, rtt: Option<&RttTable>) -> (Class, String) {
    let steer = model.steers.iter().find(|other| other.name == steer).expect("a steered name");
    let (facts, net) = facts_of(words);
    let mut notes = Vec::new();
    let class = resolve(model, steer.root, Client { facts: &facts, net, rtt }, &mut |note| notes.push(note.found));
    (class, notes.join("; "))
}

/// The order at the root, by child.
fn order(model: &ZoneModel, class: &Class) -> String {
    let names: Vec<&str> = class.step.children().iter().map(|(child, _)| model.child_name(*child)).collect();
    names.join(" ")
}

fn check(model: &ZoneModel, steer: &str, rtt: Option<&RttTable>, rows: &[(&str, &str, &str)]) {
    for (words, expected, because) in rows {
        let (class, notes) = class(model, steer, words, rtt);
        assert_eq!(order(model, &class), *expected, "{words:?}: {notes}");
        assert!(notes.contains(because), "{words:?}: {notes}");
    }
}

#[test]
fn the_most_specific_rule_wins_whatever_the_order_of_the_file() {
    let pools: String = (1..=9).map(|at| format!("[pool.p{at}]\nendpoints = [\"10.0.0.{at}\"]\n")).collect();
    let rules = [
        r#"{ geo = ["NA"], to = ["p1"] }"#,
        r#"{ geo = ["NA-US"], to = ["p2"] }"#,
        r#"{ geo = ["NA-US-CA"], to = ["p3"] }"#,
        r#"{ asn = [64500], to = ["p4"] }"#,
        r#"{ net = ["192.0.2.0/24"], to = ["p5"] }"#,
        r#"{ net = ["192.0.2.128/25"], to = ["p6"], fence = true, all_down = "servfail" }"#,
        r#"{ geo = ["EU", "AS-TR"], asn = [64501], to = ["p7", "p8"] }"#,
    ];
    let rows = [
        ("", "p9", "no rule matched"),
        ("geo:NA", "p1 p9", "continent NA"),
        ("geo:NA,CA", "p1 p9", "continent NA"),
        ("geo:NA,US", "p2 p9", "country US"),
        ("geo:NA,US,NY", "p2 p9", "country US"),
        ("geo:NA,US,CA", "p3 p9", "subdivision US-CA"),
        // A subdivision of the same letters elsewhere is another place.
        ("geo:NA,MX,CA", "p1 p9", "continent NA"),
        ("geo:NA,US,CA asn:64500", "p4 p9", "AS64500"),
        ("asn:64500", "p4 p9", "AS64500"),
        ("asn:64502", "p9", "no rule matched"),
        ("geo:NA,US,CA asn:64500 net:192.0.2.0/24", "p5 p9", "a network of /24"),
        ("asn:64500 net:192.0.2.128/25", "p6", "a network of /25, fenced"),
        ("net:192.0.2.0/24", "p5 p9", "a network of /24"),
        // The deepest network may be one that other policies brought in.
        ("net:192.0.2.64/26", "p5 p9", "a network of /24"),
        ("net:192.0.2.192/26", "p6", "a network of /25"),
        ("net:192.0.0.0/16 geo:NA", "p1 p9", "continent NA"),
        // Country decides, whatever continent the database gives.
        ("geo:EU,TR", "p7 p8 p9", "country TR"),
        ("geo:AS,TR", "p7 p8 p9", "country TR"),
        ("geo:AS,IN", "p9", "no rule matched"),
        ("geo:EU,US", "p2 p9", "country US"),
        ("asn:64501", "p7 p8 p9", "AS64501"),
    ];
    let mut backwards = rules;
    backwards.reverse();
    for rules in [rules, backwards] {
        let model = model_of(&format!("{pools}[steer.app]\npolicy = \"geo\"\nrules = [\n{}\n]\ndefault = [\"p9\"]\n", rules.join(",\n")));
        check(&model, "app", None, &rows);
        assert_eq!(class(&model, "app", "net:192.0.2.128/25", None).0.all_down, Some(AllDown::ServFail));
        assert_eq!(class(&model, "app", "net:192.0.2.0/24", None).0.all_down, None);
        let nets: Vec<Prefix> = nets_below(&model, model.steers[0].root, None);
        assert_eq!(nets, [prefix("192.0.2.0/24"), prefix("192.0.2.128/25")]);
    }
}

#[test]
fn only_the_roots_own_rule_says_what_happens_when_all_is_down() {
    let model = places(
        "[policy.inner]\npolicy = \"geo\"\nrules = [{ geo = [\"EU\"], to = [\"fra\"], all_down = \"nodata\" }]\ndefault = [\"iad\"]\n\
         [steer.direct]\nuse = \"inner\"\n[steer.nested]\npolicy = \"failover\"\nto = [\"inner\", \"sin\"]\n[steer.flat]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\n",
    );
    assert_eq!(class(&model, "direct", "geo:EU,DE", None).0.all_down, Some(AllDown::NoData));
    assert_eq!(class(&model, "direct", "geo:AS", None).0.all_down, None);
    let (nested, _) = class(&model, "nested", "geo:EU,DE", None);
    assert_eq!((order(&model, &nested).as_str(), nested.all_down), ("inner sin", None));
    let Step::Order { to, .. } = &nested.step else { panic!("{nested:?}") };
    assert_eq!(to[0].1.children().len(), 2, "the rule's child, then the default");
    let depends = |name: &str| model.steers.iter().find(|steer| steer.name == name).map(|steer| depends_on_client(&model, steer.root));
    assert_eq!((depends("nested"), depends("flat")), (Some(true), Some(false)));
}

#[test]
fn proximity_goes_by_distance_and_bias_and_ties_by_mention() {
    let model = places(
        "[steer.app]\npolicy = \"proximity\"\nto = [\"sin\", \"iad\", \"fra\"]\n\
         [steer.bias]\npolicy = \"proximity\"\nto = [\"fra\", \"iad\"]\nbias = { iad = 90 }\n\
         [steer.push]\npolicy = \"proximity\"\nto = [\"fra\", \"iad\"]\nbias = { fra = -99 }\n\
         [steer.tie]\npolicy = \"proximity\"\nto = [\"iad\", \"ams\", \"fra\"]\n\
         [steer.nested]\npolicy = \"proximity\"\nto = [\"iad\", \"europe\"]\n\
         [steer.rest]\npolicy = \"geo\"\nrules = [{ geo = [\"AF\"], to = [\"iad\"] }, { geo = [\"OC\"], to = [\"sin\", \"fra\"], fence = true }]\ndefault = \"nearest\"\n",
    );
    check(
        &model,
        "app",
        None,
        &[
            ("at:48.9/2.3", "fra iad sin", "fra 4"),
            ("at:43.7/-79.4", "iad fra sin", "iad"),
            ("at:-33.9/151.2", "sin iad fra", "sin 6"),
            ("", "sin iad fra", "no coordinates, so in order of mention"),
            ("geo:EU,DE", "sin iad fra", "no coordinates"),
            // Across the date line: from Fiji to Virginia it is shorter eastwards.
            ("at:-18/179", "sin iad fra", "nearest"),
        ],
    );
    check(&model, "bias", None, &[("at:48.9/2.3", "fra iad", "fra"), ("at:40/-40", "iad fra", "iad"), ("at:50/-5", "iad fra", "iad")]);
    check(&model, "push", None, &[("at:48.9/2.3", "iad fra", "iad"), ("at:50/8", "fra iad", "fra 0 km")]);
    check(&model, "tie", None, &[("at:48.9/2.3", "ams fra iad", "ams"), ("at:39/-77", "iad ams fra", "iad 0 km")]);
    check(&model, "nested", None, &[("at:48.9/2.3", "europe iad", "europe")]);
    check(
        &model,
        "rest",
        None,
        &[
            ("geo:AF at:48.9/2.3", "iad fra sin", "continent AF; then nearest"),
            ("geo:OC at:48.9/2.3", "sin fra", "continent OC, fenced"),
            ("at:1/104", "sin fra iad", "no rule matched; then nearest"),
            ("", "iad sin fra", "in order of mention"),
        ],
    );
}

#[test]
fn latency_goes_by_the_table_then_by_distance_then_comes_last() {
    let table = "key, eu, us, as\ncidr:192.0.2.0/24, 200, 10, 300\nasn:64500, , 5, \ncountry:DE, 14, 95, \n*, 90, 80, 70\n";
    let rtt = RttTable::parse(table).expect("a table");
    let sparse = RttTable::parse("key, us\ncountry:DE, 95\n").expect("a table");
    let model = places(
        "[steer.app]\npolicy = \"latency\"\nto = [\"iad\", \"fra\", \"sin\"]\n[steer.nested]\npolicy = \"latency\"\nto = [\"iad\", \"fra\"]\n",
    );
    check(
        &model,
        "app",
        Some(&rtt),
        &[
            ("geo:EU,DE", "fra sin iad", "fra 14 ms (table), sin 70 ms (table), iad 95 ms (table)"),
            ("geo:EU,FR", "sin iad fra", "sin 70 ms"),
            ("geo:EU,DE asn:64500", "iad fra sin", "iad 5 ms"),
            ("geo:EU,DE net:192.0.2.0/24", "iad fra sin", "iad 10 ms (table), fra 200 ms (table)"),
            ("", "sin iad fra", "table"),
        ],
    );
    check(
        &model,
        "app",
        Some(&sparse),
        &[
            // 8 ms and 0.021 ms per km for what the table does not have.
            ("geo:EU,DE at:50/8", "fra iad sin", "fra 8 ms (distance), iad 95 ms (table)"),
            ("geo:EU,DE", "iad fra sin", "iad 95 ms (table), fra unknown, sin unknown"),
        ],
    );
    check(
        &model,
        "app",
        None,
        &[("at:1.3/103.8", "sin fra iad", "sin 8 ms (distance)"), ("", "iad fra sin", "iad unknown, fra unknown, sin unknown")],
    );
    assert_eq!(nets_below(&model, model.steers[0].root, Some(&rtt)), [prefix("192.0.2.0/24")]);
}

#[test]
fn a_network_holds_its_own_family_and_what_is_longer() {
    let rows = [
        ("0.0.0.0/0", "192.0.2.1/32", true),
        ("192.0.2.0/24", "192.0.2.0/24", true),
        ("192.0.2.0/24", "192.0.2.255/32", true),
        ("192.0.2.0/24", "192.0.3.0/24", false),
        ("192.0.2.0/24", "192.0.0.0/16", false),
        ("192.0.2.1/32", "192.0.2.1/32", true),
        ("192.0.2.1/32", "192.0.2.0/32", false),
        ("::/0", "2001:db8::/32", true),
        ("::/0", "192.0.2.0/24", false),
        ("0.0.0.0/0", "::/0", false),
        ("2001:db8::/33", "2001:db8:8000::/33", false),
        ("2001:db8::1/128", "2001:db8::1/128", true),
    ];
    for (outer, inner, expected) in rows {
        assert_eq!(holds(&prefix(outer), &prefix(inner)), expected, "{outer} {inner}");
    }
}
