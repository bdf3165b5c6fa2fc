//! Many datagrams per system call, over memory that is made once.
//!
//! ```text
//! receive ─▶ message 0..n ─▶ slot(i): request and reply buffer ─▶ set_reply(i, len) ─▶ send
//! ```
//!
//! One batch belongs to one thread and may serve several sockets in turn. A reply goes to where its request came from, and, on a socket with
//! [`receive_destination`](crate::sys::receive_destination), leaves from the address that the request was sent to: resolvers drop replies from elsewhere.

use std::io;
use std::mem::{offset_of, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;

use super::slab::Slab;
use crate::sys::datagram::{MAX_SLOTS, Message, Sent, Wait, stride};
use crate::sys::packet_info::{CONTROL_LEN, sent_to_many, turn_round};

/// Room for a peer's address: `sockaddr_in6` is the largest that UDP has.
const NAME_LEN: usize = 32;

const _: () = assert!(size_of::<libc::sockaddr_in6>() <= NAME_LEN);
/// What the kernel reads and writes about one datagram, besides the octets.
#[repr(C, align(64))]
struct Slot {
    name: [u8; NAME_LEN],
    control: [u8; CONTROL_LEN],
    request: libc::iovec,
    reply: libc::iovec,
}

// The kernel wants both aligned: `sockaddr_*` to 4 octets, `cmsghdr` to 8.
const _: () = assert!(offset_of!(Slot, name).is_multiple_of(8) && offset_of!(Slot, control).is_multiple_of(8));

/// Preallocated slots for receiving datagrams and sending replies. Nothing is allocated after creation.
pub struct Batch {
    slots: Slab<Slot>,
    receive: Slab<libc::mmsghdr>,
    send: Slab<libc::mmsghdr>,
    requests: Slab<u8>,
    replies: Slab<u8>,
    receive_len: usize,
    send_len: usize,
    /// Messages of the last receive; only these may be looked at.
    received: usize,
    /// Replies set since the last receive or send.
    queued: usize,
}

// SAFETY: all pointers in the headers and slots lead into the slabs that this value owns; they move with it and nothing else holds them.
unsafe impl Send for Batch {}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("slots", &self.slots.len()).field("received", &self.received).field("queued", &self.queued).finish()
    }
}

impl Batch {
    /// `slots` datagrams at a time (1 to 1,024), of at most `receive_len` octets, replies of at most `send_len`.
    pub fn new(slots: usize, receive_len: usize, send_len: usize) -> Batch {
        let count = slots.clamp(1, MAX_SLOTS);
        // SAFETY: `mmsghdr` is plain C data: integers and pointers, for which all-zero octets are valid.
        let blank = || unsafe { std::mem::zeroed::<libc::mmsghdr>() };
        let no_octets = || libc::iovec { iov_base: null_mut(), iov_len: 0 };
        let blank_slot = || Slot { name: [0; NAME_LEN], control: [0; CONTROL_LEN], request: no_octets(), reply: no_octets() };
        let batch = Batch {
            slots: Slab::new((0..count).map(|_| blank_slot()).collect()),
            receive: Slab::new((0..count).map(|_| blank()).collect()),
            send: Slab::new((0..count).map(|_| blank()).collect()),
            requests: Slab::new(vec![0; count * stride(receive_len)]),
            replies: Slab::new(vec![0; count * stride(send_len)]),
            receive_len,
            send_len,
            received: 0,
            queued: 0,
        };
        for at in 0..count {
            let slot = batch.slots.at(at);
            // SAFETY: `slot` and the two headers are valid and owned by `batch`, nobody else looks at them, and `&raw` makes no reference.
            unsafe {
                (*slot).request = libc::iovec { iov_base: batch.requests.at(at * stride(receive_len)).cast(), iov_len: receive_len };
                (*slot).reply = libc::iovec { iov_base: batch.replies.at(at * stride(send_len)).cast(), iov_len: 0 };
                let header = &raw mut (*batch.receive.at(at)).msg_hdr;
                (*header).msg_name = (&raw mut (*slot).name).cast();
                (*header).msg_iov = &raw mut (*slot).request;
                (*header).msg_iovlen = 1;
                (*header).msg_control = (&raw mut (*slot).control).cast();
            }
            batch.rearm(at);
        }
        batch
    }

    /// Tells the kernel again how much room `name` and `control` have: it overwrites both lengths with what it used.
    fn rearm(&self, at: usize) {
        // SAFETY: `at` is below the number of slots (`Slab::at` checks), the header is valid and only this thread uses it.
        unsafe {
            let header = &raw mut (*self.receive.at(at)).msg_hdr;
            (*header).msg_namelen = NAME_LEN as libc::socklen_t;
            (*header).msg_controllen = CONTROL_LEN;
        }
    }

    /// Receives up to a batch and returns how many came; at least one, or an error (`WouldBlock` when none came in time, `Interrupted`).
    /// Replies that were set and not sent are forgotten.
    pub fn receive(&mut self, socket: &impl AsFd, wait: Wait) -> io::Result<usize> {
        for at in 0..std::mem::take(&mut self.received) {
            self.rearm(at);
        }
        self.queued = 0;
        let flags = match wait {
            Wait::Blocking => libc::MSG_WAITFORONE,
            Wait::Never => libc::MSG_DONTWAIT,
        };
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the headers form one array of `len` valid entries; their names, iovecs, buffers and control areas lie in slabs of this value with
        // the lengths given, which live longer than the call; `&mut self` keeps everybody else away. A null timeout is allowed.
        let got = unsafe { libc::recvmmsg(fd, self.receive.at(0), self.receive.len() as libc::c_uint, flags as _, null_mut()) };
        self.received = usize::try_from(got).map_err(|_| io::Error::last_os_error())?.min(self.slots.len());
        Ok(self.received)
    }

