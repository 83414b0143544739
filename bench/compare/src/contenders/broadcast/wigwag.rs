//! Ours: the public interface, a publisher that waits for its subscribers, default waiting; read in place, and copied.

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
        waits: &[WaitMode::Adaptive, WaitMode::Spin, WaitMode::Park],
    };

    fn publisher(part: &Part) -> anyhow::Result<Publisher> {
        let builder =
            Publisher::builder().capacity(part.size).history(part.depth()).overrun(Overrun::Wait(PATIENCE)).retain(0);
        Ok(builder.wait(part.wait.into()).bind(part.directory.join(NAME))?)
    }

    fn reader(part: &Part) -> anyhow::Result<Subscriber> {
        Ok(Subscriber::builder().wait(part.wait.into()).connect(part.directory.join(NAME))?)
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

/// The same, and its subscribers copy each message, which holds nothing.
pub struct Copied;

impl Medium for Copied {
    type Publisher = Publisher;
    type Reader = (Subscriber, Vec<u8>);
    const ABOUT: About = About {
        name: "wigwag-copied",
        label: "Wigwag, copied out",
        how: "as Wigwag, and subscribers copy each message (Subscriber::recv_into)",
        waits: &[WaitMode::Adaptive],
    };

    fn publisher(part: &Part) -> anyhow::Result<Publisher> {
        Wigwag::publisher(part)
    }

    fn reader(part: &Part) -> anyhow::Result<(Subscriber, Vec<u8>)> {
        Ok((Wigwag::reader(part)?, Vec::with_capacity(part.size)))
    }

    fn meet(publisher: &mut Publisher, part: &Part) -> anyhow::Result<()> {
        Wigwag::meet(publisher, part)
    }

    #[inline]
    fn publish(publisher: &mut Publisher, len: usize, fill: impl FnOnce(&mut [u8])) -> anyhow::Result<()> {
        Wigwag::publish(publisher, len, fill)
    }

    #[inline]
    fn read<R>((subscriber, bytes): &mut Self::Reader, mut look: impl FnMut(&[u8]) -> R) -> anyhow::Result<R> {
        subscriber.recv_into(bytes)?;
        Ok(look(bytes))
    }
}
