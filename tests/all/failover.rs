//! Real failover: real HTTPS endpoints that die in every way, the real program, real queries all the while.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType::{self, A, AAAA};
use serde_json::json;

use crate::meridian::{Asker, CONFIG, Meridian, PATIENCE, addresses};
use crate::origin::{Authority, Behaviour, Certificate, HOST, Origin};
use crate::rest::Rest;

const INTERVAL: Duration = Duration::from_secs(1);
const FAST: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_millis(500);
/// Checks start up to a tenth early or late.
const JITTER: f64 = 0.1;
/// Clocks of two processes are read at two moments.
const EARLY: Duration = Duration::from_millis(50);

/// `[monitor.NAME]` for an HTTPS origin; quick, `fall` 3, `rise` 2.
fn monitor(name: &str, origin: SocketAddr, authority: &Authority) -> String {
    format!(
        "[monitor.{name}]\nhttps = \"/healthz\"\nhost = \"{HOST}\"\nport = {}\nca = {:?}\nexpect = {{ body = \"ready\" }}\n\
         interval = \"1s\"\nfast = \"500ms\"\ntimeout = \"500ms\"\nfall = 3\nrise = 2\n",
        origin.port(),
        authority.ca_file()
    )
}

/// A pool of one checked address, with a monitor of the same name.
fn checked_pool(name: &str, origin: SocketAddr, authority: &Authority) -> String {
    format!("{}[pool.{name}]\nendpoints = [\"{}\"]\nmonitor = \"{name}\"\n", monitor(name, origin, authority), origin.ip())
}

const HEAD: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n";

fn serve(zone: &str) -> (Meridian, Rest) {
    // Most of what is checked here dies at once, on purpose.
    let config = format!("{CONFIG}[health]\nfreeze = false\n");
    let meridian = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", &format!("{HEAD}{zone}"))]);
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Waits until the endpoint is in this state.
fn wait_for_state(rest: &Rest, endpoint: &str, state: &str) {
    let began = Instant::now();
    while rest.endpoint(endpoint)["state"] != state {
        assert!(began.elapsed() < PATIENCE, "not {state}: {}", rest.endpoint(endpoint));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The TTL of the first answer.
fn ttl(message: &Message) -> u32 {
    message.answers.first().expect("an answer").ttl
}

/// Asks every name for both families without a pause; an unanswered query ends it with a panic.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Stream {
    pub(crate) fn of(meridian: &Meridian, names: &[&str]) -> Stream {
        let (stop, server) = (Arc::new(AtomicBool::new(false)), meridian.dns);
        let names: Vec<String> = names.iter().map(|name| format!("{name}.example.com.")).collect();
        let stopped = stop.clone();
        let (began, begins) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let asker = Asker::new(server);
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                for name in &names {
                    for rtype in [A, AAAA] {
                        let reply = asker.ask(name, rtype, None);
                        let code = reply.metadata.response_code;
                        assert!(code == ResponseCode::NoError || name.starts_with("servfail"), "{name} {rtype}: {code}");
                        count += 1;
                    }
                }
                let _ = began.send(());
                // Fast enough to see every change, slow enough to leave the machine to the others.
                std::thread::sleep(Duration::from_millis(2));
            }
            count
        });
        // What follows may be over before a busy machine starts a thread.
        let _ = begins.recv();
        Stream { stop, thread: Some(thread) }
    }

    /// Ends it; every query was answered.
    pub(crate) fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.thread.take().expect("once").join().expect("every query is answered");
        assert!(count > 0);
        count
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One way to fail.
struct Case {
    name: &'static str,
    /// Its words in the status.
    reason: &'static str,
    /// What one failing check takes.
    took: Duration,
}

const QUICK: Duration = Duration::ZERO;

