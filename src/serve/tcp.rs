//! DNS over TCP (RFC 7766): messages with a length of two octets before each, pipelined, answered in order.
//!
//! ```text
//!   one thread per core, each with a SO_REUSEPORT listener for each address, an epoll set and a wheel of timers
//!
//!        ┌────▶ wait for events, at most until the next timer
//!        │      each connection that has something: one step        (conversation)
//!        │      accept, at most ACCEPT_BATCH; the first step at once
//!        └───── timers that ring
//! ```
//!
//! A connection stays with the thread that accepted it; threads share the table of connections, which is touched when one begins or ends.
//!
//! Replies may come in any order (RFC 7766 §7) and a query must not wait for a slow one before it. None is slow here: an answer is ready the moment
//! its query has been read, so the order of the queries is the fastest order there is, and needs no queue.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::connections::{Connections, Link};
use super::conversation::{Conversation, Desk, Next, SECOND, Watch};
use super::stream::Answerer;
use super::timers::Timers;
use super::{Limits, STOP_TIMEOUT};
use crate::answer::Transport;
use crate::sys;
use crate::telemetry::{Registry, Seldom};
use crate::world::Published;

/// Connections that one turn accepts from one listener, so that a flood of them does not hold up those that are open; one in so many places at most, for
/// those that are pushed out for them keep their files until their own turn.
const ACCEPT_BATCH: usize = 64;
const ACCEPT_SHARE: usize = 16;

/// When stopping, connections are still accepted that had been made by then: as many as can have waited (see `bind`).
const ACCEPT_LAST: usize = 4096;

/// Between failed accept calls (no files, no memory): time for some to be freed.
const ACCEPT_PAUSE_NS: u64 = 20_000_000;

/// Events taken in one turn.
const EVENTS: usize = 256;

/// Times begin well after 0, so that "a second ago" always is one.
const CLOCK_START: u64 = 10 * SECOND;

/// Tokens of the epoll set: connections have their number, listeners count down from here.
const WAKER: Token = Token(usize::MAX);
const LAST_LISTENER: usize = usize::MAX - 1;

