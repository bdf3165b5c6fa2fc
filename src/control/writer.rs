//! The single writer: a loop over events that owns everything mutable, makes worlds and publishes them.
//!
//! ```text
//! event ─▶ step state, mark zones dirty ─▶ (no more events waiting) ─▶ assemble dirty zones ─▶ publish ─▶ reply
//!            └─ long work (files, disk) goes to a worker and comes back as Done
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::accepted::Accepted;
use super::access::TokenChange;
use super::ahead::Ahead;
use super::api::{CertificateStatus, ConnectionStatus, FailedBack, Promoted, Refusal, ReloadReport, Status};
use super::audit::Entry;
use super::changes::{Made, Reload, ReloadReply, StoredChange};
use super::checks::{self, Checks};
use super::clock::Clock;
use super::finish::Departed;
use super::geography::KnownGeo;
use super::handle::{Ends, Event, Laying};
use super::keeper::Keeper;
use super::keeping::Outlasting;
use super::load::Build;
use super::loads::Loads;
use super::overlays::{Book, Change, Effects};
use super::promote::{PromoteReply, Promotion, Written};
use super::protection::Protection;
use super::reaper::{Reaper, Tidy};
use super::reload;
use super::restart::{Look, Restart};
use super::rules::{Compiled, Rules};
use super::server::Jar;
use super::state::{Dirt, Surroundings, ZoneState, Zones};
use super::status::{Seen, ZoneSeen};
use super::takeover::StateFile;
use super::unkept::Unkept;
use super::who::Who;
use crate::config::{Known, Settings};
use crate::dns::Name;
use crate::store::{Ended, Saved, Serial, Store, StoreError};
use crate::telemetry::Registry;
use crate::world::{DownZone, ServerOptions, World, ZoneIndex};

/// Ramps move and overlays expire at this pace.
const TICK: Duration = Duration::from_secs(1);
/// Events taken before a publication, so that a burst becomes one world.
const MAX_BURST: usize = 512;
/// The shortest time between two worlds that nobody waits for: the first change is published at once, those that follow it closely become one
/// world. So a change of health waits at most so long, and the timer's millisecond; an operator's change does not wait.
const PUBLISH_GAP: Duration = Duration::from_millis(5);
/// Endpoints kept by safety rules, and zones whose files could not be taken, that are told as troubles of the service.
const MAX_TOLD: usize = 10;
/// Ticks between writes of verdicts.
const VERDICT_TICKS: u64 = 5;
/// Ticks between looks whether a state file that somebody else has is free, or the one that is open still there.
const LOCK_TICKS: u64 = 5;
/// Ticks between writes of the tokens' last use.
const TOKEN_TICKS: u64 = 60;

/// Everything the writer starts with.
pub struct Start {
    /// Where requests come from and worlds go to.
    pub ends: Ends,
    /// meridian.toml.
    pub config_path: PathBuf,
    /// What the files came to.
    pub build: Build,
    /// Where state is kept.
    pub store: Store,
    /// What was kept.
    pub saved: Saved,
    /// Counter slots.
    pub registry: Registry,
    /// What is wrong with the service itself already.
    pub degraded: Vec<String>,
    /// The time.
    pub clock: Clock,
    /// Looks at what a start would find.
    pub look: Look,
}

/// Long work that came back.
pub(super) enum Done {
    Stored {
        change: StoredChange,
        result: Result<(), String>,
    },
    Built {
        build: Box<Build>,
        wanted: Reload,
    },
    /// The zone of this reload cannot be built alone.
    NotAlone(Reload),
    Promoted(Promotion, Result<Written, Refusal>),
    Ruled(Compiled),
    Token {
        change: TokenChange,
        result: Result<(), String>,
    },
    OutlastingKept(Result<(), String>),
    /// The state file that somebody else had.
    Opened(Box<Result<(Store, Saved), StoreError>>),
    /// The state file that is open.
    Looked(Result<Option<String>, StoreError>),
    Trouble(String),
}

