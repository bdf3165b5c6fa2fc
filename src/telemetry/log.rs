//! What the running server says: lines on their way to standard error, which may be slow, full, or gone.
//!
//! ```text
//!   any thread ── Log: adds its line, never waits ──▶ text ──▶ a thread of its own: writes ──▶ standard error
//!                  └ no room: lost, counted                     └ cannot be written: lost, counted
//! ```
//! Whoever speaks waits for nobody: a pipe that is not read would otherwise hold the checks, the admin listener and the end of the program, and a full disk
//! would end it. Once lines go through again, one of them says how many are missing in its place.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Octets that wait to be written: some 5,000 lines. More is lost.
const ROOM: usize = 1 << 20;

/// Octets of one write, which ends with a line: whoever appends to the same file gets no word in between, and progress is seen.
const PIECE: usize = 16 << 10;

/// From one attempt to tell of lost lines to the next, while nothing else is said.
const AGAIN: Duration = Duration::from_secs(5);

/// A write that takes longer is told as trouble: whoever reads has stopped.
const STUCK: Duration = Duration::from_secs(10);

/// From one attempt to the next where somebody has made standard error return at once instead of waiting.
const PAUSE: Duration = Duration::from_millis(20);

/// Lines on their way. Cheap to clone; what is said before [`Log::write_to`] waits for it.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    come: Condvar,
    /// Something has been written, or given up.
    gone: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines that wait.
    text: Vec<u8>,
    /// Lines that found no room behind them.
    unheard: u64,
    /// Lines that were lost, and those of them that a line has told of.
    lost: u64,
    told: u64,
    /// Why lines could not be written, until it is told.
    error: Option<String>,
    /// The thread has taken what there was, and is not at its end.
    is_writing: bool,
    /// When the write began that has not come back.
    since: Option<Instant>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// Starts the thread that writes. An error is that of a system that has no room for it.
    pub fn write_to(&self, to: impl Write + Send + 'static) -> io::Result<()> {
        let writer = Writer { log: self.clone(), to, is_torn: false };
        thread::Builder::new().name("log".into()).spawn(|| writer.run()).map(drop)
    }

    /// Says a line. Waits for nothing but other lines that are being added.
    pub fn say(&self, line: impl Display) {
        self.add(self.lock(), line.to_string().as_bytes());
    }

    /// The same where nobody is served yet: while lines are read at all it waits for room.
    pub fn say_in_full(&self, line: impl Display) {
        let line = line.to_string();
        let mut state = self.lock();
        while !state.text.is_empty() && state.text.len() + line.len() >= ROOM {
            let left = STUCK.saturating_sub(state.stuck());
            if left.is_zero() {
                break;
            }
            state = wait(&self.0.gone, state, left);
        }
        self.add(state, line.as_bytes());
    }

    fn add(&self, mut state: MutexGuard<'_, State>, line: &[u8]) {
        if state.text.len() + line.len() >= ROOM {
            state.lost += 1;
            state.unheard += 1;
            return;
        }
        state.text.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            state.text.push(b'\n');
        }
        drop(state);
        self.0.come.notify_one();
    }

    /// Lines that were lost since the start.
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// What is wrong, if lines stand or are lost now.
    pub fn trouble(&self) -> Option<String> {
        let state = self.lock();
        if state.stuck() >= STUCK {
            return Some("log: nobody reads standard error: lines wait, and are lost when there is no room for more".into());
        }
        (state.lost > state.told).then(|| format!("log: lines are lost: standard error {}", state.why()))
    }

    /// Waits until everything is written or lost, as long as some of it is written every so often (`idle`), and for so long at most (`total`).
    pub fn finish(&self, idle: Duration, total: Duration) {
        let end = Instant::now() + total;
        let mut state = self.lock();
        while state.is_writing || !state.text.is_empty() {
            let left = idle.saturating_sub(state.stuck()).min(end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            state = wait(&self.0.gone, state, left);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock leaves it half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines, or for the next attempt to tell of those that were lost. Exchanges what waits for the empty `text`; returns how many lines are
    /// missing behind it.
    fn take(&self, text: &mut Vec<u8>, tells: bool) -> u64 {
        let mut state = self.lock();
        state.is_writing = false;
        self.0.gone.notify_all();
        let next = Instant::now() + AGAIN;
        while state.text.is_empty() && state.unheard == 0 {
            let left = next.saturating_duration_since(Instant::now());
            if tells && left.is_zero() {
                break;
            }
            state = if tells { wait(&self.0.come, state, left) } else { self.0.come.wait(state).unwrap_or_else(PoisonError::into_inner) };
        }
        state.is_writing = true;
        std::mem::swap(text, &mut state.text);
        std::mem::take(&mut state.unheard)
    }
}

/// Every event of `tracing` is one write.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(self.lock(), line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wait<'a>(event: &Condvar, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
    event.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
}

impl State {
    /// For how long the present write has not come back.
    fn stuck(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn why(&self) -> String {
        self.error.as_ref().map_or_else(|| "is not read in time".into(), |error| format!("cannot be written: {error}"))
    }
}

struct Writer<W> {
    log: Log,
    to: W,
    /// What was written last ends in the middle of a line.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut text = Vec::new();
        // Lines that were lost after what is written and before what comes.
        let mut missing = 0;
        loop {
            let unheard = self.log.take(&mut text, missing > 0);
            // While it cannot even be told that lines are lost, the others are lost too.
            let rest = if self.tell(&mut missing) { self.write(&text) } else { lines(&text) };
            self.log.lock().lost += rest;
            missing += rest + unheard;
            self.tell(&mut missing);
            // An outburst is seldom; its room is given back.
            text = Vec::new();
        }
    }

    /// Tells how many lines are missing, if any are; whether that went.
    fn tell(&mut self, missing: &mut u64) -> bool {
        if *missing == 0 {
            return true;
        }
        let why = self.log.lock().why();
        let line = format!(
            "{}meridian: warning: lines of the log that are missing here: {missing}: standard error {why}\n",
            if self.is_torn { "\n" } else { "" }
        );
        if self.write(line.as_bytes()) > 0 {
            return false;
        }
        let mut state = self.log.lock();
        state.told += std::mem::take(missing);
        state.error = None;
        true
    }

    /// Writes lines; returns how many of them could not be written.
    fn write(&mut self, mut text: &[u8]) -> u64 {
        while !text.is_empty() {
            self.log.lock().since.get_or_insert_with(Instant::now);
            let written = self.to.write(piece(text));
            if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                thread::park_timeout(PAUSE);
                continue;
            }
            let mut state = self.log.lock();
            state.since = None;
            match written {
                Ok(0) => state.error = Some("nothing is taken".into()),
                Ok(count) => {
                    self.is_torn = text.get(count - 1) != Some(&b'\n');
                    text = text.get(count..).unwrap_or_default();
                    drop(state);
                    self.log.0.gone.notify_all();
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => state.error = Some(error.to_string()),
            }
            return lines(text);
        }
        0
    }
}

/// The beginning of a text, up to the end of a line.
fn piece(text: &[u8]) -> &[u8] {
    let is_end = |octet: &u8| *octet == b'\n';
    let (first, rest) = text.split_at(text.len().min(PIECE));
    let end = match first.iter().rposition(is_end) {
        Some(end) => end + 1,
        None => first.len() + rest.iter().position(is_end).map_or(rest.len(), |end| end + 1),
    };
    text.get(..end).unwrap_or(text)
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|octet| **octet == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Longer than anything that a test waits for.
    const LONG: Duration = Duration::from_secs(60);

    /// Does with each write what it is told to.
    struct Told {
        orders: Receiver<io::Result<usize>>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Told {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            // Whoever gives orders has gone: everything is taken.
            let count = self.orders.recv().unwrap_or(Ok(octets.len()))?.min(octets.len());
            self.written.lock().expect("a lock").push_str(&String::from_utf8_lossy(&octets[..count]));
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (Log, SyncSender<io::Result<usize>>, Arc<Mutex<String>>) {
        let ((orders, told), written, log) = (sync_channel(64), Arc::default(), Log::default());
        log.write_to(Told { orders: told, written: Arc::clone(&written) }).expect("a thread");
        (log, orders, written)
    }

    fn all(log: &Log, written: &Mutex<String>) -> String {
        log.finish(LONG, LONG);
        written.lock().expect("a lock").clone()
    }

    #[test]
    fn lines_come_in_order_whole_and_to_the_last() {
        let (log, orders, written) = log();
        drop(orders);
        let expected: Vec<String> = (0..20_000).map(|number| format!("line {number} {}", "x".repeat(number % 200))).collect();
        expected.iter().for_each(|line| log.say_in_full(line));
        assert_eq!(all(&log, &written).lines().collect::<Vec<_>>(), expected);
        assert_eq!((log.lost(), log.trouble()), (0, None));
    }

    #[test]
    fn whoever_speaks_waits_for_nobody_and_what_is_lost_is_told() {
        let (log, orders, written) = log();
        let line = "x".repeat(1023);
        log.say("first");
        // It is on its way: the thread waits for its order.
        while log.lock().since.is_none() {
            thread::yield_now();
        }
        (0..1100).for_each(|_| log.say(&line));
        let lost = log.lost();
        assert_eq!(lost, 1100 - ROOM as u64 / 1024);
        assert!(log.trouble().is_some_and(|trouble| trouble.contains("not read in time")));
        // Nobody takes anything: the end of the program does not wait for long.
        log.finish(Duration::from_millis(1), LONG);
        drop(orders);
        // What is said after it went on stands behind the line about what is missing.
        log.finish(LONG, LONG);
        log.say("last");
        let text = all(&log, &written);
        assert_eq!(text.lines().filter(|found| **found == line).count() as u64, 1100 - lost);
        let end: Vec<&str> = text.lines().rev().take(2).collect();
        let missing = format!("meridian: warning: lines of the log that are missing here: {lost}: standard error is not read in time");
        assert_eq!((end, text.lines().next()), (vec!["last", &missing], Some("first")));
        assert_eq!((log.lost(), log.trouble()), (lost, None));
    }

    #[test]
    fn a_full_disk_tears_a_line_and_the_next_begins_anew() {
        let (log, orders, written) = log();
        let full = || Err(ErrorKind::StorageFull.into());
        // Of the first line three octets are taken, then nothing: neither the rest nor the word about it.
        [Ok(3), full(), full()].into_iter().for_each(|order| orders.send(order).expect("it listens"));
        log.say("torn");
        log.finish(LONG, LONG);
        let trouble = log.trouble().expect("it is told");
        assert!(trouble.contains("cannot be written: no storage space"), "{trouble}");
        [full(), full()].into_iter().for_each(|order| orders.send(order).expect("it listens"));
        log.say("lost");
        log.finish(LONG, LONG);
        assert_eq!(log.lost(), 2);
        drop(orders);
        log.say("whole");
        let text = all(&log, &written);
        let missing = "meridian: warning: lines of the log that are missing here: 2: standard error cannot be written: no storage space";
        assert_eq!(text, format!("tor\n{missing}\nwhole\n"));
        assert_eq!(log.trouble(), None);
    }

    #[test]
    fn pieces_end_with_lines() {
        let long = [b"a\n".as_slice(), &[b'x'; 2 * PIECE], b"\nb\n"].concat();
        assert_eq!(piece(&long), b"a\n");
        assert_eq!(piece(&long[2..]).len(), 2 * PIECE + 1);
        assert_eq!(piece(b"a\nb\n"), b"a\nb\n");
        assert_eq!(piece(b"unended"), b"unended");
    }
}
