//! Which prefixes ask the most: the list that the kernel's filter is made from.
//!
//! Counting is Space-Saving in small sets (Metwally, Agrawal, El Abbadi, ICDT 2005), without inheriting the count of whoever is pushed out: a prefix is
//! never thought to ask more than it did. Every [`TICK`] the counts fade; what is left stands for the last [`MEMORY_TICKS`] of them.
//!
//! ```text
//!                 overload, and far over the limit
//!   counted ─────────────────────────────────────────▶ blocked: the kernel lets 1 in SAMPLE through, and those are counted
//!      ▲                                                  │
//!      └──────── below the limit, or quiet ───────────────┘
//! ```

use super::Client;

/// How often the tally is looked at, in nanoseconds.
pub(in crate::serve) const TICK: u64 = 25_000_000;

/// Ticks that a score stands for: 200 ms.
const MEMORY_TICKS: u64 = 8;

/// Ticks without a single query after which a blocked prefix is let in again, whatever its score: 200 ms.
const QUIET_TICKS: u8 = 8;

/// One in so many queries of a blocked prefix comes through, to show that it still floods. A power of two.
pub(in crate::serve) const SAMPLE: u32 = 64;

/// Prefixes that can be blocked at once. The filter is searched in eight steps.
pub(in crate::serve) const MAX_BLOCKED: usize = 256;

/// Prefixes counted at once, and places that each can have. A prefix that sends one in 500 queries is as good as never pushed out.
const PLACES: usize = 2048;
const WAYS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Entry {
    client: Client,
    seen: u32,
    /// Queries of the last ticks, faded.
    score: u32,
    blocked: bool,
    quiet: u8,
}

/// How much of what was sent is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Load {
    /// Receive buffers are filling.
    pub(in crate::serve) overloaded: bool,
    /// Datagrams sent to us for each that reached us, at least 1.
    pub(in crate::serve) scale: u32,
}

/// The tally of one thread.
#[derive(Debug)]
pub(super) struct Tally {
    entries: Box<[Entry]>,
    blocked: usize,
    /// Queries of blocked prefixes that came through in the last ticks.
    sampled: u32,
    /// Queries per second.
    limit: u64,
}

impl Tally {
    pub(super) fn new(limit: u32) -> Tally {
        let free = Entry { client: Client { bits: 0, v6: false }, seen: 0, score: 0, blocked: false, quiet: 0 };
        Tally { entries: vec![free; PLACES].into(), blocked: 0, sampled: 0, limit: u64::from(limit) }
    }

    /// Counts one query; true when its client is blocked. `hash` is any hash of the client that it cannot choose.
    #[inline]
    pub(super) fn seen(&mut self, client: Client, hash: u64) -> bool {
        let from = hash as usize % (PLACES / WAYS) * WAYS;
        let Some(places) = self.entries.get_mut(from..from + WAYS) else { return false };
        if let Some(entry) = places.iter_mut().find(|entry| entry.client == client && entry.seen + entry.score > 0) {
            entry.seen += 1;
            return entry.blocked;
        }
        if let Some(entry) = places.iter_mut().filter(|entry| !entry.blocked).min_by_key(|entry| entry.seen + entry.score) {
            *entry = Entry { client, seen: 1, score: 0, blocked: false, quiet: 0 };
        }
        false
    }

    /// Ends `ticks` ticks; true when the list of the blocked is another. `spare` says who is never blocked.
    pub(super) fn tick(&mut self, ticks: u64, load: Load, spare: impl Fn(Client) -> bool) -> bool {
        let mut changed = false;
        self.sampled = 0;
        let needed = needed(self.limit, load.scale);
        for entry in &mut self.entries {
            let seen = std::mem::take(&mut entry.seen);
            for _ in 0..ticks.min(4 * MEMORY_TICKS) {
                entry.score -= entry.score.div_ceil(MEMORY_TICKS as u32);
            }
            entry.score = entry.score.saturating_add(seen);
            if entry.blocked {
                self.sampled += seen;
                entry.quiet = if seen == 0 { entry.quiet.saturating_add(ticks.min(255) as u8) } else { 0 };
                let per_second = u64::from(entry.score) * u64::from(SAMPLE) * u64::from(load.scale) * 1_000_000_000 / (MEMORY_TICKS * TICK);
                if entry.quiet >= QUIET_TICKS || per_second < self.limit {
                    entry.blocked = false;
                    // What was let through says little about what comes now.
                    entry.score = 0;
                    self.blocked -= 1;
                    changed = true;
                }
            } else if load.overloaded && u64::from(entry.score) > needed && self.blocked < MAX_BLOCKED && !spare(entry.client) {
                *entry = Entry { blocked: true, quiet: 0, score: entry.score.div_ceil(SAMPLE), ..*entry };
                self.blocked += 1;
                changed = true;
            }
        }
        changed
    }

