//! DNS over UDP: one thread, its sockets, one batch.
//!
//! A turn is: receive a batch, take the world, read the clock, answer each message, send. Nothing in a turn allocates, locks or logs.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::guard::{Guard, Place};
use crate::answer::{Asked, Dice, Outcome, Prepared, Transport, prepare};
use crate::dns::QueryName;
use crate::sys::{Batch, Message, ReadySet, Wait};
use crate::telemetry::{Heard, Tap, ThreadCounters};
use crate::world::{Published, World};

/// Datagrams per system call. Beyond 8 it saves no more system time; 32 is what hiding the cache misses of large zones needs.
const BATCH_LEN: usize = 32;

/// The longest query that is read. Queries are under 300 octets, a few thousand with padding and cookies; longer ones are dropped.
const RECEIVE_LEN: usize = 4096;

/// Room for a reply; the engine's own limit over UDP is 1,232 octets.
const SEND_LEN: usize = 4096;

/// How often an idle thread looks whether it should stop.
pub const STOP_POLL: Duration = Duration::from_millis(200);

/// The longest that a send waits for room in a full send buffer before the reply is given up.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// After a failed receive call (no memory, a broken socket): long enough not to spin, short enough not to be missed.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// When stopping: batches still answered per socket. A full receive buffer is some 160 of them, under 20 ms of work.
const DRAIN_TURNS: usize = 256;

/// Where a query came in, when the kernel does not say.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// One UDP thread's work.
#[derive(Debug)]
pub struct Worker {
    sockets: Vec<UdpSocket>,
    ready: ReadySet,
    batch: Batch,
    /// Room for the names that a batch asks for.
    names: Box<[QueryName; BATCH_LEN]>,
    poll: BusyPoll,
    published: Arc<Published>,
    counters: ThreadCounters,
    dice: Dice,
    guard: Guard,
    /// Of each socket.
    addresses: Vec<SocketAddr>,
    tap: Tap,
}

impl Worker {
    /// Prepares to serve `sockets`. All allocation happens here.
    pub fn new(
        sockets: Vec<UdpSocket>,
        published: Arc<Published>,
        counters: ThreadCounters,
        place: Place,
        busy_poll: Duration,
    ) -> io::Result<Worker> {
        for socket in &sockets {
            socket.set_nonblocking(false)?;
            socket.set_read_timeout(Some(STOP_POLL))?;
            socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        }
        Ok(Worker {
            ready: ReadySet::new(&sockets),
            addresses: sockets.iter().map(|socket| socket.local_addr().unwrap_or(UNKNOWN)).collect(),
            sockets,
            batch: Batch::new(BATCH_LEN, RECEIVE_LEN, SEND_LEN),
            names: new_names(),
            poll: BusyPoll::new(busy_poll),
            published,
            tap: counters.tap(),
            counters,
            dice: super::new_dice(),
            guard: Guard::new(place),
        })
    }

