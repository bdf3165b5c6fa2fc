//! L2: the world: everything that answering may read. Immutable; made by `control`, published through one pointer, read by every thread.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// Everything that answering may read.
#[derive(Debug, Default)]
pub struct World {
    /// Counts up with every publication, from 1.
    pub generation: u64,
}

/// The one published world. `control` writes, everybody reads; reading takes no lock and counts no reference.
#[derive(Debug)]
pub struct Published(ArcSwap<World>);

impl Published {
    /// Starts with `world`.
    pub fn new(world: World) -> Published {
        Published(ArcSwap::from_pointee(world))
    }

    /// Runs `read` on the current world. Never block or wait inside: the world cannot be freed meanwhile.
    pub fn with_world<R>(&self, read: impl FnOnce(&World) -> R) -> R {
        read(&self.0.load())
    }

    /// Replaces the world and returns the old one, which the caller keeps until no reader is left in it
    /// (`Arc::strong_count` of 1), so that no reader ever pays for freeing it.
    pub fn publish(&self, world: Arc<World>) -> Arc<World> {
        self.0.swap(world)
    }
}
