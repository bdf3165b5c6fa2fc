//! Rules of geo policies that overlays disable: the zone is compiled as if they were not there.
//!
//! Which rule a client matches decides its class, and without a rule its clients may match different others, address by address (a country's
//! continent, a network's country). So the class map is made anew, on a thread of its own as for a reload, before anything is judged, kept or
//! changed:
//!
//! ```text
//! request ─▶ is the zone compiled without these rules? ─ no ─▶ compile beside ─▶ the request again
//!               │ yes
//!               └─▶ judge (which classes become which) ─▶ keep on disk ─▶ one takes the place of the other, in one world
//! ```
//!
//! What was compiled stays beside what is served, the files' own version always: taking the only such overlay back needs no compiling.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::api::{Broken, Consequences, Refusal, Setting};
use super::compile::{self, ZoneParts};
use super::geography::{Geography, KnownGeo};
use super::handle::Event;
use super::load::{Build, TakenZone};
use super::overlays::{Change, Found, zone_text};
use super::state::ZoneState;
use super::worker::Worker;
use super::writer::{Done, Writer};
use crate::config::{self, Files, LoadedZone, OsFiles, Settings};
use crate::dns::Name;
use crate::geo::{places, space};
use crate::policy::model::{Child, GeoCode, GeoRule, PolicyIx, PolicyKind, Prefix, ZoneModel};
use crate::policy::plan::{self, View};
use crate::policy::resolve::Class;

/// What stands in front of a rule's key in a target.
const RULE: &str = "/rule:";
/// Versions of a zone that are kept beside the one that is served, the files' own apart.
const MAX_READY: usize = 4;
/// As when files are read.
const COMPILE_PRIORITY: u8 = 10;
/// Rules of a candidate list are many; near names are looked for among so many.
const MAX_COMPARED: usize = 10_000;

/// A condition of a rule: it is in one rule of its policy alone, so it names that rule, wherever the rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RuleKey {
    Geo(GeoCode),
    Asn(u32),
    Net(Prefix),
}

impl RuleKey {
    /// `geo=EU`, `geo=AS-TR`, `geo=NA-US-CA`, `asn=64500`, `net=10.0.0.0/8`.
    fn parse(text: &str) -> Option<RuleKey> {
        match text.split_once('=')? {
            ("geo", code) => {
                let code = code.to_ascii_uppercase();
                let two = |part: &str| part.as_bytes().try_into().ok();
                match code.split('-').collect::<Vec<_>>().as_slice() {
                    [continent] => two(continent).map(GeoCode::Continent),
                    [_, country] => two(country).map(GeoCode::Country),
                    [_, country, part] => two(country).map(|country| GeoCode::Subdivision(country, (*part).to_owned())),
                    _ => None,
                }
                .map(RuleKey::Geo)
            }
            ("asn", number) => number.parse().ok().map(RuleKey::Asn),
            ("net", net) => space::parse_prefix(net).ok().map(RuleKey::Net),
            _ => None,
        }
    }

    fn is_of(&self, rule: &GeoRule) -> bool {
        match self {
            RuleKey::Geo(code) => rule.geo.contains(code),
            RuleKey::Asn(number) => rule.asn.binary_search(number).is_ok(),
            RuleKey::Net(net) => rule.net.binary_search(net).is_ok(),
        }
    }
}

/// Conditions that a refusal lists.
const MAX_NAMED: usize = 10;

/// Every condition of a rule, as targets write it.
pub(super) fn keys_of(rule: &GeoRule) -> impl Iterator<Item = String> {
    let letters = |code: &[u8; 2]| String::from_utf8_lossy(code).into_owned();
    let of = move |country: &[u8; 2]| {
        format!("{}-{}", places::continent_of(*country).map_or_else(|| "??".into(), |home| letters(&home)), letters(country))
    };
    let geo = rule.geo.iter().map(move |code| match code {
        GeoCode::Continent(code) => format!("geo={}", letters(code)),
        GeoCode::Country(country) => format!("geo={}", of(country)),
        GeoCode::Subdivision(country, part) => format!("geo={}-{part}", of(country)),
    });
    let asn = rule.asn.iter().map(|number| format!("asn={number}"));
    geo.chain(asn).chain(rule.net.iter().map(|net| format!("net={}/{}", net.addr, net.len)))
}

