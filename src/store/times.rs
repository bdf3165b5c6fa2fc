//! Times that a start has to know.

/// How long caches may hold what steered names were answered: what a later run has to wait for before anything is safe to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedTtls {
    /// The longest TTL that answers are given now, seconds.
    pub longest: u32,
    /// Unix seconds: answers that had a longer one have run out.
    pub until: u64,
}

impl SavedTtls {
    /// When everything has run out that was answered until `now_unix`; answers are timed in whole seconds.
    pub fn runs_out(self, now_unix: u64) -> u64 {
        self.until.max(now_unix + u64::from(self.longest) + 1)
    }

    /// What two servers with these answers come to.
    pub fn with(self, other: SavedTtls) -> SavedTtls {
        SavedTtls { longest: self.longest.max(other.longest), until: self.until.max(other.until) }
    }
}

/// What this machine's clock read when the program ran last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedClock {
    /// Unix seconds.
    pub seen: u64,
    /// It has to run for so many seconds more until anything is deleted for its age.
    pub unproven: u64,
}
