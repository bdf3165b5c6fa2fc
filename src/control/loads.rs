//! What reported loads do: every ten seconds shares of traffic move a step ([`crate::policy::balance`]), and of the plans those that see them are made
//! again, as when a check changes its state. Nothing here is asked for or kept where nobody wants it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::loaded::Loaded;
use super::reports::{Measured, Reports, SMOOTH};
use super::state::Zones;
use super::writer::Writer;
use crate::dns::Name;
use crate::policy::balance::{self, Balanced, LEAST_BALANCED, LEAST_KEPT, Law, MOST_TRIM, Measure, Pace, STEP, Shed};
use crate::policy::model::{Child, PolicyIx, PolicyKind, PoolIx, ZoneModel};

/// A pool, and where its load may be reported.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) ix: PoolIx,
    pub(super) id: Arc<str>,
    pub(super) endpoints: Vec<Arc<str>>,
    pub(super) region: Option<Arc<str>>,
    /// Of the files.
    pub(super) capacity: Option<f64>,
}

impl Place {
    fn of(model: &ZoneModel, ix: PoolIx) -> Place {
        let pool = model.pool(ix);
        Place {
            ix,
            id: pool.id.clone(),
            endpoints: pool.endpoints.iter().map(|endpoint| endpoint.id.clone()).collect(),
            region: pool.region.as_ref().map(|region| format!("region:{region}").into()),
            capacity: pool.capacity.map(f64::from),
        }
    }
}

/// A share: as the law would have it, and as it is published.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    wanted: f64,
    published: f64,
}

impl Share {
    const WHOLE: Share = Share { wanted: 1.0, published: 1.0 };

    /// Publishes what is wanted, a step at a time; true when that is something new.
    fn publish(&mut self, least: f64, most: f64) -> bool {
        let before = self.published;
        self.published = balance::paced(before, self.wanted, least, most);
        before != self.published
    }
}

/// A pool that leaves a part of its traffic to others.
#[derive(Clone, Debug)]
struct Shedding {
    law: Shed,
    place: Place,
    ttl: Duration,
    share: Share,
}

/// A child of a policy whose weights move.
#[derive(Clone, Debug)]
struct Moving {
    child: Child,
    name: String,
    weight: u16,
    places: Vec<Place>,
    share: Share,
}

/// A policy whose weights move.
#[derive(Clone, Debug)]
struct Mover {
    ix: PolicyIx,
    /// What is stated in a steered name may be called like a policy.
    name: (bool, String),
    law: Law,
    ttl: Duration,
    children: Vec<Moving>,
}

/// Everything that loads move.
#[derive(Debug, Default)]
pub(super) struct Loads {
    sheds: HashMap<Arc<str>, Shedding>,
    movers: BTreeMap<Name, Vec<Mover>>,
}

