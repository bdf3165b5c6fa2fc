//! Weights: shares, agreement, and how little moves when they change. Mostly at the engine with chance that can be repeated; a part over sockets.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use meridian::answer::{Asked, Dice, MAX_REPLY_LEN, Outcome, Transport, answer};
use meridian::config::MemoryFiles;
use meridian::control::load::{self, Previous};
use meridian::control::offline::world_of_files;
use meridian::world::World;

use crate::meridian::{Asker, Meridian, addresses, encode, scope};

/// χ² that chance exceeds once in a million, by degrees of freedom.
fn critical(freedom: usize) -> f64 {
    match freedom {
        1 => 23.93,
        2 => 27.63,
        3 => 30.66,
        8 => 42.70,
        other => panic!("no critical value for {other} degrees of freedom"),
    }
}

const ASKED: usize = 100_000;
const NOW: u64 = 1_800_000_000;

/// A zone with these pools (name, last octet of its addresses) and this text behind them.
fn zone(pools: &[(&str, u8)], rest: &str) -> String {
    let mut text = String::from("[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n");
    for (name, octet) in pools {
        text += &format!("[pool.{name}]\nendpoints = [\"192.0.2.{octet}\", \"2001:db8::{octet:x}\"]\n");
    }
    text + rest
}

const ABC: [(&str, u8); 4] = [("a", 1), ("b", 2), ("c", 3), ("d", 4)];

/// A weighted name `app`.
fn weighted(mode: &str, to: &str) -> World {
    world(&zone(
        &ABC,
        &format!(
            "[steer.app]\npolicy = \"weighted\"\nmode = \"{mode}\"\nto = {{ {to} }}\n[steer.keep]\nto = [\"a\", \"b\", \"c\", \"d\"]\npolicy = \"failover\"\n"
        ),
    ))
}

fn world(text: &str) -> World {
    let files = MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.toml", text)]);
    let build = load::build(&files, Path::new("meridian.toml"), &Previous::default());
    assert!(!build.has_errors(), "{:#?}", build.problems);
    world_of_files(build)
}

fn reply(world: &World, dice: &mut Dice, rtype: RecordType, client: Option<(IpAddr, u8)>) -> Message {
    let packet = encode("app.example.com.", rtype, 1, client);
    let mut buf = vec![0; MAX_REPLY_LEN];
    let asked = Asked { packet: &packet, source: Ipv4Addr::new(203, 0, 113, 53).into(), transport: Transport::Udp, keepalive: 0 };
    let Outcome::Reply(reply) = answer(world, &asked, dice, &mut buf) else { panic!("silence") };
    Message::from_vec(&buf[..reply.len]).expect("it decodes")
}

/// Last octets of the addresses, in order.
fn octets(message: &Message) -> Vec<u8> {
    let last = |addr: &IpAddr| match addr {
        IpAddr::V4(addr) => addr.octets()[3],
        IpAddr::V6(addr) => addr.octets()[15],
    };
    addresses(message).iter().map(last).collect()
}

fn pick(world: &World, dice: &mut Dice, rtype: RecordType, client: Option<(IpAddr, u8)>) -> u8 {
    let seen = octets(&reply(world, dice, rtype, client));
    assert_eq!(seen.len(), 1);
    seen[0]
}

fn chi_square(what: &str, picks: impl IntoIterator<Item = u8>, weights: &[(u8, f64)]) {
    let mut seen: HashMap<u8, f64> = HashMap::new();
    let mut number = 0.0;
    for pick in picks {
        *seen.entry(pick).or_default() += 1.0;
        number += 1.0;
    }
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let term = |(pick, weight): &(u8, f64)| {
        let expected = number * weight / total;
        (seen.get(pick).copied().unwrap_or(0.0) - expected).powi(2) / expected
    };
    let sum: f64 = weights.iter().map(term).sum();
    assert!(seen.keys().all(|pick| weights.iter().any(|(other, _)| other == pick)), "{what}: {seen:?}");
    assert!(sum < critical(weights.len() - 1), "{what}: {sum}, {seen:?}");
}

