//! What a session that is shared by tasks asks of its client: slots without a borrow, and nothing that waits.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::exchange::client::Client;
use crate::exchange::loan::Held;

impl Client {
    /// How many slots are out: in loans, calls and replies, and those given up while the server has them.
    pub(crate) fn slots_out(&self) -> usize {
        self.free.out()
    }

    /// Has the server ring for each call that was given up before, and takes back the slots of those that it is done
    /// with: what came before it was asked shows in the turn, what comes after rings.
    pub(crate) fn watch_abandoned(&self) {
        self.free.for_each_abandoned(|slot| {
            self.connection.ask_for_wake(slot);
        });
        self.reclaim();
    }

    /// A slot for a payload, or `None`: all are out.
    pub(crate) fn take_slot(&self, len: usize) -> Result<Option<Held>> {
        self.check_loan(len)?;
        Ok(self.free.take().map(|slot| self.lend(slot, len).into_held()))
    }

    /// Passes a slot to the server.
    pub(crate) fn send_held(&self, held: &Held, deadline: Option<Instant>) -> Result<()> {
        if self.connection.is_forked() {
            return Err(Error::forked());
        }
        self.connection.check_before_pass()?;
        let slot = held.slot();
        self.send(slot, self.connection.segment().line(slot), self.next_sequence(slot), held.len(), deadline);
        Ok(())
    }

    /// The reply of a slot that has come back. With an error the slot is free again.
    pub(crate) fn take_reply(&self, slot: usize) -> Result<Held> {
        self.connection.came_to_a_task();
        self.accept(slot, self.connection.segment().line(slot)).map(crate::exchange::loan::Reply::into_held)
    }
}
