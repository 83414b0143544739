//! Whether the sessions of quick clients are polled by a serving thread that is a runtime's.

use crate::error::Result;
use crate::service::intake::Intake;
use crate::service::worker::{Next, Until, Worker};
use crate::wait::spin_backoff::SpinBackoff;

/// Whether the sessions of quick clients are polled.
#[derive(Debug, Default)]
pub struct PollingBackoff {
    spin_backoff: SpinBackoff,
    /// Whether they are not polled, until the back-off allows it again.
    is_backing_off: bool,
    /// Requests found since the last period of polling ended.
    found: u32,
}

/// Requests in a period of polling that make it worth it.
const WORTH_IT: u32 = 16;

impl PollingBackoff {
    /// A request was found, here or by a glance.
    pub fn note_found(&mut self) {
        self.found = self.found.saturating_add(1);
        self.is_backing_off = self.is_backing_off && !self.spin_backoff.may_spin();
    }

    pub fn next<I: Intake>(&mut self, worker: &mut Worker<I>, may_spin: bool) -> Result<Next> {
        if !may_spin || self.is_backing_off {
            worker.cool();
        }
        let next = worker.next(Until::Quiet)?;
        if next == Next::Request {
            self.note_found();
        }
        if let Some(found_cold) = worker.take_cooled() {
            // A period of polling is over.
            match std::mem::take(&mut self.found).saturating_sub(found_cold) < WORTH_IT {
                true => self.spin_backoff.failed(),
                false => self.spin_backoff.succeeded(),
            }
            self.is_backing_off = !self.spin_backoff.may_spin();
        }
        Ok(next)
    }
}
