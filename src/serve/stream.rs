//! DNS messages in a stream of octets (RFC 1035 §4.2.2): octets in, replies out. Knows nothing of sockets, so every stream transport can use it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::answer::{Asked, Dice, MAX_REPLY_LEN, Outcome, Transport, answer};
use crate::telemetry::{Heard, Registry, Tap, ThreadCounters};
use crate::world::{Published, World};

/// Octets of the length before each message.
pub(super) const PREFIX_LEN: usize = 2;

/// Replies gathered before they are written, whatever else waits to be answered.
pub(super) const GATHER_LEN: usize = 64 << 10;

/// Room for replies that [`Answerer::messages`] needs: one more reply may begin just below [`GATHER_LEN`].
pub(super) const OUTPUT_LEN: usize = GATHER_LEN + PREFIX_LEN + MAX_REPLY_LEN;

/// Who asks, as far as answers depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) source: SocketAddr,
    /// Our end, if the query log wants to know ([`Answerer::is_logging`]).
    pub(super) server: Option<SocketAddr>,
    pub(super) transport: Transport,
    /// Told to clients that ask, in units of 100 ms (RFC 7828 §3.1).
    pub(super) keepalive: u16,
}

impl Client {
    fn heard<'a>(&self, query: &'a [u8]) -> Heard<'a> {
        let unknown = SocketAddr::from(([0; 4], 0));
        Heard { query, client: self.source, server: self.server.unwrap_or(unknown), transport: self.transport }
    }
}

/// What one thread answers with.
#[derive(Debug)]
pub(super) struct Answerer {
    published: Arc<Published>,
    pub(super) counters: ThreadCounters,
    dice: Dice,
    /// Of the turn, since 1970.
    now: Duration,
    tap: Tap,
}

/// What one pass over received octets did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Octets of the input that are done with.
    pub(super) consumed: usize,
    /// Octets of the output that are in use.
    pub(super) gathered: usize,
    /// Whole messages looked at.
    pub(super) messages: usize,
    /// Replies among the output.
    pub(super) answered: usize,
    /// Stopped because the output was full enough.
    pub(super) more: bool,
    /// The peer does not speak DNS, or the engine failed on it.
    pub(super) close: bool,
}

impl Answerer {
    pub(super) fn new(published: Arc<Published>, registry: &Registry) -> Answerer {
        let counters = registry.thread();
        Answerer { published, tap: counters.tap(), counters, dice: super::new_dice(), now: Duration::ZERO }
    }

    /// Takes over the time, and what is to be logged: once per turn, not per query.
    pub(super) fn read_clock(&mut self) {
        self.now = super::unix_now();
        self.dice.unix_s = self.now.as_secs();
        let Answerer { published, tap, now, .. } = self;
        published.with_world(|world| tap.begin(world, *now));
    }

    /// Replies are being logged, so that it is worth to know where a query came in.
    pub(super) fn is_logging(&self) -> bool {
        self.tap.is_on()
    }

    /// Answers the whole messages of `input` into `output` ([`OUTPUT_LEN`]), in their order, until that is full enough. A panic ends the connection,
    /// after the replies before it.
    pub(super) fn messages(&mut self, input: &[u8], output: &mut [u8], client: Client) -> Step {
        self.messages_with(input, output, client, answer)
    }

