//! That this machine's clock may be wrong, as far as checks notice: certificates that are not valid in time by it. What is doubted, and when, stands in
//! [`crate::health::dates`]; here it is told, and that it is over.

use super::api::Who;
use super::audit::{Entry, Kind};
use super::writer::Writer;

impl Writer {
    /// Says when checks cannot run any more for this machine's clock, and when they can again.
    pub(super) fn look_at_own_clock(&mut self) {
        let (misled, _) = self.checks.misled();
        if std::mem::replace(&mut self.protection.misled, misled > 0) == (misled > 0) {
            return;
        }
        let (action, text) = match self.clock_trouble() {
            Some(text) => ("health.clock", text),
            None => ("health.clock_trusted", "certificates are held against this machine's clock again".to_owned()),
        };
        match misled {
            0 => tracing::warn!(target: "meridian::health", "{text}"),
            _ => tracing::error!(target: "meridian::health", "{text}"),
        }
        let entry = Entry { kind: Kind::Health, detail: Some(text), ..self.entry(&Who::itself(), action, "health") };
        self.keep_entry(entry);
    }

    /// The same in words, with what the clock reads.
    pub(super) fn clock_trouble(&self) -> Option<String> {
        let (misled, why) = self.checks.misled();
        let why = why?;
        let why = why.strip_prefix("check could not run: ").unwrap_or(why);
        let reads = super::ahead::date(self.clock.unix());
        let of_checks = if misled == 1 { "1 check".to_owned() } else { format!("{misled} checks") };
        Some(format!("{why}; it reads {reads}: {of_checks} cannot run for that, and what they check stays as it was"))
    }
}

#[cfg(test)]
mod tests {
    use crate::control::api::{CheckTarget, Observation};
    use crate::control::clock::SIMULATED_START_UNIX;
    use crate::control::driven::Driven;
    use crate::health::concern::Validity;
    use crate::health::dates::{Bound, OutOfTime};
    use crate::health::{Failure, Outcome};
    use std::time::Duration;

    const DAY: u64 = 86_400;
    const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[region.eu]\n[region.us]\n\
        [monitor.web]\nhttps = \"/\"\nhost = \"app.example.com\"\nfall = 2\nrise = 1\n\
        [pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\nmonitor = \"web\"\n\
        [pool.iad]\nregion = \"us\"\nendpoints = [\"192.0.2.12\", \"192.0.2.13\"]\nmonitor = \"web\"\n\
        [steer.www]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\n";
    const FILES: [(&str, &str); 2] = [("meridian.toml", "[health]\nfreeze = false\n"), ("zones/example.com.toml", ZONE)];

    /// Endpoints with certificates of their own, as they are in truth, and a prober that holds them against its clock.
    struct World {
        driven: Driven,
        /// In truth, since the start.
        now: u64,
        /// How far the clock of the prober is ahead.
        ahead: i64,
        /// Of each endpoint.
        certificates: [Validity; 4],
    }

    fn valid(from_day: i64, until_day: i64) -> Validity {
        let unix = |day: i64| SIMULATED_START_UNIX.saturating_add_signed(day * DAY as i64);
        Validity { from: unix(from_day), until: unix(until_day), name: None }
    }

    impl World {
        /// Good for 25, 26, 27 and 28 days.
        fn start() -> World {
            World { driven: Driven::start(&FILES), now: 0, ahead: 0, certificates: [25, 26, 27, 28].map(|days| valid(-60, days)) }
        }

        /// Every endpoint is checked after so many seconds; the states.
        fn checked(&mut self, after: u64) -> [String; 4] {
            self.now += after;
            self.driven.set(Duration::from_secs(self.now));
            self.driven.set_clock(self.ahead);
            let clock = (SIMULATED_START_UNIX + self.now).saturating_add_signed(self.ahead);
            for spec in self.driven.specs().iter() {
                let CheckTarget::Address(std::net::IpAddr::V4(address)) = spec.target else { panic!("{spec:?}") };
                let certificate = self.certificates[usize::from(address.octets()[3] - 10)].clone();
                let outside = |why: &str, bound: Bound| Err(Failure::OutOfTime(OutOfTime { why: why.into(), at: clock, bound }));
                let outcome: Outcome = match clock {
                    _ if clock > certificate.until => outside("certificate expired", Bound::Until(certificate.until)),
                    _ if clock < certificate.from => outside("certificate not yet valid", Bound::From(certificate.from)),
                    _ => Ok(()),
                };
                let took = Duration::from_millis(5);
                let observation = Observation { spec: spec.clone(), outcome, took, certificate: Some(certificate), poor: None };
                self.driven.observe(&observation).expect("it is wanted");
            }
            self.driven.tick();
            self.driven.publish();
            ["fra/192.0.2.10", "fra/192.0.2.11", "iad/192.0.2.12", "iad/192.0.2.13"]
                .map(|id| self.driven.endpoint(&format!("example.com/{id}")).state)
        }

