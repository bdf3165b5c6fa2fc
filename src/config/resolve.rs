//! Looks names up and puts a zone together: its own items and what it uses of the libraries become the tables of a [`crate::policy::model::ZoneModel`].
//!
//! No name may be defined twice among a zone and the libraries it sees, so one table serves all; library items see library items only.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::https;
use super::raw::{AllDownKey, Def, DefaultKey, Defaults, Kind, ModeKey, MonitorKeys, PoolKeys, RawFile, RawRule, Ref, SteerKeys, To};
use super::read_steer;
use super::signals;
use super::source::{Located, Sink, Spot, or_list};
use super::suggest::did_you_mean;
use super::values::RESERVED_NAMES;
use super::votes;
use crate::dns::Name;
use crate::policy::balance::Law;
use crate::policy::model::{
    AllDown, Child, Failback, GeoDefault, GeoRule, Policy, PolicyIx, PolicyKind, PoolIx, Region, Steer, TtlRange, WeightedMode,
};
use crate::zone::Ttl;

/// TTL of a steered name where nothing is said.
pub(super) const DEFAULT_MAX_TTL: Ttl = 30;
/// Its minimum, unless the maximum is lower.
pub(super) const DEFAULT_MIN_TTL: Ttl = 10;
/// `sticky_bits` where nothing is said.
pub(super) const DEFAULT_STICKY_BITS: (u8, u8) = (20, 40);

/// Errors of a zone after which no more hints are looked for.
const MAX_HINTS: usize = 100;

/// All library files together.
#[derive(Debug, Default)]
pub(super) struct Library {
    pub(super) files: Vec<RawFile>,
    /// Merged over the files; laid over those of `meridian.toml`.
    pub(super) defaults: Defaults,
    /// False when a file could not be read whole: then a name that is not found may well be in there.
    pub(super) whole: bool,
    /// True when what the libraries say for every zone could not be read.
    pub(super) defaults_lost: bool,
}

/// A definition and whether a library holds it.
#[derive(Debug)]
pub(super) struct Item<'a, T> {
    pub(super) def: &'a Def<T>,
    pub(super) in_library: bool,
}

impl<T> Clone for Item<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Item<'_, T> {}

/// What a name of the one namespace of pools and policies stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named<'a> {
    Pool(Item<'a, PoolKeys>),
    Policy(Item<'a, SteerKeys>),
}

impl Named<'_> {
    fn word(&self) -> &'static str {
        match self {
            Named::Pool(_) => "pool",
            Named::Policy(_) => "policy",
        }
    }

    fn at(&self) -> &Spot {
        match self {
            Named::Pool(item) => &item.def.at,
            Named::Policy(item) => &item.def.at,
        }
    }

    fn in_library(&self) -> bool {
        match self {
            Named::Pool(item) => item.in_library,
            Named::Policy(item) => item.in_library,
        }
    }
}

/// Puts one zone together. Indexes are given out when a thing is first needed: the zone's own first, in the order of the file.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    pub(super) sink: &'a Sink,
    pub(super) children: BTreeMap<&'a str, Named<'a>>,
    pub(super) monitors: BTreeMap<&'a str, Item<'a, MonitorKeys>>,
    pub(super) regions: BTreeMap<&'a str, &'a Located<Region>>,
    /// Of the zone.
    pub(super) defaults: Defaults,
    /// Of library items.
    pub(super) library_defaults: Defaults,
    /// Names may be missing because a library is broken: then that is not reported.
    forgiving: bool,
    /// No zone is looked at.
    pub(super) only_libraries: bool,
    pub(super) pools: Vec<Item<'a, PoolKeys>>,
    policy_items: Vec<PolicyItem<'a>>,
    indexes: BTreeMap<&'a str, Child>,
    /// Definitions that the zone uses and that have errors of their own.
    pub(super) unsound: Vec<(String, Spot)>,
    /// A name was not found and may stand in a broken library.
    pub(super) misses_library: Cell<bool>,
    /// Monitors that follow from themselves, or from too much.
    pub(super) endless: BTreeSet<String>,
    /// Library files that could not be read whole.
    broken_files: BTreeSet<&'a Path>,
    /// The zone's own file could not be read whole.
    zone_broken: bool,
}

