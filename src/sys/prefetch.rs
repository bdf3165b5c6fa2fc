//! Asking for cache lines before they are needed.

/// Asks the processor for the cache line of `slice[at]`; nothing when there is no such element. A hint: it changes how long things take, never
/// what they come to.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], at: usize) {
    let Some(item) = slice.get(at) else { return };
    let place: *const T = item;
    // SAFETY: a prefetch reads nothing that the program could see and does not fault; the address is that of a live element all the same.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    // SAFETY: as above; the instruction changes no register, flag or memory.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) place, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}
