//! L0: names, codes, requests, responses, EDNS. Bytes and RFCs; knows nothing of zones or steering.

pub mod code;
pub mod cookie;
pub mod edns;
pub mod name;
mod reply;
pub mod request;
pub mod writer;

pub use code::{Class, Opcode, Rcode, RecordType};
pub use edns::{ClientSubnet, Cookie, Edns, Keepalive, ServerPart};
pub use name::{Name, NameError};
pub use reply::least_ttl;
pub use request::{Fault, Parsed, QueryName, Question, Request, Tsig};
pub use writer::{Full, Section, Writer};
