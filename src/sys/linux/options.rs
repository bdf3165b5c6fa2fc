//! Socket options and priorities of Linux.

use std::io;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::sys::socket::{receive_buffer, set};

/// The kernel spreads clients over the sockets that share a port.
pub const SPREADS: bool = true;

/// The system's setting that limits receive buffers.
pub const BUFFER_LIMIT: &str = "net.core.rmem_max";

/// Sends without the don't-fragment bit and without believing path MTUs learnt from ICMP: a forged "fragmentation needed" must not make us send
/// small fragments, in whose company forged ones could be slipped into a resolver's cache.
pub fn ignore_path_mtu(socket: &impl AsFd, v6: bool) -> io::Result<()> {
    match v6 {
        false => set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
        true => set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT),
    }
}

/// Asks for a receive buffer of `octets`, beyond the system's limit where we may, and returns what the kernel gave.
pub fn set_receive_buffer(socket: &impl AsFd, octets: usize) -> io::Result<usize> {
    let value = libc::c_int::try_from(octets).unwrap_or(libc::c_int::MAX);
    if set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value).is_err() {
        set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, value)?;
    }
    receive_buffer(socket)
}

/// Lets other threads of the machine go first: `by` steps (1 to 19) down from the usual priority, for the calling thread.
pub fn lower_priority(by: u8) -> io::Result<()> {
    // SAFETY: plain numbers go in and out. On Linux 0 means the calling thread; to go down needs no privilege.
    let failed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, libc::c_int::from(by.min(19))) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What `sched_setattr` takes (linux/sched/types.h, first version).
#[repr(C)]
struct Scheduling {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Asks for short turns on the processor for the calling thread: since Linux 6.12 a thread with shorter turns that wakes up goes before one that
/// runs, instead of waiting for the end of its turn (some milliseconds). Its share under contention stays the same. Older kernels ignore it.
pub fn take_short_turns(turn: Duration) -> io::Result<()> {
    // SAFETY: plain numbers go in and out; 0 means the calling thread.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = Scheduling {
        size: size_of::<Scheduling>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice,
        priority: 0,
        runtime_ns: turn.as_nanos() as u64,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: the kernel reads `size` octets of the structure, which lives through the call; 0 means the calling thread.
    let failed = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
