//! TLS of the admin listener, where it may listen, and the listener for metrics: against the real program, from outside.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use crate::meridian::{Meridian, PATIENCE, addresses};
use crate::stand_in::http_client;

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n";

/// A certificate that signs itself, and its key.
fn self_signed() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn start(admin: &str, files: &[(&str, &str)]) -> Meridian {
    let config = format!("[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\n{admin}");
    let mut all = vec![("meridian.toml", config.as_str()), ("zones/example.com.toml", ZONE)];
    all.extend_from_slice(files);
    Meridian::start(&all)
}

const TLS: &str = "[admin]\nlisten = \"127.0.0.1:0\"\ntls = { certificate = \"tls/a.crt\", key = \"tls/a.key\" }\n";

/// `meridian status` over a URL: exit code and what it said on stderr.
fn status(server: &Meridian, url: &str, more: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["status", "--server", url])
        .args(more)
        .current_dir(server.path())
        .output()
        .expect("the program runs");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn wait(server: &Meridian, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: {:#?}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn write(folder: &Path, pair: &(String, String)) {
    std::fs::write(folder.join("tls/a.crt"), &pair.0).expect("written");
    std::fs::write(folder.join("tls/a.key"), &pair.1).expect("written");
}

#[test]
fn the_listener_speaks_tls_and_takes_new_certificates() {
    let (first, second) = (self_signed(), self_signed());
    let server = start(TLS, &[("tls/a.crt", &first.0), ("tls/a.key", &first.1), ("tls/first.crt", &first.0), ("tls/second.crt", &second.0)]);
    let url = format!("https://{}", server.admin);
    let with = |ca: &str| status(&server, &url, &["--ca", ca]).0;
    assert_eq!(status(&server, &url, &[]).0, 0, "the configuration names a certificate to trust");
    let token = server.token();
    std::fs::write(server.path().join("none.toml"), "").expect("written");
    let elsewhere = |ca: &[&str]| status(&server, &url, &[&["--config", "none.toml", "--token", &token], ca].concat());
    assert_eq!((elsewhere(&[]).0, elsewhere(&["--ca", "tls/first.crt"]).0, elsewhere(&["--ca", "tls/second.crt"]).0), (3, 0, 3));
    assert!(elsewhere(&[]).1.contains("not known here: say --ca FILE"), "{}", elsewhere(&[]).1);
    assert_eq!(elsewhere(&["--ca", "tls/a.key"]).0, 2, "no certificate in it");
    let (code, said) = status(&server, &format!("http://{}", server.admin), &[]);
    assert!(code == 3 && said.contains("say https:// instead of http://"), "nothing in clear text: {said}");
    let plain = start("[admin]\nlisten = \"127.0.0.1:0\"\n", &[]);
    let (code, said) = status(&plain, &format!("https://{}", plain.admin), &[]);
    assert!(code == 3 && said.contains("say http:// instead of https://"), "{said}");
    let told = || {
        let args = ["status", "--server", &url, "--ca", "tls/first.crt"];
        let output = Command::new(env!("CARGO_BIN_EXE_meridian")).args(args).current_dir(server.path()).output().expect("the program runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let degraded = || told().contains("degraded: admin.tls: ");
    assert!(!degraded());
    assert!(told().contains("tls/a.crt: expires in"), "{}", told());
    // A key that does not belong to the certificate: what was there stays.
    std::fs::write(server.path().join("tls/a.key"), &second.1).expect("written");
    server.says(&["the certificate before stays in use"]);
    assert_eq!(elsewhere(&["--ca", "tls/first.crt"]).0, 0);
    wait(&server, "the status does not tell of it", degraded);
    write(server.path(), &second);
    wait(&server, "the new certificate is not used", || elsewhere(&["--ca", "tls/second.crt"]).0 == 0);
    assert_eq!((elsewhere(&["--ca", "tls/first.crt"]).0, with("tls/second.crt")), (3, 0));
    // One that has expired is told of as at the start, and so is a key that everybody may read.
    write(server.path(), &expired());
    std::fs::set_permissions(server.path().join("tls/a.key"), std::fs::Permissions::from_mode(0o644)).expect("a mode");
    server.says(&["WARN", "admin.tls: ", "tls/a.crt: the certificate expired"]);
    server.says(&["WARN", "admin.tls: ", "tls/a.key: everybody on this machine may read the private key"]);
}

#[test]
fn the_certificate_that_the_configuration_names_needs_no_authority() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let leaf = |name: &str| {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &authority).expect("a certificate").pem(), key.serialize_pem())
    };
    let (own, other) = (leaf("127.0.0.1"), leaf("127.0.0.1"));
    let server = start(TLS, &[("tls/a.crt", &own.0), ("tls/a.key", &own.1), ("tls/ca.crt", &authority.pem()), ("other.crt", &other.0)]);
    let url = format!("https://{}", server.admin);
    let (code, said) = status(&server, &url, &[]);
    assert_eq!(code, 0, "{said}");
    // Another certificate of the same authority is another one, unless the authority is believed; and a name is checked all the same.
    std::fs::write(server.path().join("other.toml"), "[admin]\ntls = { certificate = \"other.crt\", key = \"tls/a.key\" }\n").expect("written");
    let (code, said) = status(&server, &url, &["--config", "other.toml", "--token", &server.token()]);
    assert!(code == 3 && said.contains("not known here"), "{said}");
    assert_eq!(status(&server, &url, &["--config", "other.toml", "--token", &server.token(), "--ca", "tls/ca.crt"]).0, 0);
    let (code, said) = status(&server, &format!("https://localhost:{}", server.admin.port()), &[]);
    assert!(code == 3 && said.contains("is for another name"), "{said}");
}

