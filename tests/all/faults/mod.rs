//! Real faults: nginx origins in a network of the test's own, the real program checking them, packets that vanish, machines that hang, cables that are
//! pulled, clocks that jump. What is compared is the trace of states in the audit log, which misses nothing, with what `docs/health.md` says; and
//! a client asks for every name all the while and is always answered.

pub mod clock;
mod hang;
mod network;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType::A;

use crate::failover::Stream;
use crate::meridian::{CONFIG, Meridian, PATIENCE, addresses};
use crate::namespace::inside;
use crate::origin::{Authority, Certificate, HOST};
use crate::rest::Rest;
use network::{Network, Nginx};

/// No second attempt to connect fits into the timeout (the kernel makes it after a second): what each check meets is known.
const PACE: &str = "interval = \"1s\"\nfast = \"500ms\"\ntimeout = \"700ms\"\nfall = 3\nrise = 2\n";
/// Answers when the prober's network works.
const REFERENCE: &str = "10.77.0.200";
const SPARE: &str = "192.0.2.99";

/// How the network or the origin fails.
#[derive(Clone, Copy)]
enum Injury {
    /// Packets that nftables matches, beside the address, and what becomes of them.
    Packets(&'static str, &'static str),
    /// Each packet takes so long, either way.
    Delay(Duration),
    /// The process is killed.
    Crash,
    /// The process stands still; the kernel goes on accepting for it.
    Hang,
    /// Status 503.
    Maintenance,
    Certificate(Certificate),
}

use Injury::*;

struct Fault {
    name: &'static str,
    /// `https`, `http` or `tcp`.
    check: &'static str,
    injury: Injury,
    /// States after each other, without suspicions that came to nothing.
    trace: &'static [&'static str],
    /// In the last reason.
    reason: &'static str,
}

const fn fault(name: &'static str, check: &'static str, injury: Injury, reason: &'static str) -> Fault {
    Fault { name, check, injury, trace: &["suspect", "down"], reason }
}

/// Goes on in service: nothing is to be seen.
const fn harmless(name: &'static str, check: &'static str, injury: Injury) -> Fault {
    Fault { name, check, injury, trace: &[], reason: "" }
}

const FAULTS: [Fault; 16] = [
    fault("crash", "https", Crash, "connect: connection refused"),
    fault("closed", "http", Packets("tcp dport 80", "reject with tcp reset"), "connect: connection refused"),
    fault("rejected", "http", Packets("tcp dport 80", "reject with icmp type host-unreachable"), "connect: host unreachable"),
    fault("blackhole", "https", Packets("", "drop"), "timeout during connect"),
    fault("blackhole-tcp", "tcp", Packets("", "drop"), "timeout during connect"),
    fault("reset", "http", Packets("tcp flags & psh == psh", "reject with tcp reset"), "connection reset"),
    // The client's first words never arrive: the port is open, and nothing is said.
    fault("half-open", "https", Packets("tcp dport 443 tcp flags & psh == psh", "drop"), "timeout during tls"),
    fault("hang", "https", Hang, "timeout during tls"),
    fault("hang-http", "http", Hang, "timeout during response"),
    // The kernel accepts for a process that hangs, and a check without words asks for no more.
    harmless("hang-tcp", "tcp", Hang),
    fault("maintenance", "http", Maintenance, "HTTP status 503"),
    fault("expired", "https", Certificate(Certificate::Expired), "TLS: certificate expired"),
    fault("misnamed", "https", Certificate(Certificate::WrongName), "TLS: certificate not valid for name"),
    fault("far", "https", Delay(Duration::from_millis(400)), "timeout during connect"),
    // TCP mends what is lost within the connection.
    harmless("lossy", "http", Packets("tcp flags & syn == 0 numgen inc mod 5 == 0", "drop")),
    // Every second connection meets nothing: never three failures in a row, but six faults.
    Fault {
        name: "now-and-then",
        check: "https",
        injury: Packets("tcp flags & (syn | ack) == syn numgen inc mod 2 == 0", "drop"),
        trace: &["down"],
        reason: "timeout during connect",
    },
];

/// On the long way if it is about delays.
fn address(at: usize, fault: &Fault) -> String {
    let network = if matches!(fault.injury, Delay(_)) { 78 } else { 77 };
    format!("10.{network}.0.{}", at + 11)
}

