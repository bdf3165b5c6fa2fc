//! What queries are answered with: an [`Answerer`] and room for its replies, as many as are in use at once; and where queries wait for their end and
//! replies for their clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::stream::{Answerer, Client, OUTPUT_LEN, Step};
use crate::answer::{MAX_REPLY_LEN, Outcome, Reply, Transport};
use crate::telemetry::Registry;
use crate::world::Published;

/// Octets of replies that one connection keeps until its client takes them: four of the largest.
const SHELF_LEN: usize = 4 * MAX_REPLY_LEN;
/// Octets of queries that one connection keeps until they have come to their end and have room for their reply: four of the largest.
const QUERIES_LEN: usize = 4 * MAX_QUERY_LEN;
/// The same of all connections of a transport.
const ALL_QUERIES_LEN: usize = 64 << 20;
/// What is kept of a query anyhow: hardly any has more, and a stream takes as much by itself. So whoever fills the room refuses large queries alone.
const UNCOUNTED_LEN: usize = 1 << 10;
/// A message with its length.
const MAX_QUERY_LEN: usize = 2 + 65_535;

/// Where the replies of one connection are until its client has taken them. Without room there queries wait, and nothing is kept of them but themselves,
/// as far as there is room for that.
#[derive(Debug)]
pub(super) struct Shelf {
    replies: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    /// Of all connections.
    all_queries: Arc<Semaphore>,
}

/// The place of one reply, until this is dropped.
#[derive(Debug)]
pub(super) struct Place(OwnedSemaphorePermit);

impl Shelf {
    pub(super) fn new(all_queries: &Arc<Semaphore>) -> Shelf {
        let room = |len| Arc::new(Semaphore::new(len));
        Shelf { replies: room(SHELF_LEN), queries: room(QUERIES_LEN), all_queries: all_queries.clone() }
    }

    /// Room for the queries of all connections.
    pub(super) fn all_queries() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(ALL_QUERIES_LEN))
    }

    /// Whether so many octets of a query may be kept while it waits; `kept` is what was said of it before.
    pub(super) fn keep(&self, kept: &mut Kept, len: usize) -> bool {
        let more = len.saturating_sub(UNCOUNTED_LEN).saturating_sub(kept.0.iter().map(|(here, _)| here.num_permits()).sum());
        let take = |room: &Arc<Semaphore>| room.clone().try_acquire_many_owned(u32::try_from(more).ok()?).ok();
        if more > 0 {
            let (Some(here), Some(of_all)) = (take(&self.queries), take(&self.all_queries)) else { return false };
            match &mut kept.0 {
                Some((mine, all)) => {
                    mine.merge(here);
                    all.merge(of_all);
                }
                none => *none = Some((here, of_all)),
            }
        }
        true
    }

    /// Waits for room for any reply; nothing when the connection has ended.
    pub(super) async fn place(&self) -> Option<Place> {
        self.replies.clone().acquire_many_owned(MAX_REPLY_LEN as u32).await.ok().map(Place)
    }

    /// The connection has ended: whoever waits need wait no longer.
    pub(super) fn close(&self) {
        self.replies.close();
    }
}

/// The room of one query, here and among those of all connections, until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Kept(Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>);

impl Place {
    /// No larger than the reply is, so that small ones hold nobody up.
    pub(super) fn of(mut self, len: usize) -> Place {
        let surplus = MAX_REPLY_LEN.saturating_sub(len);
        drop(self.0.split(surplus));
        self
    }
}

/// What became of one message.
pub(super) enum Answered {
    /// Octets of the reply, and what it says.
    Reply(Vec<u8>, Reply),
    /// It is no query.
    Silence,
    /// The engine failed on it, which has been told.
    Failure,
}

#[derive(Debug)]
struct Desk {
    answerer: Answerer,
    room: Box<[u8]>,
}

/// Nobody holds a desk over an await, so there are never more than threads.
#[derive(Debug)]
pub(super) struct Desks {
    published: Arc<Published>,
    registry: Registry,
    free: Mutex<Vec<Desk>>,
}

impl Desks {
    pub(super) fn new(published: Arc<Published>, registry: Registry) -> Desks {
        Desks { published, registry, free: Mutex::new(Vec::new()) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Desk) -> T) -> T {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut desk = free.unwrap_or_else(|| Desk {
            answerer: Answerer::new(self.published.clone(), &self.registry),
            room: vec![0; OUTPUT_LEN].into_boxed_slice(),
        });
        desk.answerer.read_clock();
        let done = work(&mut desk);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(desk);
        done
    }

    /// Answers the whole messages of a stream; the replies are appended.
    pub(super) fn messages(&self, input: &[u8], source: SocketAddr, server: SocketAddr, keepalive: u16, replies: &mut Vec<u8>) -> Step {
        self.with(|desk| {
            let client = Client { source, server: Some(server), transport: Transport::Tls, keepalive };
            let step = desk.answerer.messages(input, &mut desk.room, client);
            replies.extend_from_slice(desk.room.get(..step.gathered).unwrap_or_default());
            step
        })
    }

    /// Answers one message.
    pub(super) fn message(&self, packet: &[u8], source: SocketAddr, server: SocketAddr, transport: Transport) -> Answered {
        self.with(|desk| {
            let client = Client { source, server: Some(server), transport, keepalive: 0 };
            match desk.answerer.message(packet, &mut desk.room, client) {
                Some(Outcome::Reply(reply)) => match desk.room.get(..reply.len) {
                    Some(octets) => Answered::Reply(octets.to_vec(), reply),
                    None => Answered::Failure,
                },
                Some(Outcome::Silence) => Answered::Silence,
                None => Answered::Failure,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_kept_as_far_as_there_is_room() {
        let all = Arc::new(Semaphore::new(QUERIES_LEN + 10_000));
        let (one, other) = (Shelf::new(&all), Shelf::new(&all));
        let mut kept: Vec<Kept> = (0..4).map(|_| Kept::default()).collect();
        for len in [100, 1024, 30_000, MAX_QUERY_LEN] {
            assert!(kept.iter_mut().all(|kept| one.keep(kept, len)), "{len}");
        }
        let left = 4 * UNCOUNTED_LEN;
        assert_eq!((one.queries.available_permits(), all.available_permits()), (left, 10_000 + left));
        // Small ones have room anyhow; what is refused keeps what it had.
        let (mut small, mut large) = (Kept::default(), Kept::default());
        assert!(one.keep(&mut small, UNCOUNTED_LEN) && one.keep(&mut large, UNCOUNTED_LEN + left));
        assert!(!one.keep(&mut small, UNCOUNTED_LEN + 1) && !one.keep(&mut large, UNCOUNTED_LEN + left + 1));
        // Of what others have left the next connection takes all, and no more.
        let mut elsewhere = Kept::default();
        assert!(!other.keep(&mut elsewhere, UNCOUNTED_LEN + 10_001) && other.keep(&mut elsewhere, UNCOUNTED_LEN + 10_000));
        assert_eq!(all.available_permits(), 0);
        drop((kept, small, large, elsewhere));
        let free = [&one.queries, &other.queries, &all].map(|room| room.available_permits());
        assert_eq!(free, [QUERIES_LEN, QUERIES_LEN, QUERIES_LEN + 10_000]);
    }
}
