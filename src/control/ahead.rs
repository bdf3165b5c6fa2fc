//! A clock of this machine that has gone ahead: what it says to be over may not be. What would have happened between the time that was believed and
//! the one that the clock reads is held for a while, in which somebody can set it right, and for a day nothing is deleted for its age.
//!
//! ```text
//! the clock, against time as the program counts it          the clock
//! goes on with it, or is set by 2 min at most               is believed
//! is set ahead by more                                      is doubted for 15 min
//! .. and back again                                         is believed at once
//! is set back                                               is believed; by what it was before, too, for 15 min
//! reads at the start over 1 h more than it did last         is doubted for 15 min
//! ```
//! A machine that was paused, and one that was off, look the same: that is why it ends by itself.

use std::time::{Duration, SystemTime};

use super::audit::Entry;
use super::clock::Clock;
use super::text::span;
use super::who::Who;
use super::writer::{Done, Writer};
use crate::store::SavedClock;

/// A clock that is set ahead by more is doubted. Time services step the clock by less than this where they were there all the time.
const STEP_S: i64 = 120;
/// The two clocks are read one after the other, in whole seconds.
const SAME_S: i64 = 2;
/// At a start, by more than this since it was read last: a restart takes less.
const AWAY_S: i64 = 3600;
/// So long it is doubted: long enough to be paged and to set a clock.
const HELD: Duration = Duration::from_secs(15 * 60);
/// The program has to run for so long after a doubt began until anything is deleted for its age again: somebody has looked by then.
const PROVING: Duration = Duration::from_secs(24 * 3600);
/// Ticks between two writes of what the clock reads.
const SEEN_TICKS: u64 = 300;

/// What is thought of this machine's clock.
#[derive(Debug)]
pub(super) struct Ahead {
    /// By how many seconds it was ahead of the program's own count when it was last looked at.
    offset: i64,
    /// The same of the clock that is believed.
    believed: i64,
    /// Since when it reads less than that one.
    below: Option<Duration>,
    doubt: Option<Doubt>,
    /// When ages count again.
    proven: Duration,
    /// By how many seconds what the run before read last was ahead of the program's own count: what is kept is never dated before it.
    least: i64,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// What it read when it began: unix seconds.
    to: u64,
    /// It is over when the clock is ahead of the one that is believed by no more.
    most: i64,
    /// When it is over anyway.
    until: Duration,
}

/// What has become of it at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It is doubted from now on, or for more.
    Doubted,
    /// It is as it should be again.
    Right,
    /// It has stayed as it is for so long that it is believed.
    Believed,
    /// It was set, which leads to no doubt.
    Set,
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

impl Ahead {
    /// At the start, with what was kept of the run before.
    pub(super) fn start(clock: &Clock, kept: Option<SavedClock>) -> Ahead {
        let (now, unix) = (clock.now(), clock.unix());
        let offset = signed(unix) - signed(now.as_secs());
        let proven = now + Duration::from_secs(kept.map_or(0, |kept| kept.unproven));
        let least = kept.map_or(i64::MIN, |kept| signed(kept.seen) - signed(now.as_secs()));
        let ahead = Ahead { offset, believed: offset, below: None, doubt: None, proven, least };
        match kept.filter(|kept| signed(unix) - signed(kept.seen) > AWAY_S) {
            Some(kept) => Ahead {
                believed: signed(kept.seen) - signed(now.as_secs()),
                doubt: Some(Doubt { to: unix, most: AWAY_S, until: now + HELD }),
                proven: now + PROVING,
                ..ahead
            },
            None => ahead,
        }
    }

    /// Looks at the clock.
    fn look(&mut self, clock: &Clock) -> Option<Turn> {
        let (now, unix) = (clock.now(), clock.unix());
        let offset = signed(unix) - signed(now.as_secs());
        let by = offset - std::mem::replace(&mut self.offset, offset);
        let ahead = offset - self.believed;
        let turn = match &mut self.doubt {
            Some(doubt) if ahead <= doubt.most => Some(Turn::Right),
            Some(doubt) if by > STEP_S => {
                *doubt = Doubt { to: unix, until: now + HELD, ..*doubt };
                Some(Turn::Doubted)
            }
            Some(doubt) if now >= doubt.until => Some(Turn::Believed),
            Some(doubt) if by < -STEP_S => {
                doubt.to = unix;
                Some(Turn::Set)
            }
            Some(_) => None,
            None if ahead > STEP_S => {
                self.doubt = Some(Doubt { to: unix, most: STEP_S, until: now + HELD });
                Some(Turn::Doubted)
            }
            None => (!(-SAME_S..=STEP_S).contains(&by)).then_some(Turn::Set),
        };
        match turn {
            Some(Turn::Doubted) => self.proven = now + PROVING,
            Some(Turn::Right | Turn::Believed) => self.doubt = None,
            Some(Turn::Set) | None => {}
        }
        let is_below = ahead < -STEP_S;
        self.below = is_below.then(|| self.below.unwrap_or(now));
        if self.doubt.is_none() && self.below.is_none_or(|since| now.saturating_sub(since) >= HELD) {
            (self.believed, self.below) = (offset, None);
        }
        turn
    }

