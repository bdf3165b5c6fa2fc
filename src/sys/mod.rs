//! Every `unsafe` of the program: batched datagram calls, socket filters, the few socket options that no crate wraps, the limit on open files, and
//! advice on memory.
//!
//! Each block carries its proof. Nothing here knows DNS; it moves octets between the kernel and buffers that are made once.
#![allow(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "meridian runs on Linux only: it receives and sends datagrams in batches (recvmmsg, sendmmsg) and needs SO_REUSEPORT with load balancing"
);

mod batch;
#[cfg(test)]
pub(crate) mod counting;
mod filter;
mod memory;
mod prefetch;
mod slab;
mod socket;

pub use batch::{Batch, Message, Sent, Wait};
pub use filter::{Buffered, Instruction, attach_filter, attach_steering, buffered, detach_filter, detach_steering};
pub use memory::{prefer_large_pages, return_free_memory, return_large_blocks};
pub use prefetch::prefetch;
pub use socket::{
    ReadySet, ignore_path_mtu, lower_priority, open_file_limit, receive_buffer, receive_destination, set_receive_buffer, take_short_turns,
};
