//! The textbook: one `shm_open` object and two process-shared semaphores in it, one for each direction.
//!
//! Best fair configuration: semaphores and data on lines of their own, the data changed in place, `sem_trywait` with a
//! pause in between where both poll, `sem_wait` where they sleep. It knows no death, no second client, no length.

use std::ffi::CString;
use std::ptr::NonNull;

use anyhow::{Context as _, ensure};
use wigwag_bench::case::WaitMode;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Caller;
use wigwag_bench::work;

use crate::contender::{About, Contender, token};

/// Where the second semaphore and the data are.
const REPLY: usize = 128;
const DATA: usize = 4096;

/// The contender.
pub struct Textbook;

/// Either end.
pub struct Shared {
    base: NonNull<u8>,
    len: usize,
    polls: bool,
}

impl Contender for Textbook {
    type Client = Shared;
    const ABOUT: About = About::new(
        "textbook",
        "shm_open + sem_t",
        "one buffer changed in place, a process-shared semaphore for each direction; polled with sem_trywait",
    );

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let shared = Shared::map(orders, true)?;
        role::ready(orders)?;
        loop {
            shared.wait(0)?;
            work::change(shared.data());
            shared.post(REPLY)?;
        }
    }

    fn connect(orders: &Orders) -> anyhow::Result<Shared> {
        Shared::map(orders, false)
    }
}

impl Shared {
    fn map(orders: &Orders, create: bool) -> anyhow::Result<Shared> {
        let name = CString::new(format!("/{}-sem", token(&orders.directory)))?;
        let len = DATA + orders.case.size;
        let flags = libc::O_RDWR | libc::O_CLOEXEC | if create { libc::O_CREAT | libc::O_EXCL } else { 0 };
        // SAFETY: the name ends with a zero byte; the mapping is new and as long as the object was made.
        let base = unsafe {
            let descriptor = libc::shm_open(name.as_ptr(), flags, 0o600);
            ensure!(descriptor >= 0, "shm_open failed: {}", std::io::Error::last_os_error());
            ensure!(!create || libc::ftruncate(descriptor, len as i64) == 0, "the object cannot be sized");
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
            let base = libc::mmap(std::ptr::null_mut(), len, protection, flags, descriptor, 0);
            libc::close(descriptor);
            ensure!(base != libc::MAP_FAILED, "the object cannot be mapped");
            base
        };
        let base = NonNull::new(base.cast::<u8>()).context("mapped at zero")?;
        let shared = Shared { base, len: orders.case.size, polls: orders.case.wait == WaitMode::Spin };
        for offset in [0, REPLY] {
            // SAFETY: inside of the mapping, aligned, and nobody else has it yet: the server is not ready.
            ensure!(!create || unsafe { libc::sem_init(shared.semaphore(offset), 1, 0) } == 0, "sem_init failed");
        }
        Ok(shared)
    }

    fn semaphore(&self, offset: usize) -> *mut libc::sem_t {
        // SAFETY: both semaphores lie in the first page of the mapping, which stays until the process ends.
        unsafe { self.base.add(offset) }.as_ptr().cast()
    }

    #[inline(always)]
    fn data(&self) -> &'static mut [u8] {
        // SAFETY: inside of the mapping, which stays; used only by the side that a semaphore has given the turn to.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(DATA).as_ptr(), self.len) }
    }

    #[inline(always)]
    fn wait(&self, offset: usize) -> anyhow::Result<()> {
        let semaphore = self.semaphore(offset);
        if self.polls {
            // SAFETY: an initialised semaphore in shared memory.
            while unsafe { libc::sem_trywait(semaphore) } != 0 {
                std::hint::spin_loop();
            }
            return Ok(());
        }
        // SAFETY: an initialised semaphore in shared memory.
        while unsafe { libc::sem_wait(semaphore) } != 0 {
            let error = std::io::Error::last_os_error();
            ensure!(error.kind() == std::io::ErrorKind::Interrupted, "sem_wait failed: {error}");
        }
        Ok(())
    }

    #[inline(always)]
    fn post(&self, offset: usize) -> anyhow::Result<()> {
        // SAFETY: an initialised semaphore in shared memory.
        ensure!(unsafe { libc::sem_post(self.semaphore(offset)) } == 0, "sem_post failed");
        Ok(())
    }
}

impl Caller for Shared {
    #[inline(always)]
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        fill(&mut self.data()[..len]);
        self.post(0)?;
        self.wait(REPLY)?;
        read(&self.data()[..len]);
        Ok(())
    }
}