    /// Serves until `stop` is set, then answers what the kernel still holds.
    pub fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Relaxed) {
            self.turn();
        }
        for at in 0..self.sockets.len() {
            for _ in 0..DRAIN_TURNS {
                if self.serve(at, Wait::Never) == 0 {
                    break;
                }
            }
        }
    }

    /// Waits for queries, at most [`STOP_POLL`], and answers one batch of each socket that has some. Returns how many messages came.
    pub fn turn(&mut self) -> usize {
        if self.sockets.len() == 1 {
            return self.serve(0, Wait::Blocking);
        }
        let ready = &mut self.ready;
        let waited = self.poll.wait(|wait| match wait {
            Wait::Never => ready.wait(Duration::ZERO),
            Wait::Blocking => ready.wait(STOP_POLL),
        });
        match waited {
            Ok(0) => {
                self.idle();
                0
            }
            Ok(_) => (0..self.sockets.len()).map(|at| if self.ready.is_ready(at) { self.serve(at, Wait::Never) } else { 0 }).sum(),
            Err(_) => {
                self.counters.receive_failed(Transport::Udp);
                #[allow(clippy::disallowed_methods, reason = "a thread of its own, and there is no event to wait for")]
                std::thread::sleep(ERROR_PAUSE);
                0
            }
        }
    }

    /// Nothing came for a while: what would otherwise be done with a batch.
    fn idle(&mut self) {
        let (guard, sockets) = (&mut self.guard, &self.sockets);
        self.published.with_world(|world| guard.begin(world.server.rate_limit.as_ref(), sockets));
        guard.end(0, sockets, &self.counters);
    }

    /// One batch of one socket: receive, answer, count, send.
    fn serve(&mut self, at: usize, wait: Wait) -> usize {
        let Some(socket) = self.sockets.get(at) else { return 0 };
        let batch = &mut self.batch;
        let received = match wait {
            Wait::Blocking => self.poll.wait(|wait| match batch.receive(socket, wait) {
                Err(error) if wait == Wait::Never && error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                other => other,
            }),
            Wait::Never => batch.receive(socket, wait),
        };
        let received = match received {
            Ok(received) => received,
            Err(error) => {
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) {
                    self.counters.receive_failed(Transport::Udp);
                    #[allow(clippy::disallowed_methods, reason = "as above")]
                    std::thread::sleep(ERROR_PAUSE);
                }
                self.idle();
                return 0;
            }
        };
        self.counters.received(Transport::Udp, received);
        let now = super::unix_now();
        self.dice.unix_s = now.as_secs();
        let server = self.addresses.get(at).copied().unwrap_or(UNKNOWN);
        let (batch, names, dice, guard, sockets) = (&mut self.batch, &mut self.names, &mut self.dice, &mut self.guard, &self.sockets);
        let mut books = Books { counters: &self.counters, tap: &mut self.tap, server };
        self.published.with_world(|world| {
            guard.begin(world.server.rate_limit.as_ref(), sockets);
            books.tap.begin(world, now);
            answer_batch(batch, names, world, dice, &mut books, guard, |prepared, world, asked, dice, reply| {
                prepared.finish(world, asked, dice, reply)
            });
        });
        let report = self.batch.send(socket);
        if report.failed > 0 {
            self.counters.send_failed(Transport::Udp, report.failed);
        }
        self.guard.end(received, &self.sockets, &self.counters);
        received
    }
}

/// Looks for queries again and again for a while before the thread sleeps, when they have been coming that fast: to wake up takes tens of
/// microseconds, more in a virtual machine. The thread sleeps as usual once none came for that long, until one comes as soon again.
#[derive(Debug)]
struct BusyPoll {
    /// Zero: never.
    most: Duration,
    /// The last wait, looking included, took less than twice `most`.
    pays: bool,
}

impl BusyPoll {
    fn new(most: Duration) -> BusyPoll {
        BusyPoll { most, pays: false }
    }

    /// Calls `look` without waiting (where `Ok(0)` means that nothing is there) as long as it pays, then once with waiting.
    #[inline]
    fn wait(&mut self, mut look: impl FnMut(Wait) -> io::Result<usize>) -> io::Result<usize> {
        if self.most.is_zero() {
            return look(Wait::Blocking);
        }
        let begun = Instant::now();
        while self.pays {
            let found = look(Wait::Never);
            if !matches!(found, Ok(0)) {
                return found;
            }
            // Whoever else has work on this core goes first.
            std::thread::yield_now();
            self.pays = begun.elapsed() < self.most;
        }
        let found = look(Wait::Blocking);
        self.pays = matches!(found, Ok(1..)) && begun.elapsed() < self.most * 2;
        found
    }
}

/// Where what is answered is written down.
struct Books<'a> {
    counters: &'a ThreadCounters,
    tap: &'a mut Tap,
    /// Where the batch came in.
    server: SocketAddr,
}

