//! Accounts of rates, in a table that is made once.
//!
//! An account is one number: the time until which its replies are paid for. A reply costs 1 s divided by the rate; credit reaches back one second,
//! debt reaches forward by the window. That is the token bucket of BIND in one word, without a timer.
//!
//! ```text
//!        credit: up to 1 s of replies          debt: up to `window` of replies
//!   ├──────────────────────────────────────┼─────────────────────────────────────────┤
//! now − 1 s        paid until ▲           now            paid until ▲ : limited     now + window
//! ```
//!
//! An account whose credit is full says nothing, so its place is free. Four accounts share a cache line and a set of places; a newcomer takes the
//! place of the one with the most credit, never of one in debt. So a flood from random addresses, each seen once, cannot push out whoever is limited,
//! and when a whole set is in debt the newcomer is simply not counted.

use std::hash::{BuildHasher, RandomState};

/// Nanoseconds in a second: the credit that an account can have.
pub(in crate::serve) const SECOND: u64 = 1_000_000_000;

/// Accounts in one cache line.
const WAYS: usize = 4;

/// One account.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Nanoseconds; 0 when it was never used.
    paid_until: u64,
    /// The upper half of its key's hash.
    tag: u32,
    /// Replies that were limited, modulo 2³².
    limited: u32,
}

#[derive(Clone, Debug, Default)]
#[repr(align(64))]
struct Set([Account; WAYS]);

const _: () = assert!(size_of::<Set>() == 64);

/// What a rate allows: made once per rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Price {
    /// Nanoseconds per reply.
    cost: u64,
    /// Nanoseconds of debt; `None` when what is over the limit costs nothing, so that the rate itself always gets through.
    debt: Option<u64>,
}

impl Price {
    /// What is over the limit leads into debt: whoever keeps asking too much gets nothing. `None` for rate 0, which is no limit.
    pub(super) fn new(per_second: u32, window_s: u32) -> Option<Price> {
        let cost = SECOND.checked_div(u64::from(per_second))?;
        // Debt is whole replies short of the window, so that a client that stops is served again when the window is over.
        Some(Price { cost, debt: Some((u64::from(window_s) * SECOND).saturating_sub(cost)) })
    }

    /// The same without debt.
    pub(super) fn without_debt(per_second: u32) -> Option<Price> {
        Some(Price { cost: SECOND.checked_div(u64::from(per_second))?, debt: None })
    }
}

/// What came of charging an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charge {
    /// Within its rate.
    Within,
    /// Over it; for the n-th time (from 1).
    Over(u32),
    /// The table is full of accounts in debt: not counted.
    Full,
}

/// The accounts of one thread.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
    /// SipHash with a key of this process: nobody outside can choose keys that meet in one set.
    hasher: RandomState,
}

impl Table {
    /// Room for at least `accounts`. The only allocation.
    pub(super) fn new(accounts: usize) -> Table {
        let sets = accounts.div_ceil(WAYS).next_power_of_two();
        Table { sets: vec![Set::default(); sets].into(), hasher: RandomState::new() }
    }

    /// The hash to [`Table::charge`] by. `client` is a prefix, `what` the class and subject.
    #[inline]
    pub(super) fn hash(&self, client: u64, class: u8, subject: u64) -> u64 {
        self.hasher.hash_one((client, subject, class))
    }

    /// Octets that it takes.
    #[cfg(test)]
    pub(super) fn octets(&self) -> usize {
        size_of_val(&*self.sets)
    }