    /// What it would read if it were the one that is believed: unix seconds.
    fn believed_unix(&self, clock: &Clock) -> u64 {
        u64::try_from(self.believed + signed(clock.now().as_secs())).unwrap_or(0)
    }

    /// The date of what is kept now, in unix seconds: a clock that stands years back (its battery is empty, and no time service has answered yet) would make
    /// it look as old as that to whoever reads it by the right one.
    pub(super) fn dated(&self, clock: &Clock) -> u64 {
        clock.unix().max(u64::try_from(self.least.saturating_add(signed(clock.now().as_secs()))).unwrap_or(0))
    }

    /// By how many seconds the clock is ahead of the one that is believed, where it is doubted.
    pub(super) fn doubted_s(&self, clock: &Clock) -> u64 {
        self.doubt.map_or(0, |_| clock.unix().saturating_sub(self.believed_unix(clock)))
    }

    /// True when a moment has come, in unix seconds: by the clock, and, where that is doubted, by the one that is believed, unless it was set by
    /// somebody who saw this one.
    fn has_come(&self, clock: &Clock, at: u64) -> bool {
        at <= clock.unix() && self.doubt.is_none_or(|doubt| at <= self.believed_unix(clock) || at > doubt.to)
    }

    /// True when something may be deleted for its age.
    fn is_proven(&self, clock: &Clock) -> bool {
        self.doubt.is_none() && clock.now() >= self.proven
    }

    /// What the next start should know; nothing as long as the clock is doubted, so that a start doubts it again.
    fn kept(&self, clock: &Clock) -> Option<SavedClock> {
        let unproven = self.proven.saturating_sub(clock.now()).as_secs();
        self.doubt.is_none().then(|| SavedClock { seen: clock.unix(), unproven })
    }

    /// That it is doubted, and what that means, in a sentence.
    fn in_words(&self, clock: &Clock) -> Option<String> {
        let doubt = self.doubt?;
        let left = doubt.until.saturating_sub(clock.now()).as_secs();
        let (expected, reads, until) = (date(self.believed_unix(clock)), date(clock.unix()), date(clock.unix() + left));
        let by = span(clock.unix().saturating_sub(self.believed_unix(clock)));
        let why = match doubt.most {
            AWAY_S => format!("at the start this machine's clock was {by} ahead of what it read last ({expected}): it reads {reads}"),
            _ => format!("this machine's clock was set {by} ahead: it reads {reads}, where {expected} was to be expected"),
        };
        Some(format!(
            "{why}; whatever would have happened in between (overlays that expire or begin, drains that are over) is held until {until} by this clock, and \
             nothing is deleted for its age: set it right if it is wrong, or wait"
        ))
    }
}

/// A moment as people read it.
pub(super) fn date(unix: u64) -> String {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix)).map_or_else(String::new, httpdate::fmt_http_date)
}

impl Writer {
    /// Compares the clock with what it should read. Whatever goes by time comes after this.
    pub(super) fn look_at_time(&mut self) {
        let Some(turn) = self.ahead.look(&self.clock) else { return };
        // Ways go on from where they are by any clock, and nothing that was done was done later than now.
        self.book.resume(self.clock.unix());
        self.count_as_now();
        self.let_ages_count();
        match turn {
            Turn::Doubted => self.tell_doubt(),
            Turn::Right => self.tell_clock("clock.trusted", "this machine's clock reads what was to be expected again"),
            Turn::Believed => {
                self.tell_clock("clock.trusted", "this machine's clock has stayed as it is and is believed: what was held because of it happens now");
            }
            Turn::Set => {}
        }
    }

    /// The same at the start.
    pub(super) fn look_at_first_time(&mut self) {
        self.let_ages_count();
        self.tell_doubt();
    }

    fn tell_doubt(&self) {
        if let Some(words) = self.time_trouble() {
            self.tell_clock("clock.ahead", &words);
        }
    }

