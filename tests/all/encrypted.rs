//! DNS over TLS, HTTPS and QUIC: the real program, and clients that nobody here wrote.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use hickory_net::client::{Client, ClientHandle};
use hickory_net::h2::HttpsClientStream;
use hickory_net::quic::QuicClientStream;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tls::tls_client_connect;
use hickory_proto::rr::{DNSClass, RecordType};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::meridian::{Meridian, PATIENCE, addresses, free_port};

const ZONE: &str = r#"
[zone]
name = "example.com"
ns = ["ns1"]

[records]
ns1.A = "192.0.2.53"
www.A = { ttl = 300, data = ["192.0.2.80", "192.0.2.81"] }
sub.NS = "ns.sub"
"ns.sub".A = "192.0.2.99"
big.TXT = { ttl = 60, data = [BIG] }

[pool.eu]
endpoints = ["198.51.100.1", "2001:db8::1"]

[pool.us]
endpoints = ["198.51.100.2"]

[steer.app]
policy = "geo"
rules = [{ geo = ["EU"], to = "eu" }]
default = "us"
ttl = 20
"#;

/// An authority of our own and what it signed.
pub struct Authority {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than those of what it signs: OpenSSL takes equal names for a signature of its own.
        params.distinguished_name.push(DnType::CommonName, "the authority");
        Authority { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority") }
    }

    pub fn pem(&self) -> String {
        self.ca.pem()
    }

    /// Certificate and key for these names, until the end of this year.
    pub fn sign(&self, names: &[&str], year: i32) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        (params.signed_by(&key, &self.ca).expect("signed").pem(), key.serialize_pem())
    }
}

pub struct Served {
    pub server: Meridian,
    pub authority: Authority,
    pub tls: SocketAddr,
    pub https: SocketAddr,
    pub quic: SocketAddr,
}

pub fn config(more: &str) -> String {
    let of = |key: &str| {
        format!("[server.{key}]\nlisten = \"127.0.0.1:0\"\ncertificate = \"tls/a.crt\"\nkey = \"tls/a.key\"\nname = \"dns.example.net\"\n{more}\n")
    };
    format!("[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\n{}{}{}[admin]\nlisten = \"127.0.0.1:0\"\n", of("tls"), of("https"), of("quic"))
}

pub fn zone() -> String {
    let texts: Vec<String> = (0..40).map(|at| format!("\"text {at} {}\"", "x".repeat(60))).collect();
    ZONE.replace("BIG", &texts.join(", "))
}

