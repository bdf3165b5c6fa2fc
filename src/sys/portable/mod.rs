//! Any Unix: one datagram per call, no filters.

mod batch;
mod filter;
mod options;

pub use batch::Batch;
pub use filter::{Instruction, attach_filter, attach_steering, buffered, detach_filter, detach_steering};
pub use options::{BUFFER_LIMIT, SPREADS, ignore_path_mtu, lower_priority, set_receive_buffer, take_short_turns};