impl Loads {
    /// Takes what zones want; what was moved before stays where it is.
    pub(super) fn set<'a>(&mut self, models: impl Iterator<Item = &'a ZoneModel>) {
        let before = std::mem::take(self);
        for model in models {
            let ttl_of = slowest(model);
            for (at, pool) in model.pools.iter().enumerate() {
                let Some(law) = pool.shed else { continue };
                let ttl = ttl_of.get(&PoolIx(at as u32)).copied().unwrap_or_default();
                let share = before.sheds.get(&pool.id).map_or(Share::WHOLE, |was| was.share);
                let fresh = || Shedding { law, place: Place::of(model, PoolIx(at as u32)), ttl, share };
                let shedding = self.sheds.entry(pool.id.clone()).or_insert_with(fresh);
                // What a library defines is in several zones.
                shedding.ttl = shedding.ttl.max(ttl);
            }
            let was = before.movers.get(&model.name).map_or(&[][..], Vec::as_slice);
            let movers: Vec<Mover> = (0..model.policies.len() as u32).filter_map(|at| mover(model, PolicyIx(at), &ttl_of, was)).collect();
            if !movers.is_empty() {
                self.movers.insert(model.name.clone(), movers);
            }
        }
    }

    /// Something leaves a part of its traffic to others.
    pub(super) fn sheds_any(&self) -> bool {
        self.sheds.values().any(|shedding| shedding.share.published < 1.0)
    }

    /// The share of its traffic that a pool keeps.
    pub(super) fn kept(&self, pool: &str) -> f32 {
        if self.sheds.is_empty() {
            return 1.0;
        }
        self.sheds.get(pool).map_or(1.0, |shedding| shedding.share.published as f32)
    }

    /// What weights of children are multiplied by.
    pub(super) fn factors(&self, zone: &Name) -> BTreeMap<(PolicyIx, Child), f32> {
        let movers = self.movers.get(zone).into_iter().flatten();
        let all = movers.flat_map(|mover| mover.children.iter().map(|one| ((mover.ix, one.child), one.share.published as f32)));
        all.filter(|(_, factor)| *factor != 1.0).collect()
    }

    /// Moves everything a step; the pools that keep another share now, and the zones of policies with other weights.
    fn step(&mut self, reports: &Reports, zones: &Zones, now: Duration) -> (Vec<Arc<str>>, Vec<Name>) {
        let mut pools = Vec::new();
        for (id, shedding) in &mut self.sheds {
            let (law, share) = (shedding.law, &mut shedding.share);
            match reports.measured(&shedding.place, now) {
                Measured::Now { loaded: Some(loaded), gap, .. } => {
                    share.wanted = law.kept(share.wanted, loaded, &Pace::of(shedding.ttl, gap, SMOOTH))
                }
                // Nothing is moved by what is not of now.
                Measured::Old | Measured::Now { .. } => continue,
                Measured::Gone => share.wanted = 1.0,
            }
            let least = if matches!(law, Shed::Target(_)) { LEAST_KEPT } else { 0.0 };
            if share.publish(least, 1.0) {
                tracing::info!(target: "meridian::load", pool = &**id, kept = (share.published * 1000.0).round() / 1000.0, "keeps another share of its traffic");
                pools.push(id.clone());
            }
        }
        let mut moved = Vec::new();
        for (name, movers) in &mut self.movers {
            let is_usable = |place: &Place| {
                let pool = zones.get(name).and_then(|zone| zone.view.pools.get(place.ix.0 as usize));
                pool.is_some_and(|pool| pool.endpoints.iter().any(|endpoint| endpoint.is_usable()))
            };
            // Each of them takes its step.
            if movers.iter_mut().filter_map(|mover| mover.step(reports, &is_usable, now).then_some(())).count() > 0 {
                moved.push(name.clone());
            }
        }
        (pools, moved)
    }
}

impl Mover {
    fn step(&mut self, reports: &Reports, is_usable: &impl Fn(&Place) -> bool, now: Duration) -> bool {
        let seen: Vec<Measured> = self.children.iter().map(|one| measured_of(one, reports, is_usable, now)).collect();
        let gap = seen.iter().filter_map(|one| if let Measured::Now { gap, .. } = one { Some(*gap) } else { None }).max().unwrap_or_default();
        let pace = Pace::of(self.ttl, gap, SMOOTH);
        let (least, most) = match self.law {
            Law::Files => return false,
            Law::Trim(percent) => {
                for (one, seen) in self.children.iter_mut().zip(&seen) {
                    if let Measured::Now { loaded: Some(loaded), .. } = seen {
                        one.share.wanted = balance::trim(one.share.wanted, *loaded, f64::from(percent) / 100.0, &pace);
                    }
                }
                (LEAST_KEPT, MOST_TRIM)
            }
            Law::Balance(measure) => {
                let value = |seen: &Measured| match (seen, measure) {
                    (Measured::Now { loaded, .. }, Measure::Load) => *loaded,
                    (Measured::Now { latency, .. }, Measure::Latency) => *latency,
                    _ => None,
                };
                let of =
                    |(one, seen): (&Moving, &Measured)| Balanced { weight: f64::from(one.weight), factor: one.share.wanted, measured: value(seen) };
                let mut all: Vec<Balanced> = self.children.iter().zip(&seen).map(of).collect();
                balance::balance(&mut all, measure, &pace);
                self.children.iter_mut().zip(all).for_each(|(one, balanced)| one.share.wanted = balanced.factor);
                (LEAST_BALANCED, 1.0)
            }
        };
        let mut moves = false;
        for (one, seen) in self.children.iter_mut().zip(&seen) {
            if matches!(seen, Measured::Gone) {
                one.share.wanted = 1.0;
            }
            moves |= !matches!(seen, Measured::Old) && one.share.publish(least, most);
        }
        moves
    }
}

