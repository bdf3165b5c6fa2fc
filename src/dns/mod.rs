//! L0: names, codes, requests, responses, EDNS. Bytes and RFCs; knows nothing of zones or steering.

pub mod code;
pub mod name;

pub use code::{Class, Opcode, Rcode, RecordType};
pub use name::{Name, NameError};
