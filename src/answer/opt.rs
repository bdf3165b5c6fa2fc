//! The OPT record of a reply (RFC 6891): NSID (RFC 5001), client subnet (RFC 7871), cookie (RFC 7873), keepalive (RFC 7828), extended errors
//! (RFC 8914), padding (RFC 7830). Written last, into room that was kept free from the start.

use std::net::IpAddr;

use super::{Asked, CookieState, MAX_UDP_PAYLOAD, PLAIN_UDP_PAYLOAD};
use crate::dns::cookie::Verdict;
use crate::dns::edns::{CLIENT_COOKIE_LEN, SERVER_COOKIE_LEN, option};
use crate::dns::name::MAX_NAME_LEN;
use crate::dns::request::HEADER_LEN;
use crate::dns::{ClientSubnet, Edns, Full, Keepalive, Rcode, Section, Writer};
use crate::world::World;

/// Root owner, type, class, TTL, length.
const FIXED_LEN: usize = 11;
const OPTION_HEAD_LEN: usize = 4;
const EDE_LEN: usize = 2;
const COOKIE_LEN: usize = CLIENT_COOKIE_LEN + SERVER_COOKIE_LEN;
const KEEPALIVE_LEN: usize = 2;
/// Family, two lengths, an IPv6 address.
const MAX_ECS_LEN: usize = 4 + 16;
/// NSID is cut to this many octets, so that an OPT record is never what truncates an answer.
const NSID_MAX_LEN: usize = 128;

/// Replies over encrypted transports are filled up to a multiple of this (RFC 8467 §4.1).
pub const PADDING_BLOCK: usize = 468;

/// The longest OPT without padding.
const MAX_ROOM: usize = FIXED_LEN + 5 * OPTION_HEAD_LEN + NSID_MAX_LEN + MAX_ECS_LEN + COOKIE_LEN + KEEPALIVE_LEN + EDE_LEN;

// The longest question and the longest OPT fit together, so whoever sent OPT gets one back, whatever else is cut.
const _: () = assert!(HEADER_LEN + MAX_NAME_LEN + 4 + MAX_ROOM <= PLAIN_UDP_PAYLOAD as usize);
const _: () = assert!(NSID_MAX_LEN <= u8::MAX as usize);

/// What `all_down = "servfail"` says.
const ALL_DOWN_TEXT: &[u8] = b"nothing behind this name is up";

/// Extended errors (RFC 8914 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extended {
    /// Nothing usable is left, and the operator wants SERVFAIL then (§4.1, Other). The codes for servers that are not reached (§4.23) speak of a
    /// resolver's way to us, and Not Ready of this server; what is down is behind the name.
    AllDown = 0,
    /// The zone could not be loaded (§4.15, Not Ready).
    NotReady = 14,
    /// Allowed to nobody, or not to this client (§4.19, Prohibited).
    Prohibited = 18,
    /// Not a zone of ours (§4.21, Not Authoritative).
    NotAuthoritative = 20,
    /// An operation, class or type that we do not do (§4.22, Not Supported).
    NotSupported = 21,
}

/// What an OPT record has to say, beyond what the client asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) rcode: Rcode,
    /// Client-subnet scope; `None` when the option is not used and so not sent back.
    pub(super) scope: Option<u8>,
    pub(super) extended: Option<Extended>,
    /// Client and server cookie.
    pub(super) cookie: Option<[u8; COOKIE_LEN]>,
}

/// Judges the query's cookie; with it what goes back. Nothing is computed for a query without one.
#[inline]
pub(super) fn cookie(world: &World, asked: &Asked<'_>, edns: Option<&Edns>, unix_s: u64) -> (CookieState, Option<[u8; COOKIE_LEN]>) {
    let (Some(cookie), Some(secrets)) = (edns.and_then(|edns| edns.cookie), &world.server.cookies) else { return (CookieState::None, None) };
    let (verdict, server) = secrets.check(&cookie, asked.source, unix_s);
    let mut both = [0; COOKIE_LEN];
    both[..CLIENT_COOKIE_LEN].copy_from_slice(&cookie.client);
    both[CLIENT_COOKIE_LEN..].copy_from_slice(&server);
    (if verdict == Verdict::Invalid { CookieState::ClientOnly } else { CookieState::Valid }, Some(both))
}

/// Octets to keep free for OPT. Extended errors stand in short replies only and need none.
#[inline]
pub(super) fn room(world: &World, edns: Option<&Edns>) -> usize {
    let Some(edns) = edns else { return 0 };
    let nsid = if edns.nsid { world.server.nsid.as_ref().map_or(0, |nsid| OPTION_HEAD_LEN + nsid.len().min(NSID_MAX_LEN)) } else { 0 };
    let ecs = edns.ecs.map_or(0, |ecs| OPTION_HEAD_LEN + 4 + usize::from(ecs.source_len.div_ceil(8)));
    let cookie = if edns.cookie.is_some() { OPTION_HEAD_LEN + COOKIE_LEN } else { 0 };
    let keepalive = if edns.keepalive == Keepalive::Absent { 0 } else { OPTION_HEAD_LEN + KEEPALIVE_LEN };
    FIXED_LEN + nsid + ecs + cookie + keepalive
}

