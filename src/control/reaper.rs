//! Frees what is no longer served, off every thread that serves or decides: a thread of its own, in slices, at the lowest priority.
//!
//! ```text
//! writer ── retired world, replaced zones ──▶ waits until no reader is left in it ──▶ takes it apart, pausing after each slice
//! ```
//! A world shares almost everything with the one after it, so what is freed is what a change replaced: some plans, or a zone of a million names.

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::world::World;

/// Readers leave a world after a batch or a request; this is how often it is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Work between two pauses. One piece may take longer: the data of a zone is freed as a whole.
const SLICE: Duration = Duration::from_micros(500);
/// Between two slices.
const PAUSE: Duration = Duration::from_micros(500);
/// Down from the usual priority: as far as it goes.
const PRIORITY: u8 = 19;
/// The name of the thread.
pub(super) const NAME: &str = "reaper";

/// Left behind a reload: when its turn comes, small blocks go back to the system too. Large ones do so by themselves.
pub(super) struct Tidy;

impl Drop for Tidy {
    fn drop(&mut self) {
        crate::sys::return_free_memory();
    }
}

/// Something to free.
enum Retired {
    /// As soon as nobody else holds it.
    World(Arc<World>),
    /// At once.
    Other(Box<dyn Any + Send>),
}

/// Where to leave what is to be freed. The thread ends when this is dropped and nothing is left.
#[derive(Debug)]
pub(super) struct Reaper(Sender<Retired>);

impl Reaper {
    /// Without a thread, should there be none to be had, things are freed where they are left.
    pub(super) fn start() -> Reaper {
        let (sender, receiver) = channel();
        let started = std::thread::Builder::new().name(NAME.into()).spawn(move || {
            let _ = crate::sys::lower_priority(PRIORITY);
            run(&receiver);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "retired worlds are freed by the control thread: no thread can be started");
        }
        Reaper(sender)
    }

    /// Takes a world that was replaced. Whoever still reads it goes on.
    pub(super) fn world(&self, world: Arc<World>) {
        let _ = self.0.send(Retired::World(world));
    }

    /// Takes what nobody else holds, or what may be part of a world.
    pub(super) fn other(&self, thing: impl Any + Send) {
        let _ = self.0.send(Retired::Other(Box::new(thing)));
    }
}

fn run(retired: &Receiver<Retired>) {
    let mut worlds: Vec<Arc<World>> = Vec::new();
    loop {
        let next = match worlds.is_empty() {
            true => retired.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => retired.recv_timeout(LOOK),
        };
        let mut slice = Slice::begin();
        match next {
            Ok(Retired::World(world)) => worlds.push(world),
            Ok(Retired::Other(thing)) => slice.free(thing),
            Err(RecvTimeoutError::Timeout) => {}
            // The program ends: what is left goes with it.
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // The pointer has moved on, so nobody enters a retired world any more: a count of one stays one.
        for world in worlds.extract_if(.., |world| Arc::strong_count(world) == 1) {
            take_apart(world, &mut slice);
        }
    }
}

/// Piece by piece from the outside in. What a later world holds as well is not freed by this.
fn take_apart(world: Arc<World>, slice: &mut Slice) {
    let Some(mut world) = Arc::into_inner(world) else { return };
    for mut chunk in std::mem::take(&mut world.zones).into_chunks() {
        let Some(zones) = Arc::get_mut(&mut chunk) else { continue };
        for zone in zones.iter_mut().filter_map(Option::take).filter_map(Arc::into_inner) {
            for steerings in zone.steerings.into_chunks() {
                slice.free(steerings);
            }
            slice.free((zone.tree, zone.ttls));
            slice.free((zone.steered, zone.model, zone.view));
        }
    }
    slice.free(world);
}

/// A stretch of work.
struct Slice(Instant);

impl Slice {
    fn begin() -> Slice {
        Slice(Instant::now())
    }

    fn free<T>(&mut self, thing: T) {
        drop(thing);
        if self.0.elapsed() >= SLICE {
            #[allow(clippy::disallowed_methods, reason = "a thread of its own, which has nothing else to do")]
            std::thread::sleep(PAUSE);
            self.0 = Instant::now();
        }
    }
}
