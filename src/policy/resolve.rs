//! From a client to the order of things it gets: geo, proximity and latency are settled here, ahead of time, once per class of clients.
//!
//! Health, weights and chance are not looked at: a [`Class`] says what would be tried, in which order, whatever is up. So classes and scopes
//! do not move when a region fails (DESIGN §4).
//!
//! The most specific rule of a geo policy wins (CONTRACT, Zone TOML):
//!
//! ```text
//! net (longest)  >  asn  >  subdivision  >  country  >  continent  >  default
//! ```
//!
//! A rule that an overlay disables matches nobody: its clients come to what they match otherwise. `default = "nearest"` still goes over the
//! children of all rules, so that nobody else's answer changes.

use std::collections::HashMap;

use crate::geo::distance;
use crate::geo::latency::RttTable;
use crate::geo::space;
use crate::geo::table::Facts;
use crate::policy::model::{AllDown, Child, GeoCode, GeoDefault, GeoRule, Location, PolicyIx, PolicyKind, PoolIx, Prefix, WeightedMode, ZoneModel};

/// Who asks, as far as policies care.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// What the databases know of the address.
    pub facts: &'a Facts,
    /// The deepest of the configuration's networks that holds the address.
    pub net: Option<Prefix>,
    /// The latency table, if one is configured.
    pub rtt: Option<&'a RttTable>,
}

/// What a class of clients gets. Equal classes are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Class {
    /// What is tried.
    pub step: Step,
    /// From the rule that matched, if it says so.
    pub all_down: Option<AllDown>,
}

/// One node of what is tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A pool.
    Pool(PoolIx),
    /// The first that works.
    Order {
        /// Whose order it is.
        policy: PolicyIx,
        /// In order of preference.
        to: Vec<(Child, Step)>,
    },
    /// In proportion to weight.
    Weighted {
        /// Whose weights they are.
        policy: PolicyIx,
        /// In order of the file; the position is that of the policy's own list.
        to: Vec<(Child, Step)>,
    },
    /// All of them, merged.
    Merge {
        /// Whose list it is.
        policy: PolicyIx,
        /// In order of the file.
        to: Vec<(Child, Step)>,
    },
}

impl Step {
    /// The most bits that a sticky policy in here looks at, as (IPv4, IPv6); 0 when there is none.
    pub fn sticky_bits(&self, model: &ZoneModel) -> (u8, u8) {
        let own = match self {
            Step::Weighted { policy, .. } => match &model.policy(*policy).kind {
                PolicyKind::Weighted { mode: WeightedMode::Sticky { v4, v6 }, .. } => (*v4, *v6),
                _ => (0, 0),
            },
            _ => (0, 0),
        };
        self.children().iter().map(|(_, step)| step.sticky_bits(model)).fold(own, |a, b| (a.0.max(b.0), a.1.max(b.1)))
    }

    /// What stands below.
    pub fn children(&self) -> &[(Child, Step)] {
        match self {
            Step::Pool(_) => &[],
            Step::Order { to, .. } | Step::Weighted { to, .. } | Step::Merge { to, .. } => to,
        }
    }
}

/// Why a policy came to its order: one entry per policy on the way, outermost first.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Note {
    /// The policy.
    pub policy: String,
    /// Its kind.
    pub kind: String,
    /// What it found for this client, in words.
    pub found: String,
}

/// Settles everything about `root` that depends on the client. `notes` hears the reasons.
pub fn resolve(model: &ZoneModel, root: Child, client: Client<'_>, notes: &mut dyn FnMut(Note)) -> Class {
    Resolving { model, client, notes: Some(notes), places: &mut HashMap::new() }.class(root)
}

/// Settles the same for many clients, without reasons.
#[derive(Debug)]
pub struct Resolver<'m> {
    model: &'m ZoneModel,
    root: Child,
    places: HashMap<Child, Option<Location>>,
}

impl<'m> Resolver<'m> {
    /// For the policy, or pool, `root`.
    pub fn new(model: &'m ZoneModel, root: Child) -> Resolver<'m> {
        Resolver { model, root, places: HashMap::new() }
    }

    /// What [`resolve`] says.
    pub fn class(&mut self, client: Client<'_>) -> Class {
        Resolving { model: self.model, client, notes: None, places: &mut self.places }.class(self.root)
    }
}

struct Resolving<'a> {
    model: &'a ZoneModel,
    client: Client<'a>,
    notes: Option<&'a mut dyn FnMut(Note)>,
    /// Where children are, as far as it was asked.
    places: &'a mut HashMap<Child, Option<Location>>,
}

