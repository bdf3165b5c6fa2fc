//! Classic BPF programs on sockets: what the kernel drops before it reaches a receive buffer, and which socket of a group it chooses. No privilege needed.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd};

use crate::sys::socket::Buffered;

/// One instruction; see `linux/filter.h`.
pub use libc::sock_filter as Instruction;

/// Places in what `SO_MEMINFO` fills (`linux/sock_diag.h`): octets queued for reading, room for them, datagrams dropped.
const QUEUED: usize = 0;
const ROOM: usize = 1;
const DROPPED: usize = 8;
const MEMINFO_VARS: usize = 9;

/// Drops in the kernel what `program` returns 0 for; replaces an earlier program. It sees a datagram from its UDP header on.
pub fn attach_filter(socket: &impl AsFd, program: &[Instruction]) -> io::Result<()> {
    attach(socket, libc::SO_ATTACH_FILTER, program)
}

/// Lets everything through again.
pub fn detach_filter(socket: &impl AsFd) -> io::Result<()> {
    detach(socket, libc::SO_DETACH_FILTER)
}

/// Lets `program` choose among the sockets that share the address of `socket`: it returns their number, in the order in which they were bound.
pub fn attach_steering(socket: &impl AsFd, program: &[Instruction]) -> io::Result<()> {
    attach(socket, libc::SO_ATTACH_REUSEPORT_CBPF, program)
}

/// Lets the kernel choose by its own hash again.
pub fn detach_steering(socket: &impl AsFd) -> io::Result<()> {
    detach(socket, libc::SO_DETACH_REUSEPORT_BPF)
}

fn attach(socket: &impl AsFd, option: libc::c_int, program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let fd = socket.as_fd();
    // SAFETY: the descriptor is open for as long as it is borrowed; `program` and the `len` instructions that it points to live through the call, which
    // copies them and writes to neither.
    let failed =
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const program).cast(), size_of_val(&program) as libc::socklen_t) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn detach(socket: &impl AsFd, option: libc::c_int) -> io::Result<()> {
    match crate::sys::socket::set(socket.as_fd(), libc::SOL_SOCKET, option, 0) {
        // There was none.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// How full the receive buffer is.
pub fn buffered(socket: &impl AsFd) -> io::Result<Buffered> {
    let mut values = [0u32; 16];
    let mut len = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed; `values` and `len` are ours and writable, and `len` is the true size of `values`.
    let failed = unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, (&raw mut values).cast(), &raw mut len) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    if (len as usize) < MEMINFO_VARS * size_of::<u32>() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(Buffered { queued: values[QUEUED], room: values[ROOM], dropped: values[DROPPED] })
}