    fn messages_with(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        client: Client,
        engine: impl Fn(&World, &Asked<'_>, &mut Dice, &mut [u8]) -> Outcome,
    ) -> Step {
        let mut step = Step::default();
        if whole_message(input).is_none() {
            // The beginning of one: not worth the look at the world.
            return step;
        }
        let Answerer { published, counters, dice, now, tap } = self;
        let asked = Asked { packet: &[], source: client.source.ip(), transport: client.transport, keepalive: client.keepalive };
        let guarded = catch_unwind(AssertUnwindSafe(|| {
            published.with_world(|world| {
                tap.begin(world, *now);
                let mut engine = |asked: &Asked<'_>, room: &mut [u8]| {
                    let outcome = engine(world, asked, dice, room);
                    if let Outcome::Reply(reply) = &outcome
                        && tap.wants()
                    {
                        tap.record(&client.heard(asked.packet), reply, room, counters);
                    }
                    outcome
                };
                while step.answer_next(input, output, &asked, counters, &mut engine) {}
            });
        }));
        if guarded.is_err() {
            step.close = true;
            super::log_panic(counters.panicked(client.transport), client.transport.name());
        }
        if step.messages > 0 {
            counters.received(client.transport, step.messages);
        }
        step
    }

    /// Answers one message that came by itself into `room` ([`MAX_REPLY_LEN`]). `None` when the engine panicked, which is logged.
    pub(super) fn message(&mut self, packet: &[u8], room: &mut [u8], client: Client) -> Option<Outcome> {
        let Answerer { published, counters, dice, now, tap } = self;
        let asked = Asked { packet, source: client.source.ip(), transport: client.transport, keepalive: client.keepalive };
        let guarded = catch_unwind(AssertUnwindSafe(|| {
            published.with_world(|world| {
                tap.begin(world, *now);
                let outcome = answer(world, &asked, dice, room);
                if let Outcome::Reply(reply) = &outcome
                    && tap.wants()
                {
                    tap.record(&client.heard(packet), reply, room, counters);
                }
                outcome
            })
        }));
        counters.received(client.transport, 1);
        match guarded {
            Ok(outcome) => {
                counters.answered(client.transport, &outcome);
                Some(outcome)
            }
            Err(_) => {
                super::log_panic(counters.panicked(client.transport), client.transport.name());
                None
            }
        }
    }
}

/// The message at the head of `octets`, if all of it is there. `Some(&[])` is an empty one.
#[inline]
fn whole_message(octets: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = octets.split_first_chunk::<PREFIX_LEN>()?;
    rest.get(..usize::from(u16::from_be_bytes(*prefix)))
}

/// How many octets the message at the head of `octets` still lacks, as far as that is known; 0 when it is whole.
pub(super) fn lacking(octets: &[u8]) -> usize {
    match octets.split_first_chunk::<PREFIX_LEN>() {
        Some((prefix, rest)) => usize::from(u16::from_be_bytes(*prefix)).saturating_sub(rest.len()),
        None => PREFIX_LEN - octets.len(),
    }
}

