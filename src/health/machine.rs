//! The state machine of one check. It owns the counting of results; it knows no sockets, no clock and no endpoint.
//!
//! Time is an argument: a `Duration` since any fixed moment (process start, say), the same one for the whole life of a machine.
//!
//! Two things keep it from moving. A failure that may be ours ([`Around::doubted`]) takes nothing down; who asks to be left alone is obeyed all the same. And a check that fell often in a short time is
//! believed late: each fall adds [`FALL_PENALTY`], which halves every [`HALF_LIFE`]; from [`SUPPRESS_AT`] on it stays down until the penalty has shrunk
//! below [`REUSE_BELOW`], unless nothing better is left ([`Around::needed`]). The form is that of RFC 2439, the numbers are our own: nothing here hunts for
//! paths, so fewer falls mean more (RFC 7196 raises BGP's for that reason).
//!
//! A check that goes wrong now and then never fails `fall` times in a row, yet hurts users. So every fault (a stretch of failures that a success
//! ends) is charged as one credit, [`LEAK_SUCCESSES`] successes pay one back, and the fault that makes it [`CREDIT_LIMIT`] takes the check down
//! at its first failure.

use std::time::Duration;

use super::{Failure, Outcome, State, Thresholds};

/// How long a check that came back ramps, unless the machine is told otherwise: most of the resolvers that hold a 30 s answer have asked again four times.
pub const RAMP: Duration = Duration::from_secs(120);

/// A ramp starts with this share of the weight: enough to see real traffic, too little to hurt.
pub const RAMP_FLOOR: f64 = 0.1;

/// Faults on credit that take a check down though it never failed `fall` times in a row. With one credit paid back by
/// [`LEAK_SUCCESSES`] successes, more than one fault in eleven checks ends down, fewer never do (but for bad luck).
pub const CREDIT_LIMIT: u8 = 6;

/// Successes, in a row or not, that pay back one credit.
pub const LEAK_SUCCESSES: u8 = 10;

/// What a fall adds to the penalty.
pub const FALL_PENALTY: u32 = 1000;

/// The penalty halves in this time.
pub const HALF_LIFE: Duration = Duration::from_secs(300);

/// From here on a check that came back is kept down.
pub const SUPPRESS_AT: u32 = 2000;

/// Below this it may come back.
pub const REUSE_BELOW: u32 = 800;

/// The penalty grows no higher: nothing is kept down for more than twenty minutes after its last fall.
pub const MAX_PENALTY: u32 = 12_800;

/// What is known beside the result itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// A failure may be this machine's own, or its network's.
    pub doubted: bool,
    /// Of that nothing more is known than that no reference has answered since it began to fail; when they were asked last, one did. That is every
    /// first failure, so it holds up no fall on credit: the five faults before speak as well.
    pub unproven: bool,
    /// Something that uses the check has too little without it.
    pub needed: bool,
    /// It is handed out although it is down: there is nothing to warm up.
    pub served: bool,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After; never the same as before.
    pub to: State,
}

/// What is left of a penalty after so long.
fn decayed(penalty: u32, age: Duration) -> u32 {
    (f64::from(penalty) * (-(age.as_secs_f64() / HALF_LIFE.as_secs_f64())).exp2()) as u32
}

/// When the check after one that began at `started` and took `took` begins: intervals run from start to start, and a check never overtakes itself.
pub fn next_start(started: Duration, took: Duration, delay: Duration) -> Duration {
    started + delay.max(took)
}

