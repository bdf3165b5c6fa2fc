//! Runtime changes: checking them against what is loaded, and the book of those that are laid.
//!
//! [`target`] finds what they are about, [`effects`] is what they come to, [`course`] what they count on their way, [`rank`] which of several holds.

mod course;
mod diff;
mod effects;
mod rank;
mod target;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::api::{Amend, Forced, NewOverlay, Overlay, Ramp, Refusal, Setting, When, Who};
use super::loaded::Loaded;
use super::text::{check_expiry, check_reason, check_target, rfc3339, span};
use crate::config;
pub(super) use course::Course;
pub(super) use diff::{difference, differences, weight_now};
pub(super) use effects::{Effects, Sum};
pub(super) use rank::{Ranks, Standing};
use target::find_spelled;
pub(super) use target::{Found, find, policy_child, zone_text};

/// Overlays that can be in effect at once; more are refused.
const MAX_OVERLAYS: usize = 100_000;
/// How long an overlay lasts when nothing is said.
const DEFAULT_EXPIRY_S: u64 = 24 * 3600;

/// The latest start: a year ahead.
const MAX_START_S: u64 = 366 * 24 * 3600;
/// The longest ramp: a month.
const MAX_OVER_S: u64 = 30 * 24 * 3600;
/// Seconds before a withdrawal that is planned in which its names have their minimum TTL already.
pub(super) const LEAD_S: u64 = 300;

/// An overlay and what its target is at present.
#[derive(Clone, Debug)]
pub(super) struct Laid {
    pub(super) overlay: Overlay,
    found: Result<Found, String>,
    /// The id of what it withdrew, which the files do not have any more.
    gone: Option<Arc<str>>,
    /// When what it withdrew could be stopped, as the run before knew it.
    pub(super) kept_safe: Option<u64>,
}

impl Laid {
    fn new(overlay: Overlay, found: Result<Found, String>) -> Laid {
        let kept_safe = overlay.withdrawal.as_ref().and_then(|withdrawal| withdrawal.safe_to_stop_at);
        Laid { overlay, found, gone: None, kept_safe }
    }

    /// It disables a rule.
    fn is_rule(&self) -> bool {
        matches!(self.overlay.set, Setting::Disabled(_))
    }

    /// What it is about; `None` when that is gone.
    pub(super) fn found(&self) -> Option<&Found> {
        self.found.as_ref().ok()
    }

    /// What it withdrew: as far as that is something that can be stopped, and whether the files have it still or not.
    pub(super) fn withdrawn(&self) -> Option<&Arc<str>> {
        let thing = self.found().map_or(self.gone.as_ref(), |found| if let Found::Thing(id) = found { Some(id) } else { None });
        thing.filter(|_| matches!(self.overlay.set, Setting::State(Forced::Down | Forced::Drain)) && self.overlay.is_begun())
    }

    /// What a request changed; where its ramp is may have changed meanwhile.
    pub(super) fn take_over(&mut self, changed: Overlay) {
        let ramp = match changed.back.is_some() {
            true => changed.ramp,
            false => self.overlay.ramp.take(),
        };
        self.overlay = Overlay { expires: changed.expires, reason: changed.reason, back: changed.back, ramp, ..self.overlay.clone() };
    }

    fn find_again(&mut self, zones: Loaded<'_>) {
        // Targets of things are their ids; what the run before withdrew is known by when it is safe.
        let is_known = self.withdrawn().is_some() || self.overlay.withdrawal.is_some();
        let was = self.gone.take().or_else(|| is_known.then(|| Arc::from(self.overlay.target.as_str())));
        self.found = find(&self.overlay.target, self.overlay.set, zones).map_err(|refusal| words(&refusal));
        self.overlay.inactive = self.found.as_ref().err().cloned();
        self.gone = was.filter(|_| self.found.is_err());
    }
}

/// A change of the book that is not made yet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// One more.
    Lay(Box<Laid>),
    /// One less.
    Lift(u64),
}

impl Change {
    /// What it is about; `None` when that is gone.
    pub(super) fn key(&self, book: &Book) -> Option<Found> {
        match self {
            Change::Lay(laid) => laid.found().map(Found::key),
            Change::Lift(id) => book.get(*id)?.found().map(Found::key),
        }
    }
}

