//! How memory is taken from the system and given back.

/// Large pages have this size on the machines that matter; smaller buffers gain nothing.
const LARGE_PAGE: usize = 2 << 20;
/// Blocks of this size and more come from the system and go back to it whole. The C library starts with half of it, but then learns from what is
/// freed, until the buffers of a load stay with it for ever.
#[cfg(target_env = "gnu")]
const OWN_BLOCK_LEN: libc::c_int = 256 << 10;

/// Asks the system for large pages under what `room` can hold: a table that is looked up at random then misses in the cache of page addresses once in
/// five hundred times as many lookups. Call before it is filled. Where it is not possible nothing changes.
pub fn prefer_large_pages<T>(room: &mut Vec<T>) {
    let len = room.capacity() * size_of::<T>();
    let start = room.as_mut_ptr() as usize;
    let from = start.next_multiple_of(LARGE_PAGE);
    let end = (start + len) / LARGE_PAGE * LARGE_PAGE;
    if end <= from {
        return;
    }
    #[cfg(target_os = "linux")]
    // SAFETY: the range lies within the one allocation of `room`, which is borrowed; this advice changes how it is backed, never what it holds.
    unsafe {
        libc::madvise(from as *mut libc::c_void, end - from, libc::MADV_HUGEPAGE)
    };
}

/// Makes large blocks go back to the system when they are freed. Call once, before other threads begin.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number inside the allocator; it takes no pointer.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_BLOCK_LEN)
    };
}

/// Gives back what the allocator holds without need: after a load that is a multiple of what stays. Takes milliseconds.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: gives free pages back; what is allocated stays where it is.
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_changes_no_content() {
        for len in [0, 1, LARGE_PAGE - 1, 3 * LARGE_PAGE + 5] {
            let mut room: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            prefer_large_pages(&mut room);
            return_free_memory();
            assert!(room.iter().enumerate().all(|(at, octet)| *octet == (at % 251) as u8));
        }
    }
}
