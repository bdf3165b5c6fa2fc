//! Reading a query: header, question, OPT, TSIG. Total: any octets come to a [`Parsed`], none to a panic.
//!
//! What is checked, in this order (RFC 1035 §4.1, RFC 6891, RFC 7871, RFC 9619):
//!
//! ```text
//! shorter than a header, or QR = 1     silence
//! opcode not QUERY                     NOTIMP, BADVERS before it; NOTIFY and UPDATE are checked as queries are, and REFUSED or NOTAUTH at the end
//! QDCOUNT ≠ 1                          FORMERR, header only; no question but a cookie: its answer (RFC 7873 §5.4)
//! question unreadable                  FORMERR, header only
//! records, OPT or TSIG unreadable      FORMERR with the question
//! EDNS version > 0                     BADVERS
//! an option malformed                  FORMERR with the question
//! TSIG                                 NOTAUTH, with TSIG error BADKEY (RFC 8945 §5.2.1): there are no keys yet
//! ```

use super::edns::Edns;
use super::name::{MAX_LABEL_LEN, MAX_LABELS, MAX_NAME_LEN, wire_len};
use super::{Class, Opcode, Rcode, RecordType};

/// Octets of a message header (RFC 1035 §4.1.1).
pub const HEADER_LEN: usize = 12;

/// A query name: wire form in lower case, with the places of its labels.
#[derive(Clone, Debug)]
pub struct QueryName {
    lower: [u8; MAX_NAME_LEN],
    len: u8,
    /// Offsets of the labels from the left; the root label's offset is not among them.
    label_at: [u8; MAX_LABELS],
    labels: u8,
}

impl QueryName {
    /// Takes one uncompressed name from the start of `octets`; `None` when there is none.
    pub fn read(octets: &[u8]) -> Option<QueryName> {
        let mut name = QueryName::root();
        name.set(octets).then_some(name)
    }

    /// The root.
    pub fn root() -> QueryName {
        QueryName { lower: [0; MAX_NAME_LEN], len: 1, label_at: [0; MAX_LABELS], labels: 0 }
    }

    /// Becomes the one uncompressed name at the start of `octets`; false, and the name is not to be used, when there is none. In place, because
    /// a move copies all that a name could be.
    #[inline]
    pub fn set(&mut self, octets: &[u8]) -> bool {
        self.try_set(octets).is_some()
    }

    #[inline]
    fn try_set(&mut self, octets: &[u8]) -> Option<()> {
        // Names of 255 octets at most: whatever lies behind is not looked at.
        let octets = octets.get(..MAX_NAME_LEN).unwrap_or(octets);
        let (mut at, mut labels) = (0usize, 0usize);
        loop {
            let len = usize::from(*octets.get(at)?);
            if len == 0 {
                break;
            }
            if len > MAX_LABEL_LEN {
                return None;
            }
            *self.label_at.get_mut(labels)? = at as u8;
            labels += 1;
            at += 1 + len;
        }
        let len = at + 1;
        copy_lowercase(self.lower.get_mut(..len)?, octets.get(..len)?);
        self.len = len as u8;
        self.labels = labels as u8;
        Some(())
    }

    /// Lower-case wire form, the root label last.
    #[inline]
    pub fn as_wire(&self) -> &[u8] {
        self.lower.get(..usize::from(self.len)).unwrap_or(&[0])
    }

    /// Labels, the root not counted.
    pub fn label_count(&self) -> usize {
        usize::from(self.labels)
    }

    /// Wire form of the last `labels` labels and the root.
    #[inline]
    pub fn suffix(&self, labels: usize) -> &[u8] {
        let skip = self.label_count().saturating_sub(labels);
        let from = match self.label_at.get(skip) {
            Some(at) if skip < self.label_count() => usize::from(*at),
            _ => usize::from(self.len).saturating_sub(1),
        };
        self.as_wire().get(from..).unwrap_or(&[0])
    }

    /// The label at `depth` from the right, 1 being the one next to the root; without its length octet.
    #[inline]
    pub fn label_from_right(&self, depth: usize) -> &[u8] {
        let suffix = self.suffix(depth);
        let len = suffix.first().map_or(0, |len| usize::from(*len));
        suffix.get(1..1 + len).unwrap_or(&[])
    }
}