/// A pool, a monitor and a steered name.
fn checked(name: &str, check: &str, address: &str, authority: &Authority) -> String {
    let ca = authority.ca_file();
    let check = match check {
        "https" => format!("https = \"/healthz\"\nhost = \"{HOST}\"\nca = {ca:?}\nexpect = {{ body = \"ready\" }}\n"),
        "http" => format!("http = \"/healthz\"\nhost = \"{HOST}\"\nexpect = {{ body = \"ready\" }}\n"),
        _ => "tcp = true\nport = 80\n".into(),
    };
    format!(
        "[monitor.{name}]\n{check}{PACE}[pool.{name}]\nendpoints = [\"{address}\"]\nmonitor = \"{name}\"\n\
         [steer.{name}]\npolicy = \"failover\"\nto = [\"{name}\", \"spare\"]\n"
    )
}

fn zone(pools: &str) -> String {
    format!("[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool.spare]\nendpoints = [\"{SPARE}\"]\n{pools}")
}

fn inflict(network: &mut Network, nginx: &mut Nginx, fault: &Fault, authority: &Authority) {
    match fault.injury {
        Packets(matches, verdict) => network.filter(fault.name, &format!("ip daddr {} {matches}", nginx.address), verdict),
        Delay(time) => network.delay(&nginx.address, time),
        Crash => nginx.kill(),
        Hang => nginx.signal("STOP"),
        Maintenance => nginx.set_maintenance(true),
        Certificate(which) => network.show(nginx, authority, which),
    }
}

fn mend(network: &mut Network, nginx: &mut Nginx, fault: &Fault, authority: &Authority) {
    match fault.injury {
        Packets(..) => network.unfilter(fault.name),
        Delay(_) => network.delay(&nginx.address, Duration::ZERO),
        Crash => network.start(nginx),
        Hang => nginx.signal("CONT"),
        Maintenance => nginx.set_maintenance(false),
        Certificate(_) => network.show(nginx, authority, Certificate::Good),
    }
}

/// From, to, and why.
#[derive(Clone, Debug)]
struct Step {
    from: String,
    to: String,
    why: String,
}

/// Every transition of each address since the start, from the audit log.
fn traces(rest: &Rest) -> BTreeMap<String, Vec<Step>> {
    let log = rest.get("/v1/audit?kind=health&action=health&order=oldest&limit=1000");
    let mut traces: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    for entry in log["entries"].as_array().expect("entries").iter().filter(|entry| entry["action"] == "health") {
        let word = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let check = word("check");
        let (_, place) = check.rsplit_once(" at ").unwrap_or_else(|| panic!("{entry}"));
        let address = place.split(':').next().unwrap_or_default().to_owned();
        traces.entry(address).or_default().push(Step { from: word("before"), to: word("after"), why: word("detail") });
    }
    for (address, steps) in &traces {
        assert!(steps.windows(2).all(|pair| pair[0].to == pair[1].from), "{address}: a state is missing: {steps:#?}");
    }
    traces
}

/// The states entered, without suspicions that came to nothing: any check may be unlucky on a busy machine.
fn entered(steps: &[Step]) -> Vec<&str> {
    let mut states: Vec<&str> = Vec::new();
    for step in steps {
        if step.from == "suspect" && step.to != "down" {
            states.pop();
        } else {
            states.push(&step.to);
        }
    }
    states
}

