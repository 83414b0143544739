//! Cache hints for bodies: they move lines early or out of the way, and change nothing else.
//!
//! Measured round trips, client fills, server changes every byte, client reads every byte (tables in
//! docs/benchmarks.md): on Intel processors with CLDEMOTE, pushing a small body out of the writer's own cache, to where
//! the reader finds it sooner, saves a quarter; pulling a middle one in for writing, as a whole and at once, saves a
//! seventh; a large one is best left alone. On processors without CLDEMOTE (AMD Zen 4) pulling alone saves a third to a
//! half, and up to another size.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::memory::layout::LINE_SIZE;

/// Largest body that is pushed out after writing.
const PUSH_MAX: usize = 1024;
/// Bodies above [`PUSH_MAX`] and up to this size are pulled in on arrival, where a processor can push.
const PULL_MAX: usize = 64 << 10;
/// Where the processor cannot push, bodies above this size are pulled in: below it the reader's loads come as soon.
const PULL_ALONE_MIN: usize = 256;
/// The largest body that is pulled in there: half of a first-level cache.
const PULL_ALONE_MAX: usize = 16 << 10;

/// The writer is done with a body: called before the turn is passed.
#[inline(always)]
pub fn written(body: &[u8]) {
    if body.len() <= PUSH_MAX && can_push() {
        push(body);
    }
}

/// A body arrived and is about to be read and written: called after the turn came.
#[inline(always)]
pub fn arrived(body: &[u8]) {
    if body.len() > PULL_ALONE_MIN && body.len() <= PULL_MAX {
        pull_if_it_pays(body);
    }
}

/// A slot's line has come and is about to be written to: asked for as this processor's own at once, before the request
/// is even checked. Else the line is asked for when the handler first writes, and until the turn is passed a client
/// that looks takes it back, which is a journey more: measured in a bare loop with as many instructions as the
/// library's, with handlers of 0 to 40 ns (the best of three samples of each), the mean round trip is 73 ns instead of
/// 94.
#[inline(always)]
pub fn about_to_write<T>(line: &T) {
    if can_pull() {
        pull_line((&raw const *line).cast());
    }
}

#[inline(never)] // few instructions beside the many loads that follow, and none in the path of small payloads
fn pull_if_it_pays(body: &[u8]) {
    let pays = if can_push() { body.len() > PUSH_MAX } else { body.len() <= PULL_ALONE_MAX };
    if pays && can_pull() {
        pull(body);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn can_push() -> bool {
    static CAN_PUSH: OnceLock<bool> = OnceLock::new();
    // CPUID leaf 7, ECX bit 25: CLDEMOTE (Intel SDM volume 2, CPUID).
    *CAN_PUSH.get_or_init(|| std::arch::x86_64::__cpuid_count(7, 0).ecx & 1 << 25 != 0)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn can_pull() -> bool {
    static CAN_PULL: OnceLock<bool> = OnceLock::new();
    // CPUID leaf 8000_0001, ECX bit 8: PREFETCHW (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E).
    *CAN_PULL.get_or_init(|| std::arch::x86_64::__cpuid(0x8000_0001).ecx & 1 << 8 != 0)
}

#[cfg(not(target_arch = "x86_64"))]
fn can_push() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn can_pull() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn push(body: &[u8]) {
    for line in body.chunks(LINE_SIZE) {
        // SAFETY: CLDEMOTE neither faults nor changes memory; where a processor lacks it, it is a NOP.
        unsafe {
            std::arch::asm!("cldemote \
                [{line}]", line = in(reg) line.as_ptr(), options(nostack, preserves_flags, readonly))
        };
    }
}

#[cfg(target_arch = "x86_64")]
fn pull(body: &[u8]) {
    body.chunks(LINE_SIZE).for_each(|line| pull_line(line.as_ptr()));
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pull_line(line: *const u8) {
    // PREFETCHW by its name: the intrinsic becomes PREFETCHT0 where plain x86-64 is compiled for.
    // SAFETY: a prefetch never faults and changes nothing; the caller has asked whether there is this one.
    unsafe { std::arch::asm!("prefetchw [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly)) };
}

#[cfg(not(target_arch = "x86_64"))]
fn push(_body: &[u8]) {}

#[cfg(not(target_arch = "x86_64"))]
fn pull(_body: &[u8]) {}

#[cfg(not(target_arch = "x86_64"))]
fn pull_line(_line: *const u8) {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn hints_change_nothing() {
        let bytes: Vec<u8> = (0..100_000).map(|byte| byte as u8).collect();
        for len in [0, 1, 63, 64, 65, 1024, 4096, 65_536, 100_000] {
            push(&bytes[..len]);
            if can_pull() {
                pull(&bytes[..len]);
            }
            written(&bytes[..len]);
            arrived(&bytes[..len]);
        }
        assert!(bytes.iter().enumerate().all(|(index, &byte)| byte == index as u8));
    }
}
