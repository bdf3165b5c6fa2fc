//! L4: counters, and what the program says. Each serving thread counts into a block of its own; whoever wants a figure sums the blocks.
//!
//! ```text
//! Registry ─ thread() ─▶ ThreadCounters ──counts──▶ Block ┐
//!     │                  ThreadCounters ──counts──▶ Block ┤◀── totals(), slot(i) sum with relaxed loads
//!     └─ assign(name) ─▶ slot number, used in `Reply`     ┘
//! ```
//!
//! A block has one writer at a time, so counting is a load and a store: no locked instruction, no cache line that two threads write. Readers may
//! see one counter a moment before another; each one by itself only ever grows. What happens per connection rather than per query
//! ([`Connections`]) is shared and counted with ordinary atomic addition.

mod certificates;
mod connections;
mod log;
pub mod operations;
mod query_log;
mod seldom;

use std::cell::Cell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::answer::{Outcome, Transport};
use crate::dns::Rcode;
pub use certificates::CertificateFacts;
pub use connections::{ConnectionTotals, Connections};
pub use log::Log;
pub use query_log::{Heard, LogTotals, Logger, Tap};
pub use seldom::Seldom;

/// Counters in one chunk of slots: 8 KiB, two pages.
const CHUNK_LEN: usize = 1024;

/// Chunks that a block can have.
const MAX_CHUNKS: usize = 1024;

/// Zones and pools that can have a counter of their own; the rest share [`OVERFLOW_SLOT`].
pub const MAX_SLOTS: u32 = (CHUNK_LEN * MAX_CHUNKS) as u32;

/// The slot of everything beyond [`MAX_SLOTS`].
pub const OVERFLOW_SLOT: u32 = 0;

/// RCODEs 0 to 16 have a counter each (RFC 6895 §2.3 up to BADVERS), the rest share the last.
pub const RCODE_BUCKETS: usize = 18;

/// Batches of 1, 2–3, 4–7, 8–15, 16–31 and at least 32 messages.
pub const FILL_BUCKETS: usize = 6;

/// What can be limited, as labels name it: the kinds of replies in the order of [`crate::answer::Kind`], and queries.
pub const LIMIT_CLASSES: [&str; 6] = ["answer", "nodata", "nxdomain", "referral", "error", "query"];

/// What rate limits did in one thread; over UDP only.
#[derive(Debug, Default)]
struct LimitBlock {
    classes: [AtomicU64; LIMIT_CLASSES.len()],
    slipped: AtomicU64,
    uncounted: AtomicU64,
    kernel_dropped: AtomicU64,
    filtered: AtomicU64,
}

/// What one thread gave to the query log.
#[derive(Debug, Default)]
struct LogBlock {
    sampled: AtomicU64,
    dropped: AtomicU64,
}

/// Everything counted for one transport in one thread.
#[derive(Debug, Default)]
struct TransportBlock {
    queries: AtomicU64,
    rcodes: [AtomicU64; RCODE_BUCKETS],
    truncated: AtomicU64,
    dropped: AtomicU64,
    malformed: AtomicU64,
    panics: AtomicU64,
    send_errors: AtomicU64,
    receive_errors: AtomicU64,
    batches: AtomicU64,
    fill: [AtomicU64; FILL_BUCKETS],
}

type Chunk = Box<[AtomicU64]>;

/// One thread's counters. Two cache lines of alignment: the prefetcher fetches lines in pairs.
#[repr(align(128))]
struct Block {
    transports: [TransportBlock; Transport::ALL.len()],
    limits: LimitBlock,
    log: LogBlock,
    /// Made by the registry before it gives out a slot number in them; never moved or removed.
    chunks: Box<[OnceLock<Chunk>]>,
}

impl Block {
    fn new(chunks: usize) -> Block {
        let block = Block {
            transports: Default::default(),
            limits: LimitBlock::default(),
            log: LogBlock::default(),
            chunks: (0..MAX_CHUNKS).map(|_| OnceLock::new()).collect(),
        };
        block.grow(chunks);
        block
    }

    fn grow(&self, chunks: usize) {
        for chunk in &self.chunks[..chunks] {
            chunk.get_or_init(|| (0..CHUNK_LEN).map(|_| AtomicU64::new(0)).collect());
        }
    }

    fn slot(&self, slot: u32) -> Option<&AtomicU64> {
        self.chunks.get(slot as usize / CHUNK_LEN)?.get()?.get(slot as usize % CHUNK_LEN)
    }

