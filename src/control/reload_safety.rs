//! What taking in changed files would withdraw, and which safety rules forbid it (DESIGN §6). The files are what the operator means, so nothing of
//! it is undone later; but a mistake in them is found before it is served, not after.
//!
//! ```text
//! reload by request          judged; what a rule forbids is refused as a whole, and everything goes on as before
//! the same, break_glass      judged, taken; what was broken is in the report, the event log and a counter
//! SIGHUP                     as with break_glass: nobody waits for an answer, and a restart would do the same
//! start                      not judged: nothing is in rotation yet
//! databases alone            not judged: nobody has edited anything, and an outage must not keep old databases in force
//! ```
//!
//! The rules in force judge, not those that the files bring: else one edit could take away a rule and what it protects. Things are the same when
//! their ids are. What the files no longer have is out of rotation if it was in; what had been drained before may be removed freely. A steered name
//! that is removed loses nothing: that is what removing means.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::api::{Broken, Consequences, NameLeft, ReloadReport, ZoneShare};
use super::audit::{Entry, plain_target};
use super::changes::{Reload, went_past};
use super::compile::{Root, ZoneParts};
use super::load::{Build, TakenZone};
use super::loaded::Loaded;
use super::overlays::{Change, Course, Effects, zone_text};
use super::reload;
use super::rules::class_pairs;
use super::safety::{self, MAX_LISTED, break_names, percent, share_words};
use super::state::ZoneState;
use super::writer::Writer;
use crate::config::duration_words;
use crate::dns::Name;
use crate::policy::model::{AllDown, Pool, SafetyMember, Steer, ZoneModel};
use crate::policy::plan::{self, View};

/// A zone as it is or as it would be.
struct Version<'z> {
    parts: &'z ZoneParts,
    view: View,
    /// Endpoints by id, and whether they are in rotation.
    endpoints: HashMap<&'z str, bool>,
    /// Pools by id, and whether they are.
    pools: HashMap<&'z str, bool>,
    /// Endpoints that would be in rotation, if the weights of policies' children sent anybody to their pools.
    idle: BTreeSet<&'z str>,
    /// Those of them that stand by: the files say so.
    standby: BTreeSet<&'z str>,
}

impl<'z> Version<'z> {
    fn of(parts: &'z ZoneParts, view: View) -> Version<'z> {
        let (mut endpoints, mut pools) = (HashMap::new(), HashMap::new());
        let (mut idle, mut standby) = (BTreeSet::new(), BTreeSet::new());
        let idle_pools = safety::idle_pools(parts, &parts.roots, &view);
        let standby_pools = safety::standby_pools(parts, &parts.roots, &view);
        for (at, (pool, seen)) in parts.model.pools.iter().zip(view.pools.iter()).enumerate() {
            let ids = || pool.endpoints.iter().map(|endpoint| &*endpoint.id);
            if idle_pools.contains(&at) {
                pools.insert(&*pool.id, false);
                endpoints.extend(ids().map(|id| (id, false)));
                let resting: Vec<&str> = ids().zip(safety::rotation(seen)).filter(|(_, is_in)| *is_in).map(|(id, _)| id).collect();
                if standby_pools.contains(&at) {
                    standby.extend(&resting);
                }
                idle.extend(resting);
                continue;
            }
            pools.insert(&*pool.id, safety::is_in_rotation(pool, seen));
            endpoints.extend(ids().zip(safety::rotation(seen)));
        }
        Version { parts, view, endpoints, pools, idle, standby }
    }

    fn model(&self) -> &'z ZoneModel {
        &self.parts.model
    }

