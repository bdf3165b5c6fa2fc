//! DNS over QUIC (RFC 9250): a stream for each query.
//!
//! ```text
//! what the client does                                     what it gets (RFC 9250 §4.3)
//! a query with its length, ID 0, and FIN                   the reply and FIN
//! no query, more than one, an ID, keepalive, no FIN        the connection ends with DOQ_PROTOCOL_ERROR, and the reason says which
//! STOP_SENDING before the reply                            RESET_STREAM with its code (RFC 9000 §3.5)
//! RESET_STREAM before FIN                                  RESET_STREAM with DOQ_REQUEST_CANCELLED
//! half a query until `message`, no window until `write`    RESET_STREAM with DOQ_EXCESSIVE_LOAD
//! no room for a query while it waits                       the same
//! a query that the engine fails on                         RESET_STREAM with DOQ_INTERNAL_ERROR
//! no query for `idle`, whatever else it sends              the connection ends with DOQ_NO_ERROR (§5.5.2), and the reason says why
//! the `lifetime`, the end of the service                   the same, when its queries have been answered: [`leave`]
//! others need the place                                    the connection ends with DOQ_EXCESSIVE_LOAD, and the reason says why
//! ```

use std::cmp::Ordering;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, ReadError, RecvStream, Runtime, SendStream, ServerConfig, TokioRuntime,
    TransportConfig, VarInt, WriteError,
};
use rustls::ServerConfig as TlsConfig;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::desks::{Answered, Kept};
use super::unproved::{Accounts, Held, Ids, Thrifty};
use super::{Entered, FAREWELL, Shared, UnderWay};
use crate::answer::Transport;
use crate::dns::{Keepalive, Parsed, QueryName, request};

/// RFC 9250 §4.3.
const NO_ERROR: VarInt = VarInt::from_u32(0);
const INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// A message with its length.
const MAX_STREAM_LEN: usize = 2 + 65_535;
/// What a client may send before it is read, on one stream and on all.
const STREAM_WINDOW: VarInt = VarInt::from_u32(MAX_STREAM_LEN as u32);
const CONNECTION_WINDOW: VarInt = VarInt::from_u32(256 << 10);
/// Replies that wait for a client's window and acknowledgements, of one connection.
const SEND_WINDOW: u64 = 256 << 10;
/// Half of the places taken: from here on a client proves its address first (RFC 9000 §8.1.2), so that a flood with forged addresses leaves nothing here.
const VALIDATE_FROM: usize = 2;

/// For the queries of a connection that has had its `lifetime`; when the service ends, they have the time for last words.
const LEAVE: Duration = Duration::from_secs(3);
/// A connection that has to end is left when nothing has come for two round trips, within these bounds.
const LEAST_QUIET: Duration = Duration::from_millis(20);
const MOST_QUIET: Duration = Duration::from_millis(250);

/// The versions that are spoken: 1 (RFC 9000). quinn would offer drafts beside it, which RFC 9250 has no protocol for.
const VERSIONS: [u32; 1] = [1];

/// The endpoint of one socket, and what it has with addresses that are not proved.
pub(super) fn endpoint(socket: UdpSocket, tls: &Arc<TlsConfig>, shared: &Shared) -> io::Result<(Endpoint, Arc<Accounts>)> {
    let limits = shared.limits;
    let crypto = QuicServerConfig::try_from(tls.clone()).map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits.streams.into())
        // Nobody has anything to say on them (RFC 9250 §4.2).
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(IdleTimeout::try_from(limits.idle).ok())
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(CONNECTION_WINDOW)
        .send_window(SEND_WINDOW)
        // Replies fit the 1,200 octets that every path carries, and most connections are short: probes for more cost each of them some eight datagrams.
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None);
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport)).max_incoming(limits.total.min(1 << 16));
    // A connection stays where it is (RFC 9000 §9 leaves it to us): to an address that a client names later nothing is sent at all.
    config.migration(false);
    let mut endpoint = EndpointConfig::default();
    endpoint.cid_generator(|| Box::new(Ids::default())).supported_versions(VERSIONS.to_vec());
    let (accounts, runtime) = (Arc::new(Accounts::default()), Arc::new(TokioRuntime));
    let socket = Thrifty { socket: runtime.wrap_udp_socket(socket)?, accounts: accounts.clone() };
    Ok((Endpoint::new_with_abstract_socket(endpoint, Some(config), Arc::new(socket), runtime)?, accounts))
}

