//! The TSIG record of a reply to a key that we do not have (RFC 8945 §5.2.1, §5.3.2): the key's and the algorithm's names that came, no MAC.

use crate::dns::name::MAX_NAME_LEN;
use crate::dns::{Class, Full, RecordType, Section, Tsig, Writer, request};

/// RFC 8945 §3: a key that is not known.
const BADKEY: u16 = 17;

/// Writes it behind everything else, or nothing when it does not fit.
pub(super) fn write_bad_key(packet: &[u8], tsig: &Tsig, writer: &mut Writer<'_>) {
    let before = writer.mark();
    if try_write(packet, tsig, writer).is_err() {
        writer.rewind(before);
    }
}

fn try_write(packet: &[u8], tsig: &Tsig, writer: &mut Writer<'_>) -> Result<(), Full> {
    let part = |from: usize, to: usize| packet.get(from..to).ok_or(Full);
    let algorithm = part(tsig.fixed + 10, tsig.times)?;
    // Behind the algorithm: time signed (6), fudge (2), MAC size (2), original identifier (2), error (2), other length (2).
    let len = (algorithm.len() + 16) as u16;
    // In full: what a pointer of the query leads to need not stand in the reply.
    let mut owner = [0; MAX_NAME_LEN];
    let owner_len = request::expand(packet, tsig.owner, &mut owner).ok_or(Full)?;
    writer.put_block(Section::Additional, owner.get(..owner_len).ok_or(Full)?, 1)?;
    writer.extend(&RecordType::TSIG.0.to_be_bytes())?;
    writer.extend(&Class::ANY.0.to_be_bytes())?;
    writer.extend(&[0; 4])?;
    writer.extend(&len.to_be_bytes())?;
    writer.extend(algorithm)?;
    writer.extend(part(tsig.times, tsig.times + 8)?)?;
    writer.extend(&[0; 2])?;
    writer.extend(part(tsig.original_id, tsig.original_id + 2)?)?;
    writer.extend(&BADKEY.to_be_bytes())?;
    writer.extend(&[0; 2])
}