/// Where the server says that it listens.
fn address_of(server: &Meridian, transport: &str) -> SocketAddr {
    let said = format!("DNS over {transport} on ");
    let line = server.log().into_iter().find_map(|line| line.split(&said).nth(1).map(str::to_owned));
    line.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{transport}: {:#?}", server.log()))
}

impl Served {
    pub fn start(more: &str) -> Served {
        Served::with(&config(more), &["dns.example.net", "127.0.0.1"])
    }

    /// With this configuration, and a certificate for these names.
    pub fn with(config: &str, names: &[&str]) -> Served {
        let authority = Authority::new();
        let (certificate, key) = authority.sign(names, 2099);
        let files = [
            ("meridian.toml", config.to_owned()),
            ("zones/example.com.toml", zone()),
            ("tls/a.crt", certificate),
            ("tls/a.key", key),
            ("tls/ca.crt", authority.pem()),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let server = Meridian::start(&files);
        let (tls, https, quic) = (address_of(&server, "TLS"), address_of(&server, "HTTPS"), address_of(&server, "QUIC"));
        Served { server, authority, tls, https, quic }
    }

    pub fn client(&self, protocol: Option<&[u8]>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).expect("PEM")).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
        config
    }

    pub fn connect(&self, to: SocketAddr, protocol: Option<&[u8]>) -> StreamOwned<ClientConnection, TcpStream> {
        let stream = TcpStream::connect(to).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let name = ServerName::try_from("dns.example.net").expect("a name");
        let connection = ClientConnection::new(Arc::new(self.client(protocol)), name).expect("a session");
        StreamOwned::new(connection, stream)
    }

    pub fn over_tls(&self, query: &[u8]) -> Vec<u8> {
        framed(&mut self.connect(self.tls, Some(b"dot")), query)
    }

    /// By curl; status, headers and body.
    pub fn curl(&self, path: &str, args: &[&str], body: Option<&[u8]>) -> (u16, String, Vec<u8>) {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--http2", "--max-time", "20", "--cacert"]).arg(self.server.path().join("tls/ca.crt"));
        curl.args(["-D", "/dev/stderr", "-o", "-"]).args(args).arg(format!("https://127.0.0.1:{}{path}", self.https.port()));
        if body.is_some() {
            curl.args(["--data-binary", "@-"]);
        }
        let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl");
        let mut stdin = child.stdin.take().expect("its stdin");
        let body = body.unwrap_or_default().to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
        let output = child.wait_with_output().expect("its output");
        writer.join().expect("written");
        let headers = String::from_utf8_lossy(&output.stderr).to_lowercase();
        let last = headers.rfind("http/2 ").map(|at| headers[at..].to_owned()).unwrap_or(headers);
        let status = last.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, last, output.stdout)
    }

    pub fn over_post(&self, query: &[u8]) -> Vec<u8> {
        let (status, headers, body) = self.curl("/dns-query", &["-H", "Content-Type: application/dns-message"], Some(query));
        assert_eq!(status, 200, "{headers}");
        body
    }

    pub fn over_get(&self, query: &[u8]) -> Vec<u8> {
        let (status, headers, body) = self.curl(&format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(query)), &[], None);
        assert_eq!(status, 200, "{headers}");
        body
    }

    pub async fn quic(&self) -> quinn::Connection {
        self.quic_at(self.quic).await
    }

    pub async fn quic_at(&self, to: SocketAddr) -> quinn::Connection {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(self.client(Some(b"doq"))).expect("TLS 1.3");
        let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("an endpoint");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        endpoint.connect(to, "dns.example.net").expect("started").await.expect("a connection")
    }

    pub fn over_quic(&self, query: &[u8]) -> Vec<u8> {
        let mut query = query.to_vec();
        query[..2].fill(0);
        runtime().block_on(async {
            let connection = self.quic().await;
            ask_quic(&connection, &query).await.expect("a reply")
        })
    }

    pub fn over_udp(&self, query: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send_to(query, self.server.dns).expect("sent");
        let mut reply = vec![0; 4096];
        let len = socket.recv(&mut reply).expect("a reply");
        reply.truncate(len);
        reply
    }

    pub fn over_tcp(&self, query: &[u8]) -> Vec<u8> {
        framed(&mut TcpStream::connect(self.server.dns).expect("a connection"), query)
    }

    pub fn metric(&self, name: &str) -> u64 {
        crate::rate_limit::metric(&self.server, name)
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

pub async fn ask_quic(connection: &quinn::Connection, query: &[u8]) -> Result<Vec<u8>, String> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
    let octets = [&(query.len() as u16).to_be_bytes()[..], query].concat();
    send.write_all(&octets).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())?;
    let reply = receive.read_to_end(70_000).await.map_err(|error| error.to_string())?;
    assert_eq!(usize::from(u16::from_be_bytes([reply[0], reply[1]])), reply.len() - 2);
    Ok(reply[2..].to_vec())
}

/// A query and its reply with their lengths before them.
pub fn framed(stream: &mut (impl Read + Write), query: &[u8]) -> Vec<u8> {
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat()).expect("sent");
    stream.flush().expect("sent");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).expect("a reply");
    reply
}

/// A query with EDNS (payload 1232) and these options.
pub fn query(name: &str, rtype: u16, options: &[u8]) -> Vec<u8> {
    let mut packet = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01".to_vec();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&rtype.to_be_bytes());
    packet.extend_from_slice(b"\0\x01\0\0\x29\x04\xd0\0\0\0\0");
    packet.extend_from_slice(&(options.len() as u16).to_be_bytes());
    packet.extend_from_slice(options);
    packet
}

/// ECS 192.0.2.0/24 … of the client that is asked for.
const SUBNET: &[u8] = b"\0\x08\0\x07\0\x01\x18\0\xc6\x33\x64";

