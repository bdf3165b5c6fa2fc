//! What queries are answered with: an [`Answerer`] and room for its replies, as many as are in use at once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::stream::{Answerer, Client, OUTPUT_LEN, Step};
use crate::answer::{Outcome, Reply, Transport};
use crate::telemetry::Registry;
use crate::world::Published;

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