    /// Messages of the last receive.
    pub fn len(&self) -> usize {
        self.received
    }

    /// True when the last receive brought nothing.
    pub fn is_empty(&self) -> bool {
        self.received == 0
    }

    /// Message `at` of the last receive.
    #[inline]
    pub fn message(&self, at: usize) -> Message<'_> {
        assert!(at < self.received, "message {at} of {}", self.received);
        let header = self.receive.at(at);
        let slot = self.slots.at(at);
        // SAFETY: `at` was received, so the kernel has filled header and slot; it does not touch them outside `receive` and `send`. The octets are
        // the first `msg_len` of this slot's buffer (never more than the iovec, but `min` keeps the proof local), initialised since creation. The
        // shared borrow of `self` keeps `receive` and writes to requests away while the slice lives; reply buffers are other memory.
        unsafe {
            let len = ((*header).msg_len as usize).min(self.receive_len);
            let octets = std::slice::from_raw_parts(self.requests.at(at * stride(self.receive_len)), len);
            let hdr = &(*header).msg_hdr;
            let control = &(&(*slot).control)[..hdr.msg_controllen.min(CONTROL_LEN)];
            Message {
                octets,
                source: peer(&(*slot).name, hdr.msg_namelen),
                cut: hdr.msg_flags & libc::MSG_TRUNC != 0,
                to_many: sent_to_many(control),
            }
        }
    }

    /// Message `at` together with the buffer for its reply, `send_len` octets; the two never overlap.
    #[inline]
    pub fn slot(&mut self, at: usize) -> (Message<'_>, &mut [u8]) {
        let message = self.message(at);
        // SAFETY: the slab has `send_len` octets at this slot's place, initialised since creation. The exclusive borrow of `self` is split in two
        // that never meet: requests (shared, in `message`) and this one reply buffer.
        let reply = unsafe { std::slice::from_raw_parts_mut(self.replies.at(at * stride(self.send_len)), self.send_len) };
        (message, reply)
    }

    /// Queues the first `len` octets of the reply buffer of message `at`, to its sender, from the address it was sent to. At most one reply per message.
    #[inline]
    pub fn set_reply(&mut self, at: usize, len: usize) {
        assert!(at < self.received && self.queued < self.received && len <= self.send_len, "reply {at} of {}, {len} octets", self.received);
        let slot = self.slots.at(at);
        // SAFETY: both headers and the slot are valid and owned; `&mut self` makes this the only access.
        unsafe {
            let from = &(*self.receive.at(at)).msg_hdr;
            let control_len = from.msg_controllen;
            turn_round(&mut (&mut (*slot).control)[..control_len.min(CONTROL_LEN)]);
            (*slot).reply.iov_len = len;
            let header = &raw mut (*self.send.at(self.queued)).msg_hdr;
            (*header).msg_name = from.msg_name;
            (*header).msg_namelen = from.msg_namelen;
            (*header).msg_iov = &raw mut (*slot).reply;
            (*header).msg_iovlen = 1;
            (*header).msg_control = if control_len == 0 { null_mut() } else { from.msg_control };
            (*header).msg_controllen = control_len;
        }
        self.queued += 1;
    }

    /// Sends all queued replies. One that the kernel refuses is passed over, so that it does not hold up the others.
    pub fn send(&mut self, socket: &impl AsFd) -> Sent {
        let fd = socket.as_fd().as_raw_fd();
        let mut report = Sent::default();
        let mut done = 0;
        while done < self.queued {
            // SAFETY: entries `done..queued` were filled by `set_reply` since the last receive; they are valid and all that they point to lies in slabs
            // of this value, which live longer than the call.
            let got = unsafe { libc::sendmmsg(fd, self.send.at(done), (self.queued - done) as libc::c_uint, 0) };
            match usize::try_from(got) {
                Ok(sent) if sent > 0 => {
                    report.sent += sent;
                    done += sent;
                }
                _ => {
                    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
                    done += report.refused(errno, self.queued - done);
                }
            }
        }
        self.queued = 0;
        report
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6`. Anything else is 0.0.0.0 port 0, which callers drop.
#[inline]
fn peer(name: &[u8; NAME_LEN], len: libc::socklen_t) -> SocketAddr {
    let family = i32::from(u16::from_ne_bytes([name[0], name[1]]));
    let port = u16::from_be_bytes([name[2], name[3]]);
    match (family, len as usize) {
        (libc::AF_INET, 8..) => SocketAddrV4::new(Ipv4Addr::new(name[4], name[5], name[6], name[7]), port).into(),
        (libc::AF_INET6, 28..) => {
            let word = |at: usize| u32::from_ne_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
            let mut address = [0; 16];
            address.copy_from_slice(&name[8..24]);
            SocketAddrV6::new(Ipv6Addr::from(address), port, word(4), word(24)).into()
        }
        _ => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}
