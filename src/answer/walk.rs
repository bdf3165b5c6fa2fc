//! The walk of RFC 1034 §4.3.2 through our zones, writing as it goes.

use super::opt::Extended;
use super::steer::{self, Client, Picked};
use super::{Asked, Audience, Dice, why};
use crate::dns::request::HEADER_LEN;
use crate::dns::{Class, Full, QueryName, Rcode, RecordType, Request, Section, Writer};
use crate::policy::plan::{AddressSet, AnswerSet};
use crate::world::{Served, World, ZoneWorld};
use crate::zone::Ttl;
use crate::zone::tree::{Found, NO_NODE, NO_STEER, NodeId, Rrset, compressible, hash_name};

/// CNAMEs and DNAMEs followed in one answer. Longer chains end there: resolvers ask on by themselves (CONTRACT).
const MAX_CHAIN: usize = 16;

/// Owner (a pointer), type, class, TTL and length of a record in a prepared block.
const RECORD_HEAD_LEN: usize = 12;

/// Targets of a pool's records whose addresses go with them.
const MAX_COURTESIES: usize = 16;

/// TTL of the HINFO that answers ANY (RFC 8482 §4.2 leaves it to us).
const ANY_TTL: Ttl = 3600;

/// How a walk ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) rcode: Rcode,
    pub(super) truncated: bool,
    /// Client-subnet scope; `None` when the option is not used and so not sent back.
    pub(super) scope: Option<u8>,
    pub(super) extended: Option<Extended>,
    pub(super) zone_slot: Option<u32>,
    pub(super) pool_slot: Option<u32>,
    pub(super) policy_slot: Option<u32>,
    /// The name that the reply comes from ([`super::Reply::subject`]).
    pub(super) subject: u64,
    /// It is a referral.
    pub(super) referred: bool,
    /// Whom it is good for.
    pub(super) audience: Audience,
}

impl End {
    /// REFUSED, nothing else.
    pub(super) fn refused() -> End {
        End {
            rcode: Rcode::REFUSED,
            truncated: false,
            scope: None,
            extended: None,
            zone_slot: None,
            pool_slot: None,
            policy_slot: None,
            subject: 0,
            referred: false,
            audience: Audience::Everybody,
        }
    }
}

/// Whose record is being written.
#[derive(Clone, Copy)]
enum Owner<'n> {
    /// The question's name: a pointer to it keeps the client's case.
    Question,
    /// A name reached through a CNAME or DNAME, lower case.
    Target(&'n QueryName),
}

/// Where a walk begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'w> {
    /// The zone that the name belongs to.
    pub(super) served: Served<'w>,
    /// The name's hash.
    pub(super) hash: u64,
    /// Its node, if somebody looked.
    pub(super) likely: NodeId,
}

/// The zone to answer from: the deepest, but for DS at an apex the one above it, if that is ours too, whether or not the deeper one could be loaded
/// (RFC 4035 §3.1.4.1).
#[inline]
pub(super) fn start<'w>(world: &'w World, name: &QueryName, rtype: RecordType) -> Option<Start<'w>> {
    let above = if rtype == RecordType::DS { world.zones.find(name, name.label_count()) } else { None };
    let (served, hash) = above.or_else(|| world.zones.find(name, usize::MAX))?;
    Some(Start { served, hash, likely: NO_NODE })
}

struct Walk<'a, 'w, 'b> {
    world: &'w World,
    request: &'a Request<'a>,
    client: Client,
    dice: &'a mut Dice,
    writer: &'a mut Writer<'b>,
    end: End,
    /// Where the last hop leads on, by CNAME or DNAME. Kept here, because a name is too large to be handed up from call to call.
    onward: Option<QueryName>,
}

