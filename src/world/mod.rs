//! L2: the world: everything that answering may read. Immutable; made by `control`, published through one pointer, read by every thread.
//!
//! ```text
//! World ── ZoneIndex ── ZoneWorld ──┬── ZoneTree            static data
//!                                   ├── Steering ── ClassMap    address → (class, scope)
//!                                   │           └── Plan        per class: what is handed out now
//!                                   └── model, view             for explaining, never for answering
//! ```

mod limits;
mod query_log;
mod zones;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::dns::cookie::Secrets;
use crate::geo::space;
use crate::policy::model::Prefix;
pub use limits::RateLimit;
pub use query_log::{LogFormat, QueryLog};
pub use zones::{DownZone, Served, SteeredName, Steering, Steerings, ZoneIndex, ZoneWorld};

/// Everything that answering may read.
#[derive(Debug, Default)]
pub struct World {
    /// Counts up with every publication, from 1.
    pub generation: u64,
    /// What holds for all zones.
    pub server: ServerOptions,
    /// The zones.
    pub zones: ZoneIndex,
}

/// Options that hold for all zones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerOptions {
    /// Sent to clients that ask for it (RFC 5001), and the text of `id.server` and `hostname.bind` in class CH (RFC 4892); at most 128 octets.
    pub nsid: Option<Box<[u8]>>,
    /// Text of `version.bind` and `version.server` in class CH; at most 255 octets.
    pub version: Option<Box<[u8]>>,
    /// What DNS cookies are made and checked with (RFC 7873); `None` when cookies are off.
    pub cookies: Option<Secrets>,
    /// Resolvers whose client-subnet option is used; `None` for all.
    pub ecs_trust: Option<Vec<Prefix>>,
    /// Sets of addresses leave in turn: each answer starts with another one.
    pub rotate: bool,
    /// Who may ask `_why.`; nobody when empty.
    pub diagnostics: Vec<Prefix>,
    /// Limits on clients over UDP; `None` when there are none. The same pointer as long as nothing changes.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// What is logged of queries; `None` for nothing.
    pub query_log: Option<Arc<QueryLog>>,
}

impl ServerOptions {
    /// True when the client-subnet option of this resolver is used.
    pub fn trusts_ecs_of(&self, source: IpAddr) -> bool {
        self.ecs_trust.as_ref().is_none_or(|trusted| contains(trusted, source))
    }

    /// True when this client may ask why it gets what it gets.
    pub fn may_ask_why(&self, source: IpAddr) -> bool {
        contains(&self.diagnostics, source)
    }
}

fn contains(prefixes: &[Prefix], addr: IpAddr) -> bool {
    prefixes.iter().any(|prefix| space::contains(*prefix, addr))
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
