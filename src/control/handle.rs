//! The way in: every request to the single writer is an [`Event`], most with a reply channel.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::api::{
    Amend, Applied, Beyond, CheckSpec, Consequences, Difference, FailedBack, Lift, NewOverlay, Observation, Overlay, Promote, Promoted, Refusal,
    ReloadBody, ReloadReport, Status, Who,
};
use super::audit::{Entry, Page, Query};
use super::reports::{Report, Reports, Taken};
use super::stalls::Stalled;
use super::status::Seen;
use super::timeline::{Asked, EndpointChecks, TRIALS_QUEUE_LEN, Trial, Trials};
use super::tokens::{CreatedToken, NewToken, TokenInfo, Tokens};
use crate::config::Reach;
use crate::world::Published;

/// Which of the overlays that are laid.
#[derive(Clone, Debug)]
pub enum Laying {
    /// The one of this id, if this one may see it; [`Refusal::NotFound`] without it.
    One(u64, Who),
    /// Those behind an id that this one may see, so many at most.
    Behind(u64, Who, usize),
    /// Those about these things or what is below them, as far as this one may see them.
    About(Vec<String>, Who),
}

impl Laying {
    /// Picks from all, which are in the order of their ids.
    pub fn pick<T>(&self, all: impl Iterator<Item = T>, overlay: impl Fn(&T) -> &Overlay) -> Vec<T> {
        let (Laying::One(_, who) | Laying::Behind(_, who, _) | Laying::About(_, who)) = self;
        let may_see = |one: &T| who.zones.is_none() || who.covers(&overlay(one).target);
        match self {
            Laying::One(id, _) => all.filter(|one| overlay(one).id == *id && may_see(one)).take(1).collect(),
            Laying::About(things, _) => {
                let is_about = |target: &str| things.iter().any(|thing| target.strip_prefix(&**thing).is_some_and(is_below));
                all.filter(|one| is_about(&overlay(one).target) && may_see(one)).collect()
            }
            Laying::Behind(after, _, most) => all.filter(|one| overlay(one).id > *after && may_see(one)).take(*most).collect(),
        }
    }
}

/// What stands behind a thing in the target of an overlay of it, or of what is below it.
pub fn is_below(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// What `control` consumes; closed: whatever changes the world is one of these.
#[derive(Debug)]
pub enum Event {
    /// A check finished. The reply is the time until the next one.
    Observed(Observation, oneshot::Sender<Duration>),
    /// Lay an overlay.
    Overlay(NewOverlay, Who, oneshot::Sender<Result<Applied, Refusal>>),
    /// Take an overlay back.
    Revert(u64, Lift, Who, oneshot::Sender<Result<Applied, Refusal>>),
    /// Change an overlay that is laid.
    Amend(u64, Amend, Who, oneshot::Sender<Result<Applied, Refusal>>),
    /// Write an overlay into the files.
    Promote(u64, Promote, Who, oneshot::Sender<Result<Promoted, Refusal>>),
    /// Say what is not as the files say.
    Differences(oneshot::Sender<Result<Vec<Difference>, Refusal>>),
    /// Say what is laid beyond the zones of this one and reaches into them.
    Beyond(Who, oneshot::Sender<Result<Vec<Beyond>, Refusal>>),
    /// Say whether what is kept is known.
    KnowState(oneshot::Sender<Result<(), Refusal>>),
    /// Say what laying an overlay would do.
    Foresee(NewOverlay, Who, oneshot::Sender<Result<Consequences, Refusal>>),
    /// Say what taking an overlay back would do.
    ForeseeRevert(u64, Lift, Who, oneshot::Sender<Result<Consequences, Refusal>>),
    /// Read the files again.
    Reload {
        /// What of them, and how.
        wanted: ReloadBody,
        /// Who wants it.
        who: Who,
        /// What came of it.
        reply: oneshot::Sender<Result<ReloadReport, Refusal>>,
    },
    /// Let a steered name or policy return to its better child.
    Failback(String, Who, oneshot::Sender<Result<FailedBack, Refusal>>),
    /// Make a token.
    CreateToken(NewToken, Who, oneshot::Sender<Result<CreatedToken, Refusal>>),
    /// Take a token back.
    RevokeToken(String, Who, oneshot::Sender<Result<TokenInfo, Refusal>>),
    /// Keep that somebody was refused before their request got here.
    Refused(Box<Entry>),
    /// Read the audit log.
    Audit(Box<Query>, oneshot::Sender<Result<Page, Refusal>>),
    /// Say which overlays are laid, or show the one of an id.
    Overlays(Laying, oneshot::Sender<Result<Vec<Overlay>, Refusal>>),
    /// Say what is known.
    Status(oneshot::Sender<Seen>),
    /// Say what is known of the checks of one endpoint.
    EndpointChecks(String, oneshot::Sender<Result<Option<EndpointChecks>, Refusal>>),
    /// Take what is reported of endpoints, pools and regions.
    Reports(Vec<Report>, Who, oneshot::Sender<Result<Taken, Refusal>>),
    /// Finish, and say when the last write is on disk.
    Stop(oneshot::Sender<()>),
}

/// Events that wait at most; whoever sends more waits.
pub const EVENT_QUEUE_LEN: usize = 4096;

/// A handle on the single writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) checks: watch::Receiver<Arc<Vec<CheckSpec>>>,
    pub(super) reach: watch::Receiver<Arc<Reach>>,
    pub(super) world: Arc<Published>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) reports: Arc<Reports>,
    pub(super) news: watch::Receiver<News>,
    pub(super) stalled: Stalled,
    pub(super) trials: mpsc::Sender<Trial>,
    pub(super) trials_end: Trials,
    pub(super) asked: Arc<Asked>,
}

