//! Socket options and priorities that every Unix has.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::sys::socket::{receive_buffer, set};

/// The kernel is not known to spread clients over sockets that share a port (some give all to the last one, some do not let them share); threads use
/// one socket together.
pub const SPREADS: bool = false;

/// The system's setting that limits receive buffers.
pub const BUFFER_LIMIT: &str = if cfg!(target_os = "linux") { "net.core.rmem_max" } else { "kern.ipc.maxsockbuf or its like" };

/// Nothing to do: these systems send UDP without the don't-fragment bit, and no reply exceeds the 1,280 octets that every IPv6 path takes whole.
pub fn ignore_path_mtu(_: &impl AsFd, _: bool) -> io::Result<()> {
    Ok(())
}

/// Asks for a receive buffer of `octets`, and for half as long as the system refuses; returns what the kernel gave.
pub fn set_receive_buffer(socket: &impl AsFd, octets: usize) -> io::Result<usize> {
    let given = receive_buffer(socket)?;
    let mut wanted = octets;
    while wanted > given {
        let value = libc::c_int::try_from(wanted).unwrap_or(libc::c_int::MAX);
        if set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, value).is_ok() {
            break;
        }
        wanted /= 2;
    }
    receive_buffer(socket)
}

/// `Unsupported`: elsewhere the system decides.
pub fn take_short_turns(_: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `Unsupported`: elsewhere priorities belong to processes.
pub fn lower_priority(_: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