/// Every overlay that is laid, by id, which is by age.
#[derive(Debug, Default)]
pub(super) struct Book {
    laid: BTreeMap<u64, Laid>,
    /// Ids by [`Found::key`].
    by_key: HashMap<Found, BTreeSet<u64>>,
    /// Those that disable rules.
    rules: BTreeSet<u64>,
    /// Something of `rules` is not as it was when last asked.
    rules_moved: bool,
    /// Those whose targets the files have no more, since last asked.
    lost: BTreeSet<u64>,
}

impl Book {
    /// As they were kept, ramps where they were; what they are about is found with [`find_again`](Book::find_again).
    pub(super) fn of(saved: Vec<Overlay>, now_unix: u64) -> Book {
        let laid = |overlay: Overlay| (overlay.id, Laid::new(overlay, Err("not looked for yet".into())));
        let laid: BTreeMap<u64, Laid> = saved.into_iter().map(laid).collect();
        let rules = laid.values().filter(|laid| laid.is_rule()).map(|laid| laid.overlay.id).collect();
        let mut book = Book { laid, by_key: HashMap::new(), rules, rules_moved: true, lost: BTreeSet::new() };
        book.resume(now_unix);
        book
    }

    /// Ways go on from where they were: the program was away, or somebody has set the clock.
    pub(super) fn resume(&mut self, now_unix: u64) {
        self.laid.values_mut().filter_map(|laid| laid.overlay.way_mut()).for_each(|ramp| ramp.resume(now_unix));
    }

    /// After the files have changed: finds those again that `may_differ` says of, by their targets; returns what they are about.
    pub(super) fn find_again(&mut self, zones: Loaded<'_>, may_differ: impl Fn(&str) -> bool) -> HashSet<Found> {
        let mut keys = HashSet::new();
        for (id, laid) in self.laid.iter_mut().filter(|(_, laid)| may_differ(&laid.overlay.target)) {
            forget(&mut self.by_key, *id, laid.found());
            laid.find_again(zones);
            if laid.found.is_err() {
                self.lost.insert(*id);
            }
            if let Some(key) = laid.found().map(Found::key) {
                self.by_key.entry(key.clone()).or_default().insert(*id);
                keys.insert(key);
            }
        }
        keys
    }

