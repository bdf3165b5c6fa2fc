//! Why a client gets what it gets: the same functions that make plans, asked to tell their reasons, and the engine's own reply decoded by
//! hickory-proto, so that what is shown is what is sent.

use std::fmt;
use std::net::IpAddr;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr;
use hickory_proto::serialize::binary::BinEncodable;
use serde::{Deserialize, Serialize};

use super::api::{Beyond, Overlay};
use super::compile::GeoSources;
use super::overlays::zone_text;
use super::shares::{self, Factor, KeptIn};
use super::status::Seen;
use crate::answer::{self, Asked, Dice, MAX_REPLY_LEN, Outcome, Transport};
use crate::dns::{Name, QueryName, Rcode, RecordType};
use crate::geo::space;
use crate::geo::table::Facts;
use crate::policy::model::{PoolIx, Prefix, Steer, ZoneModel};
use crate::policy::plan::{self, Choice, Considered, Pass, Plan, UNSETTLED};
use crate::policy::resolve::{self, Client, Note};
use crate::world::{Served, Steering, World, ZoneWorld};
use crate::zone::rdata;
use crate::zone::tree::{Found, NO_STEER};

/// Who asks when no client is given: this machine.
const THIS_MACHINE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A question to be explained.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is asked for.
    pub name: Name,
    /// Its type.
    pub rtype: RecordType,
    /// On whose behalf; `None` asks as this machine would.
    pub client: Option<Prefix>,
}

/// Why a question of explain cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadQuestion {
    /// The name.
    Name(String),
    /// The type.
    Type(String),
    /// The client.
    Client(String),
}

impl fmt::Display for BadQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadQuestion::Name(text) => write!(f, "found {text:?}, expected a domain name"),
            BadQuestion::Type(text) => write!(f, "found {text:?}, expected a record type such as A, AAAA or TYPE65"),
            BadQuestion::Client(why) => f.write_str(why),
        }
    }
}

impl Wanted {
    /// Reads what a user typed; an empty client is none.
    pub fn parse(name: &str, rtype: &str, client: &str) -> Result<Wanted, BadQuestion> {
        Ok(Wanted {
            name: Name::parse_absolute(name).map_err(|_| BadQuestion::Name(name.into()))?,
            rtype: rtype.parse().map_err(|_| BadQuestion::Type(rtype.into()))?,
            client: if client.is_empty() { None } else { Some(space::parse_prefix(client).map_err(BadQuestion::Client)?) },
        })
    }
}

/// The whole trace of one answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    /// The question.
    pub name: String,
    /// Its type.
    pub rtype: String,
    /// On whose behalf.
    pub client: String,
    /// Of the world that was asked.
    pub generation: u64,
    /// The zone that answers.
    pub zone: Option<String>,
    /// How the name was found: `name`, `wildcard`, `delegation`, `DNAME`, `no such name`, `not our zone`.
    pub found: String,
    /// What a steered name decided.
    pub steering: Option<SteeringTrace>,
    /// The same for steered names that the answer reaches through CNAMEs, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<SteeringTrace>,
    /// Response code.
    pub rcode: String,
    /// Answer section in presentation format.
    pub answer: Vec<String>,
    /// Authority section.
    pub authority: Vec<String>,
    /// Client-subnet scope of the reply; `None` when no subnet was sent.
    pub scope: Option<u8>,
    /// What operators have laid over what was looked at: whoever explains adds them. Who withdrew a pool, and why, stands here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<Overlay>,
    /// All of it for people, line by line; whoever serves it adds it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What is laid over it beyond the zones of whoever asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<Beyond>,
    /// What was looked at, as overlays name it.
    #[serde(skip)]
    pub about: Vec<String>,
}