    /// Datagrams that the filter dropped in the last ticks, about: each that came through stands for the others of its sample.
    pub(super) fn filtered(&self) -> u64 {
        u64::from(self.sampled) * u64::from(SAMPLE - 1)
    }

    /// Who is blocked.
    pub(super) fn blocked(&self) -> impl Iterator<Item = Client> {
        self.entries.iter().filter(|entry| entry.blocked).map(|entry| entry.client)
    }
}

/// The score that shows a rate of more than twice the limit, beyond what chance does: the mean and four deviations of a Poisson process, and some more
/// where so few are seen that this says little.
fn needed(limit: u64, scale: u32) -> u64 {
    let mean = 2 * limit * MEMORY_TICKS * TICK / 1_000_000_000 / u64::from(scale.max(1));
    mean + 4 * mean.isqrt() + 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Load = Load { overloaded: false, scale: 1 };

    fn client(number: u64) -> Client {
        Client { bits: number << 8, v6: number.is_multiple_of(2) }
    }

    fn hash(number: u64) -> u64 {
        (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
    }

    /// One tick in which each client sends so many per second as `rates` says, of which one in `load.scale` is seen.
    fn tick(tally: &mut Tally, rates: &[(u64, u64)], load: Load) -> bool {
        let blocked: Vec<Client> = tally.blocked().collect();
        for (number, per_second) in rates {
            let share = if blocked.contains(&client(*number)) { u64::from(SAMPLE) } else { 1 };
            for _ in 0..per_second * TICK / 1_000_000_000 / u64::from(load.scale) / share {
                tally.seen(client(*number), hash(*number));
            }
        }
        tally.tick(1, load, |spared| spared == client(77))
    }

    #[test]
    fn who_is_far_over_is_blocked_under_overload_only() {
        // per second, load, ticks → blocked; the limit is 1,000
        let overload = |scale| Load { overloaded: true, scale };
        for (per_second, load, ticks, expected) in [
            (100_000, CALM, 20, false),
            (100_000, overload(1), 2, true),
            (100_000, overload(10), 2, true),
            (4_000, overload(1), 20, true),
            (8_000, overload(10), 20, true),
            (1_000, overload(1), 100, false),
            (1_900, overload(10), 100, false),
            (400, overload(10), 100, false),
        ] {
            let mut tally = Tally::new(1000);
            let found = (0..ticks).any(|_| tick(&mut tally, &[(1, per_second)], load));
            assert_eq!(found, expected, "{per_second}/s, {load:?}");
            assert_eq!(tally.blocked().count(), usize::from(expected));
        }
    }

    #[test]
    fn a_blocked_prefix_stays_while_it_floods_and_is_free_soon_after() {
        let mut tally = Tally::new(1000);
        let overload = Load { overloaded: true, scale: 10 };
        for _ in 0..4 {
            tick(&mut tally, &[(1, 200_000), (2, 900)], overload);
        }
        assert_eq!(tally.blocked().collect::<Vec<_>>(), [client(1)]);
        // The filter works: no overload any more, one in SAMPLE comes through.
        (0..400).for_each(|_| assert!(!tick(&mut tally, &[(1, 200_000), (2, 900)], CALM)));
        let mut ticks = 0;
        while tally.blocked().count() > 0 {
            tick(&mut tally, &[(2, 900)], CALM);
            ticks += 1;
        }
        assert!(ticks * TICK <= 250_000_000, "{ticks} ticks");
        // A pause of the thread counts as quiet, too.
        for _ in 0..4 {
            tick(&mut tally, &[(1, 200_000)], overload);
        }
        assert!(tally.tick(20, CALM, |_| false));
        assert_eq!(tally.blocked().count(), 0);
    }

    #[test]
    fn the_exempt_are_spared_and_the_list_is_bounded() {
        let mut tally = Tally::new(10);
        let all: Vec<(u64, u64)> = (0..1000).map(|number| (number, 10_000)).collect();
        for _ in 0..20 {
            tick(&mut tally, &all, Load { overloaded: true, scale: 1 });
        }
        assert_eq!(tally.blocked().count(), MAX_BLOCKED);
        assert!(!tally.blocked().any(|blocked| blocked == client(77)));
    }

    #[test]
    fn random_sources_do_not_hide_a_flooder_and_are_not_blocked() {
        let mut tally = Tally::new(1000);
        let overload = Load { overloaded: true, scale: 1 };
        for round in 0..8 {
            for n in 0..20_000u64 {
                let random = 1_000 + round * 20_000 + n;
                tally.seen(client(random), hash(random));
                if n % 100 == 0 {
                    tally.seen(client(5), hash(5));
                }
            }
            tally.tick(1, overload, |_| false);
        }
        assert_eq!(tally.blocked().collect::<Vec<_>>(), [client(5)]);
    }
}