/// Eight octets at a time: names are too short for the vector loops that the compiler makes of octet by octet. The last eight overlap those before.
#[inline]
fn copy_lowercase(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.as_chunks_mut::<8>().0.iter_mut().zip(from.as_chunks::<8>().0) {
        *to = lowercase(u64::from_ne_bytes(*from)).to_ne_bytes();
    }
    match (to.last_chunk_mut::<8>(), from.last_chunk::<8>()) {
        (Some(to), Some(from)) => *to = lowercase(u64::from_ne_bytes(*from)).to_ne_bytes(),
        _ => to.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_ascii_lowercase()),
    }
}

/// Each of the eight octets in ASCII lower case. Length octets are at most 63, below 'A', and stay as they are.
#[inline]
fn lowercase(octets: u64) -> u64 {
    const ALL: u64 = u64::MAX / 0xff;
    let low_bits = octets & (ALL * 0x7f);
    // The top bit of an octet tells whether it is past 'Z', and whether it is 'A' or past it.
    let past_z = low_bits + ALL * u64::from(0x7f - b'Z');
    let from_a = low_bits + ALL * u64::from(0x80 - b'A');
    let upper = (from_a ^ past_z) & !octets & (ALL * 0x80);
    octets | upper >> 2
}

/// The question of a query.
#[derive(Clone, Copy, Debug)]
pub struct Question<'n> {
    /// Lower case.
    pub name: &'n QueryName,
    /// QTYPE.
    pub rtype: RecordType,
    /// QCLASS.
    pub class: Class,
    /// Offset of the octet behind the question; the question itself starts at 12.
    pub end: usize,
}

/// A query that deserves an answer.
#[derive(Clone, Copy, Debug)]
pub struct Request<'n> {
    /// What is asked.
    pub question: Question<'n>,
    /// Present when the query had an OPT record.
    pub edns: Option<Edns>,
}

/// What the octets came to.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<'n> {
    /// A response or less than a header: say nothing.
    Silence,
    /// Answer with a code.
    Fault(Fault),
    /// No question, and OPT with a cookie: the client wants a server cookie (RFC 7873 §5.4), or it is a FORMERR where cookies are off.
    CookieQuery(Edns),
    /// Answer it.
    Query(Request<'n>),
}

/// A message that is answered with a response code alone.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// FORMERR, NOTIMP, REFUSED, NOTAUTH or BADVERS.
    pub rcode: Rcode,
    /// Where the question ends; 12 when none could be read, and none is repeated then.
    pub question_end: usize,
    /// There was an OPT record, so the reply has one; as far as it could be read.
    pub edns: Option<Edns>,
    /// There was a TSIG record of a key that we do not have (we have none yet).
    pub tsig: Option<Tsig>,
}

/// Where the parts of a TSIG record are in the message (RFC 8945 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsig {
    /// Owner, the name of the key; perhaps compressed.
    pub owner: usize,
    /// Type, class, TTL and length: ten octets; behind them the name of the algorithm.
    pub fixed: usize,
    /// Behind the name of the algorithm: time signed and fudge, eight octets.
    pub times: usize,
    /// Original identifier, two octets.
    pub original_id: usize,
}

impl Fault {
    fn of(rcode: Rcode, question_end: usize, edns: Option<Edns>) -> Fault {
        Fault { rcode, question_end, edns, tsig: None }
    }
}

/// Reads one message. `name` is room for the question's name; what it holds before does not matter.
#[inline]
pub fn parse<'n>(packet: &[u8], name: &'n mut QueryName) -> Parsed<'n> {
    let Some(header) = packet.get(..HEADER_LEN) else { return Parsed::Silence };
    if header[2] & 0x80 != 0 {
        return Parsed::Silence;
    }
    let opcode = Opcode((header[2] >> 3) & 0x0f);
    let count = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    if opcode != Opcode::QUERY || count(4) != 1 {
        return read_unusual(packet, opcode, [count(4), count(6) + count(8), count(10)], name);
    }
    let Some(question) = read_question(packet, name) else { return Parsed::Fault(Fault::of(Rcode::FORMERR, HEADER_LEN, None)) };
    if count(6) == 0 && count(8) == 0 && count(10) == 0 && packet.len() == question.end {
        return Parsed::Query(Request { question, edns: None });
    }
    if let (&[0, 0, 0, 0, 0, 1], Some(opt)) = (header.last_chunk().unwrap_or(&[0; 6]), lone_opt(packet, question.end)) {
        return match opt.edns() {
            Ok(edns) => Parsed::Query(Request { question, edns: Some(edns) }),
            Err(fault) => Parsed::Fault(Fault { question_end: question.end, ..fault }),
        };
    }
    match read_records(packet, question.end, count(6) + count(8), count(10)) {
        Ok(edns) => Parsed::Query(Request { question, edns }),
        Err(fault) => Parsed::Fault(Fault { question_end: question.end, ..fault }),
    }
}

