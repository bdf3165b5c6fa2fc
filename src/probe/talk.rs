//! Checks without HTTP: a TCP connection that says and hears something, a DNS query over UDP.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr;
use hickory_proto::serialize::binary::BinEncodable;
use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::check::{BODY_MAX_BYTES, Means, Progress, Search, Way, without_memory};
use super::words::{self, Phase};
use crate::health::{Failure, Outcome};
use crate::policy::model::{DnsCheck, TcpCheck};

/// Room for a reply over UDP without EDNS, and for servers that send more than that.
const MAX_DATAGRAM: usize = 4096;
/// Whoever refuses a certificate does so within this, or twice the time that connecting took: on loopback that is too short for a busy machine.
const LEAST_REFUSED: Duration = Duration::from_millis(250);
/// Octets of what came that are shown.
const SHOWN: usize = 60;

/// Connects; says and hears what is to be said and heard, within TLS if it is to be.
pub(super) async fn tcp(check: &TcpCheck, way: Way, means: &Means, timeout: Duration, progress: &Arc<Progress>) -> Outcome {
    let began = Instant::now();
    let stream = connect(way).await.map_err(|error| words::io_failure(&error, Phase::Connect))?;
    let Some(named) = &check.tls else { return converse(check, stream, progress).await };
    progress.enter(Phase::Tls);
    let mut config = means.tls.config(&named.tls, progress).map_err(Failure::Internal)?;
    config.resumption = without_memory(progress);
    let name = match named.host.parse::<IpAddr>() {
        // A host that is an address is the endpoint's own, as with HTTPS.
        Ok(_) => ServerName::from(way.to.ip()),
        Err(_) => ServerName::try_from(named.host.clone()).map_err(|_| Failure::Internal(format!("\"{}\" is no TLS server name", named.host)))?,
    };
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| words::failure(&error, Phase::Tls))?;
    let took = began.elapsed();
    converse(check, &mut stream, progress).await?;
    if check.reply.is_some() || stream.get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Ok(());
    }
    refused(stream, took, timeout, progress).await
}

/// In TLS 1.3 the client's handshake is over before the server has seen its certificate, or that there is none: what it makes of that comes afterwards
/// (RFC 8446 §4.4.2.4). Whoever asked for one is given the time to say so; what else it says means that it goes on.
async fn refused(mut stream: impl AsyncRead + Unpin, took: Duration, timeout: Duration, progress: &Progress) -> Outcome {
    let wait = (took * 2).max(LEAST_REFUSED).min(timeout.saturating_sub(took) / 2);
    let mut room = [0; 1];
    let heard = std::future::poll_fn(|context| {
        if !progress.may_be_refused() {
            return Poll::Ready(Ok(()));
        }
        let mut piece = ReadBuf::new(&mut room);
        match Pin::new(&mut stream).poll_read(context, &mut piece) {
            Poll::Pending if !progress.may_be_refused() => Poll::Ready(Ok(())),
            heard => heard,
        }
    });
    match tokio::time::timeout(wait, heard).await {
        Ok(Err(error)) if error.kind() != ErrorKind::UnexpectedEof => Err(words::failure(&error, Phase::Tls)),
        _ => Ok(()),
    }
}

async fn converse(check: &TcpCheck, mut stream: impl AsyncRead + AsyncWrite + Unpin, progress: &Progress) -> Outcome {
    // TLS hides its errors in those of the system.
    let fail = |error: std::io::Error, phase| words::failure(&error, phase);
    if let Some(text) = &check.send {
        progress.enter(Phase::Response);
        stream.write_all(text.as_bytes()).await.map_err(|error| fail(error, Phase::Response))?;
    }
    let Some(expected) = &check.reply else { return Ok(()) };
    progress.enter(Phase::Response);
    let mut search = Search::new(expected.as_bytes());
    let mut piece = [0; 2048];
    while !search.found && search.seen.len() < BODY_MAX_BYTES {
        match stream.read(&mut piece).await {
            Ok(0) => break,
            // The peer has closed without saying so within TLS; what came before counts.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Ok(len) => search.feed(piece.get(..len).unwrap_or(&[])),
            Err(error) => return Err(fail(error, Phase::Response)),
        }
    }
    match search.found {
        true => Ok(()),
        false if search.seen.is_empty() => Err(Failure::Answer("the connection was closed without a word".into())),
        false => Err(Failure::Answer(format!("found \"{}\", expected \"{}\"", shown(&search.seen), shown(expected.as_bytes())))),
    }
}

async fn connect(way: Way) -> std::io::Result<TcpStream> {
    let Some(from) = way.from else { return TcpStream::connect(way.to).await };
    let socket = if way.to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(way.to).await
}

