//! A ring of words between one thread that answers and the thread that writes the log. Neither ever waits for the other.
//!
//! ```text
//!                 tail: read so far          head: written so far
//!   ─────────────────┤▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓├──────────────── (and round again)
//! ```
//! `head` is moved by the answering thread alone, `tail` by the writing one; both only ever grow, and their lowest bits are the place. What is
//! between them belongs to the reader, the rest to the writer, so that relaxed loads and stores of the words are enough.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Words of a ring: 1 MiB, some 4,000 usual queries with their replies. At 100,000 logged replies per second that is 40 ms, four times as long as the
/// writing thread sleeps.
pub(super) const RING_WORDS: usize = 1 << 17;

const MASK: usize = RING_WORDS - 1;

/// A counter on cache lines of its own: two, because the prefetcher fetches lines in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Alone(AtomicUsize);

/// The ring itself. Its memory is taken when logging is first turned on.
#[derive(Debug, Default)]
pub(super) struct Ring {
    words: OnceLock<Box<[AtomicU64]>>,
    head: Alone,
    tail: Alone,
}

impl Ring {
    /// Takes its memory, once.
    pub(super) fn allocate(&self) {
        self.words.get_or_init(|| (0..RING_WORDS).map(|_| AtomicU64::new(0)).collect());
    }

    pub(super) fn is_allocated(&self) -> bool {
        self.words.get().is_some()
    }

    /// Nothing waits in it.
    pub(super) fn is_empty(&self) -> bool {
        self.head.0.load(Ordering::Acquire) == self.tail.0.load(Ordering::Relaxed)
    }

    /// Hands out one record after the other, as far as there were some when it was called. A record is as long as its first word says in its upper
    /// half. For the writing thread alone.
    pub(super) fn drain(&self, mut take: impl FnMut(&mut dyn Iterator<Item = u64>)) {
        let Some(words) = self.words.get() else { return };
        let head = self.head.0.load(Ordering::Acquire);
        let mut tail = self.tail.0.load(Ordering::Relaxed);
        let word = |at: usize| words.get(at & MASK).map_or(0, |word| word.load(Ordering::Relaxed));
        while tail != head {
            let len = ((word(tail) >> 32) as usize).clamp(1, head.wrapping_sub(tail));
            take(&mut (0..len).map(|offset| word(tail.wrapping_add(offset))));
            tail = tail.wrapping_add(len);
            self.tail.0.store(tail, Ordering::Release);
        }
    }
}

/// The answering thread's end.
#[derive(Debug)]
pub(super) struct Producer {
    pub(super) ring: Arc<Ring>,
    head: usize,
    /// Of the reader when last looked at: it can only have moved on.
    tail: usize,
}

impl Producer {
    pub(super) fn new(ring: Arc<Ring>) -> Producer {
        Producer { head: ring.head.0.load(Ordering::Relaxed), tail: ring.tail.0.load(Ordering::Acquire), ring }
    }

    /// Puts a record: its first words (the first one's upper half is left to us), then octets, each part padded to a word. False when there is no room.
    pub(super) fn push<const N: usize>(&mut self, mut header: [u64; N], parts: [&[u8]; 2]) -> bool {
        let Some(words) = self.ring.words.get() else { return false };
        let len = N + parts.iter().map(|part| part.len().div_ceil(8)).sum::<usize>();
        if len > RING_WORDS - self.head.wrapping_sub(self.tail) {
            self.tail = self.ring.tail.0.load(Ordering::Acquire);
            if len > RING_WORDS - self.head.wrapping_sub(self.tail) {
                return false;
            }
        }
        if let Some(first) = header.first_mut() {
            *first = *first & u64::from(u32::MAX) | (len as u64) << 32;
        }
        let mut at = self.head;
        let mut put = |word: u64| {
            if let Some(place) = words.get(at & MASK) {
                place.store(word, Ordering::Relaxed);
            }
            at = at.wrapping_add(1);
        };
        header.into_iter().for_each(&mut put);
        for part in parts {
            let (whole, rest) = part.as_chunks::<8>();
            whole.iter().for_each(|octets| put(u64::from_le_bytes(*octets)));
            if !rest.is_empty() {
                let mut last = [0; 8];
                last[..rest.len()].copy_from_slice(rest);
                put(u64::from_le_bytes(last));
            }
        }
        self.head = self.head.wrapping_add(len);
        self.ring.head.0.store(self.head, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Arc<Ring> {
        let ring = Arc::new(Ring::default());
        ring.allocate();
        ring
    }

    fn drained(ring: &Ring) -> Vec<Vec<u64>> {
        let mut all = Vec::new();
        ring.drain(|words| all.push(words.collect()));
        all
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let ring = ring();
        let mut producer = Producer::new(ring.clone());
        assert!(producer.push([7, 8], [b"abcdefgh", b"ij"]));
        assert!(producer.push([9], [b"", b""]));
        let words = |octets: &[u8; 8]| u64::from_le_bytes(*octets);
        assert_eq!(drained(&ring), [vec![4 << 32 | 7, 8, words(b"abcdefgh"), words(b"ij\0\0\0\0\0\0")], vec![1 << 32 | 9]]);
        assert!(ring.is_empty() && drained(&ring).is_empty());
    }

    #[test]
    fn a_full_ring_refuses_and_goes_on_when_there_is_room() {
        let ring = ring();
        let mut producer = Producer::new(ring.clone());
        let octets = vec![1; 8 * 1000];
        let fits = RING_WORDS / 1001;
        for round in 0..5 {
            let taken = (0..fits + 10).filter(|_| producer.push([round], [&octets, b""])).count();
            assert_eq!(taken, fits, "round {round}");
            assert_eq!(drained(&ring).len(), fits);
        }
    }

    #[test]
    fn a_ring_without_memory_takes_nothing() {
        let ring = Arc::new(Ring::default());
        assert!(!Producer::new(ring.clone()).push([1], [b"", b""]));
        assert!(drained(&ring).is_empty());
    }

    #[test]
    fn two_threads_lose_nothing_but_what_is_refused() {
        let ring = ring();
        let (mut producer, reader) = (Producer::new(ring.clone()), ring);
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || {
                let octets = [5; 4000];
                (0..50_000u64).filter(|number| producer.push([0, *number], [&octets[..(*number % 4000) as usize], b"x"])).collect::<Vec<_>>()
            });
            let mut seen = Vec::new();
            loop {
                let ended = sent.is_finished();
                reader.drain(|words| {
                    let words: Vec<u64> = words.collect();
                    assert_eq!(words.len(), 3 + (words[1] % 4000).div_ceil(8) as usize);
                    assert_eq!(words.last(), Some(&u64::from(b'x')));
                    seen.push(words[1]);
                });
                if ended {
                    break;
                }
            }
            let sent = sent.join().expect("no panic");
            assert!(sent.len() > 100);
            assert_eq!(seen, sent);
        });
    }
}
