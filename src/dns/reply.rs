//! What a finished reply says, read from its octets.

use super::code::RecordType;
use super::request::{HEADER_LEN, skip_name};

/// The least TTL of the records of its answer and authority sections; `None` when there are none, or when it is no message.
pub fn least_ttl(message: &[u8]) -> Option<u32> {
    let count = |at: usize| Some(usize::from(u16::from_be_bytes(*message.get(at..)?.first_chunk()?)));
    let (questions, records) = (count(4)?, count(6)? + count(8)?);
    let mut at = HEADER_LEN;
    for _ in 0..questions {
        at = skip_name(message, at)? + 4;
    }
    let mut least = None;
    for _ in 0..records {
        at = skip_name(message, at)?;
        let &[t0, t1, _, _, l0, l1, l2, l3, d0, d1] = message.get(at..)?.first_chunk()?;
        if u16::from_be_bytes([t0, t1]) != RecordType::OPT.0 {
            let ttl = u32::from_be_bytes([l0, l1, l2, l3]);
            least = Some(least.map_or(ttl, |least: u32| least.min(ttl)));
        }
        at += 10 + usize::from(u16::from_be_bytes([d0, d1]));
    }
    (at <= message.len()).then_some(least)?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, OpCode, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType as Type};

    #[test]
    fn the_least_ttl_of_answer_and_authority() {
        let name = Name::from_ascii("www.example.com.").unwrap();
        for (answer, authority, additional, expected) in [
            (&[][..], &[][..], &[][..], None),
            (&[300, 60], &[], &[], Some(60)),
            (&[], &[0], &[], Some(0)),
            (&[300], &[20], &[1], Some(20)),
            (&[4_294_967_295], &[], &[], Some(u32::MAX)),
            (&[], &[], &[5], None),
        ] {
            let mut message = Message::response(0, OpCode::Query);
            message.add_query(Query::query(name.clone(), Type::A));
            let record = |ttl: &u32| Record::from_rdata(name.clone(), *ttl, RData::A(A::new(192, 0, 2, 1)));
            message.add_answers(answer.iter().map(record));
            message.add_authorities(authority.iter().map(record));
            message.add_additionals(additional.iter().map(record));
            let octets = message.to_vec().unwrap();
            assert_eq!(least_ttl(&octets), expected, "{answer:?} {authority:?}");
            for len in 0..octets.len() {
                // Cut short it may say less, but never reads beyond.
                least_ttl(&octets[..len]);
            }
        }
    }
}
