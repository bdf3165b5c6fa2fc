//! What goes into the additional section, decided at load (RFC 1035 §3.3.9, §3.3.11; RFC 1183 §1, §3.3; RFC 2230; RFC 2782; RFC 9460 §4.1).
//!
//! ```text
//! record          target                      what goes with it
//! NS at a cut     below the cut               A, AAAA: needed, or the reply is truncated (RFC 9471 §3.1)
//! NS, MX, SRV,    in the zone, there or from  A, AAAA
//! KX, AFSDB, RT   a wildcard, or glue
//! SVCB, HTTPS     the same; `.` is the owner  its own type, A, AAAA; on through aliases in the zone
//! ```
//!
//! Names of other zones are left to those who ask for them. So are steered names: their addresses would make the answer to MX or SRV depend on
//! the client and narrow its scope, for data that the client's resolver asks for anyway. An alias (CNAME) is no good target and is not followed
//! (RFC 2181 §10.3).

use super::{NO_NODE, NO_STEER, Node, NodeId, Rrset, ZoneTree};
use crate::dns::{QueryName, RecordType};
use crate::zone::rdata;

/// RRsets that one RRset brings along beside its needed glue: more than fit any answer over UDP.
const MAX_COURTESIES: usize = 128;
/// Aliases of SVCB followed within the zone (RFC 9460 §3 asks for a limit).
const MAX_ALIASES: usize = 8;

/// The node's own name.
const OF_NODE: u32 = u32::MAX;

/// One RRset of the additional section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Into the names of extras, or [`OF_NODE`].
    name_at: u32,
    /// Where its data is.
    pub node: NodeId,
    /// Position among the node's RRsets.
    pub(super) slot: u16,
    /// 0: the owner of the answer.
    name_len: u8,
    /// Glue that resolvers cannot do without.
    pub is_needed: bool,
}

impl ZoneTree {
    /// The target of a record that stands in no node (a pool's), the node with its data, and the types of it that go along.
    pub fn target_of(&self, rtype: RecordType, rdata: &[u8]) -> Option<(QueryName, NodeId, [RecordType; 3])> {
        let target = if has_targets(rtype) { target_of(rtype, rdata)? } else { return None };
        let node = self.target_node(&target).filter(|_| target.label_count() > 0)?;
        let is_service = matches!(rtype, RecordType::SVCB | RecordType::HTTPS) && self.node(node).barrier == NO_NODE;
        let first = if is_service { rtype } else { RecordType::A };
        Some((target, node, [first, RecordType::A, RecordType::AAAA]))
    }