/// A prefix of its own for every number below 2^20.
fn client(number: usize) -> Option<(IpAddr, u8)> {
    Some((Ipv4Addr::from((number as u32) << 12).into(), 20))
}

#[test]
fn random_keeps_its_shares_and_has_no_memory() {
    let world = weighted("random", "a = 50, b = 30, c = 20");
    let mut dice = Dice::new(NOW, 1);
    let picks: Vec<u8> = (0..ASKED).map(|_| pick(&world, &mut dice, RecordType::A, None)).collect();
    let shares = [(1, 50.0), (2, 30.0), (3, 20.0)];
    chi_square("shares", picks.iter().copied(), &shares);
    let pairs: Vec<(u8, f64)> = shares.iter().flat_map(|(a, p)| shares.iter().map(move |(b, q)| (a * 10 + b, p * q))).collect();
    chi_square("pairs that follow each other", picks.chunks_exact(2).map(|pair| pair[0] * 10 + pair[1]), &pairs);
    chi_square(
        "far weights",
        (0..ASKED).map({
            let world = weighted("random", "a = 65535, b = 655");
            move |_| pick(&world, &mut dice, RecordType::AAAA, None)
        }),
        &[(1, 65535.0), (2, 655.0)],
    );
}

#[test]
fn random_keeps_its_shares_over_sockets() {
    let text = zone(&ABC[..3], "[steer.app]\npolicy = \"weighted\"\nmode = \"random\"\nto = { a = 50, b = 30, c = 20 }\n");
    let server = Meridian::start(&[("zones/example.com.toml", &text)]);
    let asker = Asker::new(server.dns);
    let picks: Vec<u8> = (0..4000).map(|_| octets(&asker.ask("app.example.com.", RecordType::A, None))[0]).collect();
    chi_square("shares", picks, &[(1, 50.0), (2, 30.0), (3, 20.0)]);
}

#[test]
fn coherent_agrees_over_types_and_servers_within_a_window_and_keeps_its_shares() {
    let [here, there] = [(); 2].map(|()| weighted("coherent", "a = 50, b = 30, c = 20"));
    let mut picks = Vec::new();
    let (mut dice, mut others) = (Dice::new(NOW, 1), Dice::new(NOW, 2));
    for number in 0..ASKED {
        let first = pick(&here, &mut dice, RecordType::A, client(number));
        if number % 4 == 0 {
            assert_eq!(pick(&here, &mut dice, RecordType::AAAA, client(number)), first, "AAAA for {number}");
            assert_eq!(pick(&there, &mut others, RecordType::AAAA, client(number)), first, "another server for {number}");
        }
        picks.push(first);
    }
    chi_square("shares over clients", picks.iter().copied(), &[(1, 50.0), (2, 30.0), (3, 20.0)]);

    // A second later one window in thirty has ended; of those, 1 − Σp² = 62 % see another child.
    let mut later = Dice::new(NOW + 1, 3);
    let moved = picks.iter().enumerate().filter(|(number, first)| pick(&here, &mut later, RecordType::A, client(*number)) != **first).count();
    assert!((1700..2500).contains(&moved), "{moved} of {ASKED} moved within a second");

    // One client over many windows gets all of them in their shares.
    let over_time = (0..20_000).map(|window| pick(&here, &mut Dice::new(NOW + 30 * window, 4), RecordType::A, client(7)));
    chi_square("shares over windows", over_time, &[(1, 50.0), (2, 30.0), (3, 20.0)]);
}

