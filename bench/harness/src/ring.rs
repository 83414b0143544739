//! Many requests under way at once: the raw ring that shows what is possible.
//!
//! `raw64` is the ring: as many one-line slots as there may be requests under way (64 in P4, hence the name), used
//! in order, each passed with a plain release store and answered in order by a server that looks at one line at a
//! time. Nothing is ever searched for.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::{LINE, Memory, Region};
use crate::raw::LINE_CAPACITY;
use crate::transport::{Responder, Window};

const CLIENT: u64 = 0;
const SERVER: u64 = 1;

struct Line {
    turn: &'static AtomicU64,
    data: Region,
}

/// Either end of the raw ring.
pub struct Ring {
    lines: Vec<Line>,
    submitted: usize,
    completed: usize,
    len: usize,
}

impl Ring {
    /// A ring of `slots` lines for payloads of `len` bytes.
    pub fn new(memory: &Memory, slots: usize, len: usize) -> Ring {
        let line = |index| {
            let offset = index * LINE;
            Line { turn: memory.word(offset), data: memory.region(offset + LINE - LINE_CAPACITY, LINE_CAPACITY) }
        };
        Ring { lines: (0..slots).map(line).collect(), submitted: 0, completed: 0, len }
    }

    /// The bytes of shared memory that a ring needs.
    pub fn memory_needed(slots: usize) -> usize {
        slots * LINE
    }

    #[inline(always)]
    fn after(&self, index: usize) -> usize {
        if index + 1 == self.lines.len() { 0 } else { index + 1 }
    }
}

impl Window for Ring {
    #[inline(always)]
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        let line = &self.lines[self.submitted];
        // SAFETY: the slot was never sent, or its reply has been taken: the turn is the client's.
        fill(unsafe { line.data.bytes(len) });
        line.turn.store(SERVER, Ordering::Release); // partner: the load in `serve`
        self.submitted = self.after(self.submitted);
        Ok(())
    }

    #[inline(always)]
    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        let line = &self.lines[self.completed];
        while line.turn.load(Ordering::Acquire) != CLIENT {
            std::hint::spin_loop();
        }
        // SAFETY: the turn is the client's again.
        read(unsafe { line.data.bytes(self.len) });
        self.completed = self.after(self.completed);
        Ok(())
    }
}

impl Responder for Ring {
    fn serve<H>(self, mut handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        loop {
            for line in &self.lines {
                while line.turn.load(Ordering::Acquire) != SERVER {
                    std::hint::spin_loop();
                }
                // SAFETY: it is the server's turn.
                handler(unsafe { line.data.bytes(self.len) });
                line.turn.store(CLIENT, Ordering::Release); // partner: the load in `complete`
            }
        }
    }
}
