//! Health checks against real sockets: every way in which an origin can be ill has its words, and none holds up another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meridian::control::api::{CheckSpec, CheckTarget, Observation};
use meridian::control::handle::{self, Ends, Event};
use meridian::control::timeline::Timed;
use meridian::health::{Failure, Machine, Outcome, State, Thresholds, Watch};
use meridian::policy::model::{HttpCheck, Monitor, MonitorKind, TcpCheck, TlsCheck};
use meridian::probe::{self, Options, check};
use meridian::world::{Published, World};

use crate::origin::{Authority, BODY, Behaviour, Certificate, HOST, Origin, closed_port, means};

/// For checks that are expected to end by themselves.
const PATIENT: Duration = Duration::from_secs(20);

/// For checks that are expected to hang.
const SHORT: Duration = Duration::from_millis(300);

fn http_check() -> HttpCheck {
    HttpCheck { path: "/healthz?deep=1".into(), host: HOST.into(), status: vec![(200, 299)], ..HttpCheck::default() }
}

fn spec(addr: SocketAddr, kind: MonitorKind) -> CheckSpec {
    let thresholds = Thresholds { interval: Duration::from_millis(200), fast: Duration::from_millis(50), fall: 3, rise: 2 };
    let monitor = Monitor { name: String::new(), kind, port: addr.port(), thresholds, timeout: PATIENT, source: Vec::new(), watch: Watch::default() };
    CheckSpec { target: CheckTarget::Address(addr.ip()), monitor }
}

fn with_timeout(mut spec: CheckSpec, timeout: Duration) -> CheckSpec {
    spec.monitor.timeout = timeout;
    spec
}

fn tcp(addr: SocketAddr) -> CheckSpec {
    spec(addr, MonitorKind::Tcp(TcpCheck::default()))
}

fn http(addr: SocketAddr) -> CheckSpec {
    spec(addr, MonitorKind::Http(http_check()))
}

fn https(addr: SocketAddr, ca: Option<PathBuf>) -> CheckSpec {
    spec(addr, MonitorKind::Https { check: http_check(), tls: TlsCheck { ca, ..TlsCheck::default() } })
}

fn expecting(mut spec: CheckSpec, body: &str) -> CheckSpec {
    match &mut spec.monitor.kind {
        MonitorKind::Http(check) | MonitorKind::Https { check, .. } => check.body = Some(body.into()),
        _ => {}
    }
    spec
}

async fn run(spec: &CheckSpec) -> Outcome {
    let (outcome, took) = check::run(spec, &means(spec)).await;
    assert!(took <= spec.monitor.timeout + Duration::from_secs(5), "{took:?}");
    outcome
}

/// The words of an outcome; `ok` for a success.
fn words(outcome: &Outcome) -> String {
    outcome.as_ref().map_or_else(Failure::to_string, |()| "ok".to_owned())
}

#[tokio::test]
async fn healthy_origins_pass() {
    let plain = Origin::http("127.0.0.1:0");
    assert_eq!(run(&tcp(plain.addr())).await, Ok(()));
    assert_eq!(run(&http(plain.addr())).await, Ok(()));
    assert_eq!(run(&expecting(http(plain.addr()), "systems ready")).await, Ok(()));
    let authority = Authority::new();
    let secure = Origin::https("127.0.0.1:0", &authority, Certificate::Good);
    assert_eq!(run(&https(secure.addr(), Some(authority.ca_file()))).await, Ok(()));
    assert_eq!(run(&expecting(https(secure.addr(), Some(authority.ca_file())), BODY.trim())).await, Ok(()));
}