/// The rules of a policy, if it is a geo policy.
pub(super) fn rules_of(model: &ZoneModel, ix: PolicyIx) -> &[GeoRule] {
    match &model.policy(ix).kind {
        PolicyKind::Geo { rules, .. } => rules,
        _ => &[],
    }
}

/// A policy's name in targets and metrics: `zone/policy:NAME`, or `zone/name` where a name states it itself.
pub(super) fn policy_id(model: &ZoneModel, ix: PolicyIx) -> String {
    format!("{}/{}", zone_text(&model.name), place_of(model, ix))
}

/// What stands for a policy in targets, behind the zone.
pub(super) fn place_of(model: &ZoneModel, ix: PolicyIx) -> String {
    let policy = model.policy(ix);
    let steer = model.steers.iter().find(|steer| policy.inline && steer.root == Child::Policy(ix));
    steer.map_or_else(|| format!("policy:{}", policy.name), |steer| steer.owner.relative_to(&model.name))
}

/// The policy that stands for `policy:NAME`, or for a name that states its own.
fn policy_at(model: &ZoneModel, place: &str) -> Option<PolicyIx> {
    if let Some(name) = place.strip_prefix("policy:") {
        let at = model.policies.iter().position(|policy| !policy.inline && policy.name == name)?;
        return Some(PolicyIx(at as u32));
    }
    let ix = policy_of_name(model, place)?;
    model.policy(ix).inline.then_some(ix)
}

/// The policy that a steered name uses, its own or one with a name.
fn policy_of_name(model: &ZoneModel, owner: &str) -> Option<PolicyIx> {
    let owner = Name::parse(owner, &model.name).ok()?.to_lowercase();
    match model.steers.iter().find(|steer| steer.owner == owner)?.root {
        Child::Policy(ix) => Some(ix),
        Child::Pool(_) => None,
    }
}

/// The rule that `PLACE/rule:KEY` names.
fn locate(model: &ZoneModel, rest: &str) -> Option<(PolicyIx, usize)> {
    let (place, key) = rest.split_once(RULE)?;
    let (ix, key) = (policy_at(model, place)?, RuleKey::parse(key)?);
    let at = rules_of(model, ix).iter().position(|rule| key.is_of(rule))?;
    Some((ix, at))
}

/// True for two conditions of one rule.
pub(super) fn is_same(model: &ZoneModel, one: &str, other: &str) -> bool {
    one == other || locate(model, one).is_some_and(|rule| locate(model, other) == Some(rule))
}

/// True when the rule is disabled in what is served.
pub(super) fn is_disabled(model: &ZoneModel, rest: &str) -> bool {
    locate(model, rest).is_some_and(|(ix, at)| rules_of(model, ix)[at].disabled.is_some())
}

