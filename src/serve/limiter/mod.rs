//! Who may have how many replies over UDP: one limiter per thread, no lock, nothing shared, nothing allocated after it is made.
//!
//! ```text
//! query ─▶ Limiter::query ─▶ engine ─▶ Limiter::response ─▶ send, cut short, or stay silent
//!             per prefix                   per (prefix, kind, subject)
//! ```
//!
//! Time is an argument. A rate holds for each thread; `guard::steer` makes the kernel give all queries of one prefix to one thread, so that it holds
//! for the whole. Where the kernel does not, each thread takes its share of the rate.

mod table;
mod tally;
mod watch;

use std::net::IpAddr;

pub(super) use self::table::SECOND;
use self::table::{Charge, Price, Table};
#[cfg(test)]
pub(super) use self::tally::MAX_BLOCKED;
use self::tally::Tally;
pub(super) use self::tally::{Load, SAMPLE, TICK};
pub(super) use self::watch::Notice;
use self::watch::Watch;
use crate::answer::Kind;
use crate::geo::space::contains;
use crate::world::RateLimit;

/// What is limited: the kinds of replies, and queries as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Answer,
    NoData,
    NxDomain,
    Referral,
    Error,
    Query,
}

impl Class {
    /// How many there are.
    const COUNT: usize = 6;

    fn of(kind: Kind) -> Class {
        match kind {
            Kind::Answer => Class::Answer,
            Kind::NoData => Class::NoData,
            Kind::NxDomain => Class::NxDomain,
            Kind::Referral => Class::Referral,
            Kind::Error => Class::Error,
        }
    }

    /// As metrics and logs call it.
    pub(super) fn name(self) -> &'static str {
        crate::telemetry::LIMIT_CLASSES[self as usize]
    }
}

const _: () = assert!(crate::telemetry::LIMIT_CLASSES.len() == Class::COUNT);

/// What to do with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it.
    Send,
    /// Over the limit, and its turn to be sent empty and truncated (errors: as they are).
    Slip,
    /// Over the limit.
    Drop,
}

/// A client: the upper bits of an address, and which family they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// The upper 64 bits of an IPv6 address, or an IPv4 address in the lower 32; cut to the prefix.
    pub(super) bits: u64,
    pub(super) v6: bool,
}

/// The limiter of one thread.
#[derive(Debug)]
pub(super) struct Limiter {
    table: Table,
    prices: [Option<Price>; Class::COUNT],
    v4_mask: u64,
    v6_mask: u64,
    slip: u32,
    exempt: Vec<crate::policy::model::Prefix>,
    log_only: bool,
    watch: Watch,
    /// Only when the kernel may be told who floods.
    tally: Option<Tally>,
    /// At the last tick.
    overloaded: bool,
    lens: (u8, u8),
    /// How often each class was over its limit, since they were last taken.
    limited: [u32; Class::COUNT],
    /// Replies that could not be counted, likewise.
    full: u32,
}

impl Limiter {
    /// A limiter for one of `threads` threads, whose clients are its own (`whole_clients`) or everybody's.
    pub(super) fn new(limits: &RateLimit, threads: usize, whole_clients: bool) -> Limiter {
        let threads = u32::try_from(threads).unwrap_or(u32::MAX).max(1);
        let share = |rate: u32| if whole_clients { rate } else { rate.div_ceil(threads) };
        let price = |rate: u32| Price::new(share(rate), limits.window_s);
        Limiter {
            table: Table::new(limits.table_size.div_ceil(threads as usize)),
            prices: [
                price(limits.responses_per_second),
                price(limits.nodata_per_second),
                price(limits.nxdomains_per_second),
                price(limits.referrals_per_second),
                price(limits.errors_per_second),
                Price::without_debt(share(limits.queries_per_second)),
            ],
            v4_mask: u64::from(u32::MAX.checked_shl(32 - u32::from(limits.v4_len.min(32))).unwrap_or(0)),
            v6_mask: u64::MAX.checked_shl(64 - u32::from(limits.v6_len.min(64))).unwrap_or(0),
            slip: limits.slip,
            exempt: limits.exempt.clone(),
            log_only: limits.log_only,
            watch: Watch::new(limits.v4_len, limits.v6_len),
            tally: (limits.queries_per_second > 0 && limits.kernel_filter && !limits.log_only).then(|| Tally::new(share(limits.queries_per_second))),
            overloaded: false,
            lens: (limits.v4_len, limits.v6_len),
            limited: [0; Class::COUNT],
            full: 0,
        }
    }

