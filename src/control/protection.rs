//! What keeps this server from taking its own trouble for that of the endpoints, and what does not. It is told always, and loudly where nothing does.
//!
//! ```text
//! [health]                 checks that this server asks      protection
//! references               any                               references   what fails is believed once a reference has answered since
//! none                     4 and more, in 2 places at least  numbers      more than half at once, in several places, is doubted for `freeze`
//! none                     fewer                             none         every failure counts
//! freeze = false           any                               off          every failure counts
//! ```
//! What could not run at all withdraws nothing in any case, but somebody should know of it.

use super::api::{HealthStatus, Who};
use super::audit::{Entry, Kind};
use super::checks::{Asked, Group};
use super::load::Build;
use super::writer::Writer;
use crate::config::{HealthOptions, duration_words};
use crate::health::doubt::{LEAST_CHECKED, LEAST_PLACES};

/// What was told of it.
#[derive(Debug, Default)]
pub(super) struct Protection {
    /// The word for it.
    told: &'static str,
    /// Most checks cannot run.
    blind: bool,
    /// Some cannot for this machine's clock.
    pub(super) misled: bool,
}

/// The word for it, and what it means, in a sentence.
fn protection(options: &HealthOptions, asked: Asked) -> (&'static str, String) {
    let Asked { checks, places, .. } = asked;
    let (of_checks, of_places) = (count(checks, "check", "checks"), count(places, "place", "places"));
    match options.references.len() {
        _ if checks == 0 => ("", String::new()),
        _ if options.freeze.is_zero() => ("off", "freeze = false: every failure counts, be it for this server's own network".into()),
        0 if checks >= LEAST_CHECKED && places >= LEAST_PLACES => (
            "numbers",
            format!(
                "no references: when more than half of {of_checks} fail at once, in two at least of {of_places} (regions, and pools without one), that is \
                 doubted for {}; what fails in one of them alone, or for longer, is believed, be it for this server's own network",
                duration_words(options.freeze)
            ),
        ),
        0 => (
            "none",
            format!(
                "no references, and {of_checks} in {of_places} are too few to go by numbers ({LEAST_CHECKED} in {LEAST_PLACES}): every failure counts, be it for \
                 this server's own network"
            ),
        ),
        references => (
            "references",
            format!("a check goes down only if one of {} has answered since it began to fail", count(references, "reference", "references")),
        ),
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What to do about it, if anything, for whoever loads a configuration.
pub fn advice_for(build: &Build) -> Option<String> {
    let checks = build.good.iter().flat_map(|zone| &zone.parts.checks).flatten().flatten().filter(|spec| Group::of(spec) == Group::Asked).count();
    build.settings.as_ref().and_then(|settings| advice(&settings.health, checks))
}

fn advice(options: &HealthOptions, checks: usize) -> Option<String> {
    let is_wanted = checks > 0 && options.references.is_empty() && !options.freeze.is_zero();
    is_wanted.then(|| {
        "[health] names no references: nothing tells the loss of this server's own network from that of the endpoints. Name two or three places that always accept \
         TCP connections (docs/health.md, When everything fails at once)"
            .into()
    })
}

impl Writer {
    /// How this server tells its own trouble, for the status.
    pub(super) fn protected(&self, health: HealthStatus) -> HealthStatus {
        let Some(settings) = &self.settings else { return health };
        let asked = self.checks.asked();
        let (word, why) = protection(&settings.health, asked);
        let (misled, _) = self.checks.misled();
        HealthStatus { protection: word.into(), protection_why: why, unable: asked.unable, unable_by_clock: misled, ..health }
    }

    /// Says what protects from now on, where that is another than before.
    pub(super) fn tell_protection(&mut self) {
        let Some(settings) = &self.settings else { return };
        let asked = self.checks.asked();
        let (word, why) = protection(&settings.health, asked);
        if std::mem::replace(&mut self.protection.told, word) == word {
            return;
        }
        match word {
            "" => {}
            "references" => tracing::info!(target: "meridian::health", protection = word, "{why}"),
            _ => tracing::warn!(target: "meridian::health", protection = word, advice = advice(&settings.health, asked.checks), "{why}"),
        }
    }

    /// Looks whether checks can run at all.
    pub(super) fn look_at_own_eyes(&mut self) {
        let Asked { checks, unable, .. } = self.checks.asked();
        let blind = unable * 2 > checks;
        if std::mem::replace(&mut self.protection.blind, blind) == blind {
            return;
        }
        let (action, text) = match self.blindness() {
            Some(text) => ("health.blind", text),
            None => ("health.sighted", "most checks can run again".to_owned()),
        };
        match blind {
            true => tracing::error!(target: "meridian::health", "{text}"),
            false => tracing::warn!(target: "meridian::health", "{text}"),
        }
        let entry = Entry { kind: Kind::Health, detail: Some(text), ..self.entry(&Who::itself(), action, "health") };
        self.keep_entry(entry);
    }

    /// That most checks cannot run, in words.
    fn blindness(&self) -> Option<String> {
        let Asked { checks, unable, .. } = self.checks.asked();
        self.protection.blind.then(|| {
            let why = self.checks.why_unable().unwrap_or_default();
            let why = why.strip_prefix("check could not run: ").unwrap_or(why);
            format!("{unable} of {checks} checks cannot run ({why}): nothing is known of what they check, and all of it stays as it was")
        })
    }

    /// What is wrong with how this server sees, and what nobody can tell it.
    pub(super) fn own_trouble(&self) -> impl Iterator<Item = String> {
        let Asked { known, failing, .. } = self.checks.asked();
        let is_frozen = self.checks.doubts[Group::Asked as usize].frozen().is_some();
        let is_unsure = self.settings.as_ref().is_some_and(|settings| settings.health.references.is_empty());
        let most_fail = is_unsure && !is_frozen && failing > 1 && failing * 2 > known;
        let most = most_fail.then(|| {
            format!("{failing} of {known} checks fail, and no reference is configured that could tell whether it is for this server's own network: failures count")
        });
        self.blindness().into_iter().chain(self.clock_trouble()).chain(most)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::control::api::{CheckTarget, Observation};
    use crate::control::driven::Driven;
    use crate::health::{Failure, Outcome};

    fn start(health: &str, pools: usize) -> Driven {
        let mut zone =
            "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[monitor.m]\ntcp = true\nport = 80\n".to_owned();
        for at in 0..pools {
            zone += &format!("[pool.p{at}]\nendpoints = [\"192.0.2.1{at}\", \"192.0.2.2{at}\"]\nmonitor = \"m\"\n[steer.s{at}]\nuse = \"p{at}\"\n");
        }
        Driven::start(&[("meridian.toml", &format!("[health]\n{health}")), ("zones/example.com.toml", &zone)])
    }

    /// A result of the first so many checks.
    fn observe(driven: &mut Driven, count: usize, outcome: &Outcome) {
        for spec in driven.specs().iter().filter(|spec| spec.monitor.name != "reference").take(count) {
            assert!(matches!(spec.target, CheckTarget::Address(_)));
            let observation = Observation { spec: spec.clone(), outcome: outcome.clone(), took: Duration::ZERO, certificate: None, poor: None };
            driven.observe(&observation).expect("it is wanted");
        }
        driven.tick();
        driven.publish();
    }

    /// What is told as degraded, but that nothing is kept here.
    fn troubles(driven: &Driven) -> Vec<String> {
        driven.status().degraded.into_iter().filter(|why| why != "a simulation").collect()
    }

    #[test]
    fn what_protects_is_told() {
        for (health, pools, word, part) in [
            ("", 0, "", ""),
            ("", 1, "none", "2 checks in 1 place are too few"),
            ("", 3, "numbers", "more than half of 6 checks"),
            ("freeze = \"5m\"", 3, "numbers", "doubted for 5 min"),
            ("freeze = false", 3, "off", "every failure counts"),
            ("references = [\"192.0.2.99:53\"]", 1, "references", "1 reference has answered"),
        ] {
            let health = start(health, pools).status().health;
            assert_eq!((&*health.protection, health.protection_why.contains(part)), (word, true), "{health:?}");
        }
    }

    #[test]
    fn checks_that_cannot_run_are_told_of_and_withdraw_nothing() {
        let mut driven = start("", 3);
        observe(&mut driven, 6, &Ok(()));
        let gone = Err(Failure::NoNetwork("this machine has no route to the network".into()));
        observe(&mut driven, 3, &gone);
        assert_eq!((troubles(&driven), driven.status().health.unable), (vec![], 3));
        observe(&mut driven, 4, &gone);
        let status = driven.status();
        assert_eq!(
            troubles(&driven),
            [
                "4 of 6 checks cannot run (this machine has no route to the network): nothing is known of what they check, and all of it stays as it was"
            ]
        );
        assert!(status.pools.iter().flat_map(|pool| &pool.endpoints).all(|endpoint| endpoint.state == "up"));
        observe(&mut driven, 6, &Ok(()));
        assert_eq!(troubles(&driven), Vec::<String>::new());
    }

    #[test]
    fn that_most_fail_without_a_reference_is_told_of() {
        let mut driven = start("", 1);
        observe(&mut driven, 2, &Ok(()));
        (0..3).for_each(|_| observe(&mut driven, 2, &Err(Failure::Status(503))));
        let told = troubles(&driven);
        assert!(told[0].starts_with("2 of 2 checks fail, and no reference is configured"), "{told:?}");
    }

    #[test]
    fn a_reference_that_alone_does_not_answer_is_called_that() {
        let mut driven = start("references = [\"192.0.2.99:53\"]", 3);
        let reference = driven.specs().iter().find(|spec| spec.monitor.name == "reference").expect("one").clone();
        let tell = |driven: &mut Driven, outcome: Outcome| {
            driven.observe(&Observation { spec: reference.clone(), outcome, took: Duration::ZERO, certificate: None, poor: None });
        };
        driven.set(Duration::from_secs(1));
        tell(&mut driven, Ok(()));
        observe(&mut driven, 6, &Ok(()));
        driven.set(Duration::from_secs(5));
        tell(&mut driven, Err(Failure::Timeout("connect")));
        driven.tick();
        let why = |driven: &Driven| driven.status().health.frozen_why.expect("frozen");
        assert_eq!(why(&driven), "no reference answers: this server's own network may be gone");
        driven.set(Duration::from_secs(6));
        observe(&mut driven, 6, &Ok(()));
        assert!(why(&driven).starts_with("no reference answers, but 6 of 6 checks pass: the references may be gone"), "{}", why(&driven));
        observe(&mut driven, 6, &Err(Failure::Timeout("connect")));
        assert_eq!(why(&driven), "no reference answers: this server's own network may be gone");
    }
}