/// Reads the target of an overlay that disables a rule.
pub(super) fn find<'z>(target: &str, is_disabled: bool, zones: impl Iterator<Item = &'z ZoneParts> + Clone) -> Result<Found, Refusal> {
    let invalid = |field: &str, detail: String| Err(Refusal::Invalid { field: field.into(), detail });
    if !is_disabled {
        return invalid("set.disabled", "found false, expected true; to enable the rule again, take the overlay back that disables it".into());
    }
    let (zone, rest) = target.split_once('/').unwrap_or((target, ""));
    let apex = Name::parse_absolute(zone).ok().map(|apex| apex.to_lowercase());
    let own = zones.clone().find(|parts| Some(&parts.model.name) == apex.as_ref()).map(|parts| &parts.model);
    if let Some(model) = own {
        if locate(model, rest).is_some() {
            return Ok(Found::Rule(model.name.clone(), rest.into()));
        }
        // A policy that has a name of its own may be used by many: it is meant as such.
        if let Some((ix, key)) = rest.split_once(RULE).and_then(|(place, key)| Some((policy_of_name(model, place)?, key)))
            && !model.policy(ix).inline
        {
            let name = &model.policy(ix).name;
            let detail = format!("it uses the policy {name}, as others may: say {}/policy:{name}{RULE}{key}", zone_text(&model.name));
            return invalid("target", detail);
        }
        if let Some((_, key)) = rest.split_once(RULE)
            && RuleKey::parse(key).is_none()
        {
            let place = rest.split_once(RULE).and_then(|(place, _)| policy_at(model, place));
            let known: Vec<String> = place.into_iter().flat_map(|ix| rules_of(model, ix).iter().flat_map(keys_of)).take(MAX_NAMED + 1).collect();
            let more = if known.len() > MAX_NAMED { ", …" } else { "" };
            let expected = match known.is_empty() {
                true => "a condition of one of its rules, such as geo=EU, geo=AS-TR, asn=64500 or net=10.0.0.0/8".to_owned(),
                false => format!("one of the conditions of its rules: {}{more}", known[..known.len().min(MAX_NAMED)].join(", ")),
            };
            return invalid("target", format!("found the rule {key:?}, expected {expected}"));
        }
    }
    let models = || own.into_iter().chain(zones.clone().map(|parts| &parts.model).filter(|_| own.is_none()));
    let candidates: Vec<String> = models().flat_map(|model| targets(model)).take(MAX_COMPARED).collect();
    let near = config::nearest(target, candidates.iter().map(String::as_str)).map(str::to_string);
    Err(Refusal::NotFound { what: target.into(), near: near.into_iter().collect() })
}

/// Every condition of every rule, as a target.
fn targets(model: &ZoneModel) -> impl Iterator<Item = String> {
    (0..model.policies.len() as u32).map(PolicyIx).flat_map(move |ix| {
        let place = policy_id(model, ix);
        rules_of(model, ix).iter().flat_map(keys_of).map(move |key| format!("{place}{RULE}{key}"))
    })
}

/// The rules of a zone that are disabled, by policy and position, each with the overlay that does it. Positions are those of one loaded zone and
/// go no further.
pub(super) type Disabled = BTreeMap<(PolicyIx, usize), u64>;

/// What overlays disable in a zone: their ids, and their targets without the zone.
pub(super) type Wanted = Vec<(u64, String)>;

fn disabled_in(model: &ZoneModel, wanted: &Wanted) -> Disabled {
    let mut disabled = Disabled::new();
    for (id, rest) in wanted {
        if let Some(rule) = locate(model, rest) {
            disabled.entry(rule).or_insert(*id);
        }
    }
    disabled
}

fn model_without(model: &ZoneModel, disabled: &Disabled) -> ZoneModel {
    let mut model = model.clone();
    for (at, policy) in model.policies.iter_mut().enumerate() {
        let PolicyKind::Geo { rules, .. } = &mut policy.kind else { continue };
        let ids = rules.iter_mut().enumerate().map(|(rule, one)| (disabled.get(&(PolicyIx(at as u32), rule)).copied(), one));
        ids.for_each(|(id, rule)| rule.disabled = id);
    }
    model
}

/// A version of a zone that could be served.
#[derive(Debug)]
pub(super) struct Ready {
    disabled: Disabled,
    parts: Arc<ZoneParts>,
    geo_hash: u64,
    /// What was served when it was made, and which of its classes become which, by root.
    beside: Option<(Arc<ZoneParts>, Vec<Pairs>)>,
}

pub(super) type Pairs = BTreeSet<(u16, u16)>;

/// Which classes of `before` become which of `after`, by root: roots stand in one order whatever is disabled.
fn pairs(before: &ZoneParts, after: &ZoneParts) -> Vec<Pairs> {
    before.roots.iter().zip(&after.roots).map(|(before, after)| class_pairs(before, after)).collect()
}

