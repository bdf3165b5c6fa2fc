//! L3: the engine. `answer(&World, &Asked, &mut Dice, &mut [u8]) -> Outcome` is pure and total: no I/O, no clock, no lock, no allocation,
//! no log; whatever octets come in, it comes back with a reply or with the decision to stay silent.
//!
//! `answer` is parse → find → write: [`crate::dns::request`] reads, [`walk`] follows RFC 1034 §4.3.2 through our zones and writes as it goes,
//! [`steer`] decides at steered names, [`opt`] closes with EDNS. What most queries get needs no walk ([`direct`]).

mod chaos;
mod direct;
mod opt;
mod prepare;
mod steer;
mod tsig;
mod walk;
mod why;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use self::opt::PADDING_BLOCK;
use self::opt::{Extended, Said};
pub use self::prepare::{Prepared, prepare};
use self::walk::{End, Start};
use crate::dns::{Class, Cookie, Edns, Fault, Keepalive, Parsed, QueryName, Rcode, RecordType, Request, ServerPart, Writer, request};
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
    /// How long the connection may be idle from now on, in units of 100 ms (RFC 7828 §3.1); told to clients that ask. Of no meaning over UDP.
    pub keepalive: u16,
}

/// How a query came, as far as answers depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Replies are bounded by the client's EDNS payload size and by ours.
    Udp,
    /// Replies are bounded by 65,535 octets.
    Tcp,
    /// DNS over TLS (RFC 7858). As TCP, but nobody on the way can read it: replies are padded for clients that pad (RFC 7830, RFC 8467).
    Tls,
    /// DNS over HTTPS (RFC 8484). As over TLS, but HTTP says how long the connection is kept.
    Https,
    /// DNS over QUIC (RFC 9250). As over TLS, but QUIC says how long the connection is kept, and every reply with OPT is padded.
    Quic,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Https, Transport::Quic];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Https => "https",
            Transport::Quic => "quic",
        }
    }

    /// Nobody on the way can read it.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Https | Transport::Quic)
    }

    /// A reply with OPT is padded: over QUIC always (RFC 9250 §5.4), else for clients that pad (RFC 7830 §4); never where everybody can read it.
    fn pads(self, is_asked: bool) -> bool {
        match self {
            Transport::Udp | Transport::Tcp => false,
            Transport::Tls | Transport::Https => is_asked,
            Transport::Quic => true,
        }
    }

    /// The DNS has a word in how long the connection is kept (RFC 7828 §3; RFC 9250 §5.5.2 and HTTP have their own ways).
    fn has_keepalive(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }
}

/// What a query's cookie says of its sender (RFC 7873 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CookieState {
    /// No cookie.
    #[default]
    None,
    /// A client cookie, without a server cookie that would be valid: the source address may be forged.
    ClientOnly,
    /// A valid server cookie: the sender has had a reply of ours at this address within the hour.
    Valid,
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

/// What a reply says, as far as limits on replies tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Records in the answer section, or too many of them to fit.
    Answer,
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// Ask the servers below.
    Referral,
    /// Any other response code.
    Error,
}

/// Whom a reply is good for, besides the client that asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Whoever asks the same gets the same; chance and time apart.
    #[default]
    Everybody,
    /// It was chosen by who asked, or holds a cookie that is bound to the address (RFC 9018 §4).
    Client,
    /// `_why.` was asked: some may know, others are told something else.
    Operators,
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
    /// Where its question ends; 12 without one.
    pub question_end: usize,
    /// Octets of the OPT record at its end (of an error perhaps before TSIG); 0 without one.
    pub opt_len: usize,
    /// What it says.
    pub kind: Kind,
    /// Equal for replies that say the same: made from the name that the reply comes from (for one synthesised from a wildcard or a DNAME that
    /// owner, for NXDOMAIN the apex), and the type of an answer; 0 for errors. So names that a client invents share one subject.
    pub subject: u64,
    /// Counter slot of the zone that answered ([`crate::world`]); `None` when no zone is ours.
    pub zone_slot: Option<u32>,
    /// Counter slot of the pool that was chosen.
    pub pool_slot: Option<u32>,
    /// Counter slot of the policy that decided.
    pub policy_slot: Option<u32>,
    /// What the query's cookie says of its sender.
    pub cookie: CookieState,
    /// Whom else it is good for.
    pub audience: Audience,
}

/// The largest UDP payload we send, whatever the client says it takes (DNS Flag Day 2020; RFC 9715 §3).
pub const MAX_UDP_PAYLOAD: u16 = 1232;

/// The largest UDP payload for clients without EDNS (RFC 1035 §4.2.1).
const PLAIN_UDP_PAYLOAD: u16 = 512;