impl Resolving<'_> {
    fn class(mut self, root: Child) -> Class {
        let mut all_down = None;
        let step = self.child(root, &mut Some(&mut all_down));
        Class { step, all_down }
    }

    /// `rule_all_down` is there for the root's own rule only: deeper ones do not count.
    fn child(&mut self, child: Child, rule_all_down: &mut Option<&mut Option<AllDown>>) -> Step {
        let ix = match child {
            Child::Pool(ix) => return Step::Pool(ix),
            Child::Policy(ix) => ix,
        };
        let policy = self.model.policy(ix);
        let (order, found) = match &policy.kind {
            PolicyKind::Failover { to } => (to.clone(), self.say(|| "in the order of the file".to_string())),
            PolicyKind::Weighted { to, .. } => (to.iter().map(|(child, _)| *child).collect(), self.say(|| "by weight".to_string())),
            PolicyKind::Multivalue { to } => (to.clone(), self.say(|| "all children".to_string())),
            PolicyKind::Proximity { to, bias } => self.nearest(to, bias),
            PolicyKind::Latency { to } => self.fastest(to),
            PolicyKind::Geo { rules, default } => self.by_rule(rules, default, rule_all_down),
        };
        if let Some(notes) = &mut self.notes {
            notes(Note { policy: policy.name.clone(), kind: policy.kind.word().into(), found });
        }
        let to = order.into_iter().map(|child| (child, self.child(child, &mut None))).collect();
        match &policy.kind {
            PolicyKind::Weighted { .. } => Step::Weighted { policy: ix, to },
            PolicyKind::Multivalue { .. } => Step::Merge { policy: ix, to },
            _ => Step::Order { policy: ix, to },
        }
    }

    /// Words, if anybody listens.
    fn say(&self, words: impl FnOnce() -> String) -> String {
        if self.notes.is_some() { words() } else { String::new() }
    }

    fn by_rule(&mut self, rules: &[GeoRule], default: &GeoDefault, rule_all_down: &mut Option<&mut Option<AllDown>>) -> (Vec<Child>, String) {
        let client = self.client;
        let ranked = |rule| rank(rule, client).map(|rank| (rank, rule));
        let best = rules.iter().filter(|rule| rule.disabled.is_none()).filter_map(ranked).max_by_key(|(rank, _)| *rank);
        let mut order = Vec::new();
        let mut found = match &best {
            Some((rank, rule)) => {
                order.extend_from_slice(&rule.to);
                self.say(|| format!("rule in line {} matched by {}", rule.line, matched_by(*rank, client)))
            }
            None => self.say(|| "no rule matched".to_string()),
        };
        if self.notes.is_some() {
            let would = rules.iter().filter(|rule| rule.disabled.is_some()).filter_map(ranked).max_by_key(|(rank, _)| *rank);
            if let Some((rank, rule)) = would.filter(|(rank, _)| best.as_ref().is_none_or(|(other, _)| rank > other)) {
                let by = rule.disabled.map_or_else(String::new, |id| format!(" by overlay {id}"));
                found = format!("rule in line {} ({}) is disabled{by}; {found}", rule.line, matched_by(rank, client));
            }
        }
        if let (Some(slot), Some((_, rule))) = (rule_all_down, &best) {
            **slot = rule.all_down;
        }
        if best.is_some_and(|(_, rule)| rule.fence) {
            found.push_str(", fenced");
            return (order, found);
        }
        let (rest, words) = match default {
            GeoDefault::None => (Vec::new(), String::new()),
            GeoDefault::Children(to) => (to.clone(), "; then the default".to_string()),
            GeoDefault::Nearest { to, bias } => {
                let (to, words) = self.nearest(to, bias);
                (to, self.say(|| format!("; then {words}")))
            }
        };
        found.push_str(&words);
        for child in rest {
            if !order.contains(&child) {
                order.push(child);
            }
        }
        (order, found)
    }

    fn location_of(&mut self, child: Child) -> Option<Location> {
        *self.places.entry(child).or_insert_with(|| self.model.location_of(child))
    }

    /// By distance, bias applied; ties and clients without coordinates in order of first mention.
    fn nearest(&mut self, to: &[Child], bias: &[i8]) -> (Vec<Child>, String) {
        let Some(here) = self.client.facts.location else {
            return (to.to_vec(), self.say(|| "nearest: the client has no coordinates, so in order of mention".into()));
        };
        let mut by_distance: Vec<(f64, Child)> = to
            .iter()
            .enumerate()
            .map(|(at, child)| {
                let km = self.location_of(*child).map_or(f64::MAX, |there| distance::distance_km(here, there));
                (distance::biased(km, bias.get(at).copied().unwrap_or(0)), *child)
            })
            .collect();
        by_distance.sort_by(|a, b| a.0.total_cmp(&b.0));
        let words = self.say(|| {
            let words: Vec<String> = by_distance.iter().map(|(km, child)| format!("{} {km:.0} km", self.model.child_name(*child))).collect();
            format!("nearest: {}", words.join(", "))
        });
        (by_distance.into_iter().map(|(_, child)| child).collect(), words)
    }

    /// By round-trip time: the table first, else the distance model, else last. Ties in order of mention.
    fn fastest(&mut self, to: &[Child]) -> (Vec<Child>, String) {
        let client = self.client;
        let mut by_time: Vec<(f64, Child, &str)> = to
            .iter()
            .map(|child| {
                let table = client.rtt.and_then(|rtt| Some(f64::from(rtt.rtt(client.facts, client.net, self.model.region_of(*child)?)?)));
                let mut modelled = || Some(distance::rtt_ms(distance::distance_km(client.facts.location?, self.location_of(*child)?)));
                match table {
                    Some(ms) => (ms, *child, "table"),
                    None => modelled().map_or((f64::MAX, *child, "unknown"), |ms| (ms, *child, "distance")),
                }
            })
            .collect();
        by_time.sort_by(|a, b| a.0.total_cmp(&b.0));
        let word = |(ms, child, source): &(f64, Child, &str)| match *source {
            "unknown" => format!("{} unknown", self.model.child_name(*child)),
            source => format!("{} {ms:.0} ms ({source})", self.model.child_name(*child)),
        };
        let words = self.say(|| by_time.iter().map(word).collect::<Vec<String>>().join(", "));
        (by_time.into_iter().map(|(_, child, _)| child).collect(), words)
    }
}