/// Which classes of a root become which of another.
pub(super) fn class_pairs(before: &compile::Root, after: &compile::Root) -> Pairs {
    if Arc::ptr_eq(&before.map, &after.map) {
        return (0..before.classes.len().min(after.classes.len()) as u16).map(|class| (class, class)).collect();
    }
    let borders = before.map.borders().into_iter().chain(after.map.borders());
    borders.map(|addr| (before.map.lookup(addr).class, after.map.lookup(addr).class)).collect()
}

impl TakenZone {
    /// Position in `ready` of the version without these rules.
    fn find_ready(&self, disabled: &Disabled) -> Option<usize> {
        self.ready.iter().position(|one| one.disabled == *disabled)
    }

    fn keep_ready(&mut self, ready: Arc<Ready>) {
        self.ready.retain(|one| one.disabled != ready.disabled);
        self.ready.push(ready);
        let own = |one: &Arc<Ready>| one.disabled.is_empty();
        while self.ready.iter().filter(|one| !own(one)).count() > MAX_READY
            && let Some(oldest) = self.ready.iter().position(|one| !own(one))
        {
            self.ready.remove(oldest);
        }
    }

    /// The zone with another version in service.
    fn serving(&self, ready: &Ready) -> TakenZone {
        let back = ready.beside.as_ref().filter(|(beside, _)| Arc::ptr_eq(beside, &self.parts)).map(|(_, pairs)| pairs);
        let back = back.map(|pairs| pairs.iter().map(|pairs| pairs.iter().map(|(was, is)| (*is, *was)).collect()).collect());
        let beside = back.map(|pairs| (ready.parts.clone(), pairs));
        let was = Ready { disabled: self.disabled.clone(), parts: self.parts.clone(), geo_hash: self.geo_hash, beside };
        let mut next = TakenZone { parts: ready.parts.clone(), disabled: ready.disabled.clone(), geo_hash: ready.geo_hash, ..self.clone() };
        next.ready.retain(|one| one.disabled != ready.disabled);
        next.keep_ready(Arc::new(was));
        next
    }

    /// The zone as these overlays want it, compiled with what the build has compiled it with.
    pub(super) fn without(self, wanted: Option<&Wanted>, geo: &compile::GeoSources, shared: &mut compile::SharedMaps) -> TakenZone {
        let disabled = wanted.map(|wanted| disabled_in(&self.parts.model, wanted)).unwrap_or_default();
        if disabled == self.disabled {
            return self;
        }
        let model = Arc::new(model_without(&self.parts.model, &disabled));
        match compile::compile(&model, self.parts.tree.clone(), geo, shared) {
            Ok(parts) => self.serving(&Ready { disabled, parts: Arc::new(parts), geo_hash: self.geo_hash, beside: None }),
            // Fewer rules make no more classes than the files' own, which fit.
            Err(_) => self,
        }
    }
}

/// Compiles a zone without some of its rules; blocking. Also what the databases were, for the next build.
fn make(
    files: &dyn Files,
    settings: &Settings,
    known: Option<&KnownGeo>,
    zone: &TakenZone,
    disabled: &Disabled,
) -> Result<(Ready, Option<Arc<KnownGeo>>), String> {
    let mut build = Build::default();
    let (mut geography, mut shared) = Geography::look(files, settings, known, &mut build);
    let model = Arc::new(model_without(&zone.parts.model, disabled));
    let roots = model.steers.iter().map(|steer| (&*model, steer.root));
    let geo = geography.sources(roots, &mut shared, &mut build);
    if let Some(file) = &build.geo_trouble {
        return Err(format!("{} cannot be used, so the zone cannot be compiled without the rule", file.display()));
    }
    let parts = Arc::new(compile::compile(&model, zone.parts.tree.clone(), &geo, &mut shared).map_err(|error| error.to_string())?);
    let beside = Some((zone.parts.clone(), pairs(&zone.parts, &parts)));
    Ok((Ready { disabled: disabled.clone(), parts, geo_hash: build.geo_hash, beside }, geography.known(shared, &build)))
}

