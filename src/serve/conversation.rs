//! One TCP connection: what has been received of it and not answered, what has been answered and not taken, and how long it may go on.
//!
//! ```text
//!              ┌──────── readable, or whole messages left ◀───────┐
//!              ▼                                                  │
//!   Talking: read, answer every whole message, write once ──▶ all written?
//!              │                                                  │ no: read nothing until the peer has taken them
//!              │ no DNS, a deadline                               ▼
//!              ├──────────────▶ Closing ──▶ Lingering        write what is pending
//!              │ end of stream       │           │ end of stream, a second
//!              └─────────────────────┴──▶ Done ◀─┘
//! ```
//!
//! What comes between two waits happens in one step on buffers that all connections of a thread share, so a quiet connection holds none. Only the
//! beginning of an unfinished message and unwritten replies stay with their connection, in buffers of a pool. Deadlines, all of which close it: idle
//! since the last answer; a message that has begun and does not end; replies that nobody reads; the lifetime.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Limits;
use super::connections::Link;
use super::stream::{Answerer, Client, OUTPUT_LEN, Step, lacking};
use crate::answer::Transport;
use crate::telemetry::Registry;

/// What one read takes at most; a thousand small queries.
const READ_LEN: usize = 64 << 10;

/// The beginning of a message up to this length is put before what is read next, so that the rest of it and what follows are read at once. Of a longer
/// message only its own rest is read, behind it: else a client could make us copy far more than it sends.
const SHORT_LEN: usize = 4096;

/// After we end a connection whose peer may still be sending: how long, and how much, is read and thrown away before it is closed. Closing with
/// octets unread would be a reset, and a reset takes with it replies that the peer has not read yet (RFC 9293 §3.10.4, RFC 1122 §4.2.2.13).
const LINGER_NS: u64 = SECOND;
const LINGER_LEN: usize = 256 << 10;

/// When stopping: steps that a connection still gets, so that what had arrived is answered and nothing is left to reset.
const DRAIN_STEPS: u8 = 16;

/// Buffers that a thread keeps for reuse, short and long, and what counts as short: nearly every query.
const SHORT_BUFFER_LEN: usize = 256;
const SHORT_BUFFERS: usize = 256;
const LONG_BUFFERS: usize = 16;

pub(super) const SECOND: u64 = 1_000_000_000;

/// No such time.
const NEVER: u64 = u64::MAX;

/// What the connections of one thread work with.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) answerer: Answerer,
    pub(super) registry: Registry,
    pub(super) limits: Limits,
    /// Of the current turn, on the clock of the service.
    pub(super) now_ns: u64,
    /// What clients that ask are told (RFC 7828 §3.1).
    pub(super) keepalive: u16,
    /// Nothing new is waited for.
    pub(super) stopping: bool,
    input: Box<[u8]>,
    output: Box<[u8]>,
    pool: Pool,
}

impl Desk {
    pub(super) fn new(answerer: Answerer, registry: Registry, limits: Limits) -> Desk {
        let (input, output) = (vec![0; SHORT_LEN + READ_LEN].into(), vec![0; OUTPUT_LEN].into());
        Desk { answerer, registry, limits, now_ns: 0, keepalive: 0, stopping: false, input, output, pool: Pool::default() }
    }
}

/// Buffers that no connection needs now.
#[derive(Debug, Default)]
struct Pool {
    short: Vec<Vec<u8>>,
    long: Vec<Vec<u8>>,
}

impl Pool {
    /// A buffer that holds `octets`.
    fn keep(&mut self, octets: &[u8]) -> Vec<u8> {
        let free = if octets.len() <= SHORT_BUFFER_LEN { self.short.pop() } else { self.long.pop() };
        let mut buffer = free.unwrap_or_else(|| Vec::with_capacity(octets.len().max(SHORT_BUFFER_LEN)));
        buffer.extend_from_slice(octets);
        buffer
    }