/// What is new: for whoever waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Of the last entry of the audit log that this run has kept; 0 for none yet.
    pub sequence: u64,
    /// Of the published world.
    pub generation: u64,
}

/// The other ends of a [`Handle`]: what the single writer holds, and tests that stand in for it.
#[derive(Debug)]
pub struct Ends {
    /// Requests, in order of arrival.
    pub events: mpsc::Receiver<Event>,
    /// Where the set of checks is published.
    pub checks: watch::Sender<Arc<Vec<CheckSpec>>>,
    /// Where it is published what those may have of this machine.
    pub reach: watch::Sender<Arc<Reach>>,
    /// Where the world is published.
    pub world: Arc<Published>,
    /// The tokens; the writer alone changes the set.
    pub tokens: Arc<Tokens>,
    /// What is reported; the writer alone adds to it.
    pub reports: Arc<Reports>,
    /// Where news are told.
    pub news: watch::Sender<News>,
    /// Seconds for which the disk of the state has not answered.
    pub stalled: Arc<AtomicU64>,
}

impl Ends {
    /// Publishes what checks may have of this machine, if that is something else.
    pub(super) fn set_reach(&self, reach: Reach) {
        self.reach.send_if_modified(|before| {
            let is_other = **before != reach;
            if is_other {
                *before = Arc::new(reach);
            }
            is_other
        });
    }
}

/// A handle and its other ends: no checks, `world`.
pub fn channel(world: Arc<Published>) -> (Handle, Ends) {
    let (sender, events) = mpsc::channel(EVENT_QUEUE_LEN);
    let (checks_sender, checks) = watch::channel(Arc::default());
    let (reach_sender, reach) = watch::channel(Arc::default());
    let (tokens, reports) = (Arc::new(Tokens::default()), Arc::new(Reports::default()));
    let (news_sender, news) = watch::channel(News::default());
    let (trials, trials_end) = mpsc::channel(TRIALS_QUEUE_LEN);
    let (trials_end, stalled) = (Arc::new(std::sync::Mutex::new(Some(trials_end))), Stalled::default());
    let handle = Handle {
        events: sender,
        checks,
        reach,
        world: world.clone(),
        tokens: tokens.clone(),
        reports: reports.clone(),
        news,
        stalled: stalled.clone(),
        trials,
        trials_end,
        asked: Arc::default(),
    };
    (handle, Ends { events, checks: checks_sender, reach: reach_sender, world, tokens, reports, news: news_sender, stalled })
}

impl Handle {
    /// What is known at this moment; nothing when the writer has stopped. Made when asked for: it lists every zone and endpoint. Query counts
    /// are 0: the reader adds them from telemetry.
    pub async fn status(&self) -> Status {
        let seen = self.seen().await;
        // Some work where there is a lot of it: beside checks and requests, not before them.
        tokio::task::spawn_blocking(|| seen.status()).await.unwrap_or_default()
    }

    /// The same, not written down yet.
    pub async fn seen(&self) -> Seen {
        let (reply, answer) = oneshot::channel();
        if self.events.send(Event::Status(reply)).await.is_err() {
            return Seen::default();
        }
        answer.await.unwrap_or_default()
    }

    /// Of the published world; 0 before there is one.
    pub fn generation(&self) -> u64 {
        self.world.with_world(|world| world.generation)
    }

    /// The checks that should run. Changes on reload.
    pub fn checks(&self) -> watch::Receiver<Arc<Vec<CheckSpec>>> {
        self.checks.clone()
    }

    /// What these may have of this machine, whatever it was when they were listed. Changes on reload.
    pub fn reach(&self) -> watch::Receiver<Arc<Reach>> {
        self.reach.clone()
    }

    /// The published world.
    pub fn world(&self) -> Arc<Published> {
        self.world.clone()
    }

    /// Reports a finished check; returns how long to wait until the next one, or `None` when the check is no longer wanted.
    pub async fn observe(&self, observation: Observation) -> Option<Duration> {
        let (reply, answer) = oneshot::channel();
        self.events.send(Event::Observed(observation, reply)).await.ok()?;
        answer.await.ok()
    }

