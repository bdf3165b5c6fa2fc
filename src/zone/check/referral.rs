//! Referrals that do not fit a UDP reply with the glue that resolvers cannot do without (RFC 9471 §3.1).

use std::collections::HashSet;
use std::ops::Range;

use super::index::path_of;
use super::{Checker, Fault, MAX_RESPONSE_LEN, Severity, USUAL_UDP_LEN, target_of};
use crate::dns::{Name, RecordType, Section, Writer};
use crate::zone::rdata;

/// The most octets of a reply for clients without EDNS (RFC 1035 §4.2.1).
const PLAIN_UDP_LEN: usize = 512;
/// An OPT record without options.
const OPT_LEN: usize = 11;

impl Checker<'_> {
    /// Checks the NS set of a delegation.
    pub(super) fn referral(&mut self, servers: Range<usize>) {
        let first = self.index.record(servers.start);
        let records = self.referral_records(servers);
        // Uncompressed it is larger than it can be; most delegations need no closer look.
        let question_len = first.owner.len() + 4;
        let most: usize = 12 + question_len + OPT_LEN + records.iter().map(|(owner, _, data)| owner.as_wire().len() + 10 + data.len()).sum::<usize>();
        if most <= PLAIN_UDP_LEN {
            return;
        }
        let Some(len) = written_len(&first.owner_name(), &records) else { return };
        let with_edns = len + OPT_LEN;
        for (len, limit) in [(with_edns, USUAL_UDP_LEN), (len, PLAIN_UDP_LEN)] {
            if len > limit {
                return self.faults.push(Severity::Warning, first, Fault::LargeReferral { len, limit });
            }
        }
    }

    /// The NS records, and the addresses of those servers that lie below the delegation.
    fn referral_records(&self, servers: Range<usize>) -> Vec<(Name, RecordType, &[u8])> {
        let owner = self.index.record(servers.start).owner_name();
        let mut records: Vec<(Name, RecordType, &[u8])> = Vec::new();
        let (mut glue, mut known): (Vec<Name>, HashSet<Name>) = (Vec::new(), HashSet::new());
        for position in servers {
            let record = self.index.record(position);
            records.push((owner.clone(), RecordType::NS, record.rdata));
            glue.extend(target_of(record).filter(|target| target.is_at_or_below(&owner) && known.insert(target.clone())));
        }
        for name in glue {
            let path = path_of(name.as_wire());
            let Some(node) = self.index.find(&path, path.labels()) else { continue };
            for (rtype, range) in self.index.rrsets(node).filter(|(rtype, _)| matches!(*rtype, RecordType::A | RecordType::AAAA)) {
                records.extend(range.map(|position| (name.clone(), rtype, self.index.record(position).rdata)));
            }
        }
        records
    }
}

/// The octets of the referral for a question of the delegation's own name, without OPT.
fn written_len(owner: &Name, records: &[(Name, RecordType, &[u8])]) -> Option<usize> {
    let mut question = vec![0u8; 12];
    question.extend_from_slice(owner.as_wire());
    question.extend_from_slice(&[0, 1, 0, 1]);
    let mut buf = vec![0u8; MAX_RESPONSE_LEN];
    let mut writer = Writer::begin(&mut buf, &question, question.len(), MAX_RESPONSE_LEN)?;
    writer.learn_question();
    for (owner, rtype, data) in records {
        let spans = rdata::names(*rtype, data).filter(|span| span.compressible).map(|span| (usize::from(span.offset), usize::from(span.len)));
        if writer.put_record(Section::Authority, owner.as_wire(), *rtype, 0, data, spans).is_err() {
            return Some(MAX_RESPONSE_LEN);
        }
    }
    Some(writer.len())
}