    fn tell_clock(&self, action: &str, words: &str) {
        tracing::warn!(target: "meridian::control", "{words}");
        self.note(Entry { detail: Some(words.to_owned()), ..self.entry(&Who::itself(), action, "") });
    }

    /// That this machine's clock has gone ahead, in a sentence.
    pub(super) fn time_trouble(&self) -> Option<String> {
        self.ahead.in_words(&self.clock)
    }

    /// True when a moment has come by every clock that may be right; unix seconds.
    pub(super) fn has_come(&self, at: u64) -> bool {
        self.ahead.has_come(&self.clock, at)
    }

    /// True when something may be deleted for its age.
    pub(super) fn ages_count(&self) -> bool {
        self.ahead.is_proven(&self.clock)
    }

    /// The store deletes for age only what is old by a clock that is believed.
    pub(super) fn let_ages_count(&self) {
        self.store.let_ages_count(self.ages_count());
    }

    /// Keeps what the clock reads, right after the start and now and then: a restart within a doubt compares with that.
    pub(super) fn keep_time(&self, ticks: u64) {
        self.let_ages_count();
        if ticks % SEEN_TICKS != 1 || self.store.absent().is_some() {
            return;
        }
        if let Some(kept) = self.ahead.kept(&self.clock) {
            let (store, done) = (self.store.clone(), self.done_sender.clone());
            tokio::spawn(async move {
                if let Err(error) = store.put_clock(kept).await {
                    let _ = done.send(Done::Trouble(error.to_string()));
                }
            });
        }
    }

