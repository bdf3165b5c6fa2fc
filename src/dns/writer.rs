//! Writing a reply: sections in order, names compressed, an octet limit that is never passed.
//!
//! The question is copied from the query as it came, so the owner `0xC00C` repeats the client's own case.

use super::Rcode;
use super::name::wire_len;
use super::request::HEADER_LEN;
use super::{Class, RecordType};

/// The reply did not fit in its limit; nothing of the record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Names remembered for compression. A reply rarely has more distinct suffixes; later ones are written out (RUSTSEC-2026-0119 is what an
/// unbounded table costs).
const MAX_SUFFIXES: usize = 48;

/// A pointer reaches the first 16,384 octets (RFC 1035 §4.1.4).
const POINTER_REACH: usize = 0x3fff;

/// A section that records can go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

/// A place that the writer can go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at: usize,
    counts: [u16; 3],
    suffixes: usize,
}

/// Writes one reply into a buffer.
#[derive(Debug)]
pub struct Writer<'b> {
    buf: &'b mut [u8],
    at: usize,
    limit: usize,
    counts: [u16; 3],
    /// Offsets of names already written, every label start that a pointer can reach.
    suffixes: [u16; MAX_SUFFIXES],
    /// Of each: octets of the name without compression. Only equally long names are compared: a name of a hundred equal labels would be compared
    /// with itself at every label otherwise, which takes milliseconds.
    suffix_lens: [u8; MAX_SUFFIXES],
    suffix_count: usize,
}

impl<'b> Writer<'b> {
    /// Starts a reply: header and question (`packet[12..question_end]`) of the query, QR set, opcode and RD kept (RFC 1035 §4.1.1), CD kept
    /// (RFC 4035 §3.1.6). `limit` counts the whole message. `None` when not even that fits.
    #[inline]
    pub fn begin(buf: &'b mut [u8], packet: &[u8], question_end: usize, limit: usize) -> Option<Writer<'b>> {
        let limit = limit.min(buf.len());
        if question_end > limit || question_end < HEADER_LEN {
            return None;
        }
        buf.get_mut(..question_end)?.copy_from_slice(packet.get(..question_end)?);
        buf[2] = 0x80 | (packet[2] & 0x79);
        buf[3] = packet[3] & 0x10;
        buf[4] = 0;
        buf[5] = u8::from(question_end > HEADER_LEN);
        buf[6..HEADER_LEN].fill(0);
        Some(Writer { buf, at: question_end, limit, counts: [0; 3], suffixes: [0; MAX_SUFFIXES], suffix_lens: [0; MAX_SUFFIXES], suffix_count: 0 })
    }

    /// Octets in use.
    pub fn len(&self) -> usize {
        self.at
    }

    /// Octets that may still be written.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.at)
    }

    /// True when only the header and question stand there.
    pub fn is_empty(&self) -> bool {
        self.counts == [0; 3]
    }

    /// True when the answer section has records.
    pub fn has_answers(&self) -> bool {
        self.counts[Section::Answer as usize] > 0
    }

    /// Remembers the question's name for compression; before the first record that is written field by field.
    pub fn learn_question(&mut self) {
        if self.suffix_count == 0 {
            self.learn_name_at(HEADER_LEN);
        }
    }

    /// Keeps `octets` free at the end for what must fit whatever else does (OPT); returns false when even that is not there.
    pub fn reserve(&mut self, octets: usize) -> bool {
        if self.limit < self.at + octets {
            return false;
        }
        self.limit -= octets;
        true
    }

    /// Gives back what was reserved.
    pub fn release(&mut self, octets: usize) {
        self.limit = (self.limit + octets).min(self.buf.len());
    }

    /// Sets AA.
    pub fn set_authoritative(&mut self, on: bool) {
        self.buf[2] = (self.buf[2] & !0x04) | (u8::from(on) << 2);
    }

    /// Sets TC.
    pub fn set_truncated(&mut self) {
        self.buf[2] |= 0x02;
    }