/// What a condition matched by, least specific first so that the greatest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Continent,
    Country,
    Subdivision,
    Asn,
    /// Prefix length.
    Net(u8),
}

fn rank(rule: &GeoRule, client: Client<'_>) -> Option<Rank> {
    let facts = client.facts;
    let net = client.net.and_then(|deepest| longest(&rule.net, &deepest)).map(Rank::Net);
    let asn = facts.asn.filter(|asn| rule.asn.binary_search(asn).is_ok()).map(|_| Rank::Asn);
    let place = rule
        .geo
        .iter()
        .filter_map(|code| match code {
            GeoCode::Continent(continent) => (facts.continent == Some(*continent)).then_some(Rank::Continent),
            GeoCode::Country(country) => (facts.country == Some(*country)).then_some(Rank::Country),
            GeoCode::Subdivision(country, part) => {
                (facts.country == Some(*country) && facts.subdivision.as_deref() == Some(part)).then_some(Rank::Subdivision)
            }
        })
        .max();
    net.max(asn).max(place)
}

/// Length of the longest of the sorted `nets` that holds `inner`. By bisection: a class map asks this for each of up to 100,000 networks.
fn longest(nets: &[Prefix], inner: &Prefix) -> Option<u8> {
    if nets.len() <= usize::from(inner.len) {
        return nets.iter().filter(|net| holds(net, inner)).map(|net| net.len).max();
    }
    (0..=inner.len).rev().find(|len| nets.binary_search(&space::prefix_of(inner.addr, *len)).is_ok())
}

fn matched_by(rank: Rank, client: Client<'_>) -> String {
    let letters = |code: Option<[u8; 2]>| code.map_or("?".to_string(), |code| String::from_utf8_lossy(&code).into_owned());
    match rank {
        Rank::Net(len) => format!("a network of /{len}"),
        Rank::Asn => format!("AS{}", client.facts.asn.unwrap_or(0)),
        Rank::Subdivision => format!("subdivision {}-{}", letters(client.facts.country), client.facts.subdivision.as_deref().unwrap_or("?")),
        Rank::Country => format!("country {}", letters(client.facts.country)),
        Rank::Continent => format!("continent {}", letters(client.facts.continent)),
    }
}

/// True when every address of `inner` lies in `outer`.
pub fn holds(outer: &Prefix, inner: &Prefix) -> bool {
    outer.len <= inner.len && space::contains(*outer, inner.addr)
}

/// Every network that policies below `root` look at.
pub fn nets_below(model: &ZoneModel, root: Child, rtt: Option<&RttTable>) -> Vec<Prefix> {
    let mut nets = Vec::new();
    let mut seen = Vec::new();
    collect_nets(model, root, rtt, &mut nets, &mut seen);
    nets.sort_unstable();
    nets.dedup();
    nets
}

fn collect_nets(model: &ZoneModel, child: Child, rtt: Option<&RttTable>, nets: &mut Vec<Prefix>, seen: &mut Vec<PolicyIx>) {
    let Child::Policy(ix) = child else { return };
    if seen.contains(&ix) {
        return;
    }
    seen.push(ix);
    let policy = model.policy(ix);
    match &policy.kind {
        PolicyKind::Geo { rules, .. } => {
            rules.iter().filter(|rule| rule.disabled.is_none()).for_each(|rule| nets.extend_from_slice(&rule.net));
        }
        PolicyKind::Latency { .. } => nets.extend(rtt.into_iter().flat_map(RttTable::prefixes)),
        _ => {}
    }
    for child in policy.kind.children() {
        collect_nets(model, child, rtt, nets, seen);
    }
}

/// True when anything below `root` asks who the client is.
pub fn depends_on_client(model: &ZoneModel, root: Child) -> bool {
    let Child::Policy(ix) = root else { return false };
    let policy = model.policy(ix);
    matches!(policy.kind, PolicyKind::Geo { .. } | PolicyKind::Proximity { .. } | PolicyKind::Latency { .. })
        || policy.kind.children().into_iter().any(|child| depends_on_client(model, child))
}
