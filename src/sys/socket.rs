//! Socket options that no crate wraps, waiting for several sockets, and the limit on open files.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

/// Sets an option whose value is an `int`.
pub(super) fn set(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed; the value is an `int` that lives through the call, with its true size.
    let failed = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the kernel tell with each datagram which address it was sent to: needed on sockets bound to the wildcard address.
pub fn receive_destination(socket: &impl AsFd, v6: bool) -> io::Result<()> {
    match v6 {
        false => set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        true => set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

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

/// The size of the receive buffer in the unit that it is asked in: the kernel doubles what it is asked for, for its own bookkeeping.
pub fn receive_buffer(socket: &impl AsFd) -> io::Result<usize> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed; value and length are ours, writable, and `len` is the true size of `value`.
    let failed = unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw mut value).cast(), &raw mut len) };
    if failed == 0 { Ok(usize::try_from(value).unwrap_or(0) / 2) } else { Err(io::Error::last_os_error()) }
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

/// How many files this process may have open.
pub fn open_file_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid `rlimit` for the call to fill.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (failed == 0).then_some(limit.rlim_cur)
}

/// Several sockets to wait for at once.
pub struct ReadySet(Vec<libc::pollfd>);

impl std::fmt::Debug for ReadySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|entry| entry.fd)).finish()
    }
}

impl ReadySet {
    /// Over `sockets`, in their order. A socket that is closed meanwhile is never ready again.
    pub fn new<'a, S: AsFd + 'a>(sockets: impl IntoIterator<Item = &'a S>) -> ReadySet {
        let entry = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        ReadySet(sockets.into_iter().map(|socket| entry(socket.as_fd().as_raw_fd())).collect())
    }

    /// Waits until a socket has something to read, or `timeout` is over; returns how many have. An interruption counts as none.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        let millis = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the entries are one valid array of that length, exclusively ours; `poll` reports descriptors that are not open, it does not fault.
        let ready = unsafe { libc::poll(self.0.as_mut_ptr(), self.0.len() as libc::nfds_t, millis) };
        match usize::try_from(ready) {
            Ok(ready) => Ok(ready),
            Err(_) => {
                self.0.iter_mut().for_each(|entry| entry.revents = 0);
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
            }
        }
    }

    /// Whether socket `at` had something (data or an error to collect) after the last wait.
    pub fn is_ready(&self, at: usize) -> bool {
        self.0.get(at).is_some_and(|entry| entry.revents & (libc::POLLIN | libc::POLLERR) != 0)
    }
}
