//! The query log: a sample of the replies, on its way from the threads that answer to a file.
//!
//! ```text
//!   UDP or TCP thread ── Tap: one reply in so many ──▶ its ring ──┐
//!   UDP or TCP thread ── Tap ────────────────────────▶ its ring ──┴─▶ Logger, a thread: dnstap or JSON ──▶ file, FILE.1, FILE.2 …
//!                           └ full: dropped, counted                    └ cannot be written: lost, counted
//! ```
//! A thread that answers copies octets into memory of its own and goes on; it never waits, allocates, or makes a system call for the log. All that takes
//! time (what the question was, client subnets, names of zones, encoding, the disk) is the logger's.

mod dnstap;
mod entry;
mod file;
mod json;
mod message;
mod ring;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::dnstap::About;
use self::entry::{Entry, Facts, HEADER_WORDS, MAX_WORDS};
use self::file::{Counts, LogFile};
use self::json::Extra;
use self::ring::{Producer, RING_WORDS, Ring};
use super::{Registry, ThreadCounters};
use crate::answer::{Dice, Reply, Transport};
use crate::dns::Name;
use crate::world::{LogFormat, Published, QueryLog, World};

// Even the largest record fits an empty ring.
const _: () = assert!(MAX_WORDS <= RING_WORDS / 4);

/// From one look at the rings to the next, while something comes.
const BUSY: Duration = Duration::from_millis(10);
/// The same while nothing comes; so old at most is what cannot be seen in the file yet.
const QUIET: Duration = Duration::from_millis(50);
/// From one look whether there is anything to log at all to the next.
const OFF: Duration = Duration::from_millis(250);

/// Everything beside DNS and control work goes before the log, so many steps of `nice`.
const NICENESS: u8 = 10;

/// One thread's way into the log. It is `Send`, and belongs to one thread.
#[derive(Debug)]
pub struct Tap {
    producer: Producer,
    /// One reply in so many; 0 while nothing is logged.
    every: u32,
    /// Replies until the next one that is logged, and from there to the end of its group.
    left: u32,
    rest: u32,
    dice: Dice,
    time_ns: u64,
    generation: u64,
}

/// What a transport knows of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The query, without any length prefix.
    pub query: &'a [u8],
    /// Who asked.
    pub client: SocketAddr,
    /// Where it came in, as far as known.
    pub server: SocketAddr,
    /// How it came.
    pub transport: Transport,
}

impl Tap {
    /// Before a batch: what is to be logged now. `now` is since 1970.
    #[inline]
    pub fn begin(&mut self, world: &World, now: Duration) {
        match &world.server.query_log {
            None => self.every = 0,
            Some(log) => self.begin_logging(log, world.generation, now),
        }
    }

    #[cold]
    fn begin_logging(&mut self, log: &QueryLog, generation: u64, now: Duration) {
        self.time_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.generation = generation;
        let every = if self.producer.ring.is_allocated() { log.sample } else { 0 };
        if self.every != every {
            self.every = every;
            self.rest = 0;
            self.left = self.draw();
        }
    }

    /// Something is logged.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.every != 0
    }

    /// Counts a reply; true when it is to be logged. Of every group of `sample` replies it is one, at a random place: with a fixed one, of resolvers that
    /// ask for A and AAAA in turn only one of the two would ever be seen.
    #[inline]
    pub fn wants(&mut self) -> bool {
        self.every != 0 && self.is_next()
    }

    fn is_next(&mut self) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.left = self.rest;
        self.left += self.draw();
        true
    }

    /// A place in the next group.
    fn draw(&mut self) -> u32 {
        let place = ((u64::from(self.every) * (self.dice.roll() >> 32)) >> 32) as u32;
        self.rest = self.every.saturating_sub(1).saturating_sub(place);
        place
    }

    /// Logs a reply that [`Tap::wants`] chose, or drops it when the ring is full.
    pub fn record(&mut self, heard: &Heard<'_>, reply: &Reply, octets: &[u8], counters: &ThreadCounters) {
        let facts = Facts {
            time_ns: self.time_ns,
            generation: self.generation,
            zone: reply.zone_slot,
            pool: reply.pool_slot,
            client: heard.client,
            server: heard.server,
            transport: heard.transport,
            rcode: reply.rcode,
            truncated: reply.truncated,
            sample: self.every,
        };
        let octets = octets.get(..reply.len).unwrap_or(octets);
        let header: [u64; HEADER_WORDS] = facts.to_words(heard.query.len(), octets.len());
        counters.logged(self.producer.push(header, [heard.query, octets]));
    }
}