#[derive(Clone, Debug)]
struct PolicyItem<'a> {
    def: &'a Def<SteerKeys>,
    keys: SteerKeys,
    in_library: bool,
    inline: bool,
}

/// Policies and steered names with every name looked up.
#[derive(Debug)]
pub(super) struct Steering {
    pub(super) policies: Vec<Policy>,
    pub(super) steers: Vec<Steer>,
    /// By position in `steers`: `all_down` was said, not assumed.
    pub(super) all_down_said: Vec<bool>,
    /// By position in `policies`.
    pub(super) policy_spots: Vec<Spot>,
    /// By position in `steers`.
    pub(super) steer_spots: Vec<Spot>,
    /// By position in `policies`: keys that count on steered names only.
    pub(super) root_keys: Vec<Vec<(Spot, &'static str)>>,
    /// Positions in `steers` as they were read.
    owners: HashMap<Name, usize>,
}

impl<'a> Resolver<'a> {
    /// `zone` is `None` when the libraries are checked by themselves.
    pub(super) fn new(zone: Option<&'a RawFile>, library: &'a Library, base: &Defaults, sink: &'a Sink) -> Resolver<'a> {
        let library_defaults = library.defaults.over(base);
        let mut new = Resolver {
            sink,
            children: BTreeMap::new(),
            monitors: BTreeMap::new(),
            regions: BTreeMap::new(),
            defaults: zone.map_or_else(|| library_defaults.clone(), |zone| zone.defaults.over(&library_defaults)),
            library_defaults,
            forgiving: !library.whole,
            only_libraries: zone.is_none(),
            pools: Vec::new(),
            policy_items: Vec::new(),
            indexes: BTreeMap::new(),
            unsound: Vec::new(),
            misses_library: Cell::new(false),
            endless: BTreeSet::new(),
            broken_files: library.files.iter().filter(|file| !file.whole).map(|file| &*file.file).collect(),
            zone_broken: zone.is_some_and(|zone| !zone.whole),
        };
        for file in &library.files {
            new.enter(file, true);
        }
        if let Some(zone) = zone {
            new.enter(zone, false);
        }
        for own in zone.map_or(library.files.as_slice(), std::slice::from_ref) {
            for name in own.pools.iter().map(|def| &def.name).chain(own.policies.iter().map(|def| &def.name)) {
                let _ = new.index(name);
            }
        }
        new
    }

    /// Puts the names of a file into the tables; a name that is there already is an error that names both places.
    fn enter(&mut self, file: &'a RawFile, in_library: bool) {
        let pools = file.pools.iter().map(|def| (def.name.as_str(), Named::Pool(Item { def, in_library })));
        let policies = file.policies.iter().map(|def| (def.name.as_str(), Named::Policy(Item { def, in_library })));
        for (name, named) in pools.chain(policies) {
            if let Some(first) = self.children.get(name) {
                // Within one file the later one is at fault, else the zone's.
                let (first, second) = if first.at().file != named.at().file || first.at() <= named.at() { (first, &named) } else { (&named, first) };
                let subject = [format!("{} {name:?}", second.word())];
                self.sink.error(
                    second.at(),
                    &subject,
                    format!("the name is taken by {} {name:?} in {}; there is no shadowing", first.word(), first.at()),
                );
                continue;
            }
            self.children.insert(name, named);
        }
        for def in &file.monitors {
            if let Some(first) = self.monitors.get(def.name.as_str()) {
                let subject = [format!("monitor {:?}", def.name)];
                self.sink.error(&def.at, &subject, format!("the name is taken by monitor {:?} in {}; there is no shadowing", def.name, first.def.at));
                continue;
            }
            self.monitors.insert(&def.name, Item { def, in_library });
        }
        for (name, region) in &file.regions {
            self.regions.entry(name).or_insert(region);
        }
    }

    /// The index of a name, which is given out if it has none yet.
    fn index(&mut self, name: &str) -> Option<Child> {
        if let Some(child) = self.indexes.get(name) {
            return Some(*child);
        }
        let (name, named) = self.children.get_key_value(name).map(|(name, named)| (*name, *named))?;
        let named_words = format!("{} {name:?}", named.word());
        let child = match named {
            Named::Pool(item) => {
                self.pools.push(item);
                self.note_unsound(item.def.sound, &named_words, &item.def.at);
                Child::Pool(PoolIx(self.pools.len() as u32 - 1))
            }
            Named::Policy(item) => {
                let keys = item.def.keys.clone();
                self.policy_items.push(PolicyItem { def: item.def, keys, in_library: item.in_library, inline: false });
                self.note_unsound(item.def.sound, &named_words, &item.def.at);
                Child::Policy(PolicyIx(self.policy_items.len() as u32 - 1))
            }
        };
        self.indexes.insert(name, child);
        Some(child)
    }

    /// Remembers what the zone uses and cannot rely on. An item of a broken file may lack a part even if the rest reads well.
    pub(super) fn note_unsound(&mut self, sound: bool, what: &str, at: &Spot) {
        if !sound || self.broken_files.contains(&*at.file) {
            self.unsound.push((what.to_string(), at.clone()));
        }
    }

    /// Looks up a child that `from_library` or the zone names.
    fn child(&mut self, name: &Ref, from_library: bool, subject: &[String]) -> Option<Child> {
        match self.children.get(name.value.as_str()) {
            Some(named) if from_library && !named.in_library() => {
                // That no library has it is said when the libraries are checked.
                self.unsound.push((subject[0].clone(), name.at.clone()));
                None
            }
            Some(_) => self.index(&name.value),
            None => {
                self.unknown_child(name, subject);
                None
            }
        }
    }

    /// `; did you mean "…"?`, or nothing; after many errors nothing, because thousands of unknown names among thousands of known ones would take minutes.
    pub(super) fn hint<'w>(&self, word: &str, known: impl IntoIterator<Item = &'w str>) -> String {
        if self.sink.errors() < MAX_HINTS { did_you_mean(word, known) } else { String::new() }
    }