/// The single writer.
pub struct Writer {
    pub(super) ends: Ends,
    pub(super) config_path: PathBuf,
    pub(super) settings: Option<Settings>,
    pub(super) restart: Restart,
    pub(super) cookies: Jar,
    pub(super) zones: Zones,
    pub(super) down: BTreeMap<Name, String>,
    /// Taken, but not yet kept for the next start.
    pub(super) fresh: Vec<Name>,
    pub(super) checks: Checks,
    pub(super) protection: Protection,
    pub(super) loads: Loads,
    /// Overlays that are laid.
    pub(super) book: Book,
    /// When what moves was moved on last: unix seconds.
    pub(super) paced_unix: u64,
    /// What they come to.
    pub(super) effects: Effects,
    /// What they will come to once everything that is pending is on disk.
    pub(super) accepted: Accepted,
    /// Things whose withdrawal has to be looked at.
    pub(super) moved: BTreeSet<Arc<str>>,
    /// Accepted, but not on disk yet; by ticket.
    pub(super) pending: BTreeMap<u64, Change>,
    pub(super) next_ticket: u64,
    /// Rules that overlays disable.
    pub(super) rules: Rules,
    /// When whatever the run before answered has run out: unix seconds.
    pub(super) start_floor: u64,
    /// What zones answered that are served no more.
    pub(super) departed: Departed,
    /// By zone: unix seconds of withdrawals, as far back as `max_changes` looks.
    pub(super) withdrawals: HashMap<Name, VecDeque<u64>>,
    pub(super) next_overlay_id: u64,
    /// Overlays that ended, as far as that is kept.
    pub(super) ended: BTreeMap<u64, Ended>,
    /// Serials as they are kept.
    pub(super) serials: BTreeMap<String, Serial>,
    /// What is kept of holds and last resorts.
    pub(super) outlasting: Outlasting,
    pub(super) store: Store,
    pub(super) unkept: Unkept,
    pub(super) registry: Registry,
    pub(super) geo_hash: u64,
    pub(super) degraded: Vec<String>,
    /// What else is wrong at present, by what it is about.
    pub(super) troubles: BTreeMap<String, String>,
    /// What the files were.
    pub(super) known: Arc<Known>,
    /// What databases and latency table were.
    pub(super) geo: Option<Arc<KnownGeo>>,
    pub(super) keeper: Keeper,
    pub(super) file: StateFile,
    pub(super) store_trouble: Option<String>,
    pub(super) dirty: BTreeMap<Name, Dirt>,
    /// Zones came or went, or what holds for all of them changed.
    pub(super) index_dirty: bool,
    /// As published.
    index: ZoneIndex,
    published: Instant,
    pub(super) generation: u64,
    pub(super) clock: Clock,
    pub(super) ahead: Ahead,
    started_unix: u64,
    pub(super) reaper: Reaper,
    pub(super) replies: Vec<Made>,
    pub(super) promote_replies: Vec<(PromoteReply, Promoted)>,
    pub(super) reload_replies: Vec<(ReloadReply, ReloadReport)>,
    pub(super) failback_replies: Vec<(oneshot::Sender<Result<FailedBack, Refusal>>, usize)>,
    pub(super) reloads_waiting: VecDeque<Reload>,
    pub(super) reloading: bool,
    pub(super) done_sender: mpsc::UnboundedSender<Done>,
    done: mpsc::UnboundedReceiver<Done>,
    ticks: u64,
}