/// What is no query with one question. `counts` are those of the header: questions, records before the additional section, and in it.
///
/// ```text
/// opcode           questions   records             comes to
/// any              any         OPT not version 0   BADVERS (RFC 6891 §6.1.3)
/// QUERY            0           OPT with a cookie   CookieQuery (RFC 7873 §5.4)
/// QUERY            0           any other           FORMERR (RFC 9619 §4)
/// QUERY            2 or more   –                   FORMERR (RFC 9619 §4)
/// NOTIFY, UPDATE   not 1       –                   FORMERR (RFC 9619 §A.2, RFC 2136 §3.1.1)
/// NOTIFY, UPDATE   1           unreadable          FORMERR (RFC 6891 §6.1.1, RFC 7873 §5.2.2)
/// NOTIFY, UPDATE   1           TSIG                NOTAUTH with BADKEY (RFC 8945 §5.2.1)
/// UPDATE           1, not SOA  any other           FORMERR (RFC 2136 §3.1.1)
/// NOTIFY, UPDATE   1           any other           REFUSED, until they are configured; of no zone of ours NOTAUTH (RFC 2136 §3.1.2)
/// other            any         –                   NOTIMP (RFC 8906 §3.1.4)
/// ```
#[cold]
fn read_unusual<'n>(packet: &[u8], opcode: Opcode, counts: [usize; 3], name: &'n mut QueryName) -> Parsed<'n> {
    let [questions, before, additional] = counts;
    let records = skip_questions(packet, questions).map(|at| read_records(packet, at, before, additional));
    let edns = match records {
        Some(Ok(edns)) => edns,
        Some(Err(fault)) => fault.edns,
        None => None,
    };
    let question = if questions == 1 { read_question(packet, name) } else { None };
    let question_end = question.map_or(HEADER_LEN, |question| question.end);
    match (opcode, records) {
        (_, Some(Err(fault))) if fault.rcode == Rcode::BADVERS => Parsed::Fault(Fault { question_end, ..fault }),
        (Opcode::QUERY, Some(Ok(Some(edns)))) if questions == 0 && edns.cookie.is_some() => Parsed::CookieQuery(edns),
        (Opcode::QUERY, _) => Parsed::Fault(Fault::of(Rcode::FORMERR, HEADER_LEN, edns)),
        (Opcode::NOTIFY | Opcode::UPDATE, _) if question_end == HEADER_LEN => Parsed::Fault(Fault::of(Rcode::FORMERR, HEADER_LEN, edns)),
        (Opcode::NOTIFY | Opcode::UPDATE, Some(Err(fault))) => Parsed::Fault(Fault { question_end, ..fault }),
        (Opcode::UPDATE, _) if question.is_some_and(|zone| zone.rtype != RecordType::SOA) => {
            Parsed::Fault(Fault::of(Rcode::FORMERR, question_end, edns))
        }
        (Opcode::NOTIFY | Opcode::UPDATE, _) => Parsed::Fault(Fault::of(Rcode::REFUSED, question_end, edns)),
        _ => Parsed::Fault(Fault::of(Rcode::NOTIMP, question_end, edns)),
    }
}

fn skip_questions(packet: &[u8], questions: usize) -> Option<usize> {
    // Each is at least five octets, so this ends with the message.
    let step = |at, _| skip_name(packet, at).map(|end| end + 4).filter(|end| *end <= packet.len());
    (0..questions).try_fold(HEADER_LEN, step)
}

