//! zenoh: a query with a payload, answered by a queryable, over a Unix socket.
//!
//! Best fair configuration: two peers that know each other's address, no scouting, no gossip, no router; its
//! low-latency transport (which excludes priorities), express messages that wait for no batch, replies handed on as
//! they come instead of after the last one. Payloads of 4 KiB and more are built in zenoh's shared memory, from which
//! the server writes its reply into shared memory of its own; smaller ones go through the socket, because the payload
//! of a query is not to be changed. The blocking interface on the client's side, a callback on the server's. Built with
//! `--features zenoh`, because zenoh alone takes as long to build as all the others.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Window;
use wigwag_bench::work;
use zenoh::bytes::ZBytes;
use zenoh::handlers::FifoChannelHandler;
use zenoh::qos::CongestionControl;
use zenoh::query::{ConsolidationMode, Query, Reply};
use zenoh::shm::{BlockOn, GarbageCollect, PosixShmProviderBackend, ShmProvider, ShmProviderBuilder};
use zenoh::{Config, Session, Wait as _};

use crate::contender::{About, Contender};

const KEY: &str = "wigwag/compare";
/// Payloads from here on are built in shared memory.
const SHARED_FROM: usize = 4096;

/// The contender.
pub struct Zenoh;

/// The client's end.
pub struct Ends {
    session: Session,
    payloads: Payloads,
    under_way: VecDeque<FifoChannelHandler<Reply>>,
}

impl Contender for Zenoh {
    type Client = Ends;
    const ABOUT: About = About { waits: &[WaitMode::Park], ..super::ZENOH };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let session = open(&orders.directory, "listen/endpoints")?;
        let payloads = Payloads::of(orders)?;
        let answer = move |query: Query| {
            let request = query.payload().map(ZBytes::to_bytes).unwrap_or_default();
            let reply = payloads.filled(request.len(), |reply| work::change_into(reply, &request));
            // A client that is gone needs no reply, and one that gets none says so.
            let _ = reply.map(|reply| query.reply(KEY, reply).express(true).wait());
        };
        let _queryable = session.declare_queryable(KEY).callback(answer).wait().map_err(said)?;
        role::ready(orders)?;
        loop {
            std::thread::park();
        }
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        let (session, payloads) = (open(&orders.directory, "connect/endpoints")?, Payloads::of(orders)?);
        Ok(Ends { session, payloads, under_way: VecDeque::new() })
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        role::run_or_pipeline(orders, || Self::connect(orders))
    }
}

/// A session whose only peer is at the other end of the phase's socket; `side` is `listen/endpoints` or
/// `connect/endpoints`.
pub fn open(directory: &Path, side: &str) -> anyhow::Result<Session> {
    let mut config = Config::default();
    let endpoint = format!("[\"unixsock-stream/{}\"]", directory.join("zenoh").display());
    let settings = [
        ("mode", "\"peer\""),
        ("scouting/multicast/enabled", "false"),
        ("scouting/gossip/enabled", "false"),
        ("transport/unicast/qos/enabled", "false"),
        ("transport/unicast/lowlatency", "true"),
        ("transport/shared_memory/mode", "\"init\""),
        // What is shared is built in shared memory here; nothing needs to be copied there.
        ("transport/shared_memory/transport_optimization/enabled", "false"),
        ("listen/endpoints", "[]"),
        (side, &endpoint),
    ];
    for (key, value) in settings {
        config.insert_json5(key, value).map_err(|error| anyhow!("zenoh does not take {key}: {error:?}"))?;
    }
    zenoh::open(config).wait().map_err(said)
}

/// Where payloads are built: shared memory for all that may be under way, or the heap.
pub struct Payloads(Option<ShmProvider<PosixShmProviderBackend>>);

impl Payloads {
    fn of(orders: &Orders) -> anyhow::Result<Payloads> {
        Payloads::new(orders.case.size, orders.case.in_flight)
    }

    /// Room for so many of that size under way.
    pub fn new(size: usize, under_way: usize) -> anyhow::Result<Payloads> {
        if size < SHARED_FROM {
            return Ok(Payloads(None));
        }
        let room = (under_way + 3) * size.next_power_of_two();
        Ok(Payloads(Some(ShmProviderBuilder::default_backend(room).wait().map_err(said)?)))
    }

    /// A payload that was filled.
    pub fn filled(&self, len: usize, fill: impl FnOnce(&mut [u8])) -> anyhow::Result<ZBytes> {
        let Some(provider) = &self.0 else {
            let mut bytes = vec![0; len];
            fill(&mut bytes);
            return Ok(bytes.into());
        };
        let shared = provider.alloc(len).with_policy::<BlockOn<GarbageCollect>>().wait();
        let mut shared = shared.map_err(|error| anyhow!("zenoh has no shared memory: {error:?}"))?;
        fill(&mut shared);
        Ok(shared.into())
    }
}

/// An error of zenoh as ours.
pub fn said(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("zenoh says: {error}")
}

impl Window for Ends {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        let payload = self.payloads.filled(len, fill)?;
        let query = self.session.get(KEY).payload(payload).consolidation(ConsolidationMode::None);
        let query = query.express(true).congestion_control(CongestionControl::Block);
        self.under_way.push_back(query.wait().map_err(said)?);
        Ok(())
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        let oldest = self.under_way.pop_front().context("nothing is under way")?;
        let reply = oldest.recv().map_err(said)?;
        let sample = reply.result().ok().context("the queryable answered with an error")?;
        read(&sample.payload().to_bytes());
        Ok(())
    }
}