impl Writer {
    /// Publishes the first world and returns the writer, ready to [`Writer::run`]. Call on a tokio runtime.
    pub fn start(start: Start) -> Writer {
        let (done_sender, done) = mpsc::unbounded_channel();
        let keeper = Keeper::start(start.store.clone(), start.saved.versions, done_sender.clone());
        let mut writer = Writer {
            ends: start.ends,
            config_path: start.config_path,
            settings: None,
            restart: Restart::new(start.look),
            cookies: Jar::default(),
            zones: BTreeMap::new(),
            down: BTreeMap::new(),
            fresh: Vec::new(),
            checks: Checks::default(),
            protection: Protection::default(),
            loads: Loads::default(),
            book: Book::of(start.saved.overlays, start.clock.unix()),
            effects: Effects::default(),
            accepted: Accepted::default(),
            moved: BTreeSet::new(),
            pending: BTreeMap::new(),
            next_ticket: 0,
            rules: Rules::default(),
            start_floor: 0,
            departed: Departed::default(),
            withdrawals: HashMap::new(),
            next_overlay_id: start.saved.next_overlay_id,
            ended: start.saved.ended,
            serials: start.saved.serials,
            outlasting: Outlasting::of(start.saved.holds, start.saved.keeping, start.saved.freezes.clone(), start.saved.ttls),
            store: start.store,
            unkept: Unkept::default(),
            registry: start.registry,
            geo_hash: 0,
            degraded: start.degraded,
            troubles: BTreeMap::new(),
            known: Arc::default(),
            geo: None,
            keeper,
            file: StateFile::new(start.saved.is_unknown),
            store_trouble: None,
            dirty: BTreeMap::new(),
            index_dirty: true,
            index: ZoneIndex::default(),
            published: Instant::now(),
            generation: 0,
            started_unix: start.clock.unix(),
            paced_unix: start.clock.unix(),
            ahead: Ahead::start(&start.clock, start.saved.clock),
            clock: start.clock,
            reaper: Reaper::start(),
            replies: Vec::new(),
            promote_replies: Vec::new(),
            reload_replies: Vec::new(),
            failback_replies: Vec::new(),
            reloads_waiting: VecDeque::new(),
            reloading: false,
            done_sender,
            done,
            ticks: 0,
        };
        start.saved.tokens.into_iter().for_each(|token| writer.ends.tokens.put(token));
        for (zone, times) in start.saved.withdrawals {
            if let Ok(zone) = Name::parse_absolute(&zone) {
                writer.withdrawals.insert(zone, times.into());
            }
        }
        writer.tell_news(start.saved.revision);
        writer.look_at_first_time();
        writer.checks.restore(start.saved.verdicts, writer.clock.unix(), writer.ahead.doubted_s(&writer.clock));
        writer.checks.resume(&start.saved.freezes, writer.clock.now(), writer.clock.unix());
        writer.expire_overlays(writer.clock.unix());
        writer.take_build(start.build, None, false, &Who::itself());
        writer.count_as_now();
        writer.publish();
        writer
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let due = (!self.dirty.is_empty()).then(|| tokio::time::Instant::from_std(self.published + PUBLISH_GAP));
            let stop = tokio::select! {
                biased;
                event = self.ends.events.recv() => match event {
                    Some(event) => self.take_burst(event),
                    None => Some(None),
                },
                Some(done) = self.done.recv() => {
                    self.take_done(done);
                    None
                }
                _ = tick.tick() => {
                    self.tick();
                    None
                }
                () = at(due) => None,
            };
            // A zone in another version is nothing to look at before it is assembled.
            let is_other_version = self.follow_rules();
            let somebody_waits =
                !(self.replies.is_empty() && self.reload_replies.is_empty() && self.promote_replies.is_empty() && self.failback_replies.is_empty());
            let is_time = somebody_waits || is_other_version || stop.is_some() || self.published.elapsed() >= PUBLISH_GAP;
            if (!self.dirty.is_empty() || self.index_dirty) && is_time {
                self.publish();
                self.keep_outlasting();
                self.keep_moved();
                self.watch_moved();
            }
            self.reply();
            if let Some(reply) = stop {
                self.finish(reply).await;
                return;
            }
        }
    }

    /// Takes what is waiting, so that a burst becomes one world. `Some` to stop.
    fn take_burst(&mut self, first: Event) -> Option<Option<oneshot::Sender<()>>> {
        let mut next = Some(first);
        for _ in 0..MAX_BURST {
            match next {
                Some(Event::Stop(reply)) => return Some(Some(reply)),
                Some(event) => self.take(event),
                None => break,
            }
            next = self.ends.events.try_recv().ok();
        }
        if let Some(event) = next {
            match event {
                Event::Stop(reply) => return Some(Some(reply)),
                event => self.take(event),
            }
        }
        None
    }

    pub(super) fn take(&mut self, event: Event) {
        self.look_at_time();
        let Some(event) = self.when_ready(event) else { return };
        match event {
            Event::Observed(observation, reply) => self.observe(&observation, reply),
            Event::Overlay(new, who, reply) => self.lay(new, &who, reply),
            Event::Revert(id, lift, who, reply) => self.lift(id, &lift, &who, reply),
            Event::Foresee(new, who, reply) => {
                let _ = reply.send(self.admit_as_seen(new, &who).map(|change| self.foreseen(change)));
            }
            Event::Amend(id, amend, who, reply) => self.amend(id, &amend, &who, reply),
            Event::Promote(id, promote, who, reply) => self.promote(id, &promote, who, reply),
            Event::Differences(reply) => drop(reply.send(self.know_state().map(|()| self.differences()))),
            Event::Beyond(who, reply) => drop(reply.send(self.know_state().map(|()| self.beyond(&who)))),
            Event::KnowState(reply) => drop(reply.send(self.know_state())),
            Event::ForeseeRevert(id, lift, who, reply) => {
                let _ = reply.send(self.may_lift_as_seen(id, &lift, &who).map(|change| self.foreseen(change)));
            }
            Event::Reload { wanted, who, reply } => self.reload(Reload { wanted, who, reply }),
            Event::Failback(name, who, reply) => self.fail_back(&name, &who, reply),
            Event::CreateToken(new, who, reply) => self.create_token(&new, &who, reply),
            Event::RevokeToken(id, who, reply) => self.revoke_token(&id, &who, reply),
            Event::Refused(entry) => self.note(Entry { generation: Some(self.generation), ..*entry }),
            Event::Audit(query, reply) => self.audit(*query, reply),
            Event::Overlays(which, reply) => {
                self.watch_withdrawals();
                let wanted = which.pick(self.book.iter(), |laid| &laid.overlay);
                let _ = reply.send(match &which {
                    _ if self.file.is_unknown => self.know_state().map(|()| Vec::new()),
                    Laying::One(id, who) if wanted.is_empty() => Err(self.no_overlay(*id, who)),
                    _ => Ok(self.all_shown(wanted.into_iter())),
                });
            }
            Event::Status(reply) => {
                // What is in the audit log is seen, and what is shown as drained is in the audit log.
                if !self.dirty.is_empty() {
                    self.publish();
                }
                self.watch_withdrawals();
                let _ = reply.send(self.seen());
            }
            Event::EndpointChecks(id, reply) => {
                let _ = reply.send(Ok(self.endpoint_checks(&id)));
            }
            Event::Reports(reports, who, reply) => {
                let _ = reply.send(self.take_reports(&reports, &who));
            }
            Event::Stop(_) => {}
        }
    }

    pub(super) fn mark_whole(&mut self, apex: Name) {
        self.dirty.entry(apex).or_default().whole = true;
    }

    /// Takes what has come back so far.
    #[cfg(test)]
    pub(super) fn take_all_done(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.take_done(done);
        }
    }

    pub(super) fn take_done(&mut self, done: Done) {
        match done {
            Done::Stored { change, result } => self.take_stored(change, result),
            Done::Built { build, wanted } => {
                self.reloading = false;
                self.reaper.other(Tidy);
                self.take_reload(*build, wanted);
                if let Some(next) = self.reloads_waiting.pop_front() {
                    self.reload(next);
                }
            }
            Done::NotAlone(wanted) => self.build(wanted, None),
            Done::Promoted(job, result) => {
                let Some((job, result)) = self.go_on_promoting(job, result) else { return };
                self.reloading = false;
                self.reaper.other(Tidy);
                self.take_promoted(job, result);
                if let Some(next) = self.reloads_waiting.pop_front() {
                    self.reload(next);
                }
            }
            Done::Ruled(compiled) => {
                self.reloading = false;
                self.reaper.other(Tidy);
                self.take_version(compiled);
                if let Some(next) = self.reloads_waiting.pop_front() {
                    self.reload(next);
                }
            }
            Done::Token { change, result } => self.take_token(change, result),
            Done::OutlastingKept(result) => self.take_outlasting_kept(result),
            Done::Opened(opened) => self.take_opened(*opened),
            Done::Looked(looked) => self.take_looked(looked),
            Done::Trouble(detail) => {
                self.registry.operations().store_failed();
                if self.store_trouble.as_ref() != Some(&detail) {
                    tracing::error!(target: "meridian::store", detail, "the state cannot be kept");
                    self.store_trouble = Some(detail);
                }
            }
        }
    }

    /// Takes in a build; see [`reload::take`] for what that means zone by zone.
    pub(super) fn take_build(&mut self, mut build: Build, zone: Option<String>, all_or_nothing: bool, who: &Who) -> ReloadReport {
        let first = self.generation == 0;
        self.reaper.other(std::mem::replace(&mut self.known, build.known.clone()));
        self.reaper.other(std::mem::replace(&mut self.geo, build.geo.clone()));
        let texts = std::mem::take(&mut build.texts);
        let alone = build.alone.clone();
        let wants = |zone: Option<&ZoneState>| checks::wanted_by(zone.into_iter().map(|zone| &*zone.taken.parts));
        let wanted_before = alone.as_ref().map(|name| wants(self.zones.get(name).map(|zone| &**zone)));
        let report = reload::take(self, build, zone.as_deref(), all_or_nothing);
        self.registry.operations().loaded(!report.failed, self.clock.unix());
        if first {
            for zone in self.zones.values_mut() {
                self.outlasting.restore(zone);
            }
        }
        // Before the checks: they may be of a version that was loaded when more was allowed.
        self.settings.iter().for_each(|settings| self.ends.set_reach(settings.reach()));
        let wanted_now = alone.as_ref().map(|name| wants(self.zones.get(name).map(|zone| &**zone)));
        if wanted_now.is_none() || wanted_now != wanted_before {
            let (wanted, uses) = checks::wanted_by(self.zones.values().map(|zone| &*zone.taken.parts));
            self.checks.set_wanted(&wanted, uses, self.clock.now(), self.clock.unix());
            if let Some(settings) = &self.settings {
                let ([asked, reported @ ..], now) = (&mut self.checks.doubts, self.clock.now());
                self.checks.references.set(&settings.health, asked, now);
                reported.iter_mut().for_each(|doubt| doubt.set(settings.health.freeze, &[], now));
            }
            let asked = wanted.into_iter().filter(|spec| !spec.monitor.kind.is_reported());
            self.ends.checks.send_replace(Arc::new(asked.chain(self.checks.references.specs()).collect()));
            self.tell_protection();
        }
        self.find_overlays(first, alone.as_ref());
        self.follow_reported();
        self.rules.move_on();
        // Geography, checks and neighbours may have changed under any of them. Serials move only now: overlays are a part of what they stand for.
        let touched = alone.as_ref().map_or_else(|| self.zones.keys().cloned().collect(), |name| vec![name.clone()]);
        for name in touched {
            reload::move_serial(self, &name);
            let Some(zone) = self.zones.get(&name) else { continue };
            let dirt = self.dirty.entry(name).or_default();
            dirt.whole |= zone.world.as_ref().is_none_or(|world| world.serial != zone.serial);
            dirt.pools.extend(0..zone.model().pools.len());
        }
        reload::put_in_order(self);
        for name in std::mem::take(&mut self.fresh) {
            self.keep_serial(&name);
            if let Some(zone) = self.zones.get(&name).filter(|zone| zone.kept_why.is_none()) {
                self.keeper.keep(&zone.taken.loaded, &texts);
            }
        }
        reload::log(self, &report, if first { "start" } else { "reload" }, zone.as_deref(), who);
        report
    }

    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        self.look_at_time();
        self.look_at_disk();
        let (now, now_unix) = (self.clock.now(), self.clock.unix());
        self.look_around(true);
        self.look_at_own_eyes();
        self.look_at_own_clock();
        self.keep_outlasting();
        self.move_ramps(now, now_unix);
        for (apex, _) in self.zones.iter().filter(|(_, zone)| zone.has_timed_hold()) {
            self.dirty.entry(apex.clone()).or_default();
        }
        self.look_at_reports(self.ticks);
        self.look_at_kept();
        self.expire_overlays(now_unix);
        self.pace(now_unix);
        self.watch_withdrawals();
        self.keep_entries(Vec::new());
        self.keep_time(self.ticks);
        if self.ticks.is_multiple_of(VERDICT_TICKS) {
            self.keep_verdicts();
        }
        if self.ticks.is_multiple_of(LOCK_TICKS) {
            self.look_for_store();
        }
        if self.ticks.is_multiple_of(TOKEN_TICKS) {
            self.keep_token_uses();
        }
    }

    /// Assembles what is dirty and publishes one world that shares everything else with the one before. When nothing is different after all,
    /// the world stays.
    pub(super) fn publish(&mut self) {
        let began = Instant::now();
        let dirty = std::mem::take(&mut self.dirty);
        let registry = self.registry.clone();
        let slot = move |name: &str| registry.assign(name);
        let mut changed = false;
        for (name, dirt) in dirty {
            if dirt.statics {
                // Once for a burst of changes.
                reload::move_serial(self, &name);
            }
            let around = Surroundings {
                checks: &self.checks,
                effects: &self.effects,
                loads: &self.loads,
                now: self.clock.now(),
                now_unix: self.clock.unix(),
                slot: &slot,
            };
            let Some(zone) = self.zones.get_mut(&name) else { continue };
            let world = if dirt.whole { Some(zone.assemble(&around)) } else { zone.reassemble(&dirt, &around) };
            self.moved.extend(zone.leaving.take_moved());
            self.outlasting.moved |= zone.take_holds_moved() | zone.keeping.take_moved() | zone.last_good.take_moved();
            self.tell_kept(&name);
            self.tell_panics(&name);
            if let Some(world) = world {
                changed = true;
                self.index_dirty |= !self.index.replace(&world);
            }
        }
        self.published = Instant::now();
        if std::mem::take(&mut self.index_dirty) {
            let up = self.zones.values().filter_map(|zone| zone.world.clone()).collect();
            let down = self.down.keys().map(|apex| DownZone { apex: apex.clone() }).collect();
            self.index = ZoneIndex::new(up, down);
        } else if !changed {
            return;
        }
        self.generation += 1;
        let world = World {
            generation: self.generation,
            server: self.settings.as_ref().map_or_else(ServerOptions::default, |settings| self.cookies.options(settings)),
            zones: self.index.clone(),
        };
        self.reaper.world(self.ends.world.publish(Arc::new(world)));
        self.registry.operations().publications.observe(began.elapsed());
        let generation = self.generation;
        self.ends.news.send_modify(|news| news.generation = generation);
    }

    /// What is known at this moment, zone by zone and endpoint by endpoint.
    pub fn seen(&self) -> Seen {
        let mut degraded = self.degraded.clone();
        degraded.extend(self.store.absent().map(str::to_string));
        // Without a store its own words say it, once.
        degraded.extend(self.store_trouble.clone().filter(|_| self.store.absent().is_none()));
        degraded.extend(self.troubles.values().cloned().chain(self.registry.log().trouble()));
        degraded.extend(self.disk_trouble().into_iter().chain(self.time_trouble()).chain(self.health_trouble()));
        let certificates = self.registry.certificates();
        degraded.extend(self.registry.lacking());
        degraded.extend(certificates.iter().flat_map(|facts| facts.troubles.iter().map(|trouble| format!("{}: {trouble}", facts.listener))));
        degraded.extend(self.kept_trouble().take(MAX_TOLD).chain(self.file_trouble().take(MAX_TOLD)));
        let rest = Status {
            generation: self.generation,
            started: self.started_unix,
            version: env!("CARGO_PKG_VERSION").into(),
            degraded,
            health: self.protected(self.seen_health()),
            certificates: certificates.into_iter().map(CertificateStatus::from).collect(),
            connections: ConnectionStatus::all(&self.registry),
            restart: self.restart.waiting(),
            overlays: self.all_shown(self.book.iter()),
            ..Status::default()
        };
        let down = self.down.iter().map(|(name, why)| (name.clone(), why.clone())).collect();
        let now_unix = self.clock.unix();
        let (checks, reported) = (self.checks.seen(self.clock.now()), self.ends.reports.clone());
        Seen { rest, now_unix, zones: self.zones.values().map(|zone| ZoneSeen::of(zone)).collect(), down, checks, reported }
    }

    /// Answers those whose change is published now.
    pub(super) fn reply(&mut self) {
        let generation = self.generation;
        self.reply_changes();
        for (reply, mut report) in self.reload_replies.drain(..) {
            report.generation = generation;
            let _ = reply.send(Ok(report));
        }
        for (reply, mut promoted) in self.promote_replies.drain(..) {
            promoted.generation = generation;
            let _ = reply.send(Ok(promoted));
        }
        for (reply, released) in self.failback_replies.drain(..) {
            let _ = reply.send(Ok(FailedBack { generation, released }));
        }
    }

    async fn finish(mut self, reply: Option<oneshot::Sender<()>>) {
        // Reports are kept now and then; how old the last is has to be known.
        self.checks.mark_changed(|spec| spec.monitor.kind.grows_old());
        let verdicts = self.checks.take_changed(self.clock.now(), self.ahead.dated(&self.clock));
        let _ = self.store.put_verdicts(verdicts).await;
        let _ = self.store.change(self.token_writes(), Vec::new()).await;
        self.write_unkept().await;
        self.keep_outlasting_last().await;
        self.keep_last_time().await;
        self.keeper.finish().await;
        self.store.close().await;
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }
}

async fn at(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
