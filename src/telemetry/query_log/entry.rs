//! A logged reply on its way through the ring: the octets of both messages and what only the answering thread knew.
//!
//! ```text
//! word  0        1      2           3           4, 5      6, 7    8                                    9       then
//!       lengths  time   generation  zone, pool  client    server  ports, code, transport, TC           sample  query, reply
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::answer::Transport;
use crate::dns::Rcode;

/// Words before the messages.
pub(super) const HEADER_WORDS: usize = 10;

/// The largest record: two messages of 65,535 octets (RFC 1035 §4.2.2).
pub(super) const MAX_WORDS: usize = HEADER_WORDS + 2 * 8192;

/// Stands for no counter slot.
const NO_SLOT: u32 = u32::MAX;

const TRUNCATED: u64 = 1 << 8;

/// What a record says beside the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Nanoseconds since 1970; of the batch.
    pub(super) time_ns: u64,
    /// Of the world that answered.
    pub(super) generation: u64,
    /// Counter slot of the zone.
    pub(super) zone: Option<u32>,
    /// Counter slot of the pool.
    pub(super) pool: Option<u32>,
    /// Who asked; IPv4 in IPv6 is IPv4.
    pub(super) client: SocketAddr,
    /// Where it came in, as far as known.
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    pub(super) rcode: Rcode,
    pub(super) truncated: bool,
    /// One reply in so many was logged.
    pub(super) sample: u32,
}

impl Facts {
    /// As words; the lengths of the messages are cut to 65,535, which none exceeds.
    pub(super) fn to_words(self, query_len: usize, reply_len: usize) -> [u64; HEADER_WORDS] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let halves = |addr: IpAddr| {
            let bits = match addr {
                IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
                IpAddr::V6(addr) => addr.to_bits(),
            };
            ((bits >> 64) as u64, bits as u64)
        };
        let (client, server) = (halves(self.client.ip()), halves(self.server.ip()));
        let flags = self.transport as u64 | if self.truncated { TRUNCATED } else { 0 };
        let ports = u64::from(self.client.port()) << 48 | u64::from(self.server.port()) << 32 | u64::from(self.rcode.0) << 16 | flags;
        [
            (query_len.min(0xffff) as u64) << 16 | reply_len.min(0xffff) as u64,
            self.time_ns,
            self.generation,
            pair(self.zone.unwrap_or(NO_SLOT), self.pool.unwrap_or(NO_SLOT)),
            client.0,
            client.1,
            server.0,
            server.1,
            ports,
            u64::from(self.sample),
        ]
    }

    fn from_words(words: &[u64; HEADER_WORDS]) -> Facts {
        let slot = |slot: u32| (slot != NO_SLOT).then_some(slot);
        let address = |high: u64, low: u64, port: u64| {
            SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))).to_canonical(), port as u16)
        };
        let ports = words[8];
        Facts {
            time_ns: words[1],
            generation: words[2],
            zone: slot((words[3] >> 32) as u32),
            pool: slot(words[3] as u32),
            client: address(words[4], words[5], ports >> 48),
            server: address(words[6], words[7], ports >> 32),
            transport: Transport::ALL.get((ports & 0xff) as usize).copied().unwrap_or(Transport::Udp),
            rcode: Rcode((ports >> 16) as u16),
            truncated: ports & TRUNCATED != 0,
            sample: words[9] as u32,
        }
    }
}

/// A record taken from a ring. Kept from one to the next for its buffers.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    pub(super) query: Vec<u8>,
    pub(super) reply: Vec<u8>,
}

impl Default for Entry {
    fn default() -> Entry {
        Entry { facts: Facts::from_words(&[0; HEADER_WORDS]), query: Vec::new(), reply: Vec::new() }
    }
}

impl Entry {
    /// Becomes what the words of a record say; false when they are too few.
    pub(super) fn read(&mut self, words: &mut dyn Iterator<Item = u64>) -> bool {
        let mut header = [0; HEADER_WORDS];
        for place in &mut header {
            let Some(word) = words.next() else { return false };
            *place = word;
        }
        self.facts = Facts::from_words(&header);
        for (message, len) in [(&mut self.query, header[0] >> 16 & 0xffff), (&mut self.reply, header[0] & 0xffff)] {
            let len = len as usize;
            message.clear();
            message.extend(words.take(len.div_ceil(8)).flat_map(u64::to_le_bytes));
            message.truncate(len);
            if message.len() < len {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let facts = Facts {
            time_ns: 1_760_000_000_123_456_789,
            generation: 41,
            zone: Some(7),
            pool: None,
            client: "192.0.2.1:5353".parse().expect("an address"),
            server: "[2001:db8::53]:53".parse().expect("an address"),
            transport: Transport::Tcp,
            rcode: Rcode::BADVERS,
            truncated: true,
            sample: 1_000_000,
        };
        let other =
            Facts { zone: None, pool: Some(0), truncated: false, transport: Transport::Udp, client: facts.server, server: facts.client, ..facts };
        for facts in [facts, other] {
            for (query, reply) in [(&b""[..], &b""[..]), (b"1234567", b"12345678"), (&[7; 65_535], &[9; 65_535])] {
                let header = facts.to_words(query.len(), reply.len());
                let octets = |message: &[u8]| {
                    let padded = [message, &[0; 8][..message.len().next_multiple_of(8) - message.len()]].concat();
                    padded.as_chunks::<8>().0.iter().map(|octets| u64::from_le_bytes(*octets)).collect::<Vec<_>>()
                };
                let words = [header.to_vec(), octets(query), octets(reply)].concat();
                assert!(words.len() <= MAX_WORDS);
                let mut entry = Entry::default();
                assert!(entry.read(&mut words.clone().into_iter()));
                assert_eq!((entry.facts, &*entry.query, &*entry.reply), (facts, query, reply));
                let cut = words.len() - 1;
                assert!(!entry.read(&mut words.into_iter().take(cut)));
            }
        }
    }
}
