//! The only import path for atomics: real ones, or loom's when the models are built with `--cfg loom`.
//!
//! The state machines of [`crate::memory::slot`] and [`crate::memory::doorbell`] are handed references to these words,
//! so that the same code runs on a mapped segment, on the heap and under the model checker.
//!
//! Locks are the standard library's in either build, because no model has one.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// The fence between "I published" and "I look whether the other side published" (Dekker's pattern).
///
/// Every call site stands directly after a `swap`, `fetch_add` or `fetch_or` (SeqCst) of the published word. On x86-64
/// that is a locked instruction, which already drains the store buffer before any later load, so only the compiler has
/// to be held back; a second `mfence` would cost 10 ns for nothing. Elsewhere, and in the models, it is a real
/// `fence(SeqCst)`.
#[inline(always)]
pub fn fence_after_swap() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(all(not(target_arch = "x86_64"), not(loom)))]
    std::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// What stands before it is done before what stands behind it, as far as a killed process leaves either: a processor
/// interrupts between two instructions, of which all before are done, so only the compiler has to be held back.
#[inline(always)]
pub fn keep_order_until_killed() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// Locks a mutex of the library. Poison says nothing here: what the library's locks protect is whole at every moment,
/// so a panic under one of them is told by the panic alone.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a mutex protects, without a lock: nobody else has the mutex. As [`lock`] does, it takes no notice of poison.
#[inline(always)]
pub fn get_mut<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}
