//! Encrypted transports and clients that nobody here wrote: kdig, curl, dnsperf, unbound, hickory's own.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use hickory_net::client::{Client, ClientHandle};
use hickory_net::h2::HttpsClientStream;
use hickory_net::quic::QuicClientStream;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tls::tls_client_connect;
use hickory_proto::rr::{DNSClass, RecordType};
use rustls::pki_types::ServerName;

use crate::encrypted::{Served, address_of, runtime, zone};
use crate::meridian::{Meridian, PATIENCE, addresses, free_port};

/// What kdig says to these words, on standard output and error; it believes our authority.
fn kdig(served: &Served, to: SocketAddr, args: &[&str]) -> String {
    let output = Command::new("kdig")
        .args(["@127.0.0.1", "-p", &to.port().to_string(), "+retry=0", "+time=10"])
        .arg(format!("+tls-ca={}", served.server.path().join("tls/ca.crt").display()))
        .args(args)
        .output()
        .expect("kdig");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn rfc7858_kdig_asks_over_tls() {
    let served = Served::start("");
    let (kdig, name) = (|args: &[&str]| kdig(&served, served.tls, args), "+tls-hostname=dns.example.net");
    let said = kdig(&[name, "+padding", "+keepopen", "www.example.com", "A", "app.example.com", "A"]);
    for wanted in ["TLS1.3", "192.0.2.80", "198.51.100.2", "PADDING"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let said = kdig(&["+tls-hostname=other.example.net", "www.example.com", "A"]);
    assert!(!said.contains("192.0.2.80"), "another name is not believed: {said}");
}

/// Three questions on one connection; `+quic` comes last, for `+tls-ca` behind it means TLS.
#[test]
fn rfc9250_kdig_asks_over_quic() {
    let served = Served::start("");
    let kdig = |args: &[&str]| kdig(&served, served.quic, args);
    let asked = ["www.example.com", "A", "app.example.com", "A", "nowhere.example.com", "A"];
    let said = kdig(&[&["+tls-hostname=dns.example.net", "+keepopen", "+quic"], &asked[..]].concat());
    for wanted in ["QUIC session (QUICv1)", "192.0.2.80", "198.51.100.2", "NXDOMAIN", "PADDING", "Received 468 B"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert_eq!(served.metric("meridian_encrypted_accepted_total{transport=\"quic\"}"), 1, "{said}");
    let said = kdig(&["+tls-hostname=other.example.net", "+quic", "www.example.com", "A"]);
    assert!(!said.contains("192.0.2.80"), "another name is not believed: {said}");
}

/// What the script makes is believed by kdig, and the table that it prints is one that we take.
#[test]
fn the_certificate_of_the_script_is_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let make =
        || Command::new("scripts/test-certificate.sh").arg("dns.example.net").arg(folder.path().join("tls")).output().expect("the script runs");
    let said = String::from_utf8_lossy(&make().stdout).into_owned();
    let table = said.split("\n\n").nth(1).expect("a table").replace("127.0.0.1:8853", "127.0.0.1:0");
    assert!(!make().status.success(), "it overwrites nothing");
    let config = format!("[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n{table}");
    let server = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", &zone())]);
    let to = address_of(&server, "TLS");
    let output = Command::new("kdig")
        .args(["@127.0.0.1", "-p", &to.port().to_string(), "+tls-hostname=dns.example.net", "www.example.com"])
        .arg(format!("+tls-ca={}", folder.path().join("tls/ca.crt").display()))
        .output()
        .expect("kdig");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("192.0.2.80"), "{said}");
    assert!(!server.log().iter().any(|line| line.contains("certificate")), "{:#?}", server.log());
}

/// The clients of hickory-net.
#[test]
fn hickory_asks_over_tls_https_and_quic() {
    let served = Served::start("");
    let provider = TokioRuntimeProvider::new();
    let (name, server_name) = ("www.example.com.".parse::<hickory_proto::rr::Name>().expect("a name"), "dns.example.net");
    runtime().block_on(async {
        let server = ServerName::try_from(server_name).expect("a name");
        let (connecting, sender) = tls_client_connect(served.tls, server, Arc::new(served.client(Some(b"dot"))), provider.clone());
        let (mut tls, background) = Client::<TokioRuntimeProvider>::new(connecting.await.expect("TLS"), sender);
        tokio::spawn(background);
        let builder = HttpsClientStream::builder(Arc::new(served.client(Some(b"h2"))), provider);
        let stream = builder.build(served.https, server_name.into(), "/dns-query".into()).await.expect("HTTPS");
        let (mut https, background) = Client::<TokioRuntimeProvider>::from_sender(stream);
        tokio::spawn(background);
        let builder = QuicClientStream::builder().crypto_config(served.client(Some(b"doq")));
        let stream = builder.build(served.quic, server_name.into()).await.expect("QUIC");
        let (mut quic, background) = Client::<TokioRuntimeProvider>::from_sender(stream);
        tokio::spawn(background);
        for (transport, client) in [("TLS", &mut tls), ("HTTPS", &mut https), ("QUIC", &mut quic)] {
            for _ in 0..3 {
                let reply = client.query(name.clone(), DNSClass::IN, RecordType::A).await.unwrap_or_else(|error| panic!("{transport}: {error}"));
                let mut found = addresses(&reply);
                found.sort();
                assert_eq!(found, ["192.0.2.80", "192.0.2.81"].map(|address| address.parse::<IpAddr>().expect("an address")), "{transport}");
            }
        }
    });
}

#[test]
fn rfc8484_kdig_and_curl_ask_over_https() {
    let served = Served::start("");
    for way in ["+https=/dns-query", "+https-get=/dns-query"] {
        let said = kdig(&served, served.https, &[way, "+tls-hostname=dns.example.net", "www.example.com", "A"]);
        assert!(said.contains("192.0.2.80") && said.contains("HTTP/2"), "{way}: {said}");
    }
    // curl resolves a name by us; nothing listens behind it, but curl says what it was told. It takes no other authority for this than the machine's.
    let output = Command::new("curl")
        .args(["-v", "--max-time", "10", "--connect-timeout", "1", "--doh-insecure"])
        .args(["--doh-url", &format!("https://127.0.0.1:{}/dns-query", served.https.port()), "http://www.example.com:1/"])
        .output()
        .expect("curl");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("192.0.2.80") || said.contains("192.0.2.81"), "{said}");
}

