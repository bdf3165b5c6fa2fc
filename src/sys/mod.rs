//! Every `unsafe` of the program: datagram calls, socket filters, the few socket options that no crate wraps, the limit on open files,
//! the room on a disk, advice on memory, limits on files, and the limits and the end of what checks have started.
//!
//! ```text
//! linux      batched calls (recvmmsg, sendmmsg), SO_REUSEPORT with load balancing, filters in the kernel
//! portable   one call per datagram, one socket for all threads, no filters: other Unixes, and Linux with --cfg meridian_portable
//! ```
//!
//! Both have the same items, so that nothing above knows which one it stands on; what a system cannot do is an error of the kind `Unsupported`.
//! Each block carries its proof. Nothing here knows DNS; it moves octets between the kernel and buffers that are made once.
#![allow(unsafe_code)]

#[cfg(not(unix))]
compile_error!("meridian runs on Unix systems only; Linux is the one that it is tested and fast on");

#[cfg(test)]
pub(crate) mod counting;
mod datagram;
mod disk;
#[cfg(test)]
pub(crate) mod instructions;
mod memory;
mod packet_info;
mod prefetch;
mod process;
mod socket;

#[cfg(all(target_os = "linux", not(meridian_portable)))]
mod linux;
#[cfg(all(target_os = "linux", not(meridian_portable)))]
use linux as system;

#[cfg(not(all(target_os = "linux", not(meridian_portable))))]
mod portable;
#[cfg(not(all(target_os = "linux", not(meridian_portable))))]
use portable as system;

pub use datagram::{Message, Sent, Wait};
pub use disk::free_room;
pub use memory::{prefer_large_pages, return_free_memory, return_large_blocks};
pub use packet_info::receive_destination;
pub use prefetch::prefetch;
pub use process::{Limits, kill_group, limit, outlive_file_size_limit};
pub use socket::{Buffered, ReadySet, open_file_limit, raise_open_file_limit, receive_buffer};
pub use system::{
    BUFFER_LIMIT, Batch, Instruction, SPREADS, attach_filter, attach_steering, buffered, detach_filter, detach_steering, ignore_path_mtu,
    lower_priority, set_receive_buffer, take_short_turns,
};