fn read_question<'n>(packet: &[u8], name: &'n mut QueryName) -> Option<Question<'n>> {
    name.try_set(packet.get(HEADER_LEN..)?)?;
    let at = HEADER_LEN + name.as_wire().len();
    let fixed = packet.get(at..at + 4)?;
    Some(Question {
        name,
        rtype: RecordType(u16::from_be_bytes([fixed[0], fixed[1]])),
        class: Class(u16::from_be_bytes([fixed[2], fixed[3]])),
        end: at + 4,
    })
}

/// One record's fixed part, as far as a query's own records matter.
struct RawRecord<'a> {
    owner_is_root: bool,
    rtype: u16,
    class: u16,
    ttl: [u8; 4],
    rdata: &'a [u8],
    end: usize,
}

fn read_record(packet: &[u8], at: usize) -> Option<RawRecord<'_>> {
    let owner_end = skip_name(packet, at)?;
    let fixed = packet.get(owner_end..owner_end + 10)?;
    let rdata_at = owner_end + 10;
    let end = rdata_at + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    Some(RawRecord {
        owner_is_root: packet.get(at) == Some(&0),
        rtype: u16::from_be_bytes([fixed[0], fixed[1]]),
        class: u16::from_be_bytes([fixed[2], fixed[3]]),
        ttl: [fixed[4], fixed[5], fixed[6], fixed[7]],
        rdata: packet.get(rdata_at..end)?,
        end,
    })
}

/// OPT, if it is all that stands from `at` on: what nearly every query has.
#[inline]
fn lone_opt(packet: &[u8], at: usize) -> Option<RawRecord<'_>> {
    let (head, rdata) = packet.get(at..)?.split_first_chunk::<11>()?;
    let &[0, 0, 41, c0, c1, t0, t1, t2, t3, l0, l1] = head else { return None };
    let is_whole = rdata.len() == usize::from(u16::from_be_bytes([l0, l1]));
    let rtype = RecordType::OPT.0;
    is_whole.then_some(RawRecord { owner_is_root: true, rtype, class: u16::from_be_bytes([c0, c1]), ttl: [t0, t1, t2, t3], rdata, end: packet.len() })
}

/// Steps over a name that may end in a compression pointer, without following it.
pub(crate) fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    let from = at;
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0..=0xff => return packet.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
        if at - from >= MAX_NAME_LEN {
            return None;
        }
    }
}

/// The OPT record among the records behind the question, or the fault, its `question_end` left to the caller.
fn read_records(packet: &[u8], mut at: usize, before: usize, additional: usize) -> Result<Option<Edns>, Fault> {
    let formerr = |opt: &Option<RawRecord<'_>>| Fault::of(Rcode::FORMERR, HEADER_LEN, opt.as_ref().map(RawRecord::unread));
    let mut opt: Option<RawRecord<'_>> = None;
    let mut tsig = None;
    for index in 0..before + additional {
        // TSIG is the last record (RFC 8945 §5.1).
        let record = read_record(packet, at).filter(|_| tsig.is_none()).ok_or_else(|| formerr(&opt))?;
        match RecordType(record.rtype) {
            // OPT stands once, in the additional section, at the root (RFC 6891 §6.1.1).
            RecordType::OPT if index < before || opt.is_some() || !record.owner_is_root => {
                return Err(formerr(&Some(record)));
            }
            RecordType::TSIG if index < before => return Err(formerr(&opt)),
            RecordType::TSIG => tsig = Some(read_tsig(packet, at, &record).ok_or_else(|| formerr(&opt))?),
            _ => {}
        }
        at = record.end;
        if record.rtype == RecordType::OPT.0 {
            opt = Some(record);
        }
    }
    if at != packet.len() {
        return Err(formerr(&opt));
    }
    let edns = match &opt {
        Some(opt) => Some(opt.edns()?),
        None => None,
    };
    match tsig {
        None => Ok(edns),
        Some(tsig) => Err(Fault { rcode: Rcode::NOTAUTH, question_end: HEADER_LEN, edns, tsig: Some(tsig) }),
    }
}