        fn trouble(&self) -> Option<String> {
            let status = self.driven.status();
            let found = status.degraded.into_iter().find(|why| why.contains("cannot run for that"));
            assert_eq!(found.is_some(), status.health.unable_by_clock > 0);
            found
        }
    }

    #[test]
    fn a_clock_that_jumps_withdraws_nothing_and_one_certificate_that_ends_falls() {
        for ahead in [400 * DAY as i64, 3_000 * DAY as i64, -400 * DAY as i64] {
            let mut world = World::start();
            assert_eq!(world.checked(1), ["up"; 4]);
            // Longer than any freeze.
            world.ahead = ahead;
            for _ in 0..100 {
                assert_eq!(world.checked(10), ["up"; 4], "{ahead}");
            }
            let trouble = world.trouble().expect("told");
            let way = if ahead > 0 { "ahead" } else { "back" };
            assert!(trouble.contains(&format!("{} days {way} since", ahead.unsigned_abs() / DAY)), "{trouble}");
            assert!(trouble.ends_with("4 checks cannot run for that, and what they check stays as it was"), "{trouble}");
            assert_eq!(world.driven.status().health.unable, 4);
            world.ahead = 0;
            assert_eq!((world.checked(10), world.trouble()), (["up"; 4].map(str::to_owned), None));
            // And what is over is over.
            world.certificates[1] = valid(-60, -1);
            world.checked(10);
            assert_eq!((world.checked(2), world.trouble()), (["up", "down", "up", "up"].map(str::to_owned), None));
        }
    }

    #[test]
    fn a_certificate_from_the_future_proves_nothing_when_its_time_comes() {
        let mut world = World::start();
        world.certificates[3] = valid(10, 100);
        world.checked(1);
        assert_eq!(world.checked(10)[..3], ["up", "up", "up"]);
        // By the new clock it is valid, and the others have ended.
        world.ahead = 30 * DAY as i64;
        for _ in 0..20 {
            assert_eq!(world.checked(10)[..3], ["up", "up", "up"]);
        }
    }

    #[test]
    fn what_has_ended_by_both_clocks_falls_in_the_midst_of_it() {
        let mut world = World::start();
        world.checked(1);
        world.ahead = 400 * DAY as i64;
        world.checked(10);
        world.certificates[2] = valid(-60, -1);
        world.checked(10);
        assert_eq!(world.checked(10), ["up", "up", "down", "up"]);
    }

    #[test]
    fn a_start_with_a_wrong_clock_withdraws_nothing_and_heals() {
        // Ahead: numbers tell. Before the program was written, or what was kept: that alone tells.
        for ahead in [400 * DAY as i64, -(SIMULATED_START_UNIX as i64 - 1_000_000_000)] {
            let mut world = World::start();
            world.ahead = ahead;
            for after in [1, 3, 10, 10, 10] {
                assert_eq!(world.checked(after), ["unknown"; 4], "{ahead}");
            }
            let trouble = world.trouble().expect("told");
            let words = if ahead > 0 { "by it, 4 of 4 certificates are not valid in time" } else { "behind at least" };
            assert!(trouble.contains(words), "{trouble}");
            world.ahead = 0;
            assert_eq!((world.checked(10), world.trouble()), (["up"; 4].map(str::to_owned), None));
        }
    }

    #[test]
    fn a_start_with_a_right_clock_finds_what_has_ended() {
        let mut world = World::start();
        world.certificates[3] = valid(-60, -1);
        // For the first seconds nothing speaks for the clock, which nobody needs to be told.
        assert_eq!((world.checked(1), world.trouble()), (["up", "up", "up", "unknown"].map(str::to_owned), None));
        assert_eq!((world.checked(5), world.trouble()), (["up", "up", "up", "down"].map(str::to_owned), None));
        // All of them with one certificate: nothing tells that from a clock that is right.
        let mut world = World::start();
        world.certificates = [(); 4].map(|()| valid(-60, -1));
        world.checked(6);
        assert_eq!(world.checked(2), ["down"; 4]);
    }

    #[test]
    fn a_restart_knows_what_was_kept() {
        let mut world = World::start();
        assert_eq!(world.checked(1), ["up"; 4]);
        // Not before the program was written, but before its last check.
        world.ahead = -100 * DAY as i64;
        world.driven.set_clock(0);
        world.driven = world.driven.restart(&FILES);
        assert_eq!(world.checked(10), ["up"; 4]);
        assert!(world.trouble().is_some_and(|why| why.contains("100 days behind at least") || why.contains("99 days behind at least")));
    }
}
