//! Whole chains of certificates, and what servers make of ours: against `openssl s_server`, which reads and judges as most do.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use meridian::control::api::{CheckSpec, CheckTarget};
use meridian::health::{Failure, Thresholds, Watch};
use meridian::policy::model::{ClientCertificate, Monitor, MonitorKind, NamedTls, TcpCheck, TlsCheck};
use meridian::probe::check;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, GeneralSubtree, IsCa, KeyPair, NameConstraints};
use serde_json::{Value, json};

use crate::meridian::{Meridian, PATIENCE, free_port};
use crate::origin::{HOST, means};
use crate::rest::Rest;

/// A server of OpenSSL's; ended when it goes.
struct Served {
    child: Child,
    port: u16,
}

impl Served {
    /// `-www` answers requests; without one it waits.
    fn start(dir: &Path, name: &str, more: &[&str]) -> Served {
        let port = free_port();
        let chain = format!("{name}.chain");
        let has_chain = std::fs::metadata(dir.join(&chain)).is_ok_and(|found| found.len() > 0);
        let child = Command::new("openssl")
            .args(["s_server", "-www", "-quiet", "-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", &format!("{name}.pem"), "-key", &format!("{name}.key")])
            .args(["-cert_chain", &chain].iter().filter(|_| has_chain))
            .args(more)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "it listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        Served { child, port }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Of a certificate that has run for a while and ends a minute before so many days are over: in whole days, what is left
/// is then the same whenever somebody looks, and not only in the second after it was made.
fn params(name: &str, ends_in_days: i64) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    let day = Duration::from_secs(86_400);
    let now = rcgen::date_time_ymd(1970, 1, 1) + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    let away = day * u32::try_from(ends_in_days.unsigned_abs()).expect("not for ever");
    (params.not_before, params.not_after) = (now - day * 90, if ends_in_days < 0 { now - away } else { now + away - day / 1440 });
    params
}

fn authority(name: &str, ends_in_days: i64) -> CertificateParams {
    let mut params = params(name, ends_in_days);
    params.subject_alt_names.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn root() -> Issuer {
    CertifiedIssuer::self_signed(authority("Root", 900), KeyPair::generate().expect("a key")).expect("a root")
}

fn below(params: CertificateParams, root: &Issuer) -> Issuer {
    CertifiedIssuer::signed_by(params, KeyPair::generate().expect("a key"), root).expect("an authority")
}

/// Writes a certificate for `host` with its key, and what stands between it and the root.
fn write(dir: &Path, name: &str, host: &str, issuer: &Issuer, chain: &[String]) {
    let key = KeyPair::generate().expect("a key");
    let signed = params(host, 80).signed_by(&key, issuer).expect("a certificate");
    for (end, text) in [("pem", signed.pem()), ("key", key.serialize_pem()), ("chain", chain.concat())] {
        std::fs::write(dir.join(format!("{name}.{end}")), text).expect("written");
    }
}

fn run(port: u16, ca: PathBuf, client: Option<(PathBuf, PathBuf)>, send: Option<&str>) -> (String, Duration) {
    let client = client.map(|(certificate, key)| Box::new(ClientCertificate { certificate, key }));
    let named = NamedTls { host: HOST.into(), tls: TlsCheck { ca: Some(ca), client, ..TlsCheck::default() } };
    let kind = MonitorKind::Tcp(TcpCheck { send: send.map(str::to_owned), reply: None, tls: Some(Box::new(named)) });
    let thresholds = Thresholds { interval: PATIENCE, fast: PATIENCE, fall: 3, rise: 3 };
    let monitor = Monitor { name: String::new(), kind, port, thresholds, timeout: PATIENCE, source: Vec::new(), watch: Watch::default() };
    let spec = CheckSpec { target: CheckTarget::Address([127, 0, 0, 1].into()), monitor };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (outcome, took) = runtime.block_on(check::run(&spec, &means(&spec)));
    (outcome.as_ref().map_or_else(Failure::to_string, |()| "ok".to_owned()), took)
}

#[test]
fn a_client_certificate_that_is_missing_is_told_of_where_nothing_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let root = root();
    std::fs::write(at("ca.pem"), root.pem()).expect("written");
    write(dir.path(), "own", HOST, &root, &[]);
    write(dir.path(), "client", "prober.example", &root, &[]);
    let client = || Some((at("client.pem"), at("client.key")));
    let strict = ["-CAfile", "ca.pem", "-Verify", "2", "-verify_return_error"];
    for version in ["-tls1_3", "-tls1_2"] {
        let asks = Served::start(dir.path(), "own", &[&strict[..], &[version]].concat());
        for send in [None, Some("HELLO\r\n")] {
            let (refused, _) = run(asks.port, at("ca.pem"), None, send);
            let expected = if version == "-tls1_3" { "\"certificate required\"" } else { "\"handshake failure\"" };
            assert!(refused.starts_with("TLS: the peer sent the alert") && refused.contains(expected), "{version} {send:?}: {refused}");
            assert_eq!(run(asks.port, at("ca.pem"), client(), send).0, "ok", "{version} {send:?}");
        }
    }
    // Whoever asks and wants none passes; whoever does not ask is not waited for.
    let may = Served::start(dir.path(), "own", &["-tls1_3", "-CAfile", "ca.pem", "-verify", "2"]);
    assert_eq!(run(may.port, at("ca.pem"), None, None).0, "ok");
    let does_not = Served::start(dir.path(), "own", &["-tls1_3", "-num_tickets", "0"]);
    let fastest = (0..5).map(|_| run(does_not.port, at("ca.pem"), None, None)).map(|(outcome, took)| {
        assert_eq!(outcome, "ok");
        took
    });
    assert!(fastest.min().is_some_and(|took| took < Duration::from_millis(250)), "nothing is waited for");
}

fn wait(rest: &Rest, pool: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let endpoint = rest.endpoint(&format!("example.com/{pool}"));
        if is_so(&endpoint) {
            return endpoint;
        }
        assert!(began.elapsed() < PATIENCE, "{endpoint}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_wrong_in_a_chain_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = root();
    std::fs::write(dir.path().join("ca.pem"), root.pem()).expect("written");
    let old = CertifiedIssuer::self_signed(authority("Old root", -20), KeyPair::generate().expect("a key")).expect("a root");
    let cross = below(authority("Root", -10), &old);
    let (soon, over, long) = (below(authority("Soon over", 5), &root), below(authority("Over", -2), &root), below(authority("Long", 400), &root));
    let mut constrained = authority("Constrained", 400);
    let permitted_subtrees = vec![GeneralSubtree::DnsName("other.example".into())];
    constrained.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    let constrained = below(constrained, &root);
    write(dir.path(), "soon", HOST, &soon, &[soon.pem(), cross.pem()]);
    write(dir.path(), "over", HOST, &over, &[over.pem()]);
    // One that has ended, and that nobody needs.
    write(dir.path(), "long", HOST, &long, &[long.pem(), cross.pem(), old.pem()]);
    write(dir.path(), "constrained", HOST, &constrained, &[constrained.pem()]);
    write(dir.path(), "nat", "127.6.5.200", &long, &[long.pem()]);
    let all: Vec<(&str, Served)> = ["soon", "over", "long", "constrained", "nat"].map(|name| (name, Served::start(dir.path(), name, &[]))).into();
    let mut zone = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n".to_owned();
    let ca = dir.path().join("ca.pem");
    for (name, served) in &all {
        let (host, endpoint) = match *name {
            "nat" => ("127.6.5.200", "{ address = \"127.6.5.200\", check_address = \"127.0.0.1\" }"),
            _ => (HOST, "\"127.0.0.1\""),
        };
        zone.push_str(&format!(
            "[monitor.{name}]\nhttps = \"/\"\nhost = \"{host}\"\nport = {}\nca = {ca:?}\ninterval = \"1s\"\n\
             [pool.{name}]\nendpoints = [{endpoint}]\nmonitor = \"{name}\"\n[steer.{name}]\nuse = \"{name}\"\n",
            served.port
        ));
    }
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&server);
    let ends = |days: i64, seen: &Value| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs() as i64;
        let left = seen["certificate_ends"].as_i64().expect("it is shown") - now;
        assert!((days * 86_400 - 600..=days * 86_400).contains(&left), "{days}: {left}");
    };
    let seen = wait(&rest, "soon/127.0.0.1", |seen| seen["state"] == "degraded");
    assert_eq!(seen["concerns"], json!(["certificate \"Soon over\" of the chain expires in 4 days"]));
    ends(5, &seen);
    let seen = wait(&rest, "over/127.0.0.1", |seen| seen["state"] == "down");
    assert_eq!(seen["last_error"], "TLS: certificate \"Over\" of the chain expired 2 days ago");
    ends(-2, &seen);
    let seen = wait(&rest, "long/127.0.0.1", |seen| seen["state"] == "up");
    ends(80, &seen);
    let seen = wait(&rest, "constrained/127.0.0.1", |seen| seen["state"] == "down");
    assert_eq!(seen["last_error"], "TLS: certificate is for names that its authority may not sign for (its name constraints)");
    // The certificate is that of the endpoint, on whatever side of a NAT it is met.
    wait(&rest, "nat/127.6.5.200", |seen| seen["state"] == "up");
}