/// The threads at work. Dropping it stops them as well, without waiting.
#[derive(Debug, Default)]
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    wakers: Vec<Arc<Waker>>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// They accept nothing more, answer what has been received, and end within [`STOP_TIMEOUT`].
    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
        // One that cannot be woken looks when its next timer rings.
        self.wakers.iter().for_each(|waker| drop(waker.wake()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a thread for each of `listeners`: one listener per address.
pub(super) fn start(
    listeners: Vec<Vec<std::net::TcpListener>>,
    published: &Arc<Published>,
    registry: &Registry,
    limits: Limits,
) -> io::Result<Running> {
    let connections = Connections::new(limits.total, limits.per_client, super::new_dice(), registry.clone(), Transport::Tcp);
    let shared = Arc::new(Shared { started: Instant::now(), connections, failures: Seldom::default() });
    // From here on a failure drops `running`, which stops what has been started.
    let mut running = Running::default();
    for (at, listeners) in listeners.into_iter().enumerate() {
        let answerer = Answerer::new(published.clone(), registry);
        let worker = Worker::new(listeners, shared.clone(), Desk::new(answerer, registry.clone(), limits))?;
        let (waker, stop) = (Arc::new(Waker::new(worker.poll.registry(), WAKER)?), running.stop.clone());
        running.wakers.push(waker.clone());
        let work = move || {
            // Kept until the end: what it has said would be gone with it.
            let _waker = waker;
            worker.run(&stop);
        };
        running.threads.push(std::thread::Builder::new().name(format!("tcp-{at}")).spawn(work)?);
    }
    Ok(running)
}

/// What all threads have in common.
#[derive(Debug)]
struct Shared {
    started: Instant,
    connections: Connections,
    /// Of accept calls.
    failures: Seldom,
}

impl Shared {
    fn now_ns(&self) -> u64 {
        CLOCK_START + self.started.elapsed().as_nanos() as u64
    }
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    /// There may be connections to accept.
    ready: bool,
}

/// One thread's work.
#[derive(Debug)]
struct Worker {
    poll: Poll,
    listeners: Vec<Listener>,
    /// After a failure: not before then.
    accept_at_ns: u64,
    shared: Arc<Shared>,
    desk: Desk,
    conversations: Vec<Option<Box<Conversation>>>,
    /// Numbers of connections that have ended.
    free: Vec<u32>,
    open: usize,
    timers: Timers,
    /// Who has more to do without an event, and the same list of the turn before.
    again: Vec<u32>,
    turn: Vec<u32>,
}

impl Worker {
    fn new(listeners: Vec<std::net::TcpListener>, shared: Arc<Shared>, desk: Desk) -> io::Result<Worker> {
        let poll = Poll::new()?;
        let mut ready = Vec::new();
        for (at, listener) in listeners.into_iter().enumerate() {
            let mut socket = TcpListener::from_std(listener);
            poll.registry().register(&mut socket, Token(LAST_LISTENER - at), Interest::READABLE)?;
            ready.push(Listener { socket, ready: true });
        }
        Ok(Worker {
            poll,
            listeners: ready,
            accept_at_ns: 0,
            shared,
            desk,
            conversations: Vec::new(),
            free: Vec::new(),
            open: 0,
            timers: Timers::new(),
            again: Vec::with_capacity(EVENTS),
            turn: Vec::with_capacity(EVENTS),
        })
    }

    /// Serves until `stop` is set, then answers what had arrived.
    fn run(mut self, stop: &AtomicBool) {
        // Where it is not possible all are equal.
        let _ = sys::lower_priority(super::BESIDE_UDP);
        let mut events = Events::with_capacity(EVENTS);
        let mut stop_at_ns = None;
        loop {
            self.turn(&mut events, stop_at_ns);
            if stop_at_ns.is_none() && stop.load(Relaxed) {
                self.begin_stop();
                stop_at_ns = Some(self.desk.now_ns + STOP_TIMEOUT.as_nanos() as u64);
            }
            if stop_at_ns.is_some_and(|end_ns| self.open == 0 || self.desk.now_ns >= end_ns) {
                return;
            }
        }
    }

    /// Waits for something to do, and does it.
    fn turn(&mut self, events: &mut Events, stop_at_ns: Option<u64>) {
        let wait = self.patience(stop_at_ns);
        if let Err(error) = self.poll.poll(events, wait)
            && error.kind() != io::ErrorKind::Interrupted
        {
            // No memory, or a bug: timers and connections that have more to do go on.
            #[allow(clippy::disallowed_methods, reason = "a thread of its own, and there is no event to wait for")]
            std::thread::sleep(Duration::from_nanos(ACCEPT_PAUSE_NS));
        }
        self.begin_turn();
        for event in events.iter() {
            self.hear(event);
        }
        std::mem::swap(&mut self.again, &mut self.turn);
        while let Some(at) = self.turn.pop() {
            if let Some(Some(conversation)) = self.conversations.get_mut(at as usize) {
                conversation.queued = false;
                self.advance(at);
            }
        }
        if self.accept_at_ns <= self.desk.now_ns {
            let most = ACCEPT_BATCH.min(self.shared.connections.places() / ACCEPT_SHARE).max(1);
            (0..self.listeners.len()).for_each(|at| self.accept(at, most));
        }
        self.timers.ring(self.desk.now_ns, &mut self.turn);
        while let Some(at) = self.turn.pop() {
            if let Some(Some(conversation)) = self.conversations.get_mut(at as usize) {
                let next = conversation.ring(&mut self.desk);
                self.settle(at, next);
            }
        }
    }

    /// How long there is nothing to do without an event; `None` for ever.
    fn patience(&self, stop_at_ns: Option<u64>) -> Option<Duration> {
        let accept = self.listeners.iter().any(|listener| listener.ready).then_some(self.accept_at_ns);
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let until_ns = [self.timers.next_ns(), accept, stop_at_ns].into_iter().flatten().min()?;
        Some(Duration::from_nanos(until_ns.saturating_sub(self.shared.now_ns())))
    }

    /// The time, and what depends on it, once for all connections of a turn.
    fn begin_turn(&mut self) {
        self.desk.now_ns = self.shared.now_ns();
        self.desk.answerer.read_clock();
        self.tell_keepalive();
    }

    fn tell_keepalive(&mut self) {
        let table = &self.shared.connections;
        self.desk.keepalive = keepalive(self.desk.limits.idle, table.open(), table.places());
    }

    fn hear(&mut self, event: &Event) {
        let Token(token) = event.token();
        if event.token() == WAKER {
            return;
        }
        if let Some(listener) = self.listeners.get_mut(LAST_LISTENER - token) {
            listener.ready = true;
            return;
        }
        // Of a connection that has ended meanwhile: nothing, or a look at its successor in vain.
        let Some(Some(conversation)) = self.conversations.get_mut(token) else { return };
        let half_closed = event.is_read_closed() || event.is_error();
        if event.is_readable() || half_closed {
            conversation.note_readable(half_closed);
        }
        self.advance(token as u32);
    }

    fn advance(&mut self, at: u32) {
        let Some(Some(conversation)) = self.conversations.get_mut(at as usize) else { return };
        let next = conversation.advance(&mut self.desk);
        self.settle(at, next);
    }

    /// Sees to it that a connection gets what it waits for.
    fn settle(&mut self, at: u32, next: Next) {
        let Some(Some(conversation)) = self.conversations.get_mut(at as usize) else { return };
        let wants = conversation.wants();
        let watched = || watch(&self.poll, &conversation.link.stream, at, conversation.watch, wants);
        if next == Next::Done || conversation.watch != wants && watched().is_err() {
            self.close(at);
            return;
        }
        conversation.watch = wants;
        self.timers.set(at, conversation.deadline_ns(&self.desk.limits));
        if next == Next::Again && !conversation.queued {
            conversation.queued = true;
            self.again.push(at);
        }
    }

    fn close(&mut self, at: u32) {
        let Some(mut conversation) = self.conversations.get_mut(at as usize).and_then(Option::take) else { return };
        conversation.close(&mut self.desk);
        self.timers.clear(at);
        self.free.push(at);
        self.open -= 1;
        // The kernel takes it from the epoll set when it is closed.
        self.shared.connections.leave(&conversation.link);
    }

    /// Accepts from one listener, as many as `most`.
    fn accept(&mut self, at: usize, most: usize) {
        for _ in 0..most {
            let Some(listener) = self.listeners.get_mut(at).filter(|listener| listener.ready) else { return };
            match listener.socket.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                // The peer gave up between its handshake and our call.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    self.desk.registry.connections(Transport::Tcp).accept_errors.fetch_add(1, Relaxed);
                    if let Some(count) = self.shared.failures.happened(Instant::now()) {
                        tracing::warn!(count, %error, "cannot accept TCP connections; closing quiet ones to make room");
                    }
                    self.shared.connections.make_room();
                    self.accept_at_ns = self.desk.now_ns + ACCEPT_PAUSE_NS;
                    return;
                }
            }
        }
    }

    /// Gives a connection its place, and its first step: its query often came with it.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let link = Arc::new(Link::new(stream, self.desk.now_ns));
        self.shared.connections.enter(peer.ip(), &link);
        self.tell_keepalive();
        let conversation = Some(Box::new(Conversation::new(link, peer, self.desk.now_ns)));
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.conversations.push(None);
                (self.conversations.len() - 1) as u32
            }
        };
        self.conversations[at as usize] = conversation;
        self.open += 1;
        self.advance(at);
    }

    /// The last connections are accepted, and every one may still say what it has sent.
    fn begin_stop(&mut self) {
        for at in 0..self.listeners.len() {
            self.listeners[at].ready = true;
            self.accept(at, ACCEPT_LAST);
        }
        self.listeners.clear();
        self.desk.stopping = true;
        for at in 0..self.conversations.len() as u32 {
            if let Some(Some(conversation)) = self.conversations.get_mut(at as usize) {
                conversation.note_readable(false);
                self.advance(at);
            }
        }
    }
}