/// dnsperf reads one TLS record for each time that its socket is readable: what shares a record with a reply before it never reaches it.
#[test]
fn dnsperf_loses_nothing_over_tls_and_https() {
    let served = Served::start("");
    let names = ["www.example.com A\n", "app.example.com A\n", "nowhere.example.com A\n"].concat();
    let file = served.server.path().join("names");
    std::fs::write(&file, names.repeat(500)).expect("written");
    for (mode, to) in [("dot", served.tls), ("doh", served.https)] {
        let output = Command::new("dnsperf")
            .args(["-m", mode, "-s", "127.0.0.1", "-p", &to.port().to_string(), "-c", "2", "-q", "40", "-n", "1", "-t", "20", "-d"])
            .arg(&file)
            .output()
            .expect("dnsperf");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let count = |what: &str| said.lines().find_map(|line| line.trim().strip_prefix(what)?.split_whitespace().next()?.parse::<u64>().ok());
        assert_eq!((count("Queries completed:"), count("Queries lost:")), (Some(1500), Some(0)), "{mode}: {said}");
    }
}

/// A resolver that forwards over TLS and verifies the name.
#[test]
fn rfc7858_unbound_forwards_over_tls() {
    let served = Served::start("");
    let folder = tempfile::tempdir().expect("a folder");
    let start = || {
        let port = free_port();
        let config = format!(
            "server:\n interface: 127.0.0.1@{port}\n username: \"\"\n chroot: \"\"\n directory: \"{0}\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n \
             do-not-query-localhost: no\n do-ip6: no\n module-config: \"iterator\"\n tls-cert-bundle: \"{1}/tls/ca.crt\"\nremote-control:\n control-enable: no\n\
             forward-zone:\n name: \"example.com\"\n forward-tls-upstream: yes\n forward-addr: 127.0.0.1@{2}#dns.example.net\n",
            folder.path().display(),
            served.server.path().display(),
            served.tls.port()
        );
        std::fs::write(folder.path().join("unbound.conf"), config).expect("written");
        (port, Command::new("unbound").args(["-c", "unbound.conf"]).current_dir(&folder).stderr(Stdio::null()).spawn().expect("unbound"))
    };
    let (mut port, mut unbound) = start();
    let ask = |port: u16, name: &str| {
        let output = Command::new("dig")
            .args(["@127.0.0.1", "-p", &port.to_string(), "+time=2", "+tries=1", "+noall", "+answer", "+comments", name])
            .output()
            .expect("dig");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (mut said, began) = (String::new(), Instant::now());
    while !said.contains("192.0.2.80") && began.elapsed() < PATIENCE {
        if unbound.try_wait().expect("its state").is_some() {
            (port, unbound) = start();
        }
        said = ask(port, "www.example.com");
    }
    let (steered, nowhere) = (ask(port, "app.example.com"), ask(port, "nowhere.example.com"));
    let _ = unbound.kill();
    let _ = unbound.wait();
    assert!(said.contains("192.0.2.80") && said.contains("192.0.2.81"), "{said}");
    assert!(steered.contains("198.51.100.2"), "{steered}");
    assert!(nowhere.contains("NXDOMAIN"), "{nowhere}");
    assert!(served.metric("meridian_queries_total{transport=\"tls\"}") >= 3);
}