    fn transport(&self, transport: Transport) -> &TransportBlock {
        // As many as there are transports, so this is no check.
        &self.transports[transport as usize]
    }
}

/// A counter with one writer: a plain load and a plain store.
#[inline]
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

/// The only writer of one block. It may move to another thread, but not be shared by two: it is `Send` and not `Sync`.
pub struct ThreadCounters {
    /// Always there until the drop hands it back.
    block: Arc<Block>,
    registry: Arc<Shared>,
    not_sync: PhantomData<Cell<()>>,
}

impl std::fmt::Debug for ThreadCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ThreadCounters")
    }
}

impl ThreadCounters {
    /// Counts a batch of `queries` messages as received.
    #[inline]
    pub fn received(&self, transport: Transport, queries: usize) {
        let counters = self.block.transport(transport);
        bump(&counters.queries, queries as u64);
        bump(&counters.batches, 1);
        bump(&counters.fill[(queries.max(1).ilog2() as usize).min(FILL_BUCKETS - 1)], 1);
    }

    /// Counts what the engine made of one message.
    #[inline]
    pub fn answered(&self, transport: Transport, outcome: &Outcome) {
        let counters = self.block.transport(transport);
        let Outcome::Reply(reply) = outcome else {
            bump(&counters.dropped, 1);
            return;
        };
        bump(&counters.rcodes[usize::from(reply.rcode.0).min(RCODE_BUCKETS - 1)], 1);
        if reply.truncated {
            bump(&counters.truncated, 1);
        }
        if reply.rcode == Rcode::FORMERR {
            bump(&counters.malformed, 1);
        }
        for slot in [reply.zone_slot, reply.pool_slot, reply.policy_slot].into_iter().flatten() {
            if let Some(counter) = self.block.slot(slot) {
                bump(counter, 1);
            }
        }
    }

    /// Counts a message that is not worth an engine call: too long for the buffer, or an empty frame.
    pub fn malformed(&self, transport: Transport) {
        bump(&self.block.transport(transport).malformed, 1);
        bump(&self.block.transport(transport).dropped, 1);
    }

    /// Counts a message that is dropped for where it comes from or goes to.
    pub fn dropped(&self, transport: Transport) {
        bump(&self.block.transport(transport).dropped, 1);
    }

    /// Counts a panic of the engine; returns how many there have been in this thread and transport.
    pub fn panicked(&self, transport: Transport) -> u64 {
        let counters = self.block.transport(transport);
        bump(&counters.panics, 1);
        counters.panics.load(Relaxed)
    }

    /// Counts what was over its limit, by class, and what could not be counted for lack of room.
    pub fn limited(&self, classes: &[u32; LIMIT_CLASSES.len()], uncounted: u32) {
        for (counter, by) in self.block.limits.classes.iter().zip(classes) {
            bump(counter, u64::from(*by));
        }
        bump(&self.block.limits.uncounted, u64::from(uncounted));
    }

    /// Counts datagrams that the kernel dropped on our sockets.
    pub fn kernel_dropped(&self, datagrams: u64) {
        bump(&self.block.limits.kernel_dropped, datagrams);
    }

    /// So many prefixes more (or less) than before are blocked in the kernel.
    pub fn filter(&self, more: i64) {
        bump(&self.block.limits.filtered, more as u64);
    }

    /// Counts a reply that was over its limit and sent cut short.
    pub fn slipped(&self) {
        bump(&self.block.limits.slipped, 1);
    }

    /// Counts a reply that was chosen for the query log, and whether there was room for it.
    pub fn logged(&self, fitted: bool) {
        bump(&self.block.log.sampled, 1);
        if !fitted {
            bump(&self.block.log.dropped, 1);
        }
    }

    /// The thread's way into the query log.
    pub fn tap(&self) -> Tap {
        self.registry.taps.tap()
    }

    /// Counts replies that the kernel did not take.
    pub fn send_failed(&self, transport: Transport, replies: usize) {
        bump(&self.block.transport(transport).send_errors, replies as u64);
    }

    /// Counts a failed receive call.
    pub fn receive_failed(&self, transport: Transport) {
        bump(&self.block.transport(transport).receive_errors, 1);
    }
}

impl Drop for ThreadCounters {
    fn drop(&mut self) {
        // The sums must not fall when a thread ends, so the block stays, and the next thread goes on with it.
        self.registry.lock().idle.push(self.block.clone());
    }
}

