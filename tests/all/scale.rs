//! Work grows with the input, not with its square: shapes of zones, databases and tables that are cheap to write and have taken minutes to load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian::answer::{Asked, Dice, MAX_REPLY_LEN, Transport, answer};
use meridian::config::{MemoryFiles, load_master_alone};
use meridian::control::load::{self, Previous};
use meridian::control::offline::world_of_files;
use meridian::dns::Name;
use meridian::geo::RttTable;
use meridian::geo::build::{Input, build};

/// Lines, or words, of the smaller input; the larger one has four times as many.
const SIZE: usize = 4000;
/// Four is linear, sixteen is quadratic.
const MOST_GROWTH: u32 = 9;
/// Below this nothing is quadratic that matters, and times are too short to be compared.
const TRIFLE: Duration = Duration::from_millis(300);

/// How long this thread has been on a processor: other tests take turns with it.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the time of a thread");
    Duration::from_nanos(text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number"))
}

fn check(what: &str, run: impl Fn(&str), text: impl Fn(usize) -> String) {
    let time = |size: usize| {
        let (text, start) = (text(size), thread_time());
        run(&text);
        thread_time() - start
    };
    // What is slow once may have been unlucky.
    let grows = || {
        let (small, large) = (time(SIZE), time(4 * SIZE));
        (large > TRIFLE && large > small * MOST_GROWTH).then_some((small, large))
    };
    assert!(grows().is_none() || grows().is_none(), "{what}: {:?}", grows());
}

fn lines(head: &str, line: impl Fn(usize) -> String, count: usize) -> String {
    (0..count).fold(head.to_string(), |text, n| text + &line(n))
}

