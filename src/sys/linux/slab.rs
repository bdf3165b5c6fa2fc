//! A fixed array on the heap that is only reached through raw pointers.
//!
//! The kernel keeps pointers into message headers, names and buffers between two calls. A `Box<[T]>` asserts uniqueness whenever it moves,
//! which would end those pointers' right to the memory; this type never does.

use std::ptr::NonNull;

/// `len` values of `T`, at an address that never changes until the drop.
pub(super) struct Slab<T> {
    start: NonNull<T>,
    len: usize,
}

impl<T> Slab<T> {
    /// Takes the values; they stay where they are from here on.
    pub(super) fn new(values: Vec<T>) -> Slab<T> {
        let values: Box<[T]> = values.into_boxed_slice();
        let len = values.len();
        // SAFETY: `Box::into_raw` never returns null.
        let start = unsafe { NonNull::new_unchecked(Box::into_raw(values).cast::<T>()) };
        Slab { start, len }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where value `at` is. Panics when there is none: every caller bounds `at` by what the kernel was given.
    #[inline]
    pub(super) fn at(&self, at: usize) -> *mut T {
        assert!(at < self.len, "value {at} of {}", self.len);
        // SAFETY: `at` is below the length of the one allocation that `start` came from.
        unsafe { self.start.as_ptr().add(at) }
    }
}

impl<T> Drop for Slab<T> {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are what `Box::into_raw` gave in `new`, and nothing else frees them.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.len)) });
    }
}

// SAFETY: a slab owns its values as a `Box<[T]>` does; it may go where they may.
unsafe impl<T: Send> Send for Slab<T> {}