/// What a steered name decided, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SteeringTrace {
    /// The steered name as the files write it.
    pub steer: String,
    /// What the databases know of the client.
    pub facts: String,
    /// One entry per policy.
    pub policies: Vec<Note>,
    /// Dense number of the client's class; no identity.
    pub class: u16,
    /// How far the class reaches, in bits of the client's address.
    pub class_scope: u8,
    /// Every pool that was looked at, in order.
    pub pools: Vec<Considered>,
    /// Endpoints of these pools that fail and stay as a last resort, because a safety rule forbids to withdraw them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_in: Vec<KeptIn>,
    /// What gets another share than its weight says: loads, ramps, degraded endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<Factor>,
    /// Which pass decided: `healthy`, `any up`, `last resort`, `all down`.
    pub pass: String,
    /// What is handed out, in words.
    pub choice: Vec<String>,
    /// Seconds.
    pub ttl: u32,
    /// Why this TTL.
    pub ttl_why: String,
    /// What was looked at, as overlays name it.
    #[serde(skip)]
    pub about: Vec<String>,
}

impl Explanation {
    /// Leaves out the names behind CNAMEs of which everything that overlays name is hidden.
    pub fn leave_out(&mut self, is_hidden: impl Fn(&str) -> bool) {
        let (hidden, shown) = std::mem::take(&mut self.then).into_iter().partition(|trace| trace.about.iter().all(|thing| is_hidden(thing)));
        self.then = shown;
        let hidden: Vec<SteeringTrace> = hidden;
        let is_of = |traces: &[SteeringTrace], thing: &String| traces.iter().any(|trace| trace.about.contains(thing));
        self.about
            .retain(|thing| !is_of(&hidden, thing) || is_of(&self.then, thing) || self.steering.iter().any(|trace| trace.about.contains(thing)));
    }

    fn kept_in(&mut self) -> impl Iterator<Item = &mut KeptIn> {
        self.steering.iter_mut().chain(&mut self.then).flat_map(|trace| &mut trace.kept_in)
    }

    /// Something is kept as a last resort: who knows why should be asked.
    pub fn keeps_any(&mut self) -> bool {
        self.kept_in().next().is_some()
    }

    /// Says why.
    pub fn tell_why_kept(&mut self, seen: &Seen) {
        self.kept_in().for_each(|kept| kept.ask(seen));
    }
}

/// Explains one answer. `geo` is what the zone was compiled from; `unix_s` and `seed` settle time and chance.
pub fn explain(world: &World, geo: &GeoSources, wanted: &Wanted, unix_s: u64, seed: u64) -> Explanation {
    let mut out = Explanation {
        name: wanted.name.to_string(),
        rtype: wanted.rtype.to_string(),
        client: wanted.client.map_or_else(|| "none given".into(), |client| format!("{}/{}", client.addr, client.len)),
        generation: world.generation,
        ..Explanation::default()
    };
    for name in ask_engine(world, wanted, unix_s, seed, &mut out) {
        out.then.extend(trace_name(world, &name, geo, wanted, unix_s));
    }
    let Some(name) = QueryName::read(wanted.name.as_wire()) else { return out };
    let (zone, found) = match world.zones.find(&name, usize::MAX) {
        None => {
            out.found = "not our zone".into();
            return out;
        }
        Some((Served::Down, _)) => {
            out.found = "our zone, but it could not be loaded".into();
            return out;
        }
        Some((Served::Up(zone), hash)) => (zone, zone.tree.find(&name, hash)),
    };
    out.zone = Some(zone.model.name.to_string());
    let node = match found {
        Found::Node(node) => (node, "name"),
        Found::Wildcard(node) => (node, "wildcard"),
        Found::Delegation(cut) => (cut, "delegation"),
        Found::Dname(node) => (node, "DNAME"),
        Found::Nothing => {
            out.found = "no such name".into();
            return out;
        }
    };
    out.found = node.1.into();
    out.about.push(format!("{}/{}", zone_text(&zone.model.name), wanted.name.to_lowercase().relative_to(&zone.model.name)));
    let steer = zone.tree.node(node.0).steer;
    if steer != NO_STEER && matches!(found, Found::Node(_) | Found::Wildcard(_)) {
        out.steering = trace(zone, steer as usize, geo, wanted, unix_s);
    }
    let about: Vec<String> = out.steering.iter().chain(&out.then).flat_map(|trace| trace.about.iter().cloned()).collect();
    out.about.extend(about);
    out
}

