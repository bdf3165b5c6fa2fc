//! Which address a datagram was sent to, as sockets that are bound to the wildcard address must know: a reply leaves from there, because resolvers
//! drop replies from elsewhere.
//!
//! A control message carries it in, and the same one, a little changed, carries it out. IPv6 is the same everywhere (RFC 3542 §6.1); for IPv4 each
//! system has its own way.

use std::io;
use std::mem::{offset_of, size_of};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use super::socket::set;

/// Length of `cmsghdr` with the padding behind it: where the data begin.
// SAFETY: arithmetic on a number; nothing is looked at.
const HEADER: usize = unsafe { libc::CMSG_LEN(0) } as usize;

/// Room for the largest of the messages, header and padding included.
// SAFETY: as above.
pub(super) const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as libc::c_uint) } as usize;

const LEVEL: usize = offset_of!(libc::cmsghdr, cmsg_level);
const TYPE: usize = offset_of!(libc::cmsghdr, cmsg_type);
const V6_DESTINATION: usize = HEADER + offset_of!(libc::in6_pktinfo, ipi6_addr);
const V6_INTERFACE: usize = HEADER + offset_of!(libc::in6_pktinfo, ipi6_ifindex);

/// `in_pktinfo`: interface, the machine's own address, the address in the IP header.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "illumos", target_os = "solaris"))]
mod v4 {
    use std::mem::offset_of;

    pub(super) const OPTION: Option<libc::c_int> = Some(libc::IP_PKTINFO);
    pub(super) const MESSAGE: libc::c_int = libc::IP_PKTINFO;
    pub(super) const INTERFACE: Option<usize> = Some(offset_of!(libc::in_pktinfo, ipi_ifindex));
    /// Where a reply says what address it leaves from.
    pub(super) const SOURCE: usize = offset_of!(libc::in_pktinfo, ipi_spec_dst);
    /// Darwin leaves the machine's own address empty.
    pub(super) const LOCAL: usize = if cfg!(target_vendor = "apple") { DESTINATION } else { SOURCE };
    pub(super) const DESTINATION: usize = offset_of!(libc::in_pktinfo, ipi_addr);
}

/// A bare address, in and out.
#[cfg(any(target_os = "freebsd", target_os = "dragonfly", target_os = "openbsd"))]
mod v4 {
    pub(super) const OPTION: Option<libc::c_int> = Some(libc::IP_RECVDSTADDR);
    pub(super) const MESSAGE: libc::c_int = libc::IP_RECVDSTADDR;
    pub(super) const INTERFACE: Option<usize> = None;
    pub(super) const SOURCE: usize = 0;
    pub(super) const LOCAL: usize = 0;
    pub(super) const DESTINATION: usize = 0;
    // The same message carries it out.
    const _: () = assert!(libc::IP_SENDSRCADDR == libc::IP_RECVDSTADDR);
}

/// A system that nobody has looked at yet.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "illumos",
    target_os = "solaris",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "openbsd"
)))]
mod v4 {
    pub(super) const OPTION: Option<libc::c_int> = None;
    pub(super) const MESSAGE: libc::c_int = -1;
    pub(super) const INTERFACE: Option<usize> = None;
    pub(super) const SOURCE: usize = 0;
    pub(super) const LOCAL: usize = 0;
    pub(super) const DESTINATION: usize = 0;
}

const V4_SOURCE: usize = HEADER + v4::SOURCE;
const V4_LOCAL: usize = HEADER + v4::LOCAL;
const V4_DESTINATION: usize = HEADER + v4::DESTINATION;

/// Makes the kernel tell with each datagram which address it was sent to: needed on sockets bound to the wildcard address. `Unsupported` where a
/// reply could not leave from there.
pub fn receive_destination(socket: &impl AsFd, v6: bool) -> io::Result<()> {
    match (v6, v4::OPTION) {
        (true, _) => set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        (false, Some(option)) => set(socket.as_fd(), libc::IPPROTO_IP, option, 1),
        (false, None) => {
            let words = "this system does not say which address a query was sent to; list the addresses one by one";
            Err(io::Error::new(io::ErrorKind::Unsupported, words))
        }
    }
}

/// The packet info that a control area holds.
enum Info {
    None,
    V4 { local: Ipv4Addr, destination: Ipv4Addr },
    V6 { destination: Ipv6Addr },
}

#[inline]
fn info(control: &[u8]) -> Info {
    let word = |at: usize| control.get(at..at + 4).and_then(|w| <[u8; 4]>::try_from(w).ok());
    let number = |at: usize| word(at).map(i32::from_ne_bytes);
    match (number(LEVEL), number(TYPE)) {
        (Some(libc::IPPROTO_IP), Some(v4::MESSAGE)) => match (word(V4_LOCAL), word(V4_DESTINATION)) {
            (Some(local), Some(destination)) => Info::V4 { local: local.into(), destination: destination.into() },
            _ => Info::None,
        },
        (Some(libc::IPPROTO_IPV6), Some(libc::IPV6_PKTINFO)) => {
            match control.get(V6_DESTINATION..V6_DESTINATION + 16).and_then(|a| <[u8; 16]>::try_from(a).ok()) {
                Some(destination) => Info::V6 { destination: destination.into() },
                None => Info::None,
            }
        }
        _ => Info::None,
    }
}

/// For a unicast datagram Linux' two ideas of the local address agree; for broadcast and multicast the second is the interface's own. Elsewhere a
/// subnet's broadcast address goes unnoticed here; no reply can leave from it.
#[inline]
pub(super) fn sent_to_many(control: &[u8]) -> bool {
    if control.is_empty() {
        return false;
    }
    match info(control) {
        Info::None => false,
        Info::V4 { local, destination } => local != destination || destination.is_multicast() || destination.is_broadcast(),
        Info::V6 { destination } => destination.is_multicast(),
    }
}

/// Turns received packet info into what a reply needs: the same local address, any interface, because the way back need not be the way in;
/// only link-local addresses mean nothing without theirs.
#[inline]
pub(super) fn turn_round(control: &mut [u8]) {
    let interface = match info(control) {
        Info::V4 { local, .. } => {
            if V4_SOURCE != V4_LOCAL
                && let Some(source) = control.get_mut(V4_SOURCE..V4_SOURCE + 4)
            {
                source.copy_from_slice(&local.octets());
            }
            v4::INTERFACE.filter(|_| !local.is_link_local()).map(|at| HEADER + at)
        }
        Info::V6 { destination } if !destination.is_unicast_link_local() => Some(V6_INTERFACE),
        _ => None,
    };
    if let Some(interface) = interface.and_then(|at| control.get_mut(at..at + 4)) {
        interface.fill(0);
    }
}
