//! Which request was executed, and which reply its client has had: two bits for each request of a storm.
//!
//! They lie on the board, so they outlive whoever wrote them. What was acknowledged must have been executed, and
//! nothing twice, by no server.

use std::sync::atomic::Ordering;

use super::scoreboard::{Extent, Scoreboard};

/// The bits of a board.
#[derive(Clone, Copy)]
pub struct Ledger<'b>(pub &'b Scoreboard);

/// What the bits say in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Requests that a server executed.
    pub executed: u64,
    /// Requests whose reply the client has had.
    pub acked: u64,
    /// Acknowledged, and executed by nobody.
    pub lost: u64,
}

/// Words that the bits take.
pub fn words(extent: &Extent) -> usize {
    2 * extent.rows * extent.nonces.div_ceil(64)
}

impl Ledger<'_> {
    fn mark(&self, kind: usize, row: u64, nonce: u64) -> bool {
        let (index, bit) = self.place(kind, row, nonce);
        self.0.word(index).fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    fn place(&self, kind: usize, row: u64, nonce: u64) -> (usize, u64) {
        let Extent { rows, nonces, .. } = self.0.extent();
        assert!((row as usize) < rows && (nonce as usize) < nonces, "row {row}, request {nonce}");
        let words_of_row = nonces.div_ceil(64);
        let index = (row as usize * 2 + kind) * words_of_row + nonce as usize / 64;
        (self.0.ledger_start() + index, 1 << (nonce % 64))
    }

    /// Whether there is a place for this request.
    pub fn has(&self, row: u64, nonce: u64) -> bool {
        let Extent { rows, nonces, .. } = self.0.extent();
        (row as usize) < rows && (nonce as usize) < nonces
    }

    /// A server executes a request. `false`: it had been before.
    #[must_use]
    pub fn execute(&self, row: u64, nonce: u64) -> bool {
        self.mark(0, row, nonce)
    }

    /// A client has a reply. `false`: it had it before.
    pub fn acknowledge(&self, row: u64, nonce: u64) -> bool {
        self.mark(1, row, nonce)
    }

    /// Whether a server has executed a request.
    pub fn is_executed(&self, row: u64, nonce: u64) -> bool {
        let (index, bit) = self.place(0, row, nonce);
        self.0.word(index).load(Ordering::Acquire) & bit != 0
    }

    /// Adds up, and wipes all bits for the next round. Nobody writes any meanwhile.
    pub fn settle(&self) -> Balance {
        let Extent { rows, nonces, .. } = self.0.extent();
        let (words_of_row, mut balance) = (nonces.div_ceil(64), Balance::default());
        for row in 0..rows {
            for word in 0..words_of_row {
                let take = |kind: usize| {
                    self.0
                        .word(self.0.ledger_start() + (row * 2 + kind) * words_of_row + word)
                        .swap(0, Ordering::AcqRel)
                };
                let (executed, acked) = (take(0), take(1));
                balance.executed += u64::from(executed.count_ones());
                balance.acked += u64::from(acked.count_ones());
                balance.lost += u64::from((acked & !executed).count_ones());
            }
        }
        balance
    }
}