/// Lets the engine answer, and decodes its octets.
fn ask_engine(world: &World, wanted: &Wanted, unix_s: u64, seed: u64, out: &mut Explanation) -> Vec<Name> {
    let Some(packet) = encode(wanted) else { return Vec::new() };
    let source = wanted.client.map_or(THIS_MACHINE, |client| client.addr);
    let asked = Asked { packet: &packet, source, transport: Transport::Tcp, keepalive: 0 };
    let mut buf = vec![0u8; MAX_REPLY_LEN];
    let Outcome::Reply(reply) = answer::answer(world, &asked, &mut Dice::new(unix_s, seed), &mut buf) else { return Vec::new() };
    out.rcode = reply.rcode.to_string();
    let Ok(message) = Message::from_vec(&buf[..reply.len]) else {
        out.rcode = format!("{} (the reply does not decode: please report this)", Rcode::to_string(&reply.rcode));
        return Vec::new();
    };
    out.answer = message.answers.iter().map(present).collect();
    out.authority = message.authorities.iter().map(present).collect();
    out.scope = message.edns.as_ref().and_then(|edns| {
        edns.options().as_ref().iter().find_map(|(_, option)| match option {
            rr::rdata::opt::EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
            _ => None,
        })
    });
    chain(&message)
}

/// The trace of a name, if it is steered.
fn trace_name(world: &World, name: &Name, geo: &GeoSources, wanted: &Wanted, unix_s: u64) -> Option<SteeringTrace> {
    let query = QueryName::read(name.as_wire())?;
    let (Served::Up(zone), hash) = world.zones.find(&query, usize::MAX)? else { return None };
    let (Found::Node(node) | Found::Wildcard(node)) = zone.tree.find(&query, hash) else { return None };
    let steer = zone.tree.node(node).steer;
    if steer == NO_STEER { None } else { trace(zone, steer as usize, geo, wanted, unix_s) }
}

fn encode(wanted: &Wanted) -> Option<Vec<u8>> {
    let mut message = Message::query();
    let name = rr::Name::from_ascii(wanted.name.to_string()).ok()?;
    message.add_query(Query::query(name, rr::RecordType::from(wanted.rtype.0)));
    if let Some(client) = wanted.client {
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(answer::MAX_UDP_PAYLOAD);
        edns.options_mut().insert(rr::rdata::opt::EdnsOption::Subnet(rr::rdata::opt::ClientSubnet::new(client.addr, client.len, 0)));
        message.set_edns(edns);
    }
    message.to_bytes().ok()
}

/// One record as `dig` prints it; types that hickory-proto does not know, or prints in another form (RFC 9460 §2.1), go
/// through our own codec.
fn present(record: &rr::Record) -> String {
    let rtype = RecordType(u16::from(record.record_type()));
    let data = match (&record.data, record.data.to_bytes()) {
        (rr::RData::Unknown { .. } | rr::RData::HINFO(_) | rr::RData::SVCB(_) | rr::RData::HTTPS(_), Ok(octets)) => rdata::to_text(rtype, &octets),
        (data, _) => data.to_string(),
    };
    format!("{} {} IN {} {}", record.name, record.ttl, rtype, data)
}

/// The names that the answer went through behind the question: targets of its CNAMEs, in order.
fn chain(message: &Message) -> Vec<Name> {
    let target = |record: &rr::Record| match &record.data {
        rr::RData::CNAME(target) => Name::parse_absolute(&target.0.to_ascii()).ok(),
        _ => None,
    };
    message.answers.iter().filter_map(target).collect()
}

