//! Connections over TCP with TLS, and DNS over TLS (RFC 7858) on them: messages with a length of two octets before each, as over TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::stream::lacking;
use super::{ACCEPT_PAUSE, Entered, FAREWELL, Shared, https};
use crate::answer::Transport;

/// Read at once; queries have some 50 octets.
const READ_LEN: usize = 4096;
/// A quiet connection keeps no more room than this for its next query.
const KEPT_LEN: usize = 512;

/// A record with the fatal alert no_application_protocol (RFC 7301 §3.2, RFC 8446 §6), before there are keys.
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

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
        let stream = match timeout(shared.limits.handshake, handshake(stream, config, shared.transport)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return shared.handshake_failed(),
            Err(_) => return shared.timed_out(),
        };
        match shared.transport {
            Transport::Https => https::converse(stream, peer, server, &entered, end).await,
            _ => converse(stream, peer, server, &entered, end).await,
        }
    };
    tokio::select! {
        () = work => {}
        () = entered.pushed_out() => {}
        // It ends by itself, in order; not where it hangs.
        () = sleep_until(end + shared.limits.write + FAREWELL) => shared.timed_out(),
    }
}

/// HTTP/2 has to be named (RFC 9113 §3.2): whoever names nothing gets the alert that rustls sends to whoever names something else. Over TLS nothing need be
/// named (RFC 7858 has no name).
async fn handshake(stream: TcpStream, config: Arc<ServerConfig>, transport: Transport) -> io::Result<TlsStream<TcpStream>> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    if transport == Transport::Https && start.client_hello().alpn().is_none() {
        start.io.write_all(&NO_APPLICATION_PROTOCOL).await?;
        return Err(io::ErrorKind::InvalidData.into());
    }
    start.into_stream(config).await
}

/// In units of 100 ms (RFC 7828 §3.1).
fn keepalive(idle: Duration) -> u16 {
    u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX)
}

async fn converse(mut stream: TlsStream<TcpStream>, peer: SocketAddr, server: SocketAddr, entered: &Entered, end: Instant) {
    let shared = &entered.shared;
    let keepalive = keepalive(shared.limits.idle);
    let mut input: Vec<u8> = Vec::new();
    let mut replies = Vec::new();
    let mut deadline = Instant::now() + shared.limits.idle;
    loop {
        // No more than has been announced, and that step by step: who announces much and sends little takes little.
        input.reserve(lacking(&input).clamp(KEPT_LEN, READ_LEN));
        let read = tokio::select! {
            read = timeout_at(deadline, stream.read_buf(&mut input)) => read,
            () = shared.stopped() => break,
            () = sleep_until(end) => {
                shared.timed_out();
                break;
            }
        };
        match read {
            Ok(Ok(1..)) => {}
            Ok(_) => break,
            Err(_) => {
                shared.timed_out();
                break;
            }
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
                    Ok(Ok(())) => entered.answered(),
                    Ok(Err(_)) => return,
                    Err(_) => return shared.timed_out(),
                }
                replies.clear();
            }
            if step.close {
                return farewell(stream).await;
            }
            if !step.more {
                break;
            }
        }
        let before = input.len() - consumed;
        input.drain(..consumed);
        if consumed > 0 || before == 0 {
            let patience = if input.is_empty() { shared.limits.idle } else { shared.limits.message };
            deadline = Instant::now() + patience;
        } else if deadline > Instant::now() + shared.limits.message {
            // The first octets of a message.
            deadline = Instant::now() + shared.limits.message;
        }
        if input.is_empty() {
            input.shrink_to(KEPT_LEN);
            replies.shrink_to(KEPT_LEN);
        }
    }
    farewell(stream).await;
}

async fn farewell(mut stream: TlsStream<TcpStream>) {
    let _ = timeout(FAREWELL, stream.shutdown()).await;
}
