//! Our reader, writer and record data against hickory-proto's. Octet 0 chooses what is compared. Where both accept, both must say the same;
//! what either refuses is the other's business, for the reasons that `docs/conformance.md` lists.

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder, NameEncoding};
use meridian::dns::{Name, Parsed, QueryName, RecordType, Section, Writer, request};
use meridian::zone::rdata;
use meridian::zone::tree::compressible;

use super::first;

/// A choice, then what it is about.
pub(super) fn body(data: &[u8]) {
    let (choice, rest) = first(data);
    match choice % 4 {
        0 => compare_query(rest),
        1 => compare_rdata(rest),
        2 => compare_message(rest),
        _ => compare_name(rest),
    }
}

/// A query, read by both.
fn compare_query(packet: &[u8]) {
    let mut name = QueryName::root();
    let Parsed::Query(ours) = request::parse(packet, &mut name) else { return };
    // What we answer, they can read: but for records behind the question that we step over without looking into them (RFC 1035 §4.1, RFC 9619),
    // and options whose inside is nobody's business but theirs.
    let Ok(theirs) = Message::from_vec(packet) else { return };
    assert_eq!(theirs.queries.len(), 1);
    let query = &theirs.queries[0];
    let mut lower = Vec::new();
    query.name().iter().for_each(|label| {
        lower.push(label.len() as u8);
        lower.extend(label.to_ascii_lowercase());
    });
    lower.push(0);
    assert_eq!(ours.question.name.as_wire(), lower, "QNAME");
    assert_eq!(ours.question.rtype.0, u16::from(query.query_type()), "QTYPE");
    assert_eq!(ours.question.class.0, u16::from(query.query_class()), "QCLASS");
    assert_eq!(ours.edns.is_some(), theirs.edns.is_some(), "EDNS");
    let (Some(ours), Some(theirs)) = (ours.edns, &theirs.edns) else { return };
    assert_eq!(ours.udp_payload, theirs.max_payload(), "payload");
    assert_eq!(ours.dnssec_ok, theirs.flags().dnssec_ok, "DO");
    assert_eq!(theirs.version(), 0);
    if let (Some(ours), Some(EdnsOption::Subnet(theirs))) = (ours.ecs, theirs.option(EdnsCode::Subnet)) {
        assert_eq!((ours.addr, ours.source_len), (theirs.addr(), theirs.source_prefix()), "client subnet");
    }
}

/// Type and record data, as both read it, write it as text, and write it again.
fn compare_rdata(data: &[u8]) {
    let (high, rest) = first(data);
    let (low, octets) = first(rest);
    let rtype = RecordType(u16::from_be_bytes([high, low]));
    if rtype.is_meta() || rdata::validate(rtype, octets).is_err() {
        return;
    }
    let shown = rdata::to_text(rtype, octets);
    let again = rdata::parse(rtype, &shown, &Name::root()).unwrap_or_else(|error| panic!("{rtype} {shown}: {error}"));
    assert_eq!(again, octets, "{rtype} {shown}");
    let mut end = 0;
    for span in rdata::names(rtype, octets) {
        let from = usize::from(span.offset);
        assert!(from >= end, "names are in order");
        end = from + usize::from(span.len);
        Name::from_wire(&octets[from..end]).expect("a name lies there");
    }
    if let Some(theirs) = their_rdata(rtype, octets) {
        assert_eq!(encoded(&theirs), octets, "{rtype} {shown}: hickory reads {theirs:?}");
    }
}

fn their_rdata(rtype: RecordType, octets: &[u8]) -> Option<RData> {
    let mut wire = vec![0];
    wire.extend(rtype.0.to_be_bytes());
    wire.extend([0, 1, 0, 0, 0, 60]);
    wire.extend(u16::try_from(octets.len()).ok()?.to_be_bytes());
    wire.extend(octets);
    let record = Record::read(&mut BinDecoder::new(&wire)).ok()?;
    (u16::from(record.record_type()) == rtype.0 && !octets.is_empty()).then_some(record.data)
}

fn encoded(data: &RData) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut encoder = BinEncoder::new(&mut octets);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder).expect("it can be written");
    octets
}

