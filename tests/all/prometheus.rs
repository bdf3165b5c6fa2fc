//! Monitors that ask a Prometheus: a real one that scrapes a small exporter, and peers that answer as it would not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use meridian::control::api::{CheckSpec, CheckTarget};
use meridian::health::{Failure, Thresholds, Watch};
use meridian::policy::model::{Bound, Monitor, MonitorKind, OnEmpty, PrometheusCheck, TlsCheck};
use meridian::probe::check;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::Method;
use serde_json::Value;

use crate::meridian::{Meridian, PATIENCE};
use crate::origin::{closed_port, means};
use crate::rate_limit::metrics_text;
use crate::rest::Rest;

/// A page of metrics that can be written anew.
struct Exporter {
    addr: SocketAddr,
    page: Arc<Mutex<String>>,
}

impl Exporter {
    fn start(page: &str) -> Exporter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let exporter = Exporter { addr: listener.local_addr().expect("an address"), page: Arc::new(Mutex::new(page.to_owned())) };
        let page = exporter.page.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 4096]);
                let body = page.lock().expect("the page").clone();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        exporter
    }

    fn says(&self, page: &str) {
        page.clone_into(&mut self.page.lock().expect("the page"));
    }
}

/// A Prometheus of its own; it ends when it goes out of sight.
struct Prometheus {
    child: Child,
    addr: SocketAddr,
    dir: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes this exporter every second.
    fn start(exporter: &Exporter) -> Prometheus {
        Prometheus::start_with(exporter, "", |_| {})
    }

