//! The OPT record of a reply (RFC 6891), with NSID (RFC 5001), client subnet (RFC 7871) and extended errors (RFC 8914).

use std::net::IpAddr;

use super::MAX_UDP_PAYLOAD;
use super::walk::End;
use crate::dns::{ClientSubnet, Rcode, Request, Section, Writer};
use crate::world::World;

/// Root owner, type, class, TTL, length.
const FIXED_LEN: usize = 11;
const OPTION_HEAD_LEN: usize = 4;
/// Family, source length, scope length, and at most 16 octets of address.
const ECS_MAX_LEN: usize = 4 + 16;
const EDE_LEN: usize = 2;
/// NSID is cut to this many octets, so that an OPT record is never what truncates an answer.
const NSID_MAX_LEN: usize = 128;
/// Everything at its longest.
const MAX_LEN: usize = FIXED_LEN + 3 * OPTION_HEAD_LEN + ECS_MAX_LEN + NSID_MAX_LEN + EDE_LEN;

/// Extended errors (RFC 8914 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extended {
    /// The zone could not be loaded (§4.15, Not Ready).
    NotReady = 14,
    /// Not a zone of ours (§4.21, Not Authoritative).
    NotAuthoritative = 20,
}

/// Octets to keep free for OPT.
pub(super) fn room(world: &World, request: &Request) -> usize {
    let Some(edns) = &request.edns else { return 0 };
    let nsid = if edns.nsid { world.server.nsid.as_ref().map_or(0, |nsid| OPTION_HEAD_LEN + nsid.len().min(NSID_MAX_LEN)) } else { 0 };
    let ecs = edns.ecs.map_or(0, |ecs| OPTION_HEAD_LEN + 4 + usize::from(ecs.source_len.div_ceil(8)));
    FIXED_LEN + nsid + ecs + OPTION_HEAD_LEN + EDE_LEN
}

/// Writes OPT if the query had one.
pub(super) fn write(world: &World, request: &Request, end: &End, writer: &mut Writer<'_>) {
    let Some(edns) = &request.edns else { return };
    let mut buf = [0u8; MAX_LEN];
    let mut at = FIXED_LEN;
    let mut put = |octets: &[u8]| {
        if let Some(target) = buf.get_mut(at..at + octets.len()) {
            target.copy_from_slice(octets);
            at += octets.len();
        }
    };
    if let (true, Some(nsid)) = (edns.nsid, &world.server.nsid) {
        let nsid = nsid.get(..NSID_MAX_LEN).unwrap_or(nsid);
        put(&[0, 3]);
        put(&(nsid.len() as u16).to_be_bytes());
        put(nsid);
    }
    if let (Some(ecs), Some(scope)) = (edns.ecs, end.scope) {
        put_ecs(ecs, scope, &mut put);
    }
    if let Some(extended) = end.extended {
        put(&[0, 15, 0, EDE_LEN as u8, 0, extended as u8]);
    }
    close(&mut buf, at, end.rcode, edns.dnssec_ok, writer);
}

/// FAMILY, SOURCE PREFIX-LENGTH and ADDRESS exactly as they came (RFC 7871 §7.2.1).
fn put_ecs(ecs: ClientSubnet, scope: u8, put: &mut impl FnMut(&[u8])) {
    let octets = usize::from(ecs.source_len.div_ceil(8));
    put(&[0, 8]);
    put(&(4 + octets as u16).to_be_bytes());
    put(&[0, if ecs.addr.is_ipv4() { 1 } else { 2 }, ecs.source_len, scope]);
    match ecs.addr {
        IpAddr::V4(addr) => put(&addr.octets()[..octets.min(4)]),
        IpAddr::V6(addr) => put(&addr.octets()[..octets.min(16)]),
    }
}

/// Writes OPT without options: for faults.
pub(super) fn write_bare(writer: &mut Writer<'_>, rcode: Rcode) {
    close(&mut [0u8; MAX_LEN], FIXED_LEN, rcode, false, writer);
}

fn close(buf: &mut [u8; MAX_LEN], len: usize, rcode: Rcode, dnssec_ok: bool, writer: &mut Writer<'_>) {
    buf[2] = 41;
    buf[3..5].copy_from_slice(&MAX_UDP_PAYLOAD.to_be_bytes());
    buf[5] = (rcode.0 >> 4) as u8;
    buf[7] = u8::from(dnssec_ok) << 7;
    buf[9..11].copy_from_slice(&((len - FIXED_LEN) as u16).to_be_bytes());
    // Room was reserved before anything else was written.
    let _ = writer.put_block(Section::Additional, buf.get(..len).unwrap_or(&[]), 1);
}
