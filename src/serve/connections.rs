//! The open TCP connections: how many there may be, and who has to go when there are too many.
//!
//! Nobody is refused: a new connection pushes out the one that has been quiet the longest, of the same client if that client has its fill,
//! else of a sample of all. So a flood fights with itself first, and a client that asks now is served now.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::answer::Dice;

/// Connections looked at to find a quiet one. The quietest of 32 at random is among the quietest tenth of all with 97 %; looking at all would make
/// each connection of a flood cost thousands of reads.
const SAMPLE_LEN: usize = 32;

/// One open connection.
#[derive(Debug)]
struct Entry {
    id: u64,
    client: IpAddr,
    /// Written by the connection's task whenever it has answered: nanoseconds since the start.
    answered_ns: Arc<AtomicU64>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Inner {
    entries: Vec<Entry>,
    /// Where in `entries` an id is.
    places: HashMap<u64, usize>,
    /// The ids of one client, oldest first; never empty.
    by_client: HashMap<IpAddr, Vec<u64>>,
    next_id: u64,
    dice: Dice,
}

/// The table of open connections.
#[derive(Debug)]
pub(super) struct Connections {
    inner: Mutex<Inner>,
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

impl Connections {
    pub(super) fn new(total: usize, per_client: usize, dice: Dice) -> Connections {
        let inner = Inner { entries: Vec::new(), places: HashMap::new(), by_client: HashMap::new(), next_id: 0, dice };
        Connections { inner: Mutex::new(inner), total: total.max(1), per_client: per_client.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock can panic half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection of `peer` whose task `spawn` starts; returns how many others it pushed out. `spawn` is called under the lock, so that a
    /// task that ends at once still finds its entry.
    pub(super) fn enter(&self, peer: IpAddr, answered_ns: Arc<AtomicU64>, spawn: impl FnOnce(u64) -> AbortHandle) -> usize {
        let client = client_of(peer);
        let mut evicted = Vec::new();
        let mut inner = self.lock();
        while inner.by_client.get(&client).is_some_and(|ids| ids.len() >= self.per_client) {
            evicted.extend(inner.evict_of(client));
        }
        while inner.entries.len() >= self.total {
            evicted.extend(inner.evict_any());
        }
        let id = inner.next_id;
        inner.next_id += 1;
        let task = spawn(id);
        let place = inner.entries.len();
        inner.places.insert(id, place);
        inner.by_client.entry(client).or_default().push(id);
        inner.entries.push(Entry { id, client, answered_ns, task });
        drop(inner);
        evicted.iter().for_each(AbortHandle::abort);
        evicted.len()
    }

    /// Pushes one out, if there is any: files have run out.
    pub(super) fn make_room(&self) -> usize {
        let evicted = self.lock().evict_any();
        evicted.iter().for_each(AbortHandle::abort);
        evicted.iter().count()
    }

    /// A task has ended. Unknown ids (pushed out before) are no news.
    pub(super) fn leave(&self, id: u64) {
        self.lock().remove(id);
    }

    /// Ends all tasks at once.
    pub(super) fn abort_all(&self) {
        let tasks: Vec<AbortHandle> = self.lock().entries.iter().map(|entry| entry.task.clone()).collect();
        tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<AbortHandle> {
        let place = self.places.remove(&id)?;
        let entry = self.entries.swap_remove(place);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.id, place);
        }
        if let Some(ids) = self.by_client.get_mut(&entry.client) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_client.remove(&entry.client);
            }
        }
        Some(entry.task)
    }

    fn evict_of(&mut self, client: IpAddr) -> Option<AbortHandle> {
        let quiet = |id: &&u64| self.places.get(id).and_then(|place| self.entries.get(*place)).map_or(0, |entry| entry.answered_ns.load(Relaxed));
        let oldest = *self.by_client.get(&client)?.iter().min_by_key(quiet)?;
        self.remove(oldest)
    }

    fn evict_any(&mut self) -> Option<AbortHandle> {
        let Inner { entries, dice, .. } = self;
        let age = |at: usize| entries.get(at).map(|entry| (entry.answered_ns.load(Relaxed), entry.id));
        let oldest = match entries.len() {
            len @ 0..=SAMPLE_LEN => (0..len).filter_map(age).min(),
            len => (0..SAMPLE_LEN).filter_map(|_| age((dice.roll() % len as u64) as usize)).min(),
        };
        self.remove(oldest?.1)
    }
}
