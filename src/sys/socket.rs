//! Socket options that no crate wraps, waiting for several sockets, and the limit on open files.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

/// What the system makes of a receive buffer that is asked for.
const BOOKKEEPING: usize = if cfg!(target_os = "linux") { 2 } else { 1 };

/// Sets an option whose value is an `int`.
pub(super) fn set(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed; the value is an `int` that lives through the call, with its true size.
    let failed = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How full a socket's receive buffer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffered {
    /// Octets of kernel memory that received data takes. Up to a quarter of `room` may have been read already: the kernel gives it back in portions.
    pub queued: u32,
    /// The most that it may take.
    pub room: u32,
    /// Datagrams dropped since the socket was made, for lack of room or by its filter; modulo 2³².
    pub dropped: u32,
}

/// The size of the receive buffer in the unit that it is asked in: Linux doubles what it is asked for, for its own bookkeeping.
pub fn receive_buffer(socket: &impl AsFd) -> io::Result<usize> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed; value and length are ours, writable, and `len` is the true size of `value`.
    let failed = unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw mut value).cast(), &raw mut len) };
    if failed == 0 { Ok(usize::try_from(value).unwrap_or(0) / BOOKKEEPING) } else { Err(io::Error::last_os_error()) }
}

/// How many files this process may have open.
pub fn open_file_limit() -> Option<u64> {
    file_limits().map(|limit| limit.rlim_cur)
}

/// Has this process open as many files as it may allow itself, and says how many that are. The usual limit is one for programs that wait with `select`.
pub fn raise_open_file_limit() -> Option<u64> {
    let mut limit = file_limits()?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads one structure of ours that lives until the call returns.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    // Where that is not possible the one before stays.
    open_file_limit()
}

fn file_limits() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid `rlimit` for the call to fill.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (failed == 0).then_some(limit)
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