/// Before the first world: zones as the overlays of the run before want them.
pub(super) fn lay_kept(build: &mut Build, overlays: &[super::api::Overlay], now_unix: u64) {
    let Some(settings) = build.settings.clone() else { return };
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    let in_force = overlays.iter().filter(|one| one.is_begun() && one.expires.is_none_or(|at| at > now_unix));
    for overlay in in_force.filter(|overlay| matches!(overlay.set, Setting::Disabled(true))) {
        if let Some((zone, rest)) = super::audit::plain_target(&overlay.target).split_once('/') {
            wanted.entry(zone.to_owned()).or_default().push((overlay.id, rest.to_owned()));
        }
    }
    // The oldest comes first, as it does later.
    wanted.values_mut().for_each(|wanted| wanted.sort());
    for at in 0..build.good.len() {
        let zone = &build.good[at];
        let Some(wanted) = wanted.get(&zone_text(&zone.parts.model.name)) else { continue };
        let disabled = disabled_in(&zone.parts.model, wanted);
        if disabled.is_empty() {
            continue;
        }
        match make(&OsFiles, &settings, build.geo.as_deref(), zone, &disabled) {
            Ok((ready, geo)) => {
                build.good[at] = zone.serving(&ready);
                build.geo = geo.or(build.geo.take());
            }
            Err(why) => build.degraded.push(format!("{}: {why}", behind(&zone.parts.model.name))),
        }
    }
}

/// How it begins what is said of a zone that is not served as its overlays want it.
fn behind(zone: &Name) -> String {
    format!("{zone}: rules are not in force as overlays want it")
}

/// What the writer has to do about disabled rules.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// To be compiled, in order.
    queue: VecDeque<(Name, Disabled)>,
    /// Requests that wait for it.
    waiting: Vec<(Name, Event)>,
    /// What an overlay wants may not be what is served.
    moved: bool,
    /// Could not be compiled from these files and databases, and why: a rule that is planned waits until they are read again.
    failed: Vec<(Name, Disabled, String)>,
}

impl Rules {
    /// Overlays came, went, or are about something else.
    pub(super) fn move_on(&mut self) {
        self.moved = true;
        self.failed.clear();
    }
}

/// A version of a zone that was to be compiled.
pub(super) struct Compiled {
    zone: Name,
    disabled: Disabled,
    /// Of what.
    loaded: Arc<LoadedZone>,
    result: Result<(Ready, Option<Arc<KnownGeo>>), String>,
}

fn is_rule(change: &Change) -> bool {
    matches!(change, Change::Lay(laid) if matches!(laid.overlay.set, Setting::Disabled(_)))
}

/// Refuses what waits for a version of a zone.
fn refuse(event: Event, refusal: Refusal) {
    match event {
        Event::Overlay(_, _, reply) | Event::Revert(_, _, _, reply) => drop(reply.send(Err(refusal))),
        Event::Foresee(_, _, reply) | Event::ForeseeRevert(.., reply) => drop(reply.send(Err(refusal))),
        _ => {}
    }
}

impl Writer {
    /// What overlays disable, zone by zone, with what is accepted and these changes, each at its end.
    pub(super) fn disabled_rules(&self, changes: &[Change]) -> std::collections::HashMap<Name, Wanted> {
        // By what they say, not by what was found: the files that are being read may have it again.
        let rules = self.book.rules().filter(|laid| laid.overlay.is_begun());
        let mut all: BTreeMap<u64, &str> = rules.map(|laid| (laid.overlay.id, laid.overlay.target.as_str())).collect();
        let pending = self.pending.values().filter(|_| !changes.is_empty());
        for change in pending.chain(changes) {
            match change {
                Change::Lay(laid) if is_rule(change) => drop(all.insert(laid.overlay.id, &laid.overlay.target)),
                Change::Lay(_) => {}
                Change::Lift(id) => drop(all.remove(id)),
            }
        }
        let mut wanted = std::collections::HashMap::<Name, Wanted>::new();
        for (id, target) in all {
            if let Some((zone, rest)) = target.split_once('/')
                && let Ok(zone) = Name::parse_absolute(zone)
            {
                wanted.entry(zone.to_lowercase()).or_default().push((id, rest.to_owned()));
            }
        }
        wanted
    }

