//! The programs that UDP sockets give the kernel, in classic BPF: pure data.
//!
//! ```text
//! filter      source port 0, no room for a header, QR set ─▶ drop
//!             source in a blocked prefix ─▶ drop all but one in SAMPLE
//! steering    source prefix ─▶ hash ─▶ socket of one thread
//! ```
//!
//! Both are made new with a secret number, so that nobody outside can choose prefixes that meet in one thread or in one entry.

use super::limiter::{Client, SAMPLE};
use crate::dns::request::HEADER_LEN;
use crate::sys::Instruction;

/// Offsets of a socket filter are those of the UDP header, and behind it of the message.
const UDP_HEADER_LEN: u32 = 8;
const SOURCE_PORT: u32 = 0;
const FLAGS: u32 = UDP_HEADER_LEN + 2;
const QR: u32 = 0x80;

/// The IP header from its start (`SKF_NET_OFF`), and the source address there.
const IP: u32 = 0xfff0_0000;
const V4_SOURCE: u32 = IP + 12;
const V6_SOURCE: u32 = IP + 8;

/// A random number (`SKF_AD_OFF + SKF_AD_RANDOM`).
const RANDOM: u32 = 0xffff_f000 + 56;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_OCTET: u16 = 0x30;
const LOAD_LEN: u16 = 0x80;
const AND: u16 = 0x54;
const MULTIPLY: u16 = 0x24;
const MODULO: u16 = 0x94;
const SHIFT_RIGHT: u16 = 0x74;
const XOR: u16 = 0xa4;
const XOR_X: u16 = 0xac;
const TO_X: u16 = 0x07;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY: u16 = 0x45;
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;

/// Keep the whole datagram, or nothing of it.
const PASS: u32 = u32::MAX;
const DROP: u32 = 0;

/// Odd numbers with good avalanche (Ettinger's hash prospector, `lowbias32`).
const K1: u32 = 0x7feb_352d;
const K2: u32 = 0x846c_a68b;

const fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// How clients are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefixes {
    pub(super) v4_len: u8,
    pub(super) v6_len: u8,
    /// Secret.
    pub(super) seed: u32,
}

impl Prefixes {
    /// Puts a hash of the source prefix into A.
    fn load_hash(self, v6: bool, program: &mut Vec<Instruction>) {
        let mask = |bits: u32| u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let mixed = |shift: u32| [op(TO_X, 0), op(SHIFT_RIGHT, shift), op(XOR_X, 0)];
        if v6 {
            let (high, low) = (u32::from(self.v6_len).min(32), u32::from(self.v6_len).clamp(32, 64) - 32);
            program.extend([op(LOAD_WORD, V6_SOURCE), op(AND, mask(high)), op(XOR, self.seed), op(MULTIPLY, K1)]);
            program.extend(mixed(15));
            program.extend([op(TO_X, 0), op(LOAD_WORD, V6_SOURCE + 4), op(AND, mask(low)), op(XOR_X, 0)]);
        } else {
            program.extend([op(LOAD_WORD, V4_SOURCE), op(AND, mask(u32::from(self.v4_len).min(32))), op(XOR, self.seed)]);
        }
        program.push(op(MULTIPLY, K1));
        program.extend(mixed(15));
        program.push(op(MULTIPLY, K2));
        program.extend(mixed(16));
    }

    /// The same hash of a client here.
    fn hash(self, client: Client) -> u32 {
        let mixed = |value: u32, shift: u32| value ^ (value >> shift);
        let low = client.bits as u32;
        let start = if client.v6 { mixed(((client.bits >> 32) as u32 ^ self.seed).wrapping_mul(K1), 15) ^ low } else { low ^ self.seed };
        mixed(mixed(start.wrapping_mul(K1), 15).wrapping_mul(K2), 16)
    }
}

/// Steering to one of `threads` sockets (at least 1) of the given family.
pub(super) fn steering(prefixes: Prefixes, v6: bool, threads: u32) -> Vec<Instruction> {
    let mut program = Vec::new();
    prefixes.load_hash(v6, &mut program);
    program.extend([op(MODULO, threads.max(1)), op(RETURN_A, 0)]);
    program
}