    /// Ids of the pools that some steered name may be answered from.
    fn consulted(&self) -> BTreeSet<&'z str> {
        let model = self.model();
        let roots = self.parts.roots.iter().flat_map(|root| below(model, root));
        roots.map(|pool| &*pool.id).collect()
    }

    /// What nobody is sent to any more is out of rotation, whatever its checks say.
    fn forget(&mut self, left: &BTreeSet<&str>) {
        for pool in self.model().pools.iter().filter(|pool| left.contains(&*pool.id)) {
            self.pools.insert(&pool.id, false);
            self.endpoints.extend(pool.endpoints.iter().map(|endpoint| (&*endpoint.id, false)));
        }
    }

    fn has(&self, member: &SafetyMember) -> bool {
        let is_in = |known: &HashMap<&str, bool>, id: &str| known.get(id).copied().unwrap_or(false);
        match member {
            SafetyMember::Pool(id) => is_in(&self.pools, id),
            SafetyMember::Endpoint(id) => is_in(&self.endpoints, id),
            SafetyMember::Region(name) => self.model().pools.iter().any(|pool| pool.region.as_ref() == Some(name) && is_in(&self.pools, &pool.id)),
        }
    }
}

/// Pools that a root may answer from, last resorts included.
fn below<'z>(model: &'z ZoneModel, root: &Root) -> Vec<&'z Pool> {
    let steer = &model.steers[root.steer];
    let last_resorts = root.classes.iter().filter_map(|class| class.all_down).chain([steer.all_down]);
    let last_resorts = last_resorts.filter_map(|all_down| if let AllDown::Pool(ix) = all_down { Some(ix) } else { None });
    model.pools_below(steer.root).into_iter().chain(last_resorts).map(|ix| model.pool(ix)).collect()
}

/// Judges one zone that would be in another version, or none.
fn judge(before: &Version<'_>, after: Option<&mut Version<'_>>, recent: usize, all: &mut Consequences) {
    let model = before.model();
    let safety = &model.safety;
    let rule = |name: &str| format!("{}/safety:{name}", zone_text(&model.name));
    let after = after.map(|after| {
        let now = after.consulted();
        let left: BTreeSet<&str> = before.consulted().into_iter().filter(|id| !now.contains(id)).collect();
        after.forget(&left);
        &*after
    });
    let is_in = |id: &str| after.is_some_and(|after| after.endpoints.get(id) == Some(&true));
    let is_known = |id: &str| after.is_some_and(|after| after.endpoints.contains_key(id));
    let (mut withdrawn, mut gone, mut out_before) = (0, 0, 0);
    for endpoint in model.pools.iter().flat_map(|pool| &pool.endpoints) {
        match before.endpoints.get(&*endpoint.id) {
            Some(true) if !is_in(&endpoint.id) => {
                withdrawn += 1;
                gone += usize::from(!is_known(&endpoint.id));
                all.withdraw(&endpoint.id, MAX_LISTED);
            }
            Some(false) if is_known(&endpoint.id) && !before.standby.contains(&*endpoint.id) => out_before += 1,
            _ => {}
        }
    }
    let pool_left = |id: &str| after.is_some_and(|after| after.pools.get(id) == Some(&true));
    for pool in model.pools.iter().filter(|pool| before.pools.get(&*pool.id) == Some(&true) && !pool_left(&pool.id)) {
        if !all.pools.iter().any(|id| **id == *pool.id) {
            all.pools.push(pool.id.to_string());
        }
    }
    if let Some(after) = after {
        judge_names(before, after, &rule, all);
    }
    for set in &safety.sets {
        let count = |version: &Version<'_>| set.members.iter().filter(|member| version.has(member)).count();
        let (were, are) = (count(before), after.map_or(0, count));
        let (total, needed) = (set.members.len(), set.at_least.needed(set.members.len()));
        if are < were && are < needed {
            let detail = format!("{are} of {total} would be in rotation, at least {needed} must be");
            all.broken.push(Broken { rule: rule(&format!("min_in_rotation/{}", set.name)), found: are.into(), limit: needed as u64, detail });
        }
    }
    if withdrawn == 0 {
        return;
    }
    let (known, out_after) = after.map_or((0, 0), |after| {
        // What stood by before and still does is nothing that this takes out.
        let stands_by = |id: &str| before.standby.contains(id) && after.idle.contains(id);
        (after.endpoints.len(), after.endpoints.iter().filter(|(id, is_in)| !**is_in && !stands_by(id)).count())
    });
    let (endpoints, out_after) = (known + gone, out_after + gone);
    if let Some(most) = safety.max_withdrawn
        && out_after * 100 > endpoints * usize::from(most)
    {
        let (found, share) = (percent(out_after as f64, endpoints as f64), share_words(out_after as f64, endpoints as f64));
        let detail = format!("{out_after} of {endpoints} endpoints would be out of rotation ({share}), at most {most} % may be");
        all.broken.push(Broken { rule: rule("max_withdrawn"), found, limit: most.into(), detail });
    }
    if let Some((most, per)) = safety.max_changes
        && recent + 1 > most as usize
    {
        let found = recent + 1;
        let detail = format!("it would be withdrawal number {found} within {}, at most {most} are allowed", duration_words(per));
        all.broken.push(Broken { rule: rule("max_changes"), found: found.into(), limit: most.into(), detail });
    }
    all.confirm |= withdrawn * 100 > endpoints * usize::from(safety.confirm_above);
    all.zones.push(ZoneShare { zone: model.name.to_string(), endpoints, withdrawn, out_before, out_after });
}

