//! DNS over TCP (RFC 7766): messages with a length of two octets before each, pipelined, answered in order.
//!
//! ```text
//!        ┌──────────────── wait for octets, at most until `deadline` ◀────────────┐
//!        ▼                                                                        │
//!   read, answer every whole message, write once (without waiting)                │
//!        ├── all written ──▶ end of stream? ──no──────────────────────────────────┤
//!        └── socket full ──▶ write the rest, at most `Limits::write` ─────────────┘
//! ```
//!
//! Replies may come in any order (RFC 7766 §7) and a query must not wait for a slow one before it. None is slow here: an answer is ready the moment
//! its query has been read, so the order of the queries is the fastest order there is, and needs no queue.
//!
//! What comes between two waits happens in one step on buffers that all connections of a worker share, so a quiet connection holds none. Only the
//! beginning of an unfinished message and unwritten replies stay with their connection. Deadlines, all of which close it: idle since the last
//! answer; a message that has begun and does not end; replies that nobody reads; the lifetime.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::Limits;
use super::connections::Connections;
use crate::answer::{Asked, Dice, MAX_REPLY_LEN, Outcome, Transport, answer};
use crate::sys;
use crate::telemetry::{Registry, ThreadCounters};
use crate::world::{Published, World};

/// Octets of the length before each message (RFC 1035 §4.2.2).
const PREFIX_LEN: usize = 2;

/// What one read takes at most; a thousand small queries.
const READ_LEN: usize = 64 << 10;

/// What one read adds to a message that has begun: with more, a client could make us clear and copy far more than it sends.
const READ_STEP: usize = 4096;

/// Replies gathered before they are written, whatever else waits to be answered.
const GATHER_LEN: usize = 64 << 10;

/// Between failed accept calls (no files, no memory): time for some to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// After we end a connection whose peer may still be sending: how long, and how much, is read and thrown away before it is closed. Closing with
/// octets unread would be a reset, and a reset takes with it replies that the peer has not read yet (RFC 9293 §3.10.4, RFC 1122 §4.2.2.13).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_LEN: usize = 256 << 10;

/// When stopping: reads that are still answered per connection, so that what had arrived is answered and nothing is left to reset.
const DRAIN_STEPS: usize = 16;

/// The program's other files (databases, zones, checks, logs) keep at least this share of the limit on open files: one in …
const FILES_SHARE: u64 = 2;

/// What the listeners need to serve.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) published: Arc<Published>,
    pub(super) registry: Registry,
    pub(super) limits: Limits,
    /// Becomes true when the service stops.
    pub(super) stopping: watch::Receiver<bool>,
    /// A clone lives in every task.
    pub(super) alive: mpsc::Sender<()>,
}

/// The tasks of all listeners.
#[derive(Debug)]
pub(super) struct Running {
    shared: Arc<Shared>,
    listeners: Vec<AbortHandle>,
}

impl Running {
    /// Cuts off whatever is still going on.
    pub(super) fn abort(&self) {
        self.listeners.iter().for_each(AbortHandle::abort);
        self.shared.connections.abort_all();
    }
}

#[derive(Debug)]
struct Shared {
    published: Arc<Published>,
    registry: Registry,
    limits: Limits,
    started: Instant,
    connections: Connections,
    /// Connections that there can be.
    places: usize,
    /// As many as were ever in use at once, which is at most the runtime's threads.
    scratch: Mutex<Vec<Scratch>>,
}

/// What one step works on.
#[derive(Debug)]
struct Scratch {
    input: Box<[u8]>,
    output: Box<[u8]>,
    counters: ThreadCounters,
    dice: Dice,
}

/// Starts accepting on `listeners`.
pub(super) fn start(listeners: Vec<std::net::TcpListener>, context: Context, runtime: &Handle) -> io::Result<Running> {
    let Context { published, registry, limits, stopping, alive } = context;
    let _inside = runtime.enter();
    let files = sys::open_file_limit().map_or(usize::MAX, |files| usize::try_from(files / FILES_SHARE).unwrap_or(usize::MAX));
    let places = limits.total.min(files);
    let connections = Connections::new(places, limits.per_client, super::new_dice());
    let shared = Arc::new(Shared { published, registry, limits, started: Instant::now(), connections, places, scratch: Mutex::default() });
    let mut running = Running { shared: shared.clone(), listeners: Vec::new() };
    for listener in listeners {
        let task = accept(TcpListener::from_std(listener)?, shared.clone(), stopping.clone(), alive.clone());
        running.listeners.push(runtime.spawn(task).abort_handle());
    }
    Ok(running)
}