    /// The same at the end.
    pub(super) async fn keep_last_time(&self) {
        if let Some(kept) = self.ahead.kept(&self.clock) {
            let _ = self.store.put_clock(kept).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::control::api::{Forced, NewOverlay, Overlay, Refusal, Setting};
    use crate::control::clock::{Moved, SIMULATED_START_UNIX as START};
    use crate::control::driven::Driven;
    use crate::store::Saved;

    const DAY: i64 = 86_400;
    const MINUTE: u64 = 60;

    fn set(moved: &Arc<Moved>, now: u64, ahead: i64) {
        moved.nanos.store(now * 1_000_000_000, Relaxed);
        moved.set.store(ahead, Relaxed);
    }

    #[test]
    fn what_becomes_of_a_clock_that_is_set() {
        let far = 130 * DAY;
        for (what, steps) in [
            ("it is steered", &[(10, 1, None), (20, 3, None), (30, 120, None), (40, 240, None)][..]),
            ("ahead, and back", &[(10, 0, None), (20, far, Some(Turn::Doubted)), (30, far, None), (40, 1, Some(Turn::Right)), (50, 0, None)]),
            ("ahead for good", &[(10, 121, Some(Turn::Doubted)), (909, 121, None), (910, 121, Some(Turn::Believed)), (911, 121, None)]),
            ("ahead, and further", &[(10, DAY, Some(Turn::Doubted)), (600, 2 * DAY, Some(Turn::Doubted)), (1499, 2 * DAY, None)]),
            ("not all the way back", &[(10, far, Some(Turn::Doubted)), (20, DAY, Some(Turn::Set)), (910, DAY, Some(Turn::Believed))]),
            ("back, and where it was", &[(10, -far, Some(Turn::Set)), (600, 0, Some(Turn::Set)), (601, 0, None)]),
            ("back for long", &[(10, -far, Some(Turn::Set)), (910, -far, None), (911, 0, Some(Turn::Doubted))]),
        ] {
            let (clock, moved) = Clock::moved();
            let mut ahead = Ahead::start(&clock, None);
            for (now, by, expected) in steps {
                set(&moved, *now, *by);
                assert_eq!(ahead.look(&clock), *expected, "{what}: {now}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_dated_no_earlier_than_what_was_kept_before() {
        let (clock, moved) = Clock::moved();
        set(&moved, 0, -400 * DAY);
        let ahead = Ahead::start(&clock, Some(SavedClock { seen: START, unproven: 0 }));
        assert_eq!(ahead.dated(&clock), START, "a clock without a battery");
        set(&moved, 60, -400 * DAY);
        assert_eq!(ahead.dated(&clock), START + 60);
        set(&moved, 90, 600);
        assert_eq!(ahead.dated(&clock), START + 690, "set right");
        assert_eq!(Ahead::start(&clock, None).dated(&clock), START + 690);
    }

    #[test]
    fn a_start_compares_with_what_was_kept() {
        let hours = |hours: i64| START.saturating_add_signed(-hours * 3600);
        for (seen, is_doubted) in [(hours(0), false), (hours(1), false), (hours(1) - 1, true), (hours(60), true), (hours(-100), false)] {
            let (clock, moved) = Clock::moved();
            let mut ahead = Ahead::start(&clock, Some(SavedClock { seen, unproven: 0 }));
            assert_eq!((ahead.doubt.is_some(), ahead.is_proven(&clock), ahead.kept(&clock).is_none()), (is_doubted, !is_doubted, is_doubted));
            // A server that was off in truth goes on in a while, and deletes nothing for a day.
            for minute in 0..15 {
                set(&moved, minute * MINUTE, 0);
                assert_eq!(ahead.look(&clock), None);
            }
            set(&moved, 15 * MINUTE, 0);
            assert_eq!(ahead.look(&clock), is_doubted.then_some(Turn::Believed));
            let (unix, unproven) = (START + 15 * MINUTE, if is_doubted { DAY as u64 - 15 * MINUTE } else { 0 });
            assert_eq!(ahead.kept(&clock), Some(SavedClock { seen: unix, unproven }));
            assert_eq!(ahead.is_proven(&clock), !is_doubted);
            // Restarts do not make the day shorter, nor longer.
            let again = Ahead::start(&clock, ahead.kept(&clock));
            assert_eq!((again.doubt.is_none(), again.proven.as_secs()), (true, 15 * MINUTE + unproven));
            set(&moved, DAY as u64, 0);
            assert_eq!((ahead.look(&clock), ahead.is_proven(&clock)), (None, true));
        }
    }

    #[test]
    fn moments_come_by_every_clock_that_may_be_right() {
        let (clock, moved) = Clock::moved();
        let mut ahead = Ahead::start(&clock, None);
        set(&moved, 1000, 10 * DAY);
        ahead.look(&clock);
        set(&moved, 1300, 10 * DAY);
        let there = START + 1000 + 10 * DAY as u64;
        for (at, has_come) in [
            (START + 900, true),
            // In truth, too.
            (START + 1300, true),
            (START + 1301, false),
            (START + DAY as u64, false),
            (there, false),
            // By somebody who sees this clock.
            (there + 1, true),
            (there + 300, true),
            (there + 301, false),
        ] {
            assert_eq!(ahead.has_come(&clock, at), has_come, "{at}");
        }
        set(&moved, 1900, 10 * DAY);
        assert_eq!((ahead.look(&clock), ahead.has_come(&clock, there)), (Some(Turn::Believed), true));
    }

    const FILES: [(&str, &str); 2] = [
        ("meridian.toml", ""),
        (
            "zones/example.com.toml",
            "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
             [pool.web]\nendpoints = [\"192.0.2.10\", \"192.0.2.11\", \"192.0.2.12\"]\n[steer.www]\nuse = \"web\"\n",
        ),
    ];

    fn overlay(id: u64, endpoint: u8, state: Forced) -> Overlay {
        let target = format!("example.com/web/192.0.2.{endpoint}");
        Overlay { created: START, began: Some(START), expires: Some(START + 8 * 3600), ..Overlay::of(id, target, Setting::State(state)) }
    }

    /// One in force that expires in eight hours, and one that begins tomorrow.
    fn saved() -> Saved {
        let planned =
            Overlay { began: None, starts: Some(START + DAY as u64), expires: Some(START + 20 * DAY as u64), ..overlay(2, 11, Forced::Down) };
        Saved {
            overlays: vec![overlay(1, 10, Forced::Drain), planned],
            next_overlay_id: 3,
            clock: Some(SavedClock { seen: START, unproven: 0 }),
            ..Saved::default()
        }
    }

    /// The writer a second later; ids of overlays, those that have begun, and those that are drained.
    fn ticked(driven: &mut Driven, now: u64, ahead: i64) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
        driven.set(Duration::from_secs(now));
        driven.set_clock(ahead);
        driven.tick();
        driven.publish();
        let overlays = driven.status().overlays;
        let ids = |which: &dyn Fn(&Overlay) -> bool| overlays.iter().filter(|one| which(one)).map(|one| one.id).collect();
        let is_drained = |one: &Overlay| one.withdrawal.as_ref().is_some_and(|one| one.state == "drained");
        (ids(&|_| true), ids(&|one| one.is_begun()), ids(&is_drained))
    }

    fn trouble(driven: &Driven) -> Option<String> {
        driven.status().degraded.into_iter().find(|why| why.contains("this machine's clock"))
    }

    #[test]
    fn nothing_ends_or_begins_by_a_clock_that_was_set_ahead_and_all_of_it_does_once_it_is_believed() {
        for is_start in [false, true] {
            let mut driven = Driven::start_with(&FILES, saved(), if is_start { 10 * DAY } else { 0 });
            if !is_start {
                assert_eq!(ticked(&mut driven, 1, 0), (vec![1, 2], vec![1], vec![]));
                assert_eq!(trouble(&driven), None);
            }
            // For how long it has to be withdrawn is not known by this clock either.
            for now in [2, 3, 60, 890] {
                let (there, begun, drained) = ticked(&mut driven, now, 10 * DAY);
                assert_eq!((there, begun), (vec![1, 2], vec![1]), "{now}");
                assert_eq!(drained, if now < 200 { vec![] } else { vec![1] }, "{now}: in truth");
            }
            let why = trouble(&driven).expect("told");
            let words =
                if is_start { "at the start this machine's clock was 10 days ahead" } else { "this machine's clock was set 10 days ahead: it reads" };
            assert!(why.contains(words) && why.contains("GMT by this clock") && why.contains("set it right"), "{why}");
            let (there, begun, _) = ticked(&mut driven, 902, 10 * DAY);
            assert_eq!((there, begun, trouble(&driven)), (vec![2], vec![2], None), "it was set for good");
        }
    }

    #[test]
    fn a_clock_that_is_set_right_leaves_no_trace() {
        let mut driven = Driven::start_with(&FILES, saved(), 0);
        ticked(&mut driven, 1, 0);
        for ahead in [130 * DAY, 0, 400 * DAY, -2 * DAY, 0, DAY, 0] {
            assert_eq!(ticked(&mut driven, 2, ahead).1, [1], "{ahead}");
        }
        assert_eq!(trouble(&driven), None);
        // Its time comes as it would have.
        assert_eq!(ticked(&mut driven, 8 * 3600 - 1, 0).0, [1, 2]);
        assert_eq!(ticked(&mut driven, 8 * 3600, 0).0, [2]);
    }

    #[test]
    fn what_was_counted_by_a_clock_that_was_ahead_counts_as_of_now() {
        let limited = format!("{}[safety]\nmax_changes = {{ count = 2, per = \"10m\" }}\n", FILES[1].1);
        let files = [FILES[0], (FILES[1].0, limited.as_str())];
        // Simulations have no disk: what the rules let through is refused for that.
        let is_forbidden = |driven: &mut Driven, endpoint: u8| {
            let target = format!("example.com/web/192.0.2.{endpoint}");
            match driven.lay(NewOverlay::of(target, Setting::State(Forced::Drain), "a test")) {
                Err(Refusal::Safety { broken }) => broken.iter().any(|rule| rule.rule.ends_with("max_changes")),
                Err(Refusal::Store { .. }) => false,
                other => panic!("{other:?}"),
            }
        };
        for is_start in [false, true] {
            let there = START + DAY as u64;
            let withdrawals = std::collections::BTreeMap::from([("example.com.".to_owned(), vec![there; if is_start { 2 } else { 0 }])]);
            let mut driven = Driven::start_with(&files, Saved { withdrawals, ..Saved::default() }, if is_start { 0 } else { DAY });
            if !is_start {
                assert_eq!([10, 11, 12].map(|endpoint| is_forbidden(&mut driven, endpoint)), [false, false, true]);
            }
            ticked(&mut driven, 60, 0);
            assert!(is_forbidden(&mut driven, 12), "they were made not long ago");
            ticked(&mut driven, 661, 0);
            assert!(!is_forbidden(&mut driven, 12), "but not tomorrow");
        }
    }

    #[test]
    fn a_way_goes_on_from_where_it_is_by_any_clock() {
        let mut laid = overlay(1, 10, Forced::Drain);
        laid.ramp = Some(crate::control::api::Ramp { over: 1000, began: Some(START), ..Default::default() });
        let saved = Saved { overlays: vec![laid], next_overlay_id: 2, clock: Some(SavedClock { seen: START, unproven: 0 }), ..Saved::default() };
        let mut driven = Driven::start_with(&FILES, saved, 0);
        let percent = |driven: &mut Driven, now: u64, ahead: i64| {
            ticked(driven, now, ahead);
            driven.status().overlays[0].progress.as_ref().map(|way| way.percent)
        };
        for (now, ahead, expected) in
            [(1, 0, 0), (100, 0, 10), (101, 5 * DAY, 10), (201, 5 * DAY, 20), (202, 0, 20), (302, -DAY, 20), (402, -DAY, 30)]
        {
            assert_eq!(percent(&mut driven, now, ahead), Some(expected), "{now} {ahead}");
        }
    }
}
