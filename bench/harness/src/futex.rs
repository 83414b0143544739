//! The bare futex ping-pong with a timeout: what sleeping and waking costs when nothing else is done.
//!
//! One word names whose turn it is; a side that has to wait sleeps on it at once, and each pass wakes the other side:
//! two system calls per side and exchange. The timeout is there because a real program must not sleep for ever on a
//! word that a dead process will never write; it never runs out here.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::Timespec;

use crate::memory::{Memory, Region};
use crate::raw::LINE_CAPACITY;
use crate::transport::{Caller, Responder};

const CLIENT: u32 = 0;
const SERVER: u32 = 1;
const TIMEOUT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const LINE_DATA: usize = 16;
const BODY: usize = 4096;

/// Either end.
pub struct PingPong {
    turn: &'static AtomicU32,
    data: Region,
    len: usize,
}

impl PingPong {
    /// The turn in the data's own line where it fits, on its own page otherwise.
    pub fn new(memory: &Memory, len: usize) -> PingPong {
        let data = if len <= LINE_CAPACITY { LINE_DATA } else { BODY };
        PingPong { turn: memory.word32(0), data: memory.region(data, len), len }
    }

    /// The bytes of shared memory that it needs.
    pub fn memory_needed(len: usize) -> usize {
        BODY + len.next_multiple_of(4096)
    }

    fn pass_to(&self, whose: u32) -> anyhow::Result<()> {
        self.turn.store(whose, Ordering::Release); // partner: the load in `await_own`
        futex::wake(self.turn, futex::Flags::empty(), 1)?;
        Ok(())
    }

    fn await_own(&self, whose: u32) -> anyhow::Result<()> {
        loop {
            let seen = self.turn.load(Ordering::Acquire);
            if seen == whose {
                return Ok(());
            }
            match futex::wait(self.turn, futex::Flags::empty(), seen, Some(&TIMEOUT)) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Caller for PingPong {
    #[inline(always)]
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        // SAFETY: the turn starts with the client and is back when the last exchange has returned.
        fill(unsafe { self.data.bytes(len) });
        self.pass_to(SERVER)?;
        self.await_own(CLIENT)?;
        // SAFETY: the turn is the client's again.
        read(unsafe { self.data.bytes(len) });
        Ok(())
    }
}

impl Responder for PingPong {
    fn serve<H>(self, mut handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        loop {
            self.await_own(SERVER)?;
            // SAFETY: it is the server's turn.
            handler(unsafe { self.data.bytes(self.len) });
            self.pass_to(CLIENT)?;
        }
    }
}
