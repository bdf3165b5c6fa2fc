//! L1: where clients are. Databases become one sorted table of ranges and facts; a policy's view of it becomes a [`ClassMap`].
//! Pure: bytes in, tables out.

pub mod build;
pub mod classmap;
mod columns;
pub mod distance;
pub mod latency;
pub mod places;
mod record;
pub mod space;
pub mod table;
pub mod writer;

pub use classmap::{ClassMap, ClassMapBuilder, ClassMapError, Clip, Ground, Hit, MAX_CLASS};
pub use distance::{biased, distance_km, rtt_ms};
pub use latency::RttTable;
pub use places::{continent_of, is_continent, is_country, is_subdivision};
pub use table::{DatabaseInfo, Facts, Fields, Table, TableError};
