//! Asks over UDP: as fast as answers come, or at a pace. Several questions leave in one system call (GSO), so that asking costs less than answering.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use crate::data::Questions;

/// Sockets, so that the server sees several flows.
const SOCKETS: usize = 8;
/// Under way on each: what fits into a receive buffer of the usual size (212,992 octets) eight times over.
const WINDOW: usize = 24;
/// Questions that leave at once.
const BURST: usize = 8;
/// What has not come by then is lost.
const LATE: Duration = Duration::from_millis(200);
const NOT_ASKED: u32 = u32::MAX;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    pub(crate) lost: u64,
    pub(crate) wrong: u64,
    pub(crate) seconds: f64,
    /// Nanoseconds from when each was due, at a pace; ascending. What was lost counts as [`LATE`], so that nobody gains by dropping what waits.
    pub(crate) times: Vec<u32>,
}

impl Outcome {
    pub(crate) fn per_s(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// Microseconds within which this share was answered.
    pub(crate) fn within(&self, share: f64) -> f64 {
        self.times.get(((self.times.len() as f64 * share) as usize).min(self.times.len().saturating_sub(1))).map_or(0.0, |ns| f64::from(*ns) / 1e3)
    }
}

struct Lane {
    socket: UdpSocket,
    state: UdpSocketState,
    id: u16,
    under_way: usize,
    /// By ID: the question under way, and when it was due, in nanoseconds since the start.
    asked: Vec<(u32, u64)>,
}

struct Asker<'q> {
    target: Target<'q>,
    next: usize,
    outcome: Outcome,
    start: Instant,
    is_paced: bool,
}

/// Who is asked, and what.
#[derive(Clone, Copy)]
pub(crate) struct Target<'q> {
    pub(crate) server: SocketAddr,
    pub(crate) questions: &'q Questions,
    /// It sends back what it gets.
    pub(crate) is_echo: bool,
}

/// Asks for so long: at `rate` per second, or with a fixed number under way.
pub(crate) fn run(target: Target<'_>, rate: Option<f64>, time: Duration) -> Outcome {
    let lane = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let state = UdpSocketState::new((&socket).into()).expect("a socket that can be set up");
        Lane { socket, state, id: 0, under_way: 0, asked: vec![(NOT_ASKED, 0); 1 << 16] }
    };
    let mut lanes: Vec<Lane> = (0..SOCKETS).map(|_| lane()).collect();
    let mut asker = Asker { target, next: 0, outcome: Outcome::default(), start: Instant::now(), is_paced: rate.is_some() };
    let (mut heard, mut sent) = (Instant::now(), 0u64);
    let mut buffers = vec![[0u8; 1500]; BATCH_SIZE];
    while asker.start.elapsed() < time {
        for lane in &mut lanes {
            if asker.hear(lane, &mut buffers) > 0 {
                heard = Instant::now();
            }
            if rate.is_none() {
                while lane.under_way + BURST <= WINDOW {
                    asker.ask(lane, BURST, 0);
                }
            }
        }
        if let Some(rate) = rate {
            let due_count = (asker.start.elapsed().as_secs_f64() * rate) as u64;
            for _ in 0..due_count.saturating_sub(sent).min(16) {
                let due = (sent as f64 / rate * 1e9) as u64;
                asker.ask(&mut lanes[sent as usize % SOCKETS], 1, due);
                sent += 1;
            }
        } else if heard.elapsed() > LATE {
            // Everything under way was lost: go on.
            for lane in &mut lanes {
                asker.outcome.lost += std::mem::take(&mut lane.under_way) as u64;
                lane.asked.fill((NOT_ASKED, 0));
            }
            heard = Instant::now();
        }
    }
    asker.outcome.seconds = asker.start.elapsed().as_secs_f64();
    let answered = asker.outcome.answered;
    let end = Instant::now();
    while end.elapsed() < LATE && lanes.iter().any(|lane| lane.under_way > 0) {
        for lane in &mut lanes {
            asker.hear(lane, &mut buffers);
        }
    }
    asker.outcome.lost += lanes.iter().map(|lane| lane.under_way as u64).sum::<u64>();
    if asker.is_paced {
        asker.outcome.times.extend((0..asker.outcome.lost).map(|_| LATE.as_nanos() as u32));
    }
    // What came behind the end is not lost, and not within the time either.
    asker.outcome.answered = answered;
    asker.outcome.times.sort_unstable();
    asker.outcome
}

impl Asker<'_> {
    fn ask(&mut self, lane: &mut Lane, count: usize, due: u64) {
        let len = self.target.questions.packet_len;
        let mut burst = [0u8; BURST * 128];
        for at in 0..count {
            let packet = &mut burst[at * len..(at + 1) * len];
            packet.copy_from_slice(self.target.questions.packet(self.next));
            packet[..2].copy_from_slice(&lane.id.to_be_bytes());
            lane.asked[usize::from(lane.id)] = (self.next as u32, due);
            lane.id = lane.id.wrapping_add(1);
            self.next = (self.next + 1) % self.target.questions.expected.len();
        }
        lane.under_way += count;
        let contents = &burst[..count * len];
        let transmit = Transmit { destination: self.target.server, ecn: None, contents, segment_size: (count > 1).then_some(len), src_ip: None };
        // What the kernel refuses is lost like what the network loses.
        let _ = lane.state.send(UdpSockRef::from(&lane.socket), &transmit);
    }

    fn hear(&mut self, lane: &mut Lane, buffers: &mut [[u8; 1500]]) -> usize {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut heard = 0;
        loop {
            let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let received = match lane.state.recv(UdpSockRef::from(&lane.socket), &mut slices, &mut metas) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return heard,
                Err(error) => panic!("{error}"),
            };
            let now = self.start.elapsed().as_nanos() as u64;
            for (buffer, meta) in buffers.iter().zip(&metas).take(received) {
                for reply in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    heard += 1;
                    self.judge(lane, reply, now);
                }
            }
            if received < BATCH_SIZE {
                return heard;
            }
        }
    }

    fn judge(&mut self, lane: &mut Lane, reply: &[u8], now: u64) {
        let Some(id) = reply.first_chunk::<2>().map(|id| usize::from(u16::from_be_bytes(*id))) else { return };
        let (question, due) = std::mem::replace(&mut lane.asked[id], (NOT_ASKED, 0));
        if question == NOT_ASKED {
            return;
        }
        lane.under_way -= 1;
        self.outcome.answered += 1;
        if self.is_paced {
            self.outcome.times.push((now.saturating_sub(due)).min(u64::from(u32::MAX)) as u32);
        }
        if !self.target.is_echo && !self.target.questions.is_right(question as usize, reply) {
            self.outcome.wrong += 1;
        }
    }
}

/// True when the server answers question 0 as it must.
pub(crate) fn is_up(target: Target<'_>) -> bool {
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return false };
    let asked = socket.set_read_timeout(Some(Duration::from_millis(50))).and_then(|()| socket.send_to(target.questions.packet(0), target.server));
    let mut reply = [0u8; 1500];
    asked.is_ok() && socket.recv(&mut reply).is_ok_and(|len| target.is_echo || target.questions.is_right(0, &reply[..len]))
}