/// The filter of a socket of the given family. Of two prefixes with the same hash both are dropped; with 256 of them that befalls a given prefix with a
/// chance of one in 16 million.
pub(super) fn filter(prefixes: Prefixes, v6: bool, blocked: impl Iterator<Item = Client>) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD_HALF, SOURCE_PORT),
        branch(IF_EQUAL, 0, 0, 1),
        op(RETURN, DROP),
        op(LOAD_LEN, 0),
        branch(IF_AT_LEAST, UDP_HEADER_LEN + HEADER_LEN as u32, 1, 0),
        op(RETURN, DROP),
        op(LOAD_OCTET, FLAGS),
        branch(IF_ANY, QR, 0, 1),
        op(RETURN, DROP),
    ];
    let mut hashes: Vec<u32> = blocked.filter(|client| client.v6 == v6).map(|client| prefixes.hash(client)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    if !hashes.is_empty() {
        prefixes.load_hash(v6, &mut program);
    }
    program.extend(search(&hashes));
    program
}

/// Looks for A in a sorted list, by halves.
fn search(hashes: &[u32]) -> Vec<Instruction> {
    match hashes {
        [] => vec![op(RETURN, PASS)],
        [only] => vec![branch(IF_EQUAL, *only, 0, 3), op(LOAD_WORD, RANDOM), branch(IF_ANY, SAMPLE - 1, 0, 1), op(RETURN, DROP), op(RETURN, PASS)],
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            let (left, pivot, right) = (search(left), right[0], search(right));
            let mut program = vec![branch(IF_AT_LEAST, pivot, 0, 1), op(JUMP, left.len() as u32)];
            program.extend(left);
            program.extend(right);
            program
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::limiter::MAX_BLOCKED;
    use super::*;

    /// Runs a program as the kernel would, on a UDP datagram (from its header) and an IP header.
    fn run(program: &[Instruction], udp: &[u8], ip: &[u8], random: u32) -> u32 {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let load = |len: usize| {
                let (from, offset) = if k >= IP { (ip, k - IP) } else { (udp, k) };
                from[offset as usize..offset as usize + len].iter().fold(0u32, |value, octet| value << 8 | u32::from(*octet))
            };
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match code {
                LOAD_WORD if k == RANDOM => a = random,
                LOAD_WORD => a = load(4),
                LOAD_HALF => a = load(2),
                LOAD_OCTET => a = load(1),
                LOAD_LEN => a = udp.len() as u32,
                AND => a &= k,
                MULTIPLY => a = a.wrapping_mul(k),
                MODULO => a %= k,
                SHIFT_RIGHT => a >>= k,
                XOR => a ^= k,
                XOR_X => a ^= x,
                TO_X => x = a,
                JUMP => at += k as usize,
                IF_EQUAL => at += jump(a == k),
                IF_AT_LEAST => at += jump(a >= k),
                IF_ANY => at += jump(a & k != 0),
                RETURN => return k,
                RETURN_A => return a,
                _ => panic!("code {code:#x}"),
            }
        }
    }

    fn udp(port: u16, message: &[u8]) -> Vec<u8> {
        [&port.to_be_bytes()[..], &[0, 53, 0, 0, 0, 0], message].concat()
    }

    fn ip(source: &str) -> Vec<u8> {
        match source.parse().expect("an address") {
            IpAddr::V4(address) => [&[0x45; 12][..], &address.octets(), &[192, 0, 2, 1]].concat(),
            IpAddr::V6(address) => [&[0x60; 8][..], &address.octets(), &[0; 16]].concat(),
        }
    }

    fn client(prefixes: Prefixes, source: &str) -> Client {
        match source.parse().expect("an address") {
            IpAddr::V4(address) => {
                Client { bits: u64::from(u32::from(address) & u32::MAX.checked_shl(32 - u32::from(prefixes.v4_len)).unwrap_or(0)), v6: false }
            }
            IpAddr::V6(address) => {
                Client { bits: (u128::from(address) >> 64) as u64 & u64::MAX.checked_shl(64 - u32::from(prefixes.v6_len)).unwrap_or(0), v6: true }
            }
        }
    }

    const QUERY: [u8; 12] = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    const PREFIXES: Prefixes = Prefixes { v4_len: 24, v6_len: 56, seed: 0x1234_5678 };

    #[test]
    fn what_nobody_would_answer_is_dropped() {
        let program = filter(PREFIXES, false, std::iter::empty());
        let mut response = QUERY;
        response[2] |= 0x80;
        for (what, port, message, expected) in [
            ("a query", 4711, &QUERY[..], PASS),
            ("port 1", 1, &QUERY, PASS),
            ("port 0", 0, &QUERY, DROP),
            ("a response", 4711, &response, DROP),
            ("too short", 4711, &QUERY[..11], DROP),
            ("nothing", 4711, &[], DROP),
            ("longer", 4711, &[0x7f; 500], PASS),
        ] {
            assert_eq!(run(&program, &udp(port, message), &ip("192.0.2.1"), 1), expected, "{what}");
        }
    }

    #[test]
    fn blocked_prefixes_are_dropped_but_for_a_sample() {
        for (blocked, source, expected) in [
            (&["192.0.2.0"][..], "192.0.2.200", DROP),
            (&["192.0.2.0"], "192.0.3.200", PASS),
            (&["2001:db8:0:100::"], "2001:db8:0:1ff::1", DROP),
            (&["2001:db8:0:100::"], "2001:db8:0:200::1", PASS),
            (&["2001:db8:0:100::"], "2001:db9:0:100::1", PASS),
            (&["2001:db8::", "192.0.2.0"], "192.0.2.1", DROP),
            (&["2001:db8::", "192.0.2.0"], "2001:db8::1", DROP),
        ] {
            let program = filter(PREFIXES, source.contains(':'), blocked.iter().map(|source| client(PREFIXES, source)));
            assert_eq!(run(&program, &udp(1000, &QUERY), &ip(source), 1), expected, "{blocked:?}, {source}");
            assert_eq!(run(&program, &udp(1000, &QUERY), &ip(source), SAMPLE * 3), PASS, "the sample");
        }
    }

    #[test]
    fn the_longest_list_fits_and_finds_each() {
        for v6 in [false, true] {
            let source = |number: usize| match v6 {
                false => format!("10.{}.{}.7", number >> 8, number & 0xff),
                true => format!("2001:db8:{number:x}::7"),
            };
            let program = filter(PREFIXES, v6, (0..MAX_BLOCKED).map(|number| client(PREFIXES, &source(number))));
            // BPF_MAXINSNS.
            assert!(program.len() <= 4096, "{} instructions", program.len());
            for number in 0..2 * MAX_BLOCKED {
                let expected = if number < MAX_BLOCKED { DROP } else { PASS };
                assert_eq!(run(&program, &udp(1000, &QUERY), &ip(&source(number)), 1), expected, "{}", source(number));
            }
        }
    }

    #[test]
    fn steering_keeps_a_prefix_together_and_spreads_prefixes() {
        for (threads, v6) in [(1, false), (2, false), (2, true), (7, false), (64, true)] {
            let program = steering(PREFIXES, v6, threads);
            let mut counts = vec![0usize; threads as usize];
            for prefix in 0..10_000 {
                let at = |host: usize| {
                    let source = match v6 {
                        false => format!("10.{}.{}.{host}", prefix >> 8, prefix & 0xff),
                        true => format!("2001:db8:{:x}:{:x}::{host}", prefix >> 8, (prefix & 0xff) << 8 | host),
                    };
                    run(&program, &udp(host as u16, &QUERY), &ip(&source), 0) as usize
                };
                assert_eq!(at(1), at(200));
                counts[at(1)] += 1;
            }
            let fair = 10_000 / threads as usize;
            assert!(counts.iter().all(|count| (fair * 2 / 3..=fair * 3 / 2).contains(count)), "{threads} threads: {counts:?}");
        }
    }
}