#[test]
fn nested_choices_are_independent() {
    for mode in ["coherent", "sticky", "random"] {
        let policy = |name: &str, to: &str| format!("[{name}]\npolicy = \"weighted\"\nmode = \"{mode}\"\nto = {{ {to} }}\n");
        let text = zone(
            &ABC,
            &(policy("policy.left", "a = 1, b = 1") + &policy("policy.right", "c = 1, d = 1") + &policy("steer.app", "left = 1, right = 1")),
        );
        let (world, mut dice) = (world(&text), Dice::new(NOW, 1));
        let picks: Vec<u8> = (0..ASKED / 2).map(|number| pick(&world, &mut dice, RecordType::A, client(number))).collect();
        chi_square(mode, picks, &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]);
    }
}

#[test]
fn sticky_moves_no_more_clients_than_it_must() {
    const CLIENTS: usize = 60_000;
    let choices = |to: &str| {
        let (world, mut dice) = (weighted("sticky", to), Dice::new(NOW, 1));
        (0..CLIENTS).map(|number| pick(&world, &mut dice, RecordType::A, client(number))).collect::<Vec<u8>>()
    };
    let before = choices("a = 50, b = 30, c = 20");
    chi_square("sticky shares", before.iter().copied(), &[(1, 50.0), (2, 30.0), (3, 20.0)]);
    for (what, to, minimum) in [
        ("a weight changes", "a = 50, b = 30, c = 10", 0.2 - 10.0 / 90.0),
        ("a child goes", "a = 50, c = 20", 0.3),
        ("a canary comes", "a = 50, b = 30, c = 20, d = 5", 5.0 / 105.0),
        ("the order changes", "c = 20, a = 50, b = 30", -0.01),
        ("all weights double", "a = 100, b = 60, c = 40", -0.01),
        ("a child of weight 0 comes", "a = 50, b = 30, c = 20, d = 0", -0.01),
    ] {
        let moved = choices(to).iter().zip(&before).filter(|(after, before)| after != before).count();
        let share = moved as f64 / CLIENTS as f64;
        assert!(share <= minimum + 0.01, "{what}: {share} moved, the least is {minimum}");
    }
}

#[test]
fn sticky_keeps_a_client_whatever_the_time_and_the_type_and_says_how_far_it_reaches() {
    let world = weighted("sticky", "a = 1, b = 1, c = 1");
    for number in 0..2000_u32 {
        let addr = Ipv4Addr::from(number.wrapping_mul(0x9e37_79b9) & 0xffff_f000);
        let first = pick(&world, &mut Dice::new(NOW, 1), RecordType::A, Some((addr.into(), 20)));
        let within = Ipv4Addr::from(u32::from(addr) | (number & 0xfff));
        assert_eq!(pick(&world, &mut Dice::new(NOW + u64::from(number) * 977, 2), RecordType::AAAA, Some((within.into(), 32))), first, "{within}");
    }
    for (client, len, expected) in
        [("198.51.100.0", 24, 20), ("198.51.0.0", 16, 20), ("2001:db8:1::", 48, 40), ("2001:db8:1:2::", 64, 40), ("0.0.0.0", 0, 0)]
    {
        let message = reply(&world, &mut Dice::new(NOW, 1), RecordType::A, Some((client.parse().expect("an address"), len)));
        assert_eq!(scope(&message), Some(expected), "{client}/{len}");
    }
}

#[test]
fn zero_weights_stand_by() {
    let share = |to: &str, expected: &[(u8, f64)]| {
        for mode in ["random", "coherent", "sticky"] {
            let (world, mut dice) = (weighted(mode, to), Dice::new(NOW, 1));
            let picks: Vec<u8> = (0..20_000).map(|number| pick(&world, &mut dice, RecordType::A, client(number))).collect();
            match expected {
                [(only, _)] => assert!(picks.iter().all(|pick| pick == only), "{mode}: {to}"),
                _ => chi_square(mode, picks, expected),
            }
        }
    };
    share("a = 0, b = 1, c = 0", &[(2, 1.0)]);
    share("a = 0, b = 1, c = 3", &[(2, 1.0), (3, 3.0)]);
    share("a = 0, b = 0, c = 0", &[(1, 1.0), (2, 1.0), (3, 1.0)]);
    share("a = 0", &[(1, 1.0)]);
}

