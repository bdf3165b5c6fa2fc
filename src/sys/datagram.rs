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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::sys::Batch;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    #[test]
    fn a_batch_is_received_and_answered_one_for_one() {
        let (server, client) = (socket(), socket());
        client.connect(server.local_addr().unwrap()).unwrap();
        for octets in [&b""[..], b"a", b"bcd", &[7; 64], &[8; 65]] {
            client.send(octets).unwrap();
        }
        let mut batch = Batch::new(3, 64, 64);
        let mut seen = Vec::new();
        while seen.len() < 5 {
            let received = batch.receive(&server, Wait::Blocking).unwrap();
            assert_eq!((received, batch.len()), (received.clamp(1, 3), received));
            for at in 0..received {
                let (message, reply) = batch.slot(at);
                assert_eq!((message.source, message.to_many), (client.local_addr().unwrap(), false));
                let len = message.octets.len();
                seen.push((len, message.cut));
                reply[..len].copy_from_slice(message.octets);
                batch.set_reply(at, len);
            }
            assert_eq!(batch.send(&server), Sent { sent: received, failed: 0, errno: 0 });
        }
        assert_eq!(seen, [(0, false), (1, false), (3, false), (64, false), (64, true)]);
        let mut reply = [0; 128];
        for octets in [&b""[..], b"a", b"bcd", &[7; 64], &[8; 64]] {
            let len = client.recv(&mut reply).unwrap();
            assert_eq!(&reply[..len], octets);
        }
        assert_eq!(batch.receive(&server, Wait::Never).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(batch.is_empty());
    }

    #[test]
    fn a_refused_reply_costs_itself_and_a_full_buffer_the_rest() {
        for (errno, lost) in [(libc::EINTR, 0), (libc::EAGAIN, 5), (libc::ENETUNREACH, 1), (libc::ENOBUFS, 1)] {
            let mut report = Sent { sent: 2, failed: 1, errno: libc::EPERM };
            assert_eq!(report.refused(errno, 5), lost);
            assert_eq!(report, Sent { sent: 2, failed: 1 + lost, errno: if lost == 0 { libc::EPERM } else { errno } });
        }
    }
}