/// What is left of the steered names that both versions have.
fn judge_names(before: &Version<'_>, after: &Version<'_>, rule: &dyn Fn(&str) -> String, all: &mut Consequences) {
    let (model, safety) = (before.model(), &before.model().safety);
    let root_of = |parts: &ZoneParts| -> HashMap<usize, usize> {
        parts.roots.iter().enumerate().flat_map(|(at, root)| root.steers.iter().map(move |steer| (*steer, at))).collect()
    };
    let (roots_before, roots_after) = (root_of(before.parts), root_of(after.parts));
    // Names that are alike before and after are judged once.
    let mut alike: BTreeMap<(usize, usize), Vec<&Steer>> = BTreeMap::new();
    for (at, steer) in model.steers.iter().enumerate() {
        let then = after.parts.ids.steer(&steer.owner).and_then(|at| roots_after.get(&at));
        if let (Some(was), Some(is)) = (roots_before.get(&at), then) {
            alike.entry((*was, *is)).or_default().push(steer);
        }
    }
    let (mut empty, mut thin): (Vec<String>, Option<(Broken, usize)>) = (Vec::new(), None);
    for ((was, is), steers) in alike {
        let (was, is) = (&before.parts.roots[was], &after.parts.roots[is]);
        let pools = |version: &Version<'_>, root: &Root| {
            let model = version.model();
            let ids = model.pools_below(model.steers[root.steer].root);
            (ids.len(), ids.into_iter().filter(|ix| version.pools.get(&*model.pool(*ix).id) == Some(&true)).count())
        };
        let ((total, left_before), (_, left_after)) = (pools(before, was), pools(after, is));
        let names = || steers.iter().map(|steer| steer.owner.to_string());
        let loses_all = safety.last_healthy && loses_all((before, was), (after, is));
        if loses_all {
            empty.extend(names());
        }
        if left_after < left_before || loses_all {
            names().for_each(|name| all.name(NameLeft { name, pools: total, before: left_before, after: left_after }, MAX_LISTED));
        }
        let Some((total, were, are)) = capacity((before, was), (after, is)) else { continue };
        if are < were && are * 100.0 < total * f64::from(safety.min_capacity) {
            let (found, limit) = (percent(are, total), u64::from(safety.min_capacity));
            let first = names().next().unwrap_or_default();
            let share = share_words(are, total);
            let detail = format!("what remains for {first} could carry {are:.0} of {total:.0} ({share}), at least {limit} % must remain");
            match &mut thin {
                Some((_, more)) => *more += steers.len(),
                None => thin = Some((Broken { rule: rule("min_capacity"), found, limit, detail }, steers.len() - 1)),
            }
        }
    }
    break_names(rule, &empty, thin, all);
}

/// True when some clients had something usable and would come to `all_down`.
fn loses_all((before, was): (&Version<'_>, &Root), (after, is): (&Version<'_>, &Root)) -> bool {
    let nothing = |version: &Version<'_>, root: &Root, at: u16| {
        !root.classes.get(usize::from(at)).is_some_and(|class| plan::has_any_up(version.model(), class, &version.view))
    };
    // Which clients go from where to where is looked for only if some are left with nothing.
    let empty: BTreeSet<u16> = (0..is.classes.len() as u16).filter(|at| nothing(after, is, *at)).collect();
    !empty.is_empty() && class_pairs(was, is).into_iter().any(|(from, to)| empty.contains(&to) && !nothing(before, was, from))
}

