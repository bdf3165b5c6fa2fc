//! DNS over TLS, HTTPS and QUIC: the real program on all transports, what they have in common and what not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::meridian::{Meridian, PATIENCE, write};

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
huge.TXT = { ttl = 60, data = [HUGE] }

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
    let huge: Vec<String> = (0..220).map(|at| format!("\"text {at:03} {}\"", "x".repeat(231))).collect();
    ZONE.replace("BIG", &texts.join(", ")).replace("HUGE", &huge.join(", "))
}

/// Where the server says that it listens.
pub fn address_of(server: &Meridian, transport: &str) -> SocketAddr {
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
        Served::by(Command::new(env!("CARGO_BIN_EXE_meridian")), config, names)
    }

    /// The same by a command that runs the program.
    pub fn by(program: Command, config: &str, names: &[&str]) -> Served {
        let authority = Authority::new();
        let (certificate, key) = authority.sign(names, 2099);
        let files = [
            ("meridian.toml", config.to_owned()),
            ("zones/example.com.toml", zone()),
            ("tls/a.crt", certificate),
            ("tls/a.key", key),
            ("tls/ca.crt", authority.pem()),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in &files {
            write(folder.path(), path, text);
        }
        let server = Meridian::start_by(program, folder);
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
        if body.is_some() && !args.contains(&"-T") {
            curl.args(["--data-binary", "@-"]);
        }
        let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl");
        let mut stdin = child.stdin.take().expect("its stdin");
        let body = body.unwrap_or_default().to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
        let output = child.wait_with_output().expect("its output");
        writer.join().expect("written");
        let headers = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(output.status.success(), "curl complains: {headers}");
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
        self.quic_with(to, quinn::TransportConfig::default()).await
    }

    pub async fn quic_with(&self, to: SocketAddr, transport: quinn::TransportConfig) -> quinn::Connection {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(self.client(Some(b"doq"))).expect("TLS 1.3");
        let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("an endpoint");
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        endpoint.set_default_client_config(config);
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

/// Header, question, answer, authority, additional records and EDNS; what may differ are IDs over QUIC, padding, and what does not fit over UDP.
#[test]
fn every_transport_gives_the_same_answer() {
    let served = Served::start("");
    for (what, name, rtype) in [
        ("static", "www.example.com", 1),
        ("steered", "app.example.com", 1),
        ("NXDOMAIN", "nowhere.example.com", 1),
        ("NODATA", "www.example.com", 28),
        ("NODATA of a class of clients", "app.example.com", 28),
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
        assert!(expected.edns.as_ref().is_some_and(|edns| !edns.options().as_ref().is_empty()), "{what}: the subnet comes back");
        let (is_truncated, over_udp) = (udp[2] & 2 != 0, sorted(&udp));
        assert_eq!(is_truncated, what.starts_with("truncated"), "{what}");
        if is_truncated {
            // The rest of it is the same.
            let mut header = expected.metadata;
            header.truncation = true;
            assert_eq!((&over_udp.metadata, &over_udp.queries, &over_udp.edns), (&header, &expected.queries, &expected.edns), "{what}: UDP");
        } else {
            assert_eq!(over_udp, expected, "{what}: UDP");
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
        let mut over_quic = sorted(&over_quic);
        if let Some(edns) = &mut over_quic.edns {
            edns.options_mut().remove(hickory_proto::rr::rdata::opt::EdnsCode::Padding);
        }
        assert_eq!(over_quic, expected, "{what}: QUIC");
    }
    for (transport, least) in [("tls", 9), ("https", 18), ("quic", 9)] {
        assert_eq!(served.metric(&format!("meridian_queries_total{{transport=\"{transport}\"}}")), least, "{transport}");
    }
}

fn has_option(reply: &[u8], code: u16) -> bool {
    let message = hickory_proto::op::Message::from_vec(reply).expect("a message");
    message.edns.is_some_and(|edns| edns.options().as_ref().iter().any(|(found, _)| u16::from(*found) == code))
}

/// Keepalive is a matter of TCP and TLS, padding of what is encrypted.
#[test]
fn rfc7830_rfc8467_padding_where_nobody_can_read_it() {
    let served = Served::start("");
    // Keepalive (11) and padding (12), both empty.
    let asked = query("www.example.com", 1, b"\0\x0b\0\0\0\x0c\0\0");
    let (padded, bare) = (query("www.example.com", 1, b"\0\x0c\0\0"), query("www.example.com", 1, &[]));
    let without_opt = [&bare[..11], &[0], &bare[12..bare.len() - 11]].concat();
    let (tcp, tls, https) = (served.over_tcp(&asked), served.over_tls(&asked), served.over_post(&asked));
    for (what, reply, is_padded, is_kept) in [
        ("TCP", &tcp, false, true),
        ("TLS", &tls, true, true),
        ("HTTPS", &https, true, false),
        ("QUIC", &served.over_quic(&padded), true, false),
        ("TLS, nothing asked", &served.over_tls(&bare), false, false),
        ("HTTPS, nothing asked", &served.over_post(&bare), false, false),
        // RFC 9250 §5.4: whatever the client does, as long as it has OPT.
        ("QUIC, nothing asked", &served.over_quic(&bare), true, false),
        ("TLS without OPT", &served.over_tls(&without_opt), false, false),
        ("QUIC without OPT", &served.over_quic(&without_opt), false, false),
    ] {
        assert_eq!((has_option(reply, 12), has_option(reply, 11)), (is_padded, is_kept), "{what}");
        assert_eq!(reply.len().is_multiple_of(468), is_padded, "{what}: {} octets", reply.len());
    }
}

/// Errors have a length as well, so they are padded wherever it can be told that the client pads.
#[test]
fn rfc7830_section_4_errors_are_padded() {
    let served = Served::start("");
    let padding = b"\0\x0c\0\0";
    let with = |options: &[u8]| query("www.example.com", 1, &[padding, options].concat());
    let mut version = with(&[]);
    let at = version.len() - 4 - 5;
    version[at] = 1;
    let mut opcode = with(&[]);
    opcode[2] |= 2 << 3;
    let mut trailing = with(&[]);
    trailing.push(0);
    let mut two = with(&[]);
    two[5] = 2;
    for (what, asked, rcode, is_padded) in [
        ("BADVERS", version, 16, true),
        ("NOTIMP", opcode, 4, true),
        ("a cookie of seven octets", with(b"\0\x0a\0\x071234567"), 1, true),
        ("a subnet with a scope", with(b"\0\x08\0\x07\0\x01\x18\x18\xc6\x33\x64"), 1, true),
        ("an option that overruns", with(b"\0\x03\0\x09"), 1, true),
        ("octets behind the message", trailing, 1, true),
        ("not ours", query("example.org", 1, padding), 5, true),
        // The second question takes the place of OPT, which is not found therefore.
        ("two questions", two, 1, false),
    ] {
        for (transport, reply) in [("TLS", served.over_tls(&asked)), ("HTTPS", served.over_post(&asked)), ("QUIC", served.over_quic(&asked))] {
            let message = hickory_proto::op::Message::from_vec(&reply).expect("a message");
            assert_eq!(u16::from(message.metadata.response_code), rcode, "{what}: {transport}");
            assert_eq!(has_option(&reply, 12), is_padded, "{what}: {transport}");
            assert_eq!(reply.len().is_multiple_of(468), is_padded, "{what}: {transport}: {} octets", reply.len());
        }
        assert!(!has_option(&served.over_tcp(&asked), 12), "{what}: TCP");
    }
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