/// A certificate that has expired, and its key.
fn expired() -> (String, String) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

#[test]
fn clients_show_a_certificate_where_one_is_asked_for() {
    let pair = self_signed();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let mut params = CertificateParams::new(vec!["ada.example".to_owned()]).expect("a name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let client = params.signed_by(&key, &authority).expect("a certificate");
    let admin = TLS.replace(" }", ", client_ca = \"tls/ca.crt\" }");
    let (ca, cert, key) = (authority.pem(), client.pem(), key.serialize_pem());
    let files = [("tls/a.crt", pair.0.as_str()), ("tls/a.key", &pair.1), ("tls/ca.crt", &ca), ("tls/ada.crt", &cert), ("tls/ada.key", &key)];
    let server = start(&admin, &files);
    let url = format!("https://{}", server.admin);
    let (code, said) = status(&server, &url, &[]);
    assert_eq!(code, 3, "{said}");
    let (code, said) = status(&server, &url, &["--cert", "tls/ada.crt", "--key", "tls/ada.key"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = status(&server, &url, &["--cert", "tls/a.crt", "--key", "tls/a.key"]);
    assert!(code == 3 && said.contains("does not take the certificate of --cert"), "of another authority: {said}");
    assert_eq!(
        status(&server, &url, &["--cert", "tls/ada.crt", "--key", "tls/ada.key", "--token", "wrong"]).0,
        3,
        "the token is needed all the same"
    );
    assert_eq!(status(&server, &url, &["--cert", "tls/ada.crt"]).0, 2);
    let audit = ["audit", "--json", "--kind", "refused", "--server", &url, "--ca", "tls/a.crt", "--cert", "tls/ada.crt", "--key", "tls/ada.key"];
    let known = |words: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_meridian")).args(audit).current_dir(server.path()).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.contains("\"connect\"") && said.contains(words)
    };
    for words in ["certificate of the client: found none, expected one", "certificate of the client: found certificate with a bad signature"] {
        wait(&server, words, || known(words));
    }
    // Other authorities: who was let in is not, with no restart; and a file that cannot be used changes nothing.
    let ada = || status(&server, &url, &["--cert", "tls/ada.crt", "--key", "tls/ada.key"]).0;
    std::fs::write(server.path().join("tls/ca.crt"), "no certificates").expect("written");
    server.says(&["the authorities before stay in use", "tls/ca.crt"]);
    assert_eq!(ada(), 0);
    std::fs::write(server.path().join("tls/ca.crt"), &pair.0).expect("written");
    wait(&server, "the authorities before are believed", || ada() == 3);
    std::fs::write(server.path().join("tls/ca.crt"), &ca).expect("written");
    wait(&server, "the new authorities are not believed", || ada() == 0);
}

#[test]
fn a_certificate_that_has_expired_is_told_of() {
    let (certificate, key) = expired();
    let server = start(TLS, &[("tls/a.crt", &certificate), ("tls/a.key", &key)]);
    server.says(&[
        "meridian: warning: ",
        "meridian.toml:",
        ": admin.tls: ",
        "tls/a.crt: the certificate expired",
        "clients that verify it refuse us",
    ]);
    let check = Command::new(env!("CARGO_BIN_EXE_meridian")).arg("check").current_dir(server.path()).output().expect("the program runs");
    let checked = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        checked.contains("warning: admin: tls: tls/a.crt") && checked.contains("meridian.toml:") && checked.contains("the certificate expired"),
        "{checked}"
    );
    let health = curl_insecure(&server, "/metrics");
    let ends = health.lines().find(|line| line.starts_with("meridian_certificate_expiry_timestamp_seconds{listener=\"admin.tls\"}"));
    assert!(ends.is_some_and(|line| line.ends_with(" 1609459200")), "{health}");
}

