//! The only import path for atomics: real ones, or loom's when the models are built with `--cfg loom`.
//!
//! The state machines of [`crate::slot`] and [`crate::doorbell`] are handed references to these words, so that the same
//! code runs on a mapped segment, on the heap and under the model checker.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The fence between "I published" and "I look whether the other side published" (Dekker's pattern).
///
/// Every call site stands directly after a `swap`, `fetch_add` or `fetch_or` (SeqCst) of the published word. On x86-64 that is a
/// locked instruction, which already drains the store buffer before any later load, so only the compiler has to be held back; a
/// second `mfence` would cost 10 ns for nothing. Elsewhere, and in the models, it is a real `fence(SeqCst)`.
#[inline(always)]
pub fn fence_after_swap() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(all(not(target_arch = "x86_64"), not(loom)))]
    std::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
