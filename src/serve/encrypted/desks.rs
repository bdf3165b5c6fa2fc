//! What queries are answered with: an [`Answerer`] and room for its replies, as many as are in use at once; and where replies wait for their clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::stream::{Answerer, Client, OUTPUT_LEN, Step};
use crate::answer::{MAX_REPLY_LEN, Outcome, Reply, Transport};
use crate::telemetry::Registry;
use crate::world::Published;

/// Octets of replies that one connection keeps until its client takes them: four of the largest.
const SHELF_LEN: usize = 4 * MAX_REPLY_LEN;

/// Where the replies of one connection are until its client has taken them. Without room there queries wait, and nothing is kept of them but themselves.
#[derive(Debug)]
pub(super) struct Shelf(Arc<Semaphore>);

/// The place of one reply, until this is dropped.
#[derive(Debug)]
pub(super) struct Place(OwnedSemaphorePermit);

impl Shelf {
    pub(super) fn new() -> Shelf {
        Shelf(Arc::new(Semaphore::new(SHELF_LEN)))
    }

    /// Waits for room for any reply; nothing when the connection has ended.
    pub(super) async fn place(&self) -> Option<Place> {
        self.0.clone().acquire_many_owned(MAX_REPLY_LEN as u32).await.ok().map(Place)
    }

    /// The connection has ended: whoever waits need wait no longer.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

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
