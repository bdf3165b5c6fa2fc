//! `https = { … }` on steered names (RFC 9460): hints come from the decision that A and AAAA come from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use meridian::answer::Dice;
use meridian::world::World;

use crate::asked::{NOW, ask, check, octets, shown, world, world_and_problems};
use crate::meridian::Meridian;

const HEAD: &str = "[zone]\nname = \"ex\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
    [pool.fra]\nendpoints = [\"192.0.2.1\", \"2001:db8::1\"]\n[pool.iad]\nendpoints = [\"192.0.2.2\", \"2001:db8::2\"]\n\
    [pool.four]\nendpoints = [\"192.0.2.4\"]\n[pool.six]\nendpoints = [\"2001:db8::6\"]\n[pool.cdn]\ncname = \"cdn.elsewhere.\"\n";

fn zone(lines: &str) -> World {
    world(&[("ex.toml", &format!("{HEAD}{lines}"))])
}

fn problems(lines: &str) -> Vec<String> {
    let (_, problems) = world_and_problems(&[("ex.toml", &format!("{HEAD}{lines}"))]);
    problems.into_iter().filter(|problem| !problem.contains("no steered name uses it")).collect()
}

#[test]
fn rfc9460_section_7_3_hints_are_the_addresses_of_the_decision() {
    let world = zone(
        "[steer.www]\nuse = \"fra\"\nhttps = { alpn = [\"h3\", \"h2\"] }\n[steer.four]\nuse = \"four\"\nhttps = { alpn = \"h2\", port = 8443, priority = 7 }\n\
         [steer.six]\nuse = \"six\"\nhttps = { alpn = [\"h2\"], no_default_alpn = true }\n[steer.bare]\nuse = \"iad\"\nhttps = {}\n\
         [steer.both]\npolicy = \"multivalue\"\nto = [\"four\", \"six\"]\nhttps = { alpn = [\"h2\"] }\n[steer.\"*.w\"]\nuse = \"fra\"\nhttps = { alpn = [\"h2\"] }\n\
         [steer.off]\nuse = \"fra\"\n",
    );
    check(
        &world,
        &[
            ("www.ex HTTPS", r#"NOERROR aa | www.ex. HTTPS 1 . alpn="h3,h2" ipv4hint=192.0.2.1 ipv6hint=2001:db8::1"#),
            ("four.ex HTTPS", r#"NOERROR aa | four.ex. HTTPS 7 . alpn="h2" port=8443 ipv4hint=192.0.2.4"#),
            ("six.ex HTTPS", r#"NOERROR aa | six.ex. HTTPS 1 . alpn="h2" no-default-alpn ipv6hint=2001:db8::6"#),
            ("bare.ex HTTPS", "NOERROR aa | bare.ex. HTTPS 1 . ipv4hint=192.0.2.2 ipv6hint=2001:db8::2"),
            ("both.ex HTTPS", r#"NOERROR aa | both.ex. HTTPS 1 . alpn="h2" ipv4hint=192.0.2.4 ipv6hint=2001:db8::6"#),
            ("q.w.ex HTTPS", r#"NOERROR aa | q.w.ex. HTTPS 1 . alpn="h2" ipv4hint=192.0.2.1 ipv6hint=2001:db8::1"#),
            ("www.ex A", "NOERROR aa | www.ex. A 192.0.2.1"),
            ("www.ex SVCB", "NOERROR aa |  | ex. SOA"),
            ("off.ex HTTPS", "NOERROR aa |  | ex. SOA"),
        ],
    );
}

#[test]
fn rfc9460_section_2_4_2_aliases_and_other_targets_are_the_same_for_everybody() {
    let world = zone(
        "[steer.www]\nuse = \"fra\"\nttl = 45\nhttps = { alias = \"svc.cdn.elsewhere.\" }\n[steer.\"@\"]\nuse = \"iad\"\nhttps = { alias = \"www\" }\n\
         [steer.api]\nuse = \"iad\"\nhttps = { target = \"host\", alpn = [\"h2\"] }\n[steer.host]\nuse = \"four\"\nhttps = { alpn = [\"h2\"] }\n",
    );
    check(
        &world,
        &[
            ("www.ex HTTPS", "NOERROR aa | www.ex. HTTPS 0 svc.cdn.elsewhere."),
            ("ex HTTPS", "NOERROR aa | ex. HTTPS 0 www.ex."),
            ("api.ex HTTPS", r#"NOERROR aa | api.ex. HTTPS 1 host.ex. alpn="h2""#),
            ("www.ex A", "NOERROR aa | www.ex. A 192.0.2.1"),
        ],
    );
    let reply = shown(&octets(&world, "www.ex HTTPS", [192, 0, 2, 9].into(), &mut Dice::new(NOW, 1)), true);
    assert_eq!(reply, "NOERROR aa | www.ex. 45 HTTPS 0 svc.cdn.elsewhere.");
}

#[test]
fn one_client_gets_one_pool_whatever_it_asks_for() {
    let world = zone(
        "[policy.part]\npolicy = \"weighted\"\nto = { fra = 1, iad = 1 }\n[steer.coherent]\nuse = \"part\"\nhttps = { alpn = [\"h2\"] }\n\
         [steer.sticky]\npolicy = \"weighted\"\nmode = \"sticky\"\nsticky_bits = { v4 = 32, v6 = 56 }\nto = { fra = 1, iad = 1 }\nhttps = { alpn = [\"h2\"] }\n\
         [steer.geo]\npolicy = \"geo\"\nrules = [{ net = [\"198.51.100.0/25\"], to = \"iad\" }]\ndefault = \"part\"\nhttps = { alpn = [\"h2\"] }\n",
    );
    for name in ["coherent", "sticky", "geo"] {
        let mut seen = BTreeSet::new();
        for client in 0..=255u8 {
            let source = IpAddr::from([198, 51, 100, client]);
            let mut dice = Dice::new(NOW, u64::from(client));
            let mut asks = |rtype: &str| shown(&octets(&world, &format!("{name}.ex {rtype}"), source, &mut dice), false);
            let (a, aaaa, https) = (asks("A"), asks("AAAA"), asks("HTTPS"));
            let last = |text: &str| text.rsplit(' ').next().expect("an address").to_string();
            assert_eq!(https, format!("NOERROR aa | {name}.ex. HTTPS 1 . alpn=\"h2\" ipv4hint={} ipv6hint={}", last(&a), last(&aaaa)));
            seen.insert(a);
        }
        assert_eq!(seen.len(), 2, "{name}: both pools take part");
    }
}

#[test]
fn a_large_pool_hints_at_as_many_as_it_answers_with() {
    let many: Vec<String> = (1..=70).flat_map(|n| [format!("\"198.51.100.{n}\""), format!("\"2001:db8:1::{n:x}\"")]).collect();
    let world = zone(&format!(
        "[pool.many]\nanswers = 64\nendpoints = [{}]\n[steer.many]\nuse = \"many\"\nhttps = {{ alpn = [\"{}\"] }}\n[steer.some]\nuse = \"many\"\nanswers = 3\nhttps = {{}}\n",
        many.join(", "),
        "x".repeat(255)
    ));
    let commas = |text: &str| text.matches(',').count();
    let large = ask(&world, "many.ex HTTPS tcp");
    assert_eq!(commas(&large), 2 * 63, "{large}");
    assert_eq!(commas(&ask(&world, "some.ex HTTPS")), 2 * 2);
    assert_eq!(ask(&world, "many.ex HTTPS"), "NOERROR aa tc");
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (lines, expected) in [
        ("[steer.a]\nuse = \"cdn\"\nhttps = { alpn = [\"h2\"] }\n", "https: the name is a CNAME, which has no other data"),
        (
            "[pool.x]\nendpoints = [\"192.0.2.9\"]\nrecords = { HTTPS = \"1 . alpn=h2\" }\n[steer.a]\nuse = \"x\"\nhttps = {}\n",
            "pool \"x\" has HTTPS records; keep one of them",
        ),
        ("[steer.a]\nuse = \"fra\"\nhttps = { alias = \"a\" }\n", "https: alias: found the steered name itself"),
        ("[steer.a]\nuse = \"fra\"\nhttps = { target = \".\" }\n", "https: target: found the root"),
        ("[steer.a]\nuse = \"fra\"\nhttps = { alias = \"b\", alpn = [\"h2\"] }\n", "found alias beside alpn"),
        ("[steer.a]\nuse = \"fra\"\nhttps = { priority = 0 }\n", "found 0, which makes an alias"),
        ("[steer.a]\nuse = \"fra\"\nhttps = { alpn = [] }\n", "found 0 protocols, expected 1 to 16"),
        ("[steer.a]\nuse = \"fra\"\nhttps = { alpn = [\"h2\", \"h2\"] }\n", "protocol \"h2\" is listed twice"),
        ("[steer.a]\nuse = \"fra\"\nhttps = { no_default_alpn = true }\n", "found no_default_alpn without alpn"),
        ("[steer.a]\nuse = \"fra\"\nhttps = { alpm = [\"h2\"] }\n", "did you mean \"alpn\"?"),
        ("[steer.a]\nuse = \"fra\"\nhttps = \"h2\"\n", "expected a table such as { alpn = [\"h3\", \"h2\"] }"),
        ("[policy.p]\npolicy = \"failover\"\nto = \"fra\"\nhttps = {}\n[steer.a]\nuse = \"p\"\n", "unknown key"),
    ] {
        let found = problems(lines);
        assert!(found.iter().any(|problem| problem.contains(expected) && problem.contains("zones/ex.toml:")), "{lines}\n{found:#?}");
    }
    let (_, twice) = world_and_problems(&[(
        "ex.toml",
        &HEAD
            .replace("[pool.fra]", "a.HTTPS = \"1 . alpn=h2\"\n[pool.fra]")
            .replace("[pool.cdn]", "[steer.a]\nuse = \"fra\"\nhttps = {}\n[pool.cdn]"),
    )]);
    assert!(twice.iter().any(|problem| problem.contains("has a static HTTPS record")), "{twice:#?}");
}

#[test]
fn multivalue_over_one_family_each_is_no_reason_to_warn() {
    let text = |policy: &str| format!("[steer.a]\n{policy}\n");
    let warned = |policy: &str| problems(&text(policy)).iter().filter(|problem| problem.contains("get an empty")).count();
    assert_eq!(warned("policy = \"multivalue\"\nto = [\"four\", \"six\"]"), 0);
    assert_eq!(warned("policy = \"multivalue\"\nto = [\"four\", \"fra\"]"), 0);
    assert_eq!(warned("policy = \"multivalue\"\nto = [\"four\"]\nall_down = \"six\""), 2, "the pool of all_down answers alone");
    assert_eq!(warned("policy = \"failover\"\nto = [\"four\", \"six\"]"), 2);
    let nested = "policy = \"failover\"\nto = [\"all\", \"fra\"]\n[policy.all]\npolicy = \"multivalue\"\nto = [\"four\", \"six\"]";
    assert_eq!(warned(nested), 0);
    let inside = "policy = \"multivalue\"\nto = [\"four\", \"first\"]\n[policy.first]\npolicy = \"failover\"\nto = [\"six\", \"four\"]";
    assert_eq!(warned(inside), 1, "the second choice has no IPv6");
}

#[test]
fn explain_shows_the_record_that_is_sent() {
    let zone =
        format!("{}[steer.www]\nuse = \"fra\"\nhttps = {{ alpn = [\"h3\", \"h2\"] }}\n", HEAD.replace("name = \"ex\"", "name = \"example.com\""));
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let (code, out, err) = server.command(&["explain", "www.example.com", "HTTPS", "--client", "203.0.113.0/24"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let answer = "answer      www.example.com. 30 IN HTTPS 1 . alpn=\"h3,h2\" ipv4hint=192.0.2.1 ipv6hint=2001:db8::1";
    for expected in ["question    www.example.com. HTTPS", "pool        example.com/fra: 2/2 usable", answer] {
        assert!(out.lines().any(|line| line.starts_with(expected)), "{expected}\n{out}");
    }
}