/// Accepts until the service stops.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>, alive: mpsc::Sender<()>) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped(&mut stopping) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer.ip(), &shared, &stopping, &alive),
            // The peer gave up between its handshake and our call.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                let counters = shared.registry.connections();
                let count = counters.accept_errors.fetch_add(1, Relaxed) + 1;
                if count.is_power_of_two() {
                    tracing::warn!(count, %error, "cannot accept TCP connections; closing quiet ones to make room");
                }
                counters.evicted.fetch_add(shared.connections.make_room() as u64, Relaxed);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Returns when the service stops (or its handle is gone).
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Gives a connection its place and its task.
fn admit(stream: TcpStream, peer: IpAddr, shared: &Arc<Shared>, stopping: &watch::Receiver<bool>, alive: &mpsc::Sender<()>) {
    let counters = shared.registry.connections();
    counters.accepted.fetch_add(1, Relaxed);
    counters.open.fetch_add(1, Relaxed);
    let answered_ns = Arc::new(AtomicU64::new(shared.now_ns()));
    let evicted = shared.connections.enter(peer, answered_ns.clone(), |id| {
        let place = Place { shared: shared.clone(), id };
        let (stopping, alive) = (stopping.clone(), alive.clone());
        let conversation = Conversation { peer, answered_ns, partial: Vec::new(), pending: Vec::new(), more: false, taken: 0, stream };
        tokio::spawn(async move {
            let _alive = alive;
            conversation.run(&place.shared, stopping).await;
        })
        .abort_handle()
    });
    counters.evicted.fetch_add(evicted as u64, Relaxed);
}

/// A place in the table, given back however the task ends.
struct Place {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections.leave(self.id);
        self.shared.registry.connections().open.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// What clients that ask are told of [`Limits::idle`] (RFC 7828 §3.3.2).
    fn keepalive(&self) -> u16 {
        keepalive(self.limits.idle, usize::try_from(self.registry.connections().open.load(Relaxed)).unwrap_or(0), self.places)
    }

    /// Lends a scratch: never across an await.
    fn with_scratch<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let pool = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let free = pool().pop();
        let mut scratch = free.unwrap_or_else(|| {
            let (input, output) = (vec![0; READ_LEN].into(), vec![0; GATHER_LEN + PREFIX_LEN + MAX_REPLY_LEN].into());
            Scratch { input, output, counters: self.registry.thread(), dice: super::new_dice() }
        });
        let result = work(&mut scratch);
        pool().push(scratch);
        result
    }
}

/// `idle` in units of 100 ms (RFC 7828 §3.1) while at least half the places are free, then less in proportion, and 0, which asks the client to close,
/// when none is.
fn keepalive(idle: Duration, open: usize, places: usize) -> u16 {
    let free = places.saturating_sub(open).saturating_mul(2).min(places) as u128;
    u16::try_from(idle.as_millis() / 100 * free / places.max(1) as u128).unwrap_or(u16::MAX)
}

/// Where a conversation goes after a step.
enum Next {
    /// Wait for more; true when something was answered.
    Read { answered: bool },
    /// End of stream, or a broken one. What is pending is still written.
    Ended,
    /// Nothing more is to be had from this peer, which may not know it yet. What is pending is still written.
    Close,
}

/// How a conversation ended.
enum End {
    /// There is nothing left to read, or nobody left to write to.
    Done,
    /// The peer may still be sending.
    Unread,
}

/// One connection.
struct Conversation {
    stream: TcpStream,
    peer: IpAddr,
    /// For the table: when it was last of use.
    answered_ns: Arc<AtomicU64>,
    /// Received and not answered: the beginning of a message, or whole ones that had to wait for the writer.
    partial: Vec<u8>,
    /// Replies that the socket did not take at once.
    pending: Vec<u8>,
    /// `partial` may hold a whole message.
    more: bool,
    /// Messages of the last step.
    taken: usize,
}

impl Conversation {
    async fn run(mut self, shared: &Shared, stopping: watch::Receiver<bool>) {
        if let End::Unread = self.converse(shared, stopping).await {
            self.linger(shared).await;
        }
    }

    /// Says that no more replies come, and takes what the peer has still sent.
    async fn linger(&mut self, shared: &Shared) {
        let until = Instant::now() + LINGER;
        if !matches!(timeout_at(until, self.stream.shutdown()).await, Ok(Ok(()))) {
            return;
        }
        let mut left = LINGER_LEN;
        while left > 0 {
            let read = poll_fn(|context| shared.with_scratch(|scratch| read(&mut self.stream, context, &mut scratch.input)));
            match timeout_at(until, read).await {
                Ok(Some(len)) => left = left.saturating_sub(len),
                _ => return,
            }
        }
    }

