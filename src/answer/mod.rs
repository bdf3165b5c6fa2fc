//! L3: the engine. `answer(&World, &Asked, &mut Dice, &mut [u8]) -> Outcome` is pure and total: no I/O, no clock, no lock, no allocation,
//! no log; whatever octets come in, it comes back with a reply or with the decision to stay silent.

use std::net::IpAddr;

use crate::dns::Rcode;
use crate::world::World;

/// The largest reply, and so the size of the buffer that every caller brings.
pub const MAX_REPLY_LEN: usize = 65_535;

/// One query as a transport received it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The message, without any length prefix. Untrusted.
    pub packet: &'a [u8],
    /// Who sent it.
    pub source: IpAddr,
    /// How it came.
    pub transport: Transport,
}

/// How a query came, as far as answers depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Replies are bounded by the client's EDNS payload size and by ours.
    Udp,
    /// Replies are bounded by 65,535 octets.
    Tcp,
}

/// Time and chance of one batch: the engine has none of its own.
#[derive(Clone, Debug)]
pub struct Dice {
    /// Seconds since 1970, read once per batch.
    pub unix_s: u64,
    state: u64,
}

impl Dice {
    /// `seed` makes every choice repeatable.
    pub fn new(unix_s: u64, seed: u64) -> Dice {
        Dice { unix_s, state: seed }
    }

    /// The next 64 random bits (SplitMix64: Steele, Lea, Flood, OOPSLA 2014; passes BigCrush, 1 ns).
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What to do with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Send the first `len` octets of the reply buffer.
    Reply(Reply),
    /// Say nothing (a response, or too short for a header).
    Silence,
}

/// A reply, and what to count it under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Octets of the reply buffer in use.
    pub len: usize,
    /// Extended response code.
    pub rcode: Rcode,
    /// TC was set.
    pub truncated: bool,
    /// Counter slot of the zone that answered ([`crate::world`]); `None` when no zone is ours.
    pub zone_slot: Option<u32>,
    /// Counter slot of the pool that was chosen.
    pub pool_slot: Option<u32>,
}

/// Answers one query into `reply`, which holds at least [`MAX_REPLY_LEN`] octets for TCP and 1,232 for UDP.
pub fn answer(_world: &World, asked: &Asked<'_>, _dice: &mut Dice, reply: &mut [u8]) -> Outcome {
    // Until the engine is here: REFUSED, question copied whole.
    let (Some(head), true) = (asked.packet.get(..12), asked.packet.len() <= reply.len()) else { return Outcome::Silence };
    if head[2] & 0x80 != 0 {
        return Outcome::Silence;
    }
    let len = asked.packet.len();
    reply[..len].copy_from_slice(asked.packet);
    reply[2] |= 0x80;
    reply[3] = 5;
    Outcome::Reply(Reply { len, rcode: Rcode::REFUSED, truncated: false, zone_slot: None, pool_slot: None })
}