/// Accepts until the service ends.
pub(super) async fn accept((endpoint, accounts): (Endpoint, Arc<Accounts>), shared: Arc<Shared>) {
    let server = endpoint.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = shared.stopped() => break,
        };
        let Some(incoming) = incoming else { break };
        let (peer, is_proved) = (incoming.remote_address(), incoming.remote_address_validated());
        let is_crowded = shared.connections.open().max(accounts.unproved()) >= shared.limits.total / VALIDATE_FROM;
        if is_crowded && !is_proved {
            // Fails for those that are validated alone.
            let _ = incoming.retry();
            continue;
        }
        let (entered, held) = (Entered::new(&shared, peer), accounts.enter(peer, is_proved));
        tokio::spawn(serve(incoming, server, entered, held));
    }
    endpoint.set_server_config(None);
    let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
}

async fn serve(incoming: Incoming, server: SocketAddr, entered: Entered, _held: Held) {
    let shared = entered.shared.clone();
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(_) => return shared.handshake_failed(),
    };
    let handshake = tokio::select! {
        handshake = timeout(shared.limits.handshake, connecting) => handshake,
        () = entered.pushed_out() => return,
    };
    let connection = match handshake {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return shared.handshake_failed(),
        Err(_) => return shared.timed_out(),
    };
    entered.established();
    let entered = Arc::new(entered);
    let work = async {
        tokio::select! {
            () = streams(&connection, server, &entered) => {}
            () = shared.stopped() => leave(&connection, server, &entered, FAREWELL, b"the server stops").await,
            () = sleep(shared.limits.lifetime) => {
                shared.timed_out();
                leave(&connection, server, &entered, LEAVE, b"lifetime").await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = entered.pushed_out() => connection.close(EXCESSIVE_LOAD, b"too many connections"),
    }
    entered.shelf.close();
}

/// Ends a connection when what has been asked on it is answered. The client may open no more streams than it has been allowed, so that one which asks on and
/// on comes to a halt before the connection does.
async fn leave(connection: &Connection, server: SocketAddr, entered: &Arc<Entered>, patience: Duration, why: &[u8]) {
    entered.is_leaving.store(true, Relaxed);
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(0));
    let end = Instant::now() + patience;
    loop {
        let quiet = (2 * connection.rtt()).clamp(LEAST_QUIET, MOST_QUIET);
        tokio::select! {
            accepted = connection.accept_bi() => match accepted {
                Ok((send, receive)) => {
                    tokio::spawn(query(connection.clone(), send, receive, server, UnderWay::new(entered)));
                }
                Err(_) => return,
            },
            () = sleep(quiet) => if entered.under_way.load(Relaxed) == 0 {
                break;
            },
            () = sleep_until(end) => break,
        }
    }
    connection.close(NO_ERROR, why);
}

/// Until the connection ends, or has been idle for too long: QUIC's own idle timeout ends with any packet, PINGs of a client that asks nothing among them.
async fn streams(connection: &Connection, server: SocketAddr, entered: &Arc<Entered>) {
    entered.is_ready();
    let mut idle = pin!(entered.idle());
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => match accepted {
                Ok((send, receive)) => {
                    tokio::spawn(query(connection.clone(), send, receive, server, UnderWay::new(entered)));
                }
                Err(quinn::ConnectionError::TimedOut) => return entered.shared.timed_out(),
                Err(_) => return,
            },
            () = &mut idle => {
                entered.shared.timed_out();
                return connection.close(NO_ERROR, b"idle");
            }
        }
    }
}

/// One query. What breaks the protocol ends the connection (RFC 9250 §4.3.3); whom nobody waits for any more is given up (§4.3.1).
async fn query(connection: Connection, mut send: SendStream, mut receive: RecvStream, server: SocketAddr, under_way: UnderWay) {
    let entered = &under_way.0;
    let shared = &entered.shared;
    let (mut octets, mut kept) = (Vec::new(), Kept::default());
    let stopped = send.stopped();
    let read = async {
        tokio::select! {
            // As a rule all of it is there, and nothing else need be looked at.
            biased;
            read = read_to_end(&mut receive, &mut octets, |len| entered.shelf.keep(&mut kept, len)) => read,
            stopped = stopped => Err(stopped.ok().flatten().map_or(Broken::Gone, Broken::Cancelled)),
        }
    };
    let broken = match timeout(shared.limits.message, read).await {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some(broken),
        // A whole query whose client does not say that it is one.
        Err(_) if message_of(&octets).is_ok() => return connection.close(PROTOCOL_ERROR, b"no FIN behind the query"),
        Err(_) => Some(Broken::Cancelled(EXCESSIVE_LOAD)),
    };
    match broken {
        None => {}
        Some(Broken::NoRoom) => {
            shared.refused();
            let _ = receive.stop(EXCESSIVE_LOAD);
            let _ = send.reset(EXCESSIVE_LOAD);
            return;
        }
        Some(Broken::TooLong) => return connection.close(PROTOCOL_ERROR, MORE_THAN_ONE.as_bytes()),
        Some(Broken::Cancelled(code)) => {
            let _ = receive.stop(code);
            let _ = send.reset(code);
            return;
        }
        Some(Broken::Gone) => return,
    }
    let packet = match message_of(&octets) {
        Ok(packet) => packet,
        Err(why) => return connection.close(PROTOCOL_ERROR, why.as_bytes()),
    };
    let Some(place) = entered.shelf.place().await else { return };
    let reply = match shared.desks.message(packet, connection.remote_address(), server, Transport::Quic) {
        Answered::Reply(reply, _) => reply,
        Answered::Silence => return connection.close(PROTOCOL_ERROR, b"a response or no message, expected a query"),
        Answered::Failure => return drop(send.reset(INTERNAL_ERROR)),
    };
    let _place = place.of(reply.len());
    // At once: what is written in two goes asks twice for the connection's lock.
    let framed = [&u16::try_from(reply.len()).unwrap_or(u16::MAX).to_be_bytes()[..], &reply].concat();
    match timeout(shared.limits.write, send.write_all(&framed)).await {
        Ok(Ok(())) => {
            let _ = send.finish();
            entered.answered();
            if entered.is_leaving.load(Relaxed) {
                // The end of the connection takes along what has not come (RFC 9000 §10.2).
                let _ = timeout(shared.limits.write, send.stopped()).await;
            }
        }
        Ok(Err(WriteError::Stopped(code))) => drop(send.reset(code)),
        Ok(Err(_)) => {}
        Err(_) => drop(send.reset(EXCESSIVE_LOAD)),
    }
}