    /// The zones that would be served in another version after these changes, and without which rules.
    fn versions_after(&self, changes: &[Change]) -> Vec<(&ZoneState, Disabled)> {
        let is_one = |change: &Change| is_rule(change) || matches!(change, Change::Lift(id) if self.book.is_rule(*id));
        if !changes.iter().any(is_one) {
            return Vec::new();
        }
        let wanted = self.disabled_rules(changes);
        let zones = self.zones.iter().filter(|(name, zone)| wanted.contains_key(*name) || !zone.taken.disabled.is_empty());
        let versions = zones.map(|(name, zone)| (&**zone, wanted.get(name).map(|wanted| disabled_in(zone.model(), wanted)).unwrap_or_default()));
        versions.filter(|(zone, disabled)| *disabled != zone.taken.disabled).collect()
    }

    /// True when everything is compiled that these changes need; else it will be. `Err` when that was tried and cannot be.
    pub(super) fn rules_are_ready(&mut self, changes: &[Change]) -> Result<bool, String> {
        let why = |(zone, disabled): (&ZoneState, Disabled)| {
            self.rules.failed.iter().find(|(name, without, _)| (name, without) == (&zone.model().name, &disabled)).map(|(.., why)| why.clone())
        };
        match self.versions_after(changes).into_iter().find_map(why) {
            Some(why) => Err(why),
            None => Ok(self.missing(changes).is_none()),
        }
    }

    /// The first zone that is not compiled as these changes need it; it will be.
    fn missing(&mut self, changes: &[Change]) -> Option<Name> {
        let missing = self.versions_after(changes).into_iter().filter(|(zone, disabled)| zone.taken.find_ready(disabled).is_none());
        let missing: Vec<(Name, Disabled)> = missing.map(|(zone, disabled)| (zone.model().name.clone(), disabled)).collect();
        let first = missing.first().map(|(name, _)| name.clone());
        missing.into_iter().for_each(|one| self.want_version(one));
        first
    }

    fn want_version(&mut self, one: (Name, Disabled)) {
        if !self.rules.queue.contains(&one) {
            self.rules.queue.push_back(one);
        }
    }

    /// A request, unless it has to wait for a version of a zone; then it comes again.
    pub(super) fn when_ready(&mut self, event: Event) -> Option<Event> {
        let change = match &event {
            Event::Overlay(new, who, _) if matches!(new.set, Setting::Disabled(_)) => self.admit(new.clone(), who).ok(),
            Event::Foresee(new, who, _) if matches!(new.set, Setting::Disabled(_)) => self.admit(new.clone(), who).ok(),
            Event::Revert(id, ..) | Event::ForeseeRevert(id, ..) if self.book.is_rule(*id) => Some(Change::Lift(*id)),
            _ => return Some(event),
        };
        // What is refused anyway is refused by whoever handles it.
        let Some(change) = change else { return Some(event) };
        match self.missing(&[change]) {
            None => Some(event),
            Some(zone) => {
                self.rules.waiting.push((zone, event));
                None
            }
        }
    }

