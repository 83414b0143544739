//! Ours: the public interface, a publisher that waits for its subscribers, default waiting.

use std::time::Duration;

use wigwag::{Overrun, Publisher, Subscriber};
use wigwag_bench::case::WaitMode;

use super::{About, Medium, Part};
use crate::contenders::OURS;

/// Nobody takes so long; who did would be cut off.
const PATIENCE: Duration = Duration::from_secs(5);
const NAME: &str = "broadcast";

/// The medium.
pub struct Wigwag;

impl Medium for Wigwag {
    type Publisher = Publisher;
    type Reader = Subscriber;
    const ABOUT: About = About {
        name: OURS,
        label: "Wigwag",
        how: "loan, fill, commit; read in place; it waits for the slowest (Overrun::Wait)",
        waits: &[WaitMode::Adaptive],
    };

    fn publisher(part: &Part) -> anyhow::Result<Publisher> {
        let builder = Publisher::builder().capacity(part.size).history(part.depth()).overrun(Overrun::Wait(PATIENCE));
        Ok(builder.bind(part.directory.join(NAME))?)
    }

    fn reader(part: &Part) -> anyhow::Result<Subscriber> {
        Ok(Subscriber::connect(part.directory.join(NAME))?)
    }

    fn meet(publisher: &mut Publisher, part: &Part) -> anyhow::Result<()> {
        Ok(publisher.wait_for_subscribers(part.readers, PATIENCE)?)
    }

    #[inline]
    fn publish(publisher: &mut Publisher, len: usize, fill: impl FnOnce(&mut [u8])) -> anyhow::Result<()> {
        let mut draft = publisher.loan(len)?;
        fill(&mut draft);
        draft.commit()?;
        Ok(())
    }

    #[inline]
    fn read<R>(reader: &mut Subscriber, mut look: impl FnMut(&[u8]) -> R) -> anyhow::Result<R> {
        Ok(look(&reader.recv()?))
    }
}