/// Answers every message of the batch, each step for all of them before the next one (see [`crate::answer::prepare`]). A panic costs the message
/// that caused it and nothing else.
fn answer_batch(
    batch: &mut Batch,
    names: &mut [QueryName; BATCH_LEN],
    world: &World,
    dice: &mut Dice,
    books: &mut Books<'_>,
    guard: &mut Guard,
    finish: impl Fn(&Prepared<'_, '_>, &World, &Asked<'_>, &mut Dice, &mut [u8]) -> Outcome,
) {
    let counters = books.counters;
    let mut prepared = [const { None }; BATCH_LEN];
    let mut rooms = prepared.iter_mut().zip(names).enumerate().take(batch.len());
    each(counters, || {
        let Some((at, (place, name))) = rooms.next() else { return false };
        if let Some(asked) = admit(&batch.message(at), counters).filter(|asked| guard.admit(asked, counters)) {
            *place = Some(prepare(world, &asked, name));
        }
        true
    });
    let mut waiting = prepared.iter_mut().flatten();
    each(counters, || waiting.next().map(Prepared::warm_node).is_some());
    let mut waiting = prepared.iter_mut().flatten();
    each(counters, || waiting.next().map(|prepared| prepared.warm_map(world)).is_some());
    let mut waiting = prepared.iter().flatten();
    each(counters, || waiting.next().map(Prepared::warm_ranges).is_some());
    let mut waiting = prepared.iter().enumerate();
    each(counters, || {
        let Some((at, prepared)) = waiting.next() else { return false };
        let Some(prepared) = prepared else { return true };
        let (message, octets) = batch.slot(at);
        let asked = asked(&message);
        let outcome = match finish(prepared, world, &asked, dice, octets) {
            Outcome::Reply(answer) => match guard.pass(world, &asked, dice, answer, octets, counters) {
                Some(answer) => Outcome::Reply(answer),
                None => return true,
            },
            Outcome::Silence => Outcome::Silence,
        };
        counters.answered(Transport::Udp, &outcome);
        if let Outcome::Reply(reply) = outcome {
            if books.tap.wants() {
                let heard = Heard { query: message.octets, client: message.source, server: books.server, transport: Transport::Udp };
                books.tap.record(&heard, &reply, octets, counters);
            }
            batch.set_reply(at, reply.len);
        }
        true
    });
}

/// Calls `step` until it says that there is nothing left. A step that panics is counted and passed over; what that takes is set up once.
#[inline(always)]
fn each(counters: &ThreadCounters, mut step: impl FnMut() -> bool) {
    while catch_unwind(AssertUnwindSafe(|| while step() {})).is_err() {
        super::log_panic(counters.panicked(Transport::Udp), "udp");
    }
}

fn new_names() -> Box<[QueryName; BATCH_LEN]> {
    Box::new(std::array::from_fn(|_| QueryName::root()))
}

/// Lets a message through to the engine, unless there is nobody to answer or it does not fit.
#[inline]
fn admit<'a>(message: &Message<'a>, counters: &ThreadCounters) -> Option<Asked<'a>> {
    if message.to_many || !is_answerable(&message.source) {
        counters.dropped(Transport::Udp);
        return None;
    }
    if message.cut {
        counters.malformed(Transport::Udp);
        return None;
    }
    Some(asked(message))
}

#[inline]
fn asked<'a>(message: &Message<'a>) -> Asked<'a> {
    Asked { packet: message.octets, source: message.source.ip(), transport: Transport::Udp, keepalive: 0 }
}

