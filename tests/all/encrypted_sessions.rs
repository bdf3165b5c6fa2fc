//! Sessions of encrypted transports: which protocol they are for, and who may take one up again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::encrypted::{Served, ask_quic, config, framed, query, runtime};
use crate::faults::clock::{clocked, set_clock};
use crate::meridian::PATIENCE;

/// TLS without a name is what many clients do (RFC 7858 has none); whoever names something else, or over HTTPS nothing, is told so.
#[test]
fn rfc7301_section_3_2_strict_protocol_names() {
    let served = Served::start("");
    let asked = query("www.example.com", 1, &[]);
    assert!(!framed(&mut served.connect(served.tls, None), &asked).is_empty());
    for (to, protocol) in [(served.tls, Some(&b"h2"[..])), (served.https, Some(b"http/1.1")), (served.https, None)] {
        let mut stream = served.connect(to, protocol);
        let error = stream.conn.complete_io(&mut stream.sock).expect_err("an alert");
        let alert = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        assert_eq!(alert, Some(&rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)), "{protocol:?}: {error}");
    }
    for (transport, count) in [("tls", 1), ("https", 2)] {
        let metric = format!("meridian_encrypted_handshake_errors_total{{transport=\"{transport}\"}}");
        assert_eq!(served.metric(&metric), count, "{transport}");
    }
}

/// Who has nothing newer than TLS 1.1 is told that it is the version, whatever else its hello lacks.
#[test]
fn rfc8446_appendix_d_2_old_versions_are_told() {
    let served = Served::start("");
    for version in [0, 1, 2] {
        // TLS_RSA_WITH_AES_128_CBC_SHA, no compression, no extensions.
        let hello = [&[3, version][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
        let record = [&[22, 3, 1, 0, 4 + hello.len() as u8, 1, 0, 0, hello.len() as u8], &hello[..]].concat();
        for to in [served.tls, served.https] {
            let mut stream = TcpStream::connect(to).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            // In two parts, as they may come.
            stream.write_all(&record[..8]).and_then(|()| stream.write_all(&record[8..])).expect("sent");
            let mut said = Vec::new();
            stream.read_to_end(&mut said).expect("an end");
            const PROTOCOL_VERSION: u8 = 70;
            assert_eq!(said, [21, 3, 3, 0, 2, 2, PROTOCOL_VERSION], "{version}");
        }
    }
}

/// A client of this version alone, which keeps the tickets that it gets.
fn keeper(served: &Served, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).expect("a version");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(served.authority.pem().as_bytes()).expect("PEM")).expect("an authority");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// How the handshake of a connection over TLS went, with a query on it; nothing when it failed.
fn handshake(served: &Served, client: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let stream = TcpStream::connect(served.tls).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let connection = ClientConnection::new(client.clone(), ServerName::try_from("dns.example.net").expect("a name")).expect("a session");
    let mut stream = StreamOwned::new(connection, stream);
    stream.conn.complete_io(&mut stream.sock).ok()?;
    // Tickets come with the first reply.
    assert!(!framed(&mut stream, &query("www.example.com", 1, &[])).is_empty());
    stream.conn.handshake_kind()
}

/// Whoever comes back with a ticket is spared the certificate, over TLS 1.2 and 1.3 alike; `min_version` is kept to.
#[test]
fn rfc8446_section_2_2_sessions_are_resumed_and_versions_kept_to() {
    let (served, newest) =
        (Served::start(""), Served::with(&config("").replacen("name =", "min_version = \"1.3\"\nname =", 1), &["dns.example.net"]));
    for (version, is_new) in [(&rustls::version::TLS12, false), (&rustls::version::TLS13, true)] {
        let (ours, others) = (keeper(&served, version), keeper(&newest, version));
        assert_eq!(handshake(&served, &ours), Some(HandshakeKind::Full), "{version:?}");
        assert_eq!(handshake(&served, &ours), Some(HandshakeKind::Resumed), "{version:?}");
        assert_eq!(handshake(&newest, &others), is_new.then_some(HandshakeKind::Full), "{version:?}");
    }
}

/// The keys of tickets change every six hours, and the one before is good for as long again: a ticket of yesterday opens nothing, whoever got hold of it.
#[test]
fn rfc5077_section_5_5_keys_of_tickets_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = folder.path().join("clock");
    set_clock(&clock, "+0");
    let served = Served::by(clocked(&clock), &config(""), &["dns.example.net"]);
    let clients = [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| [(); 2].map(|()| keeper(&served, version)));
    for client in clients.iter().flatten() {
        assert_eq!(handshake(&served, client), Some(HandshakeKind::Full), "{client:?}");
    }
    for (offset, at, kind) in [("+7h", 0, HandshakeKind::Resumed), ("+14h", 1, HandshakeKind::Full)] {
        set_clock(&clock, offset);
        for clients in &clients {
            assert_eq!(handshake(&served, &clients[at]), Some(kind), "{offset}: {:?}", clients[at]);
        }
    }
}

/// What could be replayed is not taken (decision 6): a ticket allows no early data, over QUIC as over TLS.
#[test]
fn rfc8446_section_8_there_is_no_early_data() {
    let served = Served::start("");
    let mut client = keeper(&served, &rustls::version::TLS13);
    Arc::make_mut(&mut client).enable_early_data = true;
    assert_eq!(handshake(&served, &client), Some(HandshakeKind::Full));
    let mut again = ClientConnection::new(client, ServerName::try_from("dns.example.net").expect("a name")).expect("a session");
    assert!(again.early_data().is_none());
    runtime().block_on(async {
        let mut client = served.client(Some(b"doq"));
        client.enable_early_data = true;
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(client).expect("TLS 1.3");
        let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("an endpoint");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connect = || endpoint.connect(served.quic, "dns.example.net").expect("started");
        let mut asked = query("www.example.com", 1, &[]);
        asked[..2].fill(0);
        let connection = connect().await.expect("a connection");
        assert!(ask_quic(&connection, &asked).await.is_ok());
        assert!(connect().into_0rtt().is_err());
    });
}

/// OpenSSL gives its caller what one record holds; who then waits for the socket never sees a reply that shared it with another.
#[test]
fn replies_come_in_records_of_their_own() {
    let served = Served::start("");
    let asked = query("www.example.com", 1, &[]);
    let mut stream = served.connect(served.tls, Some(b"dot"));
    // Tickets come with the first one.
    let reply_len = framed(&mut stream, &asked).len() + 2;
    let framed_query = [&(asked.len() as u16).to_be_bytes()[..], &asked].concat();
    stream.write_all(&framed_query.repeat(7)).expect("sent");
    stream.flush().expect("sent");
    let (mut raw, mut plain) = (Vec::new(), Vec::new());
    while plain.len() < 7 * reply_len {
        let mut octets = [0; 4096];
        let len = stream.sock.read(&mut octets).expect("replies");
        assert!(len > 0, "{} of {} octets", plain.len(), 7 * reply_len);
        raw.extend_from_slice(&octets[..len]);
        let mut rest = &octets[..len];
        while !rest.is_empty() {
            stream.conn.read_tls(&mut rest).expect("records");
            stream.conn.process_new_packets().expect("good records");
        }
        let _ = stream.conn.reader().read_to_end(&mut plain);
    }
    let (mut records, mut rest) = (0, &raw[..]);
    while let [23, 3, 3, high, low, behind @ ..] = rest {
        rest = &behind[usize::from(u16::from_be_bytes([*high, *low]))..];
        records += 1;
    }
    assert_eq!((records, rest.len()), (7, 0), "seven replies");
}
