//! L1: where clients are. Databases become one sorted table of ranges and facts; a policy's view of it becomes a class map.
//! Pure: bytes in, tables out.

pub mod places;

pub use places::{continent_of, is_continent, is_country, is_subdivision};