/// False for sources that no client can have: port 0, the unspecified address and its network, broadcast, multicast.
#[inline]
fn is_answerable(source: &SocketAddr) -> bool {
    source.port() != 0
        && match source.ip() {
            IpAddr::V4(address) => address.octets()[0] != 0 && !address.is_multicast() && !address.is_broadcast(),
            IpAddr::V6(address) => !address.is_unspecified() && !address.is_multicast(),
        }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::counting::allocations_in;
    use crate::telemetry::Registry;

    const QUERY: &[u8] = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    #[test]
    fn a_turn_allocates_nothing() {
        for busy_poll in [Duration::ZERO, Duration::from_millis(1)] {
            turns(busy_poll);
        }
    }

    fn turns(busy_poll: Duration) {
        let (server, client) = (socket(), socket());
        client.connect(server.local_addr().unwrap()).unwrap();
        let registry = Registry::new();
        let mut worker = Worker::new(vec![server], Arc::new(Published::new(World::default())), registry.thread(), Place::alone(), busy_poll).unwrap();
        let mut turn = |queries: usize| {
            (0..queries).for_each(|_| assert_eq!(client.send(QUERY).unwrap(), QUERY.len()));
            let mut answered = 0;
            let allocations = allocations_in(|| {
                while answered < queries {
                    answered += worker.turn();
                }
            });
            (0..queries).for_each(|_| assert!(client.recv(&mut [0; 512]).unwrap() >= 12));
            allocations
        };
        // The first read of the published pointer registers the thread with it.
        turn(1);
        for queries in [1, 2, 32, 100] {
            assert_eq!(turn(queries), 0, "{queries} queries");
        }
        assert_eq!(registry.totals().udp.replies(), 136);
    }

    #[test]
    fn a_thread_polls_only_while_queries_come_that_fast() {
        let (never, blocking) = (Wait::Never, Wait::Blocking);
        let looks = |poll: &mut BusyPoll, found: &mut dyn Iterator<Item = usize>| {
            let mut looks = Vec::new();
            let found = poll.wait(|wait| {
                looks.push(wait);
                Ok(found.next().unwrap_or(0))
            });
            (found.unwrap(), looks)
        };
        let hour = Duration::from_secs(3600);
        let mut off = BusyPoll::new(Duration::ZERO);
        assert_eq!(looks(&mut off, &mut [5].into_iter()), (5, vec![blocking]));
        assert_eq!(looks(&mut off, &mut [5].into_iter()), (5, vec![blocking]));
        let mut poll = BusyPoll::new(hour);
        assert_eq!(looks(&mut poll, &mut [5].into_iter()), (5, vec![blocking]), "nothing is known yet");
        assert_eq!(looks(&mut poll, &mut [0, 0, 7].into_iter()), (7, vec![never; 3]));
        poll.most = Duration::from_nanos(1);
        assert_eq!(looks(&mut poll, &mut [0, 7].into_iter()), (7, vec![never, blocking]), "too long");
        poll.most = hour;
        poll.pays = false;
        assert_eq!(looks(&mut poll, &mut [0].into_iter()), (0, vec![blocking]), "none came within the read timeout");
        assert!(!poll.pays);
    }

    #[test]
    fn a_panic_costs_one_reply_and_is_counted() {
        let (server, client) = (socket(), socket());
        client.connect(server.local_addr().unwrap()).unwrap();
        let registry = Registry::new();
        let (counters, mut batch, mut dice) = (registry.thread(), Batch::new(8, 512, 512), Dice::new(0, 0));
        let (mut names, mut tap) = (new_names(), counters.tap());
        for id in 0..5 {
            client.send(&[id; 12]).unwrap();
        }
        let mut left = 5;
        while left > 0 {
            left -= batch.receive(&server, Wait::Blocking).unwrap();
            let mut guard = Guard::new(Place::alone());
            let mut books = Books { counters: &counters, tap: &mut tap, server: UNKNOWN };
            answer_batch(&mut batch, &mut names, &World::default(), &mut dice, &mut books, &mut guard, |_, _, asked, _, reply| {
                assert_ne!(asked.packet[0], 2, "on purpose");
                reply[..12].copy_from_slice(asked.packet);
                Outcome::Reply(crate::answer::Reply {
                    len: 12,
                    rcode: crate::dns::Rcode::NOERROR,
                    truncated: false,
                    question_end: 12,
                    opt_len: 0,
                    kind: crate::answer::Kind::Answer,
                    subject: 0,
                    zone_slot: None,
                    pool_slot: None,
                    policy_slot: None,
                    cookie: crate::answer::CookieState::None,
                    audience: crate::answer::Audience::Everybody,
                })
            });
            batch.send(&server);
        }
        let mut seen: Vec<u8> = Vec::new();
        for _ in 0..4 {
            let mut reply = [0; 64];
            assert_eq!(client.recv(&mut reply).unwrap(), 12);
            seen.push(reply[0]);
        }
        assert_eq!(seen, [0, 1, 3, 4]);
        assert_eq!(registry.totals().udp.panics, 1);
    }

    #[test]
    fn sources_that_cannot_be_clients_are_not_answered() {
        for (source, answerable) in [
            ("192.0.2.1:53", true),
            ("127.0.0.1:1", true),
            ("192.0.2.1:0", false),
            ("0.0.0.0:53", false),
            ("0.1.2.3:53", false),
            ("224.0.0.1:53", false),
            ("255.255.255.255:53", false),
            ("[2001:db8::1]:53", true),
            ("[2001:db8::1]:0", false),
            ("[::]:53", false),
            ("[ff02::1]:53", false),
        ] {
            assert_eq!(is_answerable(&source.parse().unwrap()), answerable, "{source}");
        }
    }
}