/// Writes OPT if the query had one; [`room`] has been kept free.
#[inline]
pub(super) fn write(world: &World, asked: &Asked<'_>, edns: Option<&Edns>, said: &Said, writer: &mut Writer<'_>) {
    let Some(edns) = edns else { return };
    let _ = write_with_options(world, asked, edns, said, writer);
}

fn write_with_options(world: &World, asked: &Asked<'_>, edns: &Edns, said: &Said, writer: &mut Writer<'_>) -> Result<(), Full> {
    let at = writer.put_block(Section::Additional, &fixed(said.rcode, edns.dnssec_ok), 1)?;
    if let (true, Some(nsid)) = (edns.nsid, &world.server.nsid) {
        put(writer, option::NSID, nsid.get(..NSID_MAX_LEN).unwrap_or(nsid))?;
    }
    if let (Some(ecs), Some(scope)) = (edns.ecs, said.scope) {
        put_subnet(writer, &ecs, scope)?;
    }
    if let Some(cookie) = &said.cookie {
        put(writer, option::COOKIE, cookie)?;
    }
    // Over UDP there is no connection to keep (RFC 7828 §3.2.2).
    if edns.keepalive == Keepalive::Asked && asked.transport.has_keepalive() {
        put(writer, option::KEEPALIVE, &asked.keepalive.to_be_bytes())?;
    }
    if let Some(extended) = said.extended {
        put_extended(writer, extended)?;
    }
    if asked.transport.pads(edns.padding) {
        pad(writer)?;
    }
    let options = (writer.len() - at - FIXED_LEN) as u16;
    writer.patch(at + FIXED_LEN - 2, &options.to_be_bytes());
    Ok(())
}

fn put(writer: &mut Writer<'_>, code: u16, data: &[u8]) -> Result<(), Full> {
    let ([c0, c1], [l0, l1]) = (code.to_be_bytes(), (data.len() as u16).to_be_bytes());
    writer.extend(&[c0, c1, l0, l1])?;
    writer.extend(data)
}

/// INFO-CODE, and EXTRA-TEXT where the code alone says nothing (RFC 8914 §2).
fn put_extended(writer: &mut Writer<'_>, extended: Extended) -> Result<(), Full> {
    let text: &[u8] = if extended == Extended::AllDown { ALL_DOWN_TEXT } else { b"" };
    let ([c0, c1], [l0, l1]) = (option::EDE.to_be_bytes(), (2 + text.len() as u16).to_be_bytes());
    writer.extend(&[c0, c1, l0, l1])?;
    writer.extend(&(extended as u16).to_be_bytes())?;
    writer.extend(text)
}

/// FAMILY, SOURCE PREFIX-LENGTH and ADDRESS exactly as they came (RFC 7871 §7.2.1).
fn put_subnet(writer: &mut Writer<'_>, ecs: &ClientSubnet, scope: u8) -> Result<(), Full> {
    let octets = usize::from(ecs.source_len.div_ceil(8));
    let family = if ecs.addr.is_ipv4() { 1 } else { 2 };
    let mut data = [0; MAX_ECS_LEN];
    data[..4].copy_from_slice(&[0, family, ecs.source_len, scope]);
    match ecs.addr {
        IpAddr::V4(addr) => data[4..8].copy_from_slice(&addr.octets()),
        IpAddr::V6(addr) => data[4..20].copy_from_slice(&addr.octets()),
    }
    put(writer, option::ECS, data.get(..4 + octets).unwrap_or(&data))
}

/// Fills the message up to a multiple of [`PADDING_BLOCK`], or as far as it may go; the last option, for nothing must follow it.
fn pad(writer: &mut Writer<'_>) -> Result<(), Full> {
    const ZEROS: [u8; PADDING_BLOCK] = [0; PADDING_BLOCK];
    let Some(most) = writer.room().checked_sub(OPTION_HEAD_LEN) else { return Ok(()) };
    let unpadded = writer.len() + OPTION_HEAD_LEN;
    let wanted = unpadded.next_multiple_of(PADDING_BLOCK) - unpadded;
    put(writer, option::PADDING, ZEROS.get(..wanted.min(most)).unwrap_or(&[]))
}

/// Owner, type, payload size, the upper part of the response code, version 0, flags (DO as it came, RFC 3225 §3), length 0.
fn fixed(rcode: Rcode, dnssec_ok: bool) -> [u8; FIXED_LEN] {
    let [high, low] = MAX_UDP_PAYLOAD.to_be_bytes();
    [0, 0, 41, high, low, (rcode.0 >> 4) as u8, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]
}