/// Has the kernel tell what `wants` says of a connection that it tells `known` of. Edge by edge: a step goes on until there is nothing more to be had.
fn watch(poll: &Poll, stream: &TcpStream, at: u32, known: Watch, wants: Watch) -> io::Result<()> {
    let interest = if wants == Watch::Both { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    let (fd, token) = (stream.as_raw_fd(), Token(at as usize));
    match known {
        Watch::Nothing => poll.registry().register(&mut SourceFd(&fd), token, interest),
        _ => poll.registry().reregister(&mut SourceFd(&fd), token, interest),
    }
}

/// `idle` in units of 100 ms (RFC 7828 §3.1) while at least half the places are free, then less in proportion, and 0, which asks the client to close,
/// when none is.
fn keepalive(idle: Duration, open: usize, places: usize) -> u16 {
    let free = places.saturating_sub(open).saturating_mul(2).min(places) as u128;
    u16::try_from(idle.as_millis() / 100 * free / places.max(1) as u128).unwrap_or(u16::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::sys::counting::allocations_in;
    use crate::world::World;

    const QUERY: &[u8] = b"\0\x1d\x12\x34\0\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";

    /// One thread's work on a free port, done by whoever calls `turn`.
    fn worker(limits: Limits) -> (Worker, Registry, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, registry) = (listener.local_addr().unwrap(), Registry::new());
        let connections = Connections::new(limits.total, limits.per_client, super::super::new_dice(), registry.clone(), Transport::Tcp);
        let shared = Arc::new(Shared { started: Instant::now(), connections, failures: Seldom::default() });
        let answerer = Answerer::new(Arc::new(Published::new(World::default())), &registry);
        (Worker::new(vec![listener], shared, Desk::new(answerer, registry.clone(), limits)).unwrap(), registry, address)
    }

    /// Turns until `reached`; how often anything was allocated.
    fn turn_until(worker: &mut Worker, events: &mut Events, mut reached: impl FnMut(&Worker) -> bool) -> u64 {
        let end_ns = worker.shared.now_ns() + 10 * SECOND;
        allocations_in(|| {
            while !reached(worker) {
                assert!(worker.shared.now_ns() < end_ns);
                worker.turn(events, Some(worker.shared.now_ns() + SECOND / 100));
            }
        })
    }

    #[test]
    fn a_query_allocates_nothing_and_a_quiet_connection_holds_nothing() {
        let (mut worker, registry, address) = worker(Limits::default());
        let mut events = Events::with_capacity(EVENTS);
        let mut clients: Vec<std::net::TcpStream> = (0..8).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        turn_until(&mut worker, &mut events, |worker| worker.open == 8);
        let mut replies = 0;
        // Pieces of what every client sends, and how many queries that is; the first time may fill the pool and register the thread with the world.
        let (one, many) = (&[QUERY][..], QUERY.repeat(100));
        let (cut, most) = ([&QUERY[..2], &QUERY[2..]], [&many[..700], &many[700..1999], &many[1999..]]);
        for (round, (pieces, queries)) in [(&cut[..], 1), (&most[..], 100), (one, 1), (&cut[..], 1), (&most[..], 100)].into_iter().enumerate() {
            let mut allocations = 0;
            for piece in pieces {
                for client in &mut clients {
                    client.write_all(piece).unwrap();
                }
                // Every connection has taken its piece when it has nothing left to read.
                for _ in 0..3 {
                    let pause_ns = worker.shared.now_ns() + SECOND / 100;
                    allocations += turn_until(&mut worker, &mut events, |worker| worker.shared.now_ns() > pause_ns);
                }
            }
            replies += 8 * queries;
            allocations += turn_until(&mut worker, &mut events, |_| registry.totals().tcp.replies() == replies);
            for client in &mut clients {
                client.read_exact(&mut vec![0; queries as usize * QUERY.len()]).unwrap();
            }
            assert!(round < 2 || allocations == 0, "{allocations} in round {round}");
            assert!(worker.conversations.iter().flatten().all(|conversation| conversation.held_octets() == 0));
        }
        drop(clients);
        turn_until(&mut worker, &mut events, |worker| worker.open == 0);
        assert_eq!((registry.totals().tcp_connections.open, worker.again.len(), worker.free.len()), (0, 0, 8));
    }

    #[test]
    fn rfc7828_section_3_3_2_the_timeout_shrinks_with_the_places_that_are_left() {
        let ten = Duration::from_secs(10);
        for (idle, open, places, expected) in [
            (ten, 0, 4096, 100),
            (ten, 2048, 4096, 100),
            (ten, 3072, 4096, 50),
            (ten, 4095, 4096, 0),
            (ten, 4096, 4096, 0),
            (ten, 5000, 4096, 0),
            (ten, 1, 1, 0),
            (Duration::from_millis(50), 0, 10, 0),
            (Duration::from_secs(10_000), 0, 10, u16::MAX),
        ] {
            assert_eq!(keepalive(idle, open, places), expected, "{idle:?}, {open} of {places}");
        }
    }
}