#[derive(Default)]
struct Inner {
    blocks: Vec<Arc<Block>>,
    /// Blocks whose writer has gone.
    idle: Vec<Arc<Block>>,
    /// Name to slot, for the life of the process.
    names: HashMap<Arc<str>, u32>,
    /// The same by slot; the first is nobody's.
    by_slot: Vec<Arc<str>>,
    /// The next slot to give out; slot 0 is taken.
    next: u32,
    /// Chunks that every block has.
    chunks: usize,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    connections: [Connections; Transport::ALL.len()],
    certificates: certificates::Certificates,
    lacking: certificates::Lacking,
    taps: query_log::Taps,
    operations: operations::Operations,
    log: Log,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock leaves it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All counters of the process. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}

impl Registry {
    /// Nothing counted yet.
    pub fn new() -> Registry {
        let shared = Shared::default();
        *shared.lock() = Inner { next: OVERFLOW_SLOT + 1, chunks: 1, by_slot: vec!["".into()], ..Inner::default() };
        Registry(Arc::new(shared))
    }

    /// Counters for one thread. Takes a lock and may allocate: once per thread, not per query.
    pub fn thread(&self) -> ThreadCounters {
        let mut inner = self.0.lock();
        let block = match inner.idle.pop() {
            Some(block) => block,
            None => {
                let block = Arc::new(Block::new(inner.chunks));
                inner.blocks.push(block.clone());
                block
            }
        };
        drop(inner);
        ThreadCounters { block, registry: self.0.clone(), not_sync: PhantomData }
    }

    /// The counter slot of `name` (a zone or a pool, told apart by how the caller spells them); the same for the life of the process.
    /// When it returns, every thread can count there.
    pub fn assign(&self, name: &str) -> u32 {
        let mut inner = self.0.lock();
        if let Some(slot) = inner.names.get(name) {
            return *slot;
        }
        if inner.next >= MAX_SLOTS {
            return OVERFLOW_SLOT;
        }
        let slot = inner.next;
        inner.next += 1;
        let name: Arc<str> = name.into();
        inner.names.insert(name.clone(), slot);
        inner.by_slot.push(name);
        let chunks = slot as usize / CHUNK_LEN + 1;
        if chunks > inner.chunks {
            inner.chunks = chunks;
            inner.blocks.iter().for_each(|block| block.grow(chunks));
        }
        slot
    }

    /// What `slot` was assigned to.
    pub fn name(&self, slot: u32) -> Option<Arc<str>> {
        self.0.lock().by_slot.get(slot as usize).filter(|name| !name.is_empty()).cloned()
    }

    /// Where it is counted how long things took.
    pub fn operations(&self) -> &operations::Operations {
        &self.0.operations
    }

    /// What the program says, on its way to standard error.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// What there is to say of the certificates of listeners, as of the last look.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        self.0.certificates.get()
    }

    /// What listeners lack, in sentences, as of the last look.
    pub fn lacking(&self) -> Vec<String> {
        self.0.lacking.get()
    }

    /// Replaces what is said of what one listener lacks.
    pub fn lacks(&self, listener: &str, what: Vec<String>) {
        self.0.lacking.set(listener, what);
    }

    /// Replaces what is said of one listener's certificate.
    pub fn certify(&self, facts: CertificateFacts) {
        self.0.certificates.set(facts);
    }

    fn query_log(&self) -> &query_log::Taps {
        &self.0.taps
    }

    /// What all threads counted in `slot`; 0 for one that was never assigned.
    pub fn slot(&self, slot: u32) -> u64 {
        self.0.lock().blocks.iter().filter_map(|block| block.slot(slot)).map(|counter| counter.load(Relaxed)).sum()
    }

    /// The sums over all threads.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { query_log: self.0.taps.totals(), ..Totals::default() };
        for block in &self.0.lock().blocks {
            let Totals { udp, tcp, tls, https, quic, .. } = &mut totals;
            [udp, tcp, tls, https, quic].into_iter().zip(&block.transports).for_each(|(sum, block)| sum.add(block));
            for (sum, counter) in totals.limited.iter_mut().zip(&block.limits.classes) {
                *sum += counter.load(Relaxed);
            }
            totals.slipped += block.limits.slipped.load(Relaxed);
            totals.kernel_dropped += block.limits.kernel_dropped.load(Relaxed);
            totals.filtered = totals.filtered.wrapping_add(block.limits.filtered.load(Relaxed));
            totals.uncounted += block.limits.uncounted.load(Relaxed);
            totals.query_log.sampled += block.log.sampled.load(Relaxed);
            totals.query_log.dropped += block.log.dropped.load(Relaxed);
        }
        let Totals { tcp_connections, tls_connections, https_connections, quic_connections, .. } = &mut totals;
        for (sum, transport) in [tcp_connections, tls_connections, https_connections, quic_connections].into_iter().zip(&Transport::ALL[1..]) {
            *sum = self.connections(*transport).totals();
        }
        totals
    }

    /// Where the connections of a transport are counted.
    pub fn connections(&self, transport: Transport) -> &Connections {
        // As many as there are transports, so this is no check.
        &self.0.connections[transport as usize]
    }
}

