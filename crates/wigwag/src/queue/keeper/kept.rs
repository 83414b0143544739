//! A session as its keeper has it: memory that others write to, read by `pread` alone.
//!
//! Nothing is mapped, so nothing can fault. What is read decides only what is handed on and how it is marked: it is
//! checked as a receiver checks it, and what does not parse is nobody's message.

use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::contract::Contract;
use crate::faults::{self, Fault};
use crate::memory::head::{Head, Kind};
use crate::memory::layout::{CLIENT_LINE_OFFSET, Geometry, INLINE_OFFSET, LINE_SIZE, LINES_OFFSET};
use crate::memory::segment::{ClientLine, Moving};
use crate::memory::slot::{self, Turn};
use crate::queue::keeper::ledger::Charge;
use crate::sys::memory;

/// The memory of one session, and what is needed to hand on what lies there.
#[derive(Debug)]
pub struct KeptMemory {
    /// The queue's socket.
    pub queue: PathBuf,
    /// What its messages are.
    pub contract: Contract,
    /// Size and shape of the memory.
    pub geometry: Geometry,
    /// The sender's process, for people.
    pub sender: i32,
    /// The memory object.
    pub memory: OwnedFd,
    /// What it costs, until nobody has it any more.
    pub _charge: Charge,
}

/// A message that was passed and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacknowledged {
    /// Where it lies.
    slot: usize,
    /// Whether in the slot's body.
    in_body: bool,
    /// Its length in bytes.
    pub len: usize,
    /// Whether a receiver may have had it.
    pub is_redelivered: bool,
    /// When it was committed, as its sender said; 0: not known.
    pub committed_ns: u64,
}

/// What lies in a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// What was not acknowledged, oldest first.
    pub messages: Vec<Unacknowledged>,
    /// Slots that were passed, and what lies there is no message.
    pub unreadable: usize,
}

/// What a session leaves when nobody takes messages from it, and nobody passes them on, any more.
#[derive(Clone, Debug)]
pub struct Estate {
    /// Where it lies.
    pub kept: Arc<KeptMemory>,
    /// Whether every message may have been passed to another receiver before.
    pub is_doubtful: bool,
}

impl KeptMemory {
    /// What the sender has said it does with its messages. What cannot be read says that something was begun.
    pub fn moving(&self) -> Moving {
        let mut word = [0; 4];
        let offset = CLIENT_LINE_OFFSET + offset_of!(ClientLine, moving);
        match memory::read_exact(&self.memory, offset as u64, &mut word) {
            true if faults::is(Fault::UnreadMove) => Moving::NotBegun,
            true => Moving::of(u32::from_ne_bytes(word)),
            false => Moving::Begun,
        }
    }

    /// What lies there. `is_doubtful`: any receiver may have had any of it.
    pub fn contents(&self, is_doubtful: bool) -> Contents {
        let slots = self.geometry.slots;
        let mut lines = vec![0; slots * LINE_SIZE];
        let mut times = vec![0; slots * 8];
        let is_read = memory::read_exact(&self.memory, LINES_OFFSET as u64, &mut lines)
            && memory::read_exact(&self.memory, self.geometry.deadlines_offset as u64, &mut times);
        if !is_read {
            return Contents { messages: Vec::new(), unreadable: slots };
        }
        let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        let mut contents = Contents::default();
        let mut found: Vec<(u64, Unacknowledged)> = Vec::new();
        for slot in 0..slots {
            let turn = Turn::of(word(&lines, slot * LINE_SIZE));
            if !turn.is_server() {
                continue;
            }
            match Head::parse(word(&lines, slot * LINE_SIZE + 8)).map(|head| (head, self.marked(head))) {
                // Its receiver was done with it, and was cut off before it gave it back.
                Some((Head { kind: Kind::Acknowledged, .. }, _)) => {}
                Some((Head { len, in_body, .. }, Some(is_marked))) => {
                    let is_redelivered = (is_doubtful || is_marked) && !faults::is(Fault::UnmarkedKept);
                    let committed_ns = word(&times, slot * 8);
                    let len = len as usize;
                    found.push((turn.sequence(), Unacknowledged { slot, in_body, len, is_redelivered, committed_ns }));
                }
                _ => contents.unreadable += 1,
            }
        }
        contents.messages = in_order(found);
        contents
    }

    /// Whether a message's head says that a receiver may have had it; `None`: it is no message's.
    fn marked(&self, head: Head) -> Option<bool> {
        let is_plain = !head.has_deadline && head.descriptors == 0 && head.fits(self.geometry.capacity);
        match head.kind {
            Kind::Message => Some(false),
            Kind::Delivered if faults::is(Fault::LostKept) => None,
            Kind::Redelivered | Kind::Delivered => Some(true),
            _ => None,
        }
        .filter(|_| is_plain)
    }

    /// Reads a message's bytes. Whether they are there.
    pub fn read(&self, message: &Unacknowledged, into: &mut Vec<u8>) -> bool {
        into.clear();
        into.resize(message.len, 0);
        let offset = match message.in_body {
            true => self.geometry.bodies_offset + message.slot * self.geometry.body_stride,
            false => LINES_OFFSET + message.slot * LINE_SIZE + INLINE_OFFSET,
        };
        memory::read_exact(&self.memory, offset as u64, into)
    }
}

/// The messages of a ring that is used slot by slot: by sequence, and by slot within a round. Sequences may wrap; those
/// that are under way are of two rounds at most.
fn in_order(mut found: Vec<(u64, Unacknowledged)>) -> Vec<Unacknowledged> {
    let Some(first) = found.first().map(|(sequence, _)| *sequence) else { return Vec::new() };
    // Distances from any of them are small, and those below it are the largest numbers that there are.
    let half = slot::of_private(u64::MAX) / 2;
    let rank = |sequence: u64| slot::of_private(sequence.wrapping_sub(first).wrapping_add(half));
    found.sort_by_key(|(sequence, message)| (rank(*sequence), message.slot));
    found.into_iter().map(|(_, message)| message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(slot: usize) -> Unacknowledged {
        Unacknowledged { slot, in_body: false, len: 0, is_redelivered: false, committed_ns: 0 }
    }

    fn order_of(sequences: &[u64]) -> Vec<usize> {
        let found = sequences.iter().enumerate().map(|(slot, sequence)| (*sequence, at(slot))).collect();
        in_order(found).into_iter().map(|message| message.slot).collect()
    }

    #[test]
    fn messages_are_in_the_order_of_the_ring() {
        assert!(order_of(&[]).is_empty());
        assert_eq!(order_of(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(order_of(&[8, 8, 7, 7]), [2, 3, 0, 1], "the ring has begun anew at slot 0");
        let last = slot::of_private(u64::MAX);
        assert_eq!(order_of(&[0, 0, last, last]), [2, 3, 0, 1], "the sequence wraps");
        assert_eq!(order_of(&[last, last - 1]), [1, 0]);
    }
}
