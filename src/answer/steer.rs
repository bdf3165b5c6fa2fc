//! At a steered name: client → class → plan → pick.

use std::net::IpAddr;

use super::Dice;
use crate::dns::{ClientSubnet, Edns, Request};
use crate::geo::classmap::Hit;
use crate::policy::model::WeightedMode;
use crate::policy::plan::{AddressSet, AnswerSet, Choice, Plan};
use crate::world::{Steering, World};
use crate::zone::Ttl;

/// Whom the answer is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// Who sent the query.
    pub(super) resolver: IpAddr,
    /// The client subnet, if it is there and its sender is trusted.
    pub(super) ecs: Option<ClientSubnet>,
}

impl Client {
    /// Takes the client subnet into account when the resolver is trusted with it.
    pub(super) fn of(world: &World, resolver: IpAddr, request: &Request<'_>) -> Client {
        Client { resolver, ecs: trusted_ecs(world, resolver, request.edns.as_ref()) }
    }

    /// The address whose class counts, but for private client subnets.
    pub(super) fn address(&self) -> IpAddr {
        self.key().0
    }

    /// The address that chance is drawn by, and its prefix length: the client subnet as given, else the resolver.
    fn key(&self) -> (IpAddr, u8) {
        match self.ecs {
            Some(ecs) if ecs.source_len > 0 => (ecs.addr, ecs.source_len),
            _ => (self.resolver, if self.resolver.is_ipv4() { 32 } else { 128 }),
        }
    }
}

/// The client subnet of the query, if its sender is trusted with it.
#[inline]
pub(super) fn trusted_ecs(world: &World, resolver: IpAddr, edns: Option<&Edns>) -> Option<ClientSubnet> {
    edns.and_then(|edns| edns.ecs).filter(|_| world.server.trusts_ecs_of(resolver))
}

/// The class of a client, and how far it reaches.
///
/// ```text
/// client subnet            class of                    scope
/// none                     resolver                    0 (not sent)
/// SOURCE 0                 resolver                    0
/// private, no net rule     resolver                    its private block
/// else                     its (zero-padded) address   its block in the map
/// ```
pub(super) fn class_of(steering: &Steering, client: &Client) -> (u16, u8) {
    let Some(ecs) = client.ecs.filter(|ecs| ecs.source_len > 0) else { return (steering.map.lookup(client.resolver).class, 0) };
    let Hit { class, private, scope } = steering.map.lookup(ecs.addr);
    let class = if private { steering.map.lookup(client.resolver).class } else { class };
    let (v4, v6) = steering.sticky.get(usize::from(class)).copied().unwrap_or((0, 0));
    (class, scope.max(if ecs.addr.is_ipv4() { v4 } else { v6 }))
}

/// What is handed out to this client now.
pub(super) enum Picked<'w> {
    /// From this set, at most so many addresses, with this TTL.
    Answers(&'w AnswerSet, u8, Ttl),
    /// An empty answer.
    NoData,
    /// SERVFAIL.
    ServFail,
}

/// Follows the weighted choices of a plan.
pub(super) fn pick<'w>(plan: &'w Plan, client: &Client, dice: &mut Dice) -> Picked<'w> {
    let mut choice = &plan.choice;
    loop {
        choice = match choice {
            Choice::Answers { set, answers } => return Picked::Answers(set, *answers, plan.ttl_at(dice.unix_s)),
            Choice::NoData => return Picked::NoData,
            Choice::ServFail => return Picked::ServFail,
            Choice::Weighted(weighted) => match weighted.mode {
                WeightedMode::Random => weighted.by_number(dice.roll()),
                WeightedMode::Coherent => {
                    let (key, len) = key_octets(client.key(), (128, 128));
                    weighted.by_window(&key[..len], dice.unix_s, plan.ttl.max)
                }
                WeightedMode::Sticky { v4, v6 } => {
                    let (key, len) = key_octets(client.key(), (v4, v6));
                    weighted.by_rendezvous(&key[..len])
                }
            },
        };
    }
}

/// A prefix cut to so many bits per family, as octets: family, length, address. A shorter prefix is padded with zeros, so that a resolver
/// that sends less gets the choice of the block's first part.
fn key_octets((addr, len): (IpAddr, u8), (v4, v6): (u8, u8)) -> ([u8; 18], usize) {
    let mut key = [0u8; 18];
    match addr {
        IpAddr::V4(addr) => {
            // 128 stands for "as given".
            let bits = if v4 > 32 { len.min(32) } else { v4 };
            let masked = u32::from(addr) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            key[0] = 4;
            key[1] = bits;
            key[2..6].copy_from_slice(&masked.to_be_bytes());
            (key, 6)
        }
        IpAddr::V6(addr) => {
            let bits = v6.min(128).min(if v6 == 128 { len } else { 128 });
            let masked = u128::from(addr) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            key[0] = 6;
            key[1] = bits;
            key[2..18].copy_from_slice(&masked.to_be_bytes());
            (key, 18)
        }
    }
}

/// Addresses of one family that take part in an order; the rest of a larger set waits for another draw.
const MAX_DRAWN: usize = 256;

/// Hands `take` at most `answers` addresses in weighted-random order, without repeating one.
pub(super) fn in_random_order<const N: usize>(set: &AddressSet<N>, answers: u8, dice: &mut Dice, mut take: impl FnMut(&[u8; N])) {
    let total = set.addrs.len();
    if total == 1 {
        take(&set.addrs[0]);
        return;
    }
    let drawn = total.min(MAX_DRAWN);
    // A set that is larger than the table is entered at a random place.
    let shift = if total > MAX_DRAWN { below(dice, total as u64) as usize } else { 0 };
    let mut order = [0u16; MAX_DRAWN];
    for (at, slot) in order.iter_mut().enumerate().take(drawn) {
        *slot = at as u16;
    }
    let index = |slot: u16| (usize::from(slot) + shift) % total;
    let weight = |slot: u16| set.weights.get(index(slot)).copied().map_or(1, u64::from);
    let mut weight_left: u64 = if set.weights.is_empty() { 0 } else { order[..drawn].iter().map(|slot| weight(*slot)).sum() };
    for at in 0..drawn.min(usize::from(answers)) {
        let chosen = if set.weights.is_empty() {
            at + below(dice, (drawn - at) as u64) as usize
        } else {
            let mut left = below(dice, weight_left.max(1));
            (at..drawn)
                .find(|other| {
                    let weight = weight(order[*other]);
                    let found = left < weight;
                    left = left.saturating_sub(weight);
                    found
                })
                .unwrap_or(drawn - 1)
        };
        weight_left = weight_left.saturating_sub(weight(order[chosen]));
        order.swap(at, chosen);
        take(&set.addrs[index(order[at])]);
    }
}

/// Uniform below `bound`, by multiply-shift (bias under 2⁻³² for bounds below 2³²).
pub(super) fn below(dice: &mut Dice, bound: u64) -> u64 {
    ((u128::from(dice.roll()) * u128::from(bound)) >> 64) as u64
}