fn trace(zone: &ZoneWorld, at: usize, geo: &GeoSources, wanted: &Wanted, unix_s: u64) -> Option<SteeringTrace> {
    let model: &ZoneModel = &zone.model;
    let steer: &Steer = model.steers.get(at)?;
    let steering: &Steering = zone.steerings.get(zone.steered.get(at)?.steering as usize)?;
    let addr = wanted.client.map_or(THIS_MACHINE, |client| client.addr);
    let hit = steering.map.lookup(addr);
    let nets = resolve::nets_below(model, steer.root, geo.rtt.as_ref());
    let net = nets.into_iter().filter(|net| space::contains(*net, addr)).max_by_key(|net| net.len);
    let facts = geo.table.facts_at(addr);
    let mut policies = Vec::new();
    resolve::resolve(model, steer.root, Client { facts, net, rtt: geo.rtt.as_ref() }, &mut |note| policies.push(note));
    let class = steering.classes.get(usize::from(hit.class))?;
    let served: &Plan = steering.plans.get(usize::from(hit.class))?;
    let mut pools: Vec<Considered> = Vec::new();
    let mut note = |pool: Considered| {
        // The passes look at a pool more than once; what it came to first is what passed it over.
        if !pools.iter().any(|other| other.pool == pool.pool) {
            pools.push(pool);
        }
    };
    plan::plan(model, steer, served.ttl, class, &zone.view, Some(served), &mut note);
    let mut about = vec![format!("{}/{}", zone_text(&model.name), steer.owner.relative_to(&model.name))];
    about.extend(policies.iter().map(|note| format!("{}/policy:{}", zone_text(&model.name), note.policy)));
    for pool in model.pools.iter().filter(|pool| pools.iter().any(|other| *other.pool == *pool.id)) {
        about.push(pool.id.to_string());
        about.extend(pool.region.as_ref().map(|region| format!("region:{region}")));
    }
    let looked_at = |ix: &PoolIx| pools.iter().any(|other| *other.pool == *model.pool(*ix).id);
    let pools_at: Vec<PoolIx> = (0..model.pools.len() as u32).map(PoolIx).filter(looked_at).collect();
    let answers = |ix: &PoolIx| pools.iter().any(|other| other.passed_over.is_none() && *other.pool == *model.pool(*ix).id);
    let taken: Vec<PoolIx> = pools_at.iter().copied().filter(answers).collect();
    let mut policies_at = model.policies_below(steer.root).into_iter().collect::<Vec<_>>();
    policies_at.retain(|ix| policies.iter().any(|note| note.policy == model.policy(*ix).name));
    let (_, scope_sticky) = (hit.scope, steering.sticky.get(usize::from(hit.class)).copied().unwrap_or((0, 0)));
    let sticky_bits = if addr.is_ipv4() { scope_sticky.0 } else { scope_sticky.1 };
    let panics = pools.iter().any(|pool| pool.panic && pool.passed_over.is_none());
    Some(SteeringTrace {
        steer: steer.name.clone(),
        facts: facts_in_words(facts),
        policies,
        kept_in: shares::kept_in(zone, &pools_at),
        factors: shares::factors(zone, &policies_at, &pools_at, &taken),
        class: hit.class,
        class_scope: hit.scope.max(sticky_bits),
        pools,
        pass: served.pass.words().into(),
        choice: choice_in_words(&served.choice),
        ttl: served.ttl_at(unix_s),
        ttl_why: ttl_in_words(served, panics, unix_s),
        about,
    })
}

fn facts_in_words(facts: &Facts) -> String {
    let letters = |code: [u8; 2]| String::from_utf8_lossy(&code).into_owned();
    let mut words = Vec::new();
    words.extend(facts.continent.map(|code| format!("continent {}", letters(code))));
    words.extend(facts.country.map(|code| format!("country {}", letters(code))));
    words.extend(facts.subdivision.as_ref().map(|part| format!("subdivision {part}")));
    words.extend(facts.asn.map(|asn| format!("AS{asn}")));
    words.extend(facts.location.map(|at| format!("at {:.2}, {:.2}", at.lat, at.lon)));
    if words.is_empty() { "nothing known".into() } else { words.join(", ") }
}