#[test]
fn every_way_to_fail_moves_traffic_no_sooner_than_the_arithmetic_says_and_recovery_brings_it_back() {
    let cases = [
        Case { name: "killed", reason: "connect: connection refused", took: QUICK },
        Case { name: "hung", reason: "timeout during response", took: TIMEOUT },
        Case { name: "busy", reason: "HTTP status 503", took: QUICK },
        Case { name: "expired", reason: "TLS: certificate expired", took: QUICK },
        Case { name: "misnamed", reason: "TLS: certificate not valid for name", took: QUICK },
    ];
    let authority = Authority::new();
    let mut origins: Vec<Option<Origin>> =
        (1..=cases.len()).map(|at| Some(Origin::https(&format!("127.0.1.{at}:0"), &authority, Certificate::Good))).collect();
    let addrs: Vec<SocketAddr> = origins.iter().map(|origin| origin.as_ref().expect("running").addr()).collect();
    let mut zone = "[pool.spare]\nendpoints = [\"127.0.1.99\", \"2001:db8::99\"]\n".to_owned();
    for (case, addr) in cases.iter().zip(&addrs) {
        let name = case.name;
        zone += &checked_pool(name, *addr, &authority);
        zone += &format!("[steer.{name}]\npolicy = \"failover\"\nto = [\"{name}\", \"spare\"]\n");
    }
    let (meridian, rest) = serve(&zone);
    let id = |at: usize| format!("example.com/{}/127.0.1.{}", cases[at].name, at + 1);
    (0..cases.len()).for_each(|at| wait_for_state(&rest, &id(at), "up"));
    let stream = Stream::of(&meridian, &cases.each_ref().map(|case| case.name));
    let spare = ip("127.0.1.99");

    // How long it takes from a moment before the cause: a busy machine may start the thread late.
    let watch = |at: usize, wanted: IpAddr, began: Instant| {
        let (server, name) = (meridian.dns, format!("{}.example.com.", cases[at].name));
        std::thread::spawn(move || {
            let asker = Asker::new(server);
            while addresses(&asker.ask(&name, A, None)) != [wanted] {
                assert!(began.elapsed() < PATIENCE, "{name} does not change");
                std::thread::sleep(Duration::from_millis(5));
            }
            began.elapsed()
        })
    };
    let fail = |at: usize, origins: &mut Vec<Option<Origin>>| {
        let origin = || origins[at].as_ref().expect("running");
        match cases[at].name {
            "killed" => origins[at] = None,
            "hung" => origin().behave(Behaviour::HangAfterTls),
            "busy" => origin().behave(Behaviour::Status(503)),
            "expired" => origin().show(&authority, Certificate::Expired),
            _ => origin().show(&authority, Certificate::WrongName),
        }
    };
    let mut watches = Vec::new();
    for at in 0..cases.len() {
        let began = Instant::now();
        fail(at, &mut origins);
        watches.push(watch(at, spare, began));
    }
    for (at, (watch, case)) in watches.into_iter().zip(&cases).enumerate() {
        let took = watch.join().expect("it changes");
        // F = 3; with jitter. How late it may be, `probe::simulation` holds against the arithmetic; here a busy machine decides.
        let step = |jitter: f64| FAST.mul_f64(jitter).max(case.took);
        let earliest = case.took + 2 * step(1.0 - JITTER);
        assert!(took + EARLY >= earliest, "{} moved after {took:?}, before the third failure can be known ({earliest:?})", case.name);
        let endpoint = rest.endpoint(&id(at));
        assert_eq!((&endpoint["state"], &endpoint["usable"]), (&json!("down"), &json!(false)), "{endpoint}");
        let reason = endpoint["last_error"].as_str().unwrap_or_default();
        assert!(reason.contains(case.reason), "{}: {reason}", case.name);
        assert_eq!(addresses(&meridian.ask(&format!("{}.example.com.", case.name), AAAA)), [ip("2001:db8::99")], "one decision for both types");
    }

    let mut watches = Vec::new();
    for at in 0..cases.len() {
        let began = Instant::now();
        match cases[at].name {
            "killed" => origins[at] = Some(Origin::https(&addrs[at].to_string(), &authority, Certificate::Good)),
            _ => {
                let origin = origins[at].as_ref().expect("running");
                origin.behave(Behaviour::Healthy);
                origin.show(&authority, Certificate::Good);
            }
        }
        watches.push(watch(at, addrs[at].ip(), began));
    }
    for (watch, case) in watches.into_iter().zip(&cases) {
        let took = watch.join().expect("it comes back");
        // Two successes in a row at the normal interval.
        let earliest = INTERVAL.mul_f64(1.0 - JITTER);
        assert!(took + EARLY >= earliest, "{} came back after {took:?}, before the second success can be known ({earliest:?})", case.name);
    }
    let back = rest.endpoint(&id(0));
    assert!(back["state"] == "ramp" && back["last_error_at"].as_u64() <= back["last_check"].as_u64(), "why it was down, until it is up: {back}");
    stream.finish();
}