    /// Sets the four low bits of the response code; the others stand in OPT.
    pub fn set_rcode(&mut self, rcode: Rcode) {
        self.buf[3] = (self.buf[3] & 0xf0) | (rcode.0 & 0x0f) as u8;
    }

    /// Where the writer stands.
    pub fn mark(&self) -> Mark {
        Mark { at: self.at, counts: self.counts, suffixes: self.suffix_count }
    }

    /// Takes back everything since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.at = mark.at;
        self.counts = mark.counts;
        self.suffix_count = mark.suffixes;
    }

    /// Copies records that are ready: `block` holds `records` whole records, its pointers good for this message. Returns its offset.
    #[inline]
    pub fn put_block(&mut self, section: Section, block: &[u8], records: u16) -> Result<usize, Full> {
        let from = self.put(block)?;
        self.counts[section as usize] += records;
        Ok(from)
    }

    /// Goes on with the record that was put last; its length is the caller's to patch.
    #[inline]
    pub fn extend(&mut self, octets: &[u8]) -> Result<(), Full> {
        self.put(octets).map(|_| ())
    }

    /// What stands there from `at` on.
    #[inline]
    pub fn from_mut(&mut self, at: usize) -> &mut [u8] {
        self.buf.get_mut(at..self.at).unwrap_or_default()
    }

    /// Writes one record field by field. `owner` and the names in `rdata` that `spans` lists (offset, length; uncompressed) are compressed.
    pub fn put_record(
        &mut self,
        section: Section,
        owner: &[u8],
        rtype: RecordType,
        ttl: u32,
        rdata: &[u8],
        spans: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<(), Full> {
        let mark = self.mark();
        let result = self.put_record_fields(owner, rtype, ttl, rdata, spans);
        match result {
            Ok(()) => self.counts[section as usize] += 1,
            Err(Full) => self.rewind(mark),
        }
        result
    }

    fn put_record_fields(
        &mut self,
        owner: &[u8],
        rtype: RecordType,
        ttl: u32,
        rdata: &[u8],
        spans: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<(), Full> {
        self.put_name(owner)?;
        self.put(&rtype.0.to_be_bytes())?;
        self.put(&Class::IN.0.to_be_bytes())?;
        self.put(&ttl.to_be_bytes())?;
        let len_at = self.put(&[0, 0])?;
        let mut done = 0;
        for (offset, len) in spans {
            self.put(rdata.get(done..offset).unwrap_or(&[]))?;
            self.put_name(rdata.get(offset..offset + len).unwrap_or(&[0]))?;
            done = offset + len;
        }
        self.put(rdata.get(done..).unwrap_or(&[]))?;
        let len = (self.at - len_at - 2) as u16;
        self.patch(len_at, &len.to_be_bytes());
        Ok(())
    }

    /// Writes `name` (uncompressed wire form), pointing to the longest suffix that already stands in the message. Its own labels are
    /// remembered only when it stands there whole: what lies behind it in the buffer is left over from other replies.
    fn put_name(&mut self, name: &[u8]) -> Result<(), Full> {
        let from = self.at;
        let mut literal_end = 0;
        let mut tail = [0u8; 2];
        let mut tail_len = 1;
        while let Some(len) = name.get(literal_end).map(|len| usize::from(*len)).filter(|len| *len > 0) {
            if let Some(pointer) = self.find_suffix(&name[literal_end..]) {
                tail = (0xc000 | pointer).to_be_bytes();
                tail_len = 2;
                break;
            }
            literal_end += 1 + len;
        }
        self.put(name.get(..literal_end).unwrap_or(&[]))?;
        self.put(&tail[..tail_len])?;
        let mut at = from;
        while at < from + literal_end {
            self.learn(at, name.len() - (at - from));
            at += 1 + usize::from(self.buf[at]);
        }
        Ok(())
    }

    fn find_suffix(&self, suffix: &[u8]) -> Option<u16> {
        let known = self.suffixes[..self.suffix_count].iter().zip(&self.suffix_lens[..self.suffix_count]);
        let mut alike = known.filter(|(_, len)| usize::from(**len) == suffix.len()).map(|(offset, _)| *offset);
        alike.find(|offset| self.name_at_equals(usize::from(*offset), suffix))
    }

    /// Compares the (possibly compressed) name in the message with `wanted`; our own pointers always lead backwards.
    fn name_at_equals(&self, mut at: usize, wanted: &[u8]) -> bool {
        let mut done = 0;
        loop {
            let Some(&len) = self.buf.get(at) else { return false };
            if len & 0xc0 == 0xc0 {
                let Some(&low) = self.buf.get(at + 1) else { return false };
                let target = usize::from(u16::from_be_bytes([len & 0x3f, low]));
                if target >= at {
                    return false;
                }
                at = target;
                continue;
            }
            let take = 1 + usize::from(len);
            let (Some(own), Some(other)) = (self.buf.get(at..at + take), wanted.get(done..done + take)) else { return false };
            if !own.eq_ignore_ascii_case(other) {
                return false;
            }
            if len == 0 {
                return true;
            }
            at += take;
            done += take;
        }
    }

    /// Remembers the name at `offset`, of so many octets without compression.
    fn learn(&mut self, offset: usize, len: usize) {
        if offset <= POINTER_REACH && self.suffix_count < MAX_SUFFIXES {
            self.suffixes[self.suffix_count] = offset as u16;
            self.suffix_lens[self.suffix_count] = len as u8;
            self.suffix_count += 1;
        }
    }

    /// The length of the data of a record at `at` whose owner is a pointer.
    pub fn rdata_len_at(&self, at: usize) -> usize {
        self.buf.get(at + 10..at + 12).and_then(<[u8]>::first_chunk).map_or(0, |len| usize::from(u16::from_be_bytes(*len)))
    }

    /// Remembers the labels of the (perhaps compressed) name at `at`, which was copied as part of a block.
    pub fn learn_labels_at(&mut self, mut at: usize) {
        let mut left = self.whole_len(at);
        while let Some(len) = self.buf.get(at..self.at).and_then(<[u8]>::first).map(|len| usize::from(*len)).filter(|len| (1..64).contains(len)) {
            self.learn(at, left);
            at += 1 + len;
            left = left.saturating_sub(1 + len);
        }
    }

    /// Octets of the (perhaps compressed) name at `at` without compression.
    fn whole_len(&self, mut at: usize) -> usize {
        let mut whole = 0;
        while let Some(len) = self.buf.get(at).map(|len| usize::from(*len)).filter(|len| *len > 0) {
            if len & 0xc0 == 0xc0 {
                let target = self.buf.get(at + 1).map_or(at, |low| (len & 0x3f) << 8 | usize::from(*low));
                if target >= at {
                    break;
                }
                at = target;
            } else {
                at += 1 + len;
                whole += 1 + len;
            }
        }
        whole + 1
    }

    fn learn_name_at(&mut self, mut at: usize) {
        let Some(len) = self.buf.get(at..self.at).and_then(wire_len) else { return };
        let end = at + len - 1;
        while at < end {
            self.learn(at, end + 1 - at);
            at += 1 + usize::from(self.buf[at]);
        }
    }

    /// True when a record of this owner and type stands in the message, whose records start at `from`.
    pub fn holds(&self, from: usize, owner: &[u8], rtype: RecordType) -> bool {
        let mut at = from;
        while at < self.at {
            let Some(fixed_at) = self.name_end(at) else { return false };
            let Some(&[high, low, _, _, _, _, _, _, len_high, len_low]) = self.buf.get(fixed_at..fixed_at + 10).and_then(|fixed| fixed.first_chunk())
            else {
                return false;
            };
            if u16::from_be_bytes([high, low]) == rtype.0 && self.name_at_equals(at, owner) {
                return true;
            }
            at = fixed_at + 10 + usize::from(u16::from_be_bytes([len_high, len_low]));
        }
        false
    }

    /// Where the name at `at` ends.
    fn name_end(&self, mut at: usize) -> Option<usize> {
        loop {
            match *self.buf.get(at)? {
                0 => return Some(at + 1),
                len if len & 0xc0 == 0xc0 => return Some(at + 2),
                len => at += 1 + usize::from(len),
            }
        }
    }

    /// Writes octets as they stand; returns their offset.
    #[inline]
    fn put(&mut self, octets: &[u8]) -> Result<usize, Full> {
        let from = self.at;
        let end = from + octets.len();
        if end > self.limit {
            return Err(Full);
        }
        self.buf.get_mut(from..end).ok_or(Full)?.copy_from_slice(octets);
        self.at = end;
        Ok(from)
    }

    /// Overwrites octets that already stand there (a TTL in a block, a serial).
    #[inline]
    pub fn patch(&mut self, at: usize, octets: &[u8]) {
        if let Some(target) = self.buf.get_mut(at..at + octets.len()) {
            target.copy_from_slice(octets);
        }
    }

    /// Writes the counts; the message is complete. Returns its length.
    #[inline]
    pub fn finish(self) -> usize {
        for (index, count) in self.counts.iter().enumerate() {
            let at = 6 + 2 * index;
            self.buf[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x00\x01\x01\x10\x00\x01\x00\x00\x00\x00\x00\x00\x03wWw\x07example\x03com\x00\x00\x01\x00\x01";

    fn begin(buf: &mut [u8], limit: usize) -> Writer<'_> {
        let mut writer = Writer::begin(buf, QUESTION, QUESTION.len(), limit).expect("room for the question");
        writer.learn_question();
        writer
    }

    #[test]
    fn rfc1035_section_4_1_4_names_point_to_the_longest_suffix() {
        let mut buf = [0xff; 512];
        let mut writer = begin(&mut buf, 512);
        let owner = b"\x03www\x07EXAMPLE\x03com\x00";
        writer.put_record(Section::Answer, owner, RecordType::MX, 60, b"\x00\x0a\x04mail\x07example\x03com\x00", [(2, 18)]).expect("room");
        writer.put_record(Section::Answer, b"\x04mail\x07example\x03com\x00", RecordType::A, 60, &[192, 0, 2, 1], []).expect("room");
        let len = writer.finish();
        let tail = &buf[QUESTION.len()..len];
        let mx_name_at = QUESTION.len() + 12 + 2;
        let mut expected = vec![0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 60, 0, 9, 0, 10];
        expected.extend_from_slice(b"\x04mail\xc0\x10");
        expected.extend_from_slice(&[0xc0, mx_name_at as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        assert_eq!(tail, expected);
        assert_eq!(buf[6..8], [0, 2]);
    }

    #[test]
    fn the_limit_is_never_passed_and_a_refused_record_leaves_no_trace() {
        for limit in QUESTION.len()..120 {
            let mut buf = [0xee; 512];
            let mut writer = begin(&mut buf, limit);
            let mut records = 0;
            for octet in 0..10 {
                if writer.put_record(Section::Answer, b"\x01x\x03net\x00", RecordType::A, 1, &[octet; 4], []).is_ok() {
                    records += 1;
                }
            }
            let len = writer.finish();
            assert!(len <= limit);
            assert_eq!(usize::from(buf[7]), records);
            assert!(buf[limit..].iter().all(|octet| *octet == 0xee));
        }
    }

    #[test]
    fn left_over_octets_are_no_names() {
        // The buffer still holds "\x01a\x03net\x00" where the new reply's first name will end.
        let mut buf = [0u8; 512];
        let at = QUESTION.len() + 2;
        buf[at..at + 7].copy_from_slice(b"\x01b\x03net\x00");
        let mut writer = begin(&mut buf, 512);
        writer.put_record(Section::Answer, b"\x01a\x01a\x01b\x03net\x00", RecordType::A, 1, &[1, 2, 3, 4], []).expect("room");
        writer.finish();
        assert_eq!(&buf[QUESTION.len()..QUESTION.len() + 12], b"\x01a\x01a\x01b\x03net\x00\x00");
    }

    #[test]
    fn a_question_that_does_not_fit_gets_no_writer() {
        let mut buf = [0u8; 16];
        assert!(Writer::begin(&mut buf, QUESTION, QUESTION.len(), 512).is_none());
    }
}
