//! Chains of CNAMEs and DNAMEs that come back to themselves.

use std::collections::HashSet;

use super::index::{Index, path_of};
use super::{Checker, Fault, Faults, Severity, target_of};
use crate::dns::{Name, RecordType};
use crate::zone::{Kinds, Owners};

/// Names followed from one record. The engine gives up earlier; a loop that is longer is reported by nobody and harms nobody.
const MAX_STEPS: usize = 64;

/// Where a name leads: the next name, and the owner that says so.
struct Hop {
    next: Name,
    node: usize,
    is_dname: bool,
}

/// The static aliases of a zone, to be followed.
pub struct Aliases<'a>(Checker<'a>);

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Onward {
    /// A CNAME or DNAME applies to it.
    Alias(Name),
    /// Nowhere: it has other data, stands below a delegation, or is not in the zone.
    Ends,
    /// No record stands for it.
    Absent {
        /// Labels of the closest name above it that exists.
        encloser: usize,
    },
}

impl<'a> Aliases<'a> {
    /// Those of the zone of `apex`.
    pub fn new(apex: &'a Name, owners: &'a Owners) -> Aliases<'a> {
        let index = Index::new(apex, owners);
        Aliases(Checker { apex, index, steered: HashSet::new(), aliases: HashSet::new(), glue: HashSet::new(), faults: Faults::default() })
    }

    /// One step.
    pub fn onward(&self, name: &Name) -> Onward {
        if let Some(hop) = self.0.hop(name) {
            return Onward::Alias(hop.next);
        }
        let (index, path) = (&self.0.index, path_of(name.as_wire()));
        if !name.is_at_or_below(self.0.apex) || index.barrier_above(&path).is_some() || index.exists(&path, path.labels()) {
            return Onward::Ends;
        }
        match self.0.wildcard(&path) {
            Some(_) => Onward::Ends,
            None => Onward::Absent { encloser: index.closest_encloser(&path) },
        }
    }
}

impl Checker<'_> {
    /// Reports each loop once, at the first of its CNAMEs as read, or of its DNAMEs when it has no CNAME.
    pub(super) fn loops(&mut self) {
        for node in 0..self.index.len() {
            if !self.index.has(node, Kinds::CNAME.and(Kinds::DNAME)) || self.index.barrier(node).is_some() {
                continue;
            }
            let aliases: Vec<_> = self.index.rrsets(node).filter(|(rtype, _)| matches!(*rtype, RecordType::CNAME | RecordType::DNAME)).collect();
            for (rtype, range) in aliases {
                let record = self.index.record(range.start);
                let Some(target) = target_of(record) else { continue };
                if rtype == RecordType::DNAME && target.is_at_or_below(&record.owner_name()) {
                    self.faults.push(Severity::Warning, record, Fault::DnameBelowItself { target });
                    continue;
                }
                // A name that the record applies to.
                let start = if rtype == RecordType::DNAME { record.owner_name().child(b"x").ok() } else { Some(record.owner_name()) };
                let Some(through) = start.and_then(|start| self.loop_from(start, node)) else { continue };
                self.faults.push(Severity::Warning, record, Fault::Loop { through });
            }
        }
    }

    /// The names of the loop that the chain from `start` runs into, if `first` is the first owner on it.
    fn loop_from(&self, start: Name, first: usize) -> Option<Vec<Name>> {
        let mut names = vec![start];
        let mut hops: Vec<(bool, usize)> = Vec::new();
        while names.len() <= MAX_STEPS {
            let hop = self.hop(names.last()?)?;
            hops.push((hop.is_dname, hop.node));
            if let Some(from) = names.iter().position(|name| *name == hop.next) {
                // A CNAME before a DNAME: from a DNAME only names that nobody wrote down are followed.
                return hops[from..].iter().min().is_some_and(|(_, node)| *node == first).then(|| names.split_off(from));
            }
            names.push(hop.next);
        }
        None
    }

    /// One step of RFC 1034 §4.3.2 as far as it leads to another name of the zone.
    fn hop(&self, name: &Name) -> Option<Hop> {
        if !name.is_at_or_below(self.apex) {
            return None;
        }
        let path = path_of(name.as_wire());
        if let Some(barrier) = self.index.barrier_above(&path) {
            if !barrier.is_dname {
                return None;
            }
            let dname = self.alias(barrier.node, RecordType::DNAME)?;
            let kept = name.as_wire().len() - self.index.name(barrier.node).len();
            let wire = [&name.as_wire()[..kept], dname.as_wire()].concat();
            return Some(Hop { next: Name::from_wire(&wire).ok()?, node: barrier.node, is_dname: true });
        }
        let node = match self.index.find(&path, path.labels()) {
            Some(node) => node,
            None if self.index.exists(&path, path.labels()) => return None,
            None => self.wildcard(&path)?,
        };
        Some(Hop { next: self.alias(node, RecordType::CNAME)?, node, is_dname: false })
    }

    fn alias(&self, node: usize, rtype: RecordType) -> Option<Name> {
        let (_, range) = self.index.rrsets(node).find(|(other, _)| *other == rtype)?;
        target_of(self.index.record(range.start))
    }
}
