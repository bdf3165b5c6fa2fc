//! One timer per connection of a thread: a wheel of lists, so that setting, moving and dropping one costs the same however many there are.
//!
//! A timer may ring before it is due (the wheel is shorter than the longest deadline, and a deadline that moves away leaves its timer where it is):
//! whoever is called looks at the real deadline and sets it again. It never rings later than a tick after it was due, which is what makes moving
//! deadlines free: each answer of a busy connection postpones one.

/// Nanoseconds between two looks. Deadlines are tenths of a second and more.
const TICK_NS: u64 = 10_000_000;

/// Ticks once round, about 10 s: the usual idle time.
const TICKS: usize = 1024;

/// No connection.
const NONE: u32 = u32::MAX;

/// Not set.
const UNSET: u64 = u64::MAX;

/// The place of one connection in its list.
#[derive(Clone, Copy, Debug)]
struct Node {
    previous: u32,
    next: u32,
    /// When it rings, in ticks since the start.
    tick: u64,
}

/// The timers of one thread, by the number of the connection.
#[derive(Debug)]
pub(super) struct Timers {
    /// The first of each list.
    heads: Box<[u32]>,
    nodes: Vec<Node>,
    /// The last tick that rang.
    now: u64,
    /// Not later than the earliest timer.
    earliest: u64,
}

impl Timers {
    pub(super) fn new() -> Timers {
        Timers { heads: vec![NONE; TICKS].into(), nodes: Vec::new(), now: 0, earliest: UNSET }
    }

    /// Has the timer of connection `at` ring at `due_ns` or before.
    #[inline]
    pub(super) fn set(&mut self, at: u32, due_ns: u64) {
        let tick = due_ns.div_ceil(TICK_NS).clamp(self.now + 1, self.now + TICKS as u64 - 1);
        if self.nodes.get(at as usize).is_some_and(|node| node.tick <= tick) {
            return;
        }
        self.link(at, tick);
    }

    fn link(&mut self, at: u32, tick: u64) {
        self.clear(at);
        if self.nodes.len() <= at as usize {
            self.nodes.resize(at as usize + 1, Node { previous: NONE, next: NONE, tick: UNSET });
        }
        let head = std::mem::replace(&mut self.heads[tick as usize % TICKS], at);
        self.nodes[at as usize] = Node { previous: NONE, next: head, tick };
        if let Some(second) = self.nodes.get_mut(head as usize) {
            second.previous = at;
        }
        self.earliest = self.earliest.min(tick);
    }

    /// It rings no more.
    pub(super) fn clear(&mut self, at: u32) {
        let Some(node) = self.nodes.get_mut(at as usize).filter(|node| node.tick != UNSET) else { return };
        let Node { previous, next, tick } = *node;
        node.tick = UNSET;
        match self.nodes.get_mut(previous as usize) {
            Some(before) => before.next = next,
            None => self.heads[tick as usize % TICKS] = next,
        }
        if let Some(behind) = self.nodes.get_mut(next as usize) {
            behind.previous = previous;
        }
    }

    /// Moves the time on and puts into `due` whose timers ring. They are not set any more.
    pub(super) fn ring(&mut self, now_ns: u64, due: &mut Vec<u32>) {
        let now = now_ns / TICK_NS;
        if now < self.earliest {
            // Nothing to visit on the way, and nothing is set beyond one round of the earliest.
            self.now = self.now.max(now);
            return;
        }
        let last = now.min(self.now + TICKS as u64 - 1);
        for tick in self.earliest.max(self.now + 1)..=last {
            let mut at = std::mem::replace(&mut self.heads[tick as usize % TICKS], NONE);
            while let Some(node) = self.nodes.get_mut(at as usize) {
                due.push(at);
                node.tick = UNSET;
                at = node.next;
            }
        }
        self.now = now;
        self.earliest = self.first_from(now + 1);
    }

    fn first_from(&self, tick: u64) -> u64 {
        (tick..tick + TICKS as u64).find(|tick| self.heads[*tick as usize % TICKS] != NONE).unwrap_or(UNSET)
    }

    /// When the next timer may ring.
    pub(super) fn next_ns(&self) -> Option<u64> {
        (self.earliest != UNSET).then(|| self.earliest * TICK_NS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::answer::Dice;

    const SECOND: u64 = 1_000_000_000;

    fn rung(timers: &mut Timers, now_ns: u64) -> Vec<u32> {
        let mut due = Vec::new();
        timers.ring(now_ns, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn timers_ring_in_their_tick_and_once() {
        let mut timers = Timers::new();
        assert_eq!(timers.next_ns(), None);
        for (at, due) in [(0, SECOND), (1, SECOND), (2, SECOND / 2), (7, 2 * SECOND), (3, SECOND)] {
            timers.set(at, due);
        }
        timers.clear(1);
        assert_eq!(timers.next_ns(), Some(SECOND / 2));
        assert!(rung(&mut timers, SECOND / 2 - 1).is_empty());
        assert_eq!(rung(&mut timers, SECOND / 2), [2]);
        assert_eq!(rung(&mut timers, SECOND), [0, 3]);
        assert!(rung(&mut timers, SECOND).is_empty());
        // Later than it is set: stays. Earlier: moves.
        timers.set(7, 3 * SECOND);
        timers.set(0, 3 * SECOND);
        timers.set(0, SECOND + 1);
        assert_eq!(timers.next_ns(), Some(SECOND + TICK_NS));
        assert_eq!(rung(&mut timers, 2 * SECOND), [0, 7]);
        assert_eq!(timers.next_ns(), None);
        // Already past: with the next tick.
        timers.set(5, SECOND);
        assert_eq!(rung(&mut timers, 2 * SECOND + TICK_NS), [5]);
        // Beyond the wheel: before it is due.
        timers.set(5, 3600 * SECOND);
        assert!(rung(&mut timers, 12 * SECOND + TICK_NS).is_empty());
        assert_eq!(rung(&mut timers, 13 * SECOND), [5]);
    }

    #[test]
    fn any_order_of_calls_loses_no_timer() {
        let mut dice = Dice::new(0, 0x5eed);
        let (mut timers, mut model, mut now) = (Timers::new(), BTreeMap::new(), 0);
        for _ in 0..200_000 {
            let at = (dice.roll() % 50) as u32;
            match dice.roll() % 8 {
                0 => {
                    timers.clear(at);
                    model.remove(&at);
                }
                1 => {
                    now += dice.roll() % [2 * TICK_NS, SECOND, 25 * SECOND][(dice.roll() % 3) as usize];
                    for at in rung(&mut timers, now) {
                        assert!(model.remove(&at).is_some(), "{at} was not set");
                    }
                    let late = model.iter().find(|(_, due)| **due + TICK_NS <= now);
                    assert_eq!(late, None, "at {now}");
                }
                _ => {
                    let due = now + dice.roll() % (12 * SECOND);
                    timers.set(at, due);
                    model.entry(at).and_modify(|before| *before = due.min(*before)).or_insert(due);
                }
            }
        }
    }
}