/// Why a stream did not come to its end.
enum Broken {
    TooLong,
    /// More may not be kept.
    NoRoom,
    /// Nobody waits for a reply; the code is what the client is told.
    Cancelled(VarInt),
    /// The connection has ended.
    Gone,
}

/// Reads a stream to its end. What has come stands in `octets` at any time.
async fn read_to_end(receive: &mut RecvStream, octets: &mut Vec<u8>, mut may_keep: impl FnMut(usize) -> bool) -> Result<(), Broken> {
    loop {
        match receive.read_chunk(MAX_STREAM_LEN, true).await {
            Ok(Some(chunk)) if octets.len() + chunk.bytes.len() > MAX_STREAM_LEN => return Err(Broken::TooLong),
            Ok(Some(chunk)) if !may_keep(octets.len() + chunk.bytes.len()) => return Err(Broken::NoRoom),
            Ok(Some(chunk)) => octets.extend_from_slice(&chunk.bytes),
            Ok(None) => return Ok(()),
            Err(ReadError::Reset(_)) => return Err(Broken::Cancelled(REQUEST_CANCELLED)),
            Err(_) => return Err(Broken::Gone),
        }
    }
}

const MORE_THAN_ONE: &str = "more than one message on a stream";

/// The message of a stream: its length before it, nothing behind it, ID 0 (RFC 9250 §4.2.1), and no word on keeping the connection (§5.5.2). Else what is
/// wrong, for whoever reads it at the other end.
fn message_of(octets: &[u8]) -> Result<&[u8], &'static str> {
    let Some((length, packet)) = octets.split_first_chunk::<2>() else { return Err("no query on a stream") };
    match usize::from(u16::from_be_bytes(*length)).cmp(&packet.len()) {
        Ordering::Less => return Err(MORE_THAN_ONE),
        Ordering::Greater => return Err("a message shorter than its length"),
        Ordering::Equal if packet.get(..2).is_some_and(|id| id != [0, 0]) => return Err("the message ID is not 0"),
        Ordering::Equal => {}
    }
    let mut name = QueryName::root();
    match request::parse(packet, &mut name) {
        Parsed::Query(request) if request.edns.is_some_and(|edns| edns.keepalive != Keepalive::Absent) => Err("edns-tcp-keepalive is not for QUIC"),
        _ => Ok(packet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\0\x1d\0\0\0\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";

    #[test]
    fn rfc9250_section_4_3_3_protocol_errors() {
        let with = |at: usize, octet: u8| {
            let mut octets = QUERY.to_vec();
            octets[at] = octet;
            octets
        };
        let keepalive = [b"\0\x2c", &QUERY[2..12], b"\0\x01", &QUERY[14..], b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0b\0\0"].concat();
        for (octets, why) in [
            (QUERY.to_vec(), None),
            (Vec::new(), Some("no query on a stream")),
            (vec![0], Some("no query on a stream")),
            (with(3, 1), Some("the message ID is not 0")),
            (with(1, 0x1c), Some(MORE_THAN_ONE)),
            (with(1, 0x1e), Some("a message shorter than its length")),
            ([QUERY, QUERY].concat(), Some(MORE_THAN_ONE)),
            (keepalive, Some("edns-tcp-keepalive is not for QUIC")),
        ] {
            assert_eq!(message_of(&octets).err(), why, "{octets:?}");
        }
    }
}
