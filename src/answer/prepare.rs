//! The first half of an answer: what the query says and whose zone it is, without a look at the zone's data.
//!
//! In a zone of a million names, or a map of half a million networks, each of an answer's few looks at the data waits for memory as long as all its
//! computing takes. So a transport that has many queries at hand takes each step for all of them before the next one, and each step asks for what
//! the next one reads:
//!
//! ```text
//! prepare       read the query, find its zone, hash its name   asks for the name's place in the zone's index
//! warm_node     look there                                     asks for the name's node
//! warm_map      is it steered, and by which map?               asks for the client's place in the map's index
//! warm_ranges   look there                                     asks for the ranges around the client
//! finish        answer
//! ```
//!
//! All between `prepare` and `finish` may be left out.

use std::net::IpAddr;

use super::steer::Client;
use super::walk::Start;
use super::{Asked, Dice, Outcome, direct, finish_fault, reply_to, walk};
use crate::dns::{Class, Parsed, QueryName, request};
use crate::geo::ClassMap;
use crate::world::{Served, World};
use crate::zone::tree::{NO_NODE, NO_STEER};

/// A query between the two halves of its answer.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'w, 'n> {
    parsed: Parsed<'n>,
    start: Option<Start<'w>>,
    source: IpAddr,
    /// What the client will be looked up in, and by which address.
    map: Option<(&'w ClassMap, IpAddr)>,
}

/// Reads a query and finds its zone. `name` is room for the name that it asks for.
#[inline]
pub fn prepare<'w, 'n>(world: &'w World, asked: &Asked<'_>, name: &'n mut QueryName) -> Prepared<'w, 'n> {
    let parsed = request::parse(asked.packet, name);
    let start = match &parsed {
        Parsed::Query(request) if matches!(request.question.class, Class::IN | Class::ANY) => {
            walk::start(world, request.question.name, request.question.rtype)
        }
        _ => None,
    };
    if let Some(Start { served: Served::Up(zone), hash, .. }) = start {
        zone.tree.prefetch_slot(hash);
    }
    Prepared { parsed, start, source: asked.source, map: None }
}

impl<'w> Prepared<'w, '_> {
    /// Asks for the name's node.
    #[inline]
    pub fn warm_node(&mut self) {
        if let Some(Start { served: Served::Up(zone), hash, likely }) = &mut self.start {
            *likely = zone.tree.prefetch_node(*hash);
        }
    }

    /// At a steered name: asks for the client's place in the index of the class map.
    #[inline]
    pub fn warm_map(&mut self, world: &'w World) {
        if let (Some(Start { served: Served::Up(zone), likely, .. }), Parsed::Query(request)) = (&self.start, &self.parsed)
            && !zone.steered.is_empty()
            && *likely != NO_NODE
        {
            let steer = zone.tree.node(*likely).steer;
            if steer != NO_STEER
                && let Some(name) = zone.steered.get(steer as usize)
                && let Some(steering) = zone.steerings.get(name.steering as usize)
            {
                let client = Client::of(world, self.source, request).address();
                steering.map.prefetch(client);
                self.map = Some((&steering.map, client));
            }
        }
    }

    /// Asks for what the class map says around the client.
    #[inline]
    pub fn warm_ranges(&self) {
        if let Some((map, client)) = self.map {
            map.prefetch_ranges(client);
        }
    }

    /// Answers. `world` and `asked` are those that it was prepared with; `reply` holds at least [`super::MAX_REPLY_LEN`] octets for TCP and
    /// [`super::MAX_UDP_PAYLOAD`] for UDP.
    #[inline]
    pub fn finish(&self, world: &World, asked: &Asked<'_>, dice: &mut Dice, reply: &mut [u8]) -> Outcome {
        match &self.parsed {
            Parsed::Query(request) => match direct::reply(world, asked, request, self.start, dice, reply) {
                Some(reply) => Outcome::Reply(reply),
                None => reply_to(world, asked, request, self.start, dice, reply),
            },
            Parsed::Silence => Outcome::Silence,
            Parsed::Fault(fault) => finish_fault(world, asked, fault, dice, reply),
            Parsed::CookieQuery(edns) => super::cookie_query(world, asked, edns, dice, reply),
        }
    }
}