    /// Serves every zone as its overlays want it, as far as that is compiled. True when any is in another version now.
    pub(super) fn follow_rules(&mut self) -> bool {
        let mut is_other = false;
        if self.book.take_rules_moved() || std::mem::take(&mut self.rules.moved) {
            let wanted = self.disabled_rules(&[]);
            let zones = self.zones.iter().filter(|(name, zone)| wanted.contains_key(*name) || !zone.taken.disabled.is_empty());
            let zones =
                zones.map(|(name, zone)| (name.clone(), wanted.get(name).map(|wanted| disabled_in(zone.model(), wanted)).unwrap_or_default()));
            for (name, disabled) in zones.collect::<Vec<_>>() {
                let Some(zone) = self.zones.get(&name).filter(|zone| zone.taken.disabled != disabled) else { continue };
                match zone.taken.find_ready(&disabled).map(|at| zone.taken.ready[at].clone()) {
                    Some(ready) => {
                        self.serve_version(&name, &ready);
                        is_other = true;
                    }
                    None => self.want_version((name, disabled)),
                }
            }
        }
        self.compile_next();
        is_other
    }

    fn serve_version(&mut self, name: &Name, ready: &Ready) {
        self.degraded.retain(|text| !text.starts_with(&behind(name)));
        let Some(before) = self.zones.remove(name) else { return };
        let mut state = ZoneState::new(before.taken.serving(ready), before.serial, before.serial_content.clone());
        state.inherit(&before);
        self.reaper.other(before);
        self.zones.insert(name.clone(), Box::new(state));
        self.mark_whole(name.clone());
    }

    /// One at a time, and none while files are read.
    fn compile_next(&mut self) {
        if self.reloading || self.rules.queue.is_empty() {
            return;
        }
        let Some(settings) = self.settings.clone() else { return };
        while let Some((name, disabled)) = self.rules.queue.pop_front() {
            let Some(zone) = self.zones.get(&name).map(|zone| zone.taken.clone()).filter(|zone| zone.find_ready(&disabled).is_none()) else {
                self.ask_again(&name);
                continue;
            };
            let worker = match Worker::start("rules") {
                Ok(worker) => worker,
                Err(refusal) => return std::mem::take(&mut self.rules.waiting).into_iter().for_each(|(_, event)| refuse(event, refusal.clone())),
            };
            let (geo, done, loaded) = (self.geo.clone(), self.done_sender.clone(), zone.loaded.clone());
            self.reloading = true;
            worker.work(move || {
                // Where it is not possible all are equal.
                let _ = crate::sys::lower_priority(COMPILE_PRIORITY);
                let result = make(&OsFiles, &settings, geo.as_deref(), &zone, &disabled);
                drop((zone, geo));
                let _ = done.send(Done::Ruled(Compiled { zone: name, disabled, loaded, result }));
            });
            return;
        }
    }

    /// A version is there, or cannot be: whoever waits for it is asked again, or told.
    pub(super) fn take_version(&mut self, compiled: Compiled) {
        let Compiled { zone: name, disabled, loaded, result } = compiled;
        match result {
            Ok((ready, geo)) => {
                self.rules.failed.retain(|(other, without, _)| (other, without) != (&name, &disabled));
                self.geo = geo.or(self.geo.take());
                if let Some(zone) = self.zones.get_mut(&name).filter(|zone| Arc::ptr_eq(&zone.taken.loaded, &loaded)) {
                    zone.taken.keep_ready(Arc::new(ready));
                }
                self.rules.moved = true;
                self.ask_again(&name);
            }
            Err(why) => {
                tracing::error!(target: "meridian::control", zone = %name, why, "a zone cannot be compiled without a rule");
                self.rules.failed.retain(|(other, without, _)| (other, without) != (&name, &disabled));
                self.rules.failed.push((name.clone(), disabled, why.clone()));
                let wanted = self.disabled_rules(&[]).remove(&name).unwrap_or_default();
                if self.zones.get(&name).is_some_and(|zone| disabled_in(zone.model(), &wanted) != zone.taken.disabled) {
                    self.degraded.retain(|text| !text.starts_with(&behind(&name)));
                    self.degraded.push(format!("{}: {why}", behind(&name)));
                }
                for event in self.take_waiting(&name) {
                    refuse(event, Refusal::Invalid { field: "target".into(), detail: format!("{why}; nothing was changed") });
                }
            }
        }
    }

