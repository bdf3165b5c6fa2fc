//! Linux: many datagrams per call, filters in the kernel.

mod batch;
mod filter;
mod options;
mod slab;

pub use batch::Batch;
pub use filter::{Instruction, attach_filter, attach_steering, buffered, detach_filter, detach_steering};
pub use options::{BUFFER_LIMIT, SPREADS, ignore_path_mtu, lower_priority, set_receive_buffer, take_short_turns};