#[tokio::test]
async fn each_way_of_failing_has_its_words() {
    let plain = Origin::http("127.0.0.1:0");
    let authority = Authority::new();
    let secure = Origin::https("127.0.0.1:0", &authority, Certificate::Good);
    let http = expecting(http(plain.addr()), "ready");
    let https = expecting(https(secure.addr(), Some(authority.ca_file())), "ready");
    let rows = [
        (Behaviour::Healthy, PATIENT, "ok", "ok"),
        (Behaviour::Status(299), PATIENT, "ok", "ok"),
        (Behaviour::Status(503), PATIENT, "HTTP status 503", "HTTP status 503"),
        (Behaviour::Status(404), PATIENT, "HTTP status 404", "HTTP status 404"),
        (Behaviour::Status(304), PATIENT, "HTTP status 304", "HTTP status 304"),
        (Behaviour::Redirect("http://127.0.0.1:1/".into()), PATIENT, "HTTP status 302", "HTTP status 302"),
        (Behaviour::WrongBody, PATIENT, "expected text not in the body", "expected text not in the body"),
        (Behaviour::EndlessBody, PATIENT, "expected text not in the body", "expected text not in the body"),
        (Behaviour::SplitBody, PATIENT, "ok", "ok"),
        (Behaviour::HangAfterAccept, SHORT, "timeout during response", "timeout during tls"),
        (Behaviour::HangAfterTls, SHORT, "timeout during response", "timeout during response"),
        (Behaviour::HangInBody, SHORT, "timeout during body", "timeout during body"),
        (Behaviour::SlowBody, SHORT, "timeout during body", "timeout during body"),
        (Behaviour::Reset, PATIENT, "connect: connection reset before a response", "TLS: connection reset during the handshake"),
        (Behaviour::ResetAfterRequest, PATIENT, "connect: connection reset before a response", "connect: connection reset before a response"),
        (Behaviour::CloseAfterRequest, PATIENT, "protocol: connection closed before a response", "protocol: connection closed before a response"),
        (
            Behaviour::CloseInBody,
            PATIENT,
            "protocol: connection closed in the middle of the body",
            "protocol: connection closed in the middle of the body",
        ),
        (Behaviour::NoHttp, PATIENT, "protocol: the peer does not speak HTTP on this port", "TLS: the peer does not speak TLS on this port"),
    ];
    for (behaviour, timeout, plain_words, secure_words) in rows {
        plain.behave(behaviour.clone());
        secure.behave(behaviour.clone());
        let (plainly, securely) = (with_timeout(http.clone(), timeout), with_timeout(https.clone(), timeout));
        let (plainly, securely) = tokio::join!(run(&plainly), run(&securely));
        assert_eq!((words(&plainly).as_str(), words(&securely).as_str()), (plain_words, secure_words), "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let addr = closed_port();
    for spec in [tcp(addr), http(addr), https(addr, Some(Authority::new().ca_file()))] {
        assert_eq!(words(&run(&spec).await), "connect: connection refused");
    }
}

#[tokio::test]
async fn a_full_backlog_is_a_timeout_during_connect() {
    // A listener that never accepts and whose queue is full: the system drops further connections on the floor.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(0).expect("listening");
    let addr = socket.local_addr().expect("an address").as_socket().expect("IPv4");
    let mut fillers = Vec::new();
    while let Ok(filler) = std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
        fillers.push(filler);
    }
    for spec in [tcp(addr), http(addr), https(addr, Some(Authority::new().ca_file()))] {
        assert_eq!(words(&run(&with_timeout(spec, SHORT)).await), "timeout during connect");
    }
}

#[tokio::test]
async fn certificates_are_verified() {
    let authority = Authority::new();
    let origin = Origin::https("127.0.0.1:0", &authority, Certificate::Good);
    let rows = [
        (Certificate::Good, "ok"),
        (Certificate::Expired, "TLS: certificate expired "),
        (Certificate::NotYetValid, "TLS: certificate not yet valid, only in "),
        (Certificate::WrongName, "TLS: certificate not valid for name \"app.example\" (it names other.example)"),
        (Certificate::UnknownCa, "TLS: certificate from an unknown issuer"),
    ];
    for (certificate, expected) in rows {
        origin.show(&authority, certificate);
        let spec = https(origin.addr(), Some(authority.ca_file()));
        let means = means(&spec);
        let Timed { outcome, certificate: shown, .. } = check::run_timed(&spec, &means).await;
        assert!(words(&outcome).starts_with(expected), "{certificate:?}: {}", words(&outcome));
        assert_eq!(outcome.is_ok(), certificate == Certificate::Good);
        // Believed or not, it is the one whose end is shown.
        let is_over = shown.as_ref().expect("a certificate was shown").until < meridian::control::unix_now();
        assert_eq!(is_over, certificate == Certificate::Expired, "{certificate:?}: {shown:?}");
    }
    // Neither another CA nor the machine's roots vouch for it.
    origin.show(&authority, Certificate::Good);
    let outcome = run(&https(origin.addr(), Some(Authority::new().ca_file()))).await;
    assert_eq!(words(&outcome), "TLS: certificate from an unknown issuer");
    let outcome = run(&https(origin.addr(), None)).await;
    assert!(outcome.is_err(), "{outcome:?}");
}

#[tokio::test]
async fn every_check_is_a_full_handshake_on_a_fresh_connection() {
    let authority = Authority::new();
    let origin = Origin::https("127.0.0.1:0", &authority, Certificate::Good);
    let spec = https(origin.addr(), Some(authority.ca_file()));
    let means = means(&spec);
    for _ in 0..3 {
        assert_eq!(check::run(&spec, &means).await.0, Ok(()));
    }
    let seen = origin.seen();
    assert_eq!((seen.connections, seen.requests, seen.full_handshakes, seen.resumed), (3, 3, 3, 0));
    // A certificate that goes bad is noticed by the very next check.
    origin.show(&authority, Certificate::Expired);
    assert!(words(&check::run(&spec, &means).await.0).starts_with("TLS: certificate expired"));
}

#[tokio::test]
async fn the_request_names_the_service_and_ourselves() {
    let authority = Authority::new();
    let origin = Origin::https("127.0.0.1:0", &authority, Certificate::Good);
    assert_eq!(run(&https(origin.addr(), Some(authority.ca_file()))).await, Ok(()));
    let seen = origin.seen();
    assert_eq!(seen.sni.as_deref(), Some(HOST));
    assert_eq!(seen.header("host"), Some(format!("{HOST}:{}", origin.addr().port()).as_str()));
    assert!(seen.head.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("connection"), Some("close"));
    assert_eq!(seen.header("user-agent"), Some(concat!("meridian/", env!("CARGO_PKG_VERSION"), " (health check)")));
    assert_eq!((seen.header("cookie"), seen.header("referer"), seen.header("accept-encoding")), (None, None, None));
}

#[tokio::test]
async fn a_host_that_is_an_address_still_connects_to_the_endpoint() {
    let origin = Origin::http("127.0.0.1:0");
    for (host, header) in [("192.0.2.9", "192.0.2.9"), ("2001:db8::9", "[2001:db8::9]")] {
        let check = HttpCheck { host: host.into(), ..http_check() };
        assert_eq!(run(&spec(origin.addr(), MonitorKind::Http(check))).await, Ok(()));
        assert_eq!(origin.seen().header("host"), Some(format!("{header}:{}", origin.addr().port()).as_str()));
    }
}

#[tokio::test]
async fn ipv6_endpoints_are_checked_too() {
    let origin = Origin::http("[::1]:0");
    assert_eq!(run(&tcp(origin.addr())).await, Ok(()));
    assert_eq!(run(&http(origin.addr())).await, Ok(()));
}

#[tokio::test]
async fn cname_targets_are_resolved_by_the_system() {
    let origin = Origin::http("127.0.0.1:0");
    let at = |host: &str| CheckSpec { target: CheckTarget::Host(host.into()), ..http(origin.addr()) };
    assert_eq!(run(&at("127.0.0.1")).await, Ok(()));
    assert_eq!(origin.seen().header("host"), Some(format!("{HOST}:{}", origin.addr().port()).as_str()), "the service's name, not the target's");
    let outcome = run(&at("no such name")).await;
    assert!(words(&outcome).starts_with("resolve: no address for \"no such name\""), "{outcome:?}");
}

#[tokio::test]
async fn status_ranges_are_inclusive() {
    let origin = Origin::http("127.0.0.1:0");
    let check = HttpCheck { status: vec![(200, 200), (301, 303)], ..http_check() };
    for (status, passes) in [(200, true), (201, false), (300, false), (301, true), (303, true), (304, false), (500, false)] {
        origin.behave(Behaviour::Status(status));
        let outcome = run(&spec(origin.addr(), MonitorKind::Http(check.clone()))).await;
        assert_eq!(outcome, if passes { Ok(()) } else { Err(Failure::Status(status)) });
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (origin, elsewhere) = (Origin::http("127.0.0.1:0"), Origin::http("127.0.0.1:0"));
    origin.behave(Behaviour::Redirect(format!("http://{}/", elsewhere.addr())));
    assert_eq!(run(&http(origin.addr())).await, Err(Failure::Status(302)));
    assert_eq!(elsewhere.seen().connections, 0);
}

#[tokio::test]
async fn an_endless_body_is_not_read_to_its_end() {
    let origin = Origin::http("127.0.0.1:0");
    origin.behave(Behaviour::EndlessBody);
    assert_eq!(run(&expecting(http(origin.addr()), "ready")).await, Err(Failure::Body));
    assert_eq!(run(&http(origin.addr())).await, Ok(()), "without an expected text the body does not matter");
    // What the origin could write went into socket buffers; megabytes would mean that somebody reads on.
    wait_until(|| origin.seen().closed == 2).await;
    assert!(origin.written() < 32 << 20, "{} bytes", origin.written());
}

#[tokio::test]
async fn a_check_that_gave_up_leaves_no_connection_behind() {
    let authority = Authority::new();
    let origin = Origin::https("127.0.0.1:0", &authority, Certificate::Good);
    let spec = with_timeout(https(origin.addr(), Some(authority.ca_file())), SHORT);
    let rows = [Behaviour::HangAfterAccept, Behaviour::HangAfterTls, Behaviour::HangInBody, Behaviour::Healthy];
    for (count, behaviour) in (1..).zip(rows) {
        origin.behave(behaviour);
        let _ = run(&spec).await;
        wait_until(|| origin.seen().closed == count).await;
    }
}

#[tokio::test]
async fn an_unusable_ca_file_says_nothing_of_the_endpoint() {
    let authority = Authority::new();
    let origin = Origin::https("127.0.0.1:0", &authority, Certificate::Good);
    let missing = authority.ca_file().with_file_name("missing.pem");
    let outcome = run(&https(origin.addr(), Some(missing.clone()))).await;
    assert_eq!(words(&outcome), format!("check could not run: CA file {}: cannot be read: no such file or folder", missing.display()));
    assert_eq!(origin.seen().connections, 0);
}

/// Runs itself again in an environment where every proxy variable leads to a closed port.
#[test]
fn proxy_variables_are_ignored() {
    let mut command = std::process::Command::new(std::env::current_exe().expect("a test binary"));
    command.args(["--exact", "probe::healthy_origins_pass"]).env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, format!("http://{}", closed_port()));
    }
    let output = command.output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

/// Stands in for `control`: one state machine per check, and a note of every observation.
struct Consumer {
    ends_checks: tokio::sync::watch::Sender<Arc<Vec<CheckSpec>>>,
    log: Arc<Mutex<Vec<(Instant, Observation, State)>>>,
    prober: tokio::task::JoinHandle<()>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    began: Instant,
}

impl Consumer {
    fn start(specs: Vec<CheckSpec>, options: Options) -> Consumer {
        let (handle, ends) = handle::channel(Arc::new(Published::new(World::default())));
        let Ends { mut events, checks, .. } = ends;
        checks.send_replace(Arc::new(specs));
        let (log, began) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
        let written = log.clone();
        tokio::spawn(async move {
            let mut machines: HashMap<CheckSpec, Machine> = HashMap::new();
            while let Some(event) = events.recv().await {
                let Event::Observed(observation, reply) = event else { continue };
                let now = began.elapsed();
                let machine = machines.entry(observation.spec.clone()).or_insert_with(|| Machine::new(now));
                machine.observe(&observation.spec.monitor.thresholds, &observation.outcome, meridian::health::machine::Around::default(), now);
                let _ = reply.send(machine.next_delay(&observation.spec.monitor.thresholds));
                written.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), observation, machine.state()));
            }
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let prober = tokio::spawn(probe::run(handle, options, async {
            let _ = stopped.await;
        }));
        Consumer { ends_checks: checks, log, prober, stop: Some(stop), began }
    }

    fn set(&self, specs: Vec<CheckSpec>) {
        self.ends_checks.send_replace(Arc::new(specs));
    }

    fn log(&self) -> Vec<(Instant, Observation, State)> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, spec: &CheckSpec) -> usize {
        self.log().iter().filter(|(_, observation, _)| observation.spec == *spec).count()
    }

    fn state(&self, spec: &CheckSpec) -> Option<State> {
        self.log().iter().rev().find(|(_, observation, _)| observation.spec == *spec).map(|&(_, _, state)| state)
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(Duration::from_secs(3), self.prober).await.expect("it stops in time").expect("without a panic");
    }
}

