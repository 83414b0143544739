//! iceoryx2, publish and subscribe as it is meant: one publisher, samples loaned uninitialised and written in place.
//!
//! Best fair configuration: no overflow, and a publisher that tries again until each subscriber has room. Subscribers
//! look, and give their processor away in between; or an event for all of them to sleep on, notified with each sample.

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections as _;
use iceoryx2::prelude::*;
use wigwag_bench::case::WaitMode;

use super::{About, Medium, Part};
use crate::contenders::iceoryx2::{Kind, name, node, said, sleep};
use crate::contenders::iceoryx2_request::as_bytes;

/// The medium.
pub struct Iceoryx2;

/// The publisher's end.
pub struct Publishing {
    out: Publisher<Kind, [u8], ()>,
    bell: Option<Notifier<Kind>>,
    _node: Node<Kind>,
}

/// A reader's end.
pub struct Reading {
    samples: Subscriber<Kind, [u8], ()>,
    bell: Option<Listener<Kind>>,
    _node: Node<Kind>,
}

impl Medium for Iceoryx2 {
    type Publisher = Publishing;
    type Reader = Reading;
    const ABOUT: About = About {
        name: "iceoryx2-pubsub",
        label: "iceoryx2 0.10 publish/subscribe",
        how: "loaned uninitialised, written in place; no overflow, RetryUntilDelivered; polled with a yield in \
              between, or an event that all subscribers sleep on",
        waits: &[WaitMode::Spin, WaitMode::Park],
    };

    fn publisher(part: &Part) -> anyhow::Result<Publishing> {
        let node = node(&part.directory)?;
        let service = node.service_builder(&name("samples")?).publish_subscribe::<[u8]>().enable_safe_overflow(false);
        let service = service.subscriber_max_buffer_size(part.depth()).history_size(0).max_subscribers(part.readers);
        let service = service.max_nodes(part.readers + 1).create().map_err(said)?;
        let out = service.publisher_builder().initial_max_slice_len(part.size);
        let out = out.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create().map_err(said)?;
        let bell = if part.wait == WaitMode::Spin {
            None
        } else {
            let event = node.service_builder(&name("event")?).event().max_listeners(part.readers);
            let event = event.max_nodes(part.readers + 1).create().map_err(said)?;
            Some(event.notifier_builder().create().map_err(said)?)
        };
        Ok(Publishing { out, bell, _node: node })
    }

    fn reader(part: &Part) -> anyhow::Result<Reading> {
        let node = node(&part.directory)?;
        let service = node.service_builder(&name("samples")?).publish_subscribe::<[u8]>().open().map_err(said)?;
        let samples = service.subscriber_builder().buffer_size(part.depth()).create().map_err(said)?;
        let bell = if part.wait == WaitMode::Spin {
            None
        } else {
            let event = node.service_builder(&name("event")?).event().open().map_err(said)?;
            Some(event.listener_builder().create().map_err(said)?)
        };
        Ok(Reading { samples, bell, _node: node })
    }

    fn meet(publisher: &mut Publishing, _part: &Part) -> anyhow::Result<()> {
        publisher.out.update_connections().map_err(said)
    }

    #[inline]
    fn publish(publisher: &mut Publishing, len: usize, fill: impl FnOnce(&mut [u8])) -> anyhow::Result<()> {
        let mut sample = publisher.out.loan_slice_uninit(len).map_err(said)?;
        fill(as_bytes(sample.payload_mut()));
        // SAFETY: `fill` has written every byte.
        unsafe { sample.assume_init() }.send().map_err(said)?;
        if let Some(bell) = &publisher.bell {
            bell.notify().map_err(said)?;
        }
        Ok(())
    }

    #[inline]
    fn read<R>(reader: &mut Reading, mut look: impl FnMut(&[u8]) -> R) -> anyhow::Result<R> {
        loop {
            if let Some(sample) = reader.samples.receive().map_err(said)? {
                return Ok(look(sample.payload()));
            }
            match &reader.bell {
                Some(bell) => sleep(bell)?,
                None => std::thread::yield_now(),
            }
        }
    }
}
