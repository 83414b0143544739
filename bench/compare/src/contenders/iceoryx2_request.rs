//! iceoryx2, request and response: a request is lent by the client, its response by the server.
//!
//! Best fair configuration: slices of bytes, loaned uninitialised, written where they lie, changed on the way from the
//! request into the response. Polled with a pause in between; or event-driven, where each side notifies the other
//! after each message and sleeps in a blocking wait. Each client has an event of its own, so that no other is woken.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};

use anyhow::Context as _;
use iceoryx2::pending_response::PendingResponse;
use iceoryx2::port::client::Client;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::request_response::PortFactory;
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Window;
use wigwag_bench::work;

use super::iceoryx2::{Kind, listener, name, node, notifier, said, sleep};
use crate::contender::{About, Contender};

type Service = PortFactory<Kind, [u8], (), [u8], ()>;
type Pending = PendingResponse<Kind, [u8], (), [u8], ()>;

/// The contender.
pub struct Iceoryx2Request;

/// The client's end.
pub struct Ends {
    client: Client<Kind, [u8], (), [u8], ()>,
    pending: VecDeque<Pending>,
    events: Option<(Notifier<Kind>, Listener<Kind>)>,
    _service: Service,
    _node: Node<Kind>,
}

impl Contender for Iceoryx2Request {
    type Client = Ends;
    const ABOUT: About = About {
        alone: None,
        one_at_a_time: None,
        ..About::new(
            "iceoryx2-request",
            "iceoryx2 0.10 request/response",
            "loaned uninitialised, written in place, changed from the request into the response; polled, or with an \
             event for each direction",
        )
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let (node, len) = (node(&orders.directory)?, orders.case.size);
        let service = service(&node, orders)?;
        let server = service.server_builder().initial_max_slice_len(len).create().map_err(said)?;
        let asleep = orders.case.wait != WaitMode::Spin;
        let bell = if asleep { Some(listener(&node, "requests", orders.case.sessions + 4)?) } else { None };
        let mut clients: HashMap<u128, Notifier<Kind>> = HashMap::new();
        role::ready(orders)?;
        loop {
            let Some(request) = server.receive().map_err(said)? else {
                match &bell {
                    Some(bell) => sleep(bell)?,
                    None => std::hint::spin_loop(),
                }
                continue;
            };
            let mut response = request.loan_slice_uninit(request.payload().len()).map_err(said)?;
            work::change_into(as_bytes(response.payload_mut()), request.payload());
            // SAFETY: `change_into` has written every byte.
            unsafe { response.assume_init() }.send().map_err(said)?;
            if bell.is_some() {
                let client = request.origin().value();
                let bell = match clients.entry(client) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(notifier(&node, &format!("replies-{client}"), 4)?),
                };
                bell.notify().map_err(said)?;
            }
        }
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        let node = node(&orders.directory)?;
        let service = service(&node, orders)?;
        let client = service.client_builder().initial_max_slice_len(orders.case.size).create().map_err(said)?;
        let events = if orders.case.wait == WaitMode::Spin {
            None
        } else {
            let own = listener(&node, &format!("replies-{}", client.id().value()), 4)?;
            Some((notifier(&node, "requests", orders.case.sessions + 4)?, own))
        };
        Ok(Ends { client, pending: VecDeque::new(), events, _service: service, _node: node })
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        role::run_or_pipeline(orders, || Self::connect(orders))
    }
}

fn service(node: &Node<Kind>, orders: &Orders) -> anyhow::Result<Service> {
    let under_way = orders.case.in_flight.max(2);
    let builder = node.service_builder(&name("exchange")?).request_response::<[u8], [u8]>();
    let builder = builder.max_clients(orders.case.sessions + 2).max_nodes(orders.case.sessions + 8);
    let builder = builder.max_active_requests_per_client(under_way).max_loaned_requests(under_way);
    builder.open_or_create().map_err(said)
}

/// Memory that is about to be written whole, as bytes.
pub fn as_bytes(bytes: &mut [std::mem::MaybeUninit<u8>]) -> &mut [u8] {
    // SAFETY: shared memory has a value at every byte, and it is only written through this.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

impl Window for Ends {
    #[inline]
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        let mut request = self.client.loan_slice_uninit(len).map_err(said)?;
        fill(as_bytes(request.payload_mut()));
        // SAFETY: `fill` has written every byte.
        let pending = unsafe { request.assume_init() }.send().map_err(said)?;
        self.pending.push_back(pending);
        if let Some((server, _)) = &self.events {
            server.notify().map_err(said)?;
        }
        Ok(())
    }

    #[inline]
    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        let pending = self.pending.pop_front().context("nothing is under way")?;
        loop {
            if let Some(response) = pending.receive().map_err(said)? {
                read(response.payload());
                return Ok(());
            }
            match &self.events {
                Some((_, own)) => sleep(own)?,
                None => std::hint::spin_loop(),
            }
        }
    }
}