    #[inline]
    fn client(&self, source: IpAddr) -> Client {
        match source {
            IpAddr::V4(address) => Client { bits: u64::from(u32::from(address)) & self.v4_mask, v6: false },
            IpAddr::V6(address) => Client { bits: (u128::from(address) >> 64) as u64 & self.v6_mask, v6: true },
        }
    }

    #[inline]
    fn hash(&self, client: Client, class: Class, subject: u64) -> u64 {
        self.table.hash(client.bits, class as u8 | u8::from(client.v6) << 7, subject)
    }

    /// Counts a query; false when it is not to be answered.
    #[inline]
    pub(super) fn query(&mut self, source: IpAddr, now: u64) -> bool {
        let Some(price) = self.prices[Class::Query as usize] else { return true };
        let client = self.client(source);
        let hash = self.hash(client, Class::Query, 0);
        // What the buffers still hold of a flood is got rid of at once: whoever waits behind it has not given up yet.
        if self.tally.as_mut().is_some_and(|tally| tally.seen(client, hash)) && self.overloaded {
            self.limited[Class::Query as usize] += 1;
            return false;
        }
        self.charge(source, client, Class::Query, hash, price, now).is_none()
    }

    /// Counts a reply and decides on it.
    #[inline]
    pub(super) fn response(&mut self, source: IpAddr, kind: Kind, subject: u64, now: u64) -> Verdict {
        let class = Class::of(kind);
        let Some(price) = self.prices[class as usize] else { return Verdict::Send };
        let client = self.client(source);
        let hash = self.hash(client, class, subject);
        match self.charge(source, client, class, hash, price, now) {
            None => Verdict::Send,
            // The first one slips: whoever is limited by mistake learns of TCP at once.
            Some(number) if (number - 1).checked_rem(self.slip) == Some(0) => Verdict::Slip,
            Some(_) => Verdict::Drop,
        }
    }

    /// `Some(n)` when the account is over its limit for the n-th time, and somebody is to feel it.
    #[inline]
    fn charge(&mut self, source: IpAddr, client: Client, class: Class, hash: u64, price: Price, now: u64) -> Option<u32> {
        match self.table.charge(hash, price, now) {
            Charge::Within => None,
            Charge::Full => {
                self.full = self.full.saturating_add(1);
                None
            }
            Charge::Over(number) => self.over(source, client, class, hash, number, now),
        }
    }

    fn over(&mut self, source: IpAddr, client: Client, class: Class, hash: u64, number: u32, now: u64) -> Option<u32> {
        if self.exempt.iter().any(|prefix| contains(*prefix, source)) {
            return None;
        }
        self.limited[class as usize] += 1;
        self.watch.over(client, class, hash, now);
        (!self.log_only).then_some(number.max(1))
    }

    /// True when somebody was limited or uncounted since the last [`Limiter::take_counts`].
    pub(super) fn has_counts(&self) -> bool {
        self.full > 0 || self.limited.iter().any(|count| *count > 0)
    }

    /// How often each class was over its limit, and how many could not be counted; both begin again at 0.
    pub(super) fn take_counts(&mut self) -> ([u32; Class::COUNT], u32) {
        (std::mem::take(&mut self.limited), std::mem::take(&mut self.full))
    }

    /// What there is to say about who began and who stopped being limited; at most so many as there is room for.
    pub(super) fn notices(&mut self, now: u64, tell: impl FnMut(Notice)) {
        self.watch.notices(now, self.log_only, tell);
    }

    /// About how many datagrams the kernel's filter dropped in the last ticks.
    pub(super) fn filtered(&self) -> u64 {
        self.tally.as_ref().map_or(0, Tally::filtered)
    }

    /// Ends `ticks` of [`TICK`]; true when another list of prefixes is to be blocked than before.
    pub(super) fn tick(&mut self, ticks: u64, load: Load) -> bool {
        self.overloaded = load.overloaded;
        let (exempt, (v4_len, v6_len)) = (&self.exempt, self.lens);
        let spare = |client| {
            let prefix = watch::prefix_of(client, v4_len, v6_len);
            exempt.iter().any(|other| contains(*other, prefix.addr) || contains(prefix, other.addr))
        };
        self.tally.as_mut().is_some_and(|tally| tally.tick(ticks, load, spare))
    }

    /// Whom the kernel is to block, at most [`tally::MAX_BLOCKED`].
    pub(super) fn blocked(&self) -> impl Iterator<Item = Client> {
        self.tally.iter().flat_map(Tally::blocked)
    }
}
