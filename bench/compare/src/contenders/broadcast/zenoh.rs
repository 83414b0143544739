//! zenoh, publish and subscribe over Unix sockets: the publisher listens, each reader is a peer that connects to it.
//!
//! Best fair configuration as for its queries; a publisher that blocks instead of dropping, express messages, payloads
//! of 4 KiB and more in its shared memory, readers at its first-in-first-out channel.

use std::time::{Duration, Instant};

use anyhow::ensure;
use wigwag_bench::case::WaitMode;
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::CongestionControl;
use zenoh::sample::Sample;
use zenoh::{Session, Wait as _};

use super::{About, Medium, Part};
use crate::contenders::zenoh::{Payloads, open, said};

const KEY: &str = "wigwag/broadcast";
const PATIENCE: Duration = Duration::from_secs(5);
/// After the first reader is known, until all of them are: zenoh tells only whether there is one.
const SETTLING: Duration = Duration::from_millis(300);

/// The medium.
pub struct Zenoh;

/// The publisher's end.
pub struct Publishing {
    publisher: Publisher<'static>,
    payloads: Payloads,
    _session: Session,
}

/// A reader's end.
pub struct Reading {
    subscriber: Subscriber<FifoChannelHandler<Sample>>,
    _session: Session,
}

impl Medium for Zenoh {
    type Publisher = Publishing;
    type Reader = Reading;
    const ABOUT: About = About {
        name: "zenoh",
        label: "zenoh 1.10 publish/subscribe",
        how: "peers at the publisher's Unix socket, no scouting, low-latency transport; it blocks instead of dropping, \
              express; shared memory from 4 KiB on; built with --features zenoh",
        waits: &[WaitMode::Park],
    };

    fn publisher(part: &Part) -> anyhow::Result<Publishing> {
        let session = open(&part.directory, "listen/endpoints")?;
        let publisher = session.declare_publisher(KEY).congestion_control(CongestionControl::Block).express(true);
        let publisher = publisher.wait().map_err(said)?;
        Ok(Publishing { publisher, payloads: Payloads::new(part.size, part.depth())?, _session: session })
    }

    fn reader(part: &Part) -> anyhow::Result<Reading> {
        let session = open(&part.directory, "connect/endpoints")?;
        let subscriber = session.declare_subscriber(KEY).wait().map_err(said)?;
        Ok(Reading { subscriber, _session: session })
    }

    fn meet(publisher: &mut Publishing, _part: &Part) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !publisher.publisher.matching_status().wait().map_err(said)?.matching() {
            ensure!(begin.elapsed() < PATIENCE, "zenoh finds no subscriber");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(SETTLING);
        Ok(())
    }

    fn publish(publisher: &mut Publishing, len: usize, fill: impl FnOnce(&mut [u8])) -> anyhow::Result<()> {
        let payload = publisher.payloads.filled(len, fill)?;
        publisher.publisher.put(payload).wait().map_err(said)
    }

    fn read<R>(reader: &mut Reading, mut look: impl FnMut(&[u8]) -> R) -> anyhow::Result<R> {
        let sample = reader.subscriber.recv().map_err(said)?;
        Ok(look(&sample.payload().to_bytes()))
    }
}
