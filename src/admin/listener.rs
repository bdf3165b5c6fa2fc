//! Sockets of the admin listener: how many, how long, and how they end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::guard::Peer;
use super::{Counts, Explainer, Limits, MAX_TRACES, Shared, Token, routes};
use crate::control::Handle;
use crate::telemetry::Registry;

/// Octets of head buffered; hyper's smallest is 8 KiB.
const MAX_HEAD_LEN: usize = 16 * 1024;
/// Header fields in a head.
const MAX_HEADERS: usize = 64;
/// When the program stops, requests under way get this long; the whole program has 3 s.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept (no file descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound admin listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    limits: Limits,
}

impl Server {
    /// Binds `addr`; port 0 takes a free one. A busy port is for the caller to report: DNS does not depend on it.
    pub async fn bind(addr: SocketAddr) -> io::Result<Server> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Server { listener, addr, limits: Limits::default() })
    }

    /// The same with other limits.
    pub fn with_limits(self, limits: Limits) -> Server {
        Server { limits, ..self }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop` is done, then lets requests under way finish for a moment.
    pub async fn serve(self, handle: Handle, explainer: Arc<dyn Explainer>, registry: Registry, token: Token, stop: impl Future<Output = ()>) {
        let router = routes::router(Arc::new(Shared {
            handle,
            explainer,
            registry,
            token,
            limits: self.limits,
            counts: Counts::default(),
            traces: Arc::new(Semaphore::new(MAX_TRACES)),
        }));
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let accept = async {
                let slot = slots.clone().acquire_owned().await;
                (self.listener.accept().await, slot)
            };
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                (accepted, slot) = accept => match accepted {
                    Ok((stream, peer)) => {
                        let serving = connection(stream, peer, router.clone(), self.limits, stopped.clone());
                        connections.spawn(async move {
                            serving.await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "admin: accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        let _ = stopping.send(true);
        let _ = tokio::time::timeout(STOP_GRACE, async { while connections.join_next().await.is_some() {} }).await;
        connections.shutdown().await;
    }
}

/// Serves one connection until it is over, too old, or told to stop.
async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, limits: Limits, mut stopped: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let reply = hyper::service::Service::call(&service, request);
        async move { Ok::<_, Infallible>(reply.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD_LEN)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut age = pin!(tokio::time::sleep(limits.connection));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = &mut age => return,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