/// Sums over all threads, as of about now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Over UDP.
    pub udp: TransportTotals,
    /// Over TCP.
    pub tcp: TransportTotals,
    /// Over TLS.
    pub tls: TransportTotals,
    /// Over HTTPS.
    pub https: TransportTotals,
    /// Over QUIC.
    pub quic: TransportTotals,
    /// Queries and replies over their limit, in the order of [`LIMIT_CLASSES`].
    pub limited: [u64; LIMIT_CLASSES.len()],
    /// Of them, sent cut short.
    pub slipped: u64,
    /// Queries and replies that no limit applied to because the table was full.
    pub uncounted: u64,
    /// Datagrams that the kernel dropped on our sockets, by the filter or for lack of room; known only with the filter.
    pub kernel_dropped: u64,
    /// Prefixes that the filter blocks now.
    pub filtered: u64,
    /// What became of logged replies.
    pub query_log: LogTotals,
    /// Connections over TCP.
    pub tcp_connections: ConnectionTotals,
    /// Connections over TLS.
    pub tls_connections: ConnectionTotals,
    /// Connections over HTTPS.
    pub https_connections: ConnectionTotals,
    /// Connections over QUIC.
    pub quic_connections: ConnectionTotals,
}

impl Totals {
    /// The sums of each transport, by its name.
    pub fn transports(&self) -> [(&'static str, &TransportTotals); Transport::ALL.len()] {
        let Totals { udp, tcp, tls, https, quic, .. } = self;
        [("udp", udp), ("tcp", tcp), ("tls", tls), ("https", https), ("quic", quic)]
    }

    /// The connections of the encrypted transports, by name.
    pub fn encrypted(&self) -> [(&'static str, &ConnectionTotals); 3] {
        [("tls", &self.tls_connections), ("https", &self.https_connections), ("quic", &self.quic_connections)]
    }
}

/// Sums for one transport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportTotals {
    /// Messages received.
    pub queries: u64,
    /// Replies by RCODE; index 17 is every code above 16.
    pub rcodes: [u64; RCODE_BUCKETS],
    /// Replies with TC.
    pub truncated: u64,
    /// Messages that got no reply on purpose.
    pub dropped: u64,
    /// Messages that are no proper query: FORMERR, too long, empty.
    pub malformed: u64,
    /// Engine panics; each cost one reply.
    pub panics: u64,
    /// Replies that the kernel did not take.
    pub send_errors: u64,
    /// Receive calls that failed.
    pub receive_errors: u64,
    /// Receive calls that brought something.
    pub batches: u64,
    /// Batches by size: 1, 2–3, 4–7, 8–15, 16–31, more.
    pub fill: [u64; FILL_BUCKETS],
}

impl TransportTotals {
    fn add(&mut self, block: &TransportBlock) {
        let pairs = [
            (&mut self.queries, &block.queries),
            (&mut self.truncated, &block.truncated),
            (&mut self.dropped, &block.dropped),
            (&mut self.malformed, &block.malformed),
            (&mut self.panics, &block.panics),
            (&mut self.send_errors, &block.send_errors),
            (&mut self.receive_errors, &block.receive_errors),
            (&mut self.batches, &block.batches),
        ];
        let rcodes = self.rcodes.iter_mut().zip(&block.rcodes);
        let fill = self.fill.iter_mut().zip(&block.fill);
        for (sum, counter) in pairs.into_iter().chain(rcodes).chain(fill) {
            *sum += counter.load(Relaxed);
        }
    }

    /// Replies of any RCODE.
    pub fn replies(&self) -> u64 {
        self.rcodes.iter().sum()
    }

    /// Replies by the name of their RCODE, `other` for the rest; those that never occurred are left out.
    pub fn by_rcode(&self) -> Vec<(String, u64)> {
        let name = |code: usize| if code == RCODE_BUCKETS - 1 { "other".to_owned() } else { Rcode(code as u16).to_string() };
        self.rcodes.iter().enumerate().filter(|(_, count)| **count > 0).map(|(code, count)| (name(code), *count)).collect()
    }

