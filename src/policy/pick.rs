//! How chance enters a choice by weight; called per query.

use super::plan::{Choice, WeightedChoice, WeightedEntry, hash_octets, mix};
use crate::zone::Ttl;

impl WeightedChoice {
    /// Picks by a uniform 64-bit number: multiply-shift, no modulo (algorithms §2.2).
    pub fn by_number(&self, uniform: u64) -> &Choice {
        let mut left = ((u128::from(uniform) * u128::from(self.total)) >> 64) as u64;
        for entry in &self.entries {
            if left < entry.weight {
                return &entry.choice;
            }
            left -= entry.weight;
        }
        // The numbers are below the total, so the last entry has returned.
        &self.entries[self.entries.len() - 1].choice
    }

    /// Same key, same choice for one window of `window_s` seconds; windows of different keys begin at different times, so that a change of
    /// window is no event for the origin (algorithms §2.2).
    pub fn by_window(&self, key: &[u8], unix_s: u64, window_s: Ttl) -> &Choice {
        let window_s = u64::from(window_s.max(1));
        let key = hash_octets(self.salt, key);
        let window = (unix_s + key % window_s) / window_s;
        self.by_number(mix(key ^ mix(window)))
    }

    /// Weighted rendezvous: the highest w / −ln(u) wins, so a change of weights or entries moves the minimum of keys (algorithms §2.3).
    pub fn by_rendezvous(&self, key: &[u8]) -> &Choice {
        let key = hash_octets(self.salt, key);
        let score = |entry: &WeightedEntry| {
            let uniform = ((mix(key ^ entry.id) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            entry.weight as f64 / -uniform.ln()
        };
        let mut best = (f64::MIN, &self.entries[0]);
        for entry in &self.entries {
            let score = score(entry);
            if score > best.0 {
                best = (score, entry);
            }
        }
        &best.1.choice
    }
}
