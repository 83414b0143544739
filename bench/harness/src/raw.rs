//! The raw contenders that busy-wait on one turn word: what the hardware allows, without a library around it.
//!
//! | contender | turn word | data |
//! |---|---|---|
//! | `limit` | first word of a line | in the same line, changed in place |
//! | `raw` | on a line of its own | elsewhere, changed in place |
//! | `two-buffers` | on a line of its own | request and reply buffer, both used in place |
//! | `copy` | on a line of its own | request and reply buffer, copied out of and into private memory |
//!
//! All pause in the polling loop: on processors whose two hardware threads share a core a loop without it takes
//! issue slots from the very thread that it waits for. A plain release store passes the turn. They know no death,
//! no deadline and no error, which is the point: nothing honest can be faster.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::{LINE, Memory, Region};
use crate::transport::{Caller, Responder};
use crate::work;

const CLIENT: u64 = 0;
const SERVER: u64 = 1;

/// Bytes beside the turn word in its line: where Wigwag keeps them, so that the two compare.
pub const LINE_CAPACITY: usize = 48;
const LINE_DATA: usize = LINE - LINE_CAPACITY;
/// The bodies start on pages, away from each other and from the turn, as Wigwag's do.
const REQUEST: usize = 4 * 4096;

/// Whose turn it is; partner of each `Acquire` load is the other side's `Release` store.
#[derive(Clone, Copy)]
struct Turn(&'static AtomicU64);

impl Turn {
    #[inline(always)]
    fn pass_to(self, whose: u64) {
        self.0.store(whose, Ordering::Release);
    }

    #[inline(always)]
    fn await_own(self, whose: u64) {
        while self.0.load(Ordering::Acquire) != whose {
            std::hint::spin_loop();
        }
    }
}

/// The bytes of shared memory that these contenders need for a payload of `len` bytes.
pub fn memory_needed(len: usize) -> usize {
    reply_offset(len) + len.next_multiple_of(4096)
}

fn reply_offset(len: usize) -> usize {
    REQUEST + len.next_multiple_of(4096) + 4096
}

/// One piece of data, changed where it lies (`limit` and `raw`). Both ends are the same struct.
pub struct InPlace {
    turn: Turn,
    data: Region,
    len: usize,
}

impl InPlace {
    /// Turn and data in one line.
    pub fn one_line(memory: &Memory, len: usize) -> InPlace {
        InPlace { turn: Turn(memory.word(0)), data: memory.region(LINE_DATA, LINE_CAPACITY), len }
    }

    /// The turn on a line of its own.
    pub fn apart(memory: &Memory, len: usize) -> InPlace {
        InPlace { turn: Turn(memory.word(0)), data: memory.region(REQUEST, len), len }
    }
}

impl Caller for InPlace {
    #[inline(always)]
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        // SAFETY: the turn starts with the client and is back when the last exchange has returned.
        fill(unsafe { self.data.bytes(len) });
        self.turn.pass_to(SERVER);
        self.turn.await_own(CLIENT);
        // SAFETY: the turn is the client's again.
        read(unsafe { self.data.bytes(len) });
        Ok(())
    }
}

impl Responder for InPlace {
    fn serve<H>(self, mut handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        loop {
            self.turn.await_own(SERVER);
            // SAFETY: it is the server's turn.
            handler(unsafe { self.data.bytes(self.len) });
            self.turn.pass_to(CLIENT);
        }
    }
}

/// A request buffer and a reply buffer, each used where it lies: the server changes on the way from one to the other.
pub struct TwoBuffers {
    turn: Turn,
    request: Region,
    reply: Region,
    len: usize,
}

impl TwoBuffers {
    /// Either end.
    pub fn new(memory: &Memory, len: usize) -> TwoBuffers {
        TwoBuffers {
            turn: Turn(memory.word(0)),
            request: memory.region(REQUEST, len),
            reply: memory.region(reply_offset(len), len),
            len,
        }
    }

    /// The server's end. It is no [`Responder`], because its one pass over two buffers is not a change in place.
    pub fn serve_changed(self) -> ! {
        loop {
            self.turn.await_own(SERVER);
            // SAFETY: it is the server's turn, and the two regions do not overlap.
            let (target, source) = unsafe { (self.reply.bytes(self.len), self.request.bytes(self.len)) };
            work::change_into(target, source);
            self.turn.pass_to(CLIENT);
        }
    }
}

impl Caller for TwoBuffers {
    #[inline(always)]
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        // SAFETY: the turn starts with the client and is back when the last exchange has returned.
        fill(unsafe { self.request.bytes(len) });
        self.turn.pass_to(SERVER);
        self.turn.await_own(CLIENT);
        // SAFETY: the turn is the client's again.
        read(unsafe { self.reply.bytes(len) });
        Ok(())
    }
}

/// Copy in and copy out: each process works in private memory, shared memory only carries.
pub struct Copying {
    buffers: TwoBuffers,
    private: Vec<u8>,
}

impl Copying {
    /// Either end.
    pub fn new(memory: &Memory, len: usize) -> Copying {
        Copying { buffers: TwoBuffers::new(memory, len), private: vec![0; len] }
    }
}

impl Caller for Copying {
    #[inline(always)]
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        let private = &mut self.private[..len];
        fill(private);
        // SAFETY: the turn starts with the client and is back when the last exchange has returned.
        unsafe { self.buffers.request.bytes(len) }.copy_from_slice(private);
        self.buffers.turn.pass_to(SERVER);
        self.buffers.turn.await_own(CLIENT);
        // SAFETY: the turn is the client's again.
        private.copy_from_slice(unsafe { self.buffers.reply.bytes(len) });
        read(private);
        Ok(())
    }
}

impl Responder for Copying {
    fn serve<H>(mut self, mut handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        let TwoBuffers { turn, request, reply, len } = self.buffers;
        loop {
            turn.await_own(SERVER);
            // SAFETY: it is the server's turn.
            self.private.copy_from_slice(unsafe { request.bytes(len) });
            handler(&mut self.private);
            // SAFETY: it still is.
            unsafe { reply.bytes(len) }.copy_from_slice(&self.private);
            turn.pass_to(CLIENT);
        }
    }
}