    /// The plain counters with their names, for whoever prints them.
    pub fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("queries", self.queries),
            ("truncated", self.truncated),
            ("dropped", self.dropped),
            ("malformed", self.malformed),
            ("panics", self.panics),
            ("send_errors", self.send_errors),
            ("receive_errors", self.receive_errors),
            ("batches", self.batches),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{CookieState, Kind, Reply};

    fn reply(rcode: Rcode, zone_slot: Option<u32>, pool_slot: Option<u32>) -> Outcome {
        Outcome::Reply(Reply {
            len: 12,
            rcode,
            truncated: rcode == Rcode::NOERROR,
            question_end: 12,
            opt_len: 0,
            kind: Kind::Answer,
            subject: 0,
            zone_slot,
            pool_slot,
            policy_slot: None,
            cookie: CookieState::None,
            audience: crate::answer::Audience::Everybody,
        })
    }

    #[test]
    fn a_name_keeps_its_slot_and_no_two_share_one() {
        let registry = Registry::new();
        let slots: Vec<u32> = (0..3000).map(|n| registry.assign(&format!("zone {n}"))).collect();
        let mut distinct = slots.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), slots.len());
        assert!(!slots.contains(&OVERFLOW_SLOT));
        for (n, slot) in slots.iter().enumerate() {
            assert_eq!(registry.assign(&format!("zone {n}")), *slot);
        }
    }

    #[test]
    fn threads_are_summed_and_their_counts_outlive_them() {
        let registry = Registry::new();
        let before = registry.thread();
        let (zone, pool) = (registry.assign("zone"), registry.assign("pool"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let counters = registry.thread();
                    counters.received(Transport::Udp, 1000);
                    for _ in 0..1000 {
                        counters.answered(Transport::Udp, &reply(Rcode::NOERROR, Some(zone), Some(pool)));
                    }
                });
            }
        });
        before.answered(Transport::Tcp, &reply(Rcode::FORMERR, Some(zone), None));
        before.answered(Transport::Tcp, &reply(Rcode(3000), None, None));
        before.answered(Transport::Tcp, &Outcome::Silence);
        let totals = registry.totals();
        assert_eq!((registry.slot(zone), registry.slot(pool)), (4001, 4000));
        assert_eq!((totals.udp.queries, totals.udp.replies(), totals.udp.truncated, totals.udp.batches), (4000, 4000, 4000, 4));
        assert_eq!((totals.tcp.malformed, totals.tcp.dropped, totals.tcp.replies()), (1, 1, 2));
        assert_eq!(totals.tcp.by_rcode(), [("FORMERR".to_owned(), 1), ("other".to_owned(), 1)]);
        assert_eq!(totals.udp.fill, [0, 0, 0, 0, 0, 4]);
    }

    #[test]
    fn a_slot_can_be_counted_by_threads_older_than_it() {
        let registry = Registry::new();
        let old = registry.thread();
        let last = (0..5 * CHUNK_LEN).map(|n| registry.assign(&n.to_string())).max();
        old.answered(Transport::Udp, &reply(Rcode::NOERROR, last, None));
        assert_eq!(last.map(|slot| registry.slot(slot)), Some(1));
    }

    #[test]
    fn a_slot_that_was_never_assigned_counts_nothing() {
        let registry = Registry::new();
        let counters = registry.thread();
        for slot in [CHUNK_LEN as u32, MAX_SLOTS, u32::MAX] {
            counters.answered(Transport::Udp, &reply(Rcode::NOERROR, Some(slot), None));
            assert_eq!(registry.slot(slot), 0);
        }
    }

    #[test]
    fn ended_threads_leave_their_block_to_the_next() {
        let registry = Registry::new();
        for _ in 0..100 {
            registry.thread().received(Transport::Udp, 1);
        }
        assert_eq!(registry.0.lock().blocks.len(), 1);
        assert_eq!(registry.totals().udp.queries, 100);
    }

    #[test]
    fn counting_allocates_nothing() {
        let registry = Registry::new();
        let counters = registry.thread();
        let slot = registry.assign("zone");
        let allocations = crate::sys::counting::allocations_in(|| {
            counters.received(Transport::Udp, 32);
            counters.answered(Transport::Udp, &reply(Rcode::NOERROR, Some(slot), Some(slot)));
        });
        assert_eq!((allocations, registry.slot(slot)), (0, 2));
    }
}