/// What the pools can carry in all, and before and after: those that are gone count as lost. `None` unless every pool says what it can carry.
fn capacity((before, was): (&Version<'_>, &Root), (after, is): (&Version<'_>, &Root)) -> Option<(f64, f64, f64)> {
    let carried = |version: &Version<'_>, root: &Root| -> Option<BTreeMap<String, (f64, f64)>> {
        let model = version.model();
        let one = |pool: &Pool| {
            let capacity = f64::from(pool.capacity?);
            let weight = |at: usize| f64::from(pool.endpoints[at].weight.max(1));
            let total: f64 = (0..pool.endpoints.len()).map(weight).sum();
            let is_in = |at: &usize| version.endpoints.get(&*pool.endpoints[*at].id) == Some(&true);
            let share = match pool.endpoints.is_empty() {
                true => f64::from(u8::from(version.pools.get(&*pool.id) == Some(&true))),
                false => (0..pool.endpoints.len()).filter(is_in).map(weight).sum::<f64>() / total,
            };
            Some((pool.id.to_string(), (capacity, capacity * share)))
        };
        model.pools_below(model.steers[root.steer].root).into_iter().map(|ix| one(model.pool(ix))).collect()
    };
    let (were, are) = (carried(before, was)?, carried(after, is)?);
    let lost: f64 = were.iter().filter(|(id, _)| !are.contains_key(*id)).map(|(_, (_, carried))| carried).sum();
    let total = are.values().map(|(capacity, _)| capacity).sum::<f64>() + lost;
    let sum = |all: &BTreeMap<String, (f64, f64)>| all.values().map(|(_, carried)| carried).sum::<f64>();
    (total > 0.0).then(|| (total, sum(&were), sum(&are)))
}

impl Writer {
    /// What taking in a build would do to what is in rotation.
    pub(super) fn judge_build(&self, build: &Build, only: Option<&str>, all_or_nothing: bool) -> Consequences {
        // One that was never published has nothing in rotation. The same files over other databases or another latency table: clients move, nothing is
        // withdrawn.
        let changed = reload::changed(self, build, only, all_or_nothing).into_iter().filter_map(|(name, taken)| {
            let zone = self.zones.get(&name).filter(|zone| zone.world.is_some())?;
            taken.is_none_or(|taken| taken.loaded.content != zone.taken.loaded.content).then_some((name, &**zone, taken))
        });
        let changed: Vec<(Name, &ZoneState, Option<&TakenZone>)> = changed.collect();
        let woken = self.woken_by(&changed);
        let mut all = Consequences::default();
        for (course, accepted) in self.accepted.courses(&woken).iter().zip(&self.accepted.of) {
            let with_woken = (!woken.is_empty()).then(|| self.with_woken(&woken, *course, accepted.clone()));
            all.join(self.judge_build_on(&changed, accepted, with_woken.as_ref().unwrap_or(accepted)), MAX_LISTED);
        }
        all
    }

    /// The same with these effects before and after.
    fn judge_build_on(&self, changed: &[(Name, &ZoneState, Option<&TakenZone>)], before: &Effects, after: &Effects) -> Consequences {
        let (before, after, now_unix) = (self.around(before), self.around(after), self.clock.unix());
        let mut all = Consequences::default();
        for (name, zone, taken) in changed {
            let was = Version::of(&zone.taken.parts, zone.seen_whole(&before));
            let then = taken.map(|taken| {
                let mut state = ZoneState::new(taken.clone(), 0, String::new());
                // What is kept as a last resort stays so.
                state.keeping.inherit(&zone.keeping);
                (taken, state.seen_whole(&after))
            });
            let mut is = then.map(|(taken, view)| Version::of(&taken.parts, view));
            judge(&was, is.as_mut(), self.recent(name, zone.model(), now_unix), &mut all);
        }
        all
    }

