//! The open connections of one transport, of all threads: how many there may be, and who has to go when there are too many.
//!
//! Nobody is refused: a new connection pushes out another, of the same client if that client has its fill, else of all. So a flood fights with itself
//! first, and a client that asks now is served now.
//!
//! ```text
//! handshakes have their share of the places, or more    the handshake that began first
//! else                                                  the connection that has been quiet the longest (of a sample of all)
//! ```
//!
//! So connections that are at work lose no more than that share to handshakes that never end, and whoever comes where all places are taken has the time for
//! a handshake. Over TCP there are none.
//!
//! The lock is taken when a connection begins, when its handshake is over and when it ends, never for a query. Whoever is pushed out is shut down at once, by whichever thread
//! that is; the thread that it belongs to learns of that as of any other end of stream.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::net::TcpStream;

use crate::answer::{Dice, Transport};
use crate::telemetry::{Connections as Counters, Registry};

/// Connections looked at to find a quiet one. The quietest of 32 at random is among the quietest tenth of all with 97 %; looking at all would make
/// each connection of a flood cost thousands of reads.
const SAMPLE_LEN: usize = 32;

/// Of the places, in all and of a client: one in so many is for handshakes, one at least.
const HANDSHAKES: usize = 8;

/// In no place.
const NOWHERE: usize = usize::MAX;

/// How a connection is ended by somebody else than who serves it.
pub(super) trait Close {
    /// Whoever serves it hears of it soon.
    fn close(&self);
}

