//! What operators ask of the single writer: each request is checked, kept on disk, and only then takes effect.

use std::mem::discriminant;

use serde_json::Value;
use tokio::sync::oneshot;

use super::access;
use super::api::{Amend, Applied, Difference, FailedBack, Lift, NewOverlay, Overlay, Refusal, ReloadBody, ReloadReport, Who};
use super::audit::Entry;
use super::before;
use super::laying::Safe;
use super::load::{self, Build, Previous};
use super::overlays::{Change, Course, Found, difference};
use super::text::span;
use super::worker::Worker;
use super::writer::{Done, Writer};
use crate::config::{self, OsFiles};
use crate::dns::Name;
use crate::store::{Ended, MAX_ENDED_OVERLAYS, Write};

/// Reading and compiling files go after answering: steps down from the usual priority. Further down a reload would hardly end beside busy programs.
const RELOAD_PRIORITY: u8 = 10;
/// What to do when a change cannot be kept: one that a restart would silently undo must not look as if it were made.
const STORE_ADVICE: &str = "make state.path writable (and restart, if it could not be used at start and is not locked), or change the zone file and reload: that needs no state";

/// A change that is in effect once it is on disk.
pub(super) struct StoredChange {
    /// Where it stands in [`Writer::pending`].
    pub(super) ticket: u64,
    /// The safety rules that it went past.
    pub(super) broke: Vec<String>,
    /// What whoever asked may not mean, as it was before.
    pub(super) warnings: Vec<String>,
    pub(super) reply: OverlayReply,
}

/// A change that is made, for whoever waits until it is published.
pub(super) struct Made {
    reply: OverlayReply,
    overlay: Overlay,
    /// What it was about, if it is there no more.
    lifted: Option<Found>,
    broke: Vec<String>,
    warnings: Vec<String>,
}

pub(super) type OverlayReply = oneshot::Sender<Result<Applied, Refusal>>;
pub(super) type ReloadReply = oneshot::Sender<Result<ReloadReport, Refusal>>;

/// A reload that was asked for.
pub(super) struct Reload {
    pub(super) wanted: ReloadBody,
    pub(super) who: Who,
    pub(super) reply: ReloadReply,
}

impl Reload {
    /// The zone that is meant, if one is.
    fn named(&self) -> Option<Name> {
        self.wanted.zone.as_deref().and_then(|zone| Name::parse_absolute(zone).ok()).map(|zone| zone.to_lowercase())
    }
}

impl Writer {
    pub(super) fn lay(&mut self, new: NewOverlay, who: &Who, reply: OverlayReply) {
        let break_glass = new.break_glass;
        let admitted = self.admit_as_seen(new, who).and_then(|change| self.within_safety(change, break_glass));
        let Safe { mut change, broke, warnings } = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        self.next_overlay_id += 1;
        let Change::Lay(laid) = &mut change else { return };
        laid.overlay.broke.clone_from(&broke);
        let overlay = laid.overlay.clone();
        let before = self.before(&overlay, laid.found());
        let end = overlay.expires.map_or("never expires".to_owned(), |at| format!("expires {at}"));
        let entry = Entry {
            before,
            after: serde_json::json!(overlay.set),
            reason: Some(overlay.reason.clone()),
            detail: Some(format!("overlay {}, {end}{}", overlay.id, went_past(&overlay.broke))),
            ..self.entry(who, "overlay.lay", &overlay.target)
        };
        let ticket = self.pend(change);
        let (kept, done) = (self.store.change(vec![Write::put_overlay(&overlay)], vec![entry.clone()]), self.done_sender.clone());
        tokio::spawn(async move {
            let result = kept.await.map(|_| access::log(&entry)).map_err(|error| error.to_string());
            let _ = done.send(Done::Stored { change: StoredChange { ticket, broke, warnings, reply }, result });
        });
    }

    /// What is in effect in place of an overlay.
    fn before(&self, overlay: &Overlay, found: Option<&Found>) -> Value {
        found.map_or(Value::Null, |found| before::in_effect(&self.effects, found, overlay.set, self.loaded()))
    }