/// What is measured of a child: of all its pools together. One that takes no traffic tells nothing.
fn measured_of(one: &Moving, reports: &Reports, is_usable: &impl Fn(&Place) -> bool, now: Duration) -> Measured {
    let mut all = Measured::Gone;
    let (mut load, mut capacity) = (Some(0.0), Some(0.0));
    let (mut latencies, mut longest) = (Vec::new(), Duration::ZERO);
    for place in &one.places {
        if !is_usable(place) {
            return Measured::Old;
        }
        match reports.measured(place, now) {
            Measured::Now { load: found, capacity: of, latency, gap, .. } => {
                load = load.zip(found).map(|(sum, more)| sum + more);
                capacity = capacity.zip(of).map(|(sum, more)| sum + more);
                latencies.extend(latency);
                longest = longest.max(gap);
            }
            other => return other,
        }
        let mean = (latencies.len() == one.places.len()).then(|| latencies.iter().sum::<f64>() / latencies.len() as f64);
        let loaded = load.zip(capacity).filter(|(_, capacity)| *capacity > 0.0).map(|(load, capacity)| load / capacity);
        all = Measured::Now { loaded, load, capacity, latency: mean, gap: longest };
    }
    all
}

/// The longest TTL of the names that come to each pool.
fn slowest(model: &ZoneModel) -> HashMap<PoolIx, Duration> {
    let mut all = HashMap::new();
    let is_wanted = model.pools.iter().any(|pool| pool.shed.is_some()) || model.policies.iter().any(|policy| is_moved(&policy.kind));
    for steer in model.steers.iter().filter(|_| is_wanted) {
        let ttl = Duration::from_secs(u64::from(steer.ttl.max));
        for ix in model.pools_below(steer.root) {
            let known: &mut Duration = all.entry(ix).or_default();
            *known = ttl.max(*known);
        }
    }
    all
}

fn is_moved(kind: &PolicyKind) -> bool {
    matches!(kind, PolicyKind::Weighted { law, .. } if *law != Law::Files)
}

fn mover(model: &ZoneModel, ix: PolicyIx, ttl_of: &HashMap<PoolIx, Duration>, was: &[Mover]) -> Option<Mover> {
    let policy = model.policy(ix);
    let PolicyKind::Weighted { to, law, .. } = &policy.kind else { return None };
    if *law == Law::Files {
        return None;
    }
    let name = (policy.inline, policy.name.clone());
    let before = was.iter().find(|mover| mover.name == name && mover.law == *law);
    let child = |(child, weight): &(Child, u16)| {
        let name = model.child_name(*child).to_owned();
        let share = before.and_then(|before| before.children.iter().find(|one| one.name == name)).map_or(Share::WHOLE, |one| one.share);
        let places = model.pools_below(*child).into_iter().map(|ix| Place::of(model, ix)).collect();
        Moving { child: *child, name, weight: *weight, places, share }
    };
    let children: Vec<Moving> = to.iter().map(child).collect();
    let ttl = children.iter().flat_map(|one| &one.places).filter_map(|place| ttl_of.get(&place.ix)).max().copied().unwrap_or_default();
    Some(Mover { ix, name, law: *law, ttl, children })
}

impl Writer {
    /// Takes what the zones want of reported loads.
    pub(super) fn set_loads(&mut self) {
        self.loads.set(self.zones.values().map(|zone| &**zone.model()));
    }

