//! Class CH: what the server says of itself, where the operator set a text (`server.version`, `server.nsid`); everything else is refused.
//!
//! ```text
//! version.bind, version.server     server.version     (BIND's and NSD's custom)
//! id.server, hostname.bind         server.nsid        RFC 4892
//! ```

use super::opt::Extended;
use super::walk::End;
use crate::dns::request::HEADER_LEN;
use crate::dns::{Class, Rcode, RecordType, Request, Section, Writer};
use crate::world::World;

/// A character-string (RFC 1035 §3.3).
const MAX_TEXT: usize = 255;

/// Answers a question of class CH.
pub(super) fn answer(world: &World, request: &Request<'_>, writer: &mut Writer<'_>) -> End {
    let text = match request.question.name.as_wire() {
        b"\x07version\x04bind\x00" | b"\x07version\x06server\x00" => &world.server.version,
        b"\x02id\x06server\x00" | b"\x08hostname\x04bind\x00" => &world.server.nsid,
        _ => return End { extended: Some(Extended::NotAuthoritative), ..End::refused() },
    };
    let (Some(text), RecordType::TXT | RecordType::ANY) = (text, request.question.rtype) else {
        return End { extended: Some(Extended::Prohibited), ..End::refused() };
    };
    let text = text.get(..MAX_TEXT).unwrap_or(text);
    let mut record = [0u8; 12 + 1 + MAX_TEXT];
    // The question's name, type, class, TTL 0.
    record[..2].copy_from_slice(&(0xc000 | HEADER_LEN as u16).to_be_bytes());
    record[2..4].copy_from_slice(&RecordType::TXT.0.to_be_bytes());
    record[4..6].copy_from_slice(&Class::CH.0.to_be_bytes());
    record[10..12].copy_from_slice(&(1 + text.len() as u16).to_be_bytes());
    record[12] = text.len() as u8;
    record[13..13 + text.len()].copy_from_slice(text);
    writer.set_authoritative(true);
    let truncated = writer.put_block(Section::Answer, &record[..13 + text.len()], 1).is_err();
    End { rcode: Rcode::NOERROR, truncated, ..End::refused() }
}
