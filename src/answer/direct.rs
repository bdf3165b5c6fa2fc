//! The replies that most queries get, written straight into the buffer, at a name that is there: the addresses of a steered name, one static RRset,
//! or that there is none.
//!
//! ```text
//! header │ question as it came │ records whose owner is 0xC00C, or the SOA │ the query's own OPT, with our payload size, DO, and the subnet's scope
//! ```
//!
//! Whatever is more than that, and every doubt, is left to the [walk], which says the same of these in a third more instructions
//! (`cargo bench --bench instructions`); `control::allocations` and the fuzz target `answer` hold the two against each other, octet for octet.

use super::steer::{self, Client, Picked};
use super::{Asked, Audience, CookieState, Dice, Kind, MAX_UDP_PAYLOAD, PLAIN_UDP_PAYLOAD, Reply, Transport, walk};
use crate::dns::request::HEADER_LEN;
use crate::dns::{Class, ClientSubnet, Edns, Rcode, RecordType, Request};
use crate::policy::plan::{AddressSet, AnswerSet};
use crate::world::{Served, Steering, World, ZoneWorld};
use crate::zone::Ttl;
use crate::zone::tree::{NO_NODE, NO_STEER, Node, Rrset};

/// OPT without options: root owner, type, class, TTL, length.
const OPT_LEN: usize = 11;
/// A client-subnet option without its address: code, length, family, two prefix lengths.
const SUBNET_LEN: usize = 4 + 4;
/// The owner 0xC00C, type, class, TTL, length.
const RECORD_HEAD_LEN: usize = 12;

/// A message in the making.
struct Message<'b> {
    /// As far as the reply may reach, OPT not counted.
    room: &'b mut [u8],
    at: usize,
    answers: u16,
    authority: u8,
}

impl Message<'_> {
    /// Whole records; nothing when they do not fit.
    #[inline]
    fn put(&mut self, records: &[u8], count: u16) -> Option<()> {
        let end = self.at + records.len();
        self.room.get_mut(self.at..end)?.copy_from_slice(records);
        self.at = end;
        self.answers += count;
        Some(())
    }

    /// The SOA, for a name of this zone.
    #[inline]
    fn put_negative(&mut self, zone: &ZoneWorld, name: &[u8]) -> Option<()> {
        let ready = zone.tree.negative();
        let end = self.at + ready.octets.len();
        let place = self.room.get_mut(self.at..end)?;
        place.copy_from_slice(&ready.octets);
        ready.fit(place, (name.len() - zone.tree.apex().as_wire().len()) as u16, zone.serial);
        self.at = end;
        self.authority = u8::from(!ready.octets.is_empty());
        Some(())
    }

    /// What the set hands out, one record for each address; nothing when they do not fit.
    #[inline]
    fn put_addresses<const N: usize>(&mut self, set: &AddressSet<N>, answers: u8, rtype: RecordType, ttl: Ttl, dice: &mut Dice) -> Option<()> {
        let mut head = [0xc0, HEADER_LEN as u8, 0, 0, 0, 1, 0, 0, 0, 0, 0, N as u8];
        head[2..4].copy_from_slice(&rtype.0.to_be_bytes());
        head[6..10].copy_from_slice(&ttl.to_be_bytes());
        let mut fits = Some(());
        steer::in_random_order(set, answers, dice, |address| {
            let end = self.at + RECORD_HEAD_LEN + N;
            match self.room.get_mut(self.at..end).and_then(|record| record.split_first_chunk_mut::<RECORD_HEAD_LEN>()) {
                Some((place, data)) => {
                    *place = head;
                    data.copy_from_slice(address);
                    self.at = end;
                    self.answers += 1;
                }
                None => fits = None,
            }
        });
        fits
    }
}

/// What a reply is made of.
enum Source {
    Static(Rrset),
    Steered,
    /// The name has nothing of this type.
    Nothing,
}

/// `None` where there is more to it.
#[inline]
fn source_of(zone: &ZoneWorld, node: &Node, rtype: RecordType) -> Option<Source> {
    let tree = &zone.tree;
    match tree.rrset_of(node, rtype) {
        _ if zone.ttls.is_some() => None,
        Some(rrset) => rrset.is_plain().then_some(Source::Static(rrset)),
        None if node.steer != NO_STEER => matches!(rtype, RecordType::A | RecordType::AAAA).then_some(Source::Steered),
        // Those that ask for more than one type, and for the zone itself.
        None if matches!(rtype, RecordType::ANY | RecordType::AXFR | RecordType::IXFR) => None,
        None => tree.rrset_of(node, RecordType::CNAME).is_none().then_some(Source::Nothing),
    }
}

/// The client subnet of a query that has nothing else to answer behind its question; `None` when it has.
#[inline]
fn only_subnet(edns: Option<&Edns>, behind: &[u8]) -> Option<Option<ClientSubnet>> {
    let subnet = edns.and_then(|edns| edns.ecs);
    let options = subnet.map_or(0, |subnet| SUBNET_LEN + usize::from(subnet.source_len.div_ceil(8)));
    // One OPT of this length leaves no room for another record.
    (behind.len() == edns.map_or(0, |_| OPT_LEN + options)).then_some(subnet)
}

