//! One TLS record for each reply.
//!
//! What is written at once to TLS goes into one record, with as many replies as it holds. Clients on OpenSSL that read a record for each time that their
//! socket is readable, and not until nothing is left (`SSL_pending`), then have replies in their hands that they do not see: dnsdist 1.7 lost those behind
//! the first over TLS and dnsperf hung over HTTPS. In records of their own they stay in the socket until they are read, and still go to it in one write.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// The most that a record holds (RFC 8446 §5.1).
const RECORD_LEN: usize = 1 << 14;

/// How what is written is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Messages with a length of two octets before each (RFC 7858 §3.3).
    Dns,
    /// Frames of HTTP/2; a reply ends with its stream (RFC 9113 §4.1).
    Http2,
}

impl Framing {
    const fn head_len(self) -> usize {
        match self {
            Framing::Dns => 2,
            Framing::Http2 => 9,
        }
    }

    /// How much stands behind a head, and whether a reply ends with it.
    fn read(self, head: &[u8; 9]) -> (usize, bool) {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const END_STREAM: u8 = 1;
        let [first, second, third, kind, flags, ..] = *head;
        match self {
            Framing::Dns => (usize::from(u16::from_be_bytes([first, second])), true),
            Framing::Http2 => {
                let len = u32::from_be_bytes([0, first, second, third]) as usize;
                (len, matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0)
            }
        }
    }
}

/// Where in a stream of replies we are.
#[derive(Debug)]
struct Cutter {
    framing: Framing,
    head: [u8; 9],
    head_len: usize,
    /// Behind the head.
    left: usize,
    ends: bool,
}

impl Cutter {
    const fn new(framing: Framing) -> Cutter {
        Cutter { framing, head: [0; 9], head_len: 0, left: 0, ends: false }
    }

    /// Follows these octets to the end of a reply, or to their own; how many they were, and whether it is the end of a reply.
    fn follow(&mut self, octets: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some(&octet) = octets.get(at) {
            if self.left > 0 {
                let len = self.left.min(octets.len() - at);
                at += len;
                self.left -= len;
            } else {
                at += 1;
                if let Some(place) = self.head.get_mut(self.head_len) {
                    *place = octet;
                }
                self.head_len += 1;
                if self.head_len < self.framing.head_len() {
                    continue;
                }
                self.head_len = 0;
                (self.left, self.ends) = self.framing.read(&self.head);
            }
            if self.left == 0 && self.ends {
                return (at, true);
            }
        }
        (at, false)
    }
}

/// A connection whose writes are gathered until a reply is whole, and reach the socket when they are flushed.
#[derive(Debug)]
pub(super) struct Records {
    stream: TlsStream<TcpStream>,
    cutter: Cutter,
    /// For the next record.
    held: Vec<u8>,
    /// It is whole.
    is_due: bool,
}

impl Records {
    pub(super) const fn new(stream: TlsStream<TcpStream>, framing: Framing) -> Records {
        Records { stream, cutter: Cutter::new(framing), held: Vec::new(), is_due: false }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        self.stream.get_ref().0
    }

    /// Gives back room that a quiet connection does not need.
    pub(super) fn shrink_to(&mut self, len: usize) {
        self.held.shrink_to(len);
    }

    /// Makes a record of what is held, or of as much of it as TLS takes before it is flushed.
    fn hand_over(&mut self) -> io::Result<()> {
        let taken = self.stream.get_mut().1.writer().write(&self.held)?;
        self.held.drain(..taken);
        self.is_due = !self.held.is_empty();
        Ok(())
    }
}

impl AsyncRead for Records {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Records {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        while let Some(rest) = octets.get(taken..).filter(|rest| !rest.is_empty()) {
            if self.is_due {
                self.hand_over()?;
            }
            if self.is_due {
                // TLS holds as much as it may.
                match Pin::new(&mut self.stream).poll_flush(context) {
                    Poll::Ready(flushed) => flushed?,
                    Poll::Pending if taken == 0 => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(Ok(taken)),
                }
                continue;
            }
            let room = RECORD_LEN - self.held.len();
            let (len, is_end) = self.cutter.follow(rest.get(..room).unwrap_or(rest));
            self.held.extend(rest.iter().take(len));
            self.is_due = is_end || self.held.len() == RECORD_LEN;
            taken += len;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            self.hand_over()?;
            if self.is_due {
                ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            }
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with so much in it.
    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        [&[0, (len >> 8) as u8, len as u8, kind, flags, 0, 0, 0, 1][..], &vec![7; len]].concat()
    }

    /// Where replies end, as one finds them who gets so many octets at a time.
    fn ends(framing: Framing, octets: &[u8], step: usize) -> Vec<usize> {
        let (mut cutter, mut at, mut found) = (Cutter::new(framing), 0, Vec::new());
        for part in octets.chunks(step) {
            let mut rest = part;
            while !rest.is_empty() {
                let (len, is_end) = cutter.follow(rest);
                assert!(len > 0, "it goes on");
                at += len;
                rest = &rest[len..];
                if is_end {
                    found.push(at);
                }
            }
        }
        found
    }

    #[test]
    fn replies_end_where_their_frames_say() {
        let dns = [&[0, 3, 1, 2, 3][..], &[0, 0], &[1, 0], &[9; 256], &[0, 1]].concat();
        let (settings, head, data, last) = (frame(4, 0, 6), frame(1, 4, 40), frame(0, 0, 300), frame(0, 1, 20));
        // The acknowledgement of settings has the bit of END_STREAM, and another meaning for it.
        let http2 =
            [settings, frame(4, 1, 0), head.clone(), data, last.clone(), frame(1, 5, 30), head, frame(0, 1, 0), frame(6, 1, 8), frame(1, 4, 12)]
                .concat();
        for (framing, octets, expected) in [(Framing::Dns, dns, vec![5, 7, 265]), (Framing::Http2, http2, vec![411, 450, 508])] {
            for step in [1, 2, 3, 7, 64, 10_000] {
                assert_eq!(ends(framing, &octets, step), expected, "{framing:?} by {step}");
            }
        }
    }
}
