//! What a decision comes to, ready to be answered from: addresses and records, alone or one of several by weight. What was answered last can be kept
//! for a later run, so all of it has a form as text.

use std::net::IpAddr;
use std::sync::Arc;

use crate::dns::RecordType;
use crate::policy::model::WeightedMode;

/// What a class gets.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Choice {
    /// Addresses or records of one pool, or of several merged.
    Answers {
        /// What there is.
        #[serde(with = "whole")]
        set: Arc<AnswerSet>,
        /// At most this many addresses, 1 to 64.
        answers: u8,
    },
    /// One of several, by weight.
    Weighted(WeightedChoice),
    /// An empty answer.
    NoData,
    /// SERVFAIL.
    ServFail,
}

/// An answer set that is kept has no part in others.
mod whole {
    use super::{AnswerSet, Arc};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(set: &Arc<AnswerSet>, to: S) -> Result<S::Ok, S::Error> {
        AnswerSet::serialize(set, to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<AnswerSet>, D::Error> {
        AnswerSet::deserialize(from).map(Arc::new)
    }
}

/// A choice among several by weight.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WeightedChoice {
    /// How chance enters.
    pub mode: WeightedMode,
    /// Salt: hash of zone and policy name, the same on every server.
    pub salt: u64,
    /// Sum of the weights.
    pub total: u64,
    /// At least two.
    pub entries: Vec<WeightedEntry>,
}

/// One of several.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WeightedEntry {
    /// Above 0; weights are scaled by [`WEIGHT_SCALE`] so that ramps have room below 1.
    pub weight: u64,
    /// Hash of the child's name.
    pub id: u64,
    /// What it comes to.
    pub choice: Choice,
}

/// Steps per unit of weight.
pub const WEIGHT_SCALE: u64 = 1024;
/// Whatever a pool hands out at present.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct AnswerSet {
    /// Counter slot of the pool; `None` for merged pools, and for what an earlier run answered.
    #[serde(skip)]
    pub slot: Option<u32>,
    /// A records.
    pub v4: AddressSet<4>,
    /// AAAA records.
    pub v6: AddressSet<16>,
    /// CNAME target, wire form.
    pub cname: Option<Box<[u8]>>,
    /// Further types: rdata in wire form.
    pub records: Vec<(RecordType, Vec<Vec<u8>>)>,
}

/// Addresses of one family with their weights.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(bound(serialize = "[u8; N]: serde::Serialize", deserialize = "[u8; N]: serde::Deserialize<'de>"))]
pub struct AddressSet<const N: usize> {
    /// Network order.
    pub addrs: Vec<[u8; N]>,
    /// In the order of `addrs`, above 0; empty when all are equal.
    pub weights: Vec<u32>,
}

impl<const N: usize> Default for AddressSet<N> {
    fn default() -> Self {
        AddressSet { addrs: Vec::new(), weights: Vec::new() }
    }
}

impl<const N: usize> AddressSet<N> {
    /// Weight 0 takes part only when nothing else is left.
    pub(super) fn new(mut entries: Vec<([u8; N], u32)>) -> Self {
        if entries.iter().any(|(_, weight)| *weight > 0) {
            entries.retain(|(_, weight)| *weight > 0);
        }
        let equal = entries.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let weights = if equal { Vec::new() } else { entries.iter().map(|(_, weight)| *weight).collect() };
        AddressSet { addrs: entries.into_iter().map(|(addr, _)| addr).collect(), weights }
    }

    /// Those of them that `keep` leaves.
    fn only(&self, keep: impl Fn(&[u8; N]) -> bool) -> Self {
        let weights = self.weights.iter().copied().chain(std::iter::repeat(1));
        AddressSet::new(self.addrs.iter().copied().zip(weights).filter(|(addr, _)| keep(addr)).collect())
    }
}

impl AnswerSet {
    /// The same with those addresses that `keeps` leaves, and with its CNAME if `keeps_name` leaves that (wire form).
    pub fn only(&self, keeps: impl Fn(IpAddr) -> bool, keeps_name: impl Fn(&[u8]) -> bool) -> AnswerSet {
        AnswerSet {
            v4: self.v4.only(|addr| keeps(IpAddr::from(*addr))),
            v6: self.v6.only(|addr| keeps(IpAddr::from(*addr))),
            cname: self.cname.clone().filter(|name| keeps_name(name)),
            ..self.clone()
        }
    }
}

impl Choice {
    /// Everything that may be handed out: `f` says of a set whether to stop; true when it did.
    pub fn any_set(&self, f: &mut dyn FnMut(&AnswerSet) -> bool) -> bool {
        match self {
            Choice::Answers { set, .. } => f(set),
            Choice::Weighted(weighted) => weighted.entries.iter().any(|entry| entry.choice.any_set(f)),
            Choice::NoData | Choice::ServFail => false,
        }
    }

    /// The same with what `left` leaves of each set; nothing where nothing is left.
    pub fn only(&self, left: &dyn Fn(&AnswerSet) -> AnswerSet) -> Option<Choice> {
        match self {
            Choice::Answers { set, answers } => {
                let set = left(set);
                (!set.is_empty()).then(|| Choice::Answers { set: Arc::new(set), answers: *answers })
            }
            Choice::Weighted(weighted) => {
                let only = |entry: &WeightedEntry| Some(WeightedEntry { choice: entry.choice.only(left)?, ..*entry });
                let mut entries: Vec<WeightedEntry> = weighted.entries.iter().filter_map(only).collect();
                match entries.len() {
                    0 | 1 => entries.pop().map(|entry| entry.choice),
                    _ => Some(Choice::Weighted(WeightedChoice { total: entries.iter().map(|entry| entry.weight).sum(), entries, ..*weighted })),
                }
            }
            Choice::NoData => Some(Choice::NoData),
            Choice::ServFail => Some(Choice::ServFail),
        }
    }

    /// Sets how many addresses are handed out at most.
    pub fn cap(&mut self, most: u8) {
        match self {
            Choice::Answers { answers, .. } => *answers = most,
            Choice::Weighted(weighted) => weighted.entries.iter_mut().for_each(|entry| entry.choice.cap(most)),
            Choice::NoData | Choice::ServFail => {}
        }
    }
}

impl AnswerSet {
    /// There is nothing to hand out.
    fn is_empty(&self) -> bool {
        self.v4.addrs.is_empty() && self.v6.addrs.is_empty() && self.cname.is_none() && self.records.is_empty()
    }
}