/// Answers one query into `reply`, which holds at least [`MAX_REPLY_LEN`] octets for TCP and [`MAX_UDP_PAYLOAD`] for UDP.
pub fn answer(world: &World, asked: &Asked<'_>, dice: &mut Dice, reply: &mut [u8]) -> Outcome {
    prepare(world, asked, &mut QueryName::root()).finish(world, asked, dice, reply)
}

/// A query that has no question, only a cookie (RFC 7873 §5.4).
#[cold]
fn cookie_query(world: &World, asked: &Asked<'_>, edns: &Edns, dice: &Dice, reply: &mut [u8]) -> Outcome {
    let rcode = match (&edns.cookie, opt::cookie(world, asked, Some(edns), dice.unix_s).0) {
        // Cookies are off: a question is missing (RFC 9619 §4).
        (_, CookieState::None) | (None, _) => Rcode::FORMERR,
        (Some(Cookie { server: ServerPart::Absent, .. }), _) | (_, CookieState::Valid) => Rcode::NOERROR,
        (_, CookieState::ClientOnly) => Rcode::BADCOOKIE,
    };
    let fault = Fault { rcode, question_end: request::HEADER_LEN, edns: Some(*edns), tsig: None };
    finish_fault(world, asked, &fault, dice, reply)
}

fn finish_fault(world: &World, asked: &Asked<'_>, fault: &Fault, dice: &Dice, reply: &mut [u8]) -> Outcome {
    // NOTIFY or UPDATE, for only they are refused without a look at our zones.
    let rcode = if fault.rcode == Rcode::REFUSED && !names_our_zone(world, asked.packet) { Rcode::NOTAUTH } else { fault.rcode };
    reply_to_fault(world, asked, &Fault { rcode, ..*fault }, dice.unix_s, reply).map_or(Outcome::Silence, Outcome::Reply)
}

/// True when the message is about a zone of ours as a whole (RFC 2136 §3.1.2).
#[cold]
fn names_our_zone(world: &World, packet: &[u8]) -> bool {
    let mut zone = QueryName::root();
    let is_in = |end: usize| packet.get(end + 2..end + 4) == Some(&Class::IN.0.to_be_bytes()[..]);
    packet.get(request::HEADER_LEN..).is_some_and(|question| zone.set(question))
        && is_in(request::HEADER_LEN + zone.as_wire().len())
        && world.zones.has_apex(&zone)
}

/// Writes BADCOOKIE with a fresh server cookie instead of an answer (RFC 7873 §5.2.3): for a server under load, to a client that sent a client
/// cookie only. A real one asks again with the server cookie at once; a forged source gets a reply of the size of its query.
/// `None` when the query has no cookie to answer, or cookies are off.
pub fn bad_cookie(world: &World, asked: &Asked<'_>, dice: &Dice, reply: &mut [u8]) -> Option<Reply> {
    let mut name = QueryName::root();
    let Parsed::Query(Request { question, edns: Some(edns) }) = request::parse(asked.packet, &mut name) else { return None };
    if edns.cookie.is_none() || world.server.cookies.is_none() {
        return None;
    }
    let fault = Fault { rcode: Rcode::BADCOOKIE, question_end: question.end, edns: Some(edns), tsig: None };
    reply_to_fault(world, asked, &fault, dice.unix_s, reply)
}

/// A reply that is a response code, with OPT if the query had it (RFC 6891 §7).
#[cold]
fn reply_to_fault(world: &World, asked: &Asked<'_>, fault: &Fault, unix_s: u64, reply: &mut [u8]) -> Option<Reply> {
    let limit = usize::from(PLAIN_UDP_PAYLOAD);
    let mut writer = Writer::begin(reply, asked.packet, fault.question_end, if asked.transport.is_encrypted() { MAX_REPLY_LEN } else { limit })?;
    let edns = fault.edns.as_ref();
    let (cookie, both) = opt::cookie(world, asked, edns, unix_s);
    let extended = match fault.rcode {
        Rcode::NOTIMP => Some(Extended::NotSupported),
        Rcode::REFUSED => Some(Extended::Prohibited),
        // With TSIG it is about the key.
        Rcode::NOTAUTH if fault.tsig.is_none() => Some(Extended::NotAuthoritative),
        _ => None,
    };
    writer.set_rcode(fault.rcode);
    let before_opt = writer.len();
    // Nothing was looked at that depends on the client: scope 0 (RFC 7871 §7.2.1).
    let scope = steer::trusted_ecs(world, asked.source, edns).map(|_| 0);
    opt::write(world, asked, edns, &Said { rcode: fault.rcode, scope, extended, cookie: both }, &mut writer);
    let opt_len = writer.len() - before_opt;
    if let Some(tsig) = &fault.tsig {
        tsig::write_bad_key(asked.packet, tsig, &mut writer);
    }
    Some(Reply {
        len: writer.finish(),
        rcode: fault.rcode,
        truncated: false,
        question_end: fault.question_end,
        opt_len,
        // A cookie that was asked for alone is no error.
        kind: if fault.rcode == Rcode::NOERROR { Kind::NoData } else { Kind::Error },
        subject: 0,
        zone_slot: None,
        pool_slot: None,
        policy_slot: None,
        cookie,
        audience: if both.is_some() { Audience::Client } else { Audience::Everybody },
    })
}