    /// Takes back a buffer, which may be one that has never held anything.
    fn give(&mut self, buffer: &mut Vec<u8>) {
        let mut buffer = std::mem::take(buffer);
        let (free, most) = if buffer.capacity() <= SHORT_BUFFER_LEN { (&mut self.short, SHORT_BUFFERS) } else { (&mut self.long, LONG_BUFFERS) };
        if buffer.capacity() > 0 && free.len() < most {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// An event of its socket, or its deadline.
    Wait,
    /// Its next turn: there is more to do.
    Again,
    /// Nothing: it is to be closed.
    Done,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// There is nothing left to read, or nobody left to write to.
    Read,
    /// The peer may still be sending.
    Unread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Talking,
    /// What is pending is still written.
    Closing(Ending),
    /// Nothing more is said; what still comes is thrown away, at most so many octets.
    Lingering(usize),
}

/// What the kernel tells this thread of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Watch {
    Nothing,
    Reads,
    Both,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) link: Arc<Link>,
    peer: SocketAddr,
    phase: Phase,
    pub(super) watch: Watch,
    /// Its next turn is noted.
    pub(super) queued: bool,
    /// There may be something to read.
    readable: bool,
    /// The peer sends no more than what is there.
    half_closed: bool,
    /// `partial` may hold a whole message.
    more: bool,
    drain_steps: u8,
    born_ns: u64,
    /// Since the last answer; of a connection that was held back, since it no longer is.
    quiet_since_ns: u64,
    message_since_ns: u64,
    write_until_ns: u64,
    /// Until when its queries so far are within `queries_per_second`.
    paid_until_ns: u64,
    /// Until when nothing is read because there were too many.
    held_until_ns: u64,
    linger_until_ns: u64,
    /// Received and not answered: the beginning of a message, or whole ones that had to wait for the peer to read.
    partial: Vec<u8>,
    /// Replies that the socket did not take at once, and how much of them it has taken since.
    pending: Vec<u8>,
    written: usize,
}

impl Conversation {
    pub(super) fn new(link: Arc<Link>, peer: SocketAddr, now_ns: u64) -> Conversation {
        Conversation {
            link,
            peer,
            phase: Phase::Talking,
            watch: Watch::Nothing,
            queued: false,
            readable: true,
            half_closed: false,
            more: false,
            drain_steps: DRAIN_STEPS,
            born_ns: now_ns,
            quiet_since_ns: now_ns,
            message_since_ns: NEVER,
            write_until_ns: NEVER,
            paid_until_ns: 0,
            held_until_ns: NEVER,
            linger_until_ns: NEVER,
            partial: Vec::new(),
            pending: Vec::new(),
            written: 0,
        }
    }

    /// The kernel says that something can be read; `half_closed` when an end of stream or an error is among it.
    pub(super) fn note_readable(&mut self, half_closed: bool) {
        self.readable = true;
        self.half_closed |= half_closed;
    }

    /// What it wants to hear of from the kernel.
    pub(super) fn wants(&self) -> Watch {
        if self.pending.is_empty() { self.watch.max(Watch::Reads) } else { Watch::Both }
    }

    /// When it has waited long enough.
    pub(super) fn deadline_ns(&self, limits: &Limits) -> u64 {
        let after = |since: u64, time: std::time::Duration| since.saturating_add(time.as_nanos() as u64);
        match self.phase {
            Phase::Lingering(_) => self.linger_until_ns,
            _ if !self.pending.is_empty() => self.write_until_ns,
            _ if self.held_until_ns != NEVER => self.held_until_ns.min(after(self.born_ns, limits.lifetime)),
            _ => {
                // Whole messages that have come are answered first.
                let lifetime = if self.more { NEVER } else { after(self.born_ns, limits.lifetime) };
                after(self.quiet_since_ns, limits.idle).min(after(self.message_since_ns, limits.message)).min(lifetime)
            }
        }
    }