    /// Reads, answers and writes until either side has had enough.
    async fn converse(&mut self, shared: &Shared, mut stopping: watch::Receiver<bool>) -> End {
        // Replies are written whole; waiting for more to fill a segment would only delay them.
        let _ = self.stream.set_nodelay(true);
        let born = Instant::now();
        let mut quiet_since = born;
        let mut message_since = None;
        let mut drain_steps = DRAIN_STEPS;
        let mut paid_until = born.checked_sub(Duration::from_secs(1)).unwrap_or(born);
        loop {
            let now = Instant::now();
            message_since = if self.partial.is_empty() { None } else { message_since.or(Some(now)) };
            let idle = quiet_since + shared.limits.idle;
            let unfinished = message_since.map_or(idle, |since| since + shared.limits.message);
            let deadline = idle.min(unfinished).min(born + shared.limits.lifetime);
            let next = if self.more {
                // The writer has caught up; let others have their turn before the rest.
                tokio::task::yield_now().await;
                Ok(shared.with_scratch(|scratch| self.resume(shared, scratch)))
            } else {
                tokio::select! {
                    biased;
                    next = timeout_at(deadline, poll_fn(|context| shared.with_scratch(|scratch| self.poll(context, shared, scratch)))) => next,
                    // Whatever had arrived has just been answered: the read was tried first.
                    _ = stopped(&mut stopping) => Ok(Next::Ended),
                }
            };
            let Ok(next) = next else {
                shared.registry.connections().timed_out.fetch_add(1, Relaxed);
                return End::Done;
            };
            if !self.pending.is_empty() && self.flush(shared).await.is_err() {
                return End::Done;
            }
            match next {
                Next::Ended => return End::Done,
                Next::Close => return End::Unread,
                Next::Read { answered } => {
                    if answered {
                        quiet_since = Instant::now();
                        message_since = None;
                    }
                }
            }
            if let Some(pause) = self.pause(shared.limits.queries_per_second, &mut paid_until) {
                // Not being read from is what TCP tells a sender by that it is too fast.
                tokio::select! {
                    () = tokio::time::sleep_until(pause) => {}
                    _ = stopped(&mut stopping) => {}
                }
                quiet_since = quiet_since.max(Instant::now());
            }
            if !self.more && Instant::now() >= born + shared.limits.lifetime {
                // Whoever never pauses gets here.
                shared.registry.connections().timed_out.fetch_add(1, Relaxed);
                return End::Unread;
            }
            if *stopping.borrow() && !self.more {
                drain_steps -= 1;
                if drain_steps == 0 {
                    return End::Done;
                }
            }
        }
    }

    /// Until when to wait so that the connection stays within `per_second` messages; a second's worth may come at once.
    fn pause(&mut self, per_second: u32, paid_until: &mut Instant) -> Option<Instant> {
        let taken = std::mem::take(&mut self.taken);
        if per_second == 0 || taken == 0 {
            return None;
        }
        let now = Instant::now();
        let credit = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        *paid_until = (*paid_until).max(credit) + Duration::from_secs(1) * u32::try_from(taken).unwrap_or(u32::MAX) / per_second;
        (*paid_until > now).then_some(*paid_until)
    }