fn reply_to(world: &World, asked: &Asked<'_>, request: &Request<'_>, start: Option<Start<'_>>, dice: &mut Dice, reply: &mut [u8]) -> Outcome {
    let edns = request.edns.as_ref();
    let limit = match (asked.transport, edns) {
        (Transport::Udp, Some(edns)) => usize::from(edns.udp_payload.min(MAX_UDP_PAYLOAD)),
        (Transport::Udp, None) => usize::from(PLAIN_UDP_PAYLOAD),
        _ => MAX_REPLY_LEN,
    };
    if let (Some(Edns { keepalive: Keepalive::Malformed, .. }), true) = (edns, asked.transport.has_keepalive()) {
        let fault = Fault { rcode: Rcode::FORMERR, question_end: request.question.end, edns: request.edns, tsig: None };
        return finish_fault(world, asked, &fault, dice, reply);
    }
    let Some(mut writer) = Writer::begin(reply, asked.packet, request.question.end, limit) else { return Outcome::Silence };
    let room = opt::room(world, edns);
    if !writer.reserve(room) {
        return Outcome::Silence;
    }
    let end = match request.question.class {
        class @ (Class::IN | Class::ANY) => {
            let end = walk::answer(world, asked, request, start, dice, &mut writer);
            if class == Class::ANY {
                // Nobody can speak for all classes (RFC 1035 §6.2).
                writer.set_authoritative(false);
            }
            end
        }
        class => {
            let scope = steer::trusted_ecs(world, asked.source, edns).map(|_| 0);
            match class {
                Class::CH => End { scope, ..chaos::answer(world, request, &mut writer) },
                _ => End { scope, extended: Some(Extended::NotSupported), ..End::refused() },
            }
        }
    };
    writer.set_rcode(end.rcode);
    if end.truncated {
        writer.set_truncated();
    }
    writer.release(room);
    let (kind, subject) = sort(&end, writer.has_answers(), request.question.rtype);
    let before_opt = writer.len();
    let (cookie, both) = opt::cookie(world, asked, edns, dice.unix_s);
    opt::write(world, asked, edns, &Said { rcode: end.rcode, scope: end.scope, extended: end.extended, cookie: both }, &mut writer);
    let opt_len = writer.len() - before_opt;
    Outcome::Reply(Reply {
        len: writer.finish(),
        rcode: end.rcode,
        truncated: end.truncated,
        question_end: request.question.end,
        opt_len,
        kind,
        subject,
        zone_slot: end.zone_slot,
        pool_slot: end.pool_slot,
        policy_slot: end.policy_slot,
        cookie,
        audience: if both.is_some() { end.audience.max(Audience::Client) } else { end.audience },
    })
}

/// Turns a reply in its buffer into an empty one with TC: header, question, OPT. Whoever gets it asks again over TCP. The code stays.
pub fn truncate(reply: &Reply, buf: &mut [u8]) -> Reply {
    let len = reply.question_end + reply.opt_len;
    if len <= reply.len && reply.len <= buf.len() && reply.question_end >= request::HEADER_LEN {
        buf.copy_within(reply.len - reply.opt_len..reply.len, reply.question_end);
        buf[2] |= 0x02;
        buf[6..request::HEADER_LEN].fill(0);
        buf[request::HEADER_LEN - 1] = u8::from(reply.opt_len > 0);
    }
    Reply { len, truncated: true, ..*reply }
}

/// Spread over all bits, so that no type of one name meets another name.
#[inline]
fn subject_of_answer(name: u64, rtype: RecordType) -> u64 {
    name.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(rtype.0)
}

/// What a reply says, and about what.
///
/// ```text
/// answers or TC   code                          kind       subject
/// yes             any                           Answer     name and type
/// no              NXDOMAIN                      NxDomain   apex
/// no              NOERROR, below a delegation   Referral   delegation
/// no              NOERROR                       NoData     name
/// no              other                         Error      0
/// ```
#[inline]
fn sort(end: &End, has_answers: bool, rtype: RecordType) -> (Kind, u64) {
    match (has_answers || end.truncated, end.rcode) {
        (true, _) => (Kind::Answer, subject_of_answer(end.subject, rtype)),
        (false, Rcode::NXDOMAIN) => (Kind::NxDomain, end.subject),
        (false, Rcode::NOERROR) if end.referred => (Kind::Referral, end.subject),
        (false, Rcode::NOERROR) => (Kind::NoData, end.subject),
        _ => (Kind::Error, 0),
    }
}
