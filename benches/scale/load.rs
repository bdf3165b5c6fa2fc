//! Asks over UDP at a pace, or as fast as answers come, and keeps the time of every answer from the moment its query was due.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::geo::Chance;
use crate::zones::NAMES_PER_ZONE;

/// Sockets, so that the kernel has several flows.
const SOCKETS: usize = 8;
/// Answers that come later than this are lost.
const LATE: Duration = Duration::from_millis(500);
/// Queries under way at a time when no pace is given: what fits into a receive buffer of the usual size.
const WINDOW: u64 = 128;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) per_s: f64,
    pub(crate) lost: u64,
    /// Answers with another code than NOERROR, or without a record.
    pub(crate) wrong: u64,
    /// Microseconds: median, 99 %, 99.9 %, worst.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) worst: f64,
}

struct Asker {
    sockets: Vec<UdpSocket>,
    /// By socket and ID: when the query under way was due.
    due: Vec<Vec<Option<Instant>>>,
    chance: Chance,
    zones: u64,
    sent: u64,
    answered: u64,
    wrong: u64,
    times: Vec<u32>,
}

/// Asks for `time`, so many queries per second, or with a fixed number under way for a rate of 0.
pub(crate) fn run(server: SocketAddr, zones: u64, rate: u64, time: Duration) -> Outcome {
    let socket = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server).expect("an address");
        socket.set_nonblocking(true).expect("a socket that does not block");
        socket
    };
    let mut asker = Asker {
        sockets: (0..SOCKETS).map(|_| socket()).collect(),
        due: vec![vec![None; 1 << 16]; SOCKETS],
        chance: Chance(3),
        zones,
        sent: 0,
        answered: 0,
        wrong: 0,
        times: Vec::with_capacity(rate.max(200_000) as usize * (time.as_secs() as usize + 1)),
    };
    let start = Instant::now();
    loop {
        let now = Instant::now();
        let elapsed = now - start;
        if elapsed >= time {
            break;
        }
        if rate > 0 {
            while asker.sent < (elapsed.as_nanos() as u64).saturating_mul(rate) / 1_000_000_000 {
                let due = start + Duration::from_nanos(asker.sent * 1_000_000_000 / rate);
                asker.ask(due);
                if asker.sent.is_multiple_of(16) {
                    break;
                }
            }
        } else {
            // What is lost gives its place back only by the end; the window is chosen so that nothing is.
            while asker.sent - asker.answered < WINDOW {
                asker.ask(Instant::now());
            }
        }
        asker.take();
    }
    let took = start.elapsed();
    while start.elapsed() < took + LATE && asker.answered < asker.sent {
        asker.take();
    }
    let mut times = std::mem::take(&mut asker.times);
    times.sort_unstable();
    let at = |part: f64| times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1))).map_or(0.0, |ns| f64::from(*ns) / 1e3);
    Outcome {
        per_s: asker.answered as f64 / took.as_secs_f64(),
        lost: asker.sent - asker.answered,
        wrong: asker.wrong,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        worst: at(1.0),
    }
}

impl Asker {
    fn ask(&mut self, due: Instant) {
        let (socket, id) = (self.sent as usize % SOCKETS, (self.sent as usize / SOCKETS) as u16);
        let (zone, name, client) = (self.chance.below(self.zones), self.chance.below(NAMES_PER_ZONE), self.chance.next());
        let mut query = Vec::with_capacity(96);
        query.extend_from_slice(&id.to_be_bytes());
        query.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        for label in [format!("n{name}"), format!("z{zone}"), "test".into()] {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&[0, 0, 1, 0, 1]);
        // OPT with a client's /24.
        let [a, b, c, ..] = client.to_be_bytes();
        query.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, 1 + a % 223, b, c]);
        self.due[socket][usize::from(id)] = Some(due);
        self.sent += 1;
        // A full buffer is a loss like any other.
        let _ = self.sockets[socket].send(&query);
    }

    fn take(&mut self) {
        let mut reply = [0u8; 1500];
        for at in 0..SOCKETS {
            loop {
                match self.sockets[at].recv(&mut reply) {
                    Ok(len) => {
                        let id = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
                        let Some(due) = self.due[at][id].take() else { continue };
                        self.times.push(due.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
                        self.answered += 1;
                        self.wrong += u64::from(len < 12 || reply[3] & 15 != 0 || reply[7] == 0);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}