/// What the threads that answer and the logger share.
#[derive(Debug, Default)]
pub(super) struct Taps {
    inner: Mutex<Inner>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Inner {
    rings: Vec<Arc<Ring>>,
    is_on: bool,
    made: u64,
}

impl Taps {
    /// For one thread.
    pub(super) fn tap(&self) -> Tap {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = Arc::new(Ring::default());
        if inner.is_on {
            ring.allocate();
        }
        inner.rings.push(ring.clone());
        inner.made += 1;
        let dice = Dice::new(0, inner.made);
        Tap { producer: Producer::new(ring), every: 0, left: 0, rest: 0, dice, time_ns: 0, generation: 0 }
    }

    fn turn(&self, on: bool) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.is_on = on;
        if on {
            inner.rings.iter().for_each(|ring| ring.allocate());
        }
    }

    /// All that there are; those of threads that have ended only until they are empty.
    fn rings(&self) -> Vec<Arc<Ring>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.rings.retain(|ring| Arc::strong_count(ring) > 1 || !ring.is_empty());
        inner.rings.clone()
    }

    /// What the logger has counted.
    pub(super) fn totals(&self) -> LogTotals {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        let counts = &self.counts;
        LogTotals {
            written: read(&counts.written),
            octets: read(&counts.octets),
            lost: read(&counts.lost),
            rotations: read(&counts.rotations),
            errors: read(&counts.errors),
            ..LogTotals::default()
        }
    }
}

/// What became of logged replies. `sampled` = `dropped` + `lost` + `written` + those on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogTotals {
    /// Replies that were chosen to be logged.
    pub sampled: u64,
    /// Of them, dropped because a ring was full.
    pub dropped: u64,
    /// Of them, lost because the file could not be written.
    pub lost: u64,
    /// Of them, written.
    pub written: u64,
    /// Octets of those that were written.
    pub octets: u64,
    /// Files that were set aside.
    pub rotations: u64,
    /// Failed tries to open, write or rotate the file.
    pub errors: u64,
}

/// The thread that writes the log. Dropping it stops it as well, without waiting.
#[derive(Debug)]
pub struct Logger {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Logger {
    /// Begins to log what the published world asks for, now and whenever that changes. Fails only when a thread cannot be started.
    pub fn start(registry: &Registry, published: Arc<Published>) -> io::Result<Logger> {
        let stop = Arc::<AtomicBool>::default();
        let mut writer = Writer::new(registry.clone(), published);
        // Threads that start after this log from their first reply on.
        writer.look();
        let until = stop.clone();
        let thread = std::thread::Builder::new().name("query-log".into()).spawn(move || {
            // Where it is not possible all are equal.
            let _ = crate::sys::lower_priority(NICENESS);
            writer.run(&until);
        })?;
        Ok(Logger { stop, thread: Some(thread) })
    }

    /// Writes what the threads have left and ends the file. Blocks as long as the disk takes.
    pub fn stop(mut self) {
        self.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn signal(&self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.signal();
    }
}

/// The logger's work.
#[derive(Debug)]
struct Writer {
    registry: Registry,
    published: Arc<Published>,
    settings: Option<Arc<QueryLog>>,
    identity: Option<Box<[u8]>>,
    file: Option<LogFile>,
    names: Names,
    entry: Entry,
    room: Vec<u8>,
}

impl Writer {
    fn new(registry: Registry, published: Arc<Published>) -> Writer {
        let names = Names { registry: registry.clone(), known: HashMap::new() };
        Writer { registry, published, settings: None, identity: None, file: None, names, entry: Entry::default(), room: Vec::new() }
    }