impl RawRecord<'_> {
    /// As an OPT record, its options not looked at.
    fn bare(&self) -> Edns {
        Edns::bare(self.class, self.ttl[2] & 0x80 != 0)
    }

    /// As the OPT record of a fault: nothing of its options is used but that they ask for padding.
    fn unread(&self) -> Edns {
        self.bare().with_padding_of(self.rdata)
    }

    /// As an OPT record.
    #[inline]
    fn edns(&self) -> Result<Edns, Fault> {
        // Of another version nothing but the fixed part can be understood (RFC 6891 §6.1.3); padding does no harm where it was not meant.
        if self.ttl[1] != 0 {
            return Err(Fault::of(Rcode::BADVERS, HEADER_LEN, Some(self.unread())));
        }
        let mut edns = self.bare();
        match edns.read_options(self.rdata) {
            Some(()) => Ok(edns),
            None => Err(Fault::of(Rcode::FORMERR, HEADER_LEN, Some(self.unread()))),
        }
    }
}

/// Copies the name at `at` with its compression pointers followed (RFC 1035 §4.1.4); its length, or `None` when there is none. Each pointer leads
/// before the part that it ends, so they come to an end.
pub fn expand(packet: &[u8], mut at: usize, out: &mut [u8; MAX_NAME_LEN]) -> Option<usize> {
    let (mut len, mut part_at) = (0, at);
    loop {
        let head = usize::from(*packet.get(at)?);
        match head {
            0..=MAX_LABEL_LEN => {
                let label = packet.get(at..at + 1 + head)?;
                out.get_mut(len..len + label.len())?.copy_from_slice(label);
                len += label.len();
                at += label.len();
                if head == 0 {
                    return Some(len);
                }
            }
            0xc0.. => {
                at = (head & 0x3f) << 8 | usize::from(*packet.get(at + 1)?);
                if at >= part_at {
                    return None;
                }
                part_at = at;
            }
            _ => return None,
        }
    }
}

