//! The OPT record of a reply (RFC 6891), with NSID (RFC 5001), client subnet (RFC 7871) and extended errors (RFC 8914).

use std::net::IpAddr;

use super::MAX_UDP_PAYLOAD;
use super::walk::End;
use crate::dns::{Edns, Full, Rcode, Request, Section, Writer};
use crate::world::World;

/// Root owner, type, class, TTL, length.
const FIXED_LEN: usize = 11;
const OPTION_HEAD_LEN: usize = 4;
const EDE_LEN: usize = 2;
/// NSID is cut to this many octets, so that an OPT record is never what truncates an answer.
const NSID_MAX_LEN: usize = 128;

const _: () = assert!(NSID_MAX_LEN <= u8::MAX as usize);

/// Extended errors (RFC 8914 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extended {
    /// The zone could not be loaded (§4.15, Not Ready).
    NotReady = 14,
    /// Not a zone of ours (§4.21, Not Authoritative).
    NotAuthoritative = 20,
}

/// Octets to keep free for OPT.
pub(super) fn room(world: &World, request: &Request<'_>) -> usize {
    let Some(edns) = &request.edns else { return 0 };
    let nsid = if edns.nsid { world.server.nsid.as_ref().map_or(0, |nsid| OPTION_HEAD_LEN + nsid.len().min(NSID_MAX_LEN)) } else { 0 };
    let ecs = edns.ecs.map_or(0, |ecs| OPTION_HEAD_LEN + 4 + usize::from(ecs.source_len.div_ceil(8)));
    FIXED_LEN + nsid + ecs + OPTION_HEAD_LEN + EDE_LEN
}

/// Writes OPT if the query had one.
pub(super) fn write(world: &World, request: &Request<'_>, end: &End, writer: &mut Writer<'_>) {
    let Some(edns) = &request.edns else { return };
    // Room was reserved before anything else was written.
    let _ = write_with_options(world, edns, end, writer);
}

fn write_with_options(world: &World, edns: &Edns, end: &End, writer: &mut Writer<'_>) -> Result<(), Full> {
    let at = writer.put_block(Section::Additional, &fixed(end.rcode, edns.dnssec_ok), 1)?;
    if let (true, Some(nsid)) = (edns.nsid, &world.server.nsid) {
        let nsid = nsid.get(..NSID_MAX_LEN).unwrap_or(nsid);
        writer.extend(&[0, 3, 0, nsid.len() as u8])?;
        writer.extend(nsid)?;
    }
    if let (Some(ecs), Some(scope)) = (edns.ecs, end.scope) {
        // FAMILY, SOURCE PREFIX-LENGTH and ADDRESS exactly as they came (RFC 7871 §7.2.1).
        let octets = usize::from(ecs.source_len.div_ceil(8));
        let family = if ecs.addr.is_ipv4() { 1 } else { 2 };
        writer.extend(&[0, 8, 0, 4 + octets as u8, 0, family, ecs.source_len, scope])?;
        match ecs.addr {
            IpAddr::V4(addr) => writer.extend(&addr.octets()[..octets.min(4)])?,
            IpAddr::V6(addr) => writer.extend(&addr.octets()[..octets.min(16)])?,
        }
    }
    if let Some(extended) = end.extended {
        writer.extend(&[0, 15, 0, EDE_LEN as u8, 0, extended as u8])?;
    }
    let options = (writer.len() - at - FIXED_LEN) as u16;
    writer.patch(at + FIXED_LEN - 2, &options.to_be_bytes());
    Ok(())
}

/// Writes OPT without options: for faults.
pub(super) fn write_bare(writer: &mut Writer<'_>, rcode: Rcode) {
    let _ = writer.put_block(Section::Additional, &fixed(rcode, false), 1);
}

/// Owner, type, payload size, the upper part of the response code, version 0, flags, length 0.
fn fixed(rcode: Rcode, dnssec_ok: bool) -> [u8; FIXED_LEN] {
    let [high, low] = MAX_UDP_PAYLOAD.to_be_bytes();
    [0, 0, 41, high, low, (rcode.0 >> 4) as u8, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]
}
