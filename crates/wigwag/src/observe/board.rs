//! The memory that all subscribers of a publisher read: how large it is, and which messages are in it.

use std::os::fd::OwnedFd;

use zerocopy::FromBytes;

use crate::memory::board::{
    BOARD_MAGIC, BOARD_VERSION, BoardGeometry, BoardHeader, ENTRIES_OFFSET, PUBLISHER_LINE_OFFSET,
};
use crate::memory::entry::Place;
use crate::memory::layout::LINE_SIZE;
use crate::observe::memories::words;
use crate::sys::memory;

/// A publisher's memory.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let publisher = wigwag::Publisher::builder().history(10).capacity(4096).bind(name)?;
/// let board = wigwag::observe::Observer::open(name)?.snapshot()?.board.expect("it is this very process");
/// assert_eq!((board.history, board.capacity, board.is_lossless), (10, 4096, false));
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Board {
    /// Messages that are kept.
    pub history: u64,
    /// Messages for which the pool has room; 0 where each is short enough for its entry.
    pub bodies: u64,
    /// The longest message in bytes.
    pub capacity: u64,
    /// Bytes of the whole, which count against [`Limits::bytes_total`](crate::observe::Limits::bytes_total) from the
    /// start.
    pub bytes: u64,
    /// Whether the publisher waits for subscribers of its own user: [`Overrun::Wait`](crate::Overrun::Wait).
    pub is_lossless: bool,
}

impl Board {
    /// Reads what a publisher's memory says of itself; `None` if that is no board.
    pub(super) fn read(object: &OwnedFd) -> Option<Board> {
        let mut bytes = [0; size_of::<BoardHeader>()];
        memory::read_exact(object, 0, &mut bytes).then_some(())?;
        let header = BoardHeader::read_from_bytes(&bytes).ok()?;
        let sizes = [header.entries, header.bodies, header.capacity].map(|number| number as usize);
        let geometry = BoardGeometry::new(sizes[0], sizes[1], sizes[2])?;
        let is_board = (header.magic, header.version) == (BOARD_MAGIC, BOARD_VERSION);
        (is_board && header.board_size == geometry.size as u64).then_some(())?;
        // `published`; `only_processor` and `is_lossless`.
        let line = words(object, PUBLISHER_LINE_OFFSET, 2)?;
        Some(Board {
            history: geometry.entries as u64 - 1,
            bodies: geometry.bodies as u64,
            capacity: geometry.capacity as u64,
            bytes: geometry.size as u64,
            is_lossless: line[1].to_ne_bytes()[4..] != [0; 4],
        })
    }

    /// Which bodies messages lie in that are kept, by their words in holds less one.
    pub(super) fn kept_bodies(&self, object: &OwnedFd) -> Option<Vec<bool>> {
        let mut is_kept = vec![false; usize::try_from(self.bodies).ok()?];
        let entries = words(object, ENTRIES_OFFSET, (self.history as usize + 1) * LINE_SIZE / 8)?;
        for entry in entries.chunks_exact(LINE_SIZE / 8) {
            let body = Place::unpack(entry[1]).body as usize;
            if let Some(is_kept) = body.checked_sub(1).and_then(|body| is_kept.get_mut(body)) {
                *is_kept = true;
            }
        }
        Some(is_kept)
    }
}