/// The beginning of what came, on one line.
fn shown(octets: &[u8]) -> String {
    let text = octets.get(..SHOWN).unwrap_or(octets).escape_ascii().to_string();
    if octets.len() > SHOWN { text + "…" } else { text }
}

/// Asks; compares the code and the data. What is cut off over UDP is asked for again over TCP (RFC 7766 §5).
pub(super) async fn dns(check: &DnsCheck, way: Way, progress: &Progress) -> Outcome {
    let ours = |why: String| Failure::Internal(why);
    let any: IpAddr = if way.to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let fail = |error: std::io::Error| words::io_failure(&error, Phase::Connect);
    let socket = UdpSocket::bind((way.from.unwrap_or(any), 0)).await.map_err(fail)?;
    socket.connect(way.to).await.map_err(fail)?;
    let name = rr::Name::from_ascii(check.name.to_string()).map_err(|error| ours(error.to_string()))?;
    let query = Query::query(name, rr::RecordType::from(check.rtype.0));
    let id = rand_id();
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.op_code = OpCode::Query;
    message.metadata.recursion_desired = false;
    message.add_query(query.clone());
    let packet = message.to_bytes().map_err(|error| ours(error.to_string()))?;
    socket.send(&packet).await.map_err(fail)?;
    progress.enter(Phase::Response);
    let mut reply = [0; MAX_DATAGRAM];
    loop {
        let len = socket.recv(&mut reply).await.map_err(fail)?;
        let Ok(reply) = Message::from_vec(reply.get(..len).unwrap_or(&[])) else {
            return Err(Failure::Protocol("the reply is no DNS message".into()));
        };
        // Somebody else's, one of long ago, or our own question that comes back (QR, RFC 1035 §4.1.1).
        let is_reply = reply.metadata.message_type == MessageType::Response;
        if is_reply && reply.metadata.id == id && reply.queries.first().is_none_or(|asked| *asked == query) {
            return match judge(check, &reply) {
                Err(_) if reply.metadata.truncation => over_tcp(check, way, &packet, progress).await,
                outcome => outcome,
            };
        }
    }
}

/// The same question over TCP: two octets with the length in front of each message (RFC 1035 §4.2.2).
async fn over_tcp(check: &DnsCheck, way: Way, packet: &[u8], progress: &Progress) -> Outcome {
    let fail = |error: std::io::Error, phase| match words::io_failure(&error, phase) {
        failure if failure.is_no_verdict() => failure,
        failure => Failure::Answer(format!("truncated over UDP (TC); over TCP {failure}")),
    };
    progress.enter(Phase::ConnectAgain);
    let mut stream = connect(way).await.map_err(|error| fail(error, Phase::Connect))?;
    progress.enter(Phase::ResponseAgain);
    let fail = |error| fail(error, Phase::Response);
    let len = packet.len() as u16;
    stream.write_all(&[&len.to_be_bytes(), packet].concat()).await.map_err(fail)?;
    let len = stream.read_u16().await.map_err(fail)?;
    let mut reply = vec![0; usize::from(len)];
    stream.read_exact(&mut reply).await.map_err(fail)?;
    match Message::from_vec(&reply) {
        Ok(reply) if reply.metadata.message_type == MessageType::Query => Err(Failure::Protocol("the reply over TCP is a question".into())),
        Ok(reply) => judge(check, &reply),
        Err(_) => Err(Failure::Protocol("the reply over TCP is no DNS message".into())),
    }
}

fn judge(check: &DnsCheck, reply: &Message) -> Outcome {
    let expected = ResponseCode::from(0, check.rcode.0 as u8);
    let found = reply.metadata.response_code;
    if found != expected {
        return Err(Failure::Answer(format!("found {}, expected {}", code(found), check.rcode)));
    }
    let Some(wanted) = &check.answer else { return Ok(()) };
    let data: Vec<String> =
        reply.answers.iter().filter(|record| u16::from(record.record_type()) == check.rtype.0).map(|record| record.data.to_string()).collect();
    if data.iter().any(|data| data.trim_end_matches('.').eq_ignore_ascii_case(wanted.trim_end_matches('.'))) {
        return Ok(());
    }
    let found = if data.is_empty() { format!("no {} record", check.rtype) } else { shown(data.join(", ").as_bytes()) };
    Err(Failure::Answer(format!("found {found}, expected {wanted}")))
}

fn code(code: ResponseCode) -> String {
    crate::dns::Rcode(u16::from(code)).to_string()
}

/// Nobody on the way knows what to forge.
fn rand_id() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u16
}