#[test]
fn failback_waits_as_it_is_told() {
    let authority = Authority::new();
    let origin = Origin::https("127.0.1.11:0", &authority, Certificate::Good);
    let mut zone = checked_pool("first", origin.addr(), &authority);
    zone += "[pool.second]\nendpoints = [\"127.0.1.12\"]\n[pool.third]\nendpoints = [\"127.0.1.13\"]\n";
    zone += "[policy.held]\npolicy = \"failover\"\nto = [\"first\", \"second\", \"third\"]\nfailback = \"manual\"\n[steer.named]\nuse = \"held\"\n";
    for (name, failback) in [("auto", "\"auto\""), ("manual", "\"manual\""), ("after", "{ after = \"2s\" }")] {
        zone += &format!("[steer.{name}]\npolicy = \"failover\"\nto = [\"first\", \"second\", \"third\"]\nfailback = {failback}\n");
    }
    let (meridian, rest) = serve(&zone);
    let endpoint = "example.com/first/127.0.1.11";
    wait_for_state(&rest, endpoint, "up");
    let names = ["auto", "manual", "after", "named"];
    let stream = Stream::of(&meridian, &names);
    let (first, second) = (ip("127.0.1.11"), ip("127.0.1.12"));
    let at = |meridian: &Meridian, name: &str| addresses(&meridian.ask(&format!("{name}.example.com."), A));

    // The second child came and went while nobody used it: it is not held, and takes over when the first fails.
    let down = rest.lay("example.com/second", json!({ "state": "down" }));
    rest.revert(down);
    origin.behave(Behaviour::Status(503));
    for name in names {
        meridian.wait_for(&format!("{name}.example.com."), A, |seen| seen == [second]);
    }
    let well = Instant::now();
    origin.behave(Behaviour::Healthy);
    meridian.wait_for("auto.example.com.", A, |seen| seen == [first]);
    meridian.wait_for("after.example.com.", A, |seen| seen == [first]);
    // How much later it is, a busy machine decides.
    assert!(well.elapsed() >= Duration::from_secs(2), "2 s were asked for, it took {:?}", well.elapsed());
    assert_eq!((at(&meridian, "manual"), at(&meridian, "named")), (vec![second], vec![second]), "held");
    stream.finish();

    // A crash does not bring it back.
    meridian.signal("KILL");
    let meridian = meridian.restart_dead();
    let rest = Rest::new(&meridian);
    meridian.wait_for("auto.example.com.", A, |seen| seen == [first]);
    assert_eq!((at(&meridian, "manual"), at(&meridian, "named")), (vec![second], vec![second]), "still held");
    let stream = Stream::of(&meridian, &names);
    rest.post("/v1/failback", json!({ "name": "example.com/manual" }));
    assert_eq!((at(&meridian, "manual"), at(&meridian, "named")), (vec![first], vec![second]), "in effect with the reply, and only what was named");
    rest.post("/v1/failback", json!({ "name": "example.com/named" }));
    assert_eq!(at(&meridian, "named"), [first], "a steered name stands for the policy it uses");
    let (status, problem) = rest.call(reqwest::Method::POST, "/v1/failback", Some(json!({ "name": "example.com/policy:hold" })));
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("did you mean example.com/policy:held")), "{problem}");
    stream.finish();
}