/// Many checks of one origin, which differ in their path.
fn many(addr: SocketAddr, count: usize) -> Vec<CheckSpec> {
    (0..count).map(|n| spec(addr, MonitorKind::Http(HttpCheck { path: format!("/{n}"), ..http_check() }))).collect()
}

fn at_once() -> Options {
    Options { first_within: Duration::from_millis(50), ..Options::default() }
}

async fn wait_until(mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENT;
    while !is_so() {
        assert!(Instant::now() < patience, "it did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_target_does_not_delay_two_hundred_others() {
    let (good, hanging) = (Origin::http("127.0.0.1:0"), Origin::http("127.0.0.1:0"));
    hanging.behave(Behaviour::HangAfterTls);
    let healthy = many(good.addr(), 200);
    let ill: Vec<CheckSpec> = many(hanging.addr(), 5).into_iter().map(|spec| with_timeout(spec, Duration::from_secs(60))).collect();
    // The ill ones come first, and hold their places to the end of the test.
    let consumer = Consumer::start([ill.clone(), healthy.clone()].concat(), Options { max_concurrent: 32, ..at_once() });
    wait_until(|| healthy.iter().all(|spec| consumer.count(spec) >= 3)).await;
    assert!(ill.iter().all(|spec| consumer.count(spec) == 0), "they still hang");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_dies_and_comes_back_is_seen_to() {
    let origin = Origin::http("127.0.0.1:0");
    let spec = http(origin.addr());
    let consumer = Consumer::start(vec![spec.clone()], at_once());
    wait_until(|| consumer.state(&spec) == Some(State::Up)).await;
    origin.behave(Behaviour::Status(503));
    wait_until(|| consumer.state(&spec) == Some(State::Down)).await;
    origin.behave(Behaviour::Healthy);
    wait_until(|| consumer.state(&spec) == Some(State::Ramp)).await;
    let states: Vec<State> = consumer.log().into_iter().map(|(_, _, state)| state).collect();
    let failed = states.iter().position(|state| *state == State::Suspect).expect("it was suspect first");
    assert_eq!(states[failed..failed + 3], [State::Suspect, State::Suspect, State::Down], "exactly `fall` failures");
    let passed: Vec<bool> = consumer.log().into_iter().map(|(_, observation, _)| observation.outcome.is_ok()).collect();
    let back = states.iter().position(|state| *state == State::Ramp).expect("it came back");
    assert_eq!(passed[back - 2..=back], [false, true, true], "exactly `rise` successes");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_come_and_go_with_the_list() {
    let origin = Origin::http("127.0.0.1:0");
    let all = many(origin.addr(), 3);
    let consumer = Consumer::start(all[..2].to_vec(), at_once());
    wait_until(|| all[..2].iter().all(|spec| consumer.count(spec) >= 2)).await;
    consumer.set(all[1..].to_vec());
    wait_until(|| consumer.count(&all[2]) >= 2).await;
    let (gone, kept) = (consumer.count(&all[0]), consumer.count(&all[1]));
    wait_until(|| consumer.count(&all[1]) >= kept + 3).await;
    assert!(consumer.count(&all[0]) <= gone + 1, "one may have been on its way");
    consumer.set(Vec::new());
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_check_that_hangs_is_cut_off() {
    let origin = Origin::http("127.0.0.1:0");
    origin.behave(Behaviour::HangAfterTls);
    let spec = with_timeout(http(origin.addr()), Duration::from_secs(60));
    let consumer = Consumer::start(vec![spec.clone()], at_once());
    wait_until(|| origin.seen().requests == 1).await;
    consumer.set(Vec::new());
    wait_until(|| origin.seen().closed == 1).await;
    assert_eq!(consumer.count(&spec), 0);
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prober_stops_in_the_middle_of_checks_and_when_control_is_gone() {
    let origin = Origin::http("127.0.0.1:0");
    origin.behave(Behaviour::HangAfterTls);
    let consumer = Consumer::start(vec![with_timeout(http(origin.addr()), Duration::from_secs(60))], at_once());
    wait_until(|| origin.seen().requests == 1).await;
    consumer.stop().await;

    let (handle, ends) = handle::channel(Arc::new(Published::new(World::default())));
    let prober = tokio::spawn(probe::run(handle, at_once(), std::future::pending()));
    drop(ends);
    tokio::time::timeout(PATIENT, prober).await.expect("it ends").expect("without a panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn intervals_hold_over_many_checks() {
    let origin = Origin::http("127.0.0.1:0");
    let spec = http(origin.addr());
    let consumer = Consumer::start(vec![spec.clone()], at_once());
    wait_until(|| consumer.count(&spec) >= 8).await;
    // Seven gaps: the first up to 200 ms, the others 180 ms at least. An upper bound would test the machine's load.
    assert!(consumer.began.elapsed() >= Duration::from_millis(6 * 180));
    consumer.stop().await;
}