    /// Its timer rang.
    pub(super) fn ring(&mut self, desk: &mut Desk) -> Next {
        if desk.now_ns < self.deadline_ns(&desk.limits) {
            return Next::Wait;
        }
        match self.phase {
            Phase::Lingering(_) => return Next::Done,
            _ if !self.pending.is_empty() => {
                // Who does not read gets a reset, so that the kernel need not keep what was sent.
                let _ = socket2::SockRef::from(&self.link.stream).set_linger(Some(std::time::Duration::ZERO));
                desk.registry.connections(Transport::Tcp).timed_out.fetch_add(1, Relaxed);
                return Next::Done;
            }
            _ if self.held_until_ns <= desk.now_ns => {
                self.held_until_ns = NEVER;
                self.quiet_since_ns = desk.now_ns;
                return self.advance(desk);
            }
            _ => {}
        }
        // Once more: of what came while this program stood still (a machine that was paused) no event has told yet.
        self.readable = true;
        let next = self.advance(desk);
        if next == Next::Done || desk.now_ns < self.deadline_ns(&desk.limits) {
            return next;
        }
        desk.registry.connections(Transport::Tcp).timed_out.fetch_add(1, Relaxed);
        self.conclude(Ending::Unread, desk)
    }

    /// Does what can be done now: one read at most.
    pub(super) fn advance(&mut self, desk: &mut Desk) -> Next {
        if self.link.is_evicted() {
            return Next::Done;
        }
        if let Phase::Lingering(left) = self.phase {
            return self.linger(left, desk);
        }
        if !self.pending.is_empty() {
            match self.flush(desk) {
                Ok(true) => {}
                Ok(false) => return Next::Wait,
                Err(_) => return Next::Done,
            }
        }
        if let Phase::Closing(ending) = self.phase {
            return self.conclude(ending, desk);
        }
        if desk.stopping {
            if !(self.more || self.readable && self.drain_steps > 0) {
                return Next::Done;
            }
            self.drain_steps = self.drain_steps.saturating_sub(1);
        } else if self.held_until_ns != NEVER || !(self.more || self.readable) {
            return Next::Wait;
        }
        let next = if self.more { self.resume(desk) } else { self.receive(desk) };
        // A connection that is stopped ends when there is nothing left to read, and that has to be seen.
        if next == Next::Wait && desk.stopping && self.pending.is_empty() { Next::Again } else { next }
    }