impl Close for TcpStream {
    fn close(&self) {
        // Its thread hears of it as an end of stream; where that fails, the peer has ended it already.
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// What a connection's thread and the table share.
#[derive(Debug)]
pub(super) struct Link<S = TcpStream> {
    pub(super) stream: S,
    /// Written by its thread when it has answered, read by whoever looks for a quiet one: nanoseconds on the clock of the service.
    answered_ns: AtomicU64,
    /// Set by whoever pushes it out.
    evicted: AtomicBool,
    /// Where it is in the table; written under the lock.
    place: AtomicUsize,
    /// True until its handshake is over; written under the lock.
    in_handshake: AtomicBool,
    /// Which connection of the table it is; written under the lock.
    number: AtomicU64,
}

impl<S: Close> Link<S> {
    pub(super) fn new(stream: S, now_ns: u64) -> Link<S> {
        Link { stream, answered_ns: now_ns.into(), evicted: false.into(), place: NOWHERE.into(), in_handshake: false.into(), number: 0.into() }
    }

    /// One that begins with a handshake.
    pub(super) fn in_handshake(stream: S, now_ns: u64) -> Link<S> {
        Link { in_handshake: true.into(), ..Link::new(stream, now_ns) }
    }

    /// It has been of use.
    #[inline]
    pub(super) fn answered(&self, now_ns: u64) {
        self.answered_ns.store(now_ns, Relaxed);
    }

    /// True once it has to go.
    #[inline]
    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    fn evict(&self) {
        self.evicted.store(true, Relaxed);
        self.stream.close();
    }
}

#[derive(Debug)]
struct Entry<S> {
    client: IpAddr,
    link: Arc<Link<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    entries: Vec<Entry<S>>,
    /// The connections of one client, oldest first; never empty.
    by_client: HashMap<IpAddr, Vec<Arc<Link<S>>>>,
    /// Those in their handshake, by their numbers: the first began first.
    in_handshake: BTreeMap<u64, Arc<Link<S>>>,
    entered: u64,
    dice: Dice,
}

/// The table of open connections.
#[derive(Debug)]
pub(super) struct Connections<S = TcpStream> {
    inner: Mutex<Inner<S>>,
    registry: Registry,
    transport: Transport,
    total: usize,
    per_client: usize,
}

/// Who counts as one client: an IPv4 address, or an IPv6 /64, which is what a host can choose its addresses from.
pub(super) fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

impl<S: Close> Connections<S> {
    pub(super) fn new(total: usize, per_client: usize, dice: Dice, registry: Registry, transport: Transport) -> Connections<S> {
        let inner = Inner { entries: Vec::new(), by_client: HashMap::new(), in_handshake: BTreeMap::new(), entered: 0, dice };
        Connections { inner: Mutex::new(inner), registry, transport, total: total.max(1), per_client: per_client.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // Nothing under this lock can panic half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self) -> &Counters {
        self.registry.connections(self.transport)
    }

    /// How many there can be.
    pub(super) fn places(&self) -> usize {
        self.total
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        usize::try_from(self.counters().open.load(Relaxed)).unwrap_or(0)
    }

    /// Written under the lock, so that it never exceeds the limit.
    fn tell_open(&self, inner: &Inner<S>) {
        let told = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.counters().open.store(told(inner.entries.len()), Relaxed);
        self.counters().in_handshake.store(told(inner.in_handshake.len()), Relaxed);
    }

    /// Enters a new connection of `peer`, and pushes out others if there are too many.
    pub(super) fn enter(&self, peer: IpAddr, link: &Arc<Link<S>>) {
        let client = client_of(peer);
        // Empty as a rule, and then it allocates nothing.
        let mut evicted = Vec::new();
        let mut inner = self.lock();
        let handshakes = inner.in_handshake.len();
        while inner.by_client.get(&client).is_some_and(|links| links.len() >= self.per_client) {
            evicted.extend(inner.evict_of(client, share(self.per_client)));
        }
        while inner.entries.len() >= self.total {
            evicted.extend(inner.evict_any(share(self.total)));
        }
        let evicted_handshakes = handshakes - inner.in_handshake.len();
        link.place.store(inner.entries.len(), Relaxed);
        if link.in_handshake.load(Relaxed) {
            inner.entered += 1;
            link.number.store(inner.entered, Relaxed);
            let number = inner.entered;
            inner.in_handshake.insert(number, link.clone());
        }
        inner.by_client.entry(client).or_default().push(link.clone());
        inner.entries.push(Entry { client, link: link.clone() });
        self.tell_open(&inner);
        drop(inner);
        let counters = self.counters();
        counters.evicted.fetch_add(evicted.len() as u64, Relaxed);
        counters.evicted_handshakes.fetch_add(evicted_handshakes as u64, Relaxed);
        counters.accepted.fetch_add(1, Relaxed);
        evicted.iter().for_each(|link| link.evict());
    }

    /// Pushes one out, if there is any: files have run out.
    pub(super) fn make_room(&self) {
        let mut inner = self.lock();
        let handshakes = inner.in_handshake.len();
        let evicted = inner.evict_any(1);
        let evicted_handshakes = handshakes - inner.in_handshake.len();
        self.tell_open(&inner);
        drop(inner);
        if let Some(link) = evicted {
            self.counters().evicted.fetch_add(1, Relaxed);
            self.counters().evicted_handshakes.fetch_add(evicted_handshakes as u64, Relaxed);
            link.evict();
        }
    }

    /// The handshake of a connection has come to its end.
    pub(super) fn established(&self, link: &Link<S>, now_ns: u64) {
        link.answered(now_ns);
        let mut inner = self.lock();
        inner.is_over(link);
        self.tell_open(&inner);
    }

    /// A connection has ended. One that was pushed out before is no news.
    pub(super) fn leave(&self, link: &Link<S>) {
        let mut inner = self.lock();
        inner.remove(link.place.load(Relaxed));
        self.tell_open(&inner);
    }
}

/// How many of these places are for handshakes.
fn share(places: usize) -> usize {
    (places / HANDSHAKES).max(1)
}

impl<S: Close> Inner<S> {
    /// Its handshake is over, one way or another.
    fn is_over(&mut self, link: &Link<S>) {
        if link.in_handshake.swap(false, Relaxed) {
            self.in_handshake.remove(&link.number.load(Relaxed));
        }
    }

    fn remove(&mut self, place: usize) -> Option<Arc<Link<S>>> {
        if place >= self.entries.len() {
            return None;
        }
        let Entry { client, link } = self.entries.swap_remove(place);
        link.place.store(NOWHERE, Relaxed);
        self.is_over(&link);
        if let Some(moved) = self.entries.get(place) {
            moved.link.place.store(place, Relaxed);
        }
        if let Some(links) = self.by_client.get_mut(&client) {
            links.retain(|other| !Arc::ptr_eq(other, &link));
            if links.is_empty() {
                self.by_client.remove(&client);
            }
        }
        Some(link)
    }

    /// One of a client, who has `share` places for handshakes.
    fn evict_of(&mut self, client: IpAddr, share: usize) -> Option<Arc<Link<S>>> {
        let links = self.by_client.get(&client)?;
        let mut handshakes = links.iter().filter(|link| link.in_handshake.load(Relaxed));
        let oldest = handshakes.next();
        let at_work = links.iter().filter(|link| !link.in_handshake.load(Relaxed));
        let quietest = at_work.min_by_key(|link| link.answered_ns.load(Relaxed));
        let has_share = oldest.is_some() && 1 + handshakes.count() >= share;
        let goes = if has_share { oldest } else { quietest.or(oldest) };
        let place = goes?.place.load(Relaxed);
        self.remove(place)
    }

    /// One of all, where `share` places are for handshakes.
    fn evict_any(&mut self, share: usize) -> Option<Arc<Link<S>>> {
        let has_share = self.in_handshake.len() >= share;
        let Inner { entries, in_handshake, dice, .. } = self;
        let quiet = |at: usize| {
            let link = &entries.get(at)?.link;
            (!link.in_handshake.load(Relaxed)).then(|| (link.answered_ns.load(Relaxed), at))
        };
        let oldest = in_handshake.first_key_value().map(|(_, link)| link.place.load(Relaxed));
        let goes = match entries.len() {
            _ if has_share => oldest,
            len @ 0..=SAMPLE_LEN => (0..len).filter_map(quiet).min().map(|(_, at)| at),
            len => (0..SAMPLE_LEN).filter_map(|_| quiet((dice.roll() % len as u64) as usize)).min().map(|(_, at)| at),
        };
        self.remove(goes.or(oldest)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(n: usize) -> IpAddr {
        IpAddr::from([192, 0, (n >> 8) as u8, n as u8])
    }

    #[test]
    fn the_quietest_goes_of_the_same_client_first() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let registry = Registry::new();
        let table = Connections::new(6, 3, Dice::new(0, 1), registry.clone(), Transport::Tcp);
        let link = |at_ns: u64| Arc::new(Link::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap(), at_ns));
        let totals =
            || (registry.totals().tcp_connections.open, registry.totals().tcp_connections.accepted, registry.totals().tcp_connections.evicted);
        let links: Vec<Arc<Link>> = (0..6).map(|n| link(100 + n)).collect();
        // Three of client 0, two of client 1, one of client 2.
        [0, 0, 0, 1, 1, 2].iter().zip(&links).for_each(|(client, link)| table.enter(address(*client), link));
        assert_eq!(totals(), (6, 6, 0));
        links[0].answered(1000);
        let evicted = || (0..links.len()).filter(|n| links[*n].is_evicted()).collect::<Vec<_>>();
        let fourth = link(200);
        table.enter(address(0), &fourth);
        assert_eq!((evicted(), totals()), (vec![1], (6, 7, 1)));
        // All places are taken: the quietest of all.
        let other = link(201);
        table.enter(address(3), &other);
        assert_eq!((evicted(), totals()), (vec![1, 2], (6, 8, 2)));
        // Who is gone already leaves without a trace.
        table.leave(&links[1]);
        assert_eq!(totals(), (6, 8, 2));
        table.leave(&links[3]);
        table.leave(&links[3]);
        table.leave(&other);
        assert_eq!(totals(), (4, 8, 2));
        table.make_room();
        assert_eq!((evicted(), totals()), (vec![1, 2, 4], (3, 8, 3)));
        [&links[0], &links[5], &fourth].into_iter().for_each(|link| table.leave(link));
        table.make_room();
        assert_eq!(totals(), (0, 8, 3));
        let inner = table.lock();
        assert!(inner.entries.is_empty() && inner.by_client.is_empty());
    }

    #[derive(Debug, Default)]
    struct Told;

    impl Close for Told {
        fn close(&self) {}
    }

    /// What is at work loses an eighth of the places at most, and the quietest first; then handshakes push out each other, the oldest first.
    #[test]
    fn handshakes_that_never_end_push_out_each_other() {
        let beginning = |at_ns: u64| Arc::new(Link::in_handshake(Told, at_ns));
        // In all, of a client; whether all come from one; how many are at work, how many of them are left.
        for (total, per_client, is_one, at_work, left) in
            [(80, 80, true, 80, 70), (80, 80, false, 80, 70), (80, 80, false, 60, 60), (80, 16, true, 16, 14), (4, 4, true, 4, 3), (1, 1, true, 1, 0)]
        {
            let table = Connections::new(total, per_client, Dice::new(0, 1), Registry::new(), Transport::Tls);
            let from = |n: usize| address(if is_one { 0 } else { n });
            let working: Vec<_> = (0..at_work).map(|n| (n, beginning(0))).collect();
            for (n, link) in &working {
                table.enter(from(*n), link);
                table.established(link, 1000 + *n as u64);
            }
            let flood: Vec<_> = (0..500).map(|n| beginning(2000 + n as u64)).collect();
            flood.iter().enumerate().for_each(|(n, link)| table.enter(from(1000 + n), link));
            let what = format!("{total} {per_client} {is_one} {at_work}");
            assert_eq!(working.iter().filter(|(_, link)| !link.is_evicted()).count(), left, "{what}");
            if total.max(per_client) <= SAMPLE_LEN {
                assert!(working.iter().rev().take(left).all(|(_, link)| !link.is_evicted()), "{what}: the quietest goes");
            }
            let kept = flood.iter().filter(|link| !link.is_evicted()).count();
            assert_eq!(kept, total.min(per_client) - left, "{what}");
            assert!(flood.iter().rev().take(kept).all(|link| !link.is_evicted()), "{what}: the oldest goes");
            // One of them comes to its end, and stays.
            table.established(&flood[499], 5000);
            (0..500).for_each(|n| table.enter(from(2000 + n), &beginning(6000)));
            assert_eq!(flood[499].is_evicted(), total == 1, "{what}");
            [&flood[499], &flood[0]].into_iter().chain(working.iter().map(|(_, link)| link)).for_each(|link| table.leave(link));
            let inner = table.lock();
            assert_eq!(inner.in_handshake.len(), inner.entries.len(), "{what}");
        }
    }

    #[test]
    fn an_ipv6_client_is_a_64() {
        for (address, client) in [("192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")] {
            assert_eq!(client_of(address.parse().unwrap()), client.parse::<IpAddr>().unwrap());
        }
    }
}