    /// Those whose targets the files have no more, since this was last asked.
    pub(super) fn take_lost(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.lost)
    }

    /// Those that disable rules, oldest first.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Laid> {
        self.rules.iter().filter_map(|id| self.laid.get(id))
    }

    /// True when it disables a rule.
    pub(super) fn is_rule(&self, id: u64) -> bool {
        self.rules.contains(&id)
    }

    /// True when those that disable rules may be others than when last asked.
    pub(super) fn take_rules_moved(&mut self) -> bool {
        std::mem::take(&mut self.rules_moved)
    }

    /// Adds one, or puts it in the place of its older self, which is about the same.
    pub(super) fn insert(&mut self, laid: Laid) {
        if laid.is_rule() {
            self.rules.insert(laid.overlay.id);
            self.rules_moved = true;
        }
        if let Some(found) = laid.found() {
            self.by_key.entry(found.key()).or_default().insert(laid.overlay.id);
        }
        self.laid.insert(laid.overlay.id, laid);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Laid> {
        let laid = self.laid.remove(&id)?;
        self.rules_moved |= self.rules.remove(&id);
        forget(&mut self.by_key, id, laid.found());
        Some(laid)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Laid> {
        self.laid.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Laid> {
        self.laid.get_mut(&id)
    }

    /// Ids of the overlays of one target, oldest first.
    pub(super) fn about(&self, key: &Found) -> impl DoubleEndedIterator<Item = u64> {
        self.by_key.get(key).into_iter().flatten().copied()
    }

    /// Those that time changes: about to begin, or on their way.
    pub(super) fn moving(&self, now_unix: u64) -> Vec<u64> {
        let is_moving = |overlay: &Overlay| {
            overlay.back.is_some()
                || !overlay.is_begun() && overlay.starts.is_some_and(|at| at <= now_unix + LEAD_S)
                || overlay.is_begun() && overlay.ramp.as_ref().is_some_and(|ramp| !ramp.done)
        };
        self.overlays().filter(|overlay| is_moving(overlay)).map(|overlay| overlay.id).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.laid.len()
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Laid> {
        self.laid.values()
    }

    /// Oldest first.
    pub(super) fn overlays(&self) -> impl Iterator<Item = &Overlay> {
        self.laid.values().map(|laid| &laid.overlay)
    }

    /// What the overlays of one target come to with what is `accepted` and these changes.
    pub(super) fn sum<'a>(
        &'a self,
        key: &Found,
        course: Course,
        accepted: impl IntoIterator<Item = &'a Change>,
        changes: impl IntoIterator<Item = &'a Change>,
        now_unix: u64,
    ) -> Sum {
        let mut all: BTreeMap<u64, (&Laid, bool)> = self.about(key).filter_map(|id| Some((id, (self.get(id)?, false)))).collect();
        let changes = accepted.into_iter().map(|change| (change, false)).chain(changes.into_iter().map(|change| (change, true)));
        for (change, is_judged) in changes {
            match change {
                Change::Lay(laid) if laid.found().is_some_and(|found| found.key() == *key) => drop(all.insert(laid.overlay.id, (laid, is_judged))),
                Change::Lay(_) => {}
                Change::Lift(id) => drop(all.remove(id)),
            }
        }
        let mut sum = Sum::default();
        all.into_values().for_each(|(laid, is_judged)| course::add(&mut sum, laid, now_unix, course, is_judged));
        sum
    }

    /// Overlays whose targets are not there, but are in these zones.
    pub(super) fn woken(&self, zones: Loaded<'_>) -> Vec<Change> {
        let asleep = self.laid.values().filter(|laid| laid.found.is_err());
        let awake = asleep.filter_map(|laid| Some(Laid { found: Ok(find(&laid.overlay.target, laid.overlay.set, zones).ok()?), ..laid.clone() }));
        awake.map(|laid| Change::Lay(Box::new(laid))).collect()
    }

    /// True when the target of some overlay is not there.
    pub(super) fn has_any_asleep(&self) -> bool {
        self.laid.values().any(|laid| laid.found.is_err())
    }
}

/// Takes an overlay out of the index.
fn forget(by_key: &mut HashMap<Found, BTreeSet<u64>>, id: u64, found: Option<&Found>) {
    let Some(key) = found.map(Found::key) else { return };
    if let Some(ids) = by_key.get_mut(&key) {
        ids.remove(&id);
        if ids.is_empty() {
            by_key.remove(&key);
        }
    }
}

/// What a request is checked against.
pub(super) struct Around<'a> {
    pub(super) zones: Loaded<'a>,
    pub(super) effects: &'a Effects,
    /// Overlays that there are.
    pub(super) held: usize,
    pub(super) now_unix: u64,
}

fn invalid<T>(field: &str, detail: String) -> Result<T, Refusal> {
    Err(Refusal::Invalid { field: field.into(), detail })
}

/// Checks a request and gives it an id.
pub(super) fn admit(new: NewOverlay, who: &Who, id: u64, around: &Around<'_>) -> Result<Laid, Refusal> {
    if around.held >= MAX_OVERLAYS {
        return invalid("target", format!("{} overlays are in effect, the limit is {MAX_OVERLAYS}: revert some first", around.held));
    }
    who.may_change(check_target("target", &new.target)?)?;
    let (found, target) = find_spelled(&new.target, new.set, around.zones)?;
    let reason = check_reason(&new.reason)?.to_string();
    let starts = check_start(new.starts.as_ref(), around.now_unix)?;
    let expires = check_expiry(new.expires.as_deref(), starts.unwrap_or(around.now_unix), DEFAULT_EXPIRY_S)?;
    let ramp = new.over.as_deref().map(check_over).transpose()?;
    let from = match (&ramp, new.set) {
        (None, _) if new.from.is_some() => return invalid("from", "it belongs to a weight that is reached over some time: say over as well".into()),
        // A plan begins with what is in effect then.
        (Some(_), Setting::Weight(_)) if starts.is_some() => new.from,
        (Some(_), Setting::Weight(_)) => new.from.or_else(|| weight_now(&found, around.zones, around.effects)),
        (Some(_), Setting::State(Forced::Drain)) if new.from.is_none() => None,
        (Some(_), Setting::State(Forced::Drain)) => return invalid("from", "a drain begins with all of the traffic".into()),
        (Some(_), _) => return invalid("over", "only a weight or a drain can be reached step by step".into()),
        (None, _) => None,
    };
    let begins = starts.unwrap_or(around.now_unix);
    if let (Some(ramp), Some(expires)) = (&ramp, expires) {
        is_there_before("over", begins, ramp.over, expires)?;
    }
    let began = starts.is_none().then_some(around.now_unix);
    let ramp = ramp.map(|ramp| Ramp { began, ..ramp });
    let overlay = Overlay {
        owner: who.name.clone(),
        reason,
        created: around.now_unix,
        expires,
        starts,
        began,
        from,
        ramp,
        break_glass: new.break_glass,
        ..Overlay::of(id, target, new.set)
    };
    Ok(Laid::new(overlay, Ok(found)))
}

/// An overlay that is laid, with what a request changes.
pub(super) fn amend(laid: &Laid, amend: &Amend, now_unix: u64) -> Result<Laid, Refusal> {
    let mut laid = laid.clone();
    if amend.expires.is_none() && amend.reason.is_none() {
        return invalid("expires", "nothing is asked for; expected expires, reason or both".into());
    }
    if let Some(reason) = &amend.reason {
        laid.overlay.reason = check_reason(reason)?.to_string();
    }
    if amend.expires.is_some() {
        laid.overlay.expires = check_expiry(amend.expires.as_deref(), now_unix, DEFAULT_EXPIRY_S)?;
        let starts = laid.overlay.starts.filter(|_| !laid.overlay.is_begun());
        if let (Some(starts), Some(expires)) = (starts, laid.overlay.expires)
            && expires <= starts
        {
            let left = starts.saturating_sub(now_unix);
            return invalid(
                "expires",
                format!("found {} s from now, but it starts only in {left} s: it would end before it begins", expires - now_unix),
            );
        }
        if let (Some(ramp), Some(expires)) = (laid.overlay.ramp.as_ref().filter(|ramp| !ramp.done), laid.overlay.expires) {
            let begins = laid.overlay.began.or(laid.overlay.starts).unwrap_or(laid.overlay.created);
            is_there_before("expires", begins, ramp.takes(now_unix), expires)?;
        }
        if let (Some(way), Some(expires)) = (laid.overlay.progress_at(now_unix).filter(|_| laid.overlay.back.is_some()), laid.overlay.expires)
            && expires <= way.end
        {
            let (found, takes) = (span(expires.saturating_sub(now_unix)), span(way.end.saturating_sub(now_unix)));
            return invalid("expires", format!("found {found} from now, but its way back takes {takes} more: the rest would come back at once"));
        }
    }
    Ok(laid)
}

/// Fails unless a ramp that takes `over` seconds is done before its overlay expires.
fn is_there_before(field: &str, begins: u64, over: u64, expires: u64) -> Result<(), Refusal> {
    if begins + over < expires {
        return Ok(());
    }
    let lasts = expires.saturating_sub(begins);
    invalid(field, format!("found {over} s, but it expires {lasts} s after its start: it would end before it is there"))
}

/// An overlay that is laid, on its way back.
pub(super) fn turn_back(laid: &Laid, over: &str, now_unix: u64) -> Result<Laid, Refusal> {
    let mut laid = laid.clone();
    let back = check_over(over)?;
    let overlay = &mut laid.overlay;
    if !matches!(overlay.set, Setting::State(Forced::Drain | Forced::Down)) {
        return invalid("over", "only a drain or down comes back step by step; lay a weight with over instead".into());
    }
    if !overlay.is_begun() {
        return invalid("over", "the overlay has not begun; revert it without over".into());
    }
    // What a drain had not given up yet, and what has come back, need not come back.
    let here = match (&overlay.back, &overlay.ramp) {
        (Some(back), _) => back.progress(now_unix),
        (None, ramp) => 1.0 - ramp.as_ref().map_or(1.0, |ramp| ramp.progress(now_unix)),
    };
    let began = now_unix - (here * back.over as f64).ceil() as u64;
    overlay.back = Some(Ramp { began: Some(began), ..back });
    if let Some(ramp) = &mut overlay.ramp {
        ramp.done = true;
    }
    overlay.last_until_back(now_unix);
    Ok(laid)
}

fn check_start(starts: Option<&When>, now_unix: u64) -> Result<Option<u64>, Refusal> {
    let at = match starts {
        None => return Ok(None),
        Some(When::At(at)) => Some(*at),
        Some(When::In(text)) => config::parse_duration(text).map(|duration| now_unix.saturating_add(duration.as_secs())).or_else(|| rfc3339(text)),
    };
    match at {
        Some(at) if at > now_unix && at <= now_unix + MAX_START_S => Ok(Some(at)),
        _ => {
            let found = starts.map(|starts| serde_json::json!(starts).to_string()).unwrap_or_default();
            let detail = format!(
                "found {found}, expected a duration from now such as \"2h\", a time such as \"2026-11-23T02:00:00Z\", or unix seconds, later than now ({now_unix}) and within 366 days"
            );
            invalid("starts", detail)
        }
    }
}

fn check_over(over: &str) -> Result<Ramp, Refusal> {
    match config::parse_duration(over).map(|duration| duration.as_secs()) {
        Some(over @ 1..=MAX_OVER_S) => Ok(Ramp { over, ..Ramp::default() }),
        _ => invalid("over", format!("found {over:?}, expected a duration from \"1s\" to \"30d\"")),
    }
}

/// A refusal as one sentence.
pub(super) fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound { what, near } if near.is_empty() => format!("{what} does not exist"),
        Refusal::NotFound { what, near } => format!("{what} does not exist (did you mean {}?)", near.join(", ")),
        Refusal::Invalid { field, detail } => format!("{field}: {detail}"),
        Refusal::Busy { detail }
        | Refusal::Store { detail }
        | Refusal::Stalled { detail }
        | Refusal::Unread { detail }
        | Refusal::Forbidden { detail }
        | Refusal::Changed { detail, .. } => detail.clone(),
        Refusal::Safety { broken } => broken.iter().map(|rule| rule.to_string()).collect::<Vec<_>>().join("; "),
        Refusal::Stopping => "the program is stopping".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::Hold;

    fn drain(ramp: Ramp) -> Laid {
        let overlay =
            Overlay { began: Some(1000), expires: Some(9000), ramp: Some(ramp), ..Overlay::of(1, "example.com/fra", Setting::State(Forced::Drain)) };
        Laid::new(overlay, Ok(Found::Thing("example.com/fra".into())))
    }

    #[test]
    fn a_way_back_goes_on_from_what_has_come_back() {
        let share = |laid: &Laid, now| laid.overlay.back.as_ref().map(|back| back.progress(now));
        let whole = drain(Ramp { over: 10, began: Some(1000), done: true, ..Ramp::default() });
        let back = turn_back(&whole, "10s", 2000).expect("on its way");
        assert_eq!((share(&back, 2000), share(&back, 2007)), (Some(0.0), Some(0.7)));
        for over in ["60s", "1s", "1000s", "10s"] {
            let again = turn_back(&back, over, 2007).expect("on its way");
            assert!(share(&again, 2007) >= Some(0.7), "{over}: {again:?}");
        }
        let again = turn_back(&back, "1000s", 2007).expect("on its way");
        assert_eq!((share(&again, 2007), share(&again, 2107)), (Some(0.7), Some(0.8)));
        // One that stands still has not gone on.
        let mut held = back.clone();
        held.overlay.back = held.overlay.back.map(|back| Ramp { holding: Some(Hold { since: 2003, why: "it failed".into() }), ..back });
        assert_eq!(turn_back(&held, "1000s", 2007).map(|laid| share(&laid, 2007)), Ok(Some(0.3)));
        // A drain that was not there yet has that much less to come back.
        let half = drain(Ramp { over: 100, began: Some(1000), ..Ramp::default() });
        assert_eq!(turn_back(&half, "1000s", 1060).map(|laid| share(&laid, 1060)), Ok(Some(0.4)));
    }

    #[test]
    fn what_is_extended_is_there_before_it_expires() {
        let extended = |laid: &Laid, expires: &str| {
            let asked = Amend { expires: Some(expires.into()), ..Amend::default() };
            amend(laid, &asked, 1010).map(|laid| laid.overlay.expires)
        };
        let running = drain(Ramp { over: 100, began: Some(1000), held: 5, ..Ramp::default() });
        let detail = "found 105 s, but it expires 13 s after its start: it would end before it is there";
        assert_eq!(extended(&running, "3s"), Err(Refusal::Invalid { field: "expires".into(), detail: detail.into() }));
        assert!(extended(&running, "95s").is_err());
        assert_eq!((extended(&running, "96s"), extended(&running, "never")), (Ok(Some(1106)), Ok(None)));
        let done = drain(Ramp { over: 100, done: true, ..Ramp::default() });
        assert_eq!(extended(&done, "3s"), Ok(Some(1013)));
    }
}
