//! A batch of datagrams, one system call for each.
//!
//! ```text
//! receive (first waits, others do not) ─▶ message 0..n ─▶ slot(i): request and reply buffer ─▶ set_reply(i, len) ─▶ send
//! ```
//!
//! One batch belongs to one thread and may serve several sockets in turn. A reply goes to where its request came from, and, on a socket with
//! [`receive_destination`](crate::sys::receive_destination), leaves from the address that the request was sent to.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use socket2::{MaybeUninitSlice, MsgHdr, MsgHdrMut, SockAddr, SockRef};

use crate::sys::datagram::{MAX_SLOTS, Message, Sent, Wait, stride};
use crate::sys::packet_info::{CONTROL_LEN, sent_to_many, turn_round};

/// What is known about one datagram, besides its octets. Aligned as a control message wants to be.
#[derive(Clone, Debug)]
#[repr(C, align(8))]
struct Slot {
    control: [u8; CONTROL_LEN],
    control_len: usize,
    source: SocketAddr,
    len: usize,
    cut: bool,
}

/// Preallocated slots for receiving datagrams and sending replies. Nothing is allocated after creation.
#[derive(Debug)]
pub struct Batch {
    slots: Vec<Slot>,
    requests: Vec<u8>,
    replies: Vec<u8>,
    receive_len: usize,
    send_len: usize,
    /// Messages of the last receive; only these may be looked at.
    received: usize,
    /// Replies set since the last receive or send: message and length.
    queued: Vec<(usize, usize)>,
}

impl Batch {
    /// `slots` datagrams at a time (1 to 1,024), of at most `receive_len` octets, replies of at most `send_len`.
    pub fn new(slots: usize, receive_len: usize, send_len: usize) -> Batch {
        let count = slots.clamp(1, MAX_SLOTS);
        let source = (Ipv4Addr::UNSPECIFIED, 0).into();
        Batch {
            slots: vec![Slot { control: [0; CONTROL_LEN], control_len: 0, source, len: 0, cut: false }; count],
            requests: vec![0; count * stride(receive_len)],
            replies: vec![0; count * stride(send_len)],
            receive_len,
            send_len,
            received: 0,
            queued: Vec::with_capacity(count),
        }
    }

    /// Receives up to a batch and returns how many came; at least one, or an error (`WouldBlock` when none came in time, `Interrupted`).
    /// Replies that were set and not sent are forgotten.
    pub fn receive(&mut self, socket: &impl AsFd, wait: Wait) -> io::Result<usize> {
        self.queued.clear();
        self.received = 0;
        let socket = SockRef::from(socket);
        let buffers = self.requests.chunks_exact_mut(stride(self.receive_len));
        for (slot, buffer) in self.slots.iter_mut().zip(buffers) {
            let flags = if self.received == 0 && wait == Wait::Blocking { 0 } else { libc::MSG_DONTWAIT };
            match slot.receive(&socket, &mut buffer[..self.receive_len], flags) {
                Ok(()) => self.received += 1,
                Err(error) if self.received == 0 => return Err(error),
                // There is no more for now. A lasting fault comes up again.
                Err(_) => break,
            }
        }
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
        message(&self.slots[at], &self.requests[at * stride(self.receive_len)..])
    }

    /// Message `at` together with the buffer for its reply, `send_len` octets; the two never overlap.
    #[inline]
    pub fn slot(&mut self, at: usize) -> (Message<'_>, &mut [u8]) {
        assert!(at < self.received, "message {at} of {}", self.received);
        let message = message(&self.slots[at], &self.requests[at * stride(self.receive_len)..]);
        (message, &mut self.replies[at * stride(self.send_len)..][..self.send_len])
    }

    /// Queues the first `len` octets of the reply buffer of message `at`, to its sender, from the address it was sent to. At most one reply per message.
    #[inline]
    pub fn set_reply(&mut self, at: usize, len: usize) {
        let room = at < self.received && self.queued.len() < self.received && len <= self.send_len;
        assert!(room, "reply {at} of {}, {len} octets", self.received);
        let slot = &mut self.slots[at];
        turn_round(&mut slot.control[..slot.control_len]);
        self.queued.push((at, len));
    }

    /// Sends all queued replies. One that the kernel refuses is passed over, so that it does not hold up the others.
    pub fn send(&mut self, socket: &impl AsFd) -> Sent {
        let socket = SockRef::from(socket);
        let mut report = Sent::default();
        let mut done = 0;
        while let Some(&(at, len)) = self.queued.get(done) {
            let reply = &self.replies[at * stride(self.send_len)..][..len];
            match self.slots[at].reply(&socket, reply) {
                Ok(_) => {
                    report.sent += 1;
                    done += 1;
                }
                Err(error) => done += report.refused(error.raw_os_error().unwrap_or(0), self.queued.len() - done),
            }
        }
        self.queued.clear();
        report
    }
}

impl Slot {
    fn receive(&mut self, socket: &SockRef<'_>, buffer: &mut [u8], flags: libc::c_int) -> io::Result<()> {
        // The longest kind of address that UDP has; what the kernel writes over it says what it is.
        let mut source = SockAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
        let mut buffers = [MaybeUninitSlice::new(writable(buffer))];
        let mut header = MsgHdrMut::new().with_addr(&mut source).with_buffers(&mut buffers).with_control(writable(&mut self.control));
        self.len = socket.recvmsg(&mut header, flags)?;
        self.cut = header.flags().is_truncated();
        self.control_len = header.control_len().min(CONTROL_LEN);
        self.source = source.as_socket().unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into());
        Ok(())
    }

    fn reply(&self, socket: &SockRef<'_>, octets: &[u8]) -> io::Result<usize> {
        let (source, octets) = (SockAddr::from(self.source), [IoSlice::new(octets)]);
        let header = MsgHdr::new().with_addr(&source).with_buffers(&octets);
        match self.control_len {
            0 => socket.sendmsg(&header, 0),
            len => socket.sendmsg(&header.with_control(&self.control[..len]), 0),
        }
    }
}

#[inline]
fn message<'a>(slot: &Slot, request: &'a [u8]) -> Message<'a> {
    let to_many = sent_to_many(&slot.control[..slot.control_len]);
    Message { octets: &request[..slot.len], source: slot.source, cut: slot.cut, to_many }
}

/// Octets as something to be written over.
fn writable(octets: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: both have the same layout, place and length, and the borrow passes on whole. The type would allow to write uninitialised octets, which
    // must not be seen through the original: the only use is as the target of `recvmsg`, by which the kernel writes initialised ones or none.
    unsafe { &mut *(std::ptr::from_mut(octets) as *mut [MaybeUninit<u8>]) }
}