    /// One read and what follows from it.
    fn receive(&mut self, desk: &mut Desk) -> Next {
        let begun = self.partial.len();
        let room = if begun <= SHORT_LEN {
            desk.input[..begun].copy_from_slice(&self.partial);
            &mut desk.input[begun..begun + READ_LEN]
        } else {
            &mut desk.input[..lacking(&self.partial).clamp(1, READ_LEN)]
        };
        let (asked, read) = (room.len(), (&self.link.stream).read(room));
        let len = match read {
            Ok(0) => return self.conclude(Ending::Read, desk),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Next::Again,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                return Next::Wait;
            }
            Err(_) => return self.conclude(Ending::Read, desk),
        };
        // Less than asked for is all there is, and what comes later is told.
        self.readable = self.half_closed || len == asked;
        if begun > SHORT_LEN {
            // It doubles, but not beyond the message: a client gets no more memory than what it has sent and as much again.
            let wanted = (2 * begun).min(begun + lacking(&self.partial)).max(begun + len);
            if self.partial.capacity() < begun + len {
                self.partial.reserve_exact(wanted - begun);
            }
            self.partial.extend_from_slice(&desk.input[..len]);
            return self.resume(desk);
        }
        let client = self.client(desk);
        let Desk { answerer, input, output, pool, .. } = desk;
        let step = answerer.messages(&input[..begun + len], output, client);
        let rest = &input[step.consumed..begun + len];
        if step.consumed == 0 && begun > 0 {
            self.partial.extend_from_slice(&rest[begun..]);
        } else {
            pool.give(&mut self.partial);
            if !rest.is_empty() {
                self.partial = pool.keep(rest);
            }
        }
        self.finish(&step, desk)
    }

    /// Who asks.
    fn client(&self, desk: &Desk) -> Client {
        let server = if desk.answerer.is_logging() { self.link.stream.local_addr().ok() } else { None };
        Client { source: self.peer, server, transport: Transport::Tcp, keepalive: desk.keepalive }
    }

    /// Answers what is in `partial`.
    fn resume(&mut self, desk: &mut Desk) -> Next {
        let client = self.client(desk);
        let step = desk.answerer.messages(&self.partial, &mut desk.output, client);
        self.partial.drain(..step.consumed);
        if self.partial.is_empty() {
            desk.pool.give(&mut self.partial);
        }
        self.finish(&step, desk)
    }

    /// Writes as much as the socket takes now and keeps the rest.
    fn finish(&mut self, step: &Step, desk: &mut Desk) -> Next {
        let now_ns = desk.now_ns;
        self.more = step.more;
        if step.answered > 0 {
            // Before the replies go out: who has one in hand has been of use.
            self.link.answered(now_ns);
            self.quiet_since_ns = now_ns;
            self.message_since_ns = NEVER;
        }
        self.message_since_ns = if self.partial.is_empty() { NEVER } else { self.message_since_ns.min(now_ns) };
        let replies = &desk.output[..step.gathered];
        if !replies.is_empty() {
            let written = match (&self.link.stream).write(replies) {
                Ok(written) => written,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
                Err(_) => {
                    desk.answerer.counters.send_failed(Transport::Tcp, step.answered);
                    return Next::Done;
                }
            };
            if written < replies.len() {
                self.pending = desk.pool.keep(&replies[written..]);
                self.written = 0;
                self.write_until_ns = now_ns.saturating_add(desk.limits.write.as_nanos() as u64);
            }
        }
        if desk.limits.queries_per_second > 0 {
            self.hold(step.messages, desk.limits.queries_per_second, now_ns);
        }
        match step.close {
            true => self.conclude(Ending::Unread, desk),
            false if !self.pending.is_empty() => Next::Wait,
            false if self.more || self.readable => Next::Again,
            false => Next::Wait,
        }
    }

    /// Reads nothing for a while when there were more than `per_second` messages; a second's worth may come at once. Not being read from is what TCP
    /// tells a sender by that it is too fast.
    fn hold(&mut self, messages: usize, per_second: u32, now_ns: u64) {
        let price = SECOND.saturating_mul(messages as u64) / u64::from(per_second);
        self.paid_until_ns = self.paid_until_ns.max(now_ns.saturating_sub(SECOND)).saturating_add(price);
        self.held_until_ns = if self.paid_until_ns > now_ns { self.paid_until_ns } else { NEVER };
    }

    /// Writes what the socket did not take at once; true when it is done.
    fn flush(&mut self, desk: &mut Desk) -> io::Result<bool> {
        while self.written < self.pending.len() {
            match (&self.link.stream).write(&self.pending[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        desk.pool.give(&mut self.pending);
        self.write_until_ns = NEVER;
        Ok(true)
    }

    /// Ends it, once what is pending has been taken.
    fn conclude(&mut self, ending: Ending, desk: &mut Desk) -> Next {
        if !self.pending.is_empty() {
            self.phase = Phase::Closing(ending);
            return Next::Wait;
        }
        desk.pool.give(&mut self.partial);
        self.more = false;
        if ending == Ending::Read || self.link.stream.shutdown(Shutdown::Write).is_err() {
            return Next::Done;
        }
        self.phase = Phase::Lingering(LINGER_LEN);
        self.linger_until_ns = desk.now_ns + LINGER_NS;
        self.linger(LINGER_LEN, desk)
    }

    /// Takes what the peer has still sent, until it sends no more.
    fn linger(&mut self, left: usize, desk: &mut Desk) -> Next {
        match (&self.link.stream).read(&mut desk.input[..READ_LEN]) {
            Ok(len) if len > 0 && len < left => {
                self.phase = Phase::Lingering(left - len);
                Next::Again
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Wait,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Next::Again,
            _ => Next::Done,
        }
    }

    /// Octets of buffers that it holds.
    #[cfg(test)]
    pub(super) fn held_octets(&self) -> usize {
        self.partial.capacity() + self.pending.capacity()
    }

    /// Gives back what it holds.
    pub(super) fn close(&mut self, desk: &mut Desk) {
        desk.pool.give(&mut self.partial);
        desk.pool.give(&mut self.pending);
    }
}