impl Step {
    /// Answers the next message; false when there is no whole one, no room, or nothing more to say.
    #[inline]
    fn answer_next(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        asked: &Asked<'_>,
        counters: &ThreadCounters,
        engine: impl FnOnce(&Asked<'_>, &mut [u8]) -> Outcome,
    ) -> bool {
        let Some(packet) = input.get(self.consumed..).and_then(whole_message) else { return false };
        if packet.is_empty() {
            // No message is empty; whoever sends this is out of step, and what follows would be guesswork.
            self.messages += 1;
            self.close = true;
            counters.malformed(asked.transport);
            return false;
        }
        if self.gathered >= GATHER_LEN {
            self.more = true;
            return false;
        }
        self.consumed += PREFIX_LEN + packet.len();
        self.messages += 1;
        let room = output.get_mut(self.gathered..).and_then(|room| room.split_first_chunk_mut::<PREFIX_LEN>());
        let Some((prefix, room)) = room else { return false };
        let outcome = engine(&Asked { packet, ..*asked }, room);
        counters.answered(asked.transport, &outcome);
        if let Outcome::Reply(reply) = outcome {
            // The engine promises at most 65,535.
            *prefix = u16::try_from(reply.len).unwrap_or(u16::MAX).to_be_bytes();
            self.gathered += PREFIX_LEN + reply.len;
            self.answered += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::counting::allocations_in;

    const QUERY: &[u8] = b"\0\x1d\x12\x34\0\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";

    fn answerer(registry: &Registry) -> Answerer {
        Answerer::new(Arc::new(Published::new(World::default())), registry)
    }

    fn client() -> Client {
        Client { source: ([127, 0, 0, 1], 5353).into(), server: None, transport: Transport::Tcp, keepalive: 100 }
    }

    #[test]
    fn whole_messages_are_answered_and_the_rest_is_left() {
        let registry = Registry::new();
        let mut answerer = answerer(&registry);
        let mut output = vec![0; OUTPUT_LEN];
        let two = [QUERY, QUERY].concat();
        let response = [b"\0\x0c\0\0\x80\0\0\0\0\0\0\0\0\0", QUERY].concat();
        // Input; octets done with, messages, replies, whether the connection ends, and what the message behind lacks.
        for (input, expected) in [
            (&b""[..], (0, 0, 0, false, 2)),
            (b"\0", (0, 0, 0, false, 1)),
            (b"\0\x1d", (0, 0, 0, false, 29)),
            (&QUERY[..30], (0, 0, 0, false, 1)),
            (QUERY, (31, 1, 1, false, 2)),
            (&two, (62, 2, 2, false, 2)),
            (&two[..61], (31, 1, 1, false, 1)),
            (&two[..32], (31, 1, 1, false, 1)),
            (&[QUERY, b"\0\0", QUERY].concat(), (31, 2, 1, true, 0)),
            (b"\0\0", (0, 1, 0, true, 0)),
            (b"\0\x01\0", (3, 1, 0, false, 2)),
            (&response, (45, 2, 1, false, 2)),
        ] {
            let step = answerer.messages(input, &mut output, client());
            let found = (step.consumed, step.messages, step.answered, step.close, lacking(&input[step.consumed..]));
            assert_eq!(found, expected, "{input:?}");
            assert!(!step.more);
        }
    }

    #[test]
    fn it_stops_where_the_output_is_full_enough() {
        let registry = Registry::new();
        let mut answerer = answerer(&registry);
        let (input, mut output) = (QUERY.repeat(5000), vec![0; OUTPUT_LEN]);
        let (mut at, mut answered) = (0, 0);
        loop {
            let step = answerer.messages(&input[at..], &mut output, client());
            assert!(step.gathered < GATHER_LEN + 100 && !step.close);
            at += step.consumed;
            answered += step.answered;
            if !step.more {
                break;
            }
            assert!(step.gathered >= GATHER_LEN);
        }
        assert_eq!((at, answered), (input.len(), 5000));
        assert_eq!(registry.totals().tcp.queries, 5000);
    }

    #[test]
    fn nothing_is_allocated() {
        let registry = Registry::new();
        let mut answerer = answerer(&registry);
        let (input, mut output) = (QUERY.repeat(1000), vec![0; OUTPUT_LEN]);
        // The first read of the published pointer registers the thread with it.
        answerer.messages(QUERY, &mut output, client());
        let allocations = allocations_in(|| {
            answerer.read_clock();
            assert_eq!(answerer.messages(&input, &mut output, client()).answered, 1000);
        });
        assert_eq!(allocations, 0);
    }

    #[test]
    fn a_panic_ends_the_connection_after_the_replies_before_it() {
        let registry = Registry::new();
        let mut answerer = answerer(&registry);
        let mut output = vec![0; OUTPUT_LEN];
        let mut bad = QUERY.to_vec();
        bad[2] = 0xbd;
        let input = [QUERY, QUERY, &bad, QUERY].concat();
        let step = answerer.messages_with(&input, &mut output, client(), |world, asked, dice, reply| {
            assert_ne!(asked.packet[0], 0xbd, "on purpose");
            answer(world, asked, dice, reply)
        });
        assert_eq!((step.answered, step.messages, step.close), (2, 3, true));
        assert_eq!((registry.totals().tcp.panics, registry.totals().tcp.queries), (1, 3));
    }
}