    fn take_waiting(&mut self, zone: &Name) -> Vec<Event> {
        let (ready, waiting) = std::mem::take(&mut self.rules.waiting).into_iter().partition(|(name, _)| name == zone);
        self.rules.waiting = waiting;
        let ready: Vec<(Name, Event)> = ready;
        ready.into_iter().map(|(_, event)| event).collect()
    }

    fn ask_again(&mut self, zone: &Name) {
        self.take_waiting(zone).into_iter().for_each(|event| self.take(event));
    }

    /// Adds what changes of rules would do: clients of a name that come from something usable to nothing.
    pub(super) fn judge_rules(&self, changes: &[Change], all: &mut Consequences) {
        for (zone, disabled) in self.versions_after(changes) {
            let model = zone.model();
            let Some(ready) = zone.taken.find_ready(&disabled).map(|at| &zone.taken.ready[at]) else { continue };
            if !model.safety.last_healthy {
                continue;
            }
            let before = &zone.taken.parts;
            let known = ready.beside.as_ref().filter(|(beside, _)| Arc::ptr_eq(beside, before)).map(|(_, pairs)| pairs);
            let pairs = known.cloned().unwrap_or_else(|| pairs(before, &ready.parts));
            let views = self.accepted_views(zone);
            let lost = |at: usize| views.iter().any(|view| loses_all(model, view, (&before.roots[at], &ready.parts.roots[at]), &pairs[at]));
            let roots = (0..pairs.len()).filter(|at| lost(*at)).flat_map(|at| &before.roots[at].steers);
            let names: Vec<String> = roots.map(|at| model.steers[*at].owner.to_string()).collect();
            if let Some(first) = names.first() {
                let more = if names.len() > 1 { format!(" and {} more names", names.len() - 1) } else { String::new() };
                let detail = format!("nothing usable would be left for some clients of {first}{more}");
                let rule = format!("{}/safety:last_healthy", zone_text(&model.name));
                all.broken.push(Broken { rule, found: names.len().into(), limit: 0, detail });
            }
        }
    }
}

/// True when some clients had something usable and would come to `all_down`.
fn loses_all(model: &ZoneModel, view: &View, (before, after): (&compile::Root, &compile::Root), pairs: &Pairs) -> bool {
    let has_any = |classes: &[Class], at: u16| classes.get(usize::from(at)).is_some_and(|class| plan::has_any_up(model, class, view));
    pairs.iter().any(|(was, is)| !has_any(&after.classes, *is) && has_any(&before.classes, *was))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let rule = GeoRule {
            geo: vec![GeoCode::Continent(*b"EU"), GeoCode::Country(*b"TR"), GeoCode::Subdivision(*b"US", "CA".into())],
            asn: vec![64500],
            net: vec![space::parse_prefix("10.0.0.0/8").expect("a prefix"), space::parse_prefix("2001:db8::/32").expect("a prefix")],
            to: Vec::new(),
            fence: false,
            all_down: None,
            line: 1,
            disabled: None,
        };
        let keys: Vec<String> = keys_of(&rule).collect();
        assert_eq!(keys, ["geo=EU", "geo=AS-TR", "geo=NA-US-CA", "asn=64500", "net=10.0.0.0/8", "net=2001:db8::/32"]);
        for key in keys.iter().map(String::as_str).chain(["geo=as-tr", "geo=EU-TR"]) {
            assert!(RuleKey::parse(key).is_some_and(|key| key.is_of(&rule)), "{key}");
        }
        for key in ["geo=AS", "geo=AS-JP", "geo=US", "asn=64501", "net=10.0.0.0/9"] {
            assert!(RuleKey::parse(key).is_some_and(|key| !key.is_of(&rule)), "{key}");
        }
        for key in ["", "EU", "geo", "geo=", "geo=EUR", "geo=A-B-C-D", "asn=AS64500", "asn=-1", "net=10.0.0.1/8x", "net=10", "place=EU"] {
            assert_eq!(RuleKey::parse(key), None, "{key}");
        }
    }
}