#[test]
fn with_everything_down_each_name_does_as_it_is_told() {
    let authority = Authority::new();
    let (a, b) = (Origin::https("127.0.1.21:0", &authority, Certificate::Good), Origin::https("127.0.1.22:0", &authority, Certificate::Good));
    let mut zone = checked_pool("a", a.addr(), &authority) + &checked_pool("b", b.addr(), &authority);
    zone += "[pool.sorry]\nendpoints = [\"127.0.1.29\"]\n";
    let names = ["all", "last-good", "nodata", "servfail", "sorry"];
    for name in names {
        zone += &format!("[steer.{name}]\npolicy = \"failover\"\nto = [\"a\", \"b\"]\nall_down = \"{name}\"\n");
    }
    zone += r#"[steer.geo]
policy = "geo"
rules = [
  { net = ["198.51.100.0/24"], to = ["a"], fence = true, all_down = "nodata" },
  { net = ["203.0.113.0/24"],  to = ["a"], all_down = "servfail" },
]
default  = ["b", "a"]
all_down = "sorry"
"#;
    let (meridian, rest) = serve(&zone);
    wait_for_state(&rest, "example.com/a/127.0.1.21", "up");
    wait_for_state(&rest, "example.com/b/127.0.1.22", "up");
    let (at_a, at_b, sorry) = (ip("127.0.1.21"), ip("127.0.1.22"), ip("127.0.1.29"));
    let stream = Stream::of(&meridian, &["all", "last-good", "nodata", "servfail", "sorry", "geo"]);
    let (fenced, open) = ((ip("198.51.100.0"), 24), (ip("203.0.113.0"), 24));
    let geo = |client| {
        let message = meridian.ask_for("geo.example.com.", A, client);
        (message.metadata.response_code, addresses(&message))
    };
    assert_eq!((geo(fenced).1, geo(open).1), (vec![at_a], vec![at_a]));

    a.behave(Behaviour::Status(503));
    for name in names {
        meridian.wait_for(&format!("{name}.example.com."), A, |seen| seen == [at_b]);
    }
    assert_eq!(geo(open).1, [at_b], "the default follows the rule");
    assert_eq!(geo(fenced), (ResponseCode::NoError, vec![]), "but not behind a fence");

    b.behave(Behaviour::Status(503));
    meridian.wait_for("sorry.example.com.", A, |seen| seen == [sorry]);
    let ask = |name: &str, rtype: RecordType| meridian.ask(&format!("{name}.example.com."), rtype);
    assert_eq!(addresses(&ask("all", A)), [at_a], "in the order of the policy, as if all were up");
    assert_eq!(ttl(&ask("all", A)), 10, "the minimum: it may end at any moment");
    assert_eq!(addresses(&ask("last-good", A)), [at_b], "what served last");
    // Somebody writes a comment in the midst of it.
    meridian.write("zones/example.com.toml", &format!("{HEAD}# all is down\n{zone}"));
    rest.post("/v1/reload", json!({}));
    assert_eq!((addresses(&ask("last-good", A)), addresses(&ask("all", A))), (vec![at_b], vec![at_a]), "a reload forgets nothing");
    let nodata = ask("nodata", A);
    assert_eq!((nodata.metadata.response_code, nodata.answers.len(), nodata.authorities.len()), (ResponseCode::NoError, 0, 1));
    assert_eq!(ask("servfail", A).metadata.response_code, ResponseCode::ServFail);
    assert_eq!(addresses(&ask("geo", A)), [sorry]);
    assert_eq!(geo(open).0, ResponseCode::ServFail, "the rule's own all_down");
    assert_eq!(geo(fenced), (ResponseCode::NoError, vec![]));

    b.behave(Behaviour::Healthy);
    for name in names {
        meridian.wait_for(&format!("{name}.example.com."), A, |seen| seen == [at_b]);
    }
    assert_eq!(geo(open).1, [at_b]);
    stream.finish();
}

#[test]
fn a_pool_below_its_minimum_or_without_a_family_is_passed_over_but_stays_a_last_resort() {
    let authority = Authority::new();
    let start = |at: u8| Origin::https(&format!("127.0.1.{at}:0"), &authority, Certificate::Good);
    let (one, two, spare) = (start(31), start(32), start(34));
    let mut zone =
        monitor("one", one.addr(), &authority) + &monitor("two", two.addr(), &authority) + &checked_pool("spare", spare.addr(), &authority);
    for (name, minimum) in [("count", "2"), ("percent", "\"50%\""), ("any", "1")] {
        zone += &format!(
            "[pool.{name}]\nmin_healthy = {minimum}\nendpoints = [{{ address = \"127.0.1.31\", monitor = \"one\" }}, \
             {{ address = \"127.0.1.32\", monitor = \"two\" }}, {{ address = \"127.0.1.33\", monitor = \"two\" }}]\n\
             [steer.{name}]\npolicy = \"failover\"\nto = [\"{name}\", \"spare\"]\n"
        );
    }
    // 127.0.1.33 shares the port of `two` and nobody listens there.
    zone += "[pool.both]\nendpoints = [{ address = \"127.0.1.31\", monitor = \"one\" }, \"2001:db8::31\"]\n";
    zone += "[pool.both-too]\nendpoints = [\"127.0.1.35\", \"2001:db8::35\"]\n";
    zone += "[steer.both]\npolicy = \"failover\"\nto = [\"both\", \"both-too\"]\nfamily = \"require-both\"\n";
    zone += "[steer.either]\npolicy = \"failover\"\nto = [\"both\", \"both-too\"]\n";
    zone += "[steer.half]\npolicy = \"failover\"\nto = [\"both\", \"spare\"]\nfamily = \"require-both\"\n";
    let (meridian, rest) = serve(&zone);
    wait_for_state(&rest, "example.com/any/127.0.1.33", "down");
    wait_for_state(&rest, "example.com/any/127.0.1.31", "up");
    wait_for_state(&rest, "example.com/any/127.0.1.32", "up");
    wait_for_state(&rest, "example.com/spare/127.0.1.34", "up");
    let names = ["count", "percent", "any", "both", "either", "half"];
    let stream = Stream::of(&meridian, &names);
    let ask = |name: &str, rtype: RecordType| {
        let mut seen = addresses(&meridian.ask(&format!("{name}.example.com."), rtype));
        seen.sort();
        seen
    };
    let (at_one, at_two, at_spare) = (ip("127.0.1.31"), ip("127.0.1.32"), ip("127.0.1.34"));
    for name in ["count", "percent", "any"] {
        assert_eq!(ask(name, A), [at_one, at_two], "{name}: two of three are enough");
    }
    assert_eq!((ask("both", A), ask("both", AAAA)), (vec![at_one], vec![ip("2001:db8::31")]));

    one.behave(Behaviour::Status(503));
    for name in ["count", "percent"] {
        meridian.wait_for(&format!("{name}.example.com."), A, |seen| seen == [at_spare]);
    }
    assert_eq!(ask("any", A), [at_two]);
    assert_eq!((ask("both", A), ask("both", AAAA)), (vec![ip("127.0.1.35")], vec![ip("2001:db8::35")]), "the pool that has both");
    assert_eq!((ask("either", A), ask("either", AAAA)), (vec![], vec![ip("2001:db8::31")]), "no data rather than another pool's");
    assert_eq!((ask("half", A), ask("half", AAAA)), (vec![at_one], vec![ip("2001:db8::31")]), "none has both: all_down decides");

    spare.behave(Behaviour::Status(503));
    for name in ["count", "percent"] {
        meridian.wait_for(&format!("{name}.example.com."), A, |seen| seen == [at_two]);
    }
    stream.finish();
}