#[test]
fn every_transport_gives_the_same_answer() {
    let served = Served::start("");
    for (what, name, rtype) in [
        ("static", "www.example.com", 1),
        ("steered", "app.example.com", 1),
        ("NXDOMAIN", "nowhere.example.com", 1),
        ("NODATA", "www.example.com", 28),
        ("referral", "host.sub.example.com", 1),
        ("truncated over UDP", "big.example.com", 16),
        ("apex", "example.com", 6),
        ("not ours", "example.org", 1),
    ] {
        let asked = query(name, rtype, SUBNET);
        let over_tcp = served.over_tcp(&asked);
        let udp = served.over_udp(&asked);
        // Records of a set may come in any order.
        let sorted = |octets: &[u8]| {
            let mut message = hickory_proto::op::Message::from_vec(octets).expect("a message");
            message.answers.sort_by_key(|record| record.to_string());
            message
        };
        let expected = sorted(&over_tcp);
        assert_eq!(udp[2] & 2 != 0, what.starts_with("truncated"), "{what}");
        if udp[2] & 2 == 0 {
            assert_eq!(sorted(&udp), expected, "{what}: UDP");
        }
        for (transport, reply) in
            [("TLS", served.over_tls(&asked)), ("HTTPS, POST", served.over_post(&asked)), ("HTTPS, GET", served.over_get(&asked))]
        {
            assert_eq!(sorted(&reply), expected, "{what}: {transport}");
            assert_eq!(reply.len(), over_tcp.len(), "{what}: {transport}");
        }
        let mut over_quic = served.over_quic(&asked);
        assert_eq!(over_quic[..2], [0, 0], "RFC 9250 §4.2.1");
        over_quic[..2].copy_from_slice(&asked[..2]);
        assert_eq!(sorted(&over_quic), expected, "{what}: QUIC");
    }
    for (transport, least) in [("tls", 8), ("https", 16), ("quic", 8)] {
        assert_eq!(served.metric(&format!("meridian_queries_total{{transport=\"{transport}\"}}")), least, "{transport}");
    }
}

/// Keepalive is a matter of TCP and TLS, padding of what is encrypted.
#[test]
fn rfc7830_rfc8467_padding_where_nobody_can_read_it() {
    let served = Served::start("");
    // Keepalive (11) and padding (12), both empty.
    let asked = query("www.example.com", 1, b"\0\x0b\0\0\0\x0c\0\0");
    let without = query("www.example.com", 1, b"\0\x0c\0\0");
    let has = |reply: &[u8], code: u16| {
        let message = hickory_proto::op::Message::from_vec(reply).expect("a message");
        message.edns.as_ref().expect("EDNS").options().as_ref().iter().any(|(found, _)| u16::from(*found) == code)
    };
    let (tcp, tls, https) = (served.over_tcp(&asked), served.over_tls(&asked), served.over_post(&asked));
    let quic = served.over_quic(&without);
    for (what, reply, padded, kept) in
        [("TCP", &tcp, false, true), ("TLS", &tls, true, true), ("HTTPS", &https, true, false), ("QUIC", &quic, true, false)]
    {
        assert_eq!((has(reply, 12), has(reply, 11)), (padded, kept), "{what}");
        assert_eq!(reply.len().is_multiple_of(468), padded, "{what}: {} octets", reply.len());
    }
}