    /// Every ten seconds: loads move shares, and what they move is made again.
    pub(super) fn steer_by_load(&mut self, ticks: u64) {
        if !ticks.is_multiple_of(STEP.as_secs()) || self.loads.sheds.is_empty() && self.loads.movers.is_empty() {
            return;
        }
        let (pools, zones) = self.loads.step(&self.ends.reports, &self.zones, self.clock.now());
        for id in pools {
            for zone in Loaded(&self.zones).around(&id) {
                if let Some(at) = zone.ids.pool(&id) {
                    self.dirty.entry(zone.model.name.clone()).or_default().pools.insert(at);
                }
            }
        }
        for name in zones {
            self.dirty.entry(name).or_default().children = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::Report;
    use crate::control::driven::Driven;

    const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
        [pool.fra]\nendpoints = [\"192.0.2.10\"]\nshed = { low = \"50%\", high = \"100%\" }\n\
        [pool.iad]\nendpoints = [\"198.51.100.10\"]\ncapacity = 1000\n[pool.sin]\nendpoints = [\"203.0.113.10\"]\n\
        [steer.app]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\nttl = 5\n\
        [steer.even]\npolicy = \"least-loaded\"\nto = [\"fra\", \"iad\"]\nttl = 5\n[steer.sin]\nuse = \"sin\"\n";

    fn report(target: &str, load: f64, capacity: Option<f64>) -> Report {
        Report { target: target.into(), state: None, successes: None, failures: None, latency_ms: None, load: Some(load), capacity }
    }

    /// Lets time pass, with reports every ten seconds of `fra` loaded so much; how many worlds were published.
    fn pass(driven: &mut Driven, seconds: std::ops::Range<u64>, loaded: Option<f64>) -> usize {
        let mut worlds = 0;
        for now in seconds {
            driven.set(Duration::from_secs(now));
            if let (Some(loaded), true) = (loaded, now % 10 == 3) {
                driven.report(&[report("example.com/fra", loaded * 100.0, Some(100.0)), report("example.com/iad", 100.0, None)]);
            }
            driven.tick();
            worlds += usize::from(driven.publish());
        }
        worlds
    }

    #[test]
    fn loads_move_shares_step_by_step_and_silence_does_not() {
        let mut driven = Driven::start(&[("meridian.toml", ""), ("zones/example.com.toml", ZONE)]);
        assert_eq!((pass(&mut driven, 0..60, None), driven.moved("example.com/fra")), (0, (1.0, 1.0)), "nothing is reported, nothing is moved");
        let mut kept = vec![];
        for tens in 6..20 {
            assert!(pass(&mut driven, tens * 10..tens * 10 + 10, Some(0.9)) <= 1, "one world a step");
            kept.push(driven.moved("example.com/fra").0);
        }
        assert!(kept.windows(2).all(|pair| pair[1] <= pair[0] && pair[0] - pair[1] < 0.101), "{kept:?}");
        let (last, factor) = driven.moved("example.com/fra");
        assert!((last - 0.2).abs() < 0.01 && factor < 0.7, "{kept:?} {factor}");
        // Little changes are not worth a world.
        assert_eq!(driven.moved("example.com/iad").0, 1.0);
        // The last report came at 193 s. For half a minute it counts, then it moves nothing.
        pass(&mut driven, 200..230, None);
        let frozen = driven.moved("example.com/fra");
        assert_eq!((pass(&mut driven, 230..490, None), driven.moved("example.com/fra")), (0, frozen));
        // After five minutes it is as if nothing had been reported, and everything comes back a step at a time.
        assert!(pass(&mut driven, 490..530, None) >= 3 && driven.moved("example.com/fra").0 < 0.7);
        pass(&mut driven, 530..650, None);
        assert_eq!(driven.moved("example.com/fra"), (1.0, 1.0));
    }

    /// What the last pool left for its load would come back to the first one, which has too much already.
    #[test]
    fn a_pool_that_nobody_comes_after_keeps_what_it_has() {
        for law in ["{ target = \"85%\" }", "{ low = \"50%\", high = \"90%\" }"] {
            let zone = format!("{}[pool.last]\nendpoints = [\"203.0.113.11\"]\nshed = {law}\n", ZONE.split("[steer.app]").next().expect("pools"));
            let zone = format!("{zone}[steer.app]\npolicy = \"failover\"\nto = [\"fra\", \"last\"]\nttl = 5\n");
            let mut driven = Driven::start(&[("meridian.toml", ""), ("zones/example.com.toml", &zone)]);
            for now in 0..300 {
                driven.set(Duration::from_secs(now));
                if now % 10 == 3 {
                    driven.report(&[report("example.com/fra", 90.0, Some(100.0)), report("example.com/last", 120.0, Some(100.0))]);
                }
                driven.tick();
                driven.publish();
            }
            let (kept, shares) = (f64::from(driven.moved("example.com/fra").0), driven.shares());
            assert!(driven.moved("example.com/last").0 < 0.5, "{law}: it is overloaded as well");
            assert!(kept < 0.3 && (shares[0] - kept).abs() < 0.01 && (shares[1] - (1.0 - kept)).abs() < 0.01, "{law}: {kept} {shares:?}");
        }
    }

    #[test]
    fn a_reload_leaves_shares_where_loads_have_moved_them() {
        let mut driven = Driven::start(&[("meridian.toml", ""), ("zones/example.com.toml", ZONE)]);
        pass(&mut driven, 0..60, Some(0.9));
        let before = driven.moved("example.com/fra");
        assert!(before.0 < 0.9 && before.1 < 0.9, "{before:?}");
        let edited = ZONE.replace("192.0.2.53", "192.0.2.54").replace("[steer.sin]", "[steer.more]\nuse = \"fra\"\n[steer.sin]");
        driven.reload(&[("meridian.toml", ""), ("zones/example.com.toml", &edited)]);
        assert_eq!(driven.moved("example.com/fra"), before);
        // It goes on from there.
        pass(&mut driven, 60..80, Some(0.9));
        assert!(driven.moved("example.com/fra").0 < before.0);
    }

    const TRIMMED: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[monitor.web]\ntcp = true\nport = 80\n\
        [pool.fra]\nendpoints = [\"192.0.2.10\"]\n[pool.iad]\nendpoints = [\"198.51.100.10\"]\ncapacity = 1000\nmonitor = \"web\"\n\
        [steer.app]\npolicy = \"weighted\"\nto = { fra = 50, iad = 50 }\nttl = 5\n";

    /// The smallest factor after so many seconds with `fra` loaded so much, and `iad` a tenth.
    fn trimmed(law: &str, loaded: f64, is_iad_up: bool) -> f32 {
        let zone = TRIMMED.replace("policy = \"weighted\"", law);
        let mut driven = Driven::start(&[("meridian.toml", ""), ("zones/example.com.toml", &zone)]);
        let outcome = if is_iad_up { Ok(()) } else { Err(crate::health::Failure::Body) };
        for spec in driven.specs().iter() {
            let observation = crate::control::api::Observation {
                spec: spec.clone(),
                outcome: outcome.clone(),
                took: Duration::ZERO,
                certificate: None,
                poor: None,
            };
            driven.observe(&observation).expect("it is wanted");
        }
        driven.publish();
        pass(&mut driven, 0..120, Some(loaded));
        driven.moved("example.com/fra").1
    }

    #[test]
    fn trim_takes_weight_from_what_is_above_its_target() {
        let trim = "policy = \"weighted\"\ntrim = \"85%\"";
        assert!((0.3..0.6).contains(&trimmed(trim, 1.7, true)), "{}", trimmed(trim, 1.7, true));
        assert!(trimmed(trim, 0.85, true) > 0.99 && trimmed("policy = \"weighted\"", 1.7, true) == 1.0);
    }

    #[test]
    fn a_pool_without_traffic_is_no_measure_for_others() {
        let law = "policy = \"least-loaded\"";
        assert!(trimmed(law, 0.9, true) < 0.9, "{}", trimmed(law, 0.9, true));
        // The load of one that is down says what it carries, not what it could.
        assert_eq!(trimmed(law, 0.9, false), 1.0);
    }
}