    /// Checks a request against what is loaded, and against what whoever asks has seen.
    pub(super) fn admit_as_seen(&mut self, new: NewOverlay, who: &Who) -> Result<Change, Refusal> {
        let seen = new.seen.clone();
        let change = self.admit(new, who)?;
        let key = change.key(&self.book);
        self.is_as_seen(seen.as_ref(), None, key.as_ref(), who).map(|()| change)
    }

    pub(super) fn lift(&mut self, id: u64, lift: &Lift, who: &Who, reply: OverlayReply) {
        let may = self.may_lift_as_seen(id, lift, who).and_then(|change| self.within_safety(change, lift.break_glass));
        let Safe { change, broke, warnings } = match may {
            Ok(may) => may,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        let Some(laid) = self.book.get(id) else { return };
        let way = lift.over.as_ref().map_or_else(String::new, |over| format!(", back over {over}"));
        let entry = Entry {
            before: serde_json::json!(laid.overlay.set),
            detail: Some(format!("overlay {id}, laid by {}{way}{}", laid.overlay.owner, went_past(&broke))),
            ..self.entry(who, "overlay.revert", &laid.overlay.target)
        };
        let after = if let Change::Lift(_) = &change { self.after_lifting(id) } else { Value::Null };
        let entry = Entry { after, ..entry };
        // One that comes back step by step stays until it is there.
        let write = match &change {
            Change::Lay(laid) => Write::put_overlay(&laid.overlay),
            Change::Lift(_) => self.end_of(id, "reverted", &who.name),
        };
        let ticket = self.pend(change);
        let (kept, done) = (self.store.change(vec![write], vec![entry.clone()]), self.done_sender.clone());
        tokio::spawn(async move {
            let result = kept.await.map(|_| access::log(&entry)).map_err(|error| error.to_string());
            let _ = done.send(Done::Stored { change: StoredChange { ticket, broke, warnings, reply }, result });
        });
    }

    /// What is in effect of a target once this overlay of it is gone; null if it changes nothing.
    fn after_lifting(&mut self, id: u64) -> Value {
        let Some((overlay, found)) = self.book.get(id).and_then(|laid| Some((laid.overlay.clone(), laid.found()?.clone()))) else {
            return Value::Null;
        };
        // Rules follow once their zone is compiled; what is outranked changes nothing.
        let holds = self.book.get(id).is_some_and(|laid| self.ranks().standing(laid).in_force);
        if self.book.is_rule(id) || !holds {
            return Value::Null;
        }
        let key = found.key();
        let sum = self.book.sum(&key, Course::Now, [&Change::Lift(id)], [], self.clock.unix());
        let before = self.effects.put(&key, sum);
        let after = self.before(&overlay, Some(&found));
        self.effects.put(&key, before);
        after
    }

    pub(super) fn amend(&mut self, id: u64, amend: &Amend, who: &Who, reply: OverlayReply) {
        let may = self.may_amend(id, amend, who).and_then(|change| self.ends_safely(id, change));
        let change = match may.and_then(|change| self.is_as_seen(amend.seen.as_ref(), Some(id), None, who).map(|()| change)) {
            Ok(change) => change,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        let (Change::Lay(laid), Some(was)) = (&change, self.book.get(id)) else { return };
        let overlay = laid.overlay.clone();
        let entry = Entry {
            before: serde_json::json!({ "expires": was.overlay.expires }),
            after: serde_json::json!({ "expires": overlay.expires }),
            reason: Some(overlay.reason.clone()),
            detail: Some(format!("overlay {id}, laid by {}", overlay.owner)),
            ..self.entry(who, "overlay.amend", &overlay.target)
        };
        let ticket = self.pend(change);
        let (kept, done) = (self.store.change(vec![Write::put_overlay(&overlay)], vec![entry.clone()]), self.done_sender.clone());
        tokio::spawn(async move {
            let result = kept.await.map(|_| access::log(&entry)).map_err(|error| error.to_string());
            let _ = done.send(Done::Stored { change: StoredChange { ticket, broke: Vec::new(), warnings: Vec::new(), reply }, result });
        });
    }

    pub(super) fn reload(&mut self, wanted: Reload) {
        let zone = wanted.wanted.zone.as_deref();
        if let Err(refusal) = zone.map_or_else(|| wanted.who.may_change_all(), |zone| wanted.who.may_change(zone)) {
            let _ = wanted.reply.send(Err(refusal));
            return;
        }
        if self.reloading {
            self.reloads_waiting.push_back(wanted);
            return;
        }
        self.reloading = true;
        let alone = wanted.named().filter(|only| self.zones.contains_key(only));
        self.build(wanted, alone);
    }

    /// Builds on a thread of its own: everything, or one zone alone.
    pub(super) fn build(&mut self, wanted: Reload, alone: Option<Name>) {
        // A thread of its own: its priority cannot be raised again.
        let worker = match Worker::start("reload") {
            Ok(worker) => worker,
            Err(refusal) => {
                self.reloading = false;
                // The same would come of those that wait.
                for waiting in [wanted].into_iter().chain(self.reloads_waiting.drain(..)) {
                    let _ = waiting.reply.send(Err(refusal.clone()));
                }
                return;
            }
        };
        let zones = match &alone {
            Some(name) => self.zones.get_key_value(name).into_iter().map(|(name, zone)| (name.clone(), zone.taken.clone())).collect(),
            None => self.zones.iter().map(|(name, zone)| (name.clone(), zone.taken.clone())).collect(),
        };
        let previous = Previous { zones, known: self.known.clone(), geo: self.geo.clone(), disabled: self.disabled_rules(&[]) };
        let (done, config_path) = (self.done_sender.clone(), self.config_path.clone());
        let (named, look) = (wanted.named().zip(self.settings.clone()), self.restart.look);
        worker.work(move || {
            // Where it is not possible all are equal.
            let _ = crate::sys::lower_priority(RELOAD_PRIORITY);
            let build = match &alone {
                Some(name) => load::build_alone(&OsFiles, &config_path, &previous, name),
                None => Some(match &named {
                    Some((name, serving)) => load::build_named(&OsFiles, &config_path, &previous, name, serving),
                    None => {
                        let build = load::build(&OsFiles, &config_path, &previous);
                        Build { at_restart: build.settings.as_ref().map(look), ..build }
                    }
                }),
            };
            let _ = done.send(match build {
                Some(build) => Done::Built { build: Box::new(build), wanted },
                None => Done::NotAlone(wanted),
            });
            // The zones before may be no longer used; dropping them is work as well.
            drop(previous);
        });
    }

    /// `zone/policy:NAME`, or `zone/name` for every policy below a steered name.
    pub(super) fn fail_back(&mut self, name: &str, who: &Who, reply: oneshot::Sender<Result<FailedBack, Refusal>>) {
        if let Err(refusal) = who.may_change(name) {
            let _ = reply.send(Err(refusal));
            return;
        }
        let (zone, rest) = name.split_once('/').unwrap_or((name, ""));
        let apex = Name::parse_absolute(zone).map_or_else(|_| Name::root(), |apex| apex.to_lowercase());
        let Some(released) = self.zones.get_mut(&apex).and_then(|zone| zone.fail_back(rest)) else {
            let candidates: Vec<String> = self.zones.values().flat_map(|zone| zone.failback_names()).collect();
            let near = config::nearest(name, candidates.iter().map(String::as_str)).map(str::to_string).into_iter().collect();
            let _ = reply.send(Err(Refusal::NotFound { what: name.into(), near }));
            return;
        };
        let detail = (released == 0).then(|| "nothing was held".to_owned());
        self.note(Entry { detail, ..self.entry(who, "failback", name) });
        if released > 0 {
            self.mark_whole(apex);
        }
        self.failback_replies.push((reply, released));
    }

    /// A change came back from the disk: it takes effect, or it is refused.
    pub(super) fn take_stored(&mut self, change: StoredChange, result: Result<(), String>) {
        let StoredChange { ticket, broke, warnings, reply } = change;
        let Some(change) = self.pending.remove(&ticket) else { return };
        let key = change.key(&self.book);
        if let Err(detail) = result {
            self.sum_up(key, self.clock.unix());
            let _ = reply.send(Err(Refusal::Store { detail: format!("{detail}; {STORE_ADVICE}") }));
            self.registry.operations().store_failed();
            if self.store.absent().is_none() {
                self.store_trouble = Some(detail);
            }
            return;
        }
        self.store_trouble = None;
        let mut lifted = None;
        let overlay = match change {
            Change::Lay(laid) => {
                let overlay = laid.overlay.clone();
                match self.book.get_mut(overlay.id) {
                    Some(existing) => existing.take_over(overlay.clone()),
                    None => self.book.insert(*laid),
                }
                overlay
            }
            Change::Lift(id) => match self.book.remove(id) {
                Some(laid) => {
                    lifted = laid.found().cloned();
                    Overlay { phase: "ended".into(), ..laid.overlay }
                }
                // Ended twice at the same time, or it expired meanwhile.
                None => {
                    let _ = reply.send(Err(self.no_overlay(id, &Who::itself())));
                    return;
                }
            },
        };
        self.sum_up(key, self.clock.unix());
        self.replies.push(Made { reply, overlay, lifted, broke, warnings });
    }

    /// Answers those whose change is published now.
    pub(super) fn reply_changes(&mut self) {
        for Made { reply, overlay, lifted, broke, mut warnings } in std::mem::take(&mut self.replies) {
            let then = lifted.and_then(|found| self.left_of(&overlay, &found));
            // As it stands, with what became of it.
            let overlay = match self.book.get(overlay.id) {
                Some(laid) => {
                    let shown = self.shown(laid);
                    warnings.extend(self.warnings_of(&shown));
                    shown
                }
                None => overlay,
            };
            let _ = reply.send(Ok(Applied { overlay, generation: self.generation, then, broke, warnings }));
        }
    }

    /// What is still not as the files say of the target of an overlay that is gone.
    fn left_of(&self, gone: &Overlay, found: &Found) -> Option<Difference> {
        let key = found.key();
        let laid = self.book.about(&key).filter_map(|id| self.book.get(id));
        let alike = laid.filter(|laid| laid.overlay.is_begun() && discriminant(&laid.overlay.set) == discriminant(&gone.set));
        let overlays = alike.map(|laid| laid.overlay.id).collect();
        let left = difference(&gone.target, found, gone.set, &mut self.ranks(), &self.effects)?;
        Some(Difference { overlays, ..left })
    }
}

impl Writer {
    /// What is kept of an overlay that ends now, here and on disk. Should the disk not take it, it stays, and then nobody asks how it ended.
    pub(super) fn end_of(&mut self, id: u64, how: &str, by: &str) -> Write {
        let at = self.clock.unix();
        self.ended.insert(id, Ended { how: how.into(), by: by.into(), at });
        while self.ended.len() > MAX_ENDED_OVERLAYS {
            self.ended.pop_first();
        }
        Write::EndOverlay { id, how: how.into(), by: by.into(), at }
    }

    /// There is no overlay of that id; if there was one, how it ended, unless whoever asks is confined to zones that it may not have been about.
    pub(super) fn no_overlay(&self, id: u64, who: &Who) -> Refusal {
        let what = match self.ended.get(&id).filter(|_| who.zones.is_none()) {
            Some(Ended { how, by, at }) => {
                format!(
                    "overlay {id} in effect: it was {how} by {by} {} ago (meridian audit tells more)",
                    span(self.clock.unix().saturating_sub(*at))
                )
            }
            None => format!("overlay {id}"),
        };
        Refusal::NotFound { what, near: Vec::new() }
    }
}

/// Words in front of the safety rules that a change went past.
pub const WENT_PAST: &str = "went past safety";

/// The safety rules that a change went past, as the end of a sentence.
pub(super) fn went_past(broke: &[String]) -> String {
    if broke.is_empty() { String::new() } else { format!("; {WENT_PAST}: {}", broke.join("; ")) }
}
