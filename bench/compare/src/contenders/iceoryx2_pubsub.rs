//! iceoryx2, publish and subscribe in both directions: its quickest way, used as a call and its reply.
//!
//! Best fair configuration: two services of byte slices, loaned uninitialised, written where they lie, changed on the
//! way from one sample into the other. Polled with a pause in between, or an event for each direction to sleep on.

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use wigwag_bench::case::WaitMode;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Caller;
use wigwag_bench::work;

use super::iceoryx2::{Kind, listener, name, node, notifier, said, sleep};
use super::iceoryx2_request::as_bytes;
use crate::contender::{About, Contender};

/// The contender.
pub struct Iceoryx2Pubsub;

/// Either end.
pub struct Ends {
    out: Publisher<Kind, [u8], ()>,
    back: Subscriber<Kind, [u8], ()>,
    events: Option<(Notifier<Kind>, Listener<Kind>)>,
    _node: Node<Kind>,
}

impl Contender for Iceoryx2Pubsub {
    type Client = Ends;
    const ABOUT: About = About {
        alone: Some("whoever subscribes gets everybody's replies; request/response is its way for several clients"),
        one_at_a_time: Some("samples carry no number to match them by; request/response is its way for that"),
        ..About::new(
            "iceoryx2-pubsub",
            "iceoryx2 0.10 publish/subscribe",
            "two services as a ping-pong, loaned uninitialised, written in place; polled, or an event for each \
             direction",
        )
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let ends = Ends::open(orders, "replies", "requests")?;
        role::ready(orders)?;
        loop {
            let Some(request) = ends.back.receive().map_err(said)? else {
                ends.wait()?;
                continue;
            };
            let mut reply = ends.out.loan_slice_uninit(request.payload().len()).map_err(said)?;
            work::change_into(as_bytes(reply.payload_mut()), request.payload());
            // SAFETY: `change_into` has written every byte.
            unsafe { reply.assume_init() }.send().map_err(said)?;
            ends.ring()?;
        }
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        Ends::open(orders, "requests", "replies")
    }
}

impl Ends {
    fn open(orders: &Orders, out: &str, back: &str) -> anyhow::Result<Ends> {
        let node = node(&orders.directory)?;
        let service = |what: &str| {
            let builder = node.service_builder(&name(what)?).publish_subscribe::<[u8]>();
            builder.open_or_create().map_err(said)
        };
        let (to, from) = (service(out)?, service(back)?);
        let from = from.subscriber_builder().create().map_err(said)?;
        let to = to.publisher_builder().initial_max_slice_len(orders.case.size).create().map_err(said)?;
        let events = if orders.case.wait == WaitMode::Spin {
            None
        } else {
            Some((notifier(&node, &format!("{out}-event"), 4)?, listener(&node, &format!("{back}-event"), 4)?))
        };
        Ok(Ends { out: to, back: from, events, _node: node })
    }

    #[inline]
    fn ring(&self) -> anyhow::Result<()> {
        if let Some((other, _)) = &self.events {
            other.notify().map_err(said)?;
        }
        Ok(())
    }

    #[inline]
    fn wait(&self) -> anyhow::Result<()> {
        match &self.events {
            Some((_, own)) => sleep(own),
            None => {
                std::hint::spin_loop();
                Ok(())
            }
        }
    }
}

impl Caller for Ends {
    #[inline]
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        let mut request = self.out.loan_slice_uninit(len).map_err(said)?;
        fill(as_bytes(request.payload_mut()));
        // SAFETY: `fill` has written every byte.
        unsafe { request.assume_init() }.send().map_err(said)?;
        self.ring()?;
        loop {
            if let Some(reply) = self.back.receive().map_err(said)? {
                read(reply.payload());
                return Ok(());
            }
            self.wait()?;
        }
    }
}