/// The state of one check, and what it needs to move on.
///
/// ```text
///            first_pass        falter            fall          rise          settle
///   UNKNOWN ───────────▶ UP ──────────▶ SUSPECT ─────▶ DOWN ─────────▶ RAMP ────────▶ UP
///      │                  ◀── recover ──│  ▲  │                        ▲ │
///      │                                   │  └──────── recover ───────┘ │
///      └─ first_fail ─▶ DOWN               └──────────── falter ─────────┘
///
///   UP, RAMP ─ fall ─▶ DOWN where one failure is enough; DOWN ─ rise ─▶ UP where there is no ramp
///   Doubted, `fall` is `falter` and `first_fail` leaves it UNKNOWN, but for faults on credit where it is merely unproven. Suppressed and not needed, `rise` waits.
///   Where nobody asks again, [`reconsider`](Machine::reconsider) makes up for both.
///
///   state     result  when                                       arrow       to
///   UNKNOWN   pass    always                                     first_pass  UP, without a ramp
///   UNKNOWN   fail    always                                     first_fail  DOWN
///   UP, RAMP  pass    always                                     –           same; pays credit back
///   UP, RAMP  fail    fall = 1, or it is fault CREDIT_LIMIT      fall        DOWN
///   UP, RAMP  fail    else                                       falter      SUSPECT
///   SUSPECT   pass    a ramp was running and is not over         recover     RAMP, where the ramp is by now
///   SUSPECT   pass    else                                       recover     UP
///   SUSPECT   fail    it is the fall-th in a row                 fall        DOWN
///   SUSPECT   fail    else                                       –           SUSPECT
///   DOWN      pass    it is the rise-th in a row, ramp > 0       rise        RAMP
///   DOWN      pass    it is the rise-th in a row, no ramp, or    rise        UP
///                     it was served all the while
///   DOWN      pass    else                                       –           DOWN
///   DOWN      fail    always                                     –           DOWN; successes are counted from 0 again
///   RAMP      –       the ramp time is over                      settle      UP
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    state: State,
    /// When `state` was entered.
    since: Duration,
    /// Failures in a row while suspect, or unknown and not believed; successes in a row while down; else 0.
    run: u8,
    /// Faults not yet paid back, below `CREDIT_LIMIT`.
    credit: u8,
    /// Successes since the last credit was paid back, below `LEAK_SUCCESSES`.
    paid: u8,
    /// How long this check ramps; zero means not at all.
    ramp: Duration,
    /// When the running ramp began; survives SUSPECT, so that a stumble while ramping does not end in full weight.
    ramp_began: Option<Duration>,
    /// It is down because it fell, not because its first check failed.
    fell: bool,
    /// The same, and not for failures in a row, but for faults on credit.
    for_faults: bool,
    /// As it was at `penalised`.
    penalty: u32,
    /// When it fell last.
    penalised: Duration,
    /// It has to shrink before the check may come back.
    suppressed: bool,
}

impl Machine {
    /// A check that has not run yet.
    pub fn new(now: Duration) -> Machine {
        Machine {
            state: State::Unknown,
            since: now,
            run: 0,
            credit: 0,
            paid: 0,
            ramp: RAMP,
            ramp_began: None,
            fell: false,
            for_faults: false,
            penalty: 0,
            penalised: now,
            suppressed: false,
        }
    }

    /// A check whose verdict was kept from an earlier run. A ramp is not taken up again: there is none at process start.
    pub fn restored(state: State, since: Duration) -> Machine {
        let state = if matches!(state, State::Ramp | State::Degraded) { State::Up } else { state };
        let run = u8::from(state == State::Suspect);
        Machine { state, run, ..Machine::new(since) }
    }

    /// What its falls came to at the last of them, and when that was; nothing where it has not fallen.
    pub fn last_fall(&self) -> Option<(u32, Duration)> {
        (self.penalty > 0).then_some((self.penalty, self.penalised))
    }

    /// Takes over what falls of an earlier run came to at the last of them, `age` ago.
    pub fn restore_penalty(&mut self, penalty: u32, age: Duration, now: Duration) {
        self.suppressed = self.state == State::Down && penalty >= SUPPRESS_AT;
        self.penalty = decayed(penalty.min(MAX_PENALTY), age);
        self.penalised = now;
    }

    /// Takes over how many results of an earlier run came in a row.
    pub fn restore_run(&mut self, run: u8) {
        self.run = run;
    }

    /// Results in a row that have not led to another state.
    pub fn run(&self) -> u8 {
        self.run
    }