/// Answers a question of class IN, whose zone is that of `start`.
pub(super) fn answer<'w>(
    world: &'w World,
    asked: &Asked<'_>,
    request: &Request<'_>,
    start: Option<Start<'w>>,
    dice: &mut Dice,
    writer: &mut Writer<'_>,
) -> End {
    let rtype = request.question.rtype;
    let client = Client::of(world, asked.source, request);
    let scope = client.ecs.map(|_| 0);
    if matches!(rtype, RecordType::AXFR | RecordType::IXFR) {
        // Until they are configured. Other types that are no data (RFC 6895 §3.1) are found nowhere and so are NODATA.
        return End { scope, extended: Some(Extended::Prohibited), ..End::refused() };
    }
    let end = End { rcode: Rcode::NOERROR, scope, ..End::refused() };
    let mut walk = Walk { world, request, client, dice, writer, end, onward: None };
    let full = walk.run(start).is_err();
    let mut end = walk.end;
    // Sets are written whole or not at all; those before the one that did not fit stay (RFC 2181 §9).
    end.truncated = full;
    end
}

impl<'w> Walk<'_, 'w, '_> {
    fn run(&mut self, start: Option<Start<'w>>) -> Result<(), Full> {
        self.hop(start, self.request.question.name, Owner::Question, true)?;
        if self.onward.is_some() { self.follow() } else { Ok(()) }
    }

    fn follow(&mut self) -> Result<(), Full> {
        let mut seen: [u64; MAX_CHAIN] = [0; MAX_CHAIN];
        for done in 0..MAX_CHAIN {
            let Some(target) = self.onward.take() else { return Ok(()) };
            let hash = hash_name(target.as_wire());
            // A loop is told once.
            if target.as_wire() == self.request.question.name.as_wire() || seen[..done].contains(&hash) {
                return Ok(());
            }
            seen[done] = hash;
            let start = start(self.world, &target, self.request.question.rtype);
            self.hop(start, &target, Owner::Target(&target), false)?;
        }
        Ok(())
    }

    fn hop(&mut self, start: Option<Start<'w>>, name: &QueryName, owner: Owner<'_>, first: bool) -> Result<(), Full> {
        let Some(Start { served, hash, likely }) = start else {
            if first {
                self.end = End { scope: self.end.scope, extended: Some(Extended::NotAuthoritative), ..End::refused() };
            }
            return Ok(());
        };
        let zone = match served {
            Served::Up(zone) => zone,
            Served::Down if first => {
                self.end = End { rcode: Rcode::SERVFAIL, scope: self.end.scope, extended: Some(Extended::NotReady), ..End::refused() };
                return Ok(());
            }
            Served::Down => return Ok(()),
        };
        if first {
            self.end.zone_slot = Some(zone.slot);
            self.writer.set_authoritative(true);
        }
        let found = zone.tree.find_likely(name, hash, likely);
        if first {
            let from = match found {
                Found::Node(node) | Found::Wildcard(node) | Found::Delegation(node) | Found::Dname(node) => node,
                Found::Nothing => zone.tree.apex_node(),
            };
            self.end.subject = subject(zone, from);
        }
        if first && matches!(found, Found::Nothing | Found::Wildcard(_)) && self.asks_why(name) {
            self.end.audience = Audience::Operators;
            if self.world.server.may_ask_why(self.client.resolver) && self.why(zone, name)? {
                return Ok(());
            }
        }
        match found {
            Found::Node(node) | Found::Wildcard(node) => self.at_node(zone, node, owner),
            Found::Delegation(cut) => self.at_cut(zone, cut, name, owner, first),
            Found::Dname(node) => self.at_dname(zone, node, name, owner),
            Found::Nothing => {
                self.end.rcode = Rcode::NXDOMAIN;
                self.negative(zone, owner)
            }
        }
    }

    fn asks_why(&self, name: &QueryName) -> bool {
        self.request.question.rtype == RecordType::TXT && name.label_count() > 0 && name.label_from_right(name.label_count()) == why::LABEL
    }

    /// `_why.NAME`: false when NAME is no steered name of this zone.
    fn why(&mut self, zone: &ZoneWorld, name: &QueryName) -> Result<bool, Full> {
        let Some(target) = QueryName::read(name.suffix(name.label_count() - 1)) else { return Ok(false) };
        let (Found::Node(node) | Found::Wildcard(node)) = zone.tree.find(&target, hash_name(target.as_wire())) else { return Ok(false) };
        let steer = zone.tree.node(node).steer;
        if steer == NO_STEER {
            return Ok(false);
        }
        let scope = why::write(zone, steer as usize, &self.client, self.dice.unix_s, name.as_wire(), self.writer)?;
        self.end.scope = self.end.scope.map(|_| scope);
        Ok(true)
    }