    /// Lays an overlay; it is in effect and on disk when this returns.
    pub async fn overlay(&self, new: NewOverlay, who: Who) -> Result<Applied, Refusal> {
        self.may_change()?;
        self.ask(|reply| Event::Overlay(new, who, reply)).await
    }

    /// Takes an overlay back; in effect and on disk when this returns.
    pub async fn revert(&self, id: u64, lift: Lift, who: Who) -> Result<Applied, Refusal> {
        self.may_change()?;
        self.ask(|reply| Event::Revert(id, lift, who, reply)).await
    }

    /// Changes when an overlay expires, or why it is there; on disk when this returns.
    pub async fn amend(&self, id: u64, amend: Amend, who: Who) -> Result<Applied, Refusal> {
        self.may_change()?;
        self.ask(|reply| Event::Amend(id, amend, who, reply)).await
    }

    /// The overlays that are laid, oldest first; without looking at anything else.
    pub async fn overlays(&self, which: Laying) -> Result<Vec<Overlay>, Refusal> {
        self.ask(|reply| Event::Overlays(which, reply)).await
    }

    /// Writes an overlay into the files and ends it, or says what would be written.
    pub async fn promote(&self, id: u64, promote: Promote, who: Who) -> Result<Promoted, Refusal> {
        if !promote.dry_run {
            self.may_change()?;
        }
        self.ask(|reply| Event::Promote(id, promote, who, reply)).await
    }

    /// Says what is not as the files say.
    pub async fn differences(&self) -> Result<Vec<Difference>, Refusal> {
        self.ask(Event::Differences).await
    }

    /// What is laid beyond the zones that this one is confined to and reaches into them; nothing for whoever is not.
    pub async fn beyond(&self, who: &Who) -> Result<Vec<Beyond>, Refusal> {
        match who.zones {
            None => Ok(Vec::new()),
            Some(_) => self.ask(|reply| Event::Beyond(who.clone(), reply)).await,
        }
    }

    /// Says what laying an overlay would do, and changes nothing.
    pub async fn foresee(&self, new: NewOverlay, who: Who) -> Result<Consequences, Refusal> {
        self.ask(|reply| Event::Foresee(new, who, reply)).await
    }

    /// Says what taking an overlay back would do, and changes nothing.
    pub async fn foresee_revert(&self, id: u64, lift: Lift, who: Who) -> Result<Consequences, Refusal> {
        self.ask(|reply| Event::ForeseeRevert(id, lift, who, reply)).await
    }

    /// Reads the files again.
    pub async fn reload(&self, wanted: ReloadBody, who: Who) -> Result<ReloadReport, Refusal> {
        self.ask(|reply| Event::Reload { wanted, who, reply }).await
    }

    /// Ends the hold of a `failback = "manual"` (or `after`) on `name` (`zone/name` or `zone/policy:NAME`).
    pub async fn failback(&self, name: String, who: Who) -> Result<FailedBack, Refusal> {
        self.ask(|reply| Event::Failback(name, who, reply)).await
    }

    /// Fails with [`Refusal::Unread`] when there may be overlays and tokens that nobody could read: an empty list would say that there are none.
    pub async fn know_state(&self) -> Result<(), Refusal> {
        self.ask(Event::KnowState).await
    }

    /// The tokens, to look offered ones up.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Takes what is reported; in force when this returns, but for what is published a moment later.
    pub async fn report(&self, reports: Vec<Report>, who: Who) -> Result<Taken, Refusal> {
        self.ask(|reply| Event::Reports(reports, who, reply)).await
    }

    /// What is reported.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// What is new, to wait for.
    pub fn news(&self) -> watch::Receiver<News> {
        self.news.clone()
    }

    /// Makes a token; it is in force and on disk when this returns.
    pub async fn create_token(&self, new: NewToken, who: Who) -> Result<CreatedToken, Refusal> {
        self.may_change()?;
        self.ask(|reply| Event::CreateToken(new, who, reply)).await
    }

    /// Takes a token back; nothing passes with it once this returns.
    pub async fn revoke_token(&self, id: String, who: Who) -> Result<TokenInfo, Refusal> {
        self.may_change()?;
        self.ask(|reply| Event::RevokeToken(id, who, reply)).await
    }

    /// Keeps that somebody was refused.
    pub async fn refused(&self, entry: Entry) {
        let _ = self.events.send(Event::Refused(Box::new(entry))).await;
    }

    /// One page of the audit log; [`Refusal::Unread`] when it cannot be read, [`Refusal::Stalled`] when that would take for ever.
    pub async fn audit(&self, query: Query) -> Result<Page, Refusal> {
        self.read(self.ask(|reply| Event::Audit(Box::new(query), reply))).await
    }

    /// Stops the writer after the last write is on disk.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.events.send(Event::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    pub(super) async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Event) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.events.send(event(reply)).await.map_err(|_| Refusal::Stopping)?;
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }
}
