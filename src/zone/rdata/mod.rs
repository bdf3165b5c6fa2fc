//! Record data: presentation form to wire form and back, checks, and where names lie.
//!
//! One table (`layout`) says what each type is made of; reading, writing, checking and finding names all walk it. Types that are not in it
//! are opaque octets in the form of RFC 3597 (`TYPE65280 \# 2 abcd`), which is understood for every type.
//!
//! ```text
//!            parse, parse_fields              to_text
//!   text ───────────────────────▶ wire ───────────────────▶ text
//!                                  │ validate: does it fit the type
//!                                  └ names: where names lie, and which may be compressed
//! ```

mod codes;
mod error;
mod layout;
mod location;
mod read;
mod svcb;
mod wire;
mod write;

pub use error::{Expected, RdataError};
pub(in crate::zone) use read::has_pairs;
pub use read::{character_strings, parse, parse_fields, parse_fields_into, text_rdata};
pub use svcb::{SvcFault, SvcKey, is_alias_with_params};
pub use wire::{NameSpan, Names, lower_names, names, validate};
pub use write::to_text;

pub use super::token::Field;

/// The most octets of record data: its length field has 16 bits (RFC 1035 §3.2.1).
pub const MAX_RDATA_LEN: usize = 65_535;
/// The most octets of a character-string: its length field has 8 bits (RFC 1035 §3.3).
pub const MAX_TEXT_LEN: usize = 255;

#[cfg(test)]
pub(in crate::zone) mod tests;