    fn at_node(&mut self, zone: &'w ZoneWorld, node: NodeId, owner: Owner<'_>) -> Result<(), Full> {
        let rtype = self.request.question.rtype;
        let tree = &zone.tree;
        if rtype == RecordType::ANY {
            return self.any(zone, node, owner);
        }
        if let Some(rrset) = tree.rrset(node, rtype) {
            if let (RecordType::DNAME, Owner::Target(name)) = (rtype, owner)
                && self.writer.holds(self.request.question.end, name.as_wire(), rtype)
            {
                // The chain came by it: no set stands in a message twice (RFC 2181 §5).
                return Ok(());
            }
            return self.rrset(zone, node, &rrset, owner);
        }
        if let Some(cname) = tree.rrset(node, RecordType::CNAME) {
            if matches!(rtype, RecordType::RRSIG | RecordType::NSEC) {
                // They stand beside a CNAME (RFC 4035 §2.5), so they are not looked for behind it.
                return self.negative(zone, owner);
            }
            let is_first = self.writer.is_empty();
            self.rrset(zone, node, &cname, owner)?;
            if is_first {
                // The next owner points to it.
                self.writer.learn_question();
                self.writer.learn_labels_at(self.request.question.end + RECORD_HEAD_LEN);
            }
            self.onward = tree.rdatas(&cname).next().and_then(QueryName::read);
            return Ok(());
        }
        match tree.node(node).steer {
            NO_STEER => self.negative(zone, owner),
            steer => self.steered(zone, steer, owner),
        }
    }

    /// One static RRset: the prepared octets hold for any question that it answers first; else it is written out. What goes with it follows as
    /// far as it fits.
    fn rrset(&mut self, zone: &ZoneWorld, node: NodeId, rrset: &Rrset, owner: Owner<'_>) -> Result<(), Full> {
        let tree = &zone.tree;
        let overlaid = overlaid_ttl(zone, node, rrset.rtype);
        if let (true, Owner::Question, None) = (rrset.is_plain(), owner, overlaid)
            && self.writer.is_empty()
        {
            return self.writer.put_block(Section::Answer, tree.block(rrset), rrset.count).map(|_| ());
        }
        self.other_rrset(zone, rrset, overlaid, owner)
    }

    /// One that is more than a copy of its prepared octets, or cannot be copied here.
    fn other_rrset(&mut self, zone: &ZoneWorld, rrset: &Rrset, overlaid: Option<Ttl>, owner: Owner<'_>) -> Result<(), Full> {
        let tree = &zone.tree;
        let is_soa = rrset.rtype == RecordType::SOA;
        let rotates = rrset.rotates() && self.world.server.rotate;
        if let (Owner::Question, None, false) = (owner, overlaid, is_soa)
            && self.writer.is_empty()
        {
            let block = tree.block(rrset);
            if rotates {
                self.rotated(block, rrset.count)?;
            } else {
                let from = self.writer.put_block(Section::Answer, block, rrset.count)?;
                self.learn_targets(rrset, from);
            }
        } else {
            let ttl = overlaid.unwrap_or(rrset.ttl);
            if is_soa {
                return self.soa(zone, Section::Answer, ttl);
            }
            let first = if rotates { steer::below(self.dice, u64::from(rrset.count)) as usize } else { 0 };
            let rdatas = tree.rdatas(rrset).skip(first).chain(tree.rdatas(rrset).take(first));
            self.records(Section::Answer, owner, rrset.rtype, ttl, rdatas)?;
        }
        if rrset.has_extras() { self.extras(zone, rrset, owner) } else { Ok(()) }
    }