/// Waits until `is_so` holds of all traces, and returns them.
fn wait(rest: &Rest, what: &str, is_so: impl Fn(&BTreeMap<String, Vec<Step>>) -> bool) -> BTreeMap<String, Vec<Step>> {
    let began = Instant::now();
    loop {
        let traces = traces(rest);
        if is_so(&traces) {
            return traces;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {traces:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_frozen(rest: &Rest) -> bool {
    rest.get("/v1/status")["health"]["frozen_since"].is_u64()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn faults_leave_the_trace_of_states_that_is_specified_and_every_query_is_answered() {
    inside("faults::faults_leave_the_trace_of_states_that_is_specified_and_every_query_is_answered", || {
        let authority = Authority::new();
        let places: Vec<String> = FAULTS.iter().enumerate().map(|(at, fault)| address(at, fault)).collect();
        let mut network = Network::new(&[&places[..], &[REFERENCE.into()]].concat());
        let mut origins: Vec<Nginx> = places.iter().map(|address| network.nginx(address, &authority, Certificate::Good)).collect();
        let _reference = network.nginx(REFERENCE, &authority, Certificate::Good);
        let pools: String = FAULTS.iter().zip(&places).map(|(fault, address)| checked(fault.name, fault.check, address, &authority)).collect();
        let config = format!("{CONFIG}[health]\nreferences = [\"{REFERENCE}:80\"]\n");
        let meridian = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", &zone(&pools))]);
        let rest = Rest::new(&meridian);
        let names = FAULTS.map(|fault| fault.name);
        let stream = Stream::of(&meridian, &names);
        let answers = |name: &str| addresses(&meridian.ask(&format!("{name}.example.com."), A));
        let of = |traces: &BTreeMap<String, Vec<Step>>, at: usize| -> Vec<String> {
            entered(traces.get(&places[at]).map_or(&[][..], |steps| steps)).into_iter().map(str::to_owned).collect()
        };
        wait(&rest, "all up", |traces| (0..FAULTS.len()).all(|at| of(traces, at) == ["up"]));
        wait_until("a reference that answers", || rest.get("/v1/status")["health"]["references"][0]["answers"] == true);

        // All of them at once. That is far more than half, but the reference answers: every failure counts.
        for (fault, nginx) in FAULTS.iter().zip(&mut origins) {
            inflict(&mut network, nginx, fault, &authority);
        }
        let wanted = |fault: &Fault| [&["up"], fault.trace].concat();
        let fallen = wait(&rest, "each as specified", |traces| FAULTS.iter().enumerate().all(|(at, fault)| of(traces, at) == wanted(fault)));
        for (fault, address) in FAULTS.iter().zip(&places) {
            let last = fallen[address].last().expect("a step");
            assert!(last.why.contains(fault.reason), "{}: {last:?}", fault.name);
            let is_down = fault.trace.ends_with(&["down"]);
            assert_eq!(answers(fault.name), [if is_down { SPARE } else { address }.parse::<std::net::IpAddr>().expect("one")], "{}", fault.name);
        }
        let flapping = &fallen[&places[FAULTS.len() - 1]];
        let faults = flapping.iter().filter(|step| step.to == "suspect").count();
        assert!((4..=5).contains(&faults) && flapping.last().is_some_and(|step| step.from == "up"), "the sixth fault is one too many: {flapping:#?}");

        for (fault, nginx) in FAULTS.iter().zip(&mut origins) {
            mend(&mut network, nginx, fault, &authority);
        }
        let back = |fault: &Fault| [wanted(fault), if fault.trace.is_empty() { vec![] } else { vec!["ramp"] }].concat();
        let is_back = |traces: &BTreeMap<String, Vec<Step>>| FAULTS.iter().enumerate().all(|(at, fault)| of(traces, at) == back(fault));
        wait(&rest, "each comes back", is_back);
        for (fault, address) in FAULTS.iter().zip(&places) {
            assert_eq!(answers(fault.name), [address.parse::<std::net::IpAddr>().expect("one")], "{}", fault.name);
        }
        assert!(!rest.get("/v1/audit?kind=health&limit=1000").to_string().contains("health.freeze"), "nothing was doubted");

        // The prober's own cables are pulled: its checks cannot run, and that counts for nothing.
        network.set_links("down");
        wait_until("a freeze", || is_frozen(&rest));
        std::thread::sleep(Duration::from_secs(3));
        // Those that were under way may have met it: that is no more than a suspicion.
        let none_fell = |traces: &BTreeMap<String, Vec<Step>>| {
            let unsuspected = |at: usize| of(traces, at).into_iter().filter(|state| state != "suspect").collect::<Vec<_>>();
            FAULTS
                .iter()
                .enumerate()
                .all(|(at, fault)| unsuspected(at) == back(fault).into_iter().filter(|state| *state != "suspect").collect::<Vec<_>>())
        };
        assert!(none_fell(&traces(&rest)), "{:#?}", traces(&rest));
        network.set_links("up");
        wait_until("a thaw", || !is_frozen(&rest));

        // Its way out swallows everything: what fails is doubted, and nothing falls however often it fails.
        network.filter("cut", "", "drop");
        let is_suspect = |steps: &Vec<Step>| steps.last().is_some_and(|step| step.to == "suspect");
        let places = &places;
        wait(&rest, "all suspect", |traces| places.iter().all(|address| traces.get(address).is_some_and(is_suspect)));
        wait_until("a freeze", || is_frozen(&rest));
        std::thread::sleep(Duration::from_secs(3));
        assert!(places.iter().all(|address| is_suspect(&traces(&rest)[address])), "{:#?}", traces(&rest));
        network.unfilter("cut");
        wait_until("a thaw", || !is_frozen(&rest));
        wait(&rest, "all as before", is_back);
        let log = rest.get("/v1/audit?kind=health&limit=1000").to_string();
        assert!(log.contains("health.freeze") && log.contains("health.thaw") && log.contains("no reference answers"), "{log}");
        stream.finish();
    });
}

#[test]
fn a_longer_way_makes_an_endpoint_degraded_and_keeps_it_in_service() {
    inside("faults::a_longer_way_makes_an_endpoint_degraded_and_keeps_it_in_service", || {
        let (authority, far, near) = (Authority::new(), "10.78.0.11", "10.77.0.11");
        let mut network = Network::new(&[far.into(), near.into()]);
        let _origins = [far, near].map(|address| network.nginx(address, &authority, Certificate::Good));
        let slow = "[defaults.monitor]\nslow = { above = \"250ms\" }\n";
        let pools = checked("far", "https", far, &authority) + &checked("near", "https", near, &authority);
        let meridian = Meridian::start(&[("meridian.toml", &format!("{CONFIG}{slow}")), ("zones/example.com.toml", &zone(&pools))]);
        let rest = Rest::new(&meridian);
        let stream = Stream::of(&meridian, &["far", "near"]);
        let usual = || rest.text("/metrics").contains("meridian_endpoint_usual_check_duration_seconds{endpoint=\"example.com/far/10.78.0.11\"}");
        let began = Instant::now();
        while !usual() {
            assert!(began.elapsed() < 2 * PATIENCE, "thirty checks a second apart");
            std::thread::sleep(Duration::from_millis(200));
        }
        // Connection, handshake, answer: three times there and back.
        network.delay(far, Duration::from_millis(55));
        let seen = wait(&rest, "degraded", |traces| entered(&traces[far]) == ["up", "degraded"]);
        let why = &seen[far].last().expect("a step").why;
        assert!(why.starts_with("slow: ") && why.contains("usually"), "{why}");
        assert_eq!(addresses(&meridian.ask("far.example.com.", A)), [far.parse::<std::net::IpAddr>().expect("one")], "in service");
        network.delay(far, Duration::ZERO);
        let seen = wait(&rest, "up", |traces| entered(&traces[far]) == ["up", "degraded", "up"]);
        assert_eq!(entered(&seen[near]), ["up"], "the way is its own");
        stream.finish();
    });
}

#[test]
fn without_references_a_pulled_cable_is_told_of_and_withdraws_nothing() {
    inside("faults::without_references_a_pulled_cable_is_told_of_and_withdraws_nothing", || {
        let (authority, places) = (Authority::new(), ["10.77.0.11", "10.77.0.12"]);
        let network = Network::new(&places.map(str::to_owned));
        let _origins = places.map(|address| network.nginx(address, &authority, Certificate::Good));
        let pools: String = [("one", places[0]), ("two", places[1])].map(|(name, address)| checked(name, "https", address, &authority)).concat();
        let meridian = Meridian::start(&[("meridian.toml", CONFIG), ("zones/example.com.toml", &zone(&pools))]);
        let rest = Rest::new(&meridian);
        let stream = Stream::of(&meridian, &["one", "two"]);
        let degraded = || rest.get("/v1/status")["degraded"].to_string();
        let are_up =
            |traces: &BTreeMap<String, Vec<Step>>| places.iter().all(|address| traces.get(*address).is_some_and(|steps| entered(steps) == ["up"]));
        // One that was under way may have failed.
        let none_fell = || traces(&rest).values().flatten().all(|step| step.to != "down");
        wait(&rest, "both up", are_up);
        let health = rest.get("/v1/status")["health"].clone();
        assert_eq!((&health["protection"], &health["unable"]), (&serde_json::json!("none"), &serde_json::json!(0)), "{health}");
        meridian.says(&["WARN", "every failure counts", "docs/health.md"]);
        assert!(meridian.command(&["status"]).1.contains("protected by none: no references, and 2 checks"), "{}", meridian.command(&["status"]).1);

        network.set_links("down");
        wait_until("being told", || degraded().contains("2 of 2 checks cannot run (this machine has no route to the network)"));
        let metrics = rest.text("/metrics");
        assert!(metrics.contains("meridian_checks_unable 2\n") && metrics.contains("meridian_health_protection{by=\"none\"} 1\n"), "{metrics}");
        std::thread::sleep(Duration::from_secs(3));
        assert!(none_fell(), "{:#?}", traces(&rest));
        network.set_links("up");
        wait_until("being told that it is over", || degraded() == "[]");
        let log = rest.get("/v1/audit?kind=health&limit=1000").to_string();
        assert!(log.contains("health.blind") && log.contains("health.sighted"), "{log}");
        meridian.says(&["ERROR", "checks cannot run"]);
        wait(&rest, "both as before", are_up);
        stream.finish();
    });
}
