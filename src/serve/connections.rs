//! The open connections of one transport, of all threads: how many there may be, and who has to go when there are too many.
//!
//! Nobody is refused: a new connection pushes out the one that has been quiet the longest, of the same client if that client has its fill,
//! else of a sample of all. So a flood fights with itself first, and a client that asks now is served now.
//!
//! The lock is taken when a connection begins and when it ends, never for a query. Whoever is pushed out is shut down at once, by whichever thread
//! that is; the thread that it belongs to learns of that as of any other end of stream.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::net::TcpStream;

use crate::answer::{Dice, Transport};
use crate::telemetry::{Connections as Counters, Registry};

/// Connections looked at to find a quiet one. The quietest of 32 at random is among the quietest tenth of all with 97 %; looking at all would make
/// each connection of a flood cost thousands of reads.
const SAMPLE_LEN: usize = 32;

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
}

impl<S: Close> Link<S> {
    pub(super) fn new(stream: S, now_ns: u64) -> Link<S> {
        Link { stream, answered_ns: now_ns.into(), evicted: false.into(), place: NOWHERE.into() }
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
        let inner = Inner { entries: Vec::new(), by_client: HashMap::new(), dice };
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
        self.counters().open.store(i64::try_from(inner.entries.len()).unwrap_or(i64::MAX), Relaxed);
    }

    /// Enters a new connection of `peer`, and pushes out others if there are too many.
    pub(super) fn enter(&self, peer: IpAddr, link: &Arc<Link<S>>) {
        let client = client_of(peer);
        // Empty as a rule, and then it allocates nothing.
        let mut evicted = Vec::new();
        let mut inner = self.lock();
        while inner.by_client.get(&client).is_some_and(|links| links.len() >= self.per_client) {
            evicted.extend(inner.evict_of(client));
        }
        while inner.entries.len() >= self.total {
            evicted.extend(inner.evict_any());
        }
        link.place.store(inner.entries.len(), Relaxed);
        inner.by_client.entry(client).or_default().push(link.clone());
        inner.entries.push(Entry { client, link: link.clone() });
        self.tell_open(&inner);
        drop(inner);
        let counters = self.counters();
        counters.evicted.fetch_add(evicted.len() as u64, Relaxed);
        counters.accepted.fetch_add(1, Relaxed);
        evicted.iter().for_each(|link| link.evict());
    }

    /// Pushes one out, if there is any: files have run out.
    pub(super) fn make_room(&self) {
        let mut inner = self.lock();
        let evicted = inner.evict_any();
        self.tell_open(&inner);
        drop(inner);
        if let Some(link) = evicted {
            self.counters().evicted.fetch_add(1, Relaxed);
            link.evict();
        }
    }

    /// A connection has ended. One that was pushed out before is no news.
    pub(super) fn leave(&self, link: &Link<S>) {
        let mut inner = self.lock();
        inner.remove(link.place.load(Relaxed));
        self.tell_open(&inner);
    }
}

impl<S: Close> Inner<S> {
    fn remove(&mut self, place: usize) -> Option<Arc<Link<S>>> {
        if place >= self.entries.len() {
            return None;
        }
        let Entry { client, link } = self.entries.swap_remove(place);
        link.place.store(NOWHERE, Relaxed);
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

    fn evict_of(&mut self, client: IpAddr) -> Option<Arc<Link<S>>> {
        let quietest = self.by_client.get(&client)?.iter().min_by_key(|link| link.answered_ns.load(Relaxed))?;
        let place = quietest.place.load(Relaxed);
        self.remove(place)
    }

    fn evict_any(&mut self) -> Option<Arc<Link<S>>> {
        let Inner { entries, dice, .. } = self;
        let quiet = |at: usize| entries.get(at).map(|entry| (entry.link.answered_ns.load(Relaxed), at));
        let quietest = match entries.len() {
            len @ 0..=SAMPLE_LEN => (0..len).filter_map(quiet).min(),
            len => (0..SAMPLE_LEN).filter_map(|_| quiet((dice.roll() % len as u64) as usize)).min(),
        };
        self.remove(quietest?.1)
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

    #[test]
    fn an_ipv6_client_is_a_64() {
        for (address, client) in [("192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")] {
            assert_eq!(client_of(address.parse().unwrap()), client.parse::<IpAddr>().unwrap());
        }
    }
}