    /// `web` is its web configuration, if it needs one; `prepare` writes more files into its folder.
    fn start_with(exporter: &Exporter, web: &str, prepare: impl Fn(&Path)) -> Prometheus {
        let dir = tempfile::tempdir().expect("a folder");
        prepare(dir.path());
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n- job_name: it\n  static_configs: [{{ targets: ['{}'] }}]\n",
            exporter.addr
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("written");
        std::fs::write(dir.path().join("web.yml"), web).expect("written");
        // A port that is free now may be somebody's a moment later.
        for _ in 0..5 {
            let addr = closed_port();
            let mut child = Command::new("prometheus")
                .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error", "--web.config.file=web.yml"])
                .arg(format!("--web.listen-address={addr}"))
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("prometheus is installed: scripts/test.sh does that");
            let began = Instant::now();
            while began.elapsed() < PATIENCE && child.try_wait().expect("its state").is_none() {
                if std::net::TcpStream::connect(addr).is_ok() {
                    return Prometheus { child, addr, dir };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("prometheus does not serve");
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Two endpoints, of which the exporter says what share of their calls fails.
fn zone(prometheus: SocketAddr) -> String {
    format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
         [defaults.monitor]\ninterval = \"1s\"\nfall = 1\nrise = 1\n\
         [monitor.errors]\nprometheus = {{ url = \"http://{prometheus}\", query = \"failing{{address=\\\"$address\\\"}}\" }}\n\
         expect = {{ value = \"< 0.05\" }}\nstale = \"3s\"\n\
         [monitor.site]\nprometheus = {{ url = \"http://{prometheus}/\", query = \"sum(failing{{site=\\\"$pool\\\"}})\" }}\n\
         expect = {{ value = [\">= 0\", \"< 1\"] }}\nadvisory = true\n\
         [pool.fra]\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\nmonitor = [\"errors\", \"site\"]\n[steer.www]\nuse = \"fra\"\n"
    )
}

fn page(first: f64, second: f64) -> String {
    format!("failing{{address=\"192.0.2.10\",site=\"fra\"}} {first}\nfailing{{address=\"192.0.2.11\",site=\"fra\"}} {second}\n")
}

/// Waits until an endpoint is as it should be.
fn wait(rest: &Rest, address: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let endpoint = rest.endpoint(&format!("example.com/fra/{address}"));
        if is_so(&endpoint) {
            return endpoint;
        }
        assert!(began.elapsed() < PATIENCE, "{endpoint}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_query_decides_and_a_dead_prometheus_takes_nothing_down() {
    let exporter = Exporter::start(&page(0.01, 0.2));
    let mut prometheus = Prometheus::start(&exporter);
    let server = Meridian::start(&[("zones/example.com.toml", &zone(prometheus.addr))]);
    let rest = Rest::new(&server);
    let addrs = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<std::net::IpAddr>>();
    let answers = |wanted: &[&str]| {
        server.wait_for("www.example.com.", RecordType::A, |seen| {
            let mut seen = seen.to_vec();
            seen.sort_unstable();
            assert!(seen.contains(&addrs(wanted)[0]), "the good one is never gone: {seen:?}");
            seen == addrs(wanted)
        });
    };
    let down = wait(&rest, "192.0.2.11", |endpoint| endpoint["state"] == "down");
    assert_eq!(down["last_error"], "answer: found 0.2, expected < 0.05");
    answers(&["192.0.2.10"]);
    wait(&rest, "192.0.2.10", |endpoint| endpoint["state"] == "up");
    // What is asked, by hand.
    let (status, body) = rest.call(Method::POST, "/v1/health/example.com/fra/192.0.2.11/check", None);
    assert_eq!(status, 200, "{body}");
    let check = format!("prometheus failing{{address=\"192.0.2.11\"}} at {}", prometheus.addr);
    assert_eq!((&body["checks"][0]["check"], &body["checks"][0]["passed"]), (&check.into(), &false.into()), "{body}");
    let check = format!("prometheus sum(failing{{site=\"fra\"}}) at {}", prometheus.addr);
    assert_eq!((&body["checks"][1]["check"], &body["checks"][1]["passed"]), (&check.into(), &true.into()), "{body}");
    let (code, out, err) = server.command(&["check-now", "example.com/fra/192.0.2.11"]);
    assert!(code == 1 && out.contains("answer: found 0.2, expected < 0.05") && out.contains("first byte"), "{code} {out}{err}");
    let metrics = metrics_text(&server);
    for outcome in ["passed", "answer"] {
        assert!(metrics.contains(&format!("meridian_check_duration_seconds_count{{kind=\"prometheus\",outcome=\"{outcome}\"}}")), "{metrics}");
    }
    // It mends, and comes back.
    exporter.says(&page(0.01, 0.0));
    answers(&["192.0.2.10", "192.0.2.11"]);
    // An advisory one is told of, and has no vote. No series is no verdict.
    exporter.says(&page(0.01, 0.0).replace("192.0.2.10", "elsewhere").replace("0.01", "7"));
    let advised = wait(&rest, "192.0.2.10", |endpoint| endpoint["advice"][0] == "site: answer: found 7, expected < 1");
    assert_eq!(advised["usable"], true, "{advised}");
    wait(&rest, "192.0.2.10", |endpoint| endpoint["state"] == "unknown" && endpoint["last_error"] == "no verdict: Prometheus: no series");
    // What it said last counts until it is stale; then nothing is known, which takes nobody out.
    exporter.says(&page(0.01, 0.9));
    answers(&["192.0.2.10"]);
    wait(&rest, "192.0.2.10", |endpoint| endpoint["state"] == "up");
    prometheus.stop();
    answers(&["192.0.2.10", "192.0.2.11"]);
    let unknown = wait(&rest, "192.0.2.11", |endpoint| endpoint["state"] == "unknown");
    assert_eq!(unknown["last_error"], "no verdict: Prometheus: connect: connection refused", "{unknown}");
    assert!(metrics_text(&server).contains("meridian_check_duration_seconds_count{kind=\"prometheus\",outcome=\"no_verdict\"}"));
    let history = rest.get("/v1/health/example.com/fra/192.0.2.11")["history"].to_string();
    assert!(history.contains("Prometheus has given no verdict for too long"), "{history}");
}

fn asked(prometheus: SocketAddr, query: &str) -> PrometheusCheck {
    PrometheusCheck {
        host: prometheus.ip().to_string(),
        prefix: String::new(),
        query: query.to_owned(),
        expected: Bound::parse("== 1").into_iter().collect(),
        on_empty: OnEmpty::Unknown,
        headers: Vec::new(),
        token_file: None,
        tls: None,
        stale: PATIENCE,
        forget: true,
    }
}

fn run(prometheus: SocketAddr, check: PrometheusCheck, timeout: Duration) -> String {
    let thresholds = Thresholds { interval: timeout, fast: timeout, fall: 3, rise: 3 };
    let kind = MonitorKind::Prometheus(Box::new(check));
    let monitor = Monitor { name: String::new(), kind, port: prometheus.port(), thresholds, timeout, source: Vec::new(), watch: Watch::default() };
    let spec = CheckSpec { target: CheckTarget::Address([192, 0, 2, 1].into()), monitor };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(check::run(&spec, &means(&spec))).0;
    outcome.as_ref().map_or_else(Failure::to_string, |()| "ok".to_owned())
}

/// A certificate for the loopback address; returns where the authority's is.
fn papers(dir: &Path) -> PathBuf {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name").signed_by(&key, &issuer).expect("a certificate");
    for (file, text) in [("ca.pem", issuer.pem()), ("own.pem", own.pem()), ("own.key", key.serialize_pem())] {
        std::fs::write(dir.join(file), text).expect("written");
    }
    dir.join("ca.pem")
}

#[test]
fn over_tls_it_is_verified_and_let_in() {
    let exporter = Exporter::start("it 1\n");
    // The password is "test", as in the manual of Prometheus.
    let web = "tls_server_config: { cert_file: own.pem, key_file: own.key }\n\
               basic_auth_users: { it: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay }\n";
    let prometheus = Prometheus::start_with(&exporter, web, |dir| drop(papers(dir)));
    let ca = prometheus.dir.path().join("ca.pem");
    let tls = Some(TlsCheck { ca: Some(ca), ..TlsCheck::default() });
    let headers = vec![("authorization".to_owned(), "Basic aXQ6dGVzdA==".to_owned())];
    let check = PrometheusCheck { tls, headers, ..asked(prometheus.addr, "vector(1)") };
    assert_eq!(run(prometheus.addr, check.clone(), PATIENCE), "ok");
    let stranger = PrometheusCheck { headers: Vec::new(), ..check.clone() };
    assert_eq!(run(prometheus.addr, stranger, PATIENCE), "no verdict: Prometheus: HTTP status 401");
    let trusting = PrometheusCheck { tls: Some(TlsCheck::default()), ..check.clone() };
    assert_eq!(run(prometheus.addr, trusting, PATIENCE), "no verdict: Prometheus: TLS: certificate from an unknown issuer");
    // What real replies to other queries say.
    for (query, expected) in [
        ("1", "ok"),
        ("vector(2) == bool 2", "ok"),
        ("vector(0.25)", "answer: found 0.25, expected == 1"),
        ("0/0", "no verdict: Prometheus: NaN"),
        ("1/0", "answer: found inf, expected == 1"),
        ("absent(vector(1))", "no verdict: Prometheus: no series"),
        ("vector(1)[5m:1m]", "no verdict: Prometheus: the query gives a matrix, expected one number"),
        ("\"text\"", "no verdict: Prometheus: the query gives a string, expected one number"),
        (
            "label_replace(vector(1), \"a\", \"b\", \"x\", \"\") or vector(1)",
            "no verdict: Prometheus: 2 series, expected one: put sum(…) or the like around it, or name $address in it",
        ),
    ] {
        let check = PrometheusCheck { query: query.to_owned(), ..check.clone() };
        assert_eq!(run(prometheus.addr, check, PATIENCE), expected, "{query}");
    }
    let check = PrometheusCheck { query: "sum(".to_owned(), ..check };
    let words = run(prometheus.addr, check, PATIENCE);
    assert!(words.starts_with("no verdict: Prometheus: bad_data: "), "{words}");
}

#[test]
fn the_request_carries_query_token_and_headers() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let hears = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut heard = Vec::new();
        let mut octet = [0];
        while !heard.ends_with(b"\r\n\r\n") && stream.read(&mut octet).is_ok_and(|read| read == 1) {
            heard.push(octet[0]);
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
        let body = format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":[{now},"1"]}}}}"#);
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        String::from_utf8_lossy(&heard).into_owned()
    });
    let dir = tempfile::tempdir().expect("a folder");
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret\n").expect("written");
    let check = PrometheusCheck {
        prefix: "/prometheus".into(),
        headers: vec![("x-scope-orgid".into(), "shop".into())],
        token_file: Some(token),
        ..asked(addr, "up{instance=\"$address:9100\", code=~\"5..|x$\"} & more")
    };
    assert_eq!(run(addr, check, Duration::from_secs(5)), "ok");
    let head = hears.join().expect("no panic");
    let line =
        "GET /prometheus/api/v1/query?query=up%7Binstance%3D%22192.0.2.1%3A9100%22%2C+code%3D%7E%225..%7Cx%24%22%7D+%26+more&timeout=5000ms HTTP/1.1";
    assert_eq!(head.lines().next(), Some(line), "{head}");
    let head = head.to_ascii_lowercase();
    for wanted in ["authorization: bearer s3cret", "x-scope-orgid: shop", "connection: close", &format!("host: {addr}")] {
        assert!(head.lines().any(|line| line == wanted), "{wanted}: {head}");
    }
    // Whoever hangs, or cannot be asked at all, says nothing of the endpoint.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().map(|addr| (addr, silent)).expect("an address");
    assert_eq!(run(silent.0, asked(silent.0, "1"), Duration::from_millis(300)), "no verdict: Prometheus: timeout during response");
    let check = PrometheusCheck { token_file: Some("/nowhere/token".into()), ..asked(addr, "1") };
    assert_eq!(run(addr, check, Duration::from_secs(5)), "check could not run: /nowhere/token: no such file or folder");
}
