//! Cache hints for bodies: they move lines early or out of the way, and change nothing else.
//!
//! Measured round trips, client fills, server changes every byte, client reads every byte (DESIGN table in
//! ARCHITECTURE.md): on Intel processors with CLDEMOTE, pushing a small body out of the writer's own cache, to where the
//! reader finds it sooner, saves a quarter; pulling a middle one in for writing, as a whole and at once, saves a seventh;
//! a large one is best left alone. On processors without CLDEMOTE neither paid (AMD Zen 4), so there they are not used.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::layout::LINE_SIZE;

/// Largest body that is pushed out after writing.
const PUSH_MAX: usize = 1024;
/// Bodies above [`PUSH_MAX`] and up to this size are pulled in on arrival.
const PULL_MAX: usize = 64 << 10;

/// The writer is done with a body: called before the turn is passed.
#[inline(always)]
pub fn written(body: &[u8]) {
    if body.len() <= PUSH_MAX && hints_pay() {
        push(body);
    }
}

/// A body arrived and is about to be read and written: called after the turn came.
#[inline(always)]
pub fn arrived(body: &[u8]) {
    if body.len() > PUSH_MAX && body.len() <= PULL_MAX && hints_pay() {
        pull(body);
    }
}

#[cfg(target_arch = "x86_64")]
fn hints_pay() -> bool {
    static HINTS_PAY: OnceLock<bool> = OnceLock::new();
    // CPUID leaf 7, ECX bit 25: CLDEMOTE (Intel SDM volume 2, CPUID).
    *HINTS_PAY.get_or_init(|| std::arch::x86_64::__cpuid_count(7, 0).ecx & 1 << 25 != 0)
}

#[cfg(not(target_arch = "x86_64"))]
fn hints_pay() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn push(body: &[u8]) {
    for line in body.chunks(LINE_SIZE) {
        // SAFETY: CLDEMOTE neither faults nor changes memory; where a processor lacks it, it is a NOP.
        unsafe {
            std::arch::asm!("cldemote [{line}]", line = in(reg) line.as_ptr(), options(nostack, preserves_flags, readonly))
        };
    }
}

#[cfg(target_arch = "x86_64")]
fn pull(body: &[u8]) {
    for line in body.chunks(LINE_SIZE) {
        // SAFETY: a prefetch never faults and changes nothing.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(line.as_ptr().cast()) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn push(_body: &[u8]) {}

#[cfg(not(target_arch = "x86_64"))]
fn pull(_body: &[u8]) {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn hints_change_nothing() {
        let bytes: Vec<u8> = (0..100_000).map(|byte| byte as u8).collect();
        for len in [0, 1, 63, 64, 65, 1024, 4096, 65_536, 100_000] {
            push(&bytes[..len]);
            pull(&bytes[..len]);
            written(&bytes[..len]);
            arrived(&bytes[..len]);
        }
        assert!(bytes.iter().enumerate().all(|(index, &byte)| byte == index as u8));
    }
}