    fn unknown_child(&self, name: &Ref, subject: &[String]) {
        let text = if RESERVED_NAMES.contains(&name.value.as_str()) {
            let place = if name.value == "nearest" { "as the default of a geo policy" } else { "in all_down" };
            format!("found {:?}, a reserved word that has a meaning only {place}, expected a pool or policy", name.value)
        } else if self.is_forgiving() {
            return;
        } else if self.only_libraries {
            let hint = self.hint(&name.value, self.children.keys().copied());
            format!("found {:?}, but no library has such a pool or policy{hint}; a library can use library items only", name.value)
        } else {
            let monitor = if self.monitors.contains_key(name.value.as_str()) { " (there is a monitor of that name)" } else { "" };
            format!("found {:?}, but there is no such pool or policy{monitor}{}", name.value, self.hint(&name.value, self.children.keys().copied()))
        };
        self.sink.error(&name.at, subject, text);
    }

    /// Resolves every policy that is in use and every steered name.
    pub(super) fn steering(&mut self, zone: Option<(&'a RawFile, &Name)>) -> Steering {
        let mut out = Steering {
            policies: Vec::new(),
            steers: Vec::new(),
            all_down_said: Vec::new(),
            policy_spots: Vec::new(),
            steer_spots: Vec::new(),
            root_keys: Vec::new(),
            owners: HashMap::new(),
        };
        if let Some((file, apex)) = zone {
            for def in &file.steers {
                self.steer(def, apex, &mut out);
            }
        }
        // Resolving a policy may bring in further ones of the libraries, behind it.
        let mut at = 0;
        while let Some(item) = self.policy_items.get(at).cloned() {
            let subject = vec![format!("{} {:?}", if item.inline { "steer" } else { "policy" }, item.def.name)];
            let defaults = if item.in_library { self.library_defaults.steer.clone() } else { self.defaults.steer.clone() };
            out.policies.push(self.policy(&item, &defaults, &subject));
            out.policy_spots.push(item.def.at.clone());
            let own = &item.def.keys;
            let mut root_keys = Vec::new();
            if !item.inline {
                root_keys.extend(own.all_down.as_ref().map(|key| (key.at.clone(), "all_down")));
                root_keys.extend(own.ttl.as_ref().map(|key| (key.at.clone(), "ttl")));
                root_keys.extend(
                    own.rules
                        .iter()
                        .flat_map(|rules| &rules.value)
                        .filter_map(|rule| rule.all_down.as_ref())
                        .map(|key| (key.at.clone(), "all_down of a rule")),
                );
            }
            out.root_keys.push(root_keys);
            at += 1;
        }
        let mut order: Vec<usize> = (0..out.steers.len()).collect();
        order.sort_by(|a, b| out.steers[*a].owner.cmp(&out.steers[*b].owner));
        out.all_down_said = order.iter().map(|at| out.all_down_said[*at]).collect();
        out.steer_spots = order.iter().map(|at| out.steer_spots[*at].clone()).collect();
        out.steers = order.iter().map(|at| out.steers[*at].clone()).collect();
        out
    }

    fn steer(&mut self, def: &'a Def<SteerKeys>, apex: &Name, out: &mut Steering) {
        let subject = vec![format!("steer {:?}", def.name)];
        self.note_unsound(def.sound, &subject[0], &def.at);
        let owner = match Name::parse(&def.name, apex) {
            Ok(owner) if owner.is_at_or_below(apex) => owner.to_lowercase(),
            Ok(owner) => return self.sink.error(&def.at, &subject, format!("{owner} is not below the zone {apex}")),
            Err(error) => return self.sink.error(&def.at, &subject, error.to_string()),
        };
        super::records::beyond_ascii(&def.name).into_iter().for_each(|text| self.sink.warning(&def.at, &subject, text));
        if let Some(first) = out.owners.get(&owner) {
            let text = format!("{owner} is steered in {} already", out.steer_spots[*first]);
            return self.sink.error(&def.at, &subject, text);
        }
        let defaults = self.defaults.steer.clone();
        let own = &def.keys;
        let (root, taken) = match &own.use_ {
            Some(name) => {
                let mut use_subject = subject.clone();
                use_subject.push("use".into());
                let Some(child) = self.child(name, false, &use_subject) else { return };
                let taken = match child {
                    Child::Policy(ix) => self.policy_items.get(ix.0 as usize).map(|item| item.def.keys.clone()),
                    Child::Pool(_) => None,
                };
                (child, taken.unwrap_or_default())
            }
            None => {
                // A broken value was reported; a policy without it would only be reported again.
                self.policy_items.push(PolicyItem { def, keys: own.clone(), in_library: false, inline: true });
                (Child::Policy(PolicyIx(self.policy_items.len() as u32 - 1)), SteerKeys::default())
            }
        };
        let all_down = own.all_down.as_ref().or(taken.all_down.as_ref());
        let said = all_down.is_some();
        let all_down = all_down.or(defaults.all_down.as_ref()).map_or(Some(AllDown::All), |key| self.all_down(key, false, &subject));
        let ttl = own.ttl.as_ref().or(taken.ttl.as_ref()).or(defaults.ttl.as_ref());
        let answers = own.answers.as_ref().or(if own.use_.is_some() { None } else { defaults.answers.as_ref() });
        out.owners.insert(owner.clone(), out.steers.len());
        out.steers.push(Steer {
            owner: owner.clone(),
            name: def.name.clone(),
            root,
            ttl: self.ttl(ttl, &subject),
            all_down: all_down.unwrap_or(AllDown::All),
            answers: answers.map(|key| key.value),
            is_cname: false,
            https: own.https.as_ref().and_then(|key| https::resolve(key, &owner, apex, &subject, self.sink)),
            line: def.at.line,
        });
        out.all_down_said.push(said);
        out.steer_spots.push(def.at.clone());
    }

    fn ttl(&self, key: Option<&Located<(Option<Ttl>, Option<Ttl>)>>, subject: &[String]) -> TtlRange {
        let (max, min) = key.map_or((None, None), |key| key.value);
        let max = max.unwrap_or(DEFAULT_MAX_TTL);
        let min = min.unwrap_or(DEFAULT_MIN_TTL.min(max));
        if let (Some(key), true) = (key, min > max) {
            let mut subject = subject.to_vec();
            subject.push("ttl".into());
            self.sink.error(
                &key.at,
                &subject,
                format!("found min = {min} above the default max = {max}; write {{ max = {min}, min = {min} }} or more"),
            );
        }
        TtlRange { max, min: min.min(max) }
    }

    fn all_down(&mut self, key: &Located<AllDownKey>, from_library: bool, subject: &[String]) -> Option<AllDown> {
        let mut subject = subject.to_vec();
        subject.push("all_down".into());
        let name = match &key.value {
            AllDownKey::All => return Some(AllDown::All),
            AllDownKey::LastGood => return Some(AllDown::LastGood),
            AllDownKey::NoData => return Some(AllDown::NoData),
            AllDownKey::ServFail => return Some(AllDown::ServFail),
            AllDownKey::Pool(name) => Located { at: key.at.clone(), value: name.clone() },
        };
        if !self.children.contains_key(name.value.as_str()) {
            if !self.is_forgiving() {
                let words = RESERVED_NAMES.iter().skip(1).copied();
                let pools = self.children.iter().filter(|(_, named)| matches!(named, Named::Pool(_))).map(|(name, _)| *name);
                let hint = self.hint(&name.value, words.clone().chain(pools));
                let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
                self.sink.error(&name.at, &subject, format!("found {:?}, expected {}, or the name of a pool{hint}", name.value, or_list(&words)));
            }
            return None;
        }
        match self.child(&name, from_library, &subject)? {
            Child::Pool(ix) => Some(AllDown::Pool(ix)),
            Child::Policy(_) => {
                self.sink.error(
                    &name.at,
                    &subject,
                    format!("found the policy {:?}, expected a pool: when everything is down there is nothing to choose by", name.value),
                );
                None
            }
        }
    }

    fn policy(&mut self, item: &PolicyItem<'a>, defaults: &SteerKeys, subject: &[String]) -> Policy {
        let keys = item.keys.over(defaults);
        let kind = self.kind(item, &keys, subject);
        Policy {
            name: item.def.name.clone(),
            inline: item.inline,
            kind: kind.unwrap_or(PolicyKind::Failover { to: Vec::new() }),
            failback: keys.failback.map_or(Failback::Auto, |key| key.value),
            require_both_families: keys.require_both.is_some_and(|key| key.value),
            answers: keys.answers.map(|key| key.value),
            line: item.def.at.line,
        }
    }

    fn kind(&mut self, item: &PolicyItem<'a>, keys: &SteerKeys, subject: &[String]) -> Option<PolicyKind> {
        let Some(kind) = keys.policy.as_ref().map(|key| key.value) else {
            // An unsound one may have said it wrongly, and that is reported.
            if item.def.sound {
                let or_use = if item.inline { ", or use = POLICY-OR-POOL" } else { "" };
                self.sink.error(
                    &item.def.at,
                    subject,
                    format!("policy is missing; expected failover, weighted, least-loaded, least-response-time, geo, proximity, latency or multivalue{or_use}"),
                );
            }
            return None;
        };
        self.misplaced(kind, &item.keys, subject);
        if kind == Kind::Geo {
            return self.geo(item, keys, subject);
        }
        let Some(to) = &keys.to else {
            if item.def.sound {
                let like = if kind == Kind::Weighted { "{ fra = 90, iad = 10 }" } else { "[\"fra\", \"iad\"]" };
                self.sink.error(&item.def.at, subject, format!("to is missing; write to = {like}"));
            }
            return None;
        };
        let mut to_subject = subject.to_vec();
        to_subject.push("to".into());
        if let Some(law) = signals::law(kind, keys) {
            return self.weighted(item, keys, to, law, &to_subject);
        }
        let names: Vec<&Ref> = match &to.value {
            To::One(one) => vec![one],
            To::List(list) => list.iter().collect(),
            To::Weights(weights) => {
                let names: Vec<String> = weights.iter().map(|(name, _)| format!("{:?}", name.value)).collect();
                let text = format!(
                    "found a table of weights, expected a list for policy {:?}: to = [{}] (weights are for policy \"weighted\")",
                    kind.word(),
                    names.join(", ")
                );
                self.sink.error(&to.at, &to_subject, text);
                return None;
            }
        };
        let to: Vec<Child> = names.iter().filter_map(|name| self.child(name, item.in_library, &to_subject)).collect();
        Some(match kind {
            Kind::Proximity => {
                let bias = self.bias(item, keys, &to, subject);
                PolicyKind::Proximity { to, bias }
            }
            Kind::Latency => PolicyKind::Latency { to },
            Kind::Multivalue => PolicyKind::Multivalue { to },
            _ => PolicyKind::Failover { to },
        })
    }

    /// Keys that the item itself has and that mean nothing to its kind.
    fn misplaced(&self, kind: Kind, own: &SteerKeys, subject: &[String]) {
        let nearest = own.default.as_ref().is_some_and(|default| matches!(default.value, DefaultKey::Nearest));
        let weighted = signals::law(kind, own).is_some();
        let geo = kind == Kind::Geo;
        let bias_belongs = kind == Kind::Proximity || (geo && nearest);
        for (at, key, belongs, whose) in [
            (own.to.as_ref().map(|key| &key.at), "to", !geo, "every policy but geo, which says it in its rules"),
            (own.rules.as_ref().map(|key| &key.at), "rules", geo, "policy \"geo\""),
            (own.default.as_ref().map(|key| &key.at), "default", geo, "policy \"geo\""),
            (own.mode.as_ref().map(|key| &key.at), "mode", weighted, "policy \"weighted\""),
            (own.trim.as_ref().map(|key| &key.at), "trim", kind == Kind::Weighted, "policy \"weighted\""),
            (own.sticky_bits.as_ref().map(|key| &key.at), "sticky_bits", weighted, "policy \"weighted\" with mode = \"sticky\""),
            (own.bias.as_ref().map(|key| &key.at), "bias", bias_belongs, "policy \"proximity\", and policy \"geo\" with default = \"nearest\""),
        ] {
            if let (Some(at), false) = (at, belongs) {
                let mut subject = subject.to_vec();
                subject.push(key.into());
                self.sink.error(at, &subject, format!("it belongs to {whose}; this is policy {:?}", kind.word()));
            }
        }
    }

    fn weighted(&mut self, item: &PolicyItem<'a>, keys: &SteerKeys, to: &Located<To>, law: Law, subject: &[String]) -> Option<PolicyKind> {
        let weights: Vec<(Ref, u16)> = match &to.value {
            To::One(one) => vec![(one.clone(), 1)],
            To::Weights(weights) => weights.clone(),
            To::List(list) if matches!(law, Law::Balance(_)) => list.iter().map(|name| (name.clone(), 1)).collect(),
            To::List(list) => {
                let names: Vec<String> = list.iter().map(|name| format!("{} = 1", name.value)).collect();
                self.sink.error(
                    &to.at,
                    subject,
                    format!("found a list, expected a table of weights for policy \"weighted\": to = {{ {} }}", names.join(", ")),
                );
                return None;
            }
        };
        if item.def.sound && weights.iter().all(|(_, weight)| *weight == 0) {
            self.sink.warning(&to.at, subject, "all weights are 0, so all children are last resorts and share alike");
        }
        let to = weights.iter().filter_map(|(name, weight)| Some((self.child(name, item.in_library, subject)?, *weight))).collect();
        let mode = match keys.mode.as_ref().map(|key| key.value) {
            None | Some(ModeKey::Coherent) => WeightedMode::Coherent,
            Some(ModeKey::Random) => WeightedMode::Random,
            Some(ModeKey::Sticky) => {
                let (v4, v6) = keys.sticky_bits.as_ref().map_or(DEFAULT_STICKY_BITS, |key| key.value);
                WeightedMode::Sticky { v4, v6 }
            }
        };
        if let (Some(own), false) = (&item.keys.sticky_bits, matches!(mode, WeightedMode::Sticky { .. })) {
            let mut subject = subject[..subject.len() - 1].to_vec();
            subject.push("sticky_bits".into());
            self.sink.warning(&own.at, &subject, "it has no effect unless mode = \"sticky\"");
        }
        Some(PolicyKind::Weighted { to, mode, law })
    }

    fn geo(&mut self, item: &PolicyItem<'a>, keys: &SteerKeys, subject: &[String]) -> Option<PolicyKind> {
        let Some(rules) = &keys.rules else {
            if item.def.sound {
                self.sink.error(&item.def.at, subject, "rules is missing; write rules = [{ geo = [\"EU\"], to = \"fra\" }]");
            }
            return None;
        };
        let rules: Vec<GeoRule> = rules.value.iter().enumerate().map(|(at, rule)| self.rule(rule, at + 1, item, subject)).collect();
        let mut default_subject = subject.to_vec();
        default_subject.push("default".into());
        let default = match keys.default.as_ref().map(|key| &key.value) {
            None => GeoDefault::None,
            Some(DefaultKey::Children(names)) => {
                GeoDefault::Children(names.iter().filter_map(|name| self.child(name, item.in_library, &default_subject)).collect())
            }
            Some(DefaultKey::Nearest) => {
                let to: Vec<Child> = read_steer::mentioned(keys).into_iter().filter_map(|name| self.index(&name.value)).collect();
                let bias = self.bias(item, keys, &to, subject);
                GeoDefault::Nearest { to, bias }
            }
        };
        Some(PolicyKind::Geo { rules, default })
    }

    fn rule(&mut self, rule: &RawRule, number: usize, item: &PolicyItem<'a>, subject: &[String]) -> GeoRule {
        let mut subject = subject.to_vec();
        subject.push(format!("rule {number}"));
        let all_down = rule.all_down.as_ref().and_then(|key| self.all_down(key, item.in_library, &subject));
        subject.push("to".into());
        let to = rule.to.iter().filter_map(|name| self.child(name, item.in_library, &subject)).collect();
        let (mut asn, mut net) = (rule.asn.clone(), rule.net.clone());
        asn.sort_unstable();
        net.sort_unstable();
        GeoRule { geo: rule.geo.clone(), asn, net, to, fence: rule.fence, all_down, line: rule.at.line, disabled: None }
    }

    /// One bias per child, 0 where nothing is said.
    fn bias(&mut self, item: &PolicyItem<'a>, keys: &SteerKeys, to: &[Child], subject: &[String]) -> Vec<i8> {
        let mut all = vec![0; to.len()];
        let Some(bias) = &keys.bias else { return all };
        let mut subject = subject.to_vec();
        subject.push("bias".into());
        let is_own = item.keys.bias.is_some();
        for (name, value) in &bias.value {
            let child = self.children.contains_key(name.value.as_str()).then(|| self.indexes.get(name.value.as_str())).flatten();
            match child.and_then(|child| to.iter().position(|other| other == child)) {
                Some(at) => all[at] = *value,
                None if is_own => {
                    let known: BTreeSet<&str> = read_steer::mentioned(keys).into_iter().map(|name| name.value.as_str()).collect();
                    let text = format!("found {:?}, which is no child of this policy{}", name.value, self.hint(&name.value, known));
                    self.sink.error(&name.at, &subject, text);
                }
                // Defaults may speak of children that only some policies have.
                None => {}
            }
        }
        all
    }

    /// True for a policy that a library defines, by position.
    pub(super) fn policy_in_library(&self, at: usize) -> bool {
        self.policy_items.get(at).is_some_and(|item| item.in_library)
    }

    /// The defaults that hold for a monitor.
    pub(super) fn monitor_defaults(&self, in_library: bool) -> &MonitorKeys {
        if in_library { &self.library_defaults.monitor } else { &self.defaults.monitor }
    }

    /// The library files that the zone uses anything of: an item, a region or a default.
    pub(super) fn library_files(&self, library: &Library) -> Vec<PathBuf> {
        let mut used: BTreeSet<&Path> = BTreeSet::new();
        used.extend(self.pools.iter().filter(|item| item.in_library).map(|item| &*item.def.at.file));
        used.extend(self.policy_items.iter().filter(|item| item.in_library).map(|item| &*item.def.at.file));
        used.extend(votes::library_monitors(self));
        let regions = self.pools.iter().filter_map(|item| item.def.keys.region.as_ref());
        used.extend(regions.filter_map(|name| self.regions.get(name.value.as_str())).map(|region| &*region.at.file));
        library.files.iter().filter(|file| used.contains(&*file.file) || file.has_defaults).map(|file| file.path.clone()).collect()
    }

    /// Asked when a name is not found: true when it may stand where a file is broken, and then it is not reported.
    pub(super) fn is_forgiving(&self) -> bool {
        if self.forgiving {
            self.misses_library.set(true);
        }
        self.forgiving || self.zone_broken
    }

    /// True when every policy can be relied on.
    pub(super) fn is_sound(&self) -> bool {
        self.unsound.is_empty() && !self.misses_library.get() && !self.zone_broken
    }
}
