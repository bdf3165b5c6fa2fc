//! Connections over TCP with TLS, and DNS over TLS (RFC 7858) on them: messages with a length of two octets before each, as over TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::super::stream::lacking;
use super::records::{Framing, Records};
use super::{ACCEPT_PAUSE, Entered, FAREWELL, LAST_LOOK, Shared, https};
use crate::answer::Transport;

/// Read at once; queries have some 50 octets.
const READ_LEN: usize = 4096;
/// A quiet connection keeps no more room than this for its next query.
const KEPT_LEN: usize = 512;

/// For connections that were pushed out to let go of their sockets.
const MAKE_WAY: Duration = Duration::from_millis(1);

/// Reads that a connection which has to end still gets, so that what has come by then is answered.
const LAST_READS: usize = 16;
/// What is read of a client and thrown away after the last word to it, and how long, so that its own octets do not make a reset of it (RFC 9293 §3.6.1).
const LINGER_LEN: usize = 256 << 10;
const LINGER: Duration = Duration::from_millis(500);

/// Alerts (RFC 8446 §6).
const PROTOCOL_VERSION: u8 = 70;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A record with a fatal alert, before there are keys.
const fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// Accepts until the service ends.
pub(super) async fn accept(listener: TcpListener, config: Arc<ServerConfig>, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopped() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let entered = Arc::new(Entered::new(&shared, peer));
                tokio::spawn(serve(stream, peer, config.clone(), entered));
                while shared.is_overfull() {
                    tokio::time::sleep(MAKE_WAY).await;
                }
            }
            Err(error) => {
                shared.accept_failed(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, from its handshake to its end.
async fn serve(stream: TcpStream, peer: SocketAddr, config: Arc<ServerConfig>, entered: Arc<Entered>) {
    let Ok(server) = stream.local_addr() else { return };
    let shared = &entered.shared;
    let end = Instant::now() + shared.limits.lifetime;
    let work = async {
        let handshake = tokio::select! {
            handshake = timeout(shared.limits.handshake, handshake(stream, config, shared.transport)) => handshake,
            () = entered.pushed_out() => return,
        };
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return shared.handshake_failed(),
            Err(_) => return shared.timed_out(),
        };
        entered.established();
        match shared.transport {
            Transport::Https => https::converse(stream, peer, server, &entered, end).await,
            _ => converse(Records::new(stream, Framing::Dns), peer, server, &entered, end).await,
        }
    };
    tokio::select! {
        () = work => {}
        // It ends by itself, in order; not where it hangs.
        () = sleep_until(end + shared.limits.write + 3 * FAREWELL) => shared.timed_out(),
    }
}

/// HTTP/2 has to be named (RFC 9113 §3.2): whoever names nothing gets the alert that rustls sends to whoever names something else. Over TLS nothing need be
/// named (RFC 7858 has no name).
async fn handshake(mut stream: TcpStream, config: Arc<ServerConfig>, transport: Transport) -> io::Result<TlsStream<TcpStream>> {
    let hello = hello(&mut stream).await?;
    if transport == Transport::Https && hello.client_hello().alpn().is_none() {
        stream.write_all(&alert(NO_APPLICATION_PROTOCOL)).await?;
        return Err(io::ErrorKind::InvalidData.into());
    }
    StartHandshake::from_parts(hello, stream).into_stream(config).await
}

/// Reads what a client begins with. Who has nothing newer than TLS 1.1 is told so (RFC 8446 appendix D.2): rustls tells it of the signature algorithms that
/// such a client cannot name.
async fn hello(stream: &mut TcpStream) -> io::Result<Accepted> {
    let mut acceptor = Acceptor::default();
    let mut head = Vec::with_capacity(HELLO_HEAD_LEN);
    loop {
        // A client hello has a few hundred octets.
        let mut octets = [0; 512];
        let mut read = match stream.read(&mut octets).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => octets.get(..len).unwrap_or_default(),
        };
        head.extend(read.iter().take(HELLO_HEAD_LEN - head.len()));
        while !read.is_empty() {
            acceptor.read_tls(&mut read)?;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(accepted),
            Err((error, mut told)) => {
                let mut octets = alert(PROTOCOL_VERSION).to_vec();
                if !is_outdated(&head) {
                    octets.clear();
                    told.write_all(&mut octets)?;
                }
                stream.write_all(&octets).await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

/// In a record: its head of five octets, the head of the message in it of four, and the version of a client hello.
const HELLO_HEAD_LEN: usize = 11;

/// Whether this is the beginning of a client hello of a version before TLS 1.2 (RFC 5246 §7.4.1.2; later ones say that they are 1.2).
fn is_outdated(head: &[u8]) -> bool {
    matches!(head, [22, 3, _, _, _, 1, _, _, _, 3, 0..=2])
}

/// In units of 100 ms (RFC 7828 §3.1).
fn keepalive(idle: Duration) -> u16 {
    u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX)
}

async fn converse(mut stream: Records, peer: SocketAddr, server: SocketAddr, entered: &Entered, end: Instant) {
    tokio::select! {
        () = async {
            if talk(&mut stream, peer, server, entered, end).await {
                let _ = timeout(FAREWELL, stream.shutdown()).await;
                linger(stream.socket()).await;
            }
        } => {}
        () = entered.pushed_out() => {
            // If the socket takes it at once.
            let _ = timeout(Duration::ZERO, stream.shutdown()).await;
        }
    }
}

/// Answers until the connection is to end; whether its client is there for a last word.
async fn talk(stream: &mut Records, peer: SocketAddr, server: SocketAddr, entered: &Entered, end: Instant) -> bool {
    let shared = &entered.shared;
    let keepalive = keepalive(shared.limits.idle);
    let mut input: Vec<u8> = Vec::new();
    let mut replies = Vec::new();
    // Only answers put it off: what gets none keeps nothing open.
    let mut idle_end = Instant::now() + shared.limits.idle;
    let mut deadline = idle_end;
    // At its deadline it is looked once more, until the next answer: of what came while this program stood still nobody has told yet.
    let mut has_looked = false;
    // Once it has to end: reads that it still gets, of what is there already.
    let mut last_reads = None;
    loop {
        // No more than has been announced, and that step by step: who announces much and sends little takes little.
        input.reserve(lacking(&input).clamp(KEPT_LEN, READ_LEN));
        let read = match &mut last_reads {
            Some(0) => return true,
            Some(left) => {
                *left -= 1;
                match timeout(Duration::ZERO, stream.read_buf(&mut input)).await {
                    Ok(read) => read,
                    Err(_) => return true,
                }
            }
            None => tokio::select! {
                read = timeout_at(deadline, stream.read_buf(&mut input)) => match read {
                    Ok(read) => read,
                    Err(_) if !has_looked => {
                        has_looked = true;
                        deadline = Instant::now() + LAST_LOOK;
                        continue;
                    }
                    Err(_) => {
                        shared.timed_out();
                        return true;
                    }
                },
                () = shared.stopped() => {
                    last_reads = Some(LAST_READS);
                    continue;
                }
                () = sleep_until(end) => {
                    shared.timed_out();
                    last_reads = Some(LAST_READS);
                    continue;
                }
            },
        };
        if !matches!(read, Ok(1..)) {
            return true;
        }
        let mut consumed = 0;
        loop {
            let step = shared.desks.messages(input.get(consumed..).unwrap_or_default(), peer, server, keepalive, &mut replies);
            consumed += step.consumed;
            if !replies.is_empty() {
                let write = async {
                    stream.write_all(&replies).await?;
                    stream.flush().await
                };
                match timeout(shared.limits.write, write).await {
                    Ok(Ok(())) => {
                        entered.answered();
                        has_looked = false;
                        idle_end = Instant::now() + shared.limits.idle;
                    }
                    Ok(Err(_)) => return false,
                    Err(_) => {
                        shared.timed_out();
                        return false;
                    }
                }
                replies.clear();
            }
            if step.close {
                return true;
            }
            if !step.more {
                break;
            }
        }
        input.drain(..consumed);
        let message_end = Instant::now() + shared.limits.message;
        if input.is_empty() {
            deadline = idle_end;
            input.shrink_to(KEPT_LEN);
            replies.shrink_to(KEPT_LEN);
            stream.shrink_to(KEPT_LEN);
        } else if consumed > 0 {
            deadline = message_end.min(idle_end + shared.limits.message);
        } else {
            // The first octets of a message, or more of them.
            deadline = deadline.min(message_end);
        }
    }
}

/// Reads and throws away what a client still sends, until it ends as well.
pub(super) async fn linger(stream: &TcpStream) {
    let mut left = LINGER_LEN;
    let mut octets = vec![0; READ_LEN];
    let ended = async {
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut octets) {
                Ok(len) if len > 0 && len < left => left -= len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    };
    let _ = timeout(LINGER, ended).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5246_section_7_4_1_2_versions_of_hellos() {
        for (head, is_old) in [
            (&[22, 3, 1, 0, 90, 1, 0, 0, 86, 3, 1][..], true),
            (&[22, 3, 1, 0, 90, 1, 0, 0, 86, 3, 0], true),
            (&[22, 3, 1, 0, 90, 1, 0, 0, 86, 3, 2], true),
            (&[22, 3, 1, 0, 90, 1, 0, 0, 86, 3, 3], false),
            (&[22, 3, 1, 0, 90, 2, 0, 0, 86, 3, 1], false),
            (&[21, 3, 1, 0, 90, 1, 0, 0, 86, 3, 1], false),
            (&[22, 3, 1, 0, 90, 1, 0, 0, 86, 3], false),
            (b"GET / HTTP/1", false),
        ] {
            assert_eq!(is_outdated(head), is_old, "{head:?}");
        }
    }
}
