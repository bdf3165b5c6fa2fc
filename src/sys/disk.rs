//! What is left of a disk.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Octets that this process may still write to the file system that `path` is on. `None` when the system does not say.
pub fn free_room(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut found = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: reads a text that ends with a zero octet, and writes one structure, which is ours.
    let is_found = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } == 0;
    // SAFETY: filled in by the call, which says so.
    let found = is_found.then(|| unsafe { found.assume_init() })?;
    // SAFETY: takes nothing and touches no memory.
    let is_root = unsafe { libc::geteuid() } == 0;
    // Some file systems in user space count nothing at all.
    let blocks = if is_root { found.f_bfree } else { found.f_bavail };
    (found.f_blocks > 0).then(|| (blocks as u64).saturating_mul(found.f_frsize as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_says_what_is_left_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(free_room(folder.path()).is_some_and(|free| free > 0));
        assert_eq!(free_room(&folder.path().join("none")), None);
        assert_eq!(free_room(Path::new("a\0b")), None);
    }
}