#[test]
fn the_ttl_is_low_while_anything_consulted_is_in_doubt_and_comes_back_in_a_line() {
    let authority = Authority::new();
    let (hung, good) = (Origin::https("127.0.1.41:0", &authority, Certificate::Good), Origin::https("127.0.1.42:0", &authority, Certificate::Good));
    hung.behave(Behaviour::HangAfterAccept);
    let patient = |text: String| text.replace("timeout = \"500ms\"", "timeout = \"1s\"").replace("fall = 3", "fall = 10");
    let mut zone = patient(checked_pool("hung", hung.addr(), &authority)) + &patient(checked_pool("good", good.addr(), &authority));
    zone += "[pool.plain]\nendpoints = [\"127.0.1.43\"]\n";
    for (name, to) in [("plain", "\"plain\""), ("new", "\"hung\", \"plain\""), ("app", "\"good\", \"plain\""), ("calm", "\"plain\", \"good\"")] {
        zone += &format!("[steer.{name}]\npolicy = \"failover\"\nto = [{to}]\nttl = {{ max = 4, min = 1 }}\n");
    }
    let (meridian, rest) = serve(&zone);
    let ask = |name: &str| meridian.ask(&format!("{name}.example.com."), A);
    // The first check cannot be over: it hangs for a second.
    let fresh = ask("new");
    assert_eq!((addresses(&fresh), ttl(&fresh)), (vec![ip("127.0.1.41")], 1), "unknown is usable, and in doubt");
    assert_eq!(ttl(&ask("plain")), 4, "nothing checks it, nothing is in doubt");
    let stream = Stream::of(&meridian, &["plain", "new", "app", "calm"]);
    meridian.wait_for("new.example.com.", A, |seen| seen == [ip("127.0.1.43")]);
    assert_eq!(rest.endpoint("example.com/hung/127.0.1.41")["state"], "down", "the first result decides alone");

    let good_id = "example.com/good/127.0.1.42";
    wait_for_state(&rest, good_id, "up");
    good.behave(Behaviour::Status(503));
    wait_for_state(&rest, good_id, "suspect");
    let doubtful = ask("app");
    assert_eq!((addresses(&doubtful), ttl(&doubtful)), (vec![ip("127.0.1.42")], 1), "suspect is still handed out");
    assert_eq!(ttl(&ask("calm")), 4, "what is not consulted is no reason to hurry");
    // From 1 back to 4 over twice 4 s, which begin after this.
    let (began, mut last) = (Instant::now(), 1);
    good.behave(Behaviour::Healthy);
    wait_for_state(&rest, good_id, "up");
    while last < 4 {
        let now = ttl(&ask("app"));
        assert!(now >= last, "from {last} to {now}");
        let elapsed = began.elapsed().as_secs_f64() + 1.1;
        assert!(f64::from(now) <= 1.0 + 3.0 * elapsed / 8.0, "{now} after {elapsed} s is too early");
        assert!(began.elapsed() < PATIENCE, "still {now}");
        last = now;
        std::thread::sleep(Duration::from_millis(50));
    }
    stream.finish();
}