/// A message of ours with compressed names, read by them. Octets: limit, then records as (section, owner, type, TTL, length, data).
fn compare_message(data: &[u8]) {
    let (limit, mut rest) = first(data);
    let limit = 64 + usize::from(limit) * 16;
    let Some(question) = take_name(&mut rest) else { return };
    let packet = [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], question, &[0, 1, 0, 1]].concat();
    // Left over from another reply: pointers to everywhere.
    let mut buf = vec![0xc0; limit];
    let Some(mut writer) = Writer::begin(&mut buf, &packet, packet.len(), limit) else { return };
    writer.learn_question();
    let mut written = Vec::new();
    let mut section = Section::Answer;
    while let Some((next, owner, rtype, ttl, octets)) = take_record(&mut rest) {
        section = section.max(next);
        if writer.put_record(section, owner, rtype, ttl, octets, compressible(rtype, octets)).is_ok() {
            written.push((section, owner, rtype, ttl, octets));
        }
    }
    let len = writer.finish();
    assert!(len <= limit);
    let message = Message::from_vec(&buf[..len]).unwrap_or_else(|error| panic!("{error}: {:02x?}", &buf[..len]));
    let sections = [&message.answers, &message.authorities, &message.additionals];
    for (section, records) in [Section::Answer, Section::Authority, Section::Additional].into_iter().zip(sections) {
        let ours: Vec<_> = written.iter().filter(|record| record.0 == section).collect();
        assert_eq!(ours.len(), records.len(), "{section:?}");
        for ((_, owner, rtype, ttl, octets), theirs) in ours.into_iter().zip(records) {
            let mut wire = Vec::new();
            theirs.name.iter().for_each(|label| {
                wire.push(label.len() as u8);
                wire.extend(label);
            });
            wire.push(0);
            assert!(wire.eq_ignore_ascii_case(owner), "owner {owner:02x?}");
            assert_eq!((rtype.0, *ttl), (theirs.record_type().into(), theirs.ttl));
            assert!(encoded(&theirs.data).eq_ignore_ascii_case(octets), "{rtype} {octets:02x?}: hickory reads {:?}", theirs.data);
        }
    }
}

fn take_name<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = meridian::dns::name::wire_len(rest)?;
    let (name, tail) = rest.split_at(len);
    *rest = tail;
    Some(name)
}

/// Types with names in their data, and some without. Not TSIG, SIG, OPT: those stand in messages for themselves.
const TYPES: [RecordType; 12] = [
    RecordType::A,
    RecordType::NS,
    RecordType::CNAME,
    RecordType::SOA,
    RecordType::MX,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::DNAME,
    RecordType::RP,
    RecordType::TXT,
    RecordType::AAAA,
    RecordType::NAPTR,
];

type Wanted<'a> = (Section, &'a [u8], RecordType, u32, &'a [u8]);

fn take_record<'a>(rest: &mut &'a [u8]) -> Option<Wanted<'a>> {
    let [choice, ttl, tail @ ..] = *rest else { return None };
    *rest = tail;
    let owner = take_name(rest)?;
    let (len, tail) = rest.split_first()?;
    let (octets, tail) = tail.split_at_checked(usize::from(*len))?;
    *rest = tail;
    let section = [Section::Answer, Section::Authority, Section::Additional][usize::from(choice >> 6) % 3];
    let rtype = TYPES[usize::from(choice & 0x3f) % TYPES.len()];
    if rdata::validate(rtype, octets).is_err() || their_rdata(rtype, octets).is_none() {
        return take_record(rest);
    }
    Some((section, owner, rtype, u32::from(*ttl), octets))
}

/// A name in presentation form, read by us and written; read by them in wire form.
fn compare_name(data: &[u8]) {
    let origin = Name::parse_absolute("origin.example").expect("a name");
    let Ok(ours) = Name::parse_octets(data, &origin) else { return };
    let shown = ours.to_string();
    assert_eq!(Name::parse_absolute(&shown).expect("what we write we read").as_wire(), ours.as_wire(), "{shown}");
    let theirs = hickory_proto::rr::Name::read(&mut BinDecoder::new(ours.as_wire())).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(theirs.iter().count(), ours.label_count());
    assert!(theirs.iter().zip(ours.labels()).all(|(theirs, ours)| theirs == ours), "{shown}: {theirs}");
}