/// The reply, or `None`, and nothing has happened but that `reply` may hold a part of it. `start` is that of the question.
#[inline]
pub(super) fn reply(
    world: &World,
    asked: &Asked<'_>,
    request: &Request<'_>,
    start: Option<walk::Start<'_>>,
    dice: &mut Dice,
    reply: &mut [u8],
) -> Option<Reply> {
    let Some(walk::Start { served: Served::Up(zone), likely, .. }) = start else { return None };
    let question = &request.question;
    if likely == NO_NODE || asked.transport != Transport::Udp || question.class != Class::IN {
        return None;
    }
    let (asking, opt) = asked.packet.split_at_checked(question.end)?;
    let edns = request.edns.as_ref();
    let subnet = only_subnet(edns, opt)?;
    if subnet.is_some() && !world.server.trusts_ecs_of(asked.source) {
        return None;
    }
    let node = zone.tree.node(likely);
    if node.barrier != NO_NODE || zone.tree.name_of(&node) != question.name.as_wire() {
        return None;
    }

    let source = source_of(zone, &node, question.rtype)?;

    let limit = usize::from(edns.map_or(PLAIN_UDP_PAYLOAD, |edns| edns.udp_payload.min(MAX_UDP_PAYLOAD)));
    let (room, _) = reply.split_at_mut_checked(limit)?;
    room.get_mut(..question.end)?.copy_from_slice(asking);
    let mut message = Message { room: room.get_mut(..limit - opt.len())?, at: question.end, answers: 0, authority: 0 };
    let (mut scope, mut pool_slot, mut policy_slot, mut audience) = (0, None, None, Audience::Everybody);
    match source {
        Source::Static(rrset) => message.put(zone.tree.block(&rrset), rrset.count)?,
        Source::Steered => {
            let client = Client { resolver: asked.source, ecs: subnet };
            let name = zone.steered.get(node.steer as usize).filter(|name| !name.is_cname)?;
            let steering = zone.steerings.get(name.steering as usize)?;
            let (reaches, set) = steered(steering, question.rtype, &client, dice, &mut message)?;
            (scope, pool_slot, policy_slot, audience) = (reaches, set.slot, steering.slot, Audience::Client);
        }
        Source::Nothing => message.put_negative(zone, question.name.as_wire())?,
    }

    let Message { at, answers, authority, .. } = message;
    let len = at + opt.len();
    let [high, low] = answers.to_be_bytes();
    let header: &mut [u8; HEADER_LEN] = room.first_chunk_mut()?;
    // QR and AA, opcode and RD as they came; CD as it came, no error.
    header[2] = 0x84 | header[2] & 0x79;
    header[3] &= 0x10;
    header[4..].copy_from_slice(&[0, 1, high, low, 0, authority, 0, u8::from(!opt.is_empty())]);
    if let Some(edns) = edns {
        let place = room.get_mut(at..len)?;
        place.copy_from_slice(opt);
        let (fixed, options) = place.split_first_chunk_mut::<OPT_LEN>()?;
        fixed[3..5].copy_from_slice(&MAX_UDP_PAYLOAD.to_be_bytes());
        fixed[5..9].copy_from_slice(&[0, 0, u8::from(edns.dnssec_ok) << 7, 0]);
        if let Some(place) = options.get_mut(SUBNET_LEN - 1) {
            *place = scope;
        }
    }
    let subject = walk::subject(zone, likely);
    let (kind, subject) = if answers > 0 { (Kind::Answer, super::subject_of_answer(subject, question.rtype)) } else { (Kind::NoData, subject) };
    Some(Reply {
        len,
        rcode: Rcode::NOERROR,
        truncated: false,
        question_end: question.end,
        opt_len: opt.len(),
        kind,
        subject,
        zone_slot: Some(zone.slot),
        pool_slot,
        policy_slot,
        cookie: CookieState::None,
        audience,
    })
}

/// The addresses of a steered name for this client, and how far they hold. The dice are as they were when it comes to nothing.
#[inline]
fn steered<'w>(
    steering: &'w Steering,
    rtype: RecordType,
    client: &Client,
    dice: &mut Dice,
    message: &mut Message<'_>,
) -> Option<(u8, &'w AnswerSet)> {
    let (class, scope) = steer::class_of(steering, client);
    let before = dice.clone();
    let mut put = || {
        let Picked::Answers(set, answers, ttl) = steer::pick(steering.plans.get(usize::from(class))?, client, dice) else { return None };
        match rtype {
            _ if set.cname.is_some() => None,
            RecordType::A if !set.v4.addrs.is_empty() => message.put_addresses(&set.v4, answers, rtype, ttl, dice).map(|()| set),
            RecordType::AAAA if !set.v6.addrs.is_empty() => message.put_addresses(&set.v6, answers, rtype, ttl, dice).map(|()| set),
            _ => None,
        }
    };
    let set = put();
    if set.is_none() {
        *dice = before;
    }
    Some((scope, set?))
}