#[test]
fn a_zero_weight_serves_when_nothing_else_is_up() {
    let rest = "[policy.split]\npolicy = \"weighted\"\nmode = \"random\"\nto = { a = 0, b = 1, c = 0 }\n[steer.app]\nuse = \"split\"\n";
    let server = Meridian::start(&[("zones/example.com.toml", &zone(&ABC[..3], rest))]);
    let asker = Asker::new(server.dns);
    let command = |args: &[&str]| {
        let (code, out, err) = server.command(&[args, &["--reason", "test"]].concat());
        assert_eq!(code, 0, "{args:?}: {out}{err}");
    };
    let shares = |what: &str, expected: &[(u8, f64)]| {
        let picks: Vec<u8> = (0..1000).map(|_| octets(&asker.ask("app.example.com.", RecordType::A, None))[0]).collect();
        match expected {
            [(only, _)] => assert!(picks.iter().all(|pick| pick == only), "{what}"),
            _ => chi_square(what, picks, expected),
        }
    };
    shares("all up", &[(2, 1.0)]);
    command(&["override", "example.com/b", "down"]);
    shares("b down", &[(1, 1.0), (3, 1.0)]);
    command(&["override", "example.com/a", "drain"]);
    shares("b down, a drained", &[(3, 1.0)]);
    command(&["override", "example.com/c", "down", "--break-glass"]);
    shares("all withdrawn: as if everything were up", &[(2, 1.0)]);
    command(&["override", "example.com/a", "up"]);
    shares("a drain outranks a later up: still as if everything were up", &[(2, 1.0)]);
    command(&["weight", "example.com/policy:split/c", "3"]);
    shares("a child's weight by overlay, all withdrawn", &[(2, 1.0), (3, 3.0)]);
}

#[test]
fn endpoint_weights_decide_order_and_who_is_cut() {
    let pool = |weights: [u32; 4], answers: u8| {
        let endpoints: Vec<String> =
            weights.iter().enumerate().map(|(at, weight)| format!("{{ address = \"192.0.2.{}\", weight = {weight} }}", at + 1)).collect();
        let zone = zone(&[], &format!("[pool.p]\nendpoints = [{}]\nanswers = {answers}\n[steer.app]\nuse = \"p\"\n", endpoints.join(", ")));
        (world(&zone), Dice::new(NOW, 1))
    };
    let (all, mut dice) = pool([50, 30, 20, 0], 8);
    let orders: Vec<Vec<u8>> = (0..ASKED).map(|_| octets(&reply(&all, &mut dice, RecordType::A, None))).collect();
    for order in &orders {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3], "each once, none of weight 0");
    }
    chi_square("who is first", orders.iter().map(|order| order[0]), &[(1, 50.0), (2, 30.0), (3, 20.0)]);
    let second_after_first: Vec<u8> = orders.iter().filter(|order| order[0] == 1).map(|order| order[1]).collect();
    chi_square("who follows the first", second_after_first, &[(2, 30.0), (3, 20.0)]);
    let (one, mut dice) = pool([50, 30, 20, 0], 1);
    chi_square("who is left", (0..ASKED).map(|_| pick(&one, &mut dice, RecordType::A, None)), &[(1, 50.0), (2, 30.0), (3, 20.0)]);
    let (equal, mut dice) = pool([7, 7, 7, 7], 1);
    chi_square("equal weights", (0..ASKED).map(|_| pick(&equal, &mut dice, RecordType::A, None)), &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]);
    let (zeros, mut dice) = pool([0, 0, 0, 0], 1);
    chi_square("only zeros", (0..ASKED).map(|_| pick(&zeros, &mut dice, RecordType::A, None)), &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]);
}