#[test]
fn rfc7858_kdig_asks_over_tls() {
    let served = Served::start("");
    let kdig = |args: &[&str]| {
        let output = Command::new("kdig")
            .args(["@127.0.0.1", "-p", &served.tls.port().to_string(), "+retry=0", "+time=10"])
            .args(args)
            .current_dir(served.server.path())
            .output()
            .expect("kdig");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let ca = served.server.path().join("tls/ca.crt").display().to_string();
    let (ca, name) = (format!("+tls-ca={ca}"), "+tls-hostname=dns.example.net");
    let said = kdig(&[&ca, name, "+padding", "+keepopen", "www.example.com", "A", "app.example.com", "A"]);
    for wanted in ["TLS1.3", "192.0.2.80", "198.51.100.2", "PADDING"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let said = kdig(&[&ca, "+tls-hostname=other.example.net", "www.example.com", "A"]);
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
    let ca = served.server.path().join("tls/ca.crt").display().to_string();
    for way in ["+https=/dns-query", "+https-get=/dns-query"] {
        let output = Command::new("kdig")
            .args(["@127.0.0.1", "-p", &served.https.port().to_string(), "+retry=0", "+time=10", way, &format!("+tls-ca={ca}")])
            .args(["+tls-hostname=dns.example.net", "www.example.com", "A"])
            .output()
            .expect("kdig");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
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

#[test]
fn strict_protocol_names() {
    let served = Served::start("");
    let asked = query("www.example.com", 1, &[]);
    // TLS without a name is what many clients do (RFC 7858 has none); another name is refused (RFC 7301 §3.2).
    assert!(!framed(&mut served.connect(served.tls, None), &asked).is_empty());
    for (to, protocol) in [(served.tls, Some(&b"h2"[..])), (served.https, Some(b"http/1.1")), (served.https, None)] {
        let mut stream = served.connect(to, protocol);
        let _ = stream.write_all(&[&(asked.len() as u16).to_be_bytes()[..], &asked].concat());
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        assert!(reply.is_empty(), "{protocol:?}: {reply:?}");
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

/// SIGTERM: what was asked is answered, and every connection ends with a word.
#[test]
fn a_stop_ends_connections_properly() {
    let mut served = Served::start("");
    let asked = query("www.example.com", 1, &[]);
    let mut zero = asked.clone();
    zero[..2].fill(0);
    let mut tls = served.connect(served.tls, Some(b"dot"));
    assert!(!framed(&mut tls, &asked).is_empty());
    runtime().block_on(async {
        let connection = served.quic().await;
        assert!(ask_quic(&connection, &zero).await.is_ok());
        let closed = tokio::spawn({
            let connection = connection.clone();
            async move { connection.closed().await }
        });
        served.server.signal("TERM");
        let quinn::ConnectionError::ApplicationClosed(closed) = closed.await.expect("its end") else { panic!("cut off") };
        assert_eq!(closed.error_code, 0u32.into(), "DOQ_NO_ERROR");
    });
    let mut rest = Vec::new();
    // Without close_notify this would be an error.
    assert_eq!(tls.read_to_end(&mut rest).ok(), Some(0));
    let (took, code) = served.server.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(3), "{took:?} {code:?}");
}

/// Whoever comes back with a ticket is spared the certificate, over TLS 1.2 and 1.3 alike; `min_version` is kept to.
#[test]
fn rfc8446_section_2_2_sessions_are_resumed_and_versions_kept_to() {
    let (served, newest) =
        (Served::start(""), Served::with(&config("").replacen("name =", "min_version = \"1.3\"\nname =", 1), &["dns.example.net"]));
    let asked = query("www.example.com", 1, &[]);
    let handshake = |served: &Served, client: &Arc<ClientConfig>| {
        let stream = TcpStream::connect(served.tls).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let connection = ClientConnection::new(client.clone(), ServerName::try_from("dns.example.net").expect("a name")).expect("a session");
        let mut stream = StreamOwned::new(connection, stream);
        stream.conn.complete_io(&mut stream.sock).ok()?;
        // Tickets come with the first reply.
        assert!(!framed(&mut stream, &asked).is_empty());
        stream.conn.handshake_kind()
    };
    for (version, is_new) in [(&rustls::version::TLS12, false), (&rustls::version::TLS13, true)] {
        let client = |served: &Served| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).expect("a version");
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(served.authority.pem().as_bytes()).expect("PEM")).expect("an authority");
            Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
        };
        let (ours, others) = (client(&served), client(&newest));
        assert_eq!(handshake(&served, &ours), Some(rustls::HandshakeKind::Full), "{version:?}");
        assert_eq!(handshake(&served, &ours), Some(rustls::HandshakeKind::Resumed), "{version:?}");
        assert_eq!(handshake(&newest, &others), is_new.then_some(rustls::HandshakeKind::Full), "{version:?}");
    }
}
