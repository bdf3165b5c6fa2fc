//! The names of a zone in canonical order (RFC 4034 §6.1), for lists. Answering needs no order, so a tree is built without one.
//!
//! A million names are compared twenty million times. So each is compared by the octets of its last labels first, which stand beside its number; the
//! names themselves are looked at where those are equal.

use super::{NodeId, ZoneTree};
use crate::dns::Name;
use crate::dns::name::canonical_order;

/// From so many names on it is worth while to put them in order before somebody asks.
const LARGE: usize = 10_000;
/// Octets of a name that are compared before it is looked at.
const HINT_LEN: usize = 16;

/// A node with the beginning of its name as canonical order reads it: what stands to the left counts less.
type Hinted = ([u64; HINT_LEN / 8], NodeId);

impl ZoneTree {
    /// Nodes with records in canonical order, from `first` on, whether there is such a name or not. The first call puts all names in order, which
    /// [`ZoneTree::put_in_order`] does ahead of time.
    pub fn in_order(&self, first: Option<&Name>) -> &[NodeId] {
        let order = self.order.get_or_init(|| self.ordered());
        let begin = first.map_or(0, |first| order.partition_point(|id| canonical_order(self.name(*id), first.as_wire()).is_lt()));
        order.get(begin..).unwrap_or(&[])
    }

    /// True when somebody who asks for a list would wait for the order.
    pub fn is_large(&self) -> bool {
        self.nodes >= LARGE
    }

    /// Puts the names in order, so that nobody waits for that.
    pub fn put_in_order(&self) {
        let _ = self.order.get_or_init(|| self.ordered());
    }

    fn ordered(&self) -> Box<[NodeId]> {
        let apex_len = self.apex.as_wire().len();
        let owners = self.heap.nodes_of(0..self.heap.end()).filter(|id| self.rrsets(*id).next().is_some());
        let mut all: Vec<Hinted> = owners.map(|id| (hint(self.name(id), apex_len), id)).collect();
        all.sort_unstable_by(|(hint, id), (other_hint, other)| hint.cmp(other_hint).then_with(|| canonical_order(self.name(*id), self.name(*other))));
        all.into_iter().map(|(_, id)| id).collect()
    }
}

/// The octets of the labels in front of the apex, the last label first, each with a zero behind it. Names whose hints differ are in the order of
/// the hints. A zero within a label would look like its end, so a hint ends with the first octet that is no more than one, written as one.
fn hint(name: &[u8], apex_len: usize) -> [u64; HINT_LEN / 8] {
    let own = &name[..name.len().saturating_sub(apex_len)];
    let (mut starts, mut labels, mut at) = ([0u8; 128], 0, 0);
    while let Some(len) = own.get(at) {
        starts[labels] = at as u8;
        labels += 1;
        at += 1 + usize::from(*len);
    }
    let mut octets = [0u8; HINT_LEN];
    let mut free = octets.iter_mut();
    'labels: for start in starts[..labels].iter().rev() {
        let start = usize::from(*start);
        let label = own.get(start + 1..=start + usize::from(own[start])).unwrap_or_default();
        for octet in label {
            let Some(place) = free.next() else { break 'labels };
            *place = (*octet).max(1);
            if *octet <= 1 {
                break 'labels;
            }
        }
        if free.next().is_none() {
            break;
        }
    }
    let half = |half: &[u8]| half.first_chunk::<8>().map_or(0, |octets| u64::from_be_bytes(*octets));
    [half(&octets[..8]), half(&octets[8..])]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &str) -> Vec<u8> {
        Name::parse_absolute(text).expect(text).to_lowercase().as_wire().to_vec()
    }

    #[test]
    fn hints_never_contradict_the_order_of_names() {
        // RFC 4034 §6.1, and labels that begin like others, hold what looks like an end, or are longer than a hint.
        let names = [
            "example.",
            "a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            "\\001.z.example.",
            "*.z.example.",
            "\\200.z.example.",
            "a\\000.example.",
            "b.a\\000.example.",
            "a\\000z.example.",
            "a\\001a.example.",
            "a\\001.example.",
            "a\\002.example.",
            "a.a\\000.example.",
            "\\000.example.",
            "\\000z.example.",
            "\\001a.example.",
            "\\255.example.",
            "a-very-long-label-that-is-no-hint.example.",
            "a-very-long-label-that-is-another.example.",
            "a-very-long-labe.example.",
            "a-very-long-lab.example.",
            "0.0.0.0.0.0.0.0.0.0.0.0.example.",
            "1.0.0.0.0.0.0.0.0.0.0.0.example.",
            "0.0.0.0.0.0.0.1.0.0.0.0.example.",
        ];
        let apex_len = wire("example.").len();
        for a in names {
            for b in names {
                let (a, b) = (wire(a), wire(b));
                let by_hint = hint(&a, apex_len).cmp(&hint(&b, apex_len));
                let by_name = canonical_order(&a, &b);
                assert!(by_hint.is_eq() || by_hint == by_name, "{a:?} {b:?}: {by_hint:?}, {by_name:?}");
                assert_eq!(by_name, Name::from_wire(&a).expect("a name").cmp(&Name::from_wire(&b).expect("a name")));
            }
        }
        assert!(hint(&wire("a.example."), apex_len) < hint(&wire("b.example."), apex_len), "a hint helps");
    }
}
