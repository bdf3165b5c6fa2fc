//! The first half of an answer: what the query says and whose zone it is, without a look at the zone's data.
//!
//! In a zone of a million names each of an answer's two or three looks at the data waits for memory, as long as all its computing takes. So a
//! transport that has many queries at hand takes each step for all of them before the next one, and each step asks for what the next one reads:
//!
//! ```text
//! prepare   read the query, find its zone, hash its name   asks for the name's place in the zone's index
//! warm      look there                                     asks for the name's node
//! finish    answer
//! ```

use super::walk::Start;
use super::{Asked, Dice, Outcome, finish_fault, reply_to, walk};
use crate::dns::{Class, Parsed, QueryName, request};
use crate::world::{Served, World};

/// A query between the two halves of its answer.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'w, 'n> {
    parsed: Parsed<'n>,
    start: Option<Start<'w>>,
}

/// Reads a query and finds its zone. `name` is room for the name that it asks for.
#[inline]
pub fn prepare<'w, 'n>(world: &'w World, packet: &[u8], name: &'n mut QueryName) -> Prepared<'w, 'n> {
    let parsed = request::parse(packet, name);
    let start = match &parsed {
        Parsed::Query(request) if matches!(request.question.class, Class::IN | Class::ANY) => {
            walk::start(world, request.question.name, request.question.rtype)
        }
        _ => None,
    };
    if let Some(Start { served: Served::Up(zone), hash, .. }) = start {
        zone.tree.prefetch_slot(hash);
    }
    Prepared { parsed, start }
}

impl Prepared<'_, '_> {
    /// Asks for the data that [`Prepared::finish`] will read. May be left out.
    #[inline]
    pub fn warm(&mut self) {
        if let Some(Start { served: Served::Up(zone), hash, likely }) = &mut self.start {
            *likely = zone.tree.prefetch_node(*hash);
        }
    }

    /// Answers. `world` and `asked` are those that it was prepared with; `reply` holds at least [`super::MAX_REPLY_LEN`] octets for TCP and
    /// [`super::MAX_UDP_PAYLOAD`] for UDP.
    #[inline]
    pub fn finish(&self, world: &World, asked: &Asked<'_>, dice: &mut Dice, reply: &mut [u8]) -> Outcome {
        match &self.parsed {
            Parsed::Query(request) => reply_to(world, asked, request, self.start, dice, reply),
            Parsed::Silence => Outcome::Silence,
            Parsed::Fault(fault) => finish_fault(world, asked, fault, dice, reply),
            Parsed::CookieQuery(edns) => super::cookie_query(world, asked, edns, dice, reply),
        }
    }
}