    /// Writes what the socket did not take at once.
    async fn flush(&mut self, shared: &Shared) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        match timeout_at(Instant::now() + shared.limits.write, self.stream.write_all(&pending)).await {
            Ok(result) => result,
            Err(late) => {
                shared.registry.connections().timed_out.fetch_add(1, Relaxed);
                Err(late.into())
            }
        }
    }

    /// One read and what follows from it.
    fn poll(&mut self, context: &mut std::task::Context<'_>, shared: &Shared, scratch: &mut Scratch) -> Poll<Next> {
        if self.partial.is_empty() {
            let Poll::Ready(read) = read(&mut self.stream, context, &mut scratch.input) else { return Poll::Pending };
            let Some(len) = read else { return Poll::Ready(Next::Ended) };
            let Scratch { input, output, counters, dice } = scratch;
            let step = answer_messages(&input[..len], output, self.peer, shared, counters, dice);
            self.partial.extend_from_slice(&input[step.consumed..len]);
            return Poll::Ready(self.finish(&step, &output[..step.gathered], shared, counters));
        }
        let filled = self.partial.len();
        self.partial.resize(filled + READ_STEP, 0);
        let read = read(&mut self.stream, context, &mut self.partial[filled..]);
        let len = if let Poll::Ready(Some(len)) = read { len } else { 0 };
        self.partial.truncate(filled + len);
        read.map(|read| if read.is_some() { self.resume(shared, scratch) } else { Next::Ended })
    }

    /// Answers what is in `partial`.
    fn resume(&mut self, shared: &Shared, scratch: &mut Scratch) -> Next {
        let Scratch { output, counters, dice, .. } = scratch;
        let step = answer_messages(&self.partial, output, self.peer, shared, counters, dice);
        self.partial.drain(..step.consumed);
        if self.partial.is_empty() {
            // A quiet connection holds no memory.
            self.partial = Vec::new();
        }
        self.finish(&step, &output[..step.gathered], shared, counters)
    }

    /// Writes as much as the socket takes now and keeps the rest.
    fn finish(&mut self, step: &Step, replies: &[u8], shared: &Shared, counters: &ThreadCounters) -> Next {
        self.more = step.more;
        self.taken = step.messages;
        if step.answered > 0 {
            // Before the replies go out: who has one in hand has been of use.
            self.answered_ns.store(shared.now_ns(), Relaxed);
        }
        if !replies.is_empty() {
            let written = match self.stream.try_write(replies) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => {
                    counters.send_failed(Transport::Tcp, step.answered);
                    return Next::Ended;
                }
            };
            self.pending.extend_from_slice(&replies[written..]);
        }
        if step.close { Next::Close } else { Next::Read { answered: step.answered > 0 } }
    }
}

/// One read: how much came, or that nothing more will (end of stream, or a broken one).
fn read(stream: &mut TcpStream, context: &mut std::task::Context<'_>, into: &mut [u8]) -> Poll<Option<usize>> {
    let mut buffer = ReadBuf::new(into);
    let read = Pin::new(stream).poll_read(context, &mut buffer);
    let len = buffer.filled().len();
    read.map(|read| (read.is_ok() && len > 0).then_some(len))
}

/// What one pass over received octets did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    /// Octets of the input that are done with.
    consumed: usize,
    /// Octets of the output that are in use.
    gathered: usize,
    /// Whole messages looked at.
    messages: usize,
    /// Replies among the output.
    answered: usize,
    /// Stopped because the output was full enough.
    more: bool,
    /// The peer does not speak DNS, or the engine failed on it.
    close: bool,
}

/// Answers the whole messages of `input` into `output`, until that is full enough. A panic ends the connection, after the replies before it.
fn answer_messages(input: &[u8], output: &mut [u8], peer: IpAddr, shared: &Shared, counters: &ThreadCounters, dice: &mut Dice) -> Step {
    let mut step = Step::default();
    dice.unix_s = super::unix_s();
    let asked = Asked { packet: &[], source: peer, transport: Transport::Tcp, keepalive: shared.keepalive() };
    let guarded = catch_unwind(AssertUnwindSafe(|| {
        shared.published.with_world(|world| while answer_next(&mut step, input, output, &asked, world, counters, dice) {});
    }));
    if guarded.is_err() {
        step.close = true;
        super::log_panic(counters.panicked(Transport::Tcp), "tcp");
    }
    if step.messages > 0 {
        counters.received(Transport::Tcp, step.messages);
    }
    step
}

/// Answers the next message; false when there is no whole one, no room, or nothing more to say.
fn answer_next(
    step: &mut Step,
    input: &[u8],
    output: &mut [u8],
    asked: &Asked<'_>,
    world: &World,
    counters: &ThreadCounters,
    dice: &mut Dice,
) -> bool {
    let Some(([high, low], rest)) = input.get(step.consumed..).and_then(|rest| rest.split_first_chunk::<PREFIX_LEN>()) else { return false };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len == 0 {
        // No message is empty; whoever sends this is out of step, and what follows would be guesswork.
        step.messages += 1;
        step.close = true;
        counters.malformed(Transport::Tcp);
        return false;
    }
    let Some(packet) = rest.get(..len) else { return false };
    if step.gathered >= GATHER_LEN {
        step.more = true;
        return false;
    }
    step.consumed += PREFIX_LEN + len;
    step.messages += 1;
    let Some((prefix, room)) = output.get_mut(step.gathered..).and_then(|room| room.split_first_chunk_mut::<PREFIX_LEN>()) else { return false };
    let outcome = answer(world, &Asked { packet, ..*asked }, dice, room);
    counters.answered(Transport::Tcp, &outcome);
    if let Outcome::Reply(reply) = outcome {
        // The engine promises at most 65,535.
        *prefix = u16::try_from(reply.len).unwrap_or(u16::MAX).to_be_bytes();
        step.gathered += PREFIX_LEN + reply.len;
        step.answered += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

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