    fn run(mut self, stop: &AtomicBool) {
        loop {
            let stopping = stop.load(Relaxed);
            let drained = self.drain();
            if let Some(file) = &mut self.file {
                file.flush();
                file.tend(Instant::now());
            }
            if stopping {
                if let Some(file) = &mut self.file {
                    file.finish();
                }
                return;
            }
            self.look();
            std::thread::park_timeout(match (&self.file, drained) {
                (None, _) => OFF,
                (Some(_), 0) => QUIET,
                (Some(_), _) => BUSY,
            });
        }
    }

    /// Takes over what is to be logged now.
    fn look(&mut self) {
        let server = |world: &World| (world.server.query_log.clone(), world.server.nsid.clone());
        let (wanted, identity) = self.published.with_world(server);
        self.identity = identity;
        let taps = &self.registry.query_log();
        match &wanted {
            None => {
                if let Some(mut file) = self.file.take() {
                    taps.turn(false);
                    file.finish();
                }
            }
            Some(settings) if self.settings == wanted && self.file.is_some() || self.file.as_mut().is_some_and(|file| file.adopt(settings)) => {}
            Some(settings) => {
                if let Some(mut file) = self.file.take() {
                    file.finish();
                }
                self.file = Some(LogFile::new(settings.clone(), taps.counts.clone()));
                taps.turn(true);
            }
        }
        self.settings = wanted;
    }

    /// Takes what is in the rings; says how much it was.
    fn drain(&mut self) -> usize {
        let mut drained = 0;
        let Writer { registry, settings, identity, file, names, entry, room, .. } = self;
        for ring in registry.query_log().rings() {
            ring.drain(|words| {
                drained += 1;
                match (&mut *file, &*settings) {
                    (Some(file), Some(settings)) if entry.read(words) => {
                        names.learn(entry);
                        // A message that we cannot cope with costs its record, and not the log.
                        file.append(|out| catch_unwind(AssertUnwindSafe(|| encode(entry, settings, identity.as_deref(), names, room, out))).is_ok());
                    }
                    // Turned off while a batch was under way.
                    _ => drop(registry.query_log().counts.lost.fetch_add(1, Relaxed)),
                }
            });
        }
        drained
    }
}

fn encode(entry: &mut Entry, settings: &QueryLog, identity: Option<&[u8]>, names: &Names, room: &mut Vec<u8>, out: &mut Vec<u8>) {
    let (zone, pool) = (names.of(entry.facts.zone), names.of(entry.facts.pool));
    let prefix = settings.client_prefix;
    let extra = Extra::new(entry, zone.map(|zone| &*zone.text), pool.map(|pool| &*pool.text), prefix);
    let client = entry.facts.client.ip();
    let client = prefix.map_or(client, |prefix| message::cut(client, prefix));
    match settings.format {
        LogFormat::Json => json::write(entry, client, extra, out),
        LogFormat::Dnstap => {
            let extra = serde_json::to_string(&extra).unwrap_or_default();
            let may_show = |message: &mut Vec<u8>| prefix.is_none_or(|prefix| message::conceal(message, prefix));
            let (with_query, with_reply) = (may_show(&mut entry.query), may_show(&mut entry.reply));
            let zone = zone.and_then(|zone| zone.name.as_ref()).map(Name::as_wire);
            dnstap::write(entry, &About { identity, zone, extra: &extra, with_query, with_reply, client }, room, out);
        }
    }
}

/// Names of counter slots, as far as they have come up.
#[derive(Debug)]
struct Names {
    registry: Registry,
    known: HashMap<u32, Named>,
}

/// A zone or a pool.
#[derive(Debug)]
struct Named {
    text: String,
    /// Of a zone.
    name: Option<Name>,
}

impl Names {
    fn learn(&mut self, entry: &Entry) {
        for slot in [entry.facts.zone, entry.facts.pool].into_iter().flatten() {
            if self.known.contains_key(&slot) {
                continue;
            }
            // Slots are assigned as `zone NAME` and `pool ID`, and keep their name.
            let Some(assigned) = self.registry.name(slot) else { continue };
            let (kind, text) = assigned.split_once(' ').unwrap_or(("", &assigned));
            let name = if kind == "zone" { Name::parse_absolute(text).ok() } else { None };
            self.known.insert(slot, Named { text: text.to_owned(), name });
        }
    }

    fn of(&self, slot: Option<u32>) -> Option<&Named> {
        self.known.get(&slot?)
    }
}

#[cfg(test)]
mod tests;