/// What curl gets that verifies nothing.
fn curl_insecure(server: &Meridian, path: &str) -> String {
    let output = Command::new("curl")
        .args(["-sk", "-H", &format!("Authorization: Bearer {}", server.token()), &format!("https://{}{path}", server.admin)])
        .output()
        .expect("curl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn beyond_loopback_the_listener_opens_only_with_tls_or_when_told_in_so_many_words() {
    let pair = self_signed();
    let files = [("tls/a.crt", pair.0.as_str()), ("tls/a.key", pair.1.as_str())];
    for (admin, opens, said) in [
        ("[admin]\nlisten = \"0.0.0.0:0\"\n", false, "admin.plaintext = true"),
        ("[admin]\nlisten = \"[::]:0\"\n", false, "beyond loopback, tokens and changes would travel in clear text"),
        ("[admin]\nlisten = \"[::ffff:0.0.0.0]:0\"\nplaintext = false\n", false, "not opened"),
        ("[admin]\nlisten = \"0.0.0.0:0\"\nplaintext = true\n", true, "travel in clear text beyond this machine"),
        (&TLS.replace("127.0.0.1", "0.0.0.0"), true, ""),
        (&TLS.replace("a.crt", "missing.crt"), false, "missing.crt"),
        (&TLS.replace("a.key", "a.crt"), false, "no private key"),
    ] {
        let server = start(admin, &files);
        assert_eq!(server.admin.port() != 0, opens, "{admin}: {:#?}", server.log());
        server.says(&[said]);
        assert_eq!(addresses(&server.ask("ns1.example.com", RecordType::A)).len(), 1, "DNS serves regardless");
    }
}

#[test]
fn metrics_have_a_listener_of_their_own() {
    for admin in ["[admin]\nlisten = \"127.0.0.1:0\"\n", "[admin]\nenabled = false\n"] {
        let server = start(&format!("{admin}[metrics]\nlisten = \"127.0.0.1:0\"\n"), &[]);
        let log = server.log();
        let line = log.iter().find_map(|line| line.strip_prefix("meridian: metrics on ")).unwrap_or_else(|| panic!("{log:#?}"));
        let addr: SocketAddr = line.parse().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let call = |method: reqwest::Method, path: &str| {
            let request = http_client().request(method, format!("http://{addr}{path}")).bearer_auth(if server.admin.port() == 0 {
                "x".into()
            } else {
                server.token()
            });
            runtime.block_on(async { request.send().await.expect("a reply").status().as_u16() })
        };
        let get = |path: &str| call(reqwest::Method::GET, path);
        assert_eq!((get("/healthz"), get("/readyz"), get("/metrics")), (200, 200, 200), "{admin}");
        assert_eq!((get("/v1/status"), get("/"), get("/v1/audit")), (404, 404, 404), "{admin}");
        assert_eq!((call(reqwest::Method::POST, "/v1/reload"), call(reqwest::Method::POST, "/metrics")), (404, 405), "{admin}");
        if server.admin.port() == 0 {
            continue;
        }
        // Both tell what the admin listener counts.
        let page = |at: SocketAddr, token: &str| {
            let request = http_client().get(format!("http://{at}/metrics")).bearer_auth(token);
            runtime.block_on(async { request.send().await.expect("a reply").text().await.expect("a text") })
        };
        let guess = http_client().get(format!("http://{}/v1/status", server.admin)).bearer_auth("guessed");
        assert_eq!(runtime.block_on(async { guess.send().await.expect("a reply").status().as_u16() }), 401);
        for text in [page(addr, ""), page(server.admin, &server.token())] {
            for wanted in ["meridian_admin_unauthorised_total 1", "meridian_admin_replies_total{class=\"4xx\"} 1"] {
                assert!(text.contains(wanted), "{wanted}: {text}");
            }
        }
    }
}
