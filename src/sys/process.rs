//! Processes that checks have started: their limits and their end. And of this one, that a limit on files is an error and not its end.

/// From here on a file that may not grow any more (`ulimit -f`) is an error of whoever writes to it; it would end the process. By a handler that does
/// nothing: unlike a signal that is ignored, it is not handed down to the programs that are started.
pub fn outlive_file_size_limit() {
    extern "C" fn nothing(_: libc::c_int) {}
    let nothing: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: all zeros is a valid structure of this kind, with an empty set of signals; the handler touches nothing, so it may run at any moment.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGXFSZ, &raw const action, std::ptr::null_mut());
    }
}

/// Kills every process of a group, whose number is that of the process that it began with. One that is gone already is no error.
pub fn kill_group(group: u32) {
    // 0 and 1 would be our own group, and everybody.
    let Some(group) = i32::try_from(group).ok().filter(|group| *group > 1) else { return };
    // SAFETY: takes two numbers and touches no memory of ours.
    unsafe {
        libc::kill(-group, libc::SIGKILL);
    }
}

/// What one process may take. None of it is a wall: it keeps what has gone wrong from taking the machine along.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Seconds of CPU time; one more and it is killed for good.
    pub cpu_s: u64,
    /// Octets of memory of its own: heap and private mappings that can be written to.
    pub memory: u64,
    /// Octets of a file that it writes.
    pub file: u64,
    /// Files that it has open.
    pub files: u64,
}

/// Sets the limits of a process that was just started, and of all that it will start. Linux alone knows how to do it from outside; to do it inside,
/// between fork and exec, would cost a copy of our page tables, and a fault for every page that a DNS thread writes to afterwards. One that has ended
/// already is no error, and other systems set nothing.
#[cfg(target_os = "linux")]
pub fn limit(process: u32, limits: Limits) {
    let Some(process) = i32::try_from(process).ok().filter(|process| *process > 1) else { return };
    for (what, soft, hard) in [
        (libc::RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1),
        (libc::RLIMIT_DATA, limits.memory, limits.memory),
        (libc::RLIMIT_FSIZE, limits.file, limits.file),
        (libc::RLIMIT_NOFILE, limits.files, limits.files),
        (libc::RLIMIT_CORE, 0, 0),
    ] {
        let limit = libc::rlimit { rlim_cur: soft as libc::rlim_t, rlim_max: hard as libc::rlim_t };
        // SAFETY: reads one structure of ours that lives until the call returns, and writes nothing back.
        unsafe {
            libc::prlimit(process, what, &raw const limit, std::ptr::null_mut());
        }
    }
}

/// The same where that cannot be done from outside: nothing.
#[cfg(not(target_os = "linux"))]
pub fn limit(_: u32, _: Limits) {}
