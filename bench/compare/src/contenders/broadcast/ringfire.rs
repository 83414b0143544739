//! ringfire: one ring in shared memory that all consumers read.
//!
//! Best fair configuration: up to 4 KiB a ring of fixed-size items with its lossless flow control; above, the blob
//! ring, written and read in place, whose producer looks at the lag of its readers and waits, as it has no flow control
//! of its own. Consumers look, and give their processor away in between; those of items may sleep with its `FutexWait`.

use std::path::PathBuf;

use anyhow::ensure;
use ringfire::{
    BlobConsumer, BlobProducer, BlobProducerBuilder, FlowControl, FutexWait, RingConsumer, RingProducer,
    RingProducerBuilder,
};
use wigwag_bench::case::WaitMode;

use super::{About, Medium, Part};

/// The medium.
pub struct Ringfire;

/// The producer, by the payload's size.
pub enum Producing {
    Entry(RingProducer<[u8; 48]>),
    Line(RingProducer<[u8; 64]>),
    Page(RingProducer<[u8; 4096]>),
    Blobs { ring: BlobProducer<u64>, depth: u64 },
}

/// A consumer, by the payload's size.
pub enum Consuming {
    Entry(RingConsumer<[u8; 48]>, Option<FutexWait>),
    Line(RingConsumer<[u8; 64]>, Option<FutexWait>),
    Page(RingConsumer<[u8; 4096]>, Option<FutexWait>),
    Blobs(BlobConsumer<u64>),
}

fn path(part: &Part) -> PathBuf {
    part.directory.join("ring")
}

fn fixed(part: &Part) -> RingProducerBuilder {
    let builder = RingProducerBuilder::new(part.depth() as u64).flow_control(FlowControl::LosslessBackpressure);
    builder.max_readers(part.readers)
}

/// Hands an item on.
fn push<const N: usize>(ring: &mut RingProducer<[u8; N]>, fill: impl FnOnce(&mut [u8])) {
    let mut item = [0; N];
    fill(&mut item);
    ring.push(&item);
}

/// Takes the next item.
fn next<const N: usize>(ring: &mut RingConsumer<[u8; N]>, wait: &mut Option<FutexWait>) -> [u8; N] {
    if let Some(wait) = wait {
        return ring.recv_blocking(wait);
    }
    loop {
        match ring.try_recv() {
            Some(item) => return item,
            None => std::thread::yield_now(),
        }
    }
}

impl Medium for Ringfire {
    type Publisher = Producing;
    type Reader = Consuming;
    const ABOUT: About = About {
        name: "ringfire",
        label: "ringfire 0.5",
        how: "up to 4 KiB a lossless ring of fixed-size items; above, a blob ring in place whose producer waits by the \
              readers' lag; polled with a yield in between, or FutexWait, which the blob ring does not have",
        waits: &[WaitMode::Spin, WaitMode::Park],
    };

    fn publisher(part: &Part) -> anyhow::Result<Producing> {
        Ok(match part.size {
            48 => Producing::Entry(fixed(part).build(path(part))?),
            64 => Producing::Line(fixed(part).build(path(part))?),
            4096 => Producing::Page(fixed(part).build(path(part))?),
            size => {
                let depth = part.depth();
                let ring = BlobProducerBuilder::new(depth as u64, (depth * size).next_power_of_two());
                Producing::Blobs { ring: ring.max_readers(part.readers).build(path(part))?, depth: depth as u64 }
            }
        })
    }

    fn reader(part: &Part) -> anyhow::Result<Consuming> {
        let wait = (part.wait != WaitMode::Spin).then(FutexWait::default);
        Ok(match part.size {
            48 => Consuming::Entry(RingConsumer::builder().start_from_oldest().attach(path(part))?, wait),
            64 => Consuming::Line(RingConsumer::builder().start_from_oldest().attach(path(part))?, wait),
            4096 => Consuming::Page(RingConsumer::builder().start_from_oldest().attach(path(part))?, wait),
            _ => {
                ensure!(wait.is_none(), "the blob ring has nothing to sleep on");
                Consuming::Blobs(BlobConsumer::attach(path(part))?)
            }
        })
    }

    #[inline]
    fn publish(publisher: &mut Producing, len: usize, fill: impl FnOnce(&mut [u8])) -> anyhow::Result<()> {
        match publisher {
            Producing::Entry(ring) => push(ring, fill),
            Producing::Line(ring) => push(ring, fill),
            Producing::Page(ring) => push(ring, fill),
            Producing::Blobs { ring, depth } => {
                while ring.reader_lag() + 1 >= *depth {
                    std::thread::yield_now();
                }
                ring.push_with(&0, len, fill)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn read<R>(reader: &mut Consuming, mut look: impl FnMut(&[u8]) -> R) -> anyhow::Result<R> {
        match reader {
            Consuming::Entry(ring, wait) => Ok(look(&next(ring, wait))),
            Consuming::Line(ring, wait) => Ok(look(&next(ring, wait))),
            Consuming::Page(ring, wait) => Ok(look(&next(ring, wait))),
            Consuming::Blobs(ring) => loop {
                match ring.view(|_, bytes| look(bytes))? {
                    Some(seen) => return Ok(seen),
                    None => std::thread::yield_now(),
                }
            },
        }
    }
}
