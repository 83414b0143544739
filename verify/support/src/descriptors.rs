//! File descriptors that travel: how many this process has, which ones can be told apart, and how a peer that is bound
//! by nothing sends some.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::wire::hello;
use crate::{Raw, wire};

/// A test that counts the descriptors of its process runs by itself.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many this process has.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// This process comes to have no more than it had: what is closed by background job is closed soon.
#[track_caller]
pub fn nothing_is_left(before: usize) {
    let begin = Instant::now();
    while descriptors() > before {
        if begin.elapsed() > Duration::from_secs(10) {
            let left = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let left: Vec<_> = left.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
            panic!("{} descriptors where {before} were: {left:?}", descriptors());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A file in memory that says which one it is.
pub fn numbered(number: u8) -> File {
    let mut file = File::from(memfd_create("numbered", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(&[number]).unwrap();
    file
}

/// How many descriptors of this process lead to such files.
pub fn files_here() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let paths = all.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    paths.filter(|path| path.to_string_lossy().contains("numbered")).count()
}

/// Which of these files it is.
pub fn number_of(descriptor: impl AsFd) -> u8 {
    let mut byte = [0];
    assert_eq!(rustix::io::pread(descriptor, &mut byte, 0), Ok(1));
    byte[0]
}

/// Opens files until this process may have no more.
pub fn fill_table() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// A greeting that offers descriptors.
pub fn asking() -> Vec<u8> {
    let mut greeting = hello();
    greeting[38] = 1;
    greeting
}

/// The message that comes with some.
pub fn message(count: u8, slot: u16, sequence: u64) -> Vec<u8> {
    [&[7, count][..], &slot.to_le_bytes(), &sequence.to_le_bytes()].concat()
}

/// Sends bytes with so many descriptors.
pub fn send(raw: &Raw, bytes: &[u8], count: usize) {
    let file = numbered(0);
    let all: Vec<BorrowedFd<'_>> = (0..count).map(|_| file.as_fd()).collect();
    wire::send(&raw.socket, bytes, &all).unwrap();
}