/// The places of a TSIG record's parts; `None` when it is none. Its owner may be compressed as any, the name of the algorithm is not (RFC 8945 §4.2).
#[cold]
fn read_tsig(packet: &[u8], at: usize, record: &RawRecord<'_>) -> Option<Tsig> {
    expand(packet, at, &mut [0; MAX_NAME_LEN])?;
    let algorithm = wire_len(record.rdata)?;
    let times = record.end - record.rdata.len() + algorithm;
    let mac_len = record.rdata.get(algorithm + 8..algorithm + 10)?;
    let behind_mac = algorithm + 10 + usize::from(u16::from_be_bytes([mac_len[0], mac_len[1]]));
    let tail = record.rdata.get(behind_mac..behind_mac + 6)?;
    let is_whole = record.rdata.len() == behind_mac + 6 + usize::from(u16::from_be_bytes([tail[4], tail[5]]));
    let is_meta = record.class == Class::ANY.0 && record.ttl == [0; 4];
    (is_whole && is_meta).then_some(Tsig {
        owner: at,
        fixed: record.end - record.rdata.len() - 10,
        times,
        original_id: times - algorithm + behind_mac,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(packet: &[u8]) -> Parsed<'static> {
        super::parse(packet, Box::leak(Box::new(QueryName::root())))
    }

    fn query(opt: Option<&[u8]>) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, u8::from(opt.is_some())];
        packet.extend_from_slice(b"\x03WwW\x07example\x03com\x00\x00\x01\x00\x01");
        packet.extend_from_slice(opt.unwrap_or(&[]));
        packet
    }

    fn opt(options: &[u8]) -> Vec<u8> {
        let mut record = vec![0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0];
        record.extend_from_slice(&(options.len() as u16).to_be_bytes());
        record.extend_from_slice(options);
        record
    }

    fn edns_of(options: &[u8]) -> Result<Edns, Rcode> {
        match parse(&query(Some(&opt(options)))) {
            Parsed::Query(request) => Ok(request.edns.expect("an OPT was sent")),
            Parsed::Fault(Fault { rcode, edns: Some(_), .. }) => Err(rcode),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rfc4343_every_octet_is_lowered_as_ascii_says() {
        for octet in 0..=255u8 {
            for at in 0..8 {
                let mut octets = *b"aZ@[`{\x80\xff";
                octets[at] = octet;
                assert_eq!(lowercase(u64::from_ne_bytes(octets)).to_ne_bytes(), octets.map(|octet| octet.to_ascii_lowercase()), "{octets:?}");
            }
        }
    }

    #[test]
    fn the_question_is_lowered_and_cut_into_labels() {
        let Parsed::Query(request) = parse(&query(None)) else { panic!("a plain query") };
        let name = &request.question.name;
        assert_eq!(name.as_wire(), b"\x03www\x07example\x03com\x00");
        assert_eq!(name.label_count(), 3);
        for (labels, suffix) in [(0, &b"\x00"[..]), (1, b"\x03com\x00"), (2, b"\x07example\x03com\x00"), (3, name.as_wire()), (9, name.as_wire())] {
            assert_eq!(name.suffix(labels), suffix, "{labels}");
        }
        assert_eq!(name.label_from_right(1), b"com");
        assert_eq!(name.label_from_right(3), b"www");
        assert_eq!((request.question.rtype, request.question.class, request.question.end), (RecordType::A, Class::IN, 33));
    }

    #[test]
    fn rfc6891_opt_faults() {
        assert_eq!(edns_of(&[]).map(|e| (e.udp_payload, e.dnssec_ok, e.nsid)), Ok((1232, true, false)));
        assert_eq!(edns_of(&[0, 3, 0, 0]).map(|e| e.nsid), Ok(true));
        assert_eq!(edns_of(&[0, 3, 0, 9]), Err(Rcode::FORMERR), "an option that overruns");
        assert_eq!(edns_of(&[0, 3, 0]), Err(Rcode::FORMERR), "half an option head");
        let mut version_1 = opt(&[]);
        version_1[6] = 1;
        assert!(matches!(parse(&query(Some(&version_1))), Parsed::Fault(Fault { rcode: Rcode::BADVERS, edns: Some(_), .. })));
        // Whatever the opcode (RFC 6891 §6.1.3).
        let mut update = query(Some(&version_1));
        update[2] = 5 << 3;
        assert!(matches!(parse(&update), Parsed::Fault(Fault { rcode: Rcode::BADVERS, edns: Some(_), .. })));
        let mut twice = query(Some(&[opt(&[]), opt(&[])].concat()));
        twice[11] = 2;
        assert!(matches!(parse(&twice), Parsed::Fault(Fault { rcode: Rcode::FORMERR, edns: Some(_), .. })));
        let mut trailing = query(Some(&opt(&[])));
        trailing.push(0);
        assert!(matches!(parse(&trailing), Parsed::Fault(Fault { rcode: Rcode::FORMERR, edns: Some(_), .. })));
    }

    #[test]
    fn what_is_no_query_is_told_apart() {
        let plain = query(None);
        assert!(matches!(parse(&plain[..11]), Parsed::Silence));
        let with = |at: usize, octet: u8| {
            let mut packet = plain.clone();
            packet[at] = octet;
            parse(&packet)
        };
        assert!(matches!(with(2, 0x80), Parsed::Silence), "a response");
        assert!(matches!(with(2, 0x10), Parsed::Fault(Fault { rcode: Rcode::NOTIMP, question_end: 33, .. })), "STATUS");
        assert!(matches!(with(2, 0x20), Parsed::Fault(Fault { rcode: Rcode::REFUSED, .. })), "NOTIFY");
        assert!(matches!(with(5, 0), Parsed::Fault(Fault { rcode: Rcode::FORMERR, question_end: 12, .. })), "RFC 9619");
        assert!(matches!(with(5, 2), Parsed::Fault(Fault { rcode: Rcode::FORMERR, question_end: 12, .. })), "RFC 9619");
        assert!(matches!(with(12, 0xc0), Parsed::Fault(Fault { rcode: Rcode::FORMERR, question_end: 12, .. })), "a pointer in the question");
        assert!(matches!(with(12, 64), Parsed::Fault(Fault { rcode: Rcode::FORMERR, question_end: 12, .. })), "a label type that does not exist");
        for cut in 12..plain.len() {
            assert!(matches!(parse(&plain[..cut]), Parsed::Fault(Fault { rcode: Rcode::FORMERR, .. })), "cut at {cut}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets_come_to_something(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = super::parse(&octets, &mut QueryName::root());
        }
    }
}