fn choice_in_words(choice: &Choice) -> Vec<String> {
    match choice {
        Choice::NoData => vec!["an empty answer".into()],
        Choice::ServFail => vec!["SERVFAIL".into()],
        Choice::Answers { set, answers } => {
            let v4 = set.v4.addrs.iter().map(|addr| IpAddr::from(*addr).to_string());
            let v6 = set.v6.addrs.iter().map(|addr| IpAddr::from(*addr).to_string());
            let cname = set.cname.iter().filter_map(|wire| Name::from_wire(wire).ok()).map(|name| format!("CNAME {name}"));
            let all: Vec<String> = v4.chain(v6).chain(cname).chain(set.records.iter().map(|(rtype, _)| rtype.to_string())).collect();
            vec![format!("{} (at most {answers} per family)", all.join(", "))]
        }
        Choice::Weighted(weighted) => weighted
            .entries
            .iter()
            .map(|entry| {
                let share = 100.0 * entry.weight as f64 / weighted.total.max(1) as f64;
                format!("{share:.1} %: {}", choice_in_words(&entry.choice).join(" | "))
            })
            .collect(),
    }
}

fn ttl_in_words(plan: &Plan, panics: bool, unix_s: u64) -> String {
    let (max, min) = (plan.ttl.max, plan.ttl.min);
    match plan.settled_at {
        UNSETTLED if plan.pass == Pass::AllDown => format!("minimum {min} s: everything is down"),
        UNSETTLED if plan.pass == Pass::LastResort => format!("minimum {min} s: only what safety rules keep is left"),
        UNSETTLED if panics => format!("minimum {min} s: a pool is in panic"),
        UNSETTLED => format!("minimum {min} s: something consulted is suspect, ramping, draining or unknown"),
        settled if plan.ttl_at(unix_s) < max => format!("on the way from {min} s back to {max} s: settled {} s ago", unix_s.saturating_sub(settled)),
        _ => format!("maximum {max} s: everything consulted is settled"),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "question    {} {}", self.name, self.rtype)?;
        writeln!(f, "client      {}", self.client)?;
        writeln!(f, "generation  {}", self.generation)?;
        writeln!(f, "zone        {}", self.zone.as_deref().unwrap_or("-"))?;
        writeln!(f, "found       {}", self.found)?;
        for steering in self.steering.iter().chain(&self.then) {
            write!(f, "{steering}")?;
        }
        for one in &self.overlays {
            let phase = if one.inactive.is_some() && one.outranked_by.is_empty() { "without effect" } else { &one.phase };
            writeln!(f, "overlay     {}: {} {} by {}: {} ({phase})", one.id, one.target, one.set, one.owner, one.reason)?;
        }
        for one in &self.beyond {
            writeln!(f, "overlay     {} {}, laid beyond the zones of this token ({})", one.target, one.set, one.phase)?;
        }
        writeln!(f, "rcode       {}", self.rcode)?;
        if let Some(scope) = self.scope {
            writeln!(f, "scope       /{scope}")?;
        }
        for (label, records) in [("answer", &self.answer), ("authority", &self.authority)] {
            for record in records {
                writeln!(f, "{label:<11} {record}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for SteeringTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "steered     {}", self.steer)?;
        writeln!(f, "facts       {}", self.facts)?;
        for note in &self.policies {
            writeln!(f, "policy      {} ({}): {}", note.policy, note.kind, note.found)?;
        }
        writeln!(f, "class       {} (reaches /{})", self.class, self.class_scope)?;
        for pool in &self.pools {
            let serves = if pool.panic { "serves, in panic: all of it" } else { "serves" };
            let why = pool.passed_over.as_deref().unwrap_or(serves);
            writeln!(f, "pool        {}: {}/{} usable, {} needed: {why}", pool.pool, pool.usable, pool.total, pool.needed)?;
        }
        for kept in &self.kept_in {
            let why = kept.why.as_deref().unwrap_or("a safety rule forbids to withdraw it");
            writeln!(f, "kept        {}: it fails, and stays as a last resort: {why}", kept.endpoint)?;
        }
        for one in &self.factors {
            writeln!(f, "factor      {}: {} of its weight: {}", one.of, one.factor, one.why)?;
        }
        writeln!(f, "decided by  {}", self.pass)?;
        for choice in &self.choice {
            writeln!(f, "hands out   {choice}")?;
        }
        writeln!(f, "ttl         {} s, {}", self.ttl, self.ttl_why)
    }
}
