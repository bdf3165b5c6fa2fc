//! Who is limited at the moment, for the log: a small table that forgets, and at most so many lines per second.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::table::SECOND;
use super::{Class, Client};
use crate::policy::model::Prefix;

/// Prefixes in the table, by class. Whoever finds no place is limited all the same and goes without a line.
const PLACES: usize = 512;

/// Places that a key can have.
const WAYS: usize = 4;

/// Lines per second and thread: a flood must not become one of the log.
const LINES_PER_SECOND: u32 = 5;

/// Quiet for so long means that it is over.
const QUIET: u64 = 2 * SECOND;

/// Something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Notice {
    /// Who.
    pub(in crate::serve) prefix: Prefix,
    /// Of what.
    pub(in crate::serve) class: Class,
    /// `None` when it begins; how many were over the limit, in how many milliseconds, when it is over.
    pub(in crate::serve) ended: Option<(u64, u64)>,
    /// Nobody was really limited.
    pub(in crate::serve) log_only: bool,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prefix { addr, len } = self.prefix;
        let would = if self.log_only { "would limit" } else { "limiting" };
        match self.ended {
            None => write!(f, "{would} {} to {addr}/{len}", self.class.name()),
            Some((count, ms)) => {
                write!(f, "no longer {would} {} to {addr}/{len}: {count} over the limit in {}.{:03} s", self.class.name(), ms / 1000, ms % 1000)
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    client: Client,
    class: Class,
    /// 0: the place is free.
    count: u64,
    since: u64,
    last: u64,
    told: bool,
}

/// The table.
#[derive(Debug)]
pub(super) struct Watch {
    entries: Box<[Entry]>,
    used: usize,
    v4_len: u8,
    v6_len: u8,
    /// Of the current second.
    second: u64,
    lines: u32,
}

impl Watch {
    pub(super) fn new(v4_len: u8, v6_len: u8) -> Watch {
        let free = Entry { client: Client { bits: 0, v6: false }, class: Class::Query, count: 0, since: 0, last: 0, told: false };
        Watch { entries: vec![free; PLACES].into(), used: 0, v4_len, v6_len, second: 0, lines: 0 }
    }

    /// `client` was over the limit of `class`. `hash` is any hash of the two.
    pub(super) fn over(&mut self, client: Client, class: Class, hash: u64, now: u64) {
        let from = hash as usize % (PLACES / WAYS) * WAYS;
        let Some(places) = self.entries.get_mut(from..from + WAYS) else { return };
        if let Some(entry) = places.iter_mut().find(|entry| entry.count > 0 && entry.client == client && entry.class == class) {
            entry.count += 1;
            entry.last = now;
        } else if let Some(entry) = places.iter_mut().find(|entry| entry.count == 0) {
            *entry = Entry { client, class, count: 1, since: now, last: now, told: false };
            self.used += 1;
        }
    }

    /// Tells who is new and who has stopped, within the limit on lines.
    pub(super) fn notices(&mut self, now: u64, log_only: bool, mut tell: impl FnMut(Notice)) {
        if self.used == 0 {
            return;
        }
        if self.second != now / SECOND {
            (self.second, self.lines) = (now / SECOND, 0);
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.count > 0) {
            let prefix = prefix_of(entry.client, self.v4_len, self.v6_len);
            let over = entry.last + QUIET <= now;
            if !over && !entry.told && self.lines < LINES_PER_SECOND {
                self.lines += 1;
                entry.told = true;
                tell(Notice { prefix, class: entry.class, ended: None, log_only });
            }
            // One that was never told of ends as quietly.
            if over && entry.told && self.lines < LINES_PER_SECOND {
                self.lines += 1;
                entry.told = false;
                let ms = (entry.last - entry.since) / 1_000_000;
                tell(Notice { prefix, class: entry.class, ended: Some((entry.count, ms)), log_only });
            }
            if over && !entry.told {
                entry.count = 0;
                self.used -= 1;
            }
        }
    }
}

/// A client in the way people write it.
pub(super) fn prefix_of(client: Client, v4_len: u8, v6_len: u8) -> Prefix {
    if client.v6 {
        Prefix { addr: IpAddr::V6(Ipv6Addr::from(u128::from(client.bits) << 64)), len: v6_len }
    } else {
        Prefix { addr: IpAddr::V4(Ipv4Addr::from(client.bits as u32)), len: v4_len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(watch: &mut Watch, now_ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        watch.notices(now_ms * 1_000_000, false, |notice| lines.push(notice.to_string()));
        lines
    }

    #[test]
    fn beginning_and_end_are_told_once() {
        let mut watch = Watch::new(24, 56);
        let (v4, v6) = (Client { bits: 0xc633_6400, v6: false }, Client { bits: 0x2001_0db8_0000_0100, v6: true });
        let ms = |ms: u64| ms * 1_000_000;
        watch.over(v4, Class::NxDomain, 1, ms(10_000));
        watch.over(v6, Class::Query, 2, ms(10_000));
        assert_eq!(lines(&mut watch, 10_050), ["limiting nxdomain to 198.51.100.0/24", "limiting query to 2001:db8:0:100::/56"]);
        (0..99).for_each(|at| watch.over(v4, Class::NxDomain, 1, ms(10_100 + at * 10)));
        assert_eq!(lines(&mut watch, 11_500), Vec::<String>::new());
        assert_eq!(
            lines(&mut watch, 14_000),
            [
                "no longer limiting nxdomain to 198.51.100.0/24: 100 over the limit in 1.080 s",
                "no longer limiting query to 2001:db8:0:100::/56: 1 over the limit in 0.000 s"
            ]
        );
        assert_eq!(lines(&mut watch, 20_000), Vec::<String>::new());
    }

    #[test]
    fn a_flood_from_many_prefixes_writes_few_lines() {
        let mut watch = Watch::new(24, 56);
        let mut total = 0;
        for second in 0..10 {
            for client in 0..100_000 {
                watch.over(Client { bits: client << 8, v6: false }, Class::Query, client.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40, second * SECOND);
            }
            for at in 0..20 {
                let mut told = 0;
                watch.notices(second * SECOND + at * SECOND / 20, false, |_| told += 1);
                total += told;
            }
        }
        assert!((40..=50).contains(&total), "{total} lines");
    }
}
