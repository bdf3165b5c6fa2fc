//! What a batch of datagrams is, whichever way it is received.

use std::net::SocketAddr;

/// The most that one batch may hold: `UIO_MAXIOV`, what Linux accepts in one call.
pub(super) const MAX_SLOTS: usize = 1024;

/// Buffers of neighbouring slots lie this much further apart than they are long: with a power of two between them all slots would compete
/// for the same few sets of the first-level cache. Three lines: an odd number reaches every set.
const SKEW: usize = 3 * LINE;

/// A cache line.
const LINE: usize = 64;

/// Distance between the buffers of neighbouring slots.
pub(super) fn stride(len: usize) -> usize {
    len.next_multiple_of(LINE) + SKEW
}

/// How long a batch waits for its first datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As long as the socket's read timeout says.
    Blocking,
    /// Not at all.
    Never,
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its octets, as many as fit.
    pub octets: &'a [u8],
    /// Who sent it, as far as the header can be believed.
    pub source: SocketAddr,
    /// It was longer than the receive buffer; `octets` is its beginning.
    pub cut: bool,
    /// It was sent to a broadcast or multicast address (known only with [`receive_destination`](super::receive_destination)).
    pub to_many: bool,
}

/// What became of the replies of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Handed to the kernel.
    pub sent: usize,
    /// Refused by the kernel (no route, no buffers, forbidden by a packet filter, …).
    pub failed: usize,
    /// The last refusal, as `errno`; 0 without one.
    pub errno: i32,
}

impl Sent {
    /// Notes that the kernel refused the first of `left` replies, and says how many of them are lost; 0: try again.
    pub(super) fn refused(&mut self, errno: i32, left: usize) -> usize {
        // No room in the send buffer within the socket's write timeout: what is left would only wait as long again.
        let lost = match errno {
            libc::EINTR => 0,
            libc::EAGAIN => left,
            _ => 1,
        };
        self.failed += lost;
        if lost > 0 {
            self.errno = errno;
        }
        lost
    }
}
