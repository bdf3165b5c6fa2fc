//! Sockets of the admin listener: how many, how long, and how they end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::events::Streams;
use super::guard::{self, Peer};
use super::idempotency::Kept;
use super::places::{Asking, Place, Places};
use super::{Explainer, Limiter, Limits, MAX_TRACES, Shared, Tls, Token, routes};
use crate::control::api::Refusal;
use crate::control::{Handle, Who};
use crate::telemetry::{Registry, Seldom};

/// Octets of head buffered; hyper's smallest is 8 KiB.
const MAX_HEAD_LEN: usize = 16 * 1024;
/// Header fields in a head.
const MAX_HEADERS: usize = 64;
/// When the program stops, requests under way get this long; the whole program has 3 s.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept (no file descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    limits: Limits,
    tls: Option<Arc<Tls>>,
}

impl Server {
    /// Binds `addr`; port 0 takes a free one. A busy port is for the caller to report: DNS does not depend on it.
    pub async fn bind(addr: SocketAddr) -> io::Result<Server> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Server { listener, addr, limits: Limits::default(), tls: None })
    }

    /// The same with other limits.
    pub fn with_limits(self, limits: Limits) -> Server {
        Server { limits, ..self }
    }

    /// The same over TLS alone.
    pub fn with_tls(self, tls: Option<Tls>) -> Server {
        Server { tls: tls.map(Arc::new), ..self }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Serves everything until `stop` is done, then lets requests under way finish for a moment.
    pub async fn serve(self, handle: Handle, explainer: Arc<dyn Explainer>, registry: Registry, token: Token, stop: impl Future<Output = ()>) {
        let shared = self.shared(handle, explainer, registry.clone(), token);
        self.run(routes::router(shared.clone()), shared, registry, stop).await;
    }

    /// The same for health and metrics alone, which need no token here.
    pub async fn serve_metrics(self, handle: Handle, registry: Registry, stop: impl Future<Output = ()>) {
        let shared = self.shared(handle, Arc::new(NoExplainer), registry.clone(), Token::none());
        self.run(routes::metrics_router(shared.clone()), shared, registry, stop).await;
    }

    fn shared(&self, handle: Handle, explainer: Arc<dyn Explainer>, registry: Registry, token: Token) -> Arc<Shared> {
        Arc::new(Shared {
            handle,
            explainer,
            registry,
            token,
            limits: self.limits,
            not_kept: AtomicU64::new(0),
            limiter: Limiter::new(self.limits.requests_per_second),
            traces: Arc::new(Semaphore::new(MAX_TRACES)),
            streams: Streams::default(),
            idempotent: Kept::default(),
        })
    }

    async fn run(self, router: Router, shared: Arc<Shared>, registry: Registry, stop: impl Future<Output = ()>) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let (places, failures) = (Places::default(), Seldom::default());
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        if let Some(tls) = self.tls.clone() {
            connections.spawn(async move { tls.watch(&registry).await });
        }
        let mut stop = pin!(stop);
        'serving: loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(count) = failures.happened(Instant::now()) {
                        tracing::warn!(%error, count, "admin: accept failed");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let mut has_room = slots.available_permits() > 0;
            let mut waiting = pin!(slots.clone().acquire_owned());
            let slot = loop {
                has_room = has_room || places.make_room();
                tokio::select! {
                    () = &mut stop => break 'serving,
                    Some(_) = connections.join_next(), if !connections.is_empty() => {}
                    slot = &mut waiting => break slot,
                    () = places.one_is_idle() => {}
                }
            };
            let (router, limits, stopped) = (router.clone(), self.limits, stopped.clone());
            let tls = self.tls.as_ref().map(|tls| tls.current());
            let place = places.take(peer.ip());
            let shared = shared.clone();
            connections.spawn(async move {
                tokio::select! {
                    () = begin(stream, peer, tls, (router, &shared), limits, stopped, place.clone()) => {}
                    () = place.given_up() => {}
                }
                drop(slot);
            });
        }
        drop(self.listener);
        let _ = stopping.send(true);
        // Whoever watches files never ends by themselves.
        let watching = usize::from(self.tls.is_some());
        let _ = tokio::time::timeout(STOP_GRACE, async { while connections.len() > watching && connections.join_next().await.is_some() {} }).await;
        connections.shutdown().await;
    }
}

/// Nothing is explained where only metrics are served.
struct NoExplainer;

impl Explainer for NoExplainer {
    fn explain(&self, _: &str, _: &str, _: &str, _: &Who) -> Result<serde_json::Value, Refusal> {
        Err(Refusal::Stopping)
    }
}

/// Shakes hands, if it must, within the time for a head.
async fn begin(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    (router, shared): (Router, &Shared),
    limits: Limits,
    stopped: watch::Receiver<bool>,
    place: Arc<Place>,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => connection(stream, peer, router, limits, stopped, place).await,
        Some(config) => match tokio::time::timeout(limits.head, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => connection(stream, peer, router, limits, stopped, place).await,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "admin: no TLS");
                guard::keep_unknown_client(shared, Peer(peer), &error).await;
            }
            Err(_) => {}
        },
    }
}

/// The body of a reply, until the last of it has been taken: only then the request is answered.
struct Answering {
    body: Body,
    _asking: Asking,
}

impl hyper::body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        hyper::body::Body::poll_frame(Pin::new(&mut self.body), context)
    }

    fn is_end_stream(&self) -> bool {
        hyper::body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.body)
    }
}

/// Serves one connection until it is over, too old, or told to stop.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
    place: Arc<Place>,
) {
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(place.clone());
        let asking = place.asked().map(|asking| (asking, hyper::service::Service::call(&service, request)));
        async move {
            // What has given way is about to be closed: nothing begins there.
            let Some((asking, reply)) = asking else { return std::future::pending().await };
            let reply = reply.await.unwrap_or_else(|never| match never {});
            Ok::<_, Infallible>(reply.map(|body| Body::new(Answering { body, _asking: asking })))
        }
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
