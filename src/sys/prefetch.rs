//! Fetching ahead.

/// Asks for the cache line that `item` begins in, for reading soon. A hint: it changes how long things take, never what they come to.
#[inline(always)]
pub fn prefetch<T>(item: &T) {
    let place: *const T = item;
    // SAFETY: SSE is part of x86-64. The instruction reads nothing into the program and never faults; the address is that of a living item all the
    // same.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    // SAFETY: as above; it changes no register, flag or memory.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) place, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}