    /// Gives it its own ramp time; zero for none.
    pub fn set_ramp(&mut self, ramp: Duration) {
        self.ramp = ramp;
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it came there.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Share of the weight that it may have now: 1 unless a ramp is running, then `RAMP_FLOOR` to 1.
    pub fn ramp_share(&self, now: Duration) -> f64 {
        match self.ramp_began {
            Some(began) if now < began + self.ramp => (now.saturating_sub(began).as_secs_f64() / self.ramp.as_secs_f64()).max(RAMP_FLOOR),
            _ => 1.0,
        }
    }

    /// When the running ramp is over and [`tick`](Machine::tick) has something to do.
    pub fn ramp_ends(&self) -> Option<Duration> {
        self.ramp_began.map(|began| began + self.ramp)
    }

    /// Faults that are not paid back yet; [`CREDIT_LIMIT`] of them take it down.
    pub fn credit(&self) -> u8 {
        self.credit
    }

    /// It is down for faults on credit, not for failures in a row.
    pub fn fell_for_faults(&self) -> bool {
        self.state == State::Down && self.for_faults
    }

    /// What its falls come to by now.
    pub fn penalty(&self, now: Duration) -> u32 {
        decayed(self.penalty, now.saturating_sub(self.penalised))
    }

    /// Until when it is kept down however its checks go, if it is.
    pub fn suppressed_until(&self, now: Duration) -> Option<Duration> {
        let halvings = (f64::from(self.penalty) / f64::from(REUSE_BELOW)).log2();
        let until = self.penalised + HALF_LIFE.mul_f64(halvings.max(0.0));
        (self.suppressed && self.state == State::Down && until > now).then_some(until)
    }

    /// It would be back but for its penalty.
    pub fn waits_for_its_penalty(&self, thresholds: &Thresholds, now: Duration) -> bool {
        self.run >= thresholds.rise && self.suppressed_until(now).is_some()
    }

    /// A pass brings it back, unless its penalty is against it.
    pub fn is_about_to_rise(&self, thresholds: &Thresholds) -> bool {
        self.state == State::Down && self.run + 1 >= thresholds.rise
    }

    /// When it began to fail, or to be unknown, and it still does.
    pub fn failing_since(&self) -> Option<Duration> {
        matches!(self.state, State::Suspect | State::Unknown).then_some(self.since)
    }

    /// Takes back a fall that turned out to be doubtful: suspect again, as if it had not fallen.
    pub fn reprieve(&mut self, now: Duration) -> Option<Transition> {
        let from = self.state;
        if from == State::Down && self.fell {
            self.falter(now);
            self.penalty = self.penalty.saturating_sub(FALL_PENALTY);
            self.suppressed &= self.penalty >= SUPPRESS_AT;
        }
        self.changed(from)
    }

    /// From the start of the last check to the start of the next. Fast only where it shortens an outage: while suspect, and as long as nothing is
    /// known. Coming back is not hurried.
    pub fn next_delay(&self, thresholds: &Thresholds) -> Duration {
        match self.state {
            State::Unknown | State::Suspect => thresholds.fast.min(thresholds.interval),
            State::Up | State::Down | State::Ramp | State::Degraded => thresholds.interval,
        }
    }

    /// Takes the outcome of a check; a failure of our own says nothing of the endpoint and changes nothing but the passing of a ramp.
    pub fn observe(&mut self, thresholds: &Thresholds, outcome: &Outcome, around: Around, now: Duration) -> Option<Transition> {
        match outcome {
            Ok(()) => self.step(thresholds, true, around, now),
            Err(failure) if failure.is_no_verdict() => self.tick(now),
            Err(Failure::Draining) => self.leave(now),
            Err(_) => self.step(thresholds, false, around, now),
        }
    }

    /// Takes one result.
    pub fn step(&mut self, thresholds: &Thresholds, passed: bool, around: Around, now: Duration) -> Option<Transition> {
        let from = self.state;
        self.settle(now);
        match (self.state, passed) {
            (State::Unknown, true) => self.first_pass(now),
            (State::Unknown, false) if around.doubted => self.run = self.run.saturating_add(1),
            (State::Unknown, false) => self.first_fail(now),
            (State::Up | State::Ramp | State::Degraded, true) => self.pay_back(),
            (State::Up | State::Ramp | State::Degraded, false) => {
                self.run = 1;
                self.credit = (self.credit + 1).min(CREDIT_LIMIT);
                if self.is_to_fall(thresholds, around) {
                    self.fall(thresholds, now);
                } else {
                    self.falter(now);
                }
            }
            (State::Suspect, true) => self.recover(now),
            (State::Suspect, false) => {
                self.run = self.run.saturating_add(1);
                if self.is_to_fall(thresholds, around) {
                    self.fall(thresholds, now);
                }
            }
            (State::Down, true) => {
                self.run = self.run.saturating_add(1);
                if self.may_rise(thresholds, around, now) {
                    self.rise(around.served, now);
                }
            }
            (State::Down, false) => self.run = 0,
        }
        self.changed(from)
    }

    /// What was heard last is not obeyed: it was not believed, or its penalty is against it.
    pub fn is_waiting(&self, thresholds: &Thresholds) -> bool {
        self.run
            >= match self.state {
                State::Unknown => 1,
                State::Suspect => thresholds.fall.max(1),
                State::Down => thresholds.rise.max(1),
                State::Up | State::Ramp | State::Degraded => return false,
            }
    }

    /// Judges what was heard last once more, without counting it again: for those that nobody asks again.
    pub fn reconsider(&mut self, thresholds: &Thresholds, around: Around, now: Duration) -> Option<Transition> {
        let from = self.state;
        match from {
            _ if !self.is_waiting(thresholds) => {}
            State::Unknown if !around.doubted => self.first_fail(now),
            State::Suspect if !around.doubted => self.fall(thresholds, now),
            State::Down if self.may_rise(thresholds, around, now) => self.rise(around.served, now),
            _ => {}
        }
        self.changed(from)
    }

    fn may_rise(&self, thresholds: &Thresholds, around: Around, now: Duration) -> bool {
        self.run >= thresholds.rise && (around.needed || self.suppressed_until(now).is_none())
    }

    /// Whether the failure that was counted last takes it down.
    fn is_to_fall(&self, thresholds: &Thresholds, around: Around) -> bool {
        let by_credit = self.credit >= CREDIT_LIMIT && (!around.doubted || around.unproven);
        by_credit || self.run >= thresholds.fall && !around.doubted
    }

    /// It wants no new traffic, though nothing is wrong with it: down at once, whatever is doubted, for it says so itself; and nothing is held against it.
    fn leave(&mut self, now: Duration) -> Option<Transition> {
        let from = self.state;
        self.settle(now);
        match from {
            State::Down => self.run = 0,
            _ => self.enter(State::Down, now),
        }
        (self.fell, self.for_faults, self.ramp_began) = (false, false, None);
        self.changed(from)
    }

    /// As if nothing had ever been known, but for how long it ramps.
    pub fn forget(&mut self, now: Duration) -> Option<Transition> {
        let from = self.state;
        *self = Machine { ramp: self.ramp, ..Machine::new(now) };
        self.changed(from)
    }

    /// Lets time pass: a ramp that is over ends. Call it at [`ramp_ends`](Machine::ramp_ends) or as often as you like.
    pub fn tick(&mut self, now: Duration) -> Option<Transition> {
        let from = self.state;
        self.settle(now);
        self.changed(from)
    }

    fn first_pass(&mut self, now: Duration) {
        self.enter(State::Up, now);
    }

    fn first_fail(&mut self, now: Duration) {
        self.enter(State::Down, now);
        (self.fell, self.for_faults) = (false, false);
    }

    fn falter(&mut self, now: Duration) {
        self.enter(State::Suspect, now);
        self.run = 1;
    }

    fn recover(&mut self, now: Duration) {
        self.enter(if self.ramp_began.is_some() { State::Ramp } else { State::Up }, now);
        self.pay_back();
    }

    fn fall(&mut self, thresholds: &Thresholds, now: Duration) {
        self.for_faults = self.run < thresholds.fall;
        self.enter(State::Down, now);
        self.fell = true;
        self.credit = 0;
        self.paid = 0;
        self.ramp_began = None;
        self.penalty = (self.penalty(now) + FALL_PENALTY).min(MAX_PENALTY);
        self.penalised = now;
        self.suppressed |= self.penalty >= SUPPRESS_AT;
    }

    fn rise(&mut self, served: bool, now: Duration) {
        self.suppressed = false;
        if served || self.ramp.is_zero() {
            self.enter(State::Up, now);
        } else {
            self.enter(State::Ramp, now);
            self.ramp_began = Some(now);
        }
    }

    fn settle(&mut self, now: Duration) {
        if self.ramp_ends().is_some_and(|end| now >= end) {
            self.ramp_began = None;
            if self.state == State::Ramp {
                self.enter(State::Up, now);
            }
        }
    }

    fn enter(&mut self, state: State, now: Duration) {
        self.state = state;
        self.since = now;
        self.run = 0;
    }

    /// Counts a success towards the credit.
    fn pay_back(&mut self) {
        if self.credit == 0 {
            return;
        }
        self.paid += 1;
        if self.paid == LEAK_SUCCESSES {
            self.paid = 0;
            self.credit -= 1;
        }
    }

    fn changed(&self, from: State) -> Option<Transition> {
        (self.state != from).then_some(Transition { from, to: self.state })
    }
}

#[cfg(test)]
mod tests;