    /// Takes the price of one reply from the account of `hash`.
    #[inline]
    pub(super) fn charge(&mut self, hash: u64, price: Price, now: u64) -> Charge {
        let tag = (hash >> 32) as u32;
        let at = hash as usize & (self.sets.len() - 1);
        let Some(Set(accounts)) = self.sets.get_mut(at) else { return Charge::Full };
        let known = accounts.iter().position(|account| account.tag == tag && account.paid_until > 0);
        let account = match known {
            Some(known) => &mut accounts[known],
            None => {
                let Some(richest) = accounts.iter_mut().min_by_key(|account| account.paid_until) else { return Charge::Full };
                if richest.paid_until > now {
                    return Charge::Full;
                }
                *richest = Account { paid_until: 0, tag, limited: 0 };
                richest
            }
        };
        let paid_until = account.paid_until.max(now.saturating_sub(SECOND)) + price.cost;
        if paid_until <= now {
            account.paid_until = paid_until;
            return Charge::Within;
        }
        if let Some(debt) = price.debt {
            account.paid_until = paid_until.min(now + debt);
        }
        account.limited = account.limited.wrapping_add(1);
        Charge::Over(account.limited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = SECOND / 1000;
    /// Times begin well after 0, as the limiter's do.
    const START: u64 = 100 * SECOND;

    /// Replies that get through when `per_second` are asked for during `ms`, at a limit of `limit`, beginning at `from_ms`.
    fn through(table: &mut Table, limit: u32, window_s: u32, per_second: u64, from_ms: u64, ms: u64) -> usize {
        let price = Price::new(limit, window_s).expect("a rate");
        let hash = table.hash(1, 0, 0);
        let count = per_second * ms / 1000;
        let time = |n: u64| START + from_ms * MS + n * SECOND / per_second;
        (0..count).filter(|n| table.charge(hash, price, time(*n)) == Charge::Within).count()
    }

    #[test]
    fn what_gets_through() {
        // limit, window, asked per second, for ms → through
        for (limit, window, asked, ms, expected) in [
            (10, 1, 5, 10_000, 50..=50),
            (10, 1, 10, 10_000, 100..=100),
            // A flood gets its first second's credit and what it earns until the debt is there; then nothing.
            (10, 1, 1000, 1000, 10..=11),
            (10, 1, 1000, 10_000, 10..=11),
            (10, 15, 1000, 60_000, 10..=11),
            // A little too fast: the credit lasts for a while.
            (10, 1, 11, 60_000, 100..=125),
            (1000, 1, 100_000, 5_000, 1000..=1011),
            (1, 1, 2, 10_000, 1..=2),
        ] {
            let found = through(&mut Table::new(64), limit, window, asked, 0, ms);
            assert!(expected.contains(&found), "limit {limit}, window {window}, {asked}/s for {ms} ms: {found} through, expected {expected:?}");
        }
    }

    #[test]
    fn without_debt_the_rate_itself_gets_through() {
        for (limit, asked, ms, expected) in [(10, 5, 10_000, 50..=50), (10, 11, 60_000, 600..=615), (1000, 100_000, 5_000, 5990..=6010)] {
            let (mut table, price) = (Table::new(64), Price::without_debt(limit).expect("a rate"));
            let hash = table.hash(1, 0, 0);
            let count = asked * ms / 1000;
            let found = (0..count).filter(|n| table.charge(hash, price, START + n * SECOND / asked) == Charge::Within).count();
            assert!(expected.contains(&found), "limit {limit}, {asked}/s for {ms} ms: {found} through, expected {expected:?}");
        }
    }

    #[test]
    fn who_stops_is_served_again_when_the_window_is_over() {
        for (limit, window) in [(1, 1), (10, 1), (10, 5), (100, 15), (1000, 1)] {
            let mut table = Table::new(64);
            through(&mut table, limit, window, 50_000, 0, 2000 * u64::from(window) + 2000);
            let end = 2000 * u64::from(window) + 2000;
            let before = end + 1000 * u64::from(window) - 2000 / u64::from(limit).min(500) - 100;
            let mut early = Table { sets: table.sets.clone(), hasher: table.hasher.clone() };
            if before > end {
                assert_eq!(through(&mut early, limit, window, 1000, before, 1), 0, "limit {limit}, window {window}: too early");
            }
            assert_eq!(
                through(&mut table, limit, window, 1000, end + 1000 * u64::from(window), 1),
                1,
                "limit {limit}, window {window}: still limited"
            );
        }
    }

    #[test]
    fn limited_replies_are_numbered() {
        let mut table = Table::new(64);
        let (price, hash) = (Price::new(2, 1).expect("a rate"), table.hash(7, 1, 2));
        let charges: Vec<Charge> = (0..5).map(|_| table.charge(hash, price, START)).collect();
        assert_eq!(charges, [Charge::Within, Charge::Within, Charge::Over(1), Charge::Over(2), Charge::Over(3)]);
    }

    #[test]
    fn a_flood_of_random_keys_pushes_out_nobody_who_is_limited() {
        let mut table = Table::new(1024);
        let price = Price::new(5, 1).expect("a rate");
        let heavy: Vec<u64> = (0..50).map(|client| table.hash(client, 0, 0)).collect();
        for hash in &heavy {
            for _ in 0..20 {
                table.charge(*hash, price, START);
            }
        }
        for random in 1000..101_000 {
            let hash = table.hash(random, 0, 0);
            assert_ne!(table.charge(hash, price, START + MS), Charge::Over(1), "a newcomer is not limited");
        }
        for hash in heavy {
            assert!(matches!(table.charge(hash, price, START + 2 * MS), Charge::Over(_)));
        }
    }

    #[test]
    fn a_set_in_debt_lets_newcomers_pass_uncounted() {
        let mut table = Table::new(4);
        let price = Price::new(1, 2).expect("a rate");
        for client in 0..4 {
            let hash = table.hash(client, 0, 0);
            for _ in 0..3 {
                table.charge(hash, price, START);
            }
        }
        let newcomer = table.hash(99, 0, 0);
        assert_eq!(table.charge(newcomer, price, START), Charge::Full);
        assert_eq!(table.charge(newcomer, price, START + 3 * SECOND), Charge::Within);
    }

    #[test]
    fn its_size_is_what_was_asked_for() {
        for (accounts, octets) in [(1, 64), (4, 64), (5, 128), (1024, 16 << 10), (1 << 18, 4 << 20)] {
            assert_eq!(Table::new(accounts).octets(), octets);
        }
    }
}