#[test]
fn master_files() {
    const HEAD: &str = "$TTL 300\n@ SOA ns1 h 1 1 1 1 1\n@ NS ns1\nns1 A 192.0.2.1\n";
    let load = |text: &str| {
        let files = MemoryFiles([(PathBuf::from("zone"), text.as_bytes().into())].into());
        drop(load_master_alone(&files, Path::new("zone"), &Name::parse_absolute("example.com").expect("a name")));
    };
    type Case = (&'static str, fn(usize) -> String);
    let cases: [Case; 12] = [
        ("one set", |n| format!("x A 10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255)),
        ("one record", |_| "x A 10.0.0.1\n".into()),
        ("types of one owner", |n| format!("x TYPE{} \\# 1 00\n", 1000 + n % 60_000)),
        ("a chain", |n| format!("c{n} CNAME c{}\n", n + 1)),
        ("DNAMEs", |n| format!("d{n} DNAME e{n}\n")),
        ("servers of the zone", |n| format!("@ NS server{n}\n")),
        ("servers of a delegation", |n| format!("d NS ns{n}.d\nns{n}.d A 10.0.0.1\n")),
        ("delegations without glue", |n| format!("d{n} NS ns.d{n}\n")),
        ("absent targets", |n| format!("m{n} MX 1 absent{n}.a.b.c\n")),
        ("deep names", |n| format!("{}x{n} A 10.0.0.1\n", "a.".repeat(100))),
        ("errors", |_| "x A nonsense\n".into()),
        ("wildcards", |n| format!("*.w{n} A 10.0.0.1\nm{n} MX 1 z.w{n}\n")),
    ];
    for (what, line) in cases {
        check(what, load, |size| lines(HEAD, line, size));
    }
    for (what, words) in [("NSEC", "TYPE1000 A "), ("APL", "1:10.0.0.0/8 "), ("TXT", "a ")] {
        check(what, load, |size| format!("{HEAD}x {what} {}{}\n", if what == "NSEC" { "y " } else { "" }, words.repeat(size)));
    }
}

#[test]
fn zones_in_toml() {
    const HEAD: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n";
    const POOL: &str = "[pool.p]\nendpoints = [\"192.0.2.1\"]\n";
    let load = |text: &str| {
        let files = MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.toml", text)]);
        drop(world_of_files(load::build(&files, Path::new("meridian.toml"), &Previous::default())));
    };
    let pool = |n: usize| format!("[pool.p{n}]\nendpoints = [\"192.0.2.1\"]\n");
    check("pools and steered names", load, |size| lines(HEAD, |n| format!("{}[steer.s{n}]\nuse = \"p{n}\"\n", pool(n)), size));
    check("names of no pool", load, |size| lines(HEAD, |n| format!("{}[steer.s{n}]\nuse = \"q{n}\"\n", pool(n)), size));
    check("monitors", load, |size| {
        let line = |n| format!("[monitor.m{n}]\ntcp = true\nport = 1\n[pool.p{n}]\nmonitor = \"m{n}\"\nendpoints = [\"192.0.2.1\"]\n");
        lines(HEAD, |n| format!("{}[steer.s{n}]\nuse = \"p{n}\"\n", line(n)), size)
    });
    check("a cycle", load, |size| lines(HEAD, |n| format!("[policy.c{n}]\npolicy = \"failover\"\nto = [\"c{}\"]\n", (n + 1) % size), size));
    check("ignored keys", load, |size| {
        let line = |n| {
            format!(
                "[policy.c{n}]\npolicy = \"failover\"\nto = [\"p\"]\nttl = 9\n[policy.d{n}]\npolicy = \"failover\"\nto = [\"c{n}\"]\n[steer.s{n}]\nuse = \"d{n}\"\n"
            )
        };
        lines(&format!("{HEAD}{POOL}"), line, size)
    });
    check("networks of a rule", load, |size| {
        let nets = lines("", |n| format!("\"10.{}.{}.0/24\", ", n >> 8, n & 255), size);
        format!("{HEAD}{POOL}[steer.s]\npolicy = \"geo\"\ndefault = \"p\"\nrules = [{{ net = [{nets}], to = \"p\", fence = true }}]\n")
    });
    check("unknown keys", load, |size| lines(&format!("{HEAD}{POOL}"), |n| format!("key{n} = 1\n"), size));
    for broken in ["[", "{a=", "a.", "= = =\n", "[zone]\n", "[[zone]]\n", "a = \"\n", "a = \"\"\"\n"] {
        check(broken, load, |size| format!("a = {}", broken.repeat(size)));
    }
}

#[test]
fn geo_texts() {
    let csv = |text: &str| drop(build(&[Input { name: "x", bytes: text.as_bytes() }], &mut |_| {}));
    let country = |n: usize| ["DE", "FR", "US"][n % 3];
    check("nested ranges", csv, |size| lines("", |n| format!("{n},{},{}\n", 4_000_000_000 - n, country(n)), size));
    check("growing ranges", csv, |size| lines("", |n| format!("{},{},{}\n", size - n, 3_000_000_000 + n, country(n)), size));
    check("one range", csv, |size| lines("", |n| format!("1,4000000000,{}\n", country(n)), size));
    check("long networks", csv, |size| lines("network,country\n", |n| format!("2001:db8:{n:x}::/{},DE\n", 48 + n % 80), size));
    check("an open quote", csv, |size| format!("\"{}", "\"\"\n".repeat(size)));
    let latency = |text: &str| drop(RttTable::parse(text));
    check("latency of networks", latency, |size| lines("key,a\n", |n| format!("cidr:10.{}.{}.0/24,1\n", n >> 8, n & 255), size));
    check("columns", latency, |size| lines("key", |n| format!(",r{n}"), 4 * size) + "\n*,1\n");
}

/// Found by the fuzzer: names in a reply were compared label by label with what stood there, at every label of both.
#[test]
fn names_of_equal_labels() {
    let zone = "$TTL 300\n@ SOA ns1 h 1 1 1 1 1\n@ NS ns1\nns1 A 192.0.2.1\nrec DNAME rec.old\nold DNAME new\n";
    let files = MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.zone", zone)]);
    let world = world_of_files(load::build(&files, Path::new("meridian.toml"), &Previous::default()));
    let time = |label: fn(u8) -> u8| {
        let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        (0..110).for_each(|at| packet.extend_from_slice(&[1, label(at)]));
        packet.extend_from_slice(b"\x03rec\x07example\x03com\0\0\x01\0\x01");
        let asked = Asked { packet: &packet, source: [192, 0, 2, 9].into(), transport: Transport::Tcp, keepalive: 0 };
        let (mut reply, start) = (vec![0; MAX_REPLY_LEN], thread_time());
        for _ in 0..200 {
            let _ = answer(&world, &asked, &mut Dice::new(1, 1), &mut reply);
        }
        thread_time() - start
    };
    let is_slow = || {
        let (equal, different) = (time(|_| b'a'), time(|at| b'a' + at % 26));
        (equal > TRIFLE && equal > different * 5).then_some((equal, different))
    };
    assert!(is_slow().is_none() || is_slow().is_none(), "{:?}", is_slow());
}