    /// Fills in the extras of every RRset of `nodes`. Wildcards and barriers must be there.
    pub(super) fn add_extras(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            let rrsets: Vec<Rrset> = self.rrsets(*node).filter(|rrset| has_targets(rrset.rtype)).collect();
            for rrset in rrsets {
                let mut found = self.extras_of(*node, &rrset);
                // Needed glue first, so that it is written whatever else there is.
                found.sort_by_key(|extra| !extra.is_needed);
                let needed = found.iter().filter(|extra| extra.is_needed).count();
                found.truncate(needed + MAX_COURTESIES);
                if let (Ok(from), Ok(count)) = (u32::try_from(self.extras.len()), u16::try_from(found.len())) {
                    self.heap.set_extras(&rrset, from, count);
                    self.extras.extend(found);
                }
            }
        }
    }

    fn extras_of(&mut self, node: NodeId, rrset: &Rrset) -> Vec<Extra> {
        let rdatas: Vec<Vec<u8>> = self.rdatas(rrset).map(<[u8]>::to_vec).collect();
        let is_cut = rrset.rtype == RecordType::NS && self.node(node).is_cut;
        let mut found = Vec::new();
        for rdata in &rdatas {
            let Some(target) = target_of(rrset.rtype, rdata) else { continue };
            if matches!(rrset.rtype, RecordType::SVCB | RecordType::HTTPS) {
                self.service_extras(node, rrset.rtype, rdata, &target, &mut found);
            } else if let Some(there) = self.target_node(&target) {
                let is_needed = is_cut && target.label_count() >= self.labels(node) && target.suffix(self.labels(node)) == self.name(node);
                self.push_extras(there, Some(&target), &[RecordType::A, RecordType::AAAA], is_needed, &mut found);
            }
        }
        found
    }

    /// RFC 9460 §4.1: the records of the target, and of what its aliases lead to.
    fn service_extras(&mut self, owner: NodeId, rtype: RecordType, rdata: &[u8], target: &QueryName, found: &mut Vec<Extra>) {
        let is_alias = is_alias_mode(rdata);
        if target.label_count() == 0 {
            // `.` is the owner, or in alias mode that there is no such service (RFC 9460 §2.5).
            if !is_alias && self.node(owner).steer == NO_STEER {
                self.push_extras(owner, None, &[RecordType::A, RecordType::AAAA], false, found);
            }
            return;
        }
        let mut target = target.clone();
        let mut seen = vec![owner];
        for _ in 0..MAX_ALIASES {
            let Some(node) = self.target_node(&target).filter(|node| !seen.contains(node)) else { return };
            seen.push(node);
            let types: &[RecordType] =
                if self.node(node).barrier == NO_NODE { &[rtype, RecordType::A, RecordType::AAAA] } else { &[RecordType::A, RecordType::AAAA] };
            self.push_extras(node, Some(&target), types, false, found);
            let next = self.rrset(node, rtype).filter(|_| types.len() == 3).and_then(|rrset| self.rdatas(&rrset).find(|rdata| is_alias_mode(rdata)));
            let Some(next) = next.and_then(|rdata| target_of(rtype, rdata)).filter(|name| name.label_count() > 0) else { return };
            target = next;
        }
    }

    /// The node whose addresses a target has: its own, occluded or not, or a wildcard's. `None` for names of other zones, steered names, and
    /// whatever a DNAME hides.
    fn target_node(&self, target: &QueryName) -> Option<NodeId> {
        let apex = self.apex.label_count();
        if target.label_count() < apex || target.suffix(apex) != self.apex.as_wire() {
            return None;
        }
        let own = self.node_at(target.as_wire());
        let node = match own {
            Some(node) => node,
            None => {
                let encloser = self.node(self.closest_encloser(target));
                if encloser.barrier != NO_NODE || encloser.has_dname || encloser.wildcard == NO_NODE {
                    return None;
                }
                encloser.wildcard
            }
        };
        let Node { barrier, steer, .. } = self.node(node);
        let is_hidden = barrier != NO_NODE && !self.node(barrier).is_cut;
        (steer == NO_STEER && !is_hidden).then_some(node)
    }

    fn push_extras(&mut self, node: NodeId, target: Option<&QueryName>, types: &[RecordType], is_needed: bool, found: &mut Vec<Extra>) {
        for rtype in types {
            let Some(slot) = self.rrsets(node).position(|rrset| rrset.rtype == *rtype) else { continue };
            let (name_at, name_len) = match target {
                None => (0, 0),
                Some(target) if target.as_wire() == self.name(node) => (OF_NODE, self.node(node).name_len),
                // Made from a wildcard: the name stands nowhere else.
                Some(target) => {
                    let Some(at) = u32::try_from(self.extra_names.len()).ok().filter(|at| *at != OF_NODE) else { continue };
                    self.extra_names.extend_from_slice(target.as_wire());
                    (at, target.as_wire().len() as u8)
                }
            };
            let extra = Extra { name_at, node, slot: slot as u16, name_len, is_needed };
            let same = |other: &Extra| (other.node, other.slot) == (node, extra.slot) && self.extra_name(other) == self.extra_name(&extra);
            if !found.iter().any(same) {
                found.push(extra);
            }
        }
    }

    pub(super) fn extra_name(&self, extra: &Extra) -> &[u8] {
        match (extra.name_len, extra.name_at) {
            (0, _) => &[],
            (_, OF_NODE) => self.name(extra.node),
            (len, at) => self.extra_names.get(at as usize..at as usize + usize::from(len)).unwrap_or(&[]),
        }
    }
}

pub(super) fn has_targets(rtype: RecordType) -> bool {
    matches!(
        rtype,
        RecordType::NS
            | RecordType::MX
            | RecordType::SRV
            | RecordType::KX
            | RecordType::AFSDB
            | RecordType::RT
            | RecordType::SVCB
            | RecordType::HTTPS
    )
}

/// The name that record data points to, lower case.
fn target_of(rtype: RecordType, rdata: &[u8]) -> Option<QueryName> {
    let span = rdata::names(rtype, rdata).next()?;
    let from = usize::from(span.offset);
    QueryName::read(rdata.get(from..from + usize::from(span.len))?)
}

/// Priority 0 (RFC 9460 §2.4.2).
fn is_alias_mode(rdata: &[u8]) -> bool {
    rdata.starts_with(&[0, 0])
}
