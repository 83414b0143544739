//! One session of malice.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use wigwag_testing::wire;
use wigwag_testing::{HAS_DEADLINE, IN_BODY, REQUEST, Raw, SERVER, WAKE};

use crate::hostile::dice::{Dice, odd_number};

/// Attacks once, in one of several ways. What it could do and must not have been able to is returned.
pub fn one_session(path: &Path, dice: &mut Dice<'_>) -> Vec<&'static str> {
    if dice.one_in(16) {
        knock(path, dice);
        return Vec::new();
    }
    // Refused, or ended during the handshake: it comes again.
    let Ok(raw) = catch_unwind(AssertUnwindSafe(|| Raw::connect(path))) else { return Vec::new() };
    match dice.below(8) {
        0..=2 => scribble(&raw, dice),
        3..=5 => change_what_was_passed(&raw, dice),
        6 => return cut(&raw),
        _ => {
            (0..dice.below(2000)).for_each(|_| raw.ring());
            let junk: Vec<u8> = (0..dice.below(5000)).map(|_| dice.word() as u8).collect();
            let descriptors = [raw.socket.as_fd(), raw.memory.as_fd()];
            (0..3).for_each(|_| wire::send(&raw.socket, &junk, &descriptors).unwrap_or(()));
        }
    }
    Vec::new()
}

/// A session that obeys all rules, for comparison.
pub struct Guest {
    raw: Raw,
    sequence: u64,
    own: Vec<u64>,
}

impl Guest {
    /// Connects.
    pub fn new(path: &Path) -> Guest {
        Guest { raw: Raw::connect(path), sequence: 0, own: vec![0; 2048] }
    }

    /// One call; while it waits it writes as an attacker would, but to memory of its own.
    pub fn call(&mut self, dice: &mut Dice<'_>) {
        let raw = &self.raw;
        let len = a_length(raw, dice);
        self.sequence += 1;
        raw.pass(0, self.sequence << 8 | SERVER, REQUEST | if len > 48 { IN_BODY } else { 0 } | len);
        for round in 0u64.. {
            self.own.iter_mut().take(len as usize / 8).for_each(|word| *word = dice.word());
            std::hint::black_box(&mut self.own);
            if raw.turn(0).load(Ordering::Acquire) & SERVER == 0 || round % 64 == 63 && is_over(raw) {
                return;
            }
        }
    }
}

fn a_length(raw: &Raw, dice: &mut Dice<'_>) -> u64 {
    dice.of(&[8, 48, 49, 1000, raw.capacity])
}

fn is_over(raw: &Raw) -> bool {
    let mut socket = [PollFd::new(&raw.socket, PollFlags::RDHUP)];
    poll(&mut socket, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
}

/// Writes over everything, again and again, until it is thrown out.
fn scribble(raw: &Raw, dice: &mut Dice<'_>) {
    for _ in 0..50 {
        for offset in (0..raw.size).step_by(8) {
            raw.word(offset).store(dice.word(), Ordering::Relaxed);
        }
        raw.ring();
        if is_over(raw) {
            return;
        }
    }
}

/// Passes requests by the rules, and writes over their payload and their words while the server has them.
fn change_what_was_passed(raw: &Raw, dice: &mut Dice<'_>) {
    let len = a_length(raw, dice);
    let flag = if len > 48 { IN_BODY } else { 0 };
    let start = raw.payload(0, len > 48);
    let changes_head = dice.one_in(8);
    for sequence in 1..50u64 {
        let flags = dice.of(&[0, HAS_DEADLINE]);
        let wake = dice.of(&[0, WAKE]);
        raw.pass(0, sequence << 8 | SERVER | wake, REQUEST | flag | flags | len);
        for round in 0.. {
            for offset in (start..start + len as usize / 8 * 8).step_by(8) {
                raw.word(offset).store(dice.word(), Ordering::Relaxed);
            }
            if changes_head {
                raw.head(0).store(REQUEST | IN_BODY | odd_number(dice, raw.capacity) & 0xffff_ffff, Ordering::Relaxed);
            }
            if raw.turn(0).load(Ordering::Acquire) & SERVER == 0 {
                break;
            }
            if round % 64 == 63 && is_over(raw) {
                return;
            }
        }
    }
}

/// Tries to take the memory away from under the server. What succeeds is returned.
fn cut(raw: &Raw) -> Vec<&'static str> {
    raw.pass(0, 1 << 8 | SERVER, REQUEST | 8);
    for round in 0u64.. {
        // An answer says that the server is done with the handshake.
        if raw.turn(0).load(Ordering::Acquire) & SERVER == 0 {
            break;
        }
        if round % 1024 == 0 && is_over(raw) {
            return Vec::new();
        }
        std::thread::yield_now();
    }
    let memory = &raw.memory;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let mut holes = Vec::new();
    let mut tried = |what, succeeded: bool| holes.extend(succeeded.then_some(what));
    tried("cut the memory short", ftruncate(memory, 4096).is_ok());
    tried("make the memory longer", ftruncate(memory, 1 << 30).is_ok());
    tried("write to the memory's descriptor", rustix::io::pwrite(memory, &[1], 9000).is_ok());
    let writable = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let again = unsafe { mmap(std::ptr::null_mut(), raw.size, writable, MapFlags::SHARED, memory, 0) };
    tried("map the memory once more", again.is_ok());
    // The last one, because a hole hurts the session itself.
    tried("punch a hole into the memory", fallocate(memory, punch, 8192, 4096).is_ok());
    holes
}

/// Connects and says what no client says.
fn knock(path: &Path, dice: &mut Dice<'_>) {
    let Ok(socket) = catch_unwind(AssertUnwindSafe(|| wire::connect_to(path))) else { return };
    for _ in 0..dice.below(4) {
        let mut bytes = wire::hello();
        let at = dice.below(bytes.len());
        bytes[at] = dice.word() as u8;
        bytes.truncate(1 + dice.below(bytes.len()));
        let _ = wire::send(&socket, &bytes, &[]);
    }
}