    /// Overlays without effect, because what they are about is not there, that have an effect with what the files bring.
    fn woken_by(&self, changed: &[(Name, &ZoneState, Option<&TakenZone>)]) -> Vec<Change> {
        if !self.book.has_any_asleep() {
            return Vec::new();
        }
        let zones = changed.iter().filter_map(|(name, _, taken)| Some((name.clone(), Box::new(ZoneState::new((*taken)?.clone(), 0, String::new())))));
        self.book.woken(Loaded(&zones.collect()))
    }

    /// These effects with what wakes up.
    fn with_woken(&self, woken: &[Change], course: Course, mut effects: Effects) -> Effects {
        for key in woken.iter().filter_map(|change| change.key(&self.book)) {
            let sum = self.book.sum(&key, course, self.pending.values().chain(woken), [], self.clock.unix());
            effects.put(&key, sum);
        }
        effects
    }

    /// The files, or those of one zone, were read and not taken, and why; or they were. What a restart would take, or trip over, stands in the status.
    fn note_waiting(&mut self, zone: Option<&str>, why: Option<String>) {
        const FILES: &str = "files";
        let of = zone.map_or_else(|| FILES.to_owned(), |zone| format!("{FILES} of {}", plain_target(zone)));
        match why {
            Some(why) => {
                drop(self.troubles.insert(of.clone(), format!("the {of} were not taken when they were last read: {why}; a restart would read them")))
            }
            None if zone.is_none() => self.troubles.retain(|what, _| !what.starts_with(FILES)),
            None => drop(self.troubles.remove(&of)),
        }
    }

    /// Zones that serve something else than their files say, or nothing, because those could not be taken; each in a sentence. What is wrong with databases is
    /// told of those.
    pub(super) fn file_trouble(&self) -> impl Iterator<Item = String> {
        let kept = self.zones.iter().filter_map(|(name, zone)| Some((name, zone.kept_why.as_ref().filter(|why| !why.contains("cannot be used"))?)));
        let kept = kept.map(|(name, why)| format!("zone {name} serves what it was before: {why}"));
        kept.chain(self.down.iter().map(|(name, why)| format!("zone {name} is not served: {why}")))
    }

    /// Files were read for a reload: takes them in, says what that would do, or refuses.
    pub(super) fn take_reload(&mut self, build: Build, request: Reload) {
        let Reload { wanted, who, reply } = request;
        let consequences = self.judge_build(&build, wanted.zone.as_deref(), wanted.all);
        if wanted.dry_run {
            let mut report = reload::foresee(self, &build, wanted.zone.as_deref(), wanted.all);
            report.consequences = Some(consequences);
            let _ = reply.send(Ok(ReloadReport { dry_run: true, generation: self.generation, ..report }));
            self.reaper.other(build);
            return;
        }
        let broke: Vec<String> = consequences.broken.iter().map(ToString::to_string).collect();
        if !broke.is_empty() && !wanted.break_glass {
            tracing::warn!(target: "meridian::control", broke = broke.join("; "), "a reload is refused; what served before keeps serving");
            self.note_waiting(wanted.zone.as_deref(), Some(broke.join("; ")));
            let _ = reply.send(Err(super::api::Refusal::Safety { broken: consequences.broken }));
            self.reaper.other(build);
            return;
        }
        self.note_waiting(wanted.zone.as_deref(), reload::stands_still(self, &build, wanted.all));
        self.note_withdrawal(&consequences);
        if !broke.is_empty() {
            tracing::warn!(target: "meridian::control", by = who.name, broke = broke.join("; "), "a reload goes past safety rules");
            self.registry.operations().safety_passed();
            let detail = format!("a reload withdraws {} endpoints{}", consequences.withdrawn_count, went_past(&broke));
            let entry =
                Entry { reason: who.reason.clone(), detail: Some(detail), ..self.entry(&who, "safety", wanted.zone.as_deref().unwrap_or("")) };
            self.note(entry);
        }
        let report = self.take_build(build, wanted.zone, wanted.all, &who);
        self.reload_replies.push((reply, ReloadReport { broke, ..report }));
    }
}