    /// Remembers the names in a block that was copied, for what follows to point to. Only of types whose names everybody may meet compressed
    /// (RFC 3597 §4), and only where something follows.
    fn learn_targets(&mut self, rrset: &Rrset, mut from: usize) {
        let offset = match rrset.rtype {
            RecordType::NS => RECORD_HEAD_LEN,
            RecordType::MX => RECORD_HEAD_LEN + 2,
            _ => return,
        };
        if !rrset.has_extras() {
            return;
        }
        self.writer.learn_question();
        for _ in 0..rrset.count {
            self.writer.learn_labels_at(from + offset);
            from += RECORD_HEAD_LEN + self.writer.rdata_len_at(from);
        }
    }

    /// Addresses, which are records of one length, from a random one on.
    fn rotated(&mut self, block: &[u8], count: u16) -> Result<(), Full> {
        let first = steer::below(self.dice, u64::from(count)) as u16;
        let (head, tail) = block.split_at(block.len() / usize::from(count) * usize::from(first));
        let start = self.writer.mark();
        self.writer.put_block(Section::Answer, tail, count - first)?;
        let rest = self.writer.put_block(Section::Answer, head, first).map(|_| ());
        if rest.is_err() {
            self.writer.rewind(start);
        }
        rest
    }

    /// What goes with an RRset, each set whole or not at all. Fails only for glue that the reply cannot do without (RFC 9471 §3.1).
    fn extras(&mut self, zone: &ZoneWorld, rrset: &Rrset, owner: Owner<'_>) -> Result<(), Full> {
        let tree = &zone.tree;
        self.writer.learn_question();
        for extra in tree.extras(rrset) {
            let Some((name, set)) = tree.extra(extra) else { continue };
            let ttl = ttl_of(zone, extra.node, &set);
            let name = if name.is_empty() { name_of(self.request, owner) } else { name };
            let start = self.writer.mark();
            for rdata in tree.rdatas(&set) {
                if self.writer.put_record(Section::Additional, name, set.rtype, ttl, rdata, []).is_err() {
                    self.writer.rewind(start);
                    if extra.is_needed {
                        return Err(Full);
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    /// The records of one RRset: all of them, or none and an error.
    fn records<'d>(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: RecordType,
        ttl: Ttl,
        rdatas: impl Iterator<Item = &'d [u8]>,
    ) -> Result<(), Full> {
        let start = self.writer.mark();
        for rdata in rdatas {
            if self.record(section, owner, rtype, ttl, rdata).is_err() {
                self.writer.rewind(start);
                return Err(Full);
            }
        }
        Ok(())
    }

    fn record(&mut self, section: Section, owner: Owner<'_>, rtype: RecordType, ttl: Ttl, rdata: &[u8]) -> Result<(), Full> {
        self.writer.learn_question();
        let owner = name_of(self.request, owner);
        self.writer.put_record(section, owner, rtype, ttl, rdata, compressible(rtype, rdata))
    }

    /// NODATA and NXDOMAIN: the SOA in the authority section, at the negative TTL (RFC 2308 §2).
    fn negative(&mut self, zone: &ZoneWorld, owner: Owner<'_>) -> Result<(), Full> {
        if self.request.question.class == Class::ANY {
            // Without authority there is nothing to cache (RFC 2308 §2.1.1, RFC 1035 §6.2).
            return Ok(());
        }
        let tree = &zone.tree;
        let ready = tree.negative();
        let overlaid = overlaid_ttl(zone, tree.apex_node(), RecordType::SOA);
        if let (Owner::Question, true, None) = (owner, self.writer.is_empty(), overlaid) {
            let at = self.writer.put_block(Section::Authority, &ready.octets, u16::from(!ready.octets.is_empty()))?;
            let longer = (self.request.question.name.as_wire().len() - tree.apex().as_wire().len()) as u16;
            ready.fit(self.writer.from_mut(at), longer, zone.serial);
            return Ok(());
        }
        let ttl = tree.negative_ttl();
        self.soa(zone, Section::Authority, overlaid.map_or(ttl, |overlaid| overlaid.min(ttl)))?;
        Ok(())
    }

    fn soa(&mut self, zone: &ZoneWorld, section: Section, ttl: Ttl) -> Result<(), Full> {
        let tree = &zone.tree;
        let Some(rdata) = tree.soa().and_then(|soa| tree.rdatas(&soa).next()) else { return Ok(()) };
        self.writer.learn_question();
        self.writer.put_record(section, tree.apex().as_wire(), RecordType::SOA, ttl, rdata, compressible(RecordType::SOA, rdata))?;
        self.writer.patch(self.writer.len() - 20, &zone.serial.to_be_bytes());
        Ok(())
    }

    /// At or below a delegation: a referral, or DS from our side of the cut (RFC 4035 §3.1.4.1).
    fn at_cut(&mut self, zone: &'w ZoneWorld, cut: NodeId, name: &QueryName, owner: Owner<'_>, first: bool) -> Result<(), Full> {
        let tree = &zone.tree;
        if self.request.question.rtype == RecordType::DS && tree.name(cut) == name.as_wire() {
            return match tree.rrset(cut, RecordType::DS) {
                Some(ds) => self.rrset(zone, cut, &ds, owner),
                None => self.negative(zone, owner),
            };
        }
        if first {
            self.writer.set_authoritative(false);
            self.end.referred = true;
        }
        self.writer.learn_question();
        let Some(ns) = tree.rrset(cut, RecordType::NS) else { return Ok(()) };
        let cut_name = QueryName::read(tree.name(cut)).unwrap_or_else(QueryName::root);
        self.records(Section::Authority, Owner::Target(&cut_name), RecordType::NS, ttl_of(zone, cut, &ns), tree.rdatas(&ns))?;
        self.extras(zone, &ns, owner)
    }

    /// RFC 6672 §3.2: the DNAME, the CNAME made from it, and on.
    fn at_dname(&mut self, zone: &'w ZoneWorld, node: NodeId, name: &QueryName, owner: Owner<'_>) -> Result<(), Full> {
        let tree = &zone.tree;
        let Some(dname) = tree.rrset(node, RecordType::DNAME) else { return Ok(()) };
        let Some(target) = tree.rdatas(&dname).next() else { return Ok(()) };
        let ttl = ttl_of(zone, node, &dname);
        self.writer.learn_question();
        // A chain may come by more than once, but no set stands in a message twice (RFC 2181 §5).
        if !self.writer.holds(self.request.question.end, tree.name(node), RecordType::DNAME) {
            self.writer.put_record(Section::Answer, tree.name(node), RecordType::DNAME, ttl, target, [])?;
        }
        let kept = name.as_wire().len() - tree.name(node).len();
        let mut wire = [0u8; 255];
        let len = kept + target.len();
        let Some(room) = wire.get_mut(..len) else {
            self.end.rcode = Rcode::YXDOMAIN;
            return Ok(());
        };
        room[..kept].copy_from_slice(&name.as_wire()[..kept]);
        room[kept..].copy_from_slice(target);
        self.record(Section::Answer, owner, RecordType::CNAME, ttl, &wire[..len])?;
        // A DNAME that leads below itself would only make the name longer and longer.
        let grows = target.ends_with(tree.name(node)) && QueryName::read(target).is_some_and(|to| to.suffix(tree.labels(node)) == tree.name(node));
        if self.request.question.rtype == RecordType::CNAME || grows {
            return Ok(());
        }
        self.onward = QueryName::read(&wire[..len]);
        Ok(())
    }

    /// RFC 8482 §4.2: one HINFO for whatever there is; a CNAME shows itself.
    fn any(&mut self, zone: &'w ZoneWorld, node: NodeId, owner: Owner<'_>) -> Result<(), Full> {
        let tree = &zone.tree;
        if let Some(cname) = tree.rrset(node, RecordType::CNAME) {
            return self.rrset(zone, node, &cname, owner);
        }
        let steer = tree.node(node).steer;
        if steer != NO_STEER && zone.steered.get(steer as usize).is_some_and(|name| name.is_cname) {
            return self.steered(zone, steer, owner);
        }
        let is_empty = tree.rrsets(node).next().is_none() && tree.node(node).steer == NO_STEER;
        if is_empty {
            return self.negative(zone, owner);
        }
        self.record(Section::Answer, owner, RecordType::HINFO, ANY_TTL, b"\x07RFC8482\x00")?;
        Ok(())
    }

    fn steered(&mut self, zone: &'w ZoneWorld, steer: u32, owner: Owner<'_>) -> Result<(), Full> {
        let rtype = self.request.question.rtype;
        let Some(name) = zone.steered.get(steer as usize) else { return self.negative(zone, owner) };
        // Beside a CNAME these are looked for at the name itself (RFC 4035 §2.5), as at a static one.
        let stays = name.is_cname && matches!(rtype, RecordType::RRSIG | RecordType::NSEC);
        if stays || !name.is_cname && !name.types.contains(&rtype) {
            // True for every class of clients: scope 0.
            return self.negative(zone, owner);
        }
        let Some(steering) = zone.steerings.get(name.steering as usize) else { return self.negative(zone, owner) };
        let (class, scope) = steer::class_of(steering, &self.client);
        self.end.audience = self.end.audience.max(Audience::Client);
        self.end.policy_slot = steering.slot;
        self.end.scope = self.end.scope.map(|longest| longest.max(scope));
        let Some(plan) = steering.plans.get(usize::from(class)) else { return self.negative(zone, owner) };
        match steer::pick(plan, &self.client, self.dice) {
            Picked::Answers(set, answers, ttl) => {
                self.end.pool_slot = set.slot;
                match &name.https {
                    Some(https) if rtype == RecordType::HTTPS => self.https(https, set, answers, ttl, owner),
                    _ => self.hand_out(zone, set, answers, ttl, owner),
                }
            }
            Picked::NoData => self.negative(zone, owner),
            Picked::ServFail => {
                self.writer.set_authoritative(false);
                self.end.rcode = Rcode::SERVFAIL;
                self.end.extended = Some(Extended::AllDown);
                Ok(())
            }
        }
    }

    fn hand_out(&mut self, zone: &'w ZoneWorld, set: &AnswerSet, answers: u8, ttl: Ttl, owner: Owner<'_>) -> Result<(), Full> {
        let rtype = self.request.question.rtype;
        if let Some(target) = &set.cname {
            self.record(Section::Answer, owner, RecordType::CNAME, ttl, target)?;
            if matches!(rtype, RecordType::CNAME | RecordType::ANY) {
                return Ok(());
            }
            self.onward = QueryName::read(target);
            return Ok(());
        }
        match rtype {
            RecordType::A if !set.v4.addrs.is_empty() => self.addresses(&set.v4, answers, rtype, ttl, owner)?,
            RecordType::AAAA if !set.v6.addrs.is_empty() => self.addresses(&set.v6, answers, rtype, ttl, owner)?,
            RecordType::A | RecordType::AAAA => return self.negative(zone, owner),
            _ => {
                let Some((_, rdatas)) = set.records.iter().find(|(other, _)| *other == rtype) else { return self.negative(zone, owner) };
                self.records(Section::Answer, owner, rtype, ttl, rdatas.iter().map(Vec::as_slice))?;
                self.courtesies(zone, rtype, rdatas);
            }
        }
        Ok(())
    }

    /// Addresses of what a pool's records point to, once each, as far as they fit.
    fn courtesies(&mut self, zone: &ZoneWorld, rtype: RecordType, rdatas: &[Vec<u8>]) {
        let tree = &zone.tree;
        let mut told = [NO_NODE; MAX_COURTESIES];
        let targets = rdatas.iter().filter_map(|rdata| tree.target_of(rtype, rdata));
        for ((name, node, types), at) in targets.zip(0..MAX_COURTESIES) {
            // Several names below a wildcard have its node.
            if told.contains(&node) {
                continue;
            }
            told[at] = node;
            for (at, rtype) in types.iter().enumerate() {
                let Some(set) = tree.rrset(node, *rtype).filter(|_| !types[..at].contains(rtype)) else { continue };
                let ttl = ttl_of(zone, node, &set);
                if self.records(Section::Additional, Owner::Target(&name), *rtype, ttl, tree.rdatas(&set)).is_err() {
                    return;
                }
            }
        }
    }

    /// The HTTPS record of a steered name: what A and AAAA would hand out goes into its hints (RFC 9460 §7.3).
    fn https(&mut self, fixed: &[u8], set: &AnswerSet, answers: u8, ttl: Ttl, owner: Owner<'_>) -> Result<(), Full> {
        let mut hints = Hints { rdata: [0; MAX_HTTPS_LEN], len: 0 };
        hints.put(fixed);
        hints.addresses(4, &set.v4, answers, self.dice);
        hints.addresses(6, &set.v6, answers, self.dice);
        self.record(Section::Answer, owner, RecordType::HTTPS, ttl, hints.rdata.get(..hints.len).unwrap_or(fixed))
    }

    fn addresses<const N: usize>(&mut self, set: &AddressSet<N>, answers: u8, rtype: RecordType, ttl: Ttl, owner: Owner<'_>) -> Result<(), Full> {
        let mut result = Ok(());
        let writer = &mut *self.writer;
        let start = writer.mark();
        let Owner::Target(name) = owner else {
            // Owner 0xC00C, type, class IN, TTL, length, address.
            let mut record = [0u8; 12 + 16];
            record[..2].copy_from_slice(&(0xc000 | HEADER_LEN as u16).to_be_bytes());
            record[2..4].copy_from_slice(&rtype.0.to_be_bytes());
            record[5] = 1;
            record[6..10].copy_from_slice(&ttl.to_be_bytes());
            record[11] = N as u8;
            steer::in_random_order(set, answers, self.dice, |addr| {
                record[12..12 + N].copy_from_slice(addr);
                result = result.and(writer.put_block(Section::Answer, &record[..12 + N], 1).map(|_| ()));
            });
            if result.is_err() {
                writer.rewind(start);
            }
            return result;
        };
        writer.learn_question();
        steer::in_random_order(set, answers, self.dice, |addr| {
            result = result.and(writer.put_record(Section::Answer, name.as_wire(), rtype, ttl, addr, []));
        });
        if result.is_err() {
            writer.rewind(start);
        }
        result
    }
}

/// What `config` allows in front of the hints, and the most addresses of both families with the heads of their lists.
const MAX_HTTPS_LEN: usize = 1024 + 2 * 4 + 64 * (4 + 16);

/// Data of an HTTPS record in the making.
struct Hints {
    rdata: [u8; MAX_HTTPS_LEN],
    len: usize,
}

impl Hints {
    fn put(&mut self, octets: &[u8]) {
        // Limits at load leave room for everything.
        if let Some(room) = self.rdata.get_mut(self.len..self.len + octets.len()) {
            room.copy_from_slice(octets);
            self.len += octets.len();
        }
    }

    /// One list of addresses; none when there are none, because a list must not be empty (RFC 9460 §7.3).
    fn addresses<const N: usize>(&mut self, key: u8, set: &AddressSet<N>, answers: u8, dice: &mut Dice) {
        if set.addrs.is_empty() {
            return;
        }
        let head_at = self.len;
        self.put(&[0, key, 0, 0]);
        steer::in_random_order(set, answers, dice, |addr| self.put(addr));
        let len = (self.len - head_at - 4) as u16;
        if let Some(place) = self.rdata.get_mut(head_at + 2..head_at + 4) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }
}

/// The name that a reply comes from, as one number.
#[inline]
pub(super) fn subject(zone: &ZoneWorld, node: NodeId) -> u64 {
    u64::from(zone.slot) << 32 | u64::from(node)
}

fn name_of<'n>(request: &'n Request<'_>, owner: Owner<'n>) -> &'n [u8] {
    match owner {
        Owner::Question => request.question.name.as_wire(),
        Owner::Target(name) => name.as_wire(),
    }
}

/// The TTL that an overlay sets, if one does.
fn overlaid_ttl(zone: &ZoneWorld, node: NodeId, rtype: RecordType) -> Option<Ttl> {
    zone.ttls.as_ref()?.get(&(node, rtype)).copied()
}

/// The TTL in effect.
fn ttl_of(zone: &ZoneWorld, node: NodeId, rrset: &Rrset) -> Ttl {
    overlaid_ttl(zone, node, rrset.rtype).unwrap_or(rrset.ttl)
}
